//! What is on its way to a socket: messages and media in their order, as pieces of a few own bytes and a shared payload.
//!
//! A batch leaves in one vectored write. What did not fit stays where it is and goes first next time, so nothing ever
//! gets between the parts of a packet.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// The largest header that a protocol puts before a shared payload, bytes.
const HEAD: usize = 16;

/// Own bytes and a shared payload, which follow one another on the wire.
#[derive(Clone, Debug)]
struct Piece {
    head: [u8; HEAD],
    head_length: u8,
    body: Bytes,
}

impl Piece {
    fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.head_length)).unwrap_or_default()
    }

    fn len(&self) -> usize {
        usize::from(self.head_length) + self.body.len()
    }
}

/// An ordered queue of bytes to send.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pieces: VecDeque<Piece>,
    /// How much of the first piece has left already.
    sent_of_first: usize,
    bytes: usize,
    packets: u64,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a message.
    pub fn push_message(&mut self, message: Bytes) {
        self.push(Piece { head: [0; HEAD], head_length: 0, body: message });
    }

    /// Appends a media packet: the header of its protocol (at most 16 bytes) and the shared payload.
    pub fn push_packet<const N: usize>(&mut self, header: [u8; N], payload: Bytes) {
        const { assert!(N <= HEAD) };
        let mut head = [0; HEAD];
        head[..N].copy_from_slice(&header);
        self.packets += 1;
        // N is at most 16, as asserted above.
        self.push(Piece { head, head_length: N as u8, body: payload });
    }

    fn push(&mut self, piece: Piece) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// Bytes that have not left yet.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all has left.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes the count of media packets that were appended since it was last asked.
    pub fn take_packets(&mut self) -> u64 {
        std::mem::take(&mut self.packets)
    }

    /// Fills `slices` with what is to be written next; returns how many are filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent_of_first;
        let parts = self.pieces.iter().flat_map(|piece| [piece.head(), &piece.body[..]]);
        let unsent = parts.filter_map(|part| {
            let rest = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            (!rest.is_empty()).then_some(rest)
        });
        let mut filled = 0;
        for (slice, rest) in slices.iter_mut().zip(unsent) {
            *slice = IoSlice::new(rest);
            filled += 1;
        }
        filled
    }

    /// `written` bytes have left.
    pub fn advance(&mut self, written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        let mut left = self.sent_of_first + written;
        while let Some(first) = self.pieces.front() {
            if left < first.len() {
                break;
            }
            left -= first.len();
            self.pieces.pop_front();
        }
        self.sent_of_first = if self.pieces.is_empty() { 0 } else { left };
    }

    /// All that has not left yet, in one buffer: for tests and small messages.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); self.pieces.len() * 2];
        let filled = self.io_slices(&mut slices);
        slices.iter().take(filled).flat_map(|slice| slice.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_is_its_header_and_the_shared_payload_without_a_copy() {
        let payload = Bytes::from_static(b"payload");
        let mut batch = Batch::new();
        batch.push_packet(*b"12345678", payload.clone());
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(batch.io_slices(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());
        assert_eq!(batch.take_packets(), 1);
        assert_eq!(batch.take_packets(), 0);
    }

    proptest! {
        #[test]
        fn however_much_each_write_takes_the_bytes_arrive_in_order(
            pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            writes in prop::collection::vec(1usize..50, 0..200),
        ) {
            let mut batch = Batch::new();
            let mut expected = Vec::new();
            for (is_packet, body) in pieces {
                if is_packet {
                    expected.extend_from_slice(b"headhead");
                    batch.push_packet(*b"headhead", Bytes::from(body.clone()));
                } else {
                    batch.push_message(Bytes::from(body.clone()));
                }
                expected.extend_from_slice(&body);
            }
            let mut arrived = Vec::new();
            for write in writes {
                let take = batch.to_vec().len().min(write);
                arrived.extend_from_slice(&batch.to_vec()[..take]);
                batch.advance(take);
            }
            arrived.extend_from_slice(&batch.to_vec());
            prop_assert_eq!(arrived, expected);
        }
    }
}
