//! Padding, which a packet has in a file and loses on the wire: dropped for a viewer, put back for a file (ASF 5.2.4).
//!
//! Only what every player reads is dropped. A player pads what it receives to the packet size with zeros; that is safe
//! behind several payloads, each of which says how long it is, but a single payload would grow by it. So packets with a
//! single payload leave as they are.

use bytes::{Bytes, BytesMut};

use super::field::Width;
use super::packet::Head;
use super::{Packet, PacketError};

/// Drops the padding behind several payloads and says 0 in Padding Length. Where nothing changes, and where the bytes are
/// no packet, what comes back is the same.
pub fn strip(packet: Bytes) -> Bytes {
    let Some(plan) = Strip::plan(&packet) else {
        return packet;
    };
    let cut = packet.slice(..plan.end);
    if plan.is_cut_only() {
        return cut;
    }
    let mut owned = BytesMut::from(&cut[..]);
    plan.write(&mut owned);
    owned.freeze()
}

/// [`strip`] for a buffer of our own.
pub fn strip_in_place(packet: &mut BytesMut) {
    if let Some(plan) = Strip::plan(packet) {
        plan.write(packet);
        packet.truncate(plan.end);
    }
}

/// What stripping changes in a packet with several payloads.
struct Strip {
    head: Head,
    end: usize,
}

impl Strip {
    fn plan(packet: &[u8]) -> Option<Self> {
        let parsed = Packet::parse(packet).ok().filter(Packet::is_multiple)?;
        let plan = Self { end: parsed.end(), head: parsed.head };
        (plan.end < packet.len() || !plan.is_cut_only()).then_some(plan)
    }

    /// No field has to be written.
    fn is_cut_only(&self) -> bool {
        let length = self.head.packet_length;
        self.head.padding_length.value == 0 && (length.width == Width::Absent || length.value as usize == self.end)
    }

    fn write(&self, packet: &mut [u8]) {
        self.head.padding_length.put(packet, 0);
        self.head.packet_length.put(packet, self.end as u32); // not wider than what stood there: end is within it
    }
}

/// Why a packet can't be written into a file of fixed-size packets.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RestoreError {
    #[error("a packet of {length} bytes, the file's packets have {packet_size}")]
    TooLong { length: usize, packet_size: usize },
    #[error(transparent)]
    Packet(#[from] PacketError),
}

