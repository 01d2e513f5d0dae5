//! What our sockets have in common: options, and the vectored write of a batch.

use std::io::{self, IoSlice};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::session::batch::Batch;

/// Pieces that leave in one system call; a packet is two.
const PIECES_PER_CALL: usize = 192;
/// Most calls have no more than these, and clearing room for the others would be a part of their cost.
const FEW_PIECES: usize = 24;

/// Replies leave at once, and a peer that vanished without a word is found out after some minutes.
pub(super) fn tune(socket: &SockRef<'_>) {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
    for result in [socket.set_tcp_nodelay(true), socket.set_tcp_keepalive(&keepalive)] {
        if let Err(error) = result {
            tracing::debug!(%error, "a socket option was not taken");
        }
    }
}

/// Bounds what waits in the kernel for a viewer that does not read, bytes: else lag would hide there.
pub(super) fn bound_kernel_buffer(socket: &SockRef<'_>, bytes: u32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT was not taken");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, bytes);
}

/// Writes what the socket takes, in as few calls as it goes. Returns the bytes that left; what did not is still in
/// `batch`, and the socket is to be waited for.
pub(super) fn write(stream: &TcpStream, batch: &mut Batch) -> io::Result<usize> {
    let mut total = 0;
    while !batch.is_empty() {
        let result = if batch.slices() <= FEW_PIECES {
            write_once::<FEW_PIECES>(stream, batch)
        } else {
            write_once::<PIECES_PER_CALL>(stream, batch)
        };
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                batch.advance(written);
                total += written;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

fn write_once<const PIECES: usize>(stream: &TcpStream, batch: &Batch) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let filled = batch.io_slices(&mut slices);
    let slices = slices.get(..filled).unwrap_or_default();
    // Past the runtime, which would look into memory of its own that no cache holds any more; it has to know of a socket that
    // takes nothing, for that is waited for with it.
    match SockRef::from(stream).send_vectored(slices) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.try_write_vectored(slices),
        result => result,
    }
}
