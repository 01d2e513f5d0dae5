//! A segment: a header that can be read and checked alone, then the packets that are present, in order. A block of them can
//! be read and checked alone as well, by what the header says of it.
//!
//! ```text
//! offset  size
//!      0     8  "MMSsegm" and the version
//!      8    16  digest of the key        24  8  generation
//!     32     4  index of the segment     36  4  packet size
//!     40     4  slots of a block         44  4  slots, 1 to those of 16 blocks
//!     48     4  length of the summary
//!     52     …  two bits a slot, the first in the lowest: 0 unknown, 1 present, 2 absent at the origin
//!      …   4 n  CRC32 of the present packets of each block
//!      …     …  summary
//!      …     4  CRC32 of all before
//! ```
//! Integers are little-endian. The key and the generation stand in it so that a file in a wrong place is noticed.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};

use super::Geometry;
use super::error::{CUT_SHORT, Corrupt, check, take, take_array};
use super::name::Digest;

/// What is known of one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slot<P> {
    /// Nothing: it was not asked for yet, or what came was not believed.
    Unknown,
    /// The origin has none by this number.
    Absent,
    /// It is here.
    Present(P),
}

/// A segment that is to be sealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SegmentData {
    /// Which segment.
    pub index: u32,
    /// Its packets, at most as many as the geometry says; fewer at the end of the content.
    pub slots: Vec<Slot<Bytes>>,
    /// What the caller wants to know of them without reading them, at most [`SegmentData::MAX_SUMMARY`] bytes.
    pub summary: Bytes,
}

impl SegmentData {
    /// Bytes of the longest summary: 16 for each of the most slots.
    pub const MAX_SUMMARY: usize = Geometry::MAX_SLOTS as usize * 16;

    /// No packet is unknown.
    pub fn is_full(&self) -> bool {
        !self.slots.contains(&Slot::Unknown)
    }

    /// Bytes of the file.
    pub(super) fn file_length(&self, owner: &Owner) -> usize {
        let blocks = self.slots.len().div_ceil(owner.geometry.packets_per_block() as usize);
        let header = OPENING + self.slots.len().div_ceil(SLOTS_PER_BYTE) + (blocks + 1) * CRC + self.summary.len();
        header.saturating_add(self.packets().map(Bytes::len).sum())
    }

    /// Appends the file. Err with what can't be kept.
    pub(super) fn encode(&self, owner: &Owner, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let geometry = &owner.geometry;
        if self.slots.is_empty() || self.slots.len() > geometry.packets_per_segment() as usize {
            return Err("a segment with no slots or too many");
        }
        if self.summary.len() > Self::MAX_SUMMARY {
            return Err("a segment whose summary is too long");
        }
        if self.packets().any(|packet| packet.len() != geometry.packet_size() as usize) {
            return Err("a packet of another size than its entry has");
        }
        let begin = out.len();
        out.put_slice(MAGIC);
        out.put_slice(&owner.digest.0);
        out.put_u64_le(owner.generation);
        out.put_u32_le(self.index);
        out.put_u32_le(geometry.packet_size());
        out.put_u32_le(geometry.packets_per_block());
        out.put_u32_le(self.slots.len() as u32);
        out.put_u32_le(self.summary.len() as u32);
        for four in self.slots.chunks(SLOTS_PER_BYTE) {
            let bits = four.iter().rev().fold(0, |bits, slot| bits << 2 | slot.bits());
            out.put_u8(bits);
        }
        let blocks = self.slots.chunks(geometry.packets_per_block() as usize);
        let crcs = out.len();
        out.put_bytes(0, blocks.len() * CRC);
        out.put_slice(&self.summary);
        let header = out.len();
        out.put_bytes(0, CRC);
        for (block, slots) in blocks.enumerate() {
            let begin = out.len();
            slots.iter().filter_map(Slot::packet).for_each(|packet| out.put_slice(packet));
            // While it is near.
            let end = out.len();
            set_crc(out, begin..end, crcs + block * CRC);
        }
        set_crc(out, begin..header, header);
        Ok(())
    }

    /// The present packets, in order.
    fn packets(&self) -> impl Iterator<Item = &Bytes> {
        self.slots.iter().filter_map(Slot::packet)
    }
}

