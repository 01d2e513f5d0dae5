//! A cache in a directory of its own that can be opened again, and content to put into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::disk::{self, Geometry, Store, StoreError, SyncPolicy};
use super::keeper::meta_of;
use super::{Cache, Entry, Marks, Observer, Reader, Settings, Taken, Want};
use crate::asf::testing::{Plan, PlannedPayload};
use crate::asf::{HeaderBuilder, PacketNumber, StreamNumber, VideoFormat, WaveFormat, padding};
use crate::session::archive::{Access, Archive, Linear, Place};
use crate::session::{Cursor, Description, End, Next, Opened, Packet};

pub(super) const KEY: &str = "origin:1755/film";
/// More than any test fills.
pub(super) const LIMIT: u64 = 1 << 30;

/// Keeps what a cache says.
#[derive(Default)]
pub(super) struct Said {
    errors: Mutex<Vec<&'static str>>,
    evicted: AtomicUsize,
}

impl Said {
    pub(super) fn errors(&self) -> Vec<&'static str> {
        self.errors.lock().clone()
    }

    pub(super) fn evicted(&self) -> usize {
        self.evicted.load(Ordering::Relaxed)
    }
}

impl Observer for Said {
    fn error(&self, reason: &'static str) {
        self.errors.lock().push(reason);
    }

    fn evicted(&self, files: usize) {
        self.evicted.fetch_add(files, Ordering::Relaxed);
    }
}

/// Where a cache has its files, from one run to the next.
pub(super) struct Home {
    dir: TempDir,
    pub(super) said: Arc<Said>,
    pub(super) settings: Settings,
}

impl Home {
    pub(super) fn new() -> Self {
        let settings = Settings { max_size: LIMIT, min_free: 0, blocks: 64 << 20, unwritten: LIMIT };
        Self { dir: tempfile::tempdir().unwrap(), said: Arc::default(), settings }
    }

    /// All that is there is listed. The run before is over as soon as nothing of it is held.
    pub(super) fn open(&self) -> Arc<Cache> {
        let cache = until(|| match Cache::open(self.dir.path(), self.settings.clone(), self.said.clone()) {
            Ok(cache) => Some(cache),
            Err(StoreError::InUse(_)) => None,
            Err(error) => panic!("{error}"),
        });
        until(|| cache.is_scanned().then_some(()));
        cache
    }

    /// An entry whose blocks are as if its packets had that many bytes, in a cache that was just opened.
    pub(super) fn with_blocks_for(&self, packet_size: u32, film: &Film) -> (Arc<Cache>, Arc<Entry>) {
        let store = Store::open(self.dir.path(), SyncPolicy::None).unwrap();
        let geometry = Geometry::for_packets_of(packet_size).unwrap();
        store.create(&meta_of(KEY, 1, geometry, &film.opened, None, Marks::default())).unwrap();
        drop(store);
        let cache = self.open();
        let entry = cache.find(KEY).unwrap().unwrap();
        (cache, entry)
    }

    /// The files whose names end so.
    pub(super) fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut files = files(self.dir.path());
        files.retain(|path| path.to_string_lossy().ends_with(name));
        files
    }

    /// The only file whose name ends so.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        let files = self.files(name);
        assert_eq!(files.len(), 1, "{name}: {files:?}");
        files[0].clone()
    }

    /// Changes the last byte of a file.
    pub(super) fn damage(&self, name: &str) {
        let path = self.file(name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

/// What is removed meanwhile is not there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Until there is something; no test waits so long.
pub(super) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it never comes");
        thread::yield_now();
    }
}

/// On-demand content: a packet each [`STEP_MS`], in each [`KEY_FRAMES`]th of them a key frame begins if there is video.
pub(super) struct Film {
    pub(super) opened: Arc<Opened>,
    /// In full size, their padding filled with what nobody could guess.
    pub(super) packets: Vec<Bytes>,
}

pub(super) const PREROLL: Duration = Duration::from_millis(2000);
pub(super) const STEP_MS: u32 = 100;
pub(super) const KEY_FRAMES: u64 = 5;

impl Film {
    pub(super) fn new(packet_size: u32, packets: u64) -> Self {
        Self::with(packet_size, packets, true)
    }

    pub(super) fn without_video(packet_size: u32, packets: u64) -> Self {
        Self::with(packet_size, packets, false)
    }

    fn with(packet_size: u32, packets: u64, has_video: bool) -> Self {
        let stream = |number| StreamNumber::new(number).unwrap();
        let mut header = HeaderBuilder::new(packet_size)
            .preroll_ms(PREROLL.as_millis() as u64)
            .audio(stream(1), &WaveFormat::pcm(1, 8000, 8));
        if has_video {
            header = header.video(stream(2), 100_000, &VideoFormat::motion_jpeg(16, 16));
        }
        let description = Description {
            can_seek: true,
            duration_seconds: packets as f64 * f64::from(STEP_MS) / 1000.0,
            packet_count: packets,
            bit_rate: 200_000,
            ..Description::default()
        };
        let opened = Arc::new(Opened { description, header: Arc::new(header.build().unwrap()) });
        let packets = (0..packets).map(|number| packet(number, packet_size, has_video)).collect();
        Self { opened, packets }
    }

