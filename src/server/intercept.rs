//! Where a redirected connection was going: the firewall remembers it.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination that the player asked for, where a firewall on this machine sent the connection here instead;
/// `None` for a connection that meant us.
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    let original = original(&SockRef::from(stream), local)?;
    (original != local).then_some(original)
}

#[cfg(target_os = "linux")]
fn original(socket: &SockRef<'_>, local: SocketAddr) -> Option<SocketAddr> {
    let original = if local.is_ipv6() { socket.original_dst_v6() } else { socket.original_dst_v4() };
    original.ok()?.as_socket()
}

#[cfg(not(target_os = "linux"))]
fn original(_socket: &SockRef<'_>, _local: SocketAddr) -> Option<SocketAddr> {
    None
}
