//! The store against a disk that fails and a machine that dies, at each operation there is; then what it owes on a good day.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use proptest::prelude::*;

use super::faulty::{Fault, Faulty, Lost};
use super::*;

const KEY: &str = "mms://origin:1755/film.wmv";
/// Two packets a block, 32 a segment.
const SLOTS: u32 = 32;

fn geometry() -> Geometry {
    Geometry::of(16, 2).unwrap()
}

fn meta(key: &str, generation: u64) -> Meta {
    Meta {
        key: key.to_owned(),
        generation,
        geometry: geometry(),
        header: Bytes::from_static(b"an ASF header"),
        description: Bytes::from_static(b"seekable"),
        packet_count: 70,
        end: None,
        created: 1,
        validated: 2,
        last_used: 3,
        plays: 0,
        guarded: false,
        set_aside: false,
    }
}

/// No two packets of any two generations are equal.
fn packet(generation: u64, number: u64) -> Bytes {
    [generation.to_le_bytes(), number.to_le_bytes()].concat().into()
}

/// Each fifth packet is absent; of the others, those below `known` are here, and all if `known` is that of all slots.
fn segment(generation: u64, index: u32, known: u32) -> SegmentData {
    let slots = (0..SLOTS).map(|slot| match slot {
        slot if slot >= known => Slot::Unknown,
        slot if slot % 5 == 4 => Slot::Absent,
        slot => Slot::Present(packet(generation, geometry().first_packet(index) + u64::from(slot))),
    });
    SegmentData { index, slots: slots.collect(), summary: Bytes::from(vec![index as u8; known as usize]) }
}

fn read(entry: &EntryDir, index: u32) -> Result<Vec<Slot<Bytes>>, ReadError> {
    let header = entry.read_header(index)?;
    let blocks = (0..header.blocks()).map(|block| entry.read_block(block, &header));
    Ok(blocks.collect::<Result<Vec<_>, _>>()?.concat())
}

fn store(dir: &Path) -> Store {
    Store::open(dir, SyncPolicy::Segment).unwrap()
}

/// All files and empty directories below `dir`; of the latter, those of shards are no leftover.
fn tree(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let below = if entry.is_dir() { tree(&entry) } else { BTreeSet::new() };
        let is_shard = entry.is_dir() && entry.file_name().unwrap().len() == 2;
        found.extend(if below.is_empty() && !is_shard { BTreeSet::from([entry]) } else { below });
    }
    found
}

