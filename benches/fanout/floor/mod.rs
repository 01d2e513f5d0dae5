//! The floor: the simplest possible fan-out of the broadcast's bytes to the same sockets. Its viewers go through the same
//! handshake; then a thread for each core keeps a list of sockets and the packets of the last seconds, and writes to each
//! socket what came since its last turn, in one call. With a flush of 0 it is the origin of the measurement.

mod datagrams;
mod fan;

use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::Context;
use mmsproxy::asf::Header;
use mmsproxy::server::bind;
use tokio::net::TcpStream;

use self::datagrams::Sender;
use self::fan::{Fan, Joined};
use crate::common::handshake::{Conversation, incarnation};
use crate::common::process::raise_open_files;
use crate::options::FloorOptions;

/// Told to players: none asks such a server for a fast start.
const VERSION: &str = "4.1.0.3930";

/// Tells on standard output where it listens; runs until it is killed.
pub fn run(options: &FloorOptions) -> anyhow::Result<()> {
    raise_open_files()?;
    let cores = thread::available_parallelism()?.get();
    let mut fans = Vec::new();
    for _ in 0..options.threads.unwrap_or(cores) {
        let (joins, joined) = mpsc::channel();
        if options.udp {
            let sender = Sender::new(options.shape)?;
            thread::spawn(move || sender.run(&joined));
        } else {
            let fan = Fan::new(options.shape, options.flush);
            thread::spawn(move || fan.run(&joined));
        }
        fans.push(joins);
    }
    let header = Arc::new(options.shape.header()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_io().build()?;
    runtime.block_on(async {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        println!("{}", listener.local_addr()?);
        for fan in fans.iter().cycle() {
            let (stream, _) = listener.accept().await.context("can't accept")?;
            let (fan, header) = (fan.clone(), Arc::clone(&header));
            tokio::spawn(async move {
                // A viewer that leaves during its handshake is the load's to tell.
                if let Ok(joined) = join(stream, &header).await {
                    let _ = fan.send(joined);
                }
            });
        }
        Ok(())
    })
}

async fn join(stream: TcpStream, header: &Header) -> anyhow::Result<Joined> {
    let mut conversation = Conversation::new(stream)?;
    let start = conversation.until_start(header, VERSION).await?;
    let (port, incarnation) = (conversation.port, incarnation(start.play_incarnation)?);
    Ok(Joined { stream: conversation.stream.into_std()?, port, incarnation })
}