/// Brings a packet to `packet_size`, in one form, however much of its padding an origin or a proxy had dropped: zeros
/// behind the last payload, their number in Padding Length, which becomes a WORD where it was too narrow for it.
pub fn restore(packet: &[u8], packet_size: usize) -> Result<Vec<u8>, RestoreError> {
    if packet.len() > packet_size {
        return Err(RestoreError::TooLong { length: packet.len(), packet_size });
    }
    let parsed = Packet::parse(packet)?;
    let (head, end) = (&parsed.head, parsed.end());
    let (length, field) = (head.packet_length, head.padding_length);
    // Where Packet Length can't count the padding it ends the packet before it, and readers skip what follows.
    let uncounted = length.width != Width::Absent && packet_size as u64 > length.width.max().into();
    let padding = packet_size - end;
    let width = match padding as u64 {
        padding if uncounted || padding <= field.width.max().into() => field.width,
        1 => Width::Byte, // and this byte of header is the padding
        2..=0xFFFF => Width::Word,
        _ => Width::Dword,
    };
    // A wider field moves the payloads by as much as the padding shrinks.
    let moved = width.bytes() - field.width.bytes().min(width.bytes());
    let padding = if uncounted { 0 } else { padding.saturating_sub(moved) };

    let mut out = Vec::with_capacity(packet_size);
    out.extend(packet.get(..field.at).unwrap_or_default());
    out.resize(out.len() + width.bytes(), 0);
    out.extend(packet.get(field.end()..end).unwrap_or_default());
    width.put(&mut out, field.at, padding as u32);
    length.put(&mut out, if uncounted { end as u32 } else { packet_size as u32 });
    if let Some(flags) = out.get_mut(head.flags_at) {
        *flags = width.of_padding(*flags);
    }
    out.resize(packet_size, 0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Payload;
    use super::super::testing::{self, BYTE_PADDING, MULTIPLE, SINGLE, WORD_PADDING};
    use super::*;

    /// What a decoder gets of a packet: each payload, but for its place, and the data.
    fn kept(packet: &[u8]) -> Vec<(Payload, Vec<u8>)> {
        let parsed = Packet::parse(packet).unwrap();
        let kept = parsed.payloads().map(|mut payload| {
            let data = packet[payload.data.clone()].to_vec();
            (payload.span, payload.data, payload.replicated_at) = (0..0, 0..0, 0);
            (payload, data)
        });
        kept.collect()
    }

    #[test]
    fn padding_behind_several_payloads_is_dropped() {
        let packet = Bytes::from_static(WORD_PADDING);
        let stripped = strip(packet.clone());
        assert_eq!(stripped.len(), 2909);
        assert_eq!(stripped[..9], [0x82, 0, 0, 0x11, 0x5D, 0, 0, 0x61, 0x0B]);
        assert_eq!(stripped[9..], WORD_PADDING[9..2909]);
        assert_eq!(restore(&stripped, 3200).unwrap(), WORD_PADDING);
        assert_eq!(strip(Bytes::from_static(BYTE_PADDING)).len(), 3200 - 164);
        let mut owned = BytesMut::from(&packet[..]);
        strip_in_place(&mut owned);
        assert_eq!(owned, stripped);
    }

    #[test]
    fn a_full_or_single_packet_comes_back_as_it_is() {
        for packet in [MULTIPLE, SINGLE, &[0xFF; 9]] {
            let packet = Bytes::from_static(packet);
            assert_eq!(strip(packet.clone()).as_ptr(), packet.as_ptr());
            assert_eq!(strip(packet.clone()), packet);
        }
    }

    #[test]
    fn padding_that_the_field_cannot_hold_gets_a_word() {
        let narrow = [&BYTE_PADDING[..3036], &[0; 0]].concat();
        let wide = restore(&narrow, 3500).unwrap();
        assert_eq!(wide[3], 0x11);
        assert_eq!(wide[5..7], (3500 - 3036 - 1_u16).to_le_bytes());
        assert_eq!(kept(&wide), kept(BYTE_PADDING));
    }

    #[test]
    fn a_packet_that_is_too_long_is_refused() {
        let refusal = restore(SINGLE, 3199).unwrap_err();
        assert_eq!(refusal.to_string(), "a packet of 3200 bytes, the file's packets have 3199");
    }

    proptest! {
        #[test]
        fn stripping_keeps_the_payloads(packet in testing::mutated(), more in 0..40_usize) {
            let stripped = strip(packet.clone().into());
            prop_assert!(stripped.len() <= packet.len());
            let mut owned = BytesMut::from(&packet[..]);
            strip_in_place(&mut owned);
            prop_assert_eq!(&owned, &stripped);
            if Packet::parse(&packet).is_err() {
                prop_assert_eq!(&stripped, &packet);
                return Ok(());
            }
            prop_assert_eq!(kept(&stripped), kept(&packet));
            prop_assert_eq!(strip(stripped.clone()), stripped.clone());
            let size = packet.len() + more;
            prop_assert_eq!(restore(&stripped, size).unwrap(), restore(&packet, size).unwrap());
            if Packet::parse(&packet).unwrap().is_multiple() {
                // As players do it.
                let mut padded = stripped.to_vec();
                padded.resize(size, 0);
                prop_assert_eq!(kept(&padded), kept(&packet));
            }
        }

        #[test]
        fn a_restored_packet_has_its_size_and_one_form(packet in testing::mutated(), more in 0..600_usize) {
            let size = packet.len() + more;
            if let Ok(restored) = restore(&packet, size) {
                prop_assert_eq!(restored.len(), size);
                prop_assert_eq!(kept(&restored), kept(&packet));
                prop_assert_eq!(restore(&restored, size).unwrap(), restored);
            }
        }
    }
}
