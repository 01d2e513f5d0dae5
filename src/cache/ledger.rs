//! What is on the disk, and what goes when room is needed: whole files of packets, the one that was played least lately
//! first.
//!
//! What was played once waits in a list of its own and goes before all that was played again, so that a flood of names
//! that are asked for once costs no more than a fifth of the room. What is being played or filled is pinned.

use std::collections::HashMap;

use lru::LruCache;
use parking_lot::Mutex;

/// One file of packets.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId {
    /// The entry's.
    pub generation: u64,
    /// Which of its files.
    pub segment: u32,
}

/// The files, their sizes and their order.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    /// Bytes that all files may take together.
    max: u64,
}

#[derive(Debug)]
struct Books {
    /// Played once or never.
    once: LruCache<FileId, u64>,
    /// Played again.
    again: LruCache<FileId, u64>,
    once_bytes: u64,
    again_bytes: u64,
    /// Promised to fills that have not written yet.
    reserved: u64,
    /// How many readers and fills hold an entry.
    pins: HashMap<u64, u32>,
}

/// Room that was made.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Made {
    /// Files that have to go for it: they are out of the books already.
    pub victims: Vec<FileId>,
}

/// What was played once keeps this share of the room, even where all else was played again.
const ONCE_SHARE: u64 = 5;

impl Ledger {
    /// Nothing yet; `max` in bytes.
    pub fn new(max: u64) -> Self {
        let books = Books {
            once: LruCache::unbounded(),
            again: LruCache::unbounded(),
            once_bytes: 0,
            again_bytes: 0,
            reserved: 0,
            pins: HashMap::new(),
        };
        Self { books: Mutex::new(books), max }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.books.lock().bytes()
    }

    /// A file is there with that size: a new one, or a fuller one in the place of another. `plays` of its entry decides
    /// how long it stays. Returns by how much there is more now.
    pub fn put(&self, id: FileId, bytes: u64, plays: u64) -> u64 {
        let mut books = self.books.lock();
        let before = books.take(id).map_or(0, |(bytes, _)| bytes);
        books.add(id, bytes, plays > 1);
        bytes.saturating_sub(before)
    }

    /// A file is gone; its size, if it was there.
    pub fn remove(&self, id: FileId) -> Option<u64> {
        self.books.lock().take(id).map(|(bytes, _)| bytes)
    }

    /// All files of an entry are gone.
    pub fn remove_all(&self, generation: u64) {
        let mut books = self.books.lock();
        let files = |list: &LruCache<FileId, u64>| {
            list.iter().map(|(id, _)| *id).filter(|id| id.generation == generation).collect::<Vec<_>>()
        };
        for id in [files(&books.once), files(&books.again)].concat() {
            books.take(id);
        }
    }

    /// Whether a file is in the books.
    pub fn has(&self, id: FileId) -> bool {
        let books = self.books.lock();
        books.once.contains(&id) || books.again.contains(&id)
    }

    /// Whether any file of an entry is.
    pub fn has_any(&self, generation: u64) -> bool {
        let books = self.books.lock();
        books.once.iter().chain(books.again.iter()).any(|(id, _)| id.generation == generation)
    }

    /// These files were played, the last of them first: of what was played together, the tail goes first.
    pub fn touch(&self, generation: u64, segments: impl Iterator<Item = u32>, plays: u64) {
        let mut books = self.books.lock();
        for segment in segments {
            let id = FileId { generation, segment };
            if let Some((bytes, _)) = books.take(id) {
                books.add(id, bytes, plays > 1);
            }
        }
    }

    /// Keeps all files of an entry until [`Self::unpin`].
    pub fn pin(&self, generation: u64) {
        *self.books.lock().pins.entry(generation).or_default() += 1;
    }

    /// Takes back one [`Self::pin`].
    pub fn unpin(&self, generation: u64) {
        let mut books = self.books.lock();
        if let Some(pins) = books.pins.get_mut(&generation) {
            *pins -= 1;
            if *pins == 0 {
                books.pins.remove(&generation);
            }
        }
    }

    /// Promises `bytes` to a fill; `None` where nothing may go for them. `more` is what else has to be freed for the sake
    /// of the disk.
    pub fn reserve(&self, bytes: u64, more: u64) -> Option<Made> {
        let mut books = self.books.lock();
        let wanted = bytes.checked_add(books.reserved)?.checked_add(books.bytes())?;
        let excess = wanted.saturating_sub(self.max).max(more);
        let victims = books.victims(excess, self.max / ONCE_SHARE)?;
        for id in &victims {
            books.take(*id);
        }
        books.reserved += bytes;
        Some(Made { victims })
    }

    /// What was promised is written, or is not wanted any more.
    pub fn release(&self, bytes: u64) {
        let mut books = self.books.lock();
        books.reserved = books.reserved.saturating_sub(bytes);
    }
}

impl Books {
    fn bytes(&self) -> u64 {
        self.once_bytes + self.again_bytes
    }

    fn add(&mut self, id: FileId, bytes: u64, is_again: bool) {
        if is_again {
            self.again.put(id, bytes);
            self.again_bytes += bytes;
        } else {
            self.once.put(id, bytes);
            self.once_bytes += bytes;
        }
    }

    fn take(&mut self, id: FileId) -> Option<(u64, bool)> {
        if let Some(bytes) = self.once.pop(&id) {
            self.once_bytes -= bytes;
            return Some((bytes, false));
        }
        let bytes = self.again.pop(&id)?;
        self.again_bytes -= bytes;
        Some((bytes, true))
    }