fn names(dir: &Path) -> Vec<String> {
    tree(dir).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// What the store said that it had done.
#[derive(Debug, Default)]
struct Ledger {
    created: BTreeSet<u64>,
    /// By generation and index, how many slots were known of what was sealed last.
    sealed: BTreeMap<(u64, u32), u32>,
    plays: u64,
    removal_begun: bool,
    removed: bool,
}

impl Ledger {
    fn seal(&mut self, entry: Option<&EntryDir>, index: u32, known: u32) {
        let Some(entry) = entry else { return };
        if entry.write_segment(&segment(entry.generation(), index, known)).is_ok() {
            self.sealed.insert((entry.generation(), index), known);
        }
    }

    fn create(&mut self, store: &Store, generation: u64) -> Option<EntryDir> {
        let entry = store.create(&meta(KEY, generation)).ok()?;
        self.created.insert(generation);
        Some(entry)
    }

    /// All there is to do with an entry; whatever fails, the next is tried.
    fn write(&mut self, store: &Store) {
        let first = self.create(store, 1);
        self.seal(first.as_ref(), 0, 3);
        self.seal(first.as_ref(), 0, 17);
        self.seal(first.as_ref(), 1, 5);
        self.seal(first.as_ref(), 0, SLOTS);
        if first.as_ref().is_some_and(|entry| entry.write_meta(&Meta { plays: 1, ..meta(KEY, 1) }).is_ok()) {
            self.plays = 1;
        }
        store.find(KEY).ok();
        let second = self.create(store, 2);
        self.seal(second.as_ref(), 0, SLOTS);
        self.seal(second.as_ref(), 2, 6);
        drop(first);
        // Removes the first.
        store.find(KEY).ok();
        if let Some(second) = second {
            self.removal_begun = true;
            self.removed = second.forget().and_then(|()| second.remove()).is_ok();
        }
    }

    /// A store that is opened later has kept its word, and nothing beside.
    fn hold_against(&self, dir: &Path) {
        let store = store(dir);
        let found = store.find(KEY).unwrap();
        assert_eq!(
            store.entries().map(|entry| entry.unwrap().meta).next(),
            found.as_ref().map(|found| found.meta.clone())
        );
        let Some(Found { entry, meta, segments }) = found else {
            assert!(self.created.is_empty() || self.removal_begun, "the entry is lost");
            assert_eq!(names(dir), ["lock"], "something is left of it");
            return;
        };
        assert!(!self.removed, "a removed entry came back");
        let generation = entry.generation();
        assert!(self.created.last().is_none_or(|&newest| newest <= generation), "an old generation came back");
        assert!(generation == 2 || meta.plays >= self.plays, "an old meta came back");
        assert_eq!(meta, Meta { plays: meta.plays, ..super::tests::meta(KEY, generation) });
        for (&(_, index), &known) in self.sealed.range((generation, 0)..(generation + 1, 0)) {
            let wanted = segment(generation, index, known).slots;
            let there = read(&entry, index).unwrap();
            assert!(there.iter().zip(&wanted).all(|(there, wanted)| *wanted == Slot::Unknown || there == wanted));
        }
        for listed in &segments {
            let header = entry.check(listed.index).unwrap();
            assert_eq!((header.is_full(), header.summary()[0]), (listed.is_full, listed.index as u8));
            let right = segment(generation, listed.index, SLOTS).slots;
            let there = read(&entry, listed.index).unwrap();
            assert!(there.iter().zip(&right).all(|(there, right)| *there == Slot::Unknown || there == right));
        }
        let mut counted: Vec<_> = segments.iter().map(|listed| name::segment(listed.index, listed.is_full)).collect();
        counted.extend(["lock".to_owned(), "meta".to_owned()]);
        let mut there = names(dir);
        counted.sort();
        there.sort();
        assert_eq!(there, counted, "something counts that is not there, or is there and does not count");
    }
}

/// How many operations it takes to open a store and [write](Ledger::write).
fn operations() -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, files) = (Ledger::default(), Arc::new(Faulty::default()));
    ledger.write(&Store::open_with(files.clone(), dir.path(), SyncPolicy::Segment).unwrap());
    assert!(ledger.removed && ledger.plays == 1 && ledger.created.len() == 2 && ledger.sealed.len() == 4);
    assert!(files.count("sync_dir") > 10 && files.count("remove_dir") > 1);
    files.operations()
}

fn write_on(files: Arc<Faulty>, dir: &Path) -> Ledger {
    let mut ledger = Ledger::default();
    if let Ok(store) = Store::open_with(files, dir, SyncPolicy::Segment) {
        ledger.write(&store);
    }
    ledger
}

#[test]
fn an_error_at_any_operation_costs_what_it_struck() {
    for at in 1..=operations() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let dir = tempfile::tempdir().unwrap();
            write_on(Arc::new(Faulty::with(Fault::Once(at, kind))), dir.path()).hold_against(dir.path());
        }
    }
}

#[test]
fn a_kill_at_any_operation_loses_nothing_that_was_sealed() {
    for at in 1..=operations() {
        let dir = tempfile::tempdir().unwrap();
        write_on(Arc::new(Faulty::with(Fault::Death(at))), dir.path()).hold_against(dir.path());
    }
}

#[test]
fn a_loss_of_power_at_any_operation_loses_nothing_that_was_sealed() {
    for at in 1..=operations() + 1 {
        for lost in [Lost::None, Lost::Newer, Lost::All] {
            let dir = tempfile::tempdir().unwrap();
            let files = Arc::new(Faulty::with(Fault::Death(at)));
            let ledger = write_on(files.clone(), dir.path());
            files.lose_power(dir.path(), lost);
            ledger.hold_against(dir.path());
        }
    }
}

#[test]
fn without_syncs_a_loss_of_power_costs_segments_but_gives_no_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(Faulty::default());
    let store = Store::open_with(files.clone(), dir.path(), SyncPolicy::None).unwrap();
    let entry = store.create(&meta(KEY, 1)).unwrap();
    entry.write_segment(&segment(1, 0, SLOTS)).unwrap();
    assert_eq!((files.count("sync"), files.count("sync_dir")), (0, 0));
    assert_eq!(entry.check(0).unwrap(), entry.read_header(0).unwrap());
    files.lose_power(dir.path(), Lost::None);
    assert_eq!(entry.check(0).unwrap_err().label(), "checksum");
    assert!(store.find(KEY).unwrap().is_none());
    assert_eq!(store.corrupt_metas(), 1);
}

