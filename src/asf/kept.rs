//! A packet with some of its payloads (ASF 5.2.3.3): what stays is byte for byte as it was.

use bytes::Bytes;

use super::Packet;
use super::field::Width;

/// Which payloads of a packet stay: a bit for each, of which there are at most 63.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    mask: u64,
    seen: u32,
}

impl Kept {
    /// Decides on the next payload.
    pub(super) fn push(&mut self, keep: bool) {
        self.mask |= u64::from(keep).checked_shl(self.seen).unwrap_or(0);
        self.seen += 1;
    }

    /// No payload stays.
    pub(super) fn is_empty(&self) -> bool {
        self.mask == 0
    }

    /// Every payload stays.
    pub(super) fn is_all(&self) -> bool {
        self.mask.count_ones() == self.seen
    }

    /// The packet without the others and without padding. Its padding field goes as well: behind several payloads nothing
    /// needs it, and of a packet with a single one either all stays or nothing.
    pub(super) fn rewrite(&self, packet: &Packet<'_>, bytes: &[u8]) -> Bytes {
        let head = &packet.head;
        let part = |range| bytes.get::<std::ops::Range<usize>>(range).unwrap_or_default();
        let mut out = Vec::with_capacity(packet.end());
        out.extend(part(0..head.padding_length.at));
        out.extend(part(head.padding_length.end()..head.payloads_at));
        if let Some(flags) = out.get_mut(head.flags_at) {
            *flags = Width::Absent.of_padding(*flags);
        }
        if let Some(flags) = out.last_mut() {
            *flags = *flags & 0xC0 | self.mask.count_ones() as u8;
        }
        for (index, payload) in packet.payloads().enumerate() {
            if self.mask & 1 << index != 0 {
                out.extend(part(payload.span));
            }
        }
        let length = out.len() as u32;
        head.packet_length.put(&mut out, length);
        out.into()
    }
}
