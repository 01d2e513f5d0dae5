//! The cache as a whole: entries by their keys, the files that they have on disk, the room that all may take, and the
//! threads that write and read.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use super::blocks::Blocks;
use super::description;
use super::disk::{EntryDir, Found, Geometry, Meta, Store, StoreError, SyncPolicy};
use super::entry::{Entry, Marks};
use super::ledger::{FileId, Ledger};
use super::segment::{OnDisk, Presence};
use super::summary::{self, Located};
use super::writer::{self, Write};
use crate::session::Opened;

/// How much may be kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `cache.max_size`: all files together, bytes.
    pub max_size: u64,
    /// `cache.min_free`: what is left free on the disk, bytes.
    pub min_free: u64,
    /// What is read ahead of viewers or shared by them, bytes.
    pub blocks: u64,
    /// What fills may hold before a disk has it, all together, bytes.
    pub unwritten: u64,
}

/// Who counts what goes wrong, and what goes.
pub trait Observer: Send + Sync {
    /// Something could not be stored or read: `disk_full`, `io` or `checksum`.
    fn error(&self, reason: &'static str);

    /// Files went to make room for others.
    fn evicted(&self, files: usize);
}

/// On-demand content on disk.
pub struct Cache {
    store: Store,
    settings: Settings,
    observer: Arc<dyn Observer>,
    ledger: Ledger,
    blocks: Blocks,
    registry: Mutex<Registry>,
    unwritten: Arc<AtomicU64>,
    /// Held by all who fetch packets.
    fills: Arc<()>,
    writes: Sender<Write>,
}

/// What is known of entries.
struct Registry {
    /// Those in memory, by key. Dead ones are swept out now and then.
    loaded: HashMap<String, Weak<Entry>>,
    /// Keeps the latest of them there.
    recent: LruCache<String, Arc<Entry>>,
    /// Those on disk, by generation.
    listed: HashMap<u64, Listed>,
    /// All that are on disk are listed.
    is_scanned: bool,
    last_generation: u64,
}

/// An entry on disk.
#[derive(Clone, Debug)]
struct Listed {
    key: String,
    dir: EntryDir,
}

/// Entries that nobody plays and that stay in memory, with their headers.
const RECENT: NonZeroUsize = NonZeroUsize::new(256).unwrap(); // the compiler sees that it is not zero

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens the cache in a directory, which is made if need be, and begins to look for what is there.
    ///
    /// # Errors
    /// A directory that can't be used, or that another proxy uses.
    pub fn open(dir: &Path, settings: Settings, observer: Arc<dyn Observer>) -> Result<Arc<Self>, StoreError> {
        let store = Store::open(dir, SyncPolicy::Segment)?;
        let (writes, jobs) = channel();
        let (reads, asked) = channel();
        let cache = Arc::new(Self {
            store,
            ledger: Ledger::new(settings.max_size),
            blocks: Blocks::new(settings.blocks, reads),
            observer,
            registry: Mutex::new(Registry {
                loaded: HashMap::new(),
                recent: LruCache::new(RECENT),
                listed: HashMap::new(),
                is_scanned: false,
                last_generation: 0,
            }),
            unwritten: Arc::default(),
            fills: Arc::default(),
            writes,
            settings,
        });
        let in_dir = |error| StoreError::Io { dir: dir.to_owned(), error };
        spawn("cache-writer", &cache, move |cache| writer::run(cache, &jobs)).map_err(in_dir)?;
        super::blocks::spawn_readers(&cache, asked).map_err(in_dir)?;
        spawn("cache-scan", &cache, |cache| {
            if let Some(cache) = cache.upgrade() {
                cache.scan();
            }
        })
        .map_err(in_dir)?;
        Ok(cache)
    }

