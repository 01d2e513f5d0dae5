//! The UDP side of a listening address: a socket for each writer, all on the port of TCP, and the requests that come there.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use super::Funnels;
use crate::server::counters::Counters;
use crate::server::printable::Printable;
use crate::wire::mmsp::resend::RequestPacketListResend;

/// What may wait in the kernel, bytes: one turn of many viewers. The system may give less.
const SEND_BUFFER: usize = 4 << 20;
/// How soon it is noticed that a port is not needed any more, ms.
const LOOK_AGAIN: u16 = 1000;
/// Requests of one socket that are answered before another has its turn.
const AT_ONCE: usize = 64;
/// No request is longer: 12 bytes and 32 numbers. One more shows that there was more.
const REQUEST: usize = 141;

/// The UDP sockets of a listening address.
#[derive(Debug)]
pub struct Port {
    sockets: Vec<UdpSocket>,
    is_wildcard: bool,
}

impl Port {
    /// `count` sockets at the address and port of a TCP listener: players take Data from the port they connected to, and
    /// send their requests there.
    ///
    /// # Errors
    /// The port is taken, or the system gives no socket.
    pub fn bind(address: SocketAddr, count: usize) -> io::Result<Self> {
        let sockets = (0..count.max(1)).map(|_| socket(address)).collect::<io::Result<_>>()?;
        Ok(Self { sockets, is_wildcard: address.ip().is_unspecified() })
    }

    /// The socket of the writer of a viewer.
    pub(in crate::server) fn socket(&self, viewer: u64) -> Option<&UdpSocket> {
        self.sockets.get(usize::try_from(viewer).unwrap_or(0) % self.sockets.len().max(1))
    }

    /// Whether the system chooses the address that datagrams leave from, unless it is told.
    pub(in crate::server) fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// Has requests for lost packets answered, until the port is dropped.
    ///
    /// A thread of its own, which sleeps: in the epoll of the tasks each datagram that leaves would wake whoever waits there.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(in crate::server) fn listen(
        self: &Arc<Self>,
        funnels: &Arc<Funnels>,
        counters: &Arc<Counters>,
    ) -> io::Result<()> {
        let (port, funnels, counters) = (Arc::downgrade(self), Arc::clone(funnels), Arc::clone(counters));
        let answer_all = move || {
            while let Some(port) = port.upgrade() {
                port.answer(&funnels, &counters);
            }
        };
        thread::Builder::new().name("udp".to_owned()).spawn(answer_all).map(drop)
    }

    /// Answers what comes, for a moment. The kernel spreads it over all sockets of a port.
    fn answer(&self, funnels: &Funnels, counters: &Counters) {
        let mut waiting: Vec<PollFd<'_>> =
            self.sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        if let Err(error) = poll(&mut waiting, PollTimeout::from(LOOK_AGAIN)) {
            debug!(%error, "requests to send again are not waited for");
            thread::sleep(Duration::from_millis(LOOK_AGAIN.into()));
            return;
        }
        let mut datagram = [0; REQUEST];
        for socket in &self.sockets {
            for _ in 0..AT_ONCE {
                match socket.recv_from(&mut datagram) {
                    Ok((length, from)) => answer(datagram.get(..length).unwrap_or_default(), from, funnels, counters),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What a datagram of ours met on its way says nothing about the socket.
                    Err(error) => {
                        debug!(%error, "a datagram could not be received");
                        break;
                    }
                }
            }
        }
    }
}

/// What can't be believed is met with silence: an answer would make us a tool against whoever is named as its sender.
fn answer(datagram: &[u8], from: SocketAddr, funnels: &Funnels, counters: &Counters) {
    let refused = |result: &str| counters.resends.with_label_values(&[result]).inc();
    let request = match RequestPacketListResend::decode(datagram) {
        Ok(request) => request,
        Err(error) => {
            debug!(%from, error = %Printable(error), "not a request to send again");
            return refused("malformed");
        }
    };
    match funnels.find(from.ip().to_canonical(), request.client_id) {
        Some(viewer) => viewer.resend(Instant::now(), &request),
        None => refused("unknown"),
    }
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if let Err(error) = socket.set_send_buffer_size(SEND_BUFFER) {
        debug!(%error, "SO_SNDBUF was not taken");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
