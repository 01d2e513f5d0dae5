//! An ASF file header on its way: `[MS-MMSP]` 2.2.2. Over TCP its pieces follow one another; over UDP they come in any
//! order, or not at all, and LocationId counts them from 0.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::ClientError;
use crate::wire::mmsp::data::Data;

/// The bit of AFFlags that ends a header, by every reading of 2.2.2: 0x08 or 0x0C.
const HEADER_END: u8 = 0x08;
/// Pieces of a header over UDP. Each has the size of a packet of the content, or nearly: this is far from any real one.
const MAX_PIECES: u32 = 4096;
/// How often a header is asked for again, 3.1.6.1.
const MAX_RETRIES: u32 = 4;

/// A header that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    /// The number of ReadBlock; `None` takes any, where nothing but the header can come.
    incarnation: Option<u8>,
    pieces: Pieces,
    retries: u32,
    period: Duration,
}

#[derive(Debug)]
enum Pieces {
    InOrder { bytes: BytesMut, is_whole: bool },
    Numbered { pieces: BTreeMap<u32, Bytes>, last: Option<u32> },
}

impl Reading {
    /// Over TCP.
    pub(super) fn over_tcp(incarnation: Option<u8>) -> Self {
        let pieces = Pieces::InOrder { bytes: BytesMut::new(), is_whole: false };
        Self { incarnation, pieces, retries: 0, period: Duration::ZERO }
    }

    /// Over UDP: `header_size` bytes of content of `bit_rate` bit/s.
    pub(super) fn over_udp(incarnation: u8, header_size: u32, bit_rate: u32) -> Self {
        let pieces = Pieces::Numbered { pieces: BTreeMap::new(), last: None };
        Self { incarnation: Some(incarnation), pieces, retries: 0, period: header_period(header_size, bit_rate) }
    }

    /// Whether Data of that number are pieces of it.
    pub(super) fn is_of(&self, number: u8) -> bool {
        self.incarnation.is_none_or(|incarnation| incarnation == number)
    }

    /// The Header timer, 3.1.2.
    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// It is asked for again under that number, unless that happened too often. Pieces that came stay: it is the same
    /// header, and of a long one something would be lost each time.
    pub(super) fn retry(&mut self, incarnation: u8) -> Option<u8> {
        if self.retries >= MAX_RETRIES {
            return None;
        }
        self.retries = self.retries.saturating_add(1);
        self.incarnation.replace(incarnation)
    }

    /// Takes a piece. A header of more than `limit` bytes is refused.
    pub(super) fn push(&mut self, data: Data, limit: usize) -> Result<(), ClientError> {
        let is_last = data.af_flags & HEADER_END != 0;
        match &mut self.pieces {
            Pieces::InOrder { bytes, is_whole } => {
                if bytes.len().saturating_add(data.payload.len()) > limit {
                    return Err(ClientError::HeaderTooLarge { limit });
                }
                bytes.extend_from_slice(&data.payload);
                *is_whole = is_last;
            }
            Pieces::Numbered { pieces, last } => {
                let at = data.location_id.0;
                if at >= MAX_PIECES {
                    return Ok(());
                }
                // Another header than before: what came of that is of no use.
                if pieces.get(&at).is_some_and(|before| *before != data.payload) {
                    pieces.clear();
                    *last = None;
                }
                pieces.insert(at, data.payload);
                if is_last {
                    *last = Some(at);
                }
                if pieces.values().map(Bytes::len).fold(0, usize::saturating_add) > limit {
                    return Err(ClientError::HeaderTooLarge { limit });
                }
            }
        }
        Ok(())
    }

    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        match &self.pieces {
            Pieces::InOrder { is_whole, .. } => *is_whole,
            Pieces::Numbered { pieces, last } => {
                last.is_some_and(|last| pieces.range(..=last).count() == (last as usize).saturating_add(1))
            }
        }
    }

    /// All that is here.
    pub(super) fn into_bytes(self) -> Bytes {
        match self.pieces {
            Pieces::InOrder { bytes, .. } => bytes.freeze(),
            Pieces::Numbered { pieces, last } => {
                let mut bytes = BytesMut::new();
                pieces.range(..=last.unwrap_or(0)).for_each(|(_, piece)| bytes.extend_from_slice(piece));
                bytes.freeze()
            }
        }
    }
}