    /// What is kept under `key`, if anything. Reads the disk.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn find(&self, key: &str) -> io::Result<Option<Arc<Entry>>> {
        if let Some(entry) = self.loaded(key) {
            return Ok(Some(entry));
        }
        let Some(found) = self.store.find(key)? else { return Ok(None) };
        // Without the lock: this reads files.
        let loaded = self.load(&found);
        let mut registry = self.registry.lock();
        // Another may have been as quick.
        if let Some(entry) = registry.loaded(key) {
            return Ok(Some(entry));
        }
        let Some(entry) = loaded else {
            drop(registry);
            warn!(key, "an entry of the cache makes no sense and is removed");
            self.observer.error("checksum");
            self.registry.lock().listed.remove(&found.meta.generation);
            self.ledger.remove_all(found.meta.generation);
            found.entry.remove()?;
            return Ok(None);
        };
        registry.list(&found);
        self.enlist(&found);
        registry.keep(&entry);
        Ok(Some(entry))
    }

    /// Begins an entry; what was under that key before is retired. Writes to the disk.
    ///
    /// # Errors
    /// A disk that can't be written, or content that can't be kept: `InvalidInput`.
    pub fn create(&self, key: &str, opened: &Arc<Opened>, now: u64) -> io::Result<Arc<Entry>> {
        let no_geometry = || io::Error::new(io::ErrorKind::InvalidInput, "packets of a size that can't be kept");
        let geometry = Geometry::for_packets_of(opened.header.file().packet_size).ok_or_else(no_geometry)?;
        // One that can't be read is forgotten by the store alone.
        let before = self.find(key).ok().flatten();
        let generation = {
            let mut registry = self.registry.lock();
            // A clock that was set back makes no older generation of a newer one.
            let generation = now.max(registry.last_generation.saturating_add(1));
            registry.last_generation = generation;
            generation
        };
        let marks = Marks { created: now, validated: now, last_used: now, ..Marks::default() };
        let meta = meta_of(key, generation, geometry, opened, None, marks);
        let dir = self.store.create(&meta)?;
        if let Some(before) = before {
            self.retire(&before);
        }
        let unwritten = Arc::clone(&self.unwritten);
        let entry = Arc::new(Entry::new(key.to_owned(), Arc::clone(opened), dir.clone(), marks, unwritten));
        let mut registry = self.registry.lock();
        registry.listed.insert(generation, Listed { key: key.to_owned(), dir });
        registry.keep(&entry);
        Ok(entry)
    }

    /// Takes an entry away from all who come from now on; who reads it may go on. Its files go with the last of them.
    pub fn retire(&self, entry: &Arc<Entry>) {
        entry.mark(|marks| marks.retired = true);
        entry.ring();
        let mut registry = self.registry.lock();
        registry.listed.remove(&entry.generation());
        if registry.loaded.get(entry.key()).and_then(Weak::upgrade).is_some_and(|now| Arc::ptr_eq(&now, entry)) {
            registry.loaded.remove(entry.key());
            registry.recent.pop(entry.key());
        }
        drop(registry);
        self.forget_files(entry.generation(), &entry.files());
        if let Err(error) = entry.dir().forget() {
            self.failed(&error, "an entry can't be removed");
        }
        self.send(Write::Remove(Arc::clone(entry)));
    }

    /// Removes all entries that `wants` by their keys; returns how many.
    pub fn purge(&self, wants: impl Fn(&str) -> bool) -> usize {
        let listed: Vec<(u64, Listed)> = {
            let registry = self.registry.lock();
            let wanted = registry.listed.iter().filter(|(_, listed)| wants(&listed.key));
            wanted.map(|(generation, listed)| (*generation, listed.clone())).collect()
        };
        for (generation, listed) in &listed {
            self.remove(*generation, listed);
        }
        listed.len()
    }

    /// Every entry on disk, by key: what is listed so far.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.registry.lock().listed.values().map(|listed| listed.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.registry.lock().listed.len()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.ledger.bytes()
    }

    /// `cache.max_size`, bytes.
    pub fn max_size(&self) -> u64 {
        self.settings.max_size
    }

    /// Bytes that it holds in memory.
    pub fn held(&self) -> u64 {
        self.blocks.bytes() + self.unwritten.load(Ordering::Relaxed)
    }

    /// Whether all entries on disk are listed.
    pub fn is_scanned(&self) -> bool {
        self.registry.lock().is_scanned
    }

    /// Where in an entry a viewer begins who wants `time`, without the preroll; where that has to be read from disk, `bell`
    /// is rung then.
    pub fn locate(&self, entry: &Arc<Entry>, time: Duration, bell: &Arc<Notify>) -> Located {
        if entry.unread_times().is_empty() {
            return summary::locate(entry, &entry.times(), time);
        }
        self.blocks.read_times(entry, bell);
        Located::Unread
    }

    /// What is read ahead of viewers or shared by them.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// What fills may hold before a disk has it, bytes.
    pub fn unwritten_limit(&self) -> u64 {
        self.settings.unwritten
    }

    /// Somebody fetches packets, as long as that is there.
    pub fn counts_fill(&self) -> Arc<()> {
        Arc::clone(&self.fills)
    }

    /// How much a fill may have in memory before a file is written that is not whole, bytes; `None` where there is room enough.
    /// A hundred fills at once are hundreds of megabytes of files that are nearly whole.
    pub fn part(&self) -> Option<u64> {
        let half = self.settings.unwritten / 2;
        let is_short = self.unwritten.load(Ordering::Relaxed) > half;
        // One is our own.
        is_short.then(|| half / (Arc::strong_count(&self.fills) - 1).max(1) as u64)
    }

    /// Keeps the files of an entry as long as the hold is there.
    pub fn hold(self: &Arc<Self>, entry: &Arc<Entry>) -> Hold {
        self.ledger.pin(entry.generation());
        Hold { cache: Arc::clone(self), entry: Arc::clone(entry) }
    }

    /// Promises room to a fill; `None` where there is none.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let free = self.store.free_bytes().unwrap_or(u64::MAX);
        let lacking = self.settings.min_free.saturating_add(bytes).saturating_sub(free);
        let made = self.ledger.reserve(bytes, lacking)?;
        self.evict(&made.victims);
        Some(Room { cache: Arc::clone(self), bytes })
    }

    /// Sets room aside for all that is missing of an entry, once; `false` where there is not so much. Blocks.
    pub fn make_room(self: &Arc<Self>, entry: &Entry) -> bool {
        entry.with_room(|room, missing| {
            if room.is_none() {
                *room = self.reserve(missing);
            }
            room.is_some()
        })
    }

    /// Has what is in memory of an entry written: the files that are whole, or all.
    pub fn seal(&self, entry: &Arc<Entry>, all: bool) {
        for segment in entry.unsealed(all) {
            self.send(Write::Segment(Arc::clone(entry), segment));
        }
    }

    /// Has what is remembered of an entry written.
    pub fn save(&self, entry: &Arc<Entry>) {
        self.send(Write::Meta(Arc::clone(entry)));
    }

    /// An entry was opened. That is written when something else is, or when its last viewer leaves: an order of plays that is
    /// some minutes old after a crash harms nobody, and each write waits for the disk.
    pub fn opened(&self, entry: &Arc<Entry>, now: u64) {
        entry.mark(|marks| {
            marks.plays += 1;
            marks.last_used = now;
        });
    }

    /// These files of an entry were played together.
    pub fn played(&self, entry: &Entry, segments: std::ops::RangeInclusive<u32>) {
        self.ledger.touch(entry.generation(), segments.rev(), entry.marks().plays);
    }

    /// Waits until all that was asked to be written is on disk.
    pub fn flush(&self) {
        let (done, is_done) = channel();
        self.send(Write::Flush(done));
        // The writer is gone: nothing is to be waited for.
        let _ = is_done.recv();
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A file of an entry is no longer right.
    pub(super) fn drop_file(&self, entry: &Entry, segment: u32) {
        entry.lost_file(segment);
        self.blocks.forget(entry.generation(), segment);
        self.ledger.remove(FileId { generation: entry.generation(), segment });
        if let Err(error) = entry.dir().remove_segment(segment) {
            self.failed(&error, "a damaged file can't be removed");
        }
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// Something could not be stored or read: told and counted.
    pub fn failed(&self, error: &io::Error, what: &'static str) {
        warn!(%error, "{what}");
        self.observer.error(super::disk::error_label(error));
    }

    fn send(&self, write: Write) {
        // The writer lives as long as the cache.
        let _ = self.writes.send(write);
    }

    /// The entry under a key, if it is in memory.
    pub fn loaded(&self, key: &str) -> Option<Arc<Entry>> {
        self.registry.lock().loaded(key)
    }

    /// The entries that are in memory, by key.
    pub fn all_loaded(&self) -> Vec<Arc<Entry>> {
        let mut loaded: Vec<_> = self.registry.lock().loaded.values().filter_map(Weak::upgrade).collect();
        loaded.sort_by(|one, other| one.key().cmp(other.key()));
        loaded
    }

    /// The files.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn load(&self, found: &Found) -> Option<Arc<Entry>> {
        let meta = &found.meta;
        let opened = description::decode(&meta.description, &meta.header)?;
        let marks = Marks::of(meta);
        let (opened, unwritten) = (Arc::new(opened), Arc::clone(&self.unwritten));
        let entry = Entry::new(meta.key.clone(), opened, found.entry.clone(), marks, unwritten);
        entry.ends(meta.end);
        for listed in &found.segments {
            let file = if listed.is_full {
                OnDisk::Whole { absent: 0 }
            } else {
                match found.entry.read_header(listed.index) {
                    Ok(header) => OnDisk::Part(Arc::new(Presence::of(&header))),
                    Err(error) => {
                        warn!(%error, "a file of the cache can't be read");
                        self.observer.error(error.label());
                        continue;
                    }
                }
            };
            entry.has_on_disk(listed.index, file);
        }
        Some(Arc::new(entry))
    }

    /// The files of an entry, into the books.
    fn enlist(&self, found: &Found) {
        // Of what was played together, the tail goes first.
        for listed in found.segments.iter().rev() {
            let id = FileId { generation: found.meta.generation, segment: listed.index };
            if !self.ledger.has(id) {
                self.ledger.put(id, listed.bytes, found.meta.plays);
            }
        }
    }

    /// Lists what is on disk, what was used least lately first.
    fn scan(&self) {
        let mut all: Vec<Found> = Vec::new();
        for found in self.store.entries() {
            match found {
                Ok(found) => all.push(found),
                Err(error) => self.failed(&error, "the directory of the cache can't be read"),
            }
        }
        all.sort_by_key(|found| found.meta.last_used);
        for found in &all {
            let mut registry = self.registry.lock();
            let is_older = registry.loaded(&found.meta.key).is_some_and(|e| e.generation() > found.meta.generation);
            if !is_older {
                registry.list(found);
                self.enlist(found);
            }
        }
        self.registry.lock().is_scanned = true;
    }

    fn evict(&self, victims: &[FileId]) {
        if victims.is_empty() {
            return;
        }
        self.observer.evicted(victims.len());
        for id in victims {
            let (entry, listed) = {
                let registry = self.registry.lock();
                let Some(listed) = registry.listed.get(&id.generation) else { continue };
                let entry = registry.loaded(&listed.key).filter(|entry| entry.generation() == id.generation);
                (entry, listed.clone())
            };
            if let Some(entry) = entry {
                entry.lost_file(id.segment);
            }
            self.blocks.forget(id.generation, id.segment);
            if let Err(error) = listed.dir.remove_segment(id.segment) {
                self.failed(&error, "a file can't be removed");
            }
            if !self.ledger.has_any(id.generation) {
                // Its last: nothing of it is worth being kept.
                self.remove(id.generation, &listed);
            }
        }
    }

    /// Takes away an entry, in memory or not.
    fn remove(&self, generation: u64, listed: &Listed) {
        match self.loaded(&listed.key).filter(|entry| entry.generation() == generation) {
            Some(entry) => self.retire(&entry),
            None => {
                self.registry.lock().listed.remove(&generation);
                self.ledger.remove_all(generation);
                if let Err(error) = listed.dir.remove() {
                    self.failed(&error, "an entry can't be removed");
                }
            }
        }
    }

    fn forget_files(&self, generation: u64, segments: &[u32]) {
        for segment in segments {
            self.blocks.forget(generation, *segment);
        }
        self.ledger.remove_all(generation);
    }
}

