//! Whether two packets are the same but for what padding is made of (ASF 5.2.2): an origin that drops the padding leaves
//! no way to know the bytes that were there.
//!
//! Two packets are equal when they are so without their padding, the fields Padding Length and Packet Length, and the bits
//! of Length Type Flags that say how wide these two are. Everything else counts, error correction data included.
//!
//! What can't be told: a single payload reaches up to the padding, so where somebody put zeros behind it and left Padding
//! Length as it was, the zeros are payload, to players as well as here. Such a packet is not equal to what it was made
//! from. Neither is a single payload that was rewritten as several, of which there is one.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::Packet;

/// SHA-256 of what counts: the same for equal packets alone. `None` where the bytes are no packet.
pub fn digest(packet: &[u8]) -> Option<[u8; 32]> {
    let parsed = Packet::parse(packet).ok()?;
    let head = &parsed.head;
    let part = |range: Range<usize>| packet.get(range).unwrap_or_default();
    let flags = packet.get(head.flags_at)? & !WIDTHS;
    let counts = Sha256::new()
        .chain_update(part(0..head.flags_at))
        .chain_update([flags])
        .chain_update(part(head.flags_at + 1..head.packet_length.at))
        .chain_update(part(head.packet_length.end()..head.padding_length.at))
        .chain_update(part(head.padding_length.end()..parsed.end()));
    Some(counts.finalize().into())
}

/// The bits of Length Type Flags that are the types of Padding Length and Packet Length.
const WIDTHS: u8 = 0b0111_1000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::padding::{restore, strip};
    use super::super::testing::{self, BYTE_PADDING, MULTIPLE, SINGLE, WORD_PADDING};
    use super::super::{HeaderBuilder, MediaObject, Packetizer, StreamNumber};
    use super::*;

    const RECORDED: [&[u8]; 4] = [MULTIPLE, SINGLE, BYTE_PADDING, WORD_PADDING];

    fn stripped(packet: &[u8]) -> Bytes {
        strip(Bytes::copy_from_slice(packet))
    }

    #[test]
    fn recorded_packets_are_equal_however_they_are_padded_and_to_no_other() {
        let digests: Vec<_> = RECORDED.iter().map(|packet| digest(packet).unwrap()).collect();
        for (packet, whole) in RECORDED.iter().zip(&digests) {
            assert_eq!(digest(&stripped(packet)), Some(*whole));
            // Wide enough for Padding Length to become a WORD, then a DWORD.
            for size in [3200, 3700, 70_000] {
                assert_eq!(digest(&restore(packet, size).unwrap()), Some(*whole));
                assert_eq!(digest(&restore(&stripped(packet), size).unwrap()), Some(*whole));
            }
            assert_eq!(digests.iter().filter(|digest| *digest == whole).count(), 1);
        }
    }

    #[test]
    fn what_the_padding_is_filled_with_does_not_count() {
        let mut packet = WORD_PADDING.to_vec();
        packet[2909..].fill(0xAA);
        packet[5..7].fill(0); // and what Padding Length says of it
        assert_eq!(digest(&packet), digest(WORD_PADDING));
    }

    #[test]
    fn zeros_that_no_field_counts_are_part_of_a_single_payload() {
        let padded = [SINGLE, &[0; 5]].concat();
        assert_ne!(digest(&padded), digest(SINGLE));
        assert_eq!(digest(&restore(SINGLE, 3205).unwrap()), digest(SINGLE));
    }

    #[test]
    fn bytes_that_are_no_packet_have_no_digest() {
        assert_eq!(digest(&[]), None);
        assert_eq!(digest(&[0xFF; 9]), None);
        assert_eq!(digest(&MULTIPLE[..100]), None);
    }

    proptest! {
        #[test]
        fn stripped_and_restored_packets_are_equal(packet in testing::mutated(), more in 0..600_usize) {
            let whole = digest(&packet);
            prop_assert_eq!(whole.is_some(), Packet::parse(&packet).is_ok());
            if whole.is_some() {
                prop_assert_eq!(digest(&stripped(&packet)), whole);
                prop_assert_eq!(digest(&restore(&packet, packet.len() + more).unwrap()), whole);
            }
        }

        #[test]
        fn how_wide_the_two_lengths_are_does_not_count(
            plan in testing::plan(),
            packet_length in prop_oneof![Just(0_u8), Just(2), Just(3)],
            padding_length in 2..=3_u8,
            padding in 0..600_usize,
        ) {
            let other = testing::Plan { packet_length, padding_length, padding, ..plan.clone() };
            prop_assert_eq!(digest(&other.bytes()), digest(&plan.bytes()));
        }

        #[test]
        fn every_other_byte_counts(
            objects in proptest::collection::vec((1..4_u16, any::<bool>(), proptest::collection::vec(any::<u8>(), 1..300)), 1..12),
            which: Index,
            at: Index,
            change in 1..=255_u8,
        ) {
            let mut packetizer = Packetizer::new(&HeaderBuilder::new(400).build().unwrap());
            let mut packets = Vec::new();
            for (stream, key_frame, data) in &objects {
                let stream = StreamNumber::new(*stream).unwrap();
                packetizer.push(&MediaObject { stream, key_frame: *key_frame, content_ms: 5, data }, &mut packets);
            }
            packets.extend(packetizer.flush());
            let recorded = RECORDED.map(Bytes::from_static);
            for packet in [which.get(&packets), which.get(&recorded)] {
                let parsed = Packet::parse(packet).unwrap();
                let (flags, padding) = (parsed.head.flags_at, &parsed.head.padding_length);
                let counts: Vec<_> = (0..parsed.end())
                    .filter(|at| *at != flags && !(padding.at..padding.end()).contains(at))
                    .collect();
                let mut changed = packet.to_vec();
                changed[*at.get(&counts)] ^= change;
                prop_assert_ne!(digest(&changed), digest(packet));
            }
        }
    }
}