/// Puts the checksum of `range` to its place.
fn set_crc(out: &mut [u8], range: Range<usize>, place: usize) {
    let crc = crc32fast::hash(out.get(range).unwrap_or_default()).to_le_bytes();
    if let Some(place) = out.get_mut(place..).and_then(|place| place.first_chunk_mut()) {
        *place = crc;
    }
}

impl<P> Slot<P> {
    /// The packet, where it is present.
    pub fn packet(&self) -> Option<&P> {
        match self {
            Self::Present(packet) => Some(packet),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// The same of the packet where it lies.
    pub fn as_ref(&self) -> Slot<&P> {
        match self {
            Self::Unknown => Slot::Unknown,
            Self::Absent => Slot::Absent,
            Self::Present(packet) => Slot::Present(packet),
        }
    }

    /// Whether the origin need not be asked for it.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    fn bits(&self) -> u8 {
        match self {
            Self::Unknown => UNKNOWN,
            Self::Present(_) => PRESENT,
            Self::Absent => ABSENT,
        }
    }
}

/// Whose segments they are: each carries this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub digest: Digest,
    pub generation: u64,
    pub geometry: Geometry,
}

/// What a sealed segment says of its packets. It has been checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SegmentHeader {
    index: u32,
    slots: u32,
    geometry: Geometry,
    bitmap: Box<[u8]>,
    blocks: Vec<Block>,
    summary: Bytes,
    /// Bytes of the header in the file.
    length: u32,
    /// What the file was found under, and what its slots say.
    is_full: bool,
}

/// What lies in one block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Block {
    crc: u32,
    /// Present packets in the blocks before it.
    present_before: u32,
    present: u32,
}

impl SegmentHeader {
    /// How many bytes the header takes, out of its first [`OPENING`] bytes. The checksum was not looked at yet, but no length
    /// is beyond what a segment may have.
    pub(super) fn length(opening: &[u8], index: u32, owner: &Owner) -> Result<usize, Corrupt> {
        Opening::decode(&mut &*opening, index, owner).map(|opening| opening.header_length())
    }

    /// Out of exactly the bytes that [`SegmentHeader::length`] tells.
    pub(super) fn decode(header: &[u8], index: u32, owner: &Owner) -> Result<Self, Corrupt> {
        let (body, crc) = header.split_last_chunk().ok_or(CUT_SHORT)?;
        let mut bytes = body;
        let opening = Opening::decode(&mut bytes, index, owner)?;
        check(crc32fast::hash(body) == u32::from_le_bytes(*crc), "the header does not match its checksum")?;
        let bitmap = take(&mut bytes, opening.bitmap_length())?;
        let mut segment = Self {
            index,
            slots: opening.slots,
            geometry: owner.geometry,
            bitmap: bitmap.into(),
            blocks: Vec::with_capacity(opening.blocks as usize),
            summary: Bytes::new(),
            length: header.len() as u32,
            is_full: (0..opening.slots).all(|slot| bits_of(bitmap, slot) != UNKNOWN),
        };
        let mut present_before = 0;
        for block in 0..opening.blocks {
            let present = segment.slots_of(block).filter(|&slot| bits_of(bitmap, slot) == PRESENT).count() as u32;
            segment.blocks.push(Block { crc: bytes.try_get_u32_le()?, present_before, present });
            present_before += present;
        }
        let are_known = (0..opening.slots).all(|slot| bits_of(bitmap, slot) <= ABSENT);
        check(are_known, "the header has a slot of no known kind")?;
        segment.summary = Bytes::copy_from_slice(take(&mut bytes, opening.summary_length as usize)?);
        check(bytes.is_empty(), "the header is longer than it says")?;
        Ok(segment)
    }

    /// Which segment.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// How many slots it has.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// What is known of the packet in `slot`; nothing beyond the last slot.
    pub fn slot(&self, slot: u32) -> Slot<()> {
        match bits_of(&self.bitmap, slot) {
            _ if slot >= self.slots => Slot::Unknown,
            PRESENT => Slot::Present(()),
            ABSENT => Slot::Absent,
            _ => Slot::Unknown,
        }
    }

    /// How many packets are present, and how many are absent at the origin.
    pub fn counts(&self) -> (u64, u64) {
        (0..self.slots).map(|slot| self.slot(slot)).fold((0, 0), |(present, absent), slot| match slot {
            Slot::Present(()) => (present + 1, absent),
            Slot::Absent => (present, absent + 1),
            Slot::Unknown => (present, absent),
        })
    }

