//! A thread's viewers in the order of their turns, a second apart: at each, what is due in the second to come is read in one
//! call and written in one. A joiner gets a preroll at once.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mmsproxy::wire::mmsp::data::HEADER_LEN;
use mmsproxy::wire::mmsp::ids::Incarnation;

use super::packets::{Packets, Run};
use crate::common::shape::PREROLL;

/// Between two turns of one viewer.
const TURN: Duration = Duration::from_secs(1);
/// How often a thread looks whose turn it is: to wake up costs as much as half a turn.
const TICK: Duration = Duration::from_millis(10);
/// Packets of one call: the kernel takes 1024 slices.
const PACKETS_PER_CALL: u64 = 512;

/// A viewer after its handshake.
#[derive(Debug)]
pub struct Joined {
    pub stream: TcpStream,
    pub incarnation: Incarnation,
    pub first: u64,
}

/// The state of one thread.
#[derive(Debug)]
pub struct Paced {
    packets: Arc<Packets>,
    /// The next one first: all wait equally long.
    viewers: VecDeque<Viewer>,
    run: Run,
}

#[derive(Debug)]
struct Viewer {
    joined: Joined,
    began: Instant,
    due: Instant,
    /// The packet that is sent next.
    next: u64,
    /// How much of it has left already, its header included.
    sent: usize,
}

impl Paced {
    pub fn new(packets: Arc<Packets>) -> Self {
        Self { packets, viewers: VecDeque::new(), run: Run::default() }
    }

    /// Runs until nobody can join any more.
    pub fn run(mut self, joins: &Receiver<Joined>) {
        let mut tick = Instant::now();
        loop {
            match joins.recv_timeout(tick.saturating_duration_since(Instant::now())) {
                Ok(joined) => {
                    let (now, next) = (Instant::now(), joined.first);
                    self.turn(Viewer { joined, began: now, due: now, next, sent: 0 });
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    while let Some(viewer) = self.viewers.pop_front_if(|viewer| viewer.due <= now) {
                        self.turn(viewer);
                    }
                    tick = now + TICK;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A viewer that is gone is not put back.
    fn turn(&mut self, mut viewer: Viewer) {
        if self.write(&mut viewer).is_ok() {
            viewer.due += TURN;
            self.viewers.push_back(viewer);
        }
    }

    /// Writes all that is due until the next turn, and a preroll; what the socket does not take waits for that turn.
    fn write(&mut self, viewer: &mut Viewer) -> anyhow::Result<()> {
        let (packets, whole) = (&self.packets, HEADER_LEN + self.packets.shape.packet);
        let ahead = viewer.due.saturating_duration_since(viewer.began) + PREROLL;
        let end = (viewer.joined.first + packets.at(ahead.as_secs_f64())).min(packets.count());
        while viewer.next < end {
            let count = PACKETS_PER_CALL.min(end - viewer.next) as usize;
            packets.read(viewer.next, count, viewer.joined.incarnation, &mut self.run)?;
            let mut slices = self.run.slices();
            let mut slices = &mut slices[..];
            IoSlice::advance_slices(&mut slices, viewer.sent);
            let left = count * whole - viewer.sent;
            let written = match viewer.joined.stream.write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                written => written?,
            };
            let sent = viewer.sent + written;
            viewer.next += (sent / whole) as u64;
            viewer.sent = sent % whole;
            if written < left {
                return Ok(());
            }
        }
        Ok(())
    }
}