    /// Files of `excess` bytes together; `None` where there are not that many that may go.
    fn victims(&self, excess: u64, once_keeps: u64) -> Option<Vec<FileId>> {
        let may_go = |(id, _): &(&FileId, &u64)| !self.pins.contains_key(&id.generation);
        let mut once = self.once.iter().rev().filter(may_go).peekable();
        let mut again = self.again.iter().rev().filter(may_go).peekable();
        let (mut freed, mut once_left) = (0, self.once_bytes);
        let mut victims = Vec::new();
        while freed < excess {
            let is_once = once.peek().is_some() && (once_left >= once_keeps || again.peek().is_none());
            let (id, bytes) = if is_once { once.next()? } else { again.next()? };
            if is_once {
                once_left = once_left.saturating_sub(*bytes);
            }
            freed += bytes;
            victims.push(*id);
        }
        Some(victims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(generation: u64, segment: u32) -> FileId {
        FileId { generation, segment }
    }

    fn ledger(max: u64, files: &[(FileId, u64)]) -> Ledger {
        let ledger = Ledger::new(max);
        for (id, plays) in files {
            ledger.put(*id, 10, *plays);
        }
        ledger
    }

    fn victims(ledger: &Ledger, bytes: u64) -> Option<Vec<FileId>> {
        ledger.reserve(bytes, 0).map(|made| made.victims)
    }

    #[test]
    fn what_was_played_least_lately_goes_first_and_no_more_than_needed() {
        let ledger = ledger(30, &[(id(1, 0), 2), (id(2, 0), 2), (id(3, 0), 2)]);
        ledger.touch(1, [0].into_iter(), 2);
        assert_eq!(victims(&ledger, 10), Some(vec![id(2, 0)]));
        assert_eq!((ledger.bytes(), victims(&ledger, 1)), (20, Some(vec![id(3, 0)])));
    }

    #[test]
    fn of_what_was_played_together_the_tail_goes_first() {
        let ledger = ledger(30, &[(id(1, 0), 2), (id(1, 1), 2), (id(1, 2), 2)]);
        ledger.touch(1, [2, 1, 0].into_iter(), 2);
        assert_eq!(victims(&ledger, 20), Some(vec![id(1, 2), id(1, 1)]));
    }

    #[test]
    fn a_flood_of_names_asked_once_does_not_push_out_what_was_played_again() {
        let ledger = ledger(100, &[]);
        assert_eq!((0..8).map(|segment| ledger.put(id(1, segment), 10, 2)).sum::<u64>(), 80);
        for flood in 2..1000 {
            assert!(ledger.reserve(10, 0).is_some());
            ledger.put(id(flood, 0), 10, 1);
            ledger.release(10);
        }
        let kept = (0..8).filter(|segment| ledger.remove(id(1, *segment)).is_some()).count();
        assert_eq!(kept, 8);
    }

    #[test]
    fn what_was_played_again_gives_way_to_new_content_down_to_a_fifth() {
        let ledger = ledger(100, &[]);
        assert_eq!((0..10).map(|segment| ledger.put(id(1, segment), 10, 2)).sum::<u64>(), 100);
        ledger.touch(1, (0..10).rev(), 2);
        assert_eq!(victims(&ledger, 10), Some(vec![id(1, 9)]));
        ledger.put(id(2, 0), 10, 1);
        ledger.release(10);
        assert_eq!(victims(&ledger, 10), Some(vec![id(1, 8)]));
    }

    #[test]
    fn what_is_held_stays_and_where_nothing_may_go_nothing_goes() {
        let ledger = ledger(20, &[(id(1, 0), 1), (id(2, 0), 1)]);
        ledger.pin(1);
        ledger.pin(1);
        ledger.unpin(1);
        assert_eq!(victims(&ledger, 20), None);
        assert_eq!(ledger.bytes(), 20);
        assert_eq!(victims(&ledger, 10), Some(vec![id(2, 0)]));
        ledger.unpin(1);
        assert_eq!(victims(&ledger, 10), Some(vec![id(1, 0)]));
    }

    #[test]
    fn a_promise_counts_until_it_is_given_back() {
        let ledger = ledger(30, &[(id(1, 0), 1)]);
        assert_eq!(victims(&ledger, 20), Some(vec![]));
        assert_eq!(victims(&ledger, 10), Some(vec![id(1, 0)]));
        ledger.release(30);
        assert_eq!(victims(&ledger, 30), Some(vec![]));
    }

    #[test]
    fn what_the_disk_lacks_is_freed_as_well() {
        let ledger = ledger(1000, &[(id(1, 0), 1), (id(2, 0), 1), (id(3, 0), 1)]);
        assert_eq!(ledger.reserve(10, 15), Some(Made { victims: vec![id(1, 0), id(2, 0)] }));
    }

    proptest! {
        #[test]
        fn the_books_are_never_above_the_limit(steps in proptest::collection::vec((0..6_u64, 0..4_u32, 1..3_u64), 0..200)) {
            let ledger = Ledger::new(100);
            for (generation, segment, plays) in steps {
                if ledger.reserve(10, 0).is_some() {
                    ledger.put(id(generation, segment), 10, plays);
                    ledger.release(10);
                }
                prop_assert!(ledger.bytes() <= 100);
            }
        }
    }
}
