//! A viewer's way through an entry: out of memory, out of a block from disk, or to a place that has to be asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::block::{Block, Slot};
use super::entry::Look;
use super::keeper::Hold;
use super::summary::Located;
use crate::asf::PacketNumber;
use crate::session::archive::{Access, Archive};
use crate::session::{Packet, Reason, Refusal};

/// What a reader can't go on without, told to whoever can get it.
#[derive(Debug, Default)]
pub struct Want {
    /// The packet, plus one; 0 is none.
    number: AtomicU64,
    /// Rung when that changes from none to something.
    bell: Notify,
    /// Why it can't be had.
    refusal: parking_lot::Mutex<Option<Refusal>>,
}

impl Want {
    /// What is wanted now.
    pub fn number(&self) -> Option<PacketNumber> {
        self.number.load(Ordering::Acquire).checked_sub(1).map(PacketNumber)
    }

    /// Waits until something is wanted.
    pub async fn wanted(&self) -> PacketNumber {
        loop {
            if let Some(number) = self.number() {
                return number;
            }
            self.bell.notified().await;
        }
    }

    /// It can't be had: the reader ends.
    pub fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock() = Some(refusal);
    }

    fn set(&self, number: Option<PacketNumber>) {
        let value = number.map_or(0, |number| number.0.saturating_add(1));
        if self.number.swap(value, Ordering::AcqRel) == 0 && value != 0 {
            self.bell.notify_one();
        }
    }
}

/// Reads an entry packet by packet.
#[derive(Debug)]
pub struct Reader {
    hold: Hold,
    bell: Arc<Notify>,
    want: Arc<Want>,
    /// Where it is, for who decides what stays in memory.
    place: Arc<AtomicU64>,
    block: Option<Arc<Block>>,
    /// All that was read so far was lent.
    is_among_lent: bool,
    /// Nothing was read yet: a viewer waits.
    is_first: bool,
    /// Something is wanted.
    is_wanting: bool,
    /// Files that were read.
    played: Option<(u32, u32)>,
}

impl Reader {
    /// Rings `bell` when a block has been read from disk, or when the first packet is there; tells `want` what it can't go
    /// on without.
    pub fn new(hold: Hold, bell: Arc<Notify>, want: Arc<Want>) -> Self {
        let place = hold.entry().place();
        Self {
            hold,
            bell,
            want,
            place,
            block: None,
            is_among_lent: true,
            is_first: true,
            is_wanting: false,
            played: None,
        }
    }

    /// Rings another from here on.
    pub fn ring(&mut self, bell: Arc<Notify>) {
        self.bell = bell;
    }

    /// What the block at hand has.
    fn at_hand(&self, number: PacketNumber) -> Option<&Slot> {
        self.block.as_ref()?.slot(number).filter(|slot| !matches!(slot, Slot::Unknown))
    }

    /// It can't go on without that.
    fn want(&mut self, number: PacketNumber) -> Access<Arc<Packet>> {
        if let Some(refusal) = self.want.refusal.lock().take() {
            return Access::Failed(refusal);
        }
        self.is_wanting = true;
        self.want.set(Some(number));
        if self.is_first {
            self.hold.entry().ring_when_more(&self.bell);
        }
        Access::NotYet
    }

    fn fetch(&mut self, number: PacketNumber) -> Access<Arc<Packet>> {
        let entry = Arc::clone(self.hold.entry());
        self.place.store(number.0, Ordering::Relaxed);
        match entry.look(number) {
            Look::Here(block) => (self.block, self.is_among_lent) = (Some(Arc::new(block)), false),
            // What the origin left out where another began is not absent for who comes from before.
            Look::Lent(block)
                if self.is_among_lent || block.slot(number).is_some_and(|slot| slot.packet().is_some()) =>
            {
                self.block = Some(Arc::new(block));
            }
            Look::Lent(_) => return self.want(number),
            Look::OnDisk { segment, block } => {
                match self.hold.cache().blocks().get(&entry, segment, block, &self.bell) {
                    Some(block) => (self.block, self.is_among_lent) = (Some(block), false),
                    None => return Access::NotYet,
                }
                let (first, last) = self.played.unwrap_or((segment, segment));
                self.played = Some((first.min(segment), last.max(segment)));
            }
            Look::End => return Access::Absent,
            Look::Unknown => return self.want(number),
        }
        match self.at_hand(number) {
            Some(slot) => access(slot),
            // What is in memory is older than the file: the next look reads the file again.
            None => {
                self.hold.cache().blocks().forget_at(&entry, number);
                Access::NotYet
            }
        }
    }
}

