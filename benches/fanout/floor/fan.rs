//! A thread's sockets, and the packets they get.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mmsproxy::wire::mmsp::data::{HEADER_LEN, encode_header};
use mmsproxy::wire::mmsp::ids::{Incarnation, LocationId};
use socket2::SockRef;

use crate::broadcast::Broadcast;
use crate::common::shape::{PREROLL, Shape, now};

/// Into how many parts the interval is cut at most, and how long one is at least, as the proxy does: sockets of different parts
/// have their turns apart.
const MAX_SLOTS: u128 = 10;
const SLOT_MS: u128 = 25;
/// Packets of one call.
const PACKETS_PER_CALL: usize = 64;
/// What a socket that falls further behind gets is nothing more.
const HISTORY: Duration = Duration::from_secs(20);
/// How old the broadcast is when the thread starts.
const PAST: Duration = Duration::from_secs(10);
/// What may wait unsent in the kernel for one viewer, bytes: the proxy's default.
const KERNEL_BUFFER: u32 = 128 * 1024;

/// A viewer after its handshake.
#[derive(Debug)]
pub struct Joined {
    pub stream: TcpStream,
    /// Where Data go, if not there.
    pub port: Option<u16>,
    pub incarnation: Incarnation,
}

/// The state of one thread.
#[derive(Debug)]
pub struct Fan {
    flush: Duration,
    slots: Vec<Vec<Socket>>,
    packets: Packets,
}

impl Fan {
    /// A thread's sockets are written to every `flush`; if that is 0, at each packet.
    pub fn new(shape: Shape, flush: Duration) -> Self {
        let slots = (0..(flush.as_millis() / SLOT_MS).clamp(1, MAX_SLOTS)).map(|_| Vec::new()).collect();
        Self { flush, slots, packets: Packets::new(shape) }
    }

    /// Runs until nobody can join any more.
    pub fn run(mut self, joins: &Receiver<Joined>) {
        let slots = self.slots.len();
        let (mut turn, mut joined) = (0, 0);
        let mut due = Instant::now();
        loop {
            match joins.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(viewer) => {
                    self.packets.fill();
                    let mut socket = Socket::new(viewer, self.packets.join_at());
                    if socket.write(&self.packets).is_ok() {
                        self.slots[joined % slots].push(socket);
                        joined += 1;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => self.packets.fill(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.flush.is_zero() {
                for slot in &mut self.slots {
                    slot.retain_mut(|socket| socket.write(&self.packets).is_ok());
                }
                due = self.packets.next_due();
            } else {
                self.slots[turn].retain_mut(|socket| socket.write(&self.packets).is_ok());
                turn = (turn + 1) % slots;
                // A turn that was missed is not made up for: the next one finds more packets.
                due = (due + self.flush / slots as u32).max(Instant::now());
            }
        }
    }
}

/// The broadcast's packets of the last seconds.
#[derive(Debug)]
pub struct Packets {
    shape: Shape,
    broadcast: Broadcast,
    /// The number of the oldest.
    first: u64,
    held: VecDeque<Bytes>,
    most: usize,
}

impl Packets {
    pub fn new(shape: Shape) -> Self {
        let most = (HISTORY.as_nanos() as u64 / shape.offset(1)) as usize;
        Self { shape, broadcast: Broadcast::begun(shape, PAST), first: 0, held: VecDeque::new(), most }
    }

    /// Takes what is due by now.
    pub fn fill(&mut self) {
        let now = now();
        while let Some(packet) = self.broadcast.next_packet(now) {
            self.held.push_back(packet);
            if self.held.len() > self.most {
                self.held.pop_front();
                self.first += 1;
            }
        }
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Instant {
        Instant::now() + Duration::from_nanos(self.broadcast.due().saturating_sub(now()))
    }

    /// Behind the newest.
    pub fn end(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    /// The last key frame that is a preroll old.
    fn join_at(&self) -> u64 {
        let end = self.end();
        let newest = self.shape.offset(end);
        let is_old = |number| newest - self.shape.offset(number) >= PREROLL.as_nanos() as u64;
        let found = (self.first..end).rev().find(|number| is_old(*number) && self.shape.is_key_frame(*number));
        found.unwrap_or(self.first)
    }

    /// From packet `number` on; nothing if that is not held any more.
    pub fn since(&self, number: u64) -> impl Iterator<Item = &Bytes> {
        let at = number.checked_sub(self.first).map_or(self.held.len(), |at| at as usize);
        self.held.range(at.min(self.held.len())..)
    }
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    incarnation: Incarnation,
    /// The packet that is sent next.
    next: u64,
    /// How much of it has left already, its header included.
    sent: usize,
    /// `AFFlags` of that packet: its sequence number's low byte.
    sequence: u8,
}

impl Socket {
    fn new(viewer: Joined, next: u64) -> Self {
        let Joined { stream, incarnation, .. } = viewer;
        // Without it, only more waits in the kernel for one that does not read.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(KERNEL_BUFFER);
        Self { stream, incarnation, next, sent: 0, sequence: 0 }
    }

    /// Writes all that is there, as far as the socket takes it. An error if the viewer is gone.
    fn write(&mut self, packets: &Packets) -> io::Result<()> {
        let whole = HEADER_LEN + packets.shape.packet;
        loop {
            let mut heads = [[0; HEADER_LEN]; PACKETS_PER_CALL];
            let mut count = 0;
            for (head, packet) in heads.iter_mut().zip(packets.since(self.next)) {
                let location = LocationId((self.next + count as u64) as u32);
                *head =
                    encode_header(location, self.incarnation, self.sequence.wrapping_add(count as u8), packet.len());
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); 2 * PACKETS_PER_CALL];
            for ((pair, head), packet) in slices.chunks_exact_mut(2).zip(&heads).zip(packets.since(self.next)) {
                pair[0] = IoSlice::new(head);
                pair[1] = IoSlice::new(packet);
            }
            let mut slices = &mut slices[..2 * count];
            IoSlice::advance_slices(&mut slices, self.sent);
            let left = count * whole - self.sent;
            match (&self.stream).write_vectored(slices) {
                Ok(written) => {
                    let sent = self.sent + written;
                    self.next += (sent / whole) as u64;
                    self.sequence = self.sequence.wrapping_add((sent / whole) as u8);
                    self.sent = sent % whole;
                    // What it did not take now waits for the next turn; a call that was full may not have been the last.
                    if written < left || count < PACKETS_PER_CALL {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
