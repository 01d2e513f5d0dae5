//! A packet with some of its payloads (ASF 5.2.3.3): what stays is byte for byte as it was.

use bytes::Bytes;

use super::field::Width;
use super::{Packet, PacketError};

/// Which payloads of a packet stay: a bit for each, of which there are at most 63. Equal values make equal packets.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Kept {
    mask: u64,
    seen: u8,
}

impl Kept {
    /// Decides on the next payload.
    pub(super) fn push(&mut self, keep: bool) {
        self.mask |= u64::from(keep).checked_shl(self.seen.into()).unwrap_or(0);
        self.seen = self.seen.saturating_add(1);
    }

    /// The decision as a number, for who has to keep very many of them; the highest bit is never set.
    pub fn bits(&self) -> u64 {
        self.mask
    }

    /// The decision of that number on a packet of so many payloads.
    pub fn from_bits(bits: u64, payloads: usize) -> Self {
        Self { mask: bits, seen: u8::try_from(payloads).unwrap_or(u8::MAX) }
    }

    /// No payload stays.
    pub fn is_empty(&self) -> bool {
        self.mask == 0
    }

    /// Every payload stays.
    pub fn is_all(&self) -> bool {
        !self.is_empty() && self.mask.count_ones() == u32::from(self.seen)
    }

    /// The packet that was decided on, with padding or without: the same bytes where all of it stays, none where nothing
    /// does, else the payloads that stay, without padding.
    ///
    /// # Errors
    /// Bytes that are no packet (ASF 5.2).
    pub fn apply(&self, packet: &Bytes) -> Result<Bytes, PacketError> {
        if self.is_empty() {
            return Ok(Bytes::new());
        }
        if self.is_all() {
            return Ok(packet.clone());
        }
        let parsed = Packet::parse(packet)?;
        let payloads =
            || parsed.payloads().enumerate().filter(|(index, _)| self.has(*index)).map(|(_, kept)| kept.span);
        Ok(match payloads().count() {
            0 => Bytes::new(),
            // Of another packet than the one that was decided on: a single payload has no count to be changed.
            count if count == parsed.payload_count() => packet.clone(),
            count => rewrite(&parsed, payloads, count as u8).into(),
        })
    }

    fn has(&self, index: usize) -> bool {
        self.mask & 1 << index != 0
    }
}

/// Takes `count` payloads, and no byte of memory more. The padding field goes as well: behind several payloads nothing
/// needs it.
fn rewrite<I: Iterator<Item = std::ops::Range<usize>>>(
    packet: &Packet<'_>,
    kept: impl Fn() -> I,
    count: u8,
) -> Vec<u8> {
    let (head, bytes) = (&packet.head, packet.bytes());
    let part = |range| bytes.get::<std::ops::Range<usize>>(range).unwrap_or_default();
    let before = head.payloads_at - head.padding_length.width.bytes();
    let mut out = Vec::with_capacity(before + kept().map(|span| span.len()).sum::<usize>());
    out.extend(part(0..head.padding_length.at));
    out.extend(part(head.padding_length.end()..head.payloads_at));
    if let Some(flags) = out.get_mut(head.flags_at) {
        *flags = Width::Absent.of_padding(*flags);
    }
    if let Some(flags) = out.last_mut() {
        *flags = *flags & 0xC0 | count;
    }
    kept().for_each(|span| out.extend(part(span)));
    let length = out.len() as u32;
    head.packet_length.put(&mut out, length);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    fn kept(bits: &[bool]) -> Kept {
        let mut kept = Kept::default();
        bits.iter().for_each(|&keep| kept.push(keep));
        kept
    }

    #[test]
    fn all_is_the_same_memory_and_nothing_is_no_bytes() {
        let packet = Bytes::from_static(include_bytes!("../../tests/vectors/asf/talk-packet-0.bin"));
        assert_eq!(kept(&[true, true]).apply(&packet).unwrap().as_ptr(), packet.as_ptr());
        assert_eq!(kept(&[false, false]).apply(&packet).unwrap(), Bytes::new());
        assert!(kept(&[true, false]).apply(&Bytes::from_static(&[0xFF])).is_err());
    }

    #[test]
    fn a_decision_comes_back_from_its_number() {
        for bits in [&[true, false, true][..], &[false], &[], &[true; 63]] {
            assert_eq!(Kept::from_bits(kept(bits).bits(), bits.len()), kept(bits));
        }
        assert_eq!(kept(&[true; 63]).bits(), u64::MAX >> 1);
    }

    proptest! {
        #[test]
        fn what_stays_is_what_was_decided_with_padding_or_without(
            bytes in testing::mutated(),
            bits in proptest::collection::vec(any::<bool>(), 0..7), // of as many payloads, fewer or more
        ) {
            let bytes = Bytes::from(bytes);
            let Ok(packet) = Packet::parse(&bytes) else { return Ok(()) };
            let kept = kept(&bits);
            let thin = kept.apply(&bytes).unwrap();
            let stripped = super::super::padding::strip(bytes.clone());
            let of_stripped = kept.apply(&stripped).unwrap();
            if kept.is_all() {
                prop_assert_eq!(of_stripped, stripped);
                return Ok(());
            }
            let want: Vec<_> = packet.payloads().zip(&bits).filter(|(_, keep)| **keep).map(|(p, _)| &bytes[p.span]).collect();
            if want.is_empty() {
                prop_assert!(thin.is_empty() && of_stripped.is_empty());
                return Ok(());
            }
            let after = Packet::parse(&thin).unwrap();
            let got: Vec<_> = after.payloads().map(|payload| &thin[payload.span]).collect();
            prop_assert_eq!(&got, &want);
            if want.len() < packet.payload_count() {
                prop_assert_eq!(thin, of_stripped);
            }
        }
    }
}