impl Registry {
    fn loaded(&self, key: &str) -> Option<Arc<Entry>> {
        self.loaded.get(key).and_then(Weak::upgrade)
    }

    fn keep(&mut self, entry: &Arc<Entry>) {
        if self.loaded.len() >= 2 * RECENT.get().max(self.recent.len()) {
            self.loaded.retain(|_, entry| entry.strong_count() > 0);
        }
        self.loaded.insert(entry.key().to_owned(), Arc::downgrade(entry));
        self.recent.put(entry.key().to_owned(), Arc::clone(entry));
    }

    fn list(&mut self, found: &Found) {
        self.last_generation = self.last_generation.max(found.meta.generation);
        let listed = Listed { key: found.meta.key.clone(), dir: found.entry.clone() };
        self.listed.entry(found.meta.generation).or_insert(listed);
    }
}

/// What is kept of an entry beside its packets.
pub(super) fn meta_of(
    key: &str,
    generation: u64,
    geometry: Geometry,
    opened: &Opened,
    end: Option<u64>,
    marks: Marks,
) -> Meta {
    Meta {
        key: key.to_owned(),
        generation,
        geometry,
        header: opened.header.bytes().clone(),
        description: description::encode(&opened.description),
        packet_count: opened.description.packet_count,
        end,
        created: marks.created,
        validated: marks.validated,
        last_used: marks.last_used,
        plays: marks.plays,
        guarded: marks.guarded,
        set_aside: marks.set_aside,
    }
}

