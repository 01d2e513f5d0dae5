//! What is known of the packets of one file: some on disk, some in memory until they are there, too.

use std::ops::Range;
use std::sync::Arc;

use super::block::Slot;
use super::disk::{self, SegmentHeader};
use super::summary;
use crate::asf::{Header, KeyFrames};

/// The packets of one file.
#[derive(Debug, Default)]
pub struct Segment {
    file: Option<OnDisk>,
    /// In memory, by slot; empty where nothing is. What is here goes before the file.
    fresh: Vec<Slot>,
    /// How many of `fresh` are known.
    fresh_known: u32,
    /// Of the packets of `fresh`; `None` where some of them have gone since.
    times: Option<KeyFrames>,
}

/// What a file has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OnDisk {
    /// All that there is.
    Whole {
        /// How many of its slots are absent.
        absent: u32,
    },
    /// Some of it.
    Part(Arc<Presence>),
}

/// Which slots of a file are known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Presence {
    /// A bit for each slot.
    known: Vec<u64>,
    present: u32,
    absent: u32,
}

impl Presence {
    /// Out of what is known of each slot, in order.
    pub fn new<P>(slots: impl Iterator<Item = disk::Slot<P>>) -> Self {
        let mut presence = Self::default();
        for (at, slot) in slots.enumerate() {
            if at % 64 == 0 {
                presence.known.push(0);
            }
            match slot {
                disk::Slot::Unknown => continue,
                disk::Slot::Absent => presence.absent += 1,
                disk::Slot::Present(_) => presence.present += 1,
            }
            if let Some(word) = presence.known.last_mut() {
                *word |= 1 << (at % 64);
            }
        }
        presence
    }

    /// As a file says.
    pub fn of(header: &SegmentHeader) -> Self {
        Self::new((0..header.slots()).map(|slot| header.slot(slot)))
    }

    fn is_known(&self, slot: u32) -> bool {
        self.known.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }
}

impl OnDisk {
    /// What a file of these has.
    pub fn of<P>(slots: &[disk::Slot<P>]) -> Self {
        let presence = Presence::new(slots.iter().map(disk::Slot::as_ref));
        if slots.iter().all(disk::Slot::is_known) {
            Self::Whole { absent: presence.absent }
        } else {
            Self::Part(Arc::new(presence))
        }
    }
}

impl Segment {
    /// What a disk has.
    pub fn stored(file: OnDisk) -> Self {
        Self { file: Some(file), ..Self::default() }
    }

    pub fn is_on_disk(&self, slot: u32) -> bool {
        match &self.file {
            None => false,
            Some(OnDisk::Whole { .. }) => true,
            Some(OnDisk::Part(presence)) => presence.is_known(slot),
        }
    }

    pub fn is_known(&self, slot: u32) -> bool {
        self.fresh.get(slot as usize).is_some_and(Slot::is_known) || self.is_on_disk(slot)
    }

    /// What memory has of a range, up to the first slot that it has not.
    pub fn fresh_run(&self, range: Range<u32>) -> Vec<Slot> {
        let slots = self.fresh.iter().skip(range.start as usize).take(range.len());
        slots.take_while(|slot| slot.is_known()).cloned().collect()
    }

    pub fn fresh_slots(&self) -> Vec<Slot> {
        self.fresh.clone()
    }

    /// The times of what memory has, as far as they were kept.
    pub fn fresh_times(&self) -> Option<&KeyFrames> {
        self.times.as_ref()
    }

    pub fn has_fresh(&self) -> bool {
        self.fresh_known > 0
    }

    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The first slot from `from` on that is known, or that is not, of `slots`.
    pub fn next(&self, from: u32, slots: u32, is_known: bool) -> Option<u32> {
        if matches!(self.file, Some(OnDisk::Whole { .. })) {
            return (is_known && from < slots).then_some(from);
        }
        (from..slots).find(|slot| self.is_known(*slot) == is_known)
    }

    /// Whether nothing of the first `slots` is unknown.
    pub fn is_whole(&self, slots: u32) -> bool {
        self.next(0, slots, false).is_none()
    }

    /// Present and absent, of the first `slots`.
    pub fn counts(&self, slots: u32) -> (u64, u64) {
        let (present, absent) = match &self.file {
            Some(OnDisk::Whole { absent }) => (u64::from(slots.saturating_sub(*absent)), u64::from(*absent)),
            Some(OnDisk::Part(presence)) => (presence.present.into(), presence.absent.into()),
            None => (0, 0),
        };
        let (fresh_present, fresh_absent) = self.fresh_counts(slots);
        (present + fresh_present, absent + fresh_absent)
    }

    /// Present and absent in memory alone, of the first `slots`.
    pub fn fresh_counts(&self, slots: u32) -> (u64, u64) {
        let mut counts = (0, 0);
        for (slot, known) in (0..slots).zip(&self.fresh) {
            match known {
                _ if self.is_on_disk(slot) => {}
                Slot::Unknown => {}
                Slot::Absent => counts.1 += 1,
                Slot::Present(_) => counts.0 += 1,
            }
        }
        counts
    }

    /// Takes what was unknown; `false` where it was not.
    pub fn put(&mut self, slot: u32, slots: u32, value: Slot, header: &Header) -> bool {
        if self.is_known(slot) {
            return false;
        }
        if self.fresh.is_empty() {
            self.fresh.resize(slots as usize, Slot::Unknown);
            self.times = Some(summary::empty(header));
        }
        let Some(place) = self.fresh.get_mut(slot as usize) else { return false };
        // Now, as what has just come is near.
        if let (Some(times), Some(packet)) = (&mut self.times, value.packet()) {
            summary::add_packet(times, packet.number, &packet.stripped);
        }
        *place = value;
        self.fresh_known += 1;
        true
    }

