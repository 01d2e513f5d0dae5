//! The floor: the simplest possible reading of a file and writing of its packets to the same sockets. Its viewers go through
//! the same handshake. Who asks for a fast start as long as the file gets all, 64 packets in a call ([`fast`]), everybody else
//! a second's worth in one call and every second ([`paced`]). No block is kept, nothing is shared between viewers but the kernel's pages.
//!
//! With a rate it is the origin of the measurement.

mod fast;
mod paced;
mod packets;

use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::Context;
use mmsproxy::server::bind;
use mmsproxy::wire::mmsp::ids::HResult;
use mmsproxy::wire::mmsp::mac_to_viewer::ReportEndOfStream;
use mmsproxy::wire::mmsp::viewer_to_mac::StartPlaying;
use tokio::net::TcpStream;

use self::paced::{Joined, Paced};
use self::packets::Packets;
use crate::common::handshake::{Conversation, incarnation};
use crate::common::process::raise_open_files;
use crate::options::FloorOptions;

/// Told to players and to the proxy: from 9 on they ask for a fast start.
const VERSION: &str = "9.1.1.3841";

/// Tells on standard output where it listens; runs until it is killed.
pub fn run(options: &FloorOptions) -> anyhow::Result<()> {
    raise_open_files()?;
    let packets = Arc::new(Packets::open(&options.file, options.shape)?);
    let cores = thread::available_parallelism()?.get();
    let mut threads = Vec::new();
    for _ in 0..cores {
        let (joins, joined) = mpsc::channel();
        let paced = Paced::new(Arc::clone(&packets));
        thread::spawn(move || paced.run(&joined));
        threads.push(joins);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .max_blocking_threads(MOST_FAST)
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        println!("{}", listener.local_addr()?);
        for paced in threads.iter().cycle() {
            let (stream, _) = listener.accept().await.context("can't accept")?;
            let (paced, packets, at_most) = (paced.clone(), Arc::clone(&packets), options.at_most);
            tokio::spawn(async move {
                // A viewer that leaves is the load's to tell.
                let _ = serve(stream, &paced, packets, at_most).await;
            });
        }
        Ok(())
    })
}

/// Viewers that get all they can take at a time; each has a thread.
const MOST_FAST: usize = 2000;

async fn serve(
    stream: TcpStream,
    paced: &mpsc::Sender<Joined>,
    packets: Arc<Packets>,
    at_most: Option<u64>,
) -> anyhow::Result<()> {
    let mut conversation = Conversation::new(stream)?;
    loop {
        let start = conversation.until_start(packets.header(), VERSION).await?;
        let first = first_packet(&start, &packets);
        let incarnation = incarnation(start.play_incarnation)?;
        if at_most.is_none() && !wants_all(&start, &packets) {
            return Ok(paced.send(Joined { stream: conversation.stream.into_std()?, incarnation, first })?);
        }
        let stream = conversation.stream.into_std()?;
        let packets = Arc::clone(&packets);
        let stream = tokio::task::spawn_blocking(move || fast::send(stream, &packets, first, incarnation, at_most));
        conversation.stream = TcpStream::from_std(stream.await??)?;
        let end = ReportEndOfStream { hr: HResult::S_OK, play_incarnation: start.play_incarnation };
        conversation.say(&end.into()).await?;
    }
}

/// A fast start that is as long as the file; a shorter one is as good as the preroll that everybody gets.
fn wants_all(start: &StartPlaying, packets: &Packets) -> bool {
    start.accel.is_some_and(|accel| packets.at(f64::from(accel.duration_ms) / 1000.0) >= packets.count())
}

/// Where a player wants to begin.
fn first_packet(start: &StartPlaying, packets: &Packets) -> u64 {
    let first = match start.location_id {
        _ if start.position > 0.0 && start.position < f64::MAX => packets.at(start.position),
        u32::MAX => 0,
        number => number.into(),
    };
    first.min(packets.count())
}