#[test]
fn a_full_disk_fails_the_write_and_takes_the_temporary_file_back() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).create(&meta(KEY, 1)).unwrap().write_segment(&segment(1, 0, 4)).unwrap();
    let found_with = |files: &Arc<Faulty>| {
        let store = Store::open_with(files.clone(), dir.path(), SyncPolicy::Segment).unwrap();
        store.find(KEY).unwrap().unwrap().entry
    };
    let files = Arc::new(Faulty::default());
    drop(found_with(&files));
    // Creating the file, writing to it and syncing it.
    for at in 1..=3 {
        let files = Arc::new(Faulty::with(Fault::Once(files.operations() + at, io::ErrorKind::StorageFull)));
        let entry = found_with(&files);
        let there = tree(dir.path());
        assert_eq!(error_label(&entry.write_segment(&segment(1, 0, SLOTS)).unwrap_err()), "disk_full");
        assert_eq!(tree(dir.path()), there);
        assert_eq!(read(&entry, 0).unwrap(), segment(1, 0, 4).slots);
    }
}

#[test]
fn two_proxies_on_one_directory_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    let error = Store::open(dir.path(), SyncPolicy::Segment).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    assert!(error.to_string().ends_with("is in use by another proxy"));
    // Whoever has an entry may still write to it.
    let entry = first.create(&meta(KEY, 1)).unwrap();
    drop(first);
    Store::open(dir.path(), SyncPolicy::Segment).unwrap_err();
    drop(entry);
    store(dir.path());
}

#[test]
fn the_start_takes_as_long_with_many_entries_as_with_none() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    let root = dir.path().join(name::VERSION);
    for number in 0..1000 {
        let meta = meta(&number.to_string(), 7);
        let generation = root.join(name::Digest::of(&meta.key).path()).join(name::generation(7));
        fs::create_dir_all(&generation).unwrap();
        fs::write(generation.join(name::META), meta.encode().unwrap()).unwrap();
    }
    let files = Arc::new(Faulty::default());
    let store = Store::open_with(files.clone(), dir.path(), SyncPolicy::Segment).unwrap();
    assert_eq!((files.operations(), files.count("make_dir"), files.count("sync_dir")), (2, 1, 1));
    // The names of its generations, meta opened and read, the names of its segments.
    assert_eq!(store.find("77").unwrap().unwrap().meta, meta("77", 7));
    assert_eq!((files.operations(), files.count("read")), (2 + 4, 1));
    let keys: BTreeSet<_> = store.entries().map(|found| found.unwrap().meta.key).collect();
    assert_eq!(keys, (0..1000).map(|number| number.to_string()).collect());
    // The names of the shards and those in each.
    let shards = fs::read_dir(root).unwrap().count() as u64;
    assert_eq!(files.operations(), 6 + 1 + shards + 4 * 1000);
}

#[test]
fn a_generation_that_is_held_is_read_on_after_the_next_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let old = store.create(&meta(KEY, 1)).unwrap();
    old.write_segment(&segment(1, 0, SLOTS)).unwrap();
    let new = store.create(&meta(KEY, 2)).unwrap();
    assert_eq!(store.find(KEY).unwrap().unwrap().entry.generation(), 2);
    assert_eq!(read(&old, 0).unwrap(), segment(1, 0, SLOTS).slots);
    // It would come back if the new one were purged.
    assert_eq!(old.write_meta(&meta(KEY, 1)).unwrap_err().kind(), io::ErrorKind::NotFound);
    new.remove().unwrap();
    drop(new);
    assert!(store.find(KEY).unwrap().is_none());
    assert_eq!(read(&old, 0).unwrap(), segment(1, 0, SLOTS).slots);
    drop(old);
    assert!(store.find(KEY).unwrap().is_none());
    assert_eq!(names(dir.path()), ["lock"]);
}

#[test]
fn what_is_forgotten_stays_readable_and_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let entry = store.create(&meta(KEY, 1)).unwrap();
    entry.write_segment(&segment(1, 3, 9)).unwrap();
    entry.forget().unwrap();
    assert!(store.find(KEY).unwrap().is_none());
    assert_eq!(read(&entry, 3).unwrap(), segment(1, 3, 9).slots);
    entry.remove().unwrap();
    assert!(matches!(read(&entry, 3), Err(ReadError::Missing(3))));
    assert_eq!(store.create(&meta(KEY, 1)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    drop(entry);
    assert_eq!(store.create(&meta(KEY, 1)).unwrap().segments().unwrap(), []);
}

#[test]
fn a_reader_goes_on_when_a_fuller_segment_takes_the_place_of_the_one_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let entry = store.create(&meta(KEY, 1)).unwrap();
    entry.write_segment(&segment(1, 0, 3)).unwrap();
    let known = entry.read_header(0).unwrap();
    for fuller in [7, SLOTS] {
        let bytes = entry.write_segment(&segment(1, 0, fuller)).unwrap();
        assert_eq!(entry.segments().unwrap(), [Listed { index: 0, is_full: fuller == SLOTS, bytes }]);
        assert_eq!(entry.read_block(1, &known).unwrap(), segment(1, 0, fuller).slots[2..4]);
    }
    entry.remove_segment(0).unwrap();
    assert!(matches!(entry.read_block(1, &known), Err(ReadError::Missing(0))));
    assert!(matches!(entry.check(0), Err(ReadError::Missing(0))));
    entry.remove_segment(0).unwrap();
}

