//! Datagrams of many viewers that leave in one call: to enter the kernel for each viewer, and to lose the core at each return to
//! whoever they are for, costs as much as some of the datagrams themselves.

use std::net::UdpSocket;
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;

use super::Viewer;
use super::facts::Tally;
use crate::server::udp::{Parcel, Target, send_parcels};
use crate::session::batch::Batch;

/// Parcels that leave in one call at most, more or less: those of a burst go with it.
const AT_ONCE: usize = 256;

/// What viewers were given in their turns and has not left yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    batch: Batch,
    letters: Vec<Letter>,
}

/// A parcel, whose datagrams stand in the batch in the order of the letters.
#[derive(Debug)]
struct Letter {
    viewer: Arc<Viewer>,
    parcel: Parcel,
}

impl Outbox {
    /// Takes datagrams to a viewer as far as they can leave as parcels; the others stay in `datagrams`.
    pub(super) fn post(&mut self, viewer: &Arc<Viewer>, target: &Target, datagrams: &mut Batch) {
        while let Some(parcel) = target.parcel(datagrams) {
            datagrams.move_pieces(parcel.datagrams, &mut self.batch);
            self.letters.push(Letter { viewer: Arc::clone(viewer), parcel });
        }
    }

    /// Whether it is time to send them.
    pub(super) fn is_full(&self) -> bool {
        self.letters.len() >= AT_ONCE
    }

    /// Sends all of them. What the socket does not take goes back to its viewer, and is not counted. Takes the locks of
    /// viewers.
    pub(super) fn send(&mut self, tally: &mut Tally) {
        let mut parcels = Vec::with_capacity(self.letters.len());
        let mut letters = self.letters.iter().peekable();
        while let Some(&first) = letters.peek() {
            parcels.clear();
            let together = letters.clone().take_while(|letter| letter.goes_with(first));
            parcels.extend(together.map(|letter| letter.parcel));
            let result = match first.socket() {
                Some(socket) => send_parcels(socket, &parcels, &self.batch),
                None => Err(Errno::ENOTCONN),
            };
            match result {
                Ok(sent) => {
                    let sent = letters.by_ref().take(sent).map(|letter| letter.parcel.datagrams).sum();
                    self.batch.drop_pieces(sent);
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    // Where there is no room, none of the others finds any.
                    let is_full = matches!(error, Errno::EAGAIN | Errno::ENOBUFS);
                    for letter in letters.by_ref().take(if is_full { parcels.len() } else { 1 }) {
                        let mut datagrams = Batch::new();
                        self.batch.move_pieces(letter.parcel.datagrams, &mut datagrams);
                        letter.viewer.take_back(datagrams, tally);
                    }
                }
            }
        }
        self.letters.clear();
        self.batch.clear();
    }
}

impl Letter {
    fn socket(&self) -> Option<&UdpSocket> {
        self.viewer.road.as_ref()?.port.socket(self.viewer.id)
    }

    fn goes_with(&self, other: &Self) -> bool {
        let is_same_socket = match (self.socket(), other.socket()) {
            (Some(one), Some(other)) => ptr::eq(one, other),
            _ => false,
        };
        is_same_socket && self.parcel.goes_with(&other.parcel)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::super::funnel::UdpFunnel;
    use super::super::{Road, Scratch};
    use super::*;
    use crate::metrics::Metrics;
    use crate::server::source::Peer;
    use crate::server::testing::server_settings;
    use crate::server::udp::{Port, send};
    use crate::server::writer::Writers;
    use crate::session::mmsp::server::{Session, Settings};
    use crate::wire::mmsp::ids::ClientId;

    fn batch(packets: u8) -> Batch {
        let mut batch = Batch::new();
        (0..packets).for_each(|number| batch.push_packet([number; 8], Bytes::from(vec![number; 92])));
        batch
    }

    fn receiver(address: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// Reads packets numbered from 0 on.
    fn read(socket: &UdpSocket, packets: u8) {
        let mut datagram = [0; 200];
        for number in 0..packets {
            let length = socket.recv(&mut datagram).unwrap();
            assert_eq!(&datagram[..length], [number; 100]);
        }
    }

    /// A viewer whose datagrams go `to`, by a way that is known to take parcels.
    async fn viewer(id: u64, road: &Road, to: (&UdpSocket, SocketAddr), writers: &Writers) -> Arc<Viewer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let peer = Peer { id, address: to.1, redirected_from: None };
        let session = Session::new(Instant::now(), Settings::default(), ClientId(1));
        let writer = Arc::clone(writers.of(id).unwrap());
        let counters = Metrics::new().unwrap().counters;
        let viewer = Viewer::new(peer, stream, session, Arc::new(Notify::new()), writer, counters, 8);
        let viewer = Arc::new(viewer.with_road(Some(road.clone())));
        let claim = road.funnels.claim(to.1, ClientId(id as u32), &viewer).unwrap();
        let mut target = Target::new(to.1, None);
        let home = if to.1.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        assert_eq!(send(&UdpSocket::bind(home).unwrap(), &mut target, &mut batch(1)).datagrams, 1);
        read(to.0, 1);
        viewer.inner.lock().funnel = Some(Box::new(UdpFunnel::new(claim, target)));
        viewer
    }

    #[tokio::test]
    async fn what_leaves_is_each_viewers_own_and_what_does_not_goes_back_to_its_viewer_alone() {
        let writers = Writers::new(&server_settings());
        let port = Arc::new(Port::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap());
        let road = Road { port, funnels: Arc::default() };
        let (first, lost, last) = (receiver("127.0.0.1:0"), receiver("[::1]:0"), receiver("127.0.0.1:0"));
        let mut scratch = Scratch::default();
        let mut viewers = Vec::new();
        for (id, (socket, to), packets) in [(1, &first, 3), (2, &lost, 2), (3, &last, 70)] {
            let viewer = viewer(id, &road, (socket, *to), &writers).await;
            scratch.datagrams = batch(packets);
            let again = viewer.post_datagrams(&mut viewer.inner.lock(), Instant::now(), &mut scratch);
            assert!(again.is_none() && scratch.datagrams.is_empty());
            viewers.push(viewer);
        }
        // The socket takes nothing for IPv6, which nobody knew.
        scratch.outbox.send(&mut scratch.tally);
        read(&first.0, 3);
        read(&last.0, 70);
        let facts = viewers.iter().map(|viewer| viewer.facts()).map(|facts| (facts.sent_packets, facts.sent_bytes));
        assert_eq!(facts.collect::<Vec<_>>(), [(3, 300), (0, 0), (70, 7000)]);
        let waiting = |viewer: &Viewer| viewer.inner.lock().funnel.as_ref().unwrap().unsent().bytes();
        assert_eq!(viewers.iter().map(|viewer| waiting(viewer)).collect::<Vec<_>>(), [0, 200, 0]);
        assert!(scratch.outbox.batch.is_empty() && scratch.outbox.letters.is_empty());
        // Whose way is gone loses what it has: as datagrams may be.
        viewers[1].inner.lock().funnel = None;
        viewers[1].take_back(batch(1), &mut scratch.tally);
        assert_eq!(viewers[1].facts().sent_packets, 0);
    }
}
