//! Packets of an entry in memory: the unit in which they come from disk, and in which viewers share them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::disk;
use crate::asf::{Packet as AsfPacket, PacketNumber, padding};
use crate::session::Packet;

/// What is known of one packet number, in memory.
pub type Slot = disk::Slot<Arc<Packet>>;

/// A run of packet numbers, and what is known of each.
#[derive(Debug)]
pub struct Block {
    first: PacketNumber,
    slots: Box<[Slot]>,
}

impl Block {
    /// The slots from `first` on.
    pub fn new(first: PacketNumber, slots: impl Into<Box<[Slot]>>) -> Self {
        Self { first, slots: slots.into() }
    }

    /// What a disk gave. Padding is left out: most viewers want none, and it can be put back for the others.
    pub fn from_disk(first: PacketNumber, packets: &[disk::Slot<Bytes>]) -> Self {
        let bytes = packets.iter().filter_map(disk::Slot::packet).map(Bytes::len).sum();
        let mut arena = BytesMut::with_capacity(bytes);
        let mut cuts = Vec::with_capacity(packets.len());
        for packet in packets {
            if let Some(bytes) = packet.packet() {
                arena.extend_from_slice(&padding::strip(bytes.clone()));
            }
            cuts.push(arena.len());
        }
        let arena = arena.freeze();
        let (mut start, mut send_time_ms) = (0, 0);
        let slots = packets.iter().zip(cuts).zip(first.0..).map(|((packet, end), number)| match packet {
            disk::Slot::Unknown => Slot::Unknown,
            disk::Slot::Absent => Slot::Absent,
            disk::Slot::Present(_) => {
                let bytes = arena.slice(start..end);
                start = end;
                // What can't be read leaves with the one before it, as it came.
                send_time_ms = AsfPacket::parse(&bytes).map_or(send_time_ms, |packet| packet.send_time_ms());
                Slot::Present(Arc::new(Packet::new(PacketNumber(number), send_time_ms, bytes.clone(), bytes)))
            }
        });
        Self::new(first, slots.collect::<Vec<_>>())
    }

    /// The number of its first slot.
    pub fn first(&self) -> PacketNumber {
        self.first
    }

    /// What is known of a packet; `None` outside of the block.
    pub fn slot(&self, number: PacketNumber) -> Option<&Slot> {
        let at = usize::try_from(number.0.checked_sub(self.first.0)?).ok()?;
        self.slots.get(at)
    }

    /// All of it, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Bytes that it holds.
    pub fn weight(&self) -> u32 {
        let packets = self.slots.iter().filter_map(Slot::packet).map(|packet| packet.bytes.len() + PACKET);
        let bytes = packets.sum::<usize>() + size_of_val(&*self.slots);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What a packet costs beside its bytes: itself and its counters, and an outline once it is asked for.
const PACKET: usize = size_of::<Packet>() + 16;

#[cfg(test)]
mod tests {
    use super::super::film::{Film, STEP_MS};
    use super::*;

    #[test]
    fn what_a_disk_gave_is_without_padding_and_in_its_place() {
        let film = Film::new(2000, 4);
        let whole = |number: usize| disk::Slot::Present(film.packets[number].clone());
        let block = Block::from_disk(PacketNumber(10), &[whole(0), disk::Slot::Absent, disk::Slot::Unknown, whole(3)]);
        assert_eq!((block.first(), block.slots().len()), (PacketNumber(10), 4));
        for (number, of_film) in [(10, 0), (13, 3)] {
            let packet = block.slot(PacketNumber(number)).and_then(Slot::packet).unwrap();
            assert_eq!((packet.number.0, packet.send_time_ms), (number, of_film * STEP_MS));
            assert_eq!(packet.stripped, padding::strip(film.packets[of_film as usize].clone()));
            assert!(packet.bytes.len() < 200);
        }
        assert!(matches!(block.slot(PacketNumber(11)), Some(Slot::Absent)));
        assert!(matches!(block.slot(PacketNumber(12)), Some(Slot::Unknown)));
        assert!([9, 14, u64::MAX].into_iter().all(|outside| block.slot(PacketNumber(outside)).is_none()));
    }

    #[test]
    fn what_is_no_packet_leaves_as_it_came_with_the_one_before_it() {
        let film = Film::new(2000, 3);
        let damaged = Bytes::from(vec![0xFF; 2000]);
        let slots = [film.packets[2].clone(), damaged.clone()].map(disk::Slot::Present);
        let block = Block::from_disk(PacketNumber(0), &slots);
        let packet = block.slot(PacketNumber(1)).and_then(Slot::packet).unwrap();
        assert_eq!((packet.send_time_ms, &packet.bytes), (2 * STEP_MS, &damaged));
    }

    #[test]
    fn a_block_weighs_its_bytes_and_what_its_packets_take_beside() {
        let film = Film::new(2000, 16);
        let slots: Vec<Slot> = (0..16).map(|number| Slot::Present(film.whole(number))).collect();
        let weight = Block::new(PacketNumber(0), slots).weight() as usize;
        assert!((16 * 2000..16 * 2500).contains(&weight), "{weight}");
        let nothing = Block::new(PacketNumber(0), vec![Slot::Unknown; 16]).weight() as usize;
        assert_eq!(nothing, 16 * size_of::<Slot>());
    }
}
