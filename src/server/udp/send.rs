//! Datagrams out: those of one size in one call, which the kernel cuts, and the others one by one.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use tracing::{debug, warn};

use crate::session::batch::Batch;

/// Datagrams that the kernel cuts one call into at most (`UDP_MAX_SEGMENTS`).
const SEGMENTS: usize = 64;
/// Bytes of one call: what one datagram over IPv4 can hold.
const CALL: usize = 65_507;

/// Where a viewer's datagrams go, where they come from, and what is known of the way.
#[derive(Debug)]
pub struct Target {
    to: SocketAddr,
    from: Option<SocketAddr>,
    way: Way,
    has_complained: bool,
}

/// Whether calls are cut by the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// Not known yet: the first datagram is sent as if it were to be cut, and its size either fits the way or not.
    Untried,
    /// They are.
    Cuts,
    /// The kernel can't, or packets are larger than the path's MTU and leave in fragments.
    Plain,
}

/// What left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Bytes of whole datagrams, without what is before them on the wire.
    pub bytes: usize,
    /// Datagrams.
    pub datagrams: usize,
    /// The socket takes no more for now: what is left waits for the next turn.
    pub is_blocked: bool,
}

impl Target {
    /// `from` where the socket has no address of its own.
    pub fn new(to: SocketAddr, from: Option<SocketAddr>) -> Self {
        Self { to, from, way: Way::Untried, has_complained: false }
    }

    /// Where they go.
    pub fn to(&self) -> SocketAddr {
        self.to
    }
}

/// Sends what the socket takes; what it does not take is still in `batch`. What can't be sent at all is dropped: it is lost,
/// as datagrams may be.
pub fn send(socket: &UdpSocket, target: &mut Target, batch: &mut Batch) -> Sent {
    let fd = socket.as_raw_fd();
    let mut sent = Sent::default();
    while !batch.is_empty() {
        let call = Call::first(batch, target.way);
        match call.send(fd, target) {
            Ok(bytes) => {
                if target.way == Way::Untried {
                    target.way = Way::Cuts;
                }
                sent.bytes += bytes;
                sent.datagrams += call.datagrams;
                batch.drop_pieces(call.datagrams);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                sent.is_blocked = true;
                break;
            }
            Err(error @ (Errno::EINVAL | Errno::EMSGSIZE | Errno::EIO)) if target.way != Way::Plain => {
                if error == Errno::EIO {
                    debug!(to = %target.to, "the way takes no datagrams that the kernel cuts");
                } else {
                    warn!(to = %target.to, bytes = call.size, "packets are larger than the path's MTU: they leave in fragments");
                }
                target.way = Way::Plain;
            }
            Err(error) => {
                if !std::mem::replace(&mut target.has_complained, true) {
                    debug!(to = %target.to, %error, "a datagram can't be sent");
                }
                batch.drop_pieces(call.datagrams);
            }
        }
    }
    sent
}

/// Datagrams that leave in one call.
struct Call<'a> {
    slices: [IoSlice<'a>; SEGMENTS * 2],
    filled: usize,
    datagrams: usize,
    /// Of each, the last may be shorter, bytes.
    size: usize,
}

impl<'a> Call<'a> {
    /// Those at the front of `batch` that can leave together.
    fn first(batch: &'a Batch, way: Way) -> Self {
        let most = if way == Way::Cuts { SEGMENTS } else { 1 };
        let mut call = Self { slices: [IoSlice::new(&[]); SEGMENTS * 2], filled: 0, datagrams: 0, size: 0 };
        let mut bytes = 0;
        for (head, body) in batch.pieces().take(most) {
            let size = head.len() + body.len();
            if call.datagrams == 0 {
                call.size = size;
            } else if size > call.size || bytes + size > CALL {
                break;
            }
            for part in [head, body] {
                if let Some(slice) = call.slices.get_mut(call.filled).filter(|_| !part.is_empty()) {
                    *slice = IoSlice::new(part);
                    call.filled += 1;
                }
            }
            (call.datagrams, bytes) = (call.datagrams + 1, bytes + size);
            // Only the last one may be shorter.
            if size < call.size {
                break;
            }
        }
        call
    }