    fn shared(&self, number: u64, bytes: Bytes) -> Arc<Packet> {
        let stripped = padding::strip(self.packets[number as usize].clone());
        Arc::new(Packet::new(PacketNumber(number), number as u32 * STEP_MS, bytes, stripped))
    }

    /// As an origin sends it that keeps the padding.
    pub(super) fn whole(&self, number: u64) -> Arc<Packet> {
        self.shared(number, self.packets[number as usize].clone())
    }

    /// As an origin sends it that drops the padding.
    pub(super) fn stripped(&self, number: u64) -> Arc<Packet> {
        self.shared(number, padding::strip(self.packets[number as usize].clone()))
    }

    /// What a disk has of a packet that came stripped.
    pub(super) fn restored(&self, number: u64) -> Bytes {
        let stripped = padding::strip(self.packets[number as usize].clone());
        padding::restore(&stripped, self.opened.header.packet_size()).unwrap().into()
    }

    /// Takes packets without padding, each of them new.
    pub(super) fn fill(&self, entry: &Entry, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            assert_eq!(entry.take(&self.stripped(number), LIMIT), Taken::New, "packet {number}");
        }
    }

    /// All of it, sealed.
    pub(super) fn store(&self, cache: &Cache, key: &str, now: u64) -> Arc<Entry> {
        let entry = cache.create(key, &self.opened, now).unwrap();
        self.fill(&entry, 0..self.packets.len() as u64);
        assert!(entry.ended(self.packets.len() as u64, 0));
        cache.seal(&entry, true);
        cache.save(&entry);
        cache.flush();
        entry
    }

    /// What viewers get of `number`.
    pub(super) fn is_at(&self, number: u64, packet: &Packet) -> bool {
        let stripped = padding::strip(self.packets[number as usize].clone());
        (packet.number.0, packet.send_time_ms, &packet.stripped) == (number, number as u32 * STEP_MS, &stripped)
    }
}

fn packet(number: u64, packet_size: u32, has_video: bool) -> Bytes {
    let send_time_ms = number as u32 * STEP_MS;
    let payload = |stream, key_frame| PlannedPayload {
        stream,
        key_frame,
        number: number as u32,
        offset: 0,
        replicated: 8,
        presentation_ms: send_time_ms + PREROLL.as_millis() as u32,
        data: vec![number as u8; 40 + number as usize % 7],
    };
    let mut payloads = vec![payload(1, true)];
    if has_video {
        payloads.push(payload(2, number.is_multiple_of(KEY_FRAMES)));
    }
    let mut whole = padding::restore(&Plan::usual(send_time_ms, payloads).bytes(), packet_size as usize).unwrap();
    whole[packet_size as usize - 8..].fill(number as u8 | 0x80);
    whole.into()
}

pub(super) fn reader(cache: &Arc<Cache>, entry: &Arc<Entry>) -> (Reader, Arc<Want>) {
    let want = Arc::new(Want::default());
    (Reader::new(cache.hold(entry), Arc::default(), Arc::clone(&want)), want)
}

/// What a reader gets of a packet once it need not wait for a disk: `NotYet` where it is unknown.
pub(super) fn read(reader: &mut Reader, want: &Want, number: u64) -> Access<Arc<Packet>> {
    until(|| match reader.packet(PacketNumber(number)) {
        Access::NotYet if want.number().is_none() => None,
        access => Some(access),
    })
}

/// All packets from `from` to a good end, however often they have to be waited for.
pub(super) fn play(cache: &Arc<Cache>, entry: &Arc<Entry>, from: u64) -> Vec<Arc<Packet>> {
    let place = Place { packet: PacketNumber(from), time: Duration::ZERO };
    let mut cursor = Linear::new(reader(cache, entry).0, place, None, PREROLL);
    let mut packets = Vec::new();
    loop {
        match until(|| Some(cursor.next()).filter(|next| !matches!(next, Next::Nothing))) {
            Next::Packet(packet) => packets.push(packet),
            Next::Ended(End::Complete) => return packets,
            other => panic!("{other:?} after {} packets", packets.len()),
        }
    }
}

/// What the disk has of a packet.
pub(super) fn on_disk(entry: &Entry, number: u64) -> disk::Slot<Bytes> {
    let place = entry.geometry().place(number).unwrap();
    let header = entry.dir().read_header(place.segment).unwrap();
    let block = entry.geometry().block_of(place.slot);
    let slots = entry.dir().read_block(block, &header).unwrap();
    slots[(place.slot - entry.geometry().first_slot(block)) as usize].clone()
}
