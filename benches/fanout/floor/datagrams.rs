//! The floor over UDP: each packet leaves when it is due, in calls of many viewers.

use std::io::IoSlice;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use mmsproxy::wire::mmsp::data::{HEADER_LEN, encode_header};
use mmsproxy::wire::mmsp::ids::{Incarnation, LocationId};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use socket2::SockRef;

use super::fan::{Joined, Packets};
use crate::common::shape::Shape;

/// Datagrams of one call.
const AT_ONCE: usize = 64;
/// What may wait in the kernel, bytes.
const SEND_BUFFER: usize = 4 << 20;

/// A thread's viewers, all behind one socket.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    packets: Packets,
    next: u64,
    viewers: Vec<Viewer>,
}

#[derive(Debug)]
struct Viewer {
    to: SockaddrIn,
    incarnation: Incarnation,
    sequence: u8,
    _stream: TcpStream,
}

impl Sender {
    pub fn new(shape: Shape) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER)?;
        let mut packets = Packets::new(shape);
        packets.fill();
        let next = packets.end();
        Ok(Self { socket, packets, next, viewers: Vec::new() })
    }

    /// Runs until nobody can join any more.
    pub fn run(mut self, joins: &Receiver<Joined>) {
        let mut headers = MultiHeaders::preallocate(AT_ONCE, None);
        loop {
            let due = self.packets.next_due();
            match joins.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Joined { stream, port: Some(port), incarnation }) => {
                    let to = SockaddrIn::new(127, 0, 0, 1, port);
                    self.viewers.push(Viewer { to, incarnation, sequence: 0, _stream: stream });
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.packets.fill();
                    self.send(&mut headers);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn send(&mut self, headers: &mut MultiHeaders<SockaddrIn>) {
        let Self { socket, packets, next, viewers } = self;
        for packet in packets.since(*next) {
            let location = LocationId(*next as u32);
            for some in viewers.chunks_mut(AT_ONCE) {
                let heads: Vec<[u8; HEADER_LEN]> = some
                    .iter()
                    .map(|viewer| encode_header(location, viewer.incarnation, viewer.sequence, packet.len()))
                    .collect();
                let slices: Vec<[IoSlice<'_>; 2]> =
                    heads.iter().map(|head| [IoSlice::new(head), IoSlice::new(packet)]).collect();
                let to: Vec<Option<SockaddrIn>> = some.iter().map(|viewer| Some(viewer.to)).collect();
                let none: [ControlMessage<'_>; 0] = [];
                // What finds no room is lost, and the load tells of it.
                let _ = sendmmsg(socket.as_raw_fd(), headers, &slices, &to, none, MsgFlags::empty());
                some.iter_mut().for_each(|viewer| viewer.sequence = viewer.sequence.wrapping_add(1));
            }
            *next += 1;
        }
    }
}