#[test]
fn readers_of_a_segment_that_grows_see_right_bytes_at_every_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), SyncPolicy::None).unwrap();
    let entry = store.create(&meta(KEY, 1)).unwrap();
    let right = segment(1, 0, SLOTS).slots;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for known in (1..=SLOTS).cycle().take(20 * SLOTS as usize) {
                entry.write_segment(&segment(1, 0, known)).unwrap();
                if known == SLOTS {
                    entry.remove_segment(0).unwrap();
                }
            }
        });
        while !writer.is_finished() {
            store.find(KEY).unwrap().unwrap();
            match read(&entry, 0) {
                Ok(slots) => {
                    assert!(slots.iter().zip(&right).all(|(slot, right)| *slot == Slot::Unknown || slot == right))
                }
                Err(error) => assert!(matches!(error, ReadError::Missing(0)), "{error}"),
            }
        }
    });
}

#[test]
fn an_entry_is_found_and_read_at_every_moment_while_generations_follow_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), SyncPolicy::None).unwrap();
    let begin = |generation| {
        let entry = store.create(&meta(KEY, generation)).unwrap();
        entry.write_segment(&segment(generation, 0, SLOTS)).unwrap();
    };
    begin(1);
    thread::scope(|scope| {
        let writer = scope.spawn(|| (2..300).for_each(begin));
        let mut newest = 0;
        while !writer.is_finished() {
            let Some(Found { entry, segments, .. }) = store.find(KEY).unwrap() else { panic!("missed after {newest}") };
            assert!(entry.generation() >= newest);
            newest = entry.generation();
            for listed in segments {
                assert_eq!(read(&entry, listed.index).unwrap(), segment(newest, listed.index, SLOTS).slots);
            }
        }
    });
    assert_eq!(store.find(KEY).unwrap().unwrap().entry.generation(), 299);
    assert_eq!(names(dir.path()), ["lock", "000000.seg", "meta"]);
}

#[test]
fn the_last_segment_may_be_shorter_and_a_segment_may_hold_no_packet() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let entry = store.create(&meta(KEY, 1)).unwrap();
    let mut short = segment(1, 2, SLOTS);
    short.slots.truncate(5);
    entry.write_segment(&short).unwrap();
    let absent = SegmentData { index: 9, slots: vec![Slot::Absent; 3], summary: Bytes::new() };
    entry.write_segment(&absent).unwrap();
    let header = entry.check(2).unwrap();
    assert_eq!((header.slots(), header.blocks(), header.is_full()), (5, 3, true));
    assert_eq!((header.slot(4), header.slot(5)), (Slot::Absent, Slot::Unknown));
    assert_eq!((read(&entry, 2).unwrap(), read(&entry, 9).unwrap()), (short.slots, absent.slots));
    assert!(matches!(entry.read_block(3, &header), Err(ReadError::Io(_))));
}