fn access(slot: &Slot) -> Access<Arc<Packet>> {
    match slot {
        Slot::Present(packet) => Access::There(Arc::clone(packet)),
        Slot::Absent => Access::Absent,
        Slot::Unknown => Access::NotYet,
    }
}

impl Archive for Reader {
    fn packet(&mut self, number: PacketNumber) -> Access<Arc<Packet>> {
        let found = match self.at_hand(number) {
            Some(slot) => access(slot),
            None => self.fetch(number),
        };
        if matches!(found, Access::There(_) | Access::Absent) {
            self.is_first = false;
            if std::mem::take(&mut self.is_wanting) {
                self.want.set(None);
            }
        }
        found
    }

    fn key_frame_at(&mut self, time: Duration) -> Access<PacketNumber> {
        match self.hold.cache().locate(self.hold.entry(), time, &self.bell) {
            Located::Packet(number) => Access::There(number),
            Located::Unread => Access::NotYet,
            Located::Unknown => {
                let refusal = Refusal::new(Reason::Invalid, "trick mode through content that is not all there");
                Access::Failed(refusal)
            }
        }
    }

    fn end(&self) -> Option<PacketNumber> {
        self.hold.entry().end().map(PacketNumber)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.want.set(None);
        if let Some((first, last)) = self.played {
            self.hold.cache().played(self.hold.entry(), first..=last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::film::{Film, Home, KEY, read, reader, until};
    use super::*;

    const COUNT: u64 = 128;

    fn cache() -> (Home, Film) {
        (Home::new(), Film::new(60_000, COUNT))
    }

    #[test]
    fn what_is_unknown_is_wanted_until_it_comes_and_the_first_time_the_bell_is_rung() {
        let (home, film) = cache();
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        let (mut reader, want) = reader(&cache, &entry);
        let bell = Arc::new(Notify::new());
        reader.ring(Arc::clone(&bell));
        assert_eq!((want.number(), reader.packet(PacketNumber(5))), (None, Access::NotYet));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(want.wanted()), PacketNumber(5));
        film.fill(&entry, [5]);
        entry.ring();
        runtime.block_on(bell.notified());
        assert!(matches!(reader.packet(PacketNumber(5)), Access::There(packet) if film.is_at(5, &packet)));
        assert_eq!(want.number(), None);
        assert_eq!((reader.packet(PacketNumber(6)), want.number()), (Access::NotYet, Some(PacketNumber(6))));
        drop(reader);
        assert_eq!(want.number(), None);
    }

    #[test]
    fn what_can_not_be_had_ends_the_reader_and_what_came_meanwhile_does_not() {
        let (home, film) = cache();
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        let (mut reader, want) = reader(&cache, &entry);
        assert_eq!(reader.packet(PacketNumber(0)), Access::NotYet);
        let refusal = Refusal::new(Reason::Lost, "gone");
        want.refuse(refusal.clone());
        film.fill(&entry, [0]);
        assert!(matches!(reader.packet(PacketNumber(0)), Access::There(_)));
        assert_eq!(reader.packet(PacketNumber(1)), Access::Failed(refusal));
    }

    #[test]
    fn a_block_that_is_older_than_the_file_is_read_again() {
        let (home, film) = cache();
        let cache = home.open();
        let entry = film.store(&cache, KEY, 1);
        let stale = Arc::new(Block::new(PacketNumber(4), vec![Slot::Unknown; 4]));
        cache.blocks().put(entry.generation(), 0, 1, stale);
        let (mut reader, want) = reader(&cache, &entry);
        assert!(matches!(read(&mut reader, &want, 6), Access::There(packet) if film.is_at(6, &packet)));
    }

    #[test]
    fn behind_the_end_there_is_nothing_and_nothing_is_wanted() {
        let (home, film) = cache();
        let cache = home.open();
        let entry = film.store(&cache, KEY, 1);
        let (mut reader, want) = reader(&cache, &entry);
        assert_eq!(reader.packet(PacketNumber(COUNT)), Access::Absent);
        assert_eq!((want.number(), reader.end()), (None, Some(PacketNumber(COUNT))));
    }

    #[test]
    fn trick_mode_fails_where_a_key_frame_could_be_in_a_gap() {
        let (home, film) = cache();
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        film.fill(&entry, 0..50);
        let mut reader = reader(&cache, &entry).0;
        let found = until(|| match reader.key_frame_at(Duration::from_secs(2)) {
            Access::NotYet => None,
            found => Some(found),
        });
        assert_eq!(found, Access::There(PacketNumber(20)));
        assert!(matches!(reader.key_frame_at(Duration::from_secs(8)), Access::Failed(_)));
    }
}
