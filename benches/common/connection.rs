//! A viewer's connection: its requests, one after the other, and what comes, cut into packets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use mio::net::{TcpStream, UdpSocket};
use socket2::{Domain, Protocol, Socket, Type};

use super::framer::{DataHead, Framer, Piece};
use super::script::{AT_FUNNEL, Answer, Script, is_last_piece};
use super::shape::now;

/// Viewers of one source address: loopback has 28,000 ports to connect from.
const VIEWERS_PER_ADDRESS: usize = 12_000;

#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    /// Where Data come, if not there.
    pub datagrams: Option<UdpSocket>,
    pub framer: Framer,
    /// Requests that were sent.
    pub sent: usize,
    /// When it connected, in nanoseconds of the wall clock.
    began: u64,
}

impl Connection {
    /// Begins to connect; viewers beyond the first 12,000 come from further loopback addresses.
    pub fn begin(server: SocketAddr, index: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let address = index / VIEWERS_PER_ADDRESS;
        if address > 0 {
            let address = Ipv4Addr::new(127, 0, 0, (1 + address).min(254) as u8);
            socket.bind(&SocketAddr::from((address, 0)).into())?;
        }
        let began = now();
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
        let stream = TcpStream::from_std(socket.into());
        Ok(Self { stream, datagrams: None, framer: Framer::default(), sent: 0, began })
    }

    /// From connect to the first packet, in nanoseconds, if that came at `now`.
    pub fn join_time(&self, now: u64) -> u64 {
        now.saturating_sub(self.began)
    }

    /// The connection can be written to: the first request goes out, if it has not yet.
    pub fn writable(&mut self, script: &Script) -> anyhow::Result<()> {
        if self.sent == 0 {
            if let Some(error) = self.stream.take_error()? {
                return Err(error).context("can't connect");
            }
            self.send_next(script)?;
        }
        Ok(())
    }

    /// Fills `buffer` with what is there; `None` if nothing is.
    pub fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(0) => bail!("the connection was closed"),
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with the handshake as answers come, and hands packets of media over.
    pub fn take(
        &mut self,
        script: &Script,
        input: &[u8],
        mut media: impl FnMut(&DataHead<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut framer = std::mem::take(&mut self.framer);
        let result = framer.feed(input, |piece| match piece {
            Piece::Messages(packet) => self.answer(script, packet),
            Piece::Data(data) if script.awaits_header(self.sent) => {
                if is_last_piece(&data) {
                    self.send_next(script)
                } else {
                    Ok(())
                }
            }
            Piece::Data(data) => media(&data),
        });
        self.framer = framer;
        result
    }

    /// Says goodbye, so that the server finds nothing wrong with the end.
    pub fn close(mut self, script: &Script) {
        let _ = self.write(&script.close);
    }

    fn answer(&mut self, script: &Script, packet: &[u8]) -> anyhow::Result<()> {
        match script.answer(self.sent, packet)? {
            Answer::Next => self.send_next(script),
            Answer::Ping => self.write(&script.pong),
            Answer::None => Ok(()),
        }
    }

    pub fn send_next(&mut self, script: &Script) -> anyhow::Result<()> {
        if let Some(request) = script.request(self.sent) {
            let own = match &self.datagrams {
                Some(socket) if self.sent == AT_FUNNEL => Some(Script::datagrams(socket.local_addr()?.port())),
                _ => None,
            };
            self.write(own.as_deref().unwrap_or(request))?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Requests are few and short: a socket that does not take one is a failure.
    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("can't send")
    }
}