#[test]
fn what_would_not_be_read_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let entry = store.create(&meta(KEY, 1)).unwrap();
    let before = tree(dir.path());
    let good = segment(1, 0, SLOTS);
    let bad = [
        SegmentData { slots: Vec::new(), ..good.clone() },
        SegmentData { slots: vec![Slot::Absent; 33], ..good.clone() },
        SegmentData { slots: vec![Slot::Present(Bytes::from_static(b"short"))], ..good.clone() },
        SegmentData { summary: Bytes::from(vec![0; SegmentData::MAX_SUMMARY + 1]), ..good.clone() },
    ];
    for bad in bad {
        assert_eq!(entry.write_segment(&bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    for bad in
        [meta("another", 1), meta(KEY, 2), Meta { geometry: Geometry::for_packets_of(16).unwrap(), ..meta(KEY, 1) }]
    {
        assert_eq!(entry.write_meta(&bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(tree(dir.path()), before);
    // The longest of both is one read more.
    let summary = Bytes::from(vec![7; SegmentData::MAX_SUMMARY]);
    entry.write_segment(&SegmentData { summary: summary.clone(), ..good.clone() }).unwrap();
    assert_eq!((entry.check(0).unwrap().summary(), read(&entry, 0).unwrap()), (&summary, good.slots));
}

#[test]
fn a_file_in_a_wrong_place_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let entries = [(KEY, 1), (KEY, 2), ("another", 2)].map(|(key, generation)| {
        let entry = store.create(&meta(key, generation)).unwrap();
        entry.write_segment(&segment(2, 0, SLOTS)).unwrap();
        entry.write_segment(&segment(2, 1, 4)).unwrap();
        entry
    });
    let path = |entry: usize, name: &str| {
        let (key, generation) = [(KEY, 1), (KEY, 2), ("another", 2)][entry];
        let dir = dir.path().join(name::VERSION).join(name::Digest::of(key).path());
        dir.join(name::generation(generation)).join(name)
    };
    let moved = [
        ((0, "000000.seg"), 0, "it belongs to another generation"),
        ((2, "000000.seg"), 0, "it belongs to another key"),
        ((1, "000001.some"), 0, "it is another segment"),
    ];
    for ((from, name), to, reason) in moved {
        fs::copy(path(from, name), path(1, "000000.seg")).unwrap();
        let error = entries[1].check(to).unwrap_err();
        assert!(matches!(&error, ReadError::Corrupt { what, .. } if *what == reason), "{error}");
    }
    fs::rename(path(1, "000001.some"), path(1, "000001.seg")).unwrap();
    assert!(entries[1].check(1).unwrap_err().to_string().ends_with("its name tells otherwise what is known"));
    drop(entries);
    fs::copy(path(2, "meta"), path(1, "meta")).unwrap();
    assert!(store.find(KEY).unwrap().is_none());
}

#[test]
fn the_disk_has_room() {
    let dir = tempfile::tempdir().unwrap();
    assert!(store(dir.path()).free_bytes().unwrap() > 0);
}

/// A change to the bytes of a file.
#[derive(Clone, Debug)]
enum Harm {
    Change(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Zero(prop::sample::Index, prop::sample::Index),
    Replace(Vec<u8>),
}

impl Harm {
    fn any() -> impl Strategy<Value = Self> {
        let index = any::<prop::sample::Index>;
        prop_oneof![
            (index(), 1u8..).prop_map(|(at, change)| Self::Change(at, change)),
            index().prop_map(Self::Cut),
            proptest::collection::vec(any::<u8>(), 1..20).prop_map(Self::Append),
            (index(), index()).prop_map(|(from, to)| Self::Zero(from, to)),
            proptest::collection::vec(any::<u8>(), 0..100).prop_map(Self::Replace),
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Change(at, change) => *at.get_mut(bytes) ^= change,
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Append(more) => bytes.extend(more),
            Self::Zero(a, b) => {
                let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
                bytes[a.min(b)..=a.max(b)].fill(0);
            }
            Self::Replace(other) => *bytes = other,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn harm_to_any_file_is_noticed(file in 0usize..3, harm in Harm::any()) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), SyncPolicy::None).unwrap();
        let entry = store.create(&meta(KEY, 1)).unwrap();
        entry.write_segment(&segment(1, 0, SLOTS)).unwrap();
        entry.write_segment(&segment(1, 1, 11)).unwrap();
        let name = ["000000.seg", "000001.some", "meta"][file];
        let path = tree(dir.path()).into_iter().find(|path| path.ends_with(name)).unwrap();
        let right = fs::read(&path).unwrap();
        let mut harmed = right.clone();
        harm.apply(&mut harmed);
        prop_assume!(harmed != right);
        fs::write(&path, harmed).unwrap();

        let found = store.find(KEY).unwrap();
        if name == "meta" {
            prop_assert!(found.is_none());
            return Ok(());
        }
        let entry = found.unwrap().entry;
        for (index, known) in [(0u32, SLOTS), (1, 11)] {
            let right = segment(1, index, known).slots;
            if index as usize != file {
                prop_assert_eq!(read(&entry, index).unwrap(), right);
                continue;
            }
            let is_corrupt = matches!(entry.check(index), Err(ReadError::Corrupt { .. }));
            prop_assert!(is_corrupt);
            // What can still be read of it is right.
            let Ok(header) = entry.read_header(index) else { continue };
            for block in 0..header.blocks() {
                if let Ok(slots) = entry.read_block(block, &header) {
                    let first = geometry().first_slot(block) as usize;
                    prop_assert_eq!(&slots, &right[first..first + slots.len()]);
                }
            }
        }
    }
}
