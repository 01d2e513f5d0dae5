//! One viewer: its connection, how far it has come, and what it has counted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use mio::net::TcpStream;
use socket2::{Domain, Protocol as Transport, Socket, Type};

use super::framer::{DataHead, Framer, Piece};
use super::script::{Answer, Script};
use super::tally::Tally;
use super::{Plan, Protocol};
use crate::broadcast::{MARK, MARK_AT, Shape, now};

/// Viewers of one source address: loopback has 28,000 ports to connect from.
const VIEWERS_PER_ADDRESS: usize = 12_000;

#[derive(Debug)]
pub struct Viewer {
    pub stream: TcpStream,
    framer: Framer,
    /// Requests that were sent.
    sent: usize,
    /// When it connected, in nanoseconds of the wall clock.
    began: u64,
    /// The LocationId that came last.
    last: Option<u32>,
    /// Over HTTP: it does not know yet where packets begin.
    is_lost: bool,
    /// Packets of the window.
    pub counted: u64,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// No media yet.
    Joining,
    /// The first packet came.
    Joined,
    /// More of them.
    Playing,
}

/// What is measured now, in nanoseconds of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub begin: u64,
    pub end: u64,
}

impl Viewer {
    /// Begins to connect; viewers beyond the first 12,000 come from further loopback addresses.
    pub fn connect(plan: &Plan, index: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(plan.server), Type::STREAM, Some(Transport::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let address = index / VIEWERS_PER_ADDRESS;
        if address > 0 {
            let address = Ipv4Addr::new(127, 0, 0, (1 + address).min(254) as u8);
            socket.bind(&SocketAddr::from((address, 0)).into())?;
        }
        let began = now();
        match socket.connect(&plan.server.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            framer: Framer::default(),
            sent: 0,
            began,
            last: None,
            is_lost: plan.protocol == Protocol::Http,
            counted: 0,
        })
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

    /// Reads what is there.
    pub fn readable(
        &mut self,
        script: &Script,
        shape: Shape,
        window: Window,
        buffer: &mut [u8],
        tally: &mut Tally,
    ) -> anyhow::Result<Progress> {
        let had_media = self.last.is_some();
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => bail!("the connection was closed"),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            tally.bytes += read as u64;
            self.take(script, shape, window, &buffer[..read], tally)?;
            // Edge-triggered, but epoll tells again once more comes: a short read has taken all there was.
            if read < buffer.len() {
                break;
            }
        }
        Ok(match (had_media, self.last.is_some()) {
            (true, _) => Progress::Playing,
            (false, true) => Progress::Joined,
            (false, false) => Progress::Joining,
        })
    }

    /// From connect to the first packet, in nanoseconds, if that came at `now`.
    pub fn join_time(&self, now: u64) -> u64 {
        now.saturating_sub(self.began)
    }

    fn take(
        &mut self,
        script: &Script,
        shape: Shape,
        window: Window,
        mut input: &[u8],
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let now = now();
        if self.is_lost {
            // icecast2 begins anywhere: the next mark tells where the packet around it ends.
            let Some(mark) = input.windows(MARK.len()).position(|bytes| bytes == MARK) else { return Ok(()) };
            self.is_lost = false;
            self.framer = Framer::skipping(shape.packet - MARK_AT);
            input = &input[mark..];
        }
        let mut framer = std::mem::take(&mut self.framer);
        let result = framer.feed(input, |piece| match piece {
            Piece::Messages(packet) => self.answer(script, packet),
            Piece::Data(data) if self.sent == 5 => {
                if script.is_header(self.sent, &data) {
                    self.send_next(script)
                } else {
                    Ok(())
                }
            }
            Piece::Data(data) => self.count(&data, now, window, tally),
        });
        self.framer = framer;
        result
    }

    fn answer(&mut self, script: &Script, packet: &[u8]) -> anyhow::Result<()> {
        match script.answer(self.sent, packet)? {
            Answer::Next => self.send_next(script),
            Answer::Ping => self.write(&script.pong),
            Answer::None => Ok(()),
        }
    }

    fn count(&mut self, data: &DataHead<'_>, now: u64, window: Window, tally: &mut Tally) -> anyhow::Result<()> {
        if let Some(last) = self.last {
            let missing = data.location.wrapping_sub(last).wrapping_sub(1);
            tally.skips += u64::from(missing > 0);
            tally.skipped += u64::from(missing);
        }
        self.last = Some(data.location);
        let stamp = data.stamp()?;
        if (window.begin..window.end).contains(&stamp) {
            self.counted += 1;
            tally.latency(now.saturating_sub(stamp));
        }
        Ok(())
    }

    fn send_next(&mut self, script: &Script) -> anyhow::Result<()> {
        if let Some(request) = script.request(self.sent) {
            self.write(request)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Requests are few and short: a socket that does not take one is a failure.
    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("can't send")
    }

    /// Says goodbye, so that the server finds nothing wrong with the end.
    pub fn close(mut self, script: &Script) {
        let _ = self.write(&script.close);
    }
}