/// 3.1.2: a second, and the time that the header takes; 30 seconds at most. The text divides bytes by bit/s; a header takes
/// eight times as long.
fn header_period(header_size: u32, bit_rate: u32) -> Duration {
    const LONGEST: u64 = 29_000;
    let bits = u64::from(header_size).saturating_mul(8);
    let ms = bits.saturating_mul(1000).checked_div(bit_rate.into()).unwrap_or(LONGEST).min(LONGEST);
    Duration::from_secs(1).saturating_add(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mmsp::ids::{Incarnation, LocationId};

    fn piece(at: u32, flags: u8, payload: &'static [u8]) -> Data {
        Data {
            location_id: LocationId(at),
            play_incarnation: Incarnation::from_wire(1),
            af_flags: flags,
            payload: Bytes::from_static(payload),
        }
    }

    fn reading(pieces: &[(u32, u8, &'static [u8])]) -> Reading {
        let mut reading = Reading::over_udp(1, 1000, 100_000);
        for (at, flags, payload) in pieces {
            reading.push(piece(*at, *flags, payload), 100).unwrap();
        }
        reading
    }

    #[test]
    fn pieces_come_in_any_order_and_more_than_once() {
        let whole = reading(&[(2, 0x0C, b"c"), (0, 0x04, b"a"), (2, 0x0C, b"c"), (1, 0x04, b"b")]);
        assert!(whole.is_whole());
        assert_eq!(whole.into_bytes(), "abc");
        for part in [&[(0, 0x04, &b"a"[..]), (1, 0x04, b"b")][..], &[(1, 0x0C, b"b")], &[]] {
            assert!(!reading(part).is_whole());
        }
    }

    #[test]
    fn what_lies_behind_the_last_piece_is_no_part_of_it() {
        let whole = reading(&[(0, 0x04, b"a"), (5, 0x04, b"x"), (1, 0x0C, b"b")]);
        assert!(whole.is_whole());
        assert_eq!(whole.into_bytes(), "ab");
    }

    #[test]
    fn another_header_takes_the_place_of_the_one_before() {
        let mut reading = reading(&[(0, 0x04, b"a"), (1, 0x0C, b"b"), (0, 0x04, b"A")]);
        assert!(!reading.is_whole());
        reading.push(piece(1, 0x0C, b"B"), 100).unwrap();
        assert_eq!(reading.into_bytes(), "AB");
    }

    #[test]
    fn neither_bytes_nor_pieces_are_without_end() {
        let mut reading = reading(&[(MAX_PIECES, 0x04, b"a")]);
        assert!(matches!(&reading.pieces, Pieces::Numbered { pieces, .. } if pieces.is_empty()));
        reading.push(piece(0, 0x04, &[0; 100]), 100).unwrap();
        assert_eq!(reading.push(piece(1, 0x04, b"a"), 100), Err(ClientError::HeaderTooLarge { limit: 100 }));
    }

    #[test]
    fn a_header_is_asked_for_again_four_times() {
        let mut reading = Reading::over_udp(1, 0, 0);
        let replaced: Vec<_> = (2..7).map(|number| reading.retry(number)).collect();
        assert_eq!(replaced, [Some(1), Some(2), Some(3), Some(4), None]);
        assert!(reading.is_of(5) && !reading.is_of(1));
    }

    #[test]
    fn the_header_timer_is_a_second_and_the_time_that_the_header_takes() {
        let ms = Duration::from_millis;
        assert_eq!(header_period(5000, 100_000), ms(1400));
        assert_eq!(header_period(0, 100_000), ms(1000));
        assert_eq!(header_period(u32::MAX, 1), ms(30_000));
        assert_eq!(header_period(5000, 0), ms(30_000));
    }
}
