//! Datagrams out: those of one size to one viewer as one parcel, which the kernel cuts; where it can't, each is a parcel. Many
//! parcels leave in one call.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use nix::{cmsg_space, libc};
use tracing::{debug, warn};

use crate::session::batch::Batch;

/// Datagrams that the kernel cuts one parcel into at most (`UDP_MAX_SEGMENTS`).
const SEGMENTS: usize = 64;
/// Bytes of one parcel: what one datagram over IPv4 can hold.
const PARCEL: usize = 65_507;

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

    /// Those at the front of `batch` that can leave as one parcel; `None` where it is empty, or nobody knows yet whether the
    /// kernel cuts any on this way.
    pub fn parcel(&self, batch: &Batch) -> Option<Parcel> {
        Some(self.first(batch)).filter(|parcel| parcel.datagrams > 0 && self.way != Way::Untried)
    }

    /// The same, on a way that nobody knows yet as well.
    fn first(&self, batch: &Batch) -> Parcel {
        let most = if self.way == Way::Cuts { SEGMENTS } else { 1 };
        let is_cut = self.way != Way::Plain;
        let mut parcel = Parcel { to: self.to, from: self.from, size: 0, is_cut, datagrams: 0 };
        let mut bytes = 0;
        for (head, body) in batch.pieces().take(most) {
            let size = head.len() + body.len();
            if parcel.datagrams == 0 {
                parcel.size = size;
            } else if size > parcel.size || bytes + size > PARCEL {
                break;
            }
            (parcel.datagrams, bytes) = (parcel.datagrams + 1, bytes + size);
            // Only the last one may be shorter.
            if size < parcel.size {
                break;
            }
        }
        parcel
    }
}

/// Datagrams to one viewer that leave as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parcel {
    to: SocketAddr,
    from: Option<SocketAddr>,
    /// Of each, the last may be shorter, bytes.
    size: usize,
    /// Whether the kernel is to cut it.
    is_cut: bool,
    /// How many.
    pub datagrams: usize,
}

impl Parcel {
    /// What the kernel cuts it to, bytes.
    fn cut(&self) -> Option<u16> {
        u16::try_from(self.size).ok().filter(|_| self.is_cut)
    }

    /// Whether both can leave in one call.
    pub fn goes_with(&self, other: &Self) -> bool {
        (self.from, self.cut()) == (other.from, other.cut())
    }
}

/// Sends parcels that go with each other, whose datagrams are at the front of `batch`, one behind the other; returns how many
/// of them left, at least one. All that is sent or not is still in `batch`.
///
/// # Errors
/// What kept the first from leaving.
pub fn send_parcels(socket: &UdpSocket, parcels: &[Parcel], batch: &Batch) -> Result<usize, Errno> {
    let Some(first) = parcels.first() else { return Ok(0) };
    let mut pieces = batch.pieces();
    let mut slices = Vec::with_capacity(parcels.iter().map(|parcel| parcel.datagrams * 2).sum());
    let mut ends = Vec::with_capacity(parcels.len());
    for parcel in parcels {
        let parts = pieces.by_ref().take(parcel.datagrams).flat_map(|(head, body)| [head, body]);
        slices.extend(parts.filter(|part| !part.is_empty()).map(IoSlice::new));
        ends.push(slices.len());
    }
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let messages: Vec<_> = begins.zip(&ends).map(|(begin, end)| slices.get(begin..*end).unwrap_or_default()).collect();
    let to: Vec<_> = parcels.iter().map(|parcel| Some(SockaddrStorage::from(parcel.to))).collect();
    let cut = first.cut();
    with_source(first.from, |source, of_source| {
        // Exactly the room that they take: what is left over of it would be read as one more.
        let of_cut = cut.map_or_else(Vec::new, |_| cmsg_space!(u16));
        let room = [of_cut, of_source].concat();
        let mut headers = MultiHeaders::preallocate(parcels.len(), (!room.is_empty()).then_some(room));
        let controls: Vec<_> = cut.as_ref().map(ControlMessage::UdpGsoSegments).into_iter().chain(source).collect();
        match sendmmsg(socket.as_raw_fd(), &mut headers, &messages, &to, &controls, MsgFlags::empty())?.count() {
            0 => Err(Errno::EAGAIN),
            sent => Ok(sent),
        }
    })
}

