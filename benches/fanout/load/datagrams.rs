//! Data over UDP: a viewer's own socket for them.

use std::io;
use std::net::Ipv4Addr;

use mio::net::UdpSocket;

use crate::common::connection::Connection;
use crate::common::framer::{DataHead, Piece, piece};
use crate::common::script::{Script, is_last_piece};

impl Connection {
    /// Data are asked for over UDP, at a port of its own.
    pub fn take_datagrams(&mut self) -> io::Result<()> {
        self.datagrams = Some(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?);
        Ok(())
    }

    /// Fills `buffer` with the next datagram; `None` if there is none.
    pub fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<Option<usize>> {
        match self.datagrams.as_ref().map(|socket| socket.recv(buffer)) {
            None => Ok(None),
            Some(Ok(length)) => Ok(Some(length)),
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// The same as [`Self::take`] of one datagram.
    pub fn take_datagram(
        &mut self,
        script: &Script,
        datagram: &[u8],
        mut media: impl FnMut(&DataHead<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match piece(datagram) {
            Piece::Data(data) if !script.awaits_header(self.sent) => media(&data),
            Piece::Data(data) if is_last_piece(&data) => self.send_next(script),
            Piece::Data(_) | Piece::Messages(_) => Ok(()),
        }
    }
}