    /// A file has been written with `written` of memory in it. Returns the bytes of media that memory lets go.
    pub fn seal(&mut self, file: OnDisk, written: &[Slot]) -> u64 {
        self.file = Some(file);
        let mut freed = 0;
        for (place, _) in self.fresh.iter_mut().zip(written).filter(|(_, written)| written.is_known()) {
            if place.is_known() {
                freed += place.packet().map_or(0, |packet| packet.bytes.len() as u64);
                *place = Slot::Unknown;
                self.fresh_known -= 1;
            }
        }
        if self.fresh_known == 0 {
            self.fresh = Vec::new();
        }
        self.times = None;
        freed
    }

    pub fn lose_file(&mut self) {
        self.file = None;
    }

    /// Lets go of what memory has; returns the bytes of media.
    pub fn drop_fresh(&mut self) -> u64 {
        let freed = self.fresh.iter().filter_map(Slot::packet).map(|packet| packet.bytes.len() as u64).sum();
        self.fresh = Vec::new();
        self.fresh_known = 0;
        self.times = None;
        freed
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::film::Film;
    use super::*;
    use crate::asf::PacketNumber;
    use crate::session::Packet;

    fn packet(length: usize) -> Slot {
        let bytes = Bytes::from(vec![7; length]);
        Slot::Present(Arc::new(Packet::new(PacketNumber(0), 0, bytes.clone(), bytes)))
    }

    fn header() -> Header {
        Header::clone(&Film::new(500, 1).opened.header)
    }

    fn part(slots: impl IntoIterator<Item = Option<bool>>) -> OnDisk {
        let slot = |is_present: Option<bool>| match is_present {
            None => disk::Slot::Unknown,
            Some(false) => disk::Slot::Absent,
            Some(true) => disk::Slot::Present(()),
        };
        OnDisk::Part(Arc::new(Presence::new(slots.into_iter().map(slot))))
    }

    proptest! {
        #[test]
        fn a_file_in_part_has_what_was_told(slots in proptest::collection::vec(any::<Option<bool>>(), 0..200)) {
            let segment = Segment::stored(part(slots.clone()));
            let length = slots.len() as u32;
            for (at, slot) in (0..).zip(&slots) {
                prop_assert_eq!((segment.is_known(at), segment.is_on_disk(at)), (slot.is_some(), slot.is_some()));
                for is_known in [false, true] {
                    let next = (at..).zip(&slots[at as usize..]).find(|(_, slot)| slot.is_some() == is_known);
                    prop_assert_eq!(segment.next(at, length, is_known), next.map(|(at, _)| at));
                }
            }
            prop_assert!(!segment.is_known(length) && !segment.is_known(u32::MAX));
            let count = |wanted| slots.iter().filter(|slot| **slot == Some(wanted)).count() as u64;
            prop_assert_eq!(segment.counts(length), (count(true), count(false)));
            prop_assert_eq!(segment.is_whole(length), slots.iter().all(Option::is_some));
        }
    }

    #[test]
    fn sealing_lets_go_of_what_was_written_and_keeps_what_came_since() {
        let mut segment = Segment::default();
        assert!(segment.put(1, 4, packet(10), &header()) && segment.put(2, 4, Slot::Absent, &header()));
        assert!(!segment.put(1, 4, packet(99), &header()), "it is known");
        assert!(!segment.put(4, 4, packet(99), &header()), "there is no such slot");
        let written = segment.fresh_slots();
        assert!(segment.put(3, 4, packet(30), &header()));
        assert_eq!(segment.seal(part([None, Some(true), Some(false)]), &written), 10);
        assert_eq!((segment.counts(4), segment.has_fresh(), segment.is_whole(4)), ((2, 1), true, false));
        assert_eq!((segment.fresh_run(0..4).len(), segment.fresh_run(3..4).len()), (0, 1));
        assert_eq!(segment.drop_fresh(), 30);
        assert_eq!((segment.counts(4), segment.has_fresh(), segment.drop_fresh()), ((1, 1), false, 0));
    }

    #[test]
    fn what_is_let_go_while_it_is_written_is_not_given_back_twice() {
        let mut segment = Segment::default();
        assert!(segment.put(0, 2, packet(10), &header()));
        let written = segment.fresh_slots();
        assert_eq!(segment.drop_fresh(), 10);
        assert_eq!(segment.seal(part([Some(true)]), &written), 0);
        assert_eq!((segment.counts(2), segment.has_fresh()), ((1, 0), false));
    }

    #[test]
    fn of_a_whole_file_nothing_is_unknown_until_it_is_lost() {
        let mut segment = Segment::stored(OnDisk::Whole { absent: 3 });
        assert_eq!(
            (segment.next(0, 16, false), segment.next(5, 16, true), segment.next(16, 16, true)),
            (None, Some(5), None)
        );
        assert_eq!((segment.counts(16), segment.is_whole(16)), ((13, 3), true));
        segment.lose_file();
        assert_eq!((segment.next(0, 16, false), segment.counts(16), segment.has_file()), (Some(0), (0, 0), false));
        assert!(segment.put(5, 16, packet(1), &header()));
    }
}