    /// No packet is unknown.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// How many blocks its slots take.
    pub fn blocks(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// What the caller gave along.
    pub fn summary(&self) -> &Bytes {
        &self.summary
    }

    /// Bytes of the whole file.
    pub(super) fn file_length(&self) -> u64 {
        self.blocks.last().map_or(self.length.into(), |last| self.offset(last.present_before + last.present))
    }

    /// Where the present packets of `block` lie in the file; `None` beyond the last block.
    pub(super) fn bytes_of(&self, block: u32) -> Option<Range<u64>> {
        let Block { present_before, present, .. } = self.blocks.get(block as usize)?;
        Some(self.offset(*present_before)..self.offset(present_before + present))
    }

    /// The slots of `block` out of the bytes at [`SegmentHeader::bytes_of`]; they share them.
    pub(super) fn decode_block(&self, block: u32, mut bytes: Bytes) -> Result<Vec<Slot<Bytes>>, Corrupt> {
        let Block { crc, present, .. } = self.blocks.get(block as usize).ok_or(Corrupt("there is no such block"))?;
        let packet_size = self.geometry.packet_size() as usize;
        check(bytes.len() == *present as usize * packet_size, CUT_SHORT.0)?;
        check(crc32fast::hash(&bytes) == *crc, "a block does not match its checksum")?;
        let slots = self.slots_of(block).map(|slot| match self.slot(slot) {
            Slot::Unknown => Slot::Unknown,
            Slot::Absent => Slot::Absent,
            // As many as are present, by the length.
            Slot::Present(()) => Slot::Present(bytes.split_to(packet_size.min(bytes.len()))),
        });
        Ok(slots.collect())
    }

    fn slots_of(&self, block: u32) -> Range<u32> {
        self.geometry.first_slot(block)..self.geometry.first_slot(block + 1).min(self.slots)
    }

    fn offset(&self, packets: u32) -> u64 {
        u64::from(self.length) + u64::from(packets) * u64::from(self.geometry.packet_size())
    }
}

/// The part of the header that has a fixed size.
struct Opening {
    slots: u32,
    blocks: u32,
    summary_length: u32,
}

impl Opening {
    /// Takes it, checked against where it was found.
    fn decode(bytes: &mut &[u8], index: u32, owner: &Owner) -> Result<Self, Corrupt> {
        check(take_array(bytes)? == *MAGIC, "it is no segment of this version")?;
        check(take_array(bytes)? == owner.digest.0, "it belongs to another key")?;
        check(bytes.try_get_u64_le()? == owner.generation, "it belongs to another generation")?;
        check(bytes.try_get_u32_le()? == index, "it is another segment")?;
        let geometry = Geometry::of(bytes.try_get_u32_le()?, bytes.try_get_u32_le()?);
        check(geometry == Some(owner.geometry), "its packets have another size")?;
        let slots = bytes.try_get_u32_le()?;
        check((1..=owner.geometry.packets_per_segment()).contains(&slots), "it has no slots or too many")?;
        let summary_length = bytes.try_get_u32_le()?;
        check(summary_length as usize <= SegmentData::MAX_SUMMARY, "its summary is too long")?;
        Ok(Self { slots, blocks: slots.div_ceil(owner.geometry.packets_per_block()), summary_length })
    }

    fn bitmap_length(&self) -> usize {
        (self.slots as usize).div_ceil(SLOTS_PER_BYTE)
    }

    fn header_length(&self) -> usize {
        let crcs = (self.blocks as usize + 1) * CRC;
        OPENING + self.bitmap_length() + crcs + self.summary_length as usize
    }
}

/// The two bits of a slot; those of an unknown one beyond the last.
fn bits_of(bitmap: &[u8], slot: u32) -> u8 {
    let byte = bitmap.get(slot as usize / SLOTS_PER_BYTE).copied().unwrap_or_default();
    byte >> (slot as usize % SLOTS_PER_BYTE * 2) & 3
}

/// Bytes of the part of a header that has a fixed size.
pub(super) const OPENING: usize = 52;

const MAGIC: &[u8; 8] = b"MMSsegm\x01";
const SLOTS_PER_BYTE: usize = 4;
/// Bytes of a checksum.
const CRC: usize = size_of::<u32>();

const UNKNOWN: u8 = 0;
const PRESENT: u8 = 1;
const ABSENT: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner() -> Owner {
        Owner { digest: Digest([7; 16]), generation: 9, geometry: Geometry::of(4, 3).unwrap() }
    }

