//! What is on its way to a socket: messages and media in their order, as pieces of a few own bytes and a shared payload.
//!
//! A batch leaves in one vectored write. What did not fit stays where it is and goes first next time, so nothing ever
//! gets between the parts of a packet. Whoever writes for many viewers has one batch for all of them, and only what a
//! socket did not take is moved to where it waits.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use super::Packet;

/// The largest header that a protocol puts before a shared payload, bytes.
const HEAD: usize = 16;

/// Own bytes and a shared payload, which follow one another on the wire.
#[derive(Clone, Debug)]
struct Piece {
    head: [u8; HEAD],
    head_length: u8,
    body: Body,
}

/// A shared payload.
#[derive(Clone, Debug)]
enum Body {
    Bytes(Bytes),
    /// A whole packet, by the hold that its cursor gave: one more on its bytes would be another count that all threads
    /// write to.
    Packet {
        packet: Arc<Packet>,
        padded: bool,
    },
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Packet { packet, padded } => packet.whole(*padded),
        }
    }
}

impl Piece {
    fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.head_length)).unwrap_or_default()
    }

    fn len(&self) -> usize {
        usize::from(self.head_length) + self.body.bytes().len()
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
        self.push(Piece { head: [0; HEAD], head_length: 0, body: Body::Bytes(message) });
    }

    /// Appends a media packet: the header of its protocol (at most 16 bytes) and the shared payload.
    pub fn push_packet<const N: usize>(&mut self, header: [u8; N], payload: Bytes) {
        self.push_media(header, Body::Bytes(payload));
    }

    /// The same with all of a packet, `padded` as it came or without padding.
    pub fn push_whole<const N: usize>(&mut self, header: [u8; N], packet: Arc<Packet>, padded: bool) {
        self.push_media(header, Body::Packet { packet, padded });
    }

    fn push_media<const N: usize>(&mut self, header: [u8; N], body: Body) {
        const { assert!(N <= HEAD) };
        let mut head = [0; HEAD];
        head[..N].copy_from_slice(&header);
        self.packets += 1;
        // N is at most 16, as asserted above.
        self.push(Piece { head, head_length: N as u8, body });
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

    /// What is kept in memory for it, bytes: a shared payload counts in full, for nobody else may hold it any more.
    pub fn held(&self) -> usize {
        self.pieces.capacity() * size_of::<Piece>() + self.bytes
    }

    /// Takes out what has not left yet, in as much room as that needs; the room of this batch stays for what comes next.
    #[must_use]
    pub fn take_rest(&mut self) -> Self {
        let mut pieces = VecDeque::with_capacity(self.pieces.len());
        pieces.extend(self.pieces.drain(..));
        Self {
            pieces,
            sent_of_first: std::mem::take(&mut self.sent_of_first),
            bytes: std::mem::take(&mut self.bytes),
            packets: std::mem::take(&mut self.packets),
        }
    }

    /// Forgets what has not left, and keeps the room.
    pub fn clear(&mut self) {
        self.pieces.clear();
        (self.sent_of_first, self.bytes, self.packets) = (0, 0, 0);
    }

    /// Media packets that were appended since that was last taken.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Takes the count of media packets that were appended since it was last asked.
    pub fn take_packets(&mut self) -> u64 {
        std::mem::take(&mut self.packets)
    }

    /// Places that `io_slices` fills at most.
    pub fn slices(&self) -> usize {
        self.pieces.len() * 2
    }

    /// Fills `slices` with what is to be written next; returns how many are filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent_of_first;
        let parts = self.pieces.iter().flat_map(|piece| [piece.head(), piece.body.bytes()]);
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
        if self.bytes == 0 {
            // Nearly always: no need to look at each piece.
            self.pieces.clear();
        }
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

    /// The pieces in their order, each as what stands before its payload and the payload: one piece is one datagram.
    pub fn pieces(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pieces.iter().map(|piece| (piece.head(), piece.body.bytes()))
    }

    /// Moves the first `count` pieces to the end of `to`, where media packets among them count anew.
    pub fn move_pieces(&mut self, count: usize, to: &mut Self) {
        let count = count.min(self.pieces.len());
        let (mut bytes, mut packets) = (0, 0);
        to.pieces.extend(self.pieces.drain(..count).inspect(|piece| {
            bytes += piece.len();
            packets += u64::from(piece.head_length > 0);
        }));
        self.bytes = self.bytes.saturating_sub(bytes);
        self.packets = self.packets.saturating_sub(packets);
        to.bytes += bytes;
        to.packets += packets;
    }

    /// The first `count` pieces have left, or nobody wants them any more.
    pub fn drop_pieces(&mut self, count: usize) {
        if count >= self.pieces.len() {
            self.pieces.clear();
            (self.sent_of_first, self.bytes) = (0, 0);
            return;
        }
        let dropped: usize = self.pieces.drain(..count).map(|piece| piece.len()).sum();
        if count > 0 {
            self.bytes = self.bytes.saturating_sub(dropped.saturating_sub(self.sent_of_first));
            self.sent_of_first = 0;
        }
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

    #[test]
    fn what_a_socket_did_not_take_moves_on_alone_and_the_room_stays() {
        let mut scratch = Batch::new();
        for _ in 0..100 {
            scratch.push_packet(*b"12345678", Bytes::from_static(b"payload"));
        }
        assert_eq!(scratch.take_packets(), 100);
        let room = scratch.held() - scratch.bytes();
        scratch.advance(98 * 15 + 10);
        let mut rest = scratch.take_rest();
        assert_eq!(rest.to_vec(), b"yload12345678payload");
        assert!(rest.held() <= 2 * size_of::<Piece>() + rest.bytes());
        assert!(scratch.is_empty() && scratch.held() == room);
        rest.advance(5);
        scratch.push_message(Bytes::from_static(b"next"));
        assert_eq!((rest.to_vec(), scratch.to_vec()), (b"12345678payload".to_vec(), b"next".to_vec()));
        scratch.clear();
        assert!(scratch.is_empty() && scratch.to_vec().is_empty());
    }

    #[test]
    fn a_piece_is_a_datagram_and_leaves_as_a_whole() {
        let payload = Bytes::from_static(b"payload");
        let mut batch = Batch::new();
        batch.push_packet(*b"12345678", payload.clone());
        batch.push_message(Bytes::from_static(b"a piece of a header"));
        batch.push_packet(*b"87654321", Bytes::new());
        let pieces: Vec<_> = batch.pieces().collect();
        let of: [(&[u8], &[u8]); 3] = [(b"12345678", b"payload"), (b"", b"a piece of a header"), (b"87654321", b"")];
        assert_eq!(pieces, of);
        assert_eq!(pieces[0].1.as_ptr(), payload.as_ptr());
        batch.drop_pieces(0);
        assert_eq!(batch.bytes(), 15 + 19 + 8);
        let mut other = Batch::new();
        other.push_message(Bytes::from_static(b"before"));
        batch.clone().move_pieces(2, &mut other);
        assert_eq!((other.bytes(), other.pieces().count(), other.take_packets()), (6 + 15 + 19, 3, 1));
        let mut emptied = batch.clone();
        emptied.move_pieces(9, &mut other);
        assert!(emptied.is_empty() && emptied.take_packets() == 0);
        assert_eq!((other.bytes(), other.take_packets()), (6 + 15 + 19 + 15 + 19 + 8, 2));
        batch.drop_pieces(2);
        assert_eq!((batch.bytes(), batch.pieces().count()), (8, 1));
        batch.drop_pieces(9);
        assert!(batch.is_empty() && batch.pieces().next().is_none());
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
