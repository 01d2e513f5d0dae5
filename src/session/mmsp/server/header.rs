//! The ASF file header on its way to a viewer, `[MS-MMSP]` 3.2.5.8.1: in pieces no larger than a data packet, and when
//! there are several, no faster than the content's bit rate.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::funnel::MAX_DATAGRAM;
use crate::asf::Header;
use crate::wire::mmsp::data::{self, AF_HEADER, AF_HEADER_LAST};
use crate::wire::mmsp::ids::{Incarnation, LocationId};

/// The longest piece: what fits a datagram.
const MAX_PIECE: usize = MAX_DATAGRAM - data::HEADER_LEN;
/// No content is slower, bit/s: what an origin claims must not keep a viewer waiting for hours.
const SLOWEST: u32 = 8_000;

/// The pieces of a header that have not left yet.
#[derive(Clone, Debug)]
pub(super) struct HeaderSend {
    rest: Bytes,
    piece_size: usize,
    next_location: u32,
    incarnation: Incarnation,
    bit_rate: u32,
    due: Option<Instant>,
    /// Bytes that went before the next piece and count with it.
    before: usize,
}

impl HeaderSend {
    /// All of `header`, tagged with `incarnation`.
    pub(super) fn new(header: &Header, incarnation: Incarnation, bit_rate: u32) -> Self {
        Self {
            rest: header.bytes().clone(),
            piece_size: header.packet_size().clamp(1, MAX_PIECE),
            next_location: 0,
            incarnation,
            bit_rate: bit_rate.max(SLOWEST),
            due: None,
            before: 0,
        }
    }

    /// Not before `at`, and as if `before` bytes of it had left already: a header that is asked for again and again is no
    /// way to more than the bit rate.
    pub(super) fn after(self, at: Instant, before: usize) -> Self {
        Self { due: Some(at), before, ..self }
    }

    /// When what has left of it is paid for; `None` before the first piece.
    pub(super) fn free(&self) -> Option<Instant> {
        self.due
    }

    /// The next piece as a whole Data packet with the time it is due, without the piece where that time has not come;
    /// `None` after the last.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(Instant, Option<Bytes>)> {
        if self.rest.is_empty() {
            return None;
        }
        let due = self.due.unwrap_or(now);
        if due > now {
            return Some((due, None));
        }
        let piece = self.rest.split_to(self.piece_size.min(self.rest.len()));
        // ffmpeg goes on only after 0x04 and VLC, libmms and xine finish at bit 3, so 0x00 in the middle, which
        // [MS-WMSP] would allow, is never sent.
        let flags = if self.rest.is_empty() { AF_HEADER_LAST } else { AF_HEADER };
        let mut packet = BytesMut::with_capacity(8 + piece.len());
        packet.put_slice(&data::encode_header(LocationId(self.next_location), self.incarnation, flags, piece.len()));
        packet.put_slice(&piece);
        self.next_location = self.next_location.wrapping_add(1);
        let bits = (std::mem::take(&mut self.before) + packet.len()) as u64 * 8;
        self.due = due.checked_add(Duration::from_micros(bits * 1_000_000 / u64::from(self.bit_rate)));
        Some((due, Some(packet.freeze())))
    }
}