fn spawn(
    name: &str,
    cache: &Arc<Cache>,
    work: impl FnOnce(Weak<Cache>) + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    let cache = Arc::downgrade(cache);
    thread::Builder::new().name(name.to_owned()).spawn(move || work(cache))
}

/// Somebody reads or fills an entry: its files stay.
#[derive(Debug)]
pub struct Hold {
    cache: Arc<Cache>,
    entry: Arc<Entry>,
}

impl Hold {
    /// What is held.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Where.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.cache.hold(&self.entry)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.cache.ledger.unpin(self.entry.generation());
    }
}

/// Room on the disk that was promised to a fill.
#[derive(Debug)]
pub struct Room {
    cache: Arc<Cache>,
    bytes: u64,
}

impl Room {
    /// So much of it is used.
    pub fn use_up(&mut self, bytes: u64) {
        let used = bytes.min(self.bytes);
        self.bytes -= used;
        self.cache.ledger.release(used);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.cache.ledger.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use bytes::Bytes;

    use super::super::film::{Film, Home, KEY, LIMIT, play, until};
    use super::*;

    fn film() -> Film {
        Film::new(500, 40)
    }

    fn numbers(cache: &Arc<Cache>, entry: &Arc<Entry>) -> usize {
        play(cache, entry, 0).len()
    }

    /// Until nothing of it is on disk any more: whoever read it last may just be letting go of it.
    fn is_removed(home: &Home, cache: &Cache, name: &str) {
        until(|| {
            cache.flush();
            home.files(name).is_empty().then_some(())
        });
    }

    #[test]
    fn an_entry_is_found_again_with_all_that_was_remembered_of_it() {
        let (home, film) = (Home::new(), film());
        let cache = home.open();
        assert!(cache.find(KEY).unwrap().is_none());
        let entry = film.store(&cache, KEY, 7000);
        assert!(Arc::ptr_eq(&entry, &cache.find(KEY).unwrap().unwrap()));
        cache.opened(&entry, 8000);
        cache.opened(&entry, 9000);
        entry.mark(|marks| (marks.validated, marks.guarded) = (8500, true));
        cache.save(&entry);
        cache.flush();
        let (marks, generation, bytes) = (entry.marks(), entry.generation(), cache.bytes());
        drop((entry, cache));

        let cache = home.open();
        assert_eq!((cache.keys(), cache.entries(), cache.bytes()), (vec![KEY.to_owned()], 1, bytes));
        let entry = cache.find(KEY).unwrap().unwrap();
        assert_eq!((entry.marks(), entry.generation(), entry.key()), (marks, generation, KEY));
        assert_eq!((marks.created, marks.last_used, marks.plays), (7000, 9000, 2));
        assert_eq!(entry.opened().description, film.opened.description);
        assert_eq!(entry.opened().header.bytes(), film.opened.header.bytes());
        assert_eq!((entry.end(), entry.is_complete(), numbers(&cache, &entry)), (Some(40), true, 40));
        assert!(Arc::ptr_eq(&entry, &cache.find(KEY).unwrap().unwrap()));
    }

    #[test]
    fn a_scan_lists_every_entry_and_loads_none() {
        let (home, film) = (Home::new(), film());
        let cache = home.open();
        let names: Vec<String> = (0..30).map(|number| format!("origin:1755/{number:02}")).collect();
        names.iter().for_each(|name| drop(film.store(&cache, name, 1)));
        let bytes = cache.bytes();
        drop(cache);
        let cache = home.open();
        assert_eq!((cache.keys(), cache.entries(), cache.bytes()), (names, 30, bytes));
        assert!(cache.all_loaded().is_empty());
    }

    #[test]
    fn a_new_generation_takes_the_place_of_one_that_is_read_on() {
        let (home, film) = (Home::new(), film());
        let cache = home.open();
        let old = film.store(&cache, KEY, 1);
        let hold = cache.hold(&old);
        let new = cache.create(KEY, &film.opened, 1).unwrap();
        assert!(new.generation() > old.generation());
        assert!(old.marks().retired && Arc::ptr_eq(&new, &cache.find(KEY).unwrap().unwrap()));
        assert_eq!((cache.keys().len(), cache.entries(), cache.bytes()), (1, 1, 0));
        assert_eq!(numbers(&cache, &old), 40);
        assert_eq!(home.files(".seg").len(), 1);
        drop((hold, old));
        is_removed(&home, &cache, ".seg");
        assert_eq!(home.said.errors(), [""; 0]);
    }

    #[test]
    fn a_new_generation_takes_the_place_of_one_that_only_the_disk_knows() {
        let (home, film) = (Home::new(), film());
        drop(film.store(&home.open(), KEY, 1));
        let cache = home.open();
        let new = cache.create(KEY, &film.opened, 2).unwrap();
        is_removed(&home, &cache, ".seg");
        assert_eq!((cache.entries(), cache.bytes()), (1, 0));
        assert_eq!(cache.find(KEY).unwrap().unwrap().generation(), new.generation());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_older_generation() {
        let (home, film) = (Home::new(), film());
        let old = film.store(&home.open(), KEY, 1 << 40).generation();
        let cache = home.open();
        let new = cache.create(KEY, &film.opened, 5).unwrap();
        assert!(new.generation() > old);
        drop((new, cache));
        assert!(home.open().find(KEY).unwrap().unwrap().generation() > old);
    }

    #[test]
    fn what_is_purged_under_readers_is_gone_for_all_others() {
        let (home, film) = (Home::new(), film());
        let cache = home.open();
        let read = film.store(&cache, KEY, 1);
        drop(film.store(&cache, "origin:1755/filler", 1));
        drop(film.store(&cache, "other:1755/film", 1));
        let hold = cache.hold(&read);
        assert_eq!(cache.purge(|key| key.starts_with("origin:1755/fil")), 2);
        assert_eq!((cache.keys(), cache.find(KEY).unwrap().is_none()), (vec!["other:1755/film".to_owned()], true));
        assert_eq!(numbers(&cache, &read), 40);
        drop((hold, read));
        until(|| {
            cache.flush();
            (home.files(".seg").len() == 1).then_some(())
        });
        drop(cache);
        assert_eq!(home.open().keys(), ["other:1755/film"]);
    }

    #[test]
    fn what_is_listed_is_purged_without_being_loaded() {
        let (home, film) = (Home::new(), film());
        drop(film.store(&home.open(), KEY, 1));
        let cache = home.open();
        assert_eq!((cache.purge(|_| true), cache.purge(|_| true)), (1, 0));
        assert_eq!((cache.entries(), cache.bytes(), home.files(".seg").len()), (0, 0, 0));
        assert!(cache.find(KEY).unwrap().is_none());
    }

    #[test]
    fn room_is_made_by_what_was_used_least_lately_and_never_by_what_is_held() {
        let (mut home, film) = (Home::new(), film());
        let size = {
            let cache = home.open();
            for (now, name) in (1..).zip(["a", "b", "c"]) {
                drop(film.store(&cache, name, now));
            }
            cache.bytes() / 3
        };
        home.settings.max_size = 3 * size;
        let cache = home.open();
        let held = cache.find("a").unwrap().unwrap();
        let hold = cache.hold(&held);
        let mut room = cache.reserve(size).unwrap();
        assert_eq!((cache.keys(), home.said.evicted()), (vec!["a".to_owned(), "c".to_owned()], 1));
        assert_eq!((cache.bytes(), home.files(".seg").len()), (2 * size, 2));
        assert!(cache.find("b").unwrap().is_none());
        // What was promised counts until it is used.
        let more = cache.reserve(size).unwrap();
        assert_eq!((cache.keys(), cache.bytes()), (vec!["a".to_owned()], size));
        assert!(cache.reserve(1).is_none(), "all that is left is held");
        assert_eq!((numbers(&cache, &held), home.said.evicted()), (40, 2));
        room.use_up(size);
        drop(more);
        drop(cache.reserve(2 * size).unwrap());
        assert_eq!(cache.keys(), ["a"]);
        drop((room, hold));
        assert!(cache.reserve(3 * size).is_some());
        assert_eq!((cache.entries(), cache.bytes(), held.marks().retired), (0, 0, true));
        drop(held);
        is_removed(&home, &cache, ".seg");
        assert_eq!(home.said.errors(), [""; 0]);
    }

    #[test]
    fn an_entry_that_loses_its_tail_to_others_keeps_its_head() {
        let (mut home, film) = (Home::new(), Film::new(60_000, 192));
        home.settings.max_size = 192 * 60_000 + 100_000;
        let cache = home.open();
        let entry = film.store(&cache, KEY, 1);
        // As it is played to the end.
        assert_eq!(numbers(&cache, &entry), 192);
        assert!(cache.reserve(1_000_000).is_some());
        assert_eq!((entry.files(), entry.counts().0, home.files(".seg").len()), (vec![0, 1], 128, 2));
        assert!(!entry.marks().retired && cache.bytes() < 128 * 60_000 + 50_000);
    }

    #[test]
    fn a_disk_without_room_takes_nothing() {
        let (mut home, film) = (Home::new(), film());
        home.settings.min_free = u64::MAX;
        let cache = home.open();
        assert!(cache.reserve(1).is_none());
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        assert!(!cache.make_room(&entry));
        cache.failed(&ErrorKind::StorageFull.into(), "a test fails");
        cache.failed(&ErrorKind::QuotaExceeded.into(), "a test fails");
        cache.failed(&ErrorKind::PermissionDenied.into(), "a test fails");
        assert_eq!(home.said.errors(), ["disk_full", "disk_full", "io"]);
    }

    #[test]
    fn room_that_is_made_for_an_entry_is_used_up_and_given_back() {
        let (mut home, film) = (Home::new(), Film::new(60_000, 128));
        home.settings.max_size = 128 * 60_000 + 500_000;
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        let hold = cache.hold(&entry);
        assert!(cache.make_room(&entry) && cache.make_room(&entry));
        assert!(cache.reserve(1_000_000).is_none());
        film.fill(&entry, 0..64);
        cache.seal(&entry, false);
        cache.flush();
        // What is written and what is promised together are no more than before.
        assert!(cache.reserve(1_000_000).is_none());
        entry.leaves_room();
        assert!(cache.reserve(64 * 60_000).is_some());
        assert!(cache.reserve(65 * 60_000 + 500_000).is_none());
        drop(hold);
    }

    #[test]
    fn content_of_packets_that_can_not_be_kept_is_refused_and_leaves_nothing() {
        let (home, film) = (Home::new(), film());
        let cache = home.open();
        let key = "k".repeat(Meta::MAX_KEY + 1);
        assert_eq!(cache.create(&key, &film.opened, 1).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!((cache.entries(), home.files("meta").len()), (0, 0));
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_removed() {
        let (home, film) = (Home::new(), film());
        let cache = home.open();
        let geometry = Geometry::for_packets_of(500).unwrap();
        let meta = meta_of(KEY, 5, geometry, &film.opened, None, Marks::default());
        let meta = Meta { description: Bytes::from_static(b"what?"), ..meta };
        drop(cache.store().create(&meta).unwrap());
        drop(cache);
        let cache = home.open();
        assert_eq!(cache.keys(), [KEY]);
        assert!(cache.find(KEY).unwrap().is_none());
        assert_eq!((home.said.errors(), home.files("meta").len()), (vec!["checksum"], 0));
        assert_eq!((cache.keys().len(), cache.entries(), cache.bytes()), (0, 0, 0));
    }

    #[test]
    fn two_who_look_for_a_key_at_once_find_one_entry() {
        let (home, film) = (Home::new(), film());
        drop(film.store(&home.open(), KEY, 1));
        let cache = home.open();
        let found: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| cache.find(KEY).unwrap().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|entry| Arc::ptr_eq(entry, &found[0])));
    }

    #[test]
    fn what_is_still_to_be_written_of_a_retired_entry_is_not() {
        let (home, film) = (Home::new(), film());
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        film.fill(&entry, 0..10);
        cache.retire(&entry);
        cache.seal(&entry, true);
        cache.save(&entry);
        cache.flush();
        assert_eq!((home.files(".some").len(), home.files("meta").len(), cache.bytes()), (0, 0, 0));
        assert_eq!(entry.take(&film.whole(10), LIMIT), super::super::Taken::New);
        drop(entry);
        until(|| {
            cache.flush();
            (cache.held() == 0).then_some(())
        });
        assert_eq!(home.said.errors(), [""; 0]);
        assert!(fs::exists(home.file("lock")).unwrap());
    }
}