    fn any_segment() -> impl Strategy<Value = SegmentData> {
        let slot = prop_oneof![
            Just(Slot::Unknown),
            Just(Slot::Absent),
            any::<[u8; 4]>().prop_map(|packet| Slot::Present(Bytes::copy_from_slice(&packet))),
        ];
        let slots = proptest::collection::vec(slot, 1..=48);
        let summary = proptest::collection::vec(any::<u8>(), 0..40);
        (slots, summary).prop_map(|(slots, summary)| SegmentData { index: 5, slots, summary: summary.into() })
    }

    /// Behind something else.
    fn encode(segment: &SegmentData) -> Vec<u8> {
        let mut out = b"before".to_vec();
        segment.encode(&owner(), &mut out).unwrap();
        out.split_off(6)
    }

    /// Reads as the store does.
    fn decode(file: &[u8]) -> Result<(SegmentHeader, Vec<Slot<Bytes>>), Corrupt> {
        let length = SegmentHeader::length(file, 5, &owner())?;
        let header = SegmentHeader::decode(file.get(..length).ok_or(CUT_SHORT)?, 5, &owner())?;
        let mut slots = Vec::new();
        for block in 0..header.blocks() {
            let range = header.bytes_of(block).unwrap();
            let bytes = file.get(range.start as usize..range.end as usize).ok_or(CUT_SHORT)?;
            slots.extend(header.decode_block(block, Bytes::copy_from_slice(bytes))?);
        }
        Ok((header, slots))
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(segment in any_segment()) {
            let file = encode(&segment);
            prop_assert_eq!(segment.file_length(&owner()), file.len());
            let (header, slots) = decode(&file).unwrap();
            prop_assert_eq!(header.file_length(), file.len() as u64);
            prop_assert_eq!(header.is_full(), segment.is_full());
            let kinds = slots.iter().map(|slot| match slot {
                Slot::Unknown => Slot::Unknown,
                Slot::Absent => Slot::Absent,
                Slot::Present(_) => Slot::Present(()),
            });
            prop_assert!((0..header.slots()).map(|slot| header.slot(slot)).eq(kinds));
            prop_assert_eq!((header.slot(header.slots()), header.summary()), (Slot::Unknown, &segment.summary));
            prop_assert_eq!(slots, segment.slots);
        }

        #[test]
        fn any_header_with_a_right_checksum_decodes_or_errs(
            segment in any_segment(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            more in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut file = encode(&segment);
            file.truncate(SegmentHeader::length(&file, 5, &owner()).unwrap());
            // Past what would be refused at once.
            changes.iter().for_each(|(at, to)| *at.get_mut(&mut file[40..]) = *to);
            file.extend(more);
            if let Ok(length) = SegmentHeader::length(&file, 5, &owner()) && length <= file.len() {
                let crc = crc32fast::hash(&file[..length - 4]).to_le_bytes();
                file[length - 4..length].copy_from_slice(&crc);
            }
            if let Ok((header, slots)) = decode(&file) {
                prop_assert_eq!(slots.len(), header.slots() as usize);
            }
        }
    }

    #[test]
    fn the_layout_is_the_one_that_is_drawn() {
        let packet = Bytes::from_static(b"pack");
        let slots = vec![Slot::Present(packet.clone()), Slot::Unknown, Slot::Absent, Slot::Present(packet)];
        let segment = SegmentData { index: 5, slots, summary: Bytes::from_static(b"sum") };
        let file = encode(&segment);
        let mut drawn = b"MMSsegm\x01".to_vec();
        drawn.extend([7; 16]);
        drawn.extend([9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0]);
        drawn.push(0b01_10_00_01);
        // Two blocks of one packet each.
        drawn.extend([crc32fast::hash(b"pack").to_le_bytes(); 2].concat());
        drawn.extend(b"sum");
        drawn.extend(crc32fast::hash(&drawn).to_le_bytes());
        drawn.extend(b"packpack");
        assert_eq!(file, drawn);
        assert_eq!(OPENING, 52);
    }
}
