//! What operators are told of entries. They are not loaded for it: the meta and the headers of the files tell it.

use std::io;

use super::description;
use super::disk::Found;
use super::entry::{Entry, Marks};
use super::keeper::Cache;

/// One entry, at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Under which it is found.
    pub key: String,
    /// Its own number among all that ever had that key.
    pub generation: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many packet numbers it has, by proof or by what the origin said.
    pub packets: u64,
    /// Packets that are there.
    pub present: u64,
    /// Numbers that the origin has no packet for.
    pub absent: u64,
    /// Nothing is unknown.
    pub is_complete: bool,
    /// How long it plays, seconds; 0 where nobody knows.
    pub duration_seconds: f64,
    /// As the origin said, bit/s.
    pub bit_rate: u32,
    /// What is remembered beside the packets.
    pub marks: Marks,
}

impl Facts {
    /// Of what a disk has. Reads the header of each file.
    pub fn of(found: &Found) -> Self {
        let meta = &found.meta;
        let opened = description::decode(&meta.description, &meta.header);
        let said = opened.map(|opened| opened.description.clone()).unwrap_or_default();
        let (present, absent) = counts(found);
        Self {
            key: meta.key.clone(),
            generation: meta.generation,
            bytes: found.segments.iter().map(|listed| listed.bytes).sum(),
            packets: meta.end.unwrap_or(0).max(meta.packet_count),
            present,
            // What the header counts behind the end was never there.
            absent: absent + meta.end.map_or(0, |end| meta.packet_count.saturating_sub(end)),
            is_complete: meta.end.is_some_and(|end| present + absent >= end),
            duration_seconds: said.duration_seconds,
            bit_rate: said.bit_rate,
            marks: Marks::of(meta),
        }
    }

    /// Of what memory knows, without a look at the disk: the bytes of its files are not told.
    pub fn of_loaded(entry: &Entry) -> Self {
        let (present, absent) = entry.counts();
        let said = &entry.opened().description;
        Self {
            key: entry.key().to_owned(),
            generation: entry.generation(),
            bytes: 0,
            packets: entry.count(),
            present,
            absent,
            is_complete: entry.is_complete(),
            duration_seconds: said.duration_seconds,
            bit_rate: said.bit_rate,
            marks: entry.marks(),
        }
    }

    /// The same, with what memory knows and no disk yet.
    fn with_memory(mut self, entry: &Entry) -> Self {
        let (present, absent) = entry.unsealed_counts();
        self.packets = entry.count();
        self.present = (self.present + present).min(self.packets);
        self.absent += absent;
        self.is_complete = entry.is_complete();
        self.marks = entry.marks();
        self
    }
}

/// Packets that are present and that are absent. What can't be read is neither.
fn counts(found: &Found) -> (u64, u64) {
    let headers = found.segments.iter().filter_map(|listed| found.entry.read_header(listed.index).ok());
    headers
        .map(|header| header.counts())
        .fold((0, 0), |(present, absent), (is, is_not)| (present + is, absent + is_not))
}

impl Cache {
    /// Every entry whose key `wants`, by key. Reads the disk; what can't be read is left out.
    pub fn facts(&self, wants: impl Fn(&str) -> bool) -> Vec<Facts> {
        let found = self.store().entries().filter_map(|found| {
            found.inspect_err(|error| self.failed(error, "the directory of the cache can't be read")).ok()
        });
        let mut facts: Vec<_> =
            found.filter(|found| wants(&found.meta.key)).filter_map(|found| self.told(&found)).collect();
        facts.sort_by(|one, other| one.key.cmp(&other.key));
        facts
    }

    /// The entry under a key, if there is one. Reads the disk.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn facts_of(&self, key: &str) -> io::Result<Option<Facts>> {
        Ok(self.store().find(key)?.and_then(|found| self.told(&found)))
    }

    /// `None` where it is on its way out.
    fn told(&self, found: &Found) -> Option<Facts> {
        match self.loaded(&found.meta.key).filter(|entry| entry.generation() == found.meta.generation) {
            Some(entry) if entry.marks().retired => None,
            Some(entry) => Some(Facts::of(found).with_memory(&entry)),
            None => Some(Facts::of(found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::film::until;
    use super::super::testing::{Nobody, cache, keep, packets, settings};
    use super::*;

    #[test]
    fn an_entry_is_told_of_the_same_whether_it_is_loaded_or_not() {
        let (dir, cache) = cache();
        let count = packets().len() as u64;
        let whole = keep(&cache, "h:1755/b", true, |number| number != 3);
        keep(&cache, "h:1755/a", false, |number| number >= 5);
        let told = cache.facts(|_| true);
        assert_eq!(told.iter().map(|facts| facts.key.as_str()).collect::<Vec<_>>(), ["h:1755/a", "h:1755/b"]);
        let [part, all] = &told[..] else { panic!("{told:?}") };
        assert_eq!((all.packets, all.present, all.absent, all.is_complete), (count, count - 1, 1, true));
        assert_eq!((part.packets, part.present, part.absent, part.is_complete), (count, count - 5, 0, false));
        assert!(all.bytes > (count - 1) * 1000 && all.marks.created == 1_000 && all.duration_seconds > 1.0, "{all:?}");
        assert_eq!(cache.facts_of("h:1755/b").unwrap().as_ref(), Some(all));
        assert_eq!(Facts { bytes: all.bytes, ..Facts::of_loaded(&whole) }, *all);

        drop((whole, cache));
        // The threads of the one before let go of it in their own time.
        let cache = until(|| Cache::open(dir.path(), settings(), std::sync::Arc::new(Nobody)).ok());
        assert_eq!(cache.facts(|key| key.ends_with('b')), told[1..]);
        assert!(cache.all_loaded().is_empty(), "nothing is loaded for it");
    }

    #[test]
    fn what_no_disk_has_yet_counts_and_what_was_removed_does_not() {
        let (_dir, cache) = cache();
        let entry = keep(&cache, "h:1755/a", false, |number| number < 2);
        let packet = packets().swap_remove(2);
        let number = crate::asf::PacketNumber(2);
        entry.take(&std::sync::Arc::new(crate::session::Packet::new(number, 0, packet.clone(), packet)), u64::MAX);
        assert_eq!(cache.facts_of("h:1755/a").unwrap().map(|facts| facts.present), Some(3));
        cache.retire(&entry);
        assert_eq!(cache.facts_of("h:1755/a").unwrap(), None);
    }
}