    fn send(&self, fd: RawFd, target: &Target) -> Result<usize, Errno> {
        let slices = self.slices.get(..self.filled).unwrap_or_default();
        let to = SockaddrStorage::from(target.to);
        let size = u16::try_from(self.size).ok().filter(|_| target.way != Way::Plain);
        let cut = size.as_ref().map(ControlMessage::UdpGsoSegments);
        let send = |from: Option<ControlMessage<'_>>| {
            let messages: Vec<_> = cut.into_iter().chain(from).collect();
            sendmsg(fd, slices, &messages, MsgFlags::empty(), Some(&to))
        };
        match target.from {
            None => send(None),
            Some(SocketAddr::V4(from)) => {
                let address = libc::in_addr { s_addr: u32::from_ne_bytes(from.ip().octets()) };
                let none = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: none };
                send(Some(ControlMessage::Ipv4PacketInfo(&info)))
            }
            Some(SocketAddr::V6(from)) => {
                let address = libc::in6_addr { s6_addr: from.ip().octets() };
                let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: from.scope_id() };
                send(Some(ControlMessage::Ipv6PacketInfo(&info)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn batch(sizes: &[usize]) -> Batch {
        let mut batch = Batch::new();
        for (number, size) in sizes.iter().enumerate() {
            batch.push_packet([number as u8; 8], Bytes::from(vec![number as u8; size - 8]));
        }
        batch
    }

    fn received(socket: &UdpSocket, sizes: &[usize]) -> SocketAddr {
        let mut buffer = [0; 65_535];
        let mut from = None;
        for (number, size) in sizes.iter().enumerate() {
            let (length, sender) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], vec![number as u8; *size], "datagram {number}");
            from = Some(sender);
        }
        from.unwrap()
    }

    #[test]
    fn each_piece_arrives_as_one_datagram_whatever_left_together() {
        let (sender, receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let mut target = Target::new(receiver.local_addr().unwrap(), None);
        let sizes = [[100; 70].as_slice(), &[40, 100, 300, 300, 20, 20, 8, 60_000, 60_000, 9]].concat();
        for part in [&sizes[..1], &sizes] {
            let mut batch = batch(part);
            let sent = send(&sender, &mut target, &mut batch);
            assert!(batch.is_empty());
            let bytes = part.iter().sum();
            assert_eq!(sent, Sent { bytes, datagrams: part.len(), is_blocked: false });
            assert_eq!(received(&receiver, part), sender.local_addr().unwrap());
        }
    }

    #[test]
    fn those_of_one_size_leave_together_and_the_last_may_be_shorter() {
        let calls = |sizes: &[usize], way| {
            let mut batch = batch(sizes);
            let mut calls = Vec::new();
            while !batch.is_empty() {
                let datagrams = Call::first(&batch, way).datagrams;
                calls.push(datagrams);
                batch.drop_pieces(datagrams);
            }
            calls
        };
        assert_eq!(calls(&[100, 100, 100, 50, 100, 200, 200], Way::Cuts), [4, 1, 2]);
        assert_eq!(calls(&[100; 130], Way::Cuts), [64, 64, 2]);
        assert_eq!(calls(&[30_000; 4], Way::Cuts), [2, 2]);
        assert_eq!(calls(&[100; 3], Way::Plain), [1, 1, 1]);
        assert_eq!(calls(&[100; 3], Way::Untried), [1, 1, 1]);
    }

    #[test]
    fn a_socket_without_an_address_sends_from_the_one_that_is_named() {
        for (any, named, receiver) in [("0.0.0.0:0", "127.0.0.9:0", "127.0.0.1:0"), ("[::]:0", "[::1]:0", "[::1]:0")] {
            let (sender, receiver) = (socket(any), socket(receiver));
            let named: SocketAddr = named.parse().unwrap();
            let mut target = Target::new(receiver.local_addr().unwrap(), Some(named));
            send(&sender, &mut target, &mut batch(&[100, 100]));
            let from = received(&receiver, &[100, 100]);
            assert_eq!((from.ip(), from.port()), (named.ip(), sender.local_addr().unwrap().port()));
        }
    }

    #[test]
    fn what_can_not_be_sent_is_dropped_and_what_follows_is_sent() {
        let (sender, receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let mut target = Target::new(receiver.local_addr().unwrap(), None);
        let mut batch = Batch::new();
        batch.push_packet([0; 8], Bytes::from(vec![0; 65_520]));
        batch.push_packet([0; 8], Bytes::from(vec![0; 92]));
        let sent = send(&sender, &mut target, &mut batch);
        assert!(batch.is_empty());
        assert_eq!(sent, Sent { bytes: 100, datagrams: 1, is_blocked: false });
        received(&receiver, &[100]);
    }
}
