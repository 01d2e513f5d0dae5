//! Datagrams of one origin in, and the requests to send them again out.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tracing::debug;

/// What may wait in the kernel, bytes: a burst, while we do something else. The system may give less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The largest datagram there is, bytes.
const LARGEST: usize = 65_535;
/// Memory is taken by so much, bytes: packets that wait keep the whole piece they were read into.
const PIECE: usize = 4 * LARGEST;

/// A socket for the Data of one session.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    /// The origin, at the port of its control connection: requests go there.
    origin: SocketAddr,
    buffer: BytesMut,
}

impl Receiver {
    /// A port of ours at `local`, the address of the control connection.
    ///
    /// # Errors
    /// The system gives none.
    pub async fn bind(local: IpAddr, origin: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((local, 0)).await?;
        if let Err(error) = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER) {
            debug!(%error, "SO_RCVBUF was not taken");
        }
        Ok(Self { socket, origin, buffer: BytesMut::new() })
    }

    /// Its port.
    ///
    /// # Errors
    /// The system does not say.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Returns once there may be a datagram.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next datagram of the origin; `None` where there is none now.
    pub fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.buffer.capacity() - self.buffer.len() < LARGEST {
                self.buffer.reserve(PIECE);
            }
            match self.socket.try_recv_buf_from(&mut self.buffer) {
                // Anybody can send here; what is not from there is none of ours.
                Ok((_, from)) if from.ip() != self.origin.ip() => self.buffer.clear(),
                Ok(_) => return Some(self.buffer.split().freeze()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // What a request of ours met on its way: the port is closed, or the host gone. Silence tells that too.
                Err(error) => {
                    debug!(%error, "a datagram could not be received");
                    return None;
                }
            }
        }
    }

    /// Sends a request. One that finds no room is lost, and asked again.
    pub fn send(&self, request: &[u8]) {
        if let Err(error) = self.socket.try_send_to(request, self.origin) {
            debug!(%error, "a request to send again could not be sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::server::testing::soon;

    #[tokio::test]
    async fn datagrams_of_the_origin_come_out_and_those_of_others_do_not() {
        let [origin, other] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)]
            .map(|ip| async move { UdpSocket::bind((ip, 0)).await.unwrap() });
        let (origin, other) = (origin.await, other.await);
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut receiver = Receiver::bind(local, origin.local_addr().unwrap()).await.unwrap();
        let to = (local, receiver.port().unwrap());
        assert_eq!(receiver.next(), None);
        // More than one piece of memory holds.
        let sent: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 30_000]).collect();
        for bytes in &sent {
            other.send_to(b"of another", to).await.unwrap();
            origin.send_to(bytes, to).await.unwrap();
            let came = soon(async {
                loop {
                    receiver.readable().await.unwrap();
                    if let Some(datagram) = receiver.next() {
                        return datagram;
                    }
                }
            });
            assert_eq!(came.await, bytes);
        }
        receiver.send(b"a request");
        let mut buffer = [0; 64];
        let (length, from) = soon(origin.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..length], from), (b"a request".as_slice(), SocketAddr::from(to)));
    }
}
