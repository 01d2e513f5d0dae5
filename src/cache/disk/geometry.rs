//! How the packets of an entry are laid into segments and blocks. A segment is what is sealed, kept and evicted; a block is
//! what is read and checked at once.

/// Sizes of one entry, fixed when it is created. A block has the same number of slots everywhere, a segment
/// [`Geometry::BLOCKS`] blocks; the last segment of the content may have fewer slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    packet_size: u32,
    packets_per_block: u32,
}

/// Where a packet lies.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Which segment.
    pub segment: u32,
    /// Which of its packets.
    pub slot: u32,
}

impl Geometry {
    /// Blocks in a segment.
    pub const BLOCKS: u32 = 16;
    /// The largest packet that can be kept, in bytes.
    pub const MAX_PACKET_SIZE: u32 = 1024 * 1024;
    /// The largest number of slots in a segment.
    pub const MAX_SLOTS: u32 = Self::BLOCKS * MAX_PACKETS_PER_BLOCK;

    /// Blocks of about 256 KiB, of one packet at least. `None` for packets of 0 or of more than
    /// [`Geometry::MAX_PACKET_SIZE`] bytes.
    pub fn for_packets_of(packet_size: u32) -> Option<Self> {
        let packets_per_block = BLOCK_BYTES.checked_div(packet_size)?.clamp(1, MAX_PACKETS_PER_BLOCK);
        Self::of(packet_size, packets_per_block)
    }

    /// As it was kept with an entry.
    pub(super) fn of(packet_size: u32, packets_per_block: u32) -> Option<Self> {
        let fits = (1..=Self::MAX_PACKET_SIZE).contains(&packet_size)
            && (1..=MAX_PACKETS_PER_BLOCK).contains(&packets_per_block)
            && u64::from(packet_size) * u64::from(packets_per_block) <= u64::from(Self::MAX_PACKET_SIZE);
        fits.then_some(Self { packet_size, packets_per_block })
    }

    /// Bytes of each packet.
    pub fn packet_size(&self) -> u32 {
        self.packet_size
    }

    /// Slots of a block.
    pub fn packets_per_block(&self) -> u32 {
        self.packets_per_block
    }

    /// Slots of a segment.
    pub fn packets_per_segment(&self) -> u32 {
        self.packets_per_block * Self::BLOCKS
    }

    /// Where packet `number` lies; `None` beyond what segments can be counted.
    pub fn place(&self, number: u64) -> Option<Place> {
        let per_segment = u64::from(self.packets_per_segment());
        let segment = u32::try_from(number / per_segment).ok()?;
        Some(Place { segment, slot: (number % per_segment) as u32 })
    }

    /// The number of the packet in the first slot of `segment`.
    pub fn first_packet(&self, segment: u32) -> u64 {
        u64::from(segment) * u64::from(self.packets_per_segment())
    }

    /// The number of the packet in the first slot of block `block` of `segment`.
    pub fn first_of_block(&self, segment: u32, block: u32) -> u64 {
        self.first_packet(segment).saturating_add(self.first_slot(block).into())
    }

    /// The block that slot `slot` of a segment lies in.
    pub fn block_of(&self, slot: u32) -> u32 {
        slot / self.packets_per_block
    }

    /// The first slot of block `block` of a segment.
    pub fn first_slot(&self, block: u32) -> u32 {
        block.saturating_mul(self.packets_per_block)
    }
}

/// A read that disks and page caches like, and little enough to wait for.
const BLOCK_BYTES: u32 = 256 * 1024;

/// Bounds what a header says of its packets where packets are tiny.
const MAX_PACKETS_PER_BLOCK: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_about_256_kib_and_one_packet_at_least() {
        let per_block = |size| Geometry::for_packets_of(size).map(|geometry| geometry.packets_per_block());
        assert_eq!(per_block(1450), Some(180));
        assert_eq!(per_block(8000), Some(32));
        assert_eq!(per_block(300_000), Some(1));
        assert_eq!(per_block(1), Some(2048));
        assert_eq!((per_block(0), per_block(Geometry::MAX_PACKET_SIZE + 1)), (None, None));
    }

    #[test]
    fn each_packet_has_one_place() {
        let geometry = Geometry::for_packets_of(65_536).unwrap();
        assert_eq!(geometry.packets_per_segment(), 64);
        for number in 0..1000 {
            let place = geometry.place(number).unwrap();
            assert_eq!(geometry.first_packet(place.segment) + u64::from(place.slot), number);
            let first = geometry.first_slot(geometry.block_of(place.slot));
            assert!((first..first + geometry.packets_per_block()).contains(&place.slot));
        }
        assert_eq!(geometry.place(64 << 32), None);
    }
}