/// Sends what the socket takes; what it does not take is still in `batch`. What can't be sent at all is dropped: it is lost,
/// as datagrams may be.
pub fn send(socket: &UdpSocket, target: &mut Target, batch: &mut Batch) -> Sent {
    let mut sent = Sent::default();
    while !batch.is_empty() {
        let parcel = target.first(batch);
        match send_parcels(socket, &[parcel], batch) {
            Ok(_) => {
                if target.way == Way::Untried {
                    target.way = Way::Cuts;
                }
                let before = batch.bytes();
                batch.drop_pieces(parcel.datagrams);
                sent.bytes += before - batch.bytes();
                sent.datagrams += parcel.datagrams;
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
                    warn!(to = %target.to, bytes = parcel.size, "packets are larger than the path's MTU: they leave in fragments");
                }
                target.way = Way::Plain;
            }
            Err(error) => {
                if !std::mem::replace(&mut target.has_complained, true) {
                    debug!(to = %target.to, %error, "a datagram can't be sent");
                }
                batch.drop_pieces(parcel.datagrams);
            }
        }
    }
    sent
}

/// What tells the kernel the address that datagrams are to leave from, and the room that it takes.
fn with_source<R>(from: Option<SocketAddr>, call: impl FnOnce(Option<ControlMessage<'_>>, Vec<u8>) -> R) -> R {
    match from {
        None => call(None, Vec::new()),
        Some(SocketAddr::V4(from)) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(from.ip().octets()) };
            let none = libc::in_addr { s_addr: 0 };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: none };
            call(Some(ControlMessage::Ipv4PacketInfo(&info)), cmsg_space!(libc::in_pktinfo))
        }
        Some(SocketAddr::V6(from)) => {
            let address = libc::in6_addr { s6_addr: from.ip().octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: from.scope_id() };
            call(Some(ControlMessage::Ipv6PacketInfo(&info)), cmsg_space!(libc::in6_pktinfo))
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
            let target = Target { way, ..Target::new(([127, 0, 0, 1], 7000).into(), None) };
            let mut calls = Vec::new();
            while !batch.is_empty() {
                let datagrams = target.first(&batch).datagrams;
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
    fn parcels_of_many_leave_in_one_call_each_to_its_own() {
        for (any, named) in [("127.0.0.1:0", None), ("0.0.0.0:0", Some("127.0.0.9:0")), ("[::]:0", Some("[::1]:0"))] {
            let sender = socket(any);
            let named: Option<SocketAddr> = named.map(|named| named.parse().unwrap());
            let home = if any.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" };
            let sizes: [&[usize]; 3] = [&[300, 300, 40], &[300], &[300; 64]];
            let receivers = sizes.map(|_| socket(home));
            for (way, cut, most) in [(Way::Cuts, Some(300), 64), (Way::Plain, None, 1)] {
                let (mut whole, mut parcels) = (Batch::new(), Vec::new());
                for (receiver, sizes) in receivers.iter().zip(sizes) {
                    let mut target = Target::new(receiver.local_addr().unwrap(), named);
                    let mut mail = batch(sizes);
                    assert_eq!(target.parcel(&mail), None, "nobody knows yet what the way takes");
                    target.way = way;
                    while let Some(parcel) = target.parcel(&mail) {
                        assert_eq!((parcel.cut(), parcel.datagrams), (cut, sizes.len().min(most)));
                        mail.move_pieces(parcel.datagrams, &mut whole);
                        parcels.push(parcel);
                    }
                    assert!(mail.is_empty());
                }
                assert_eq!(send_parcels(&sender, &parcels, &whole), Ok(parcels.len()));
                for (receiver, sizes) in receivers.iter().zip(sizes) {
                    let mut buffer = [0; 400];
                    for (number, size) in sizes.iter().enumerate() {
                        let (length, from) = receiver.recv_from(&mut buffer).unwrap();
                        assert_eq!(&buffer[..length], vec![number as u8; *size], "datagram {number}");
                        assert_eq!(from.port(), sender.local_addr().unwrap().port());
                        assert!(named.is_none_or(|named| named.ip() == from.ip()));
                    }
                }
                // The first of those that are left says what is the matter.
                parcels[0].to.set_port(0);
                assert_eq!(send_parcels(&sender, &parcels, &whole), Err(Errno::EINVAL));
            }
        }
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
