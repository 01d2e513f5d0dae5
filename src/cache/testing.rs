//! A cache in a directory of its own, with a recorded clip in it.

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::{Cache, Entry, Observer, Settings};
use crate::asf::{File, PacketNumber};
use crate::session::{Description, Opened, Packet};

/// Recorded: tests/vectors/asf/README.md.
pub(crate) const CLIP: &[u8] = include_bytes!("../../tests/vectors/asf/ffmpeg-clip.asf");

/// Who does not count.
pub(crate) struct Nobody;

impl Observer for Nobody {
    fn error(&self, _reason: &'static str) {}

    fn evicted(&self, _files: usize) {}
}

pub(crate) fn settings() -> Settings {
    Settings { max_size: 1 << 30, min_free: 0, blocks: 1 << 20, unwritten: 1 << 24 }
}

pub(crate) fn cache() -> (TempDir, Arc<Cache>) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), settings(), Arc::new(Nobody)).unwrap();
    (dir, cache)
}

/// The clip as an origin would open it.
pub(crate) fn opened() -> Arc<Opened> {
    let file = File::open(Bytes::from_static(CLIP)).unwrap();
    let description = Description {
        can_seek: true,
        duration_seconds: file.header().duration().as_secs_f64(),
        packet_count: file.packet_count(),
        bit_rate: file.header().bit_rate(),
        ..Description::default()
    };
    Arc::new(Opened { description, header: Arc::new(file.header().clone()) })
}

pub(crate) fn packets() -> Vec<Bytes> {
    let file = File::open(Bytes::from_static(CLIP)).unwrap();
    (0..file.packet_count()).map(|number| file.packet(PacketNumber(number)).unwrap()).collect()
}

/// Puts packets of the clip into an entry, those that `wants`; what is left out is absent where `is_whole`.
pub(crate) fn keep(cache: &Arc<Cache>, key: &str, is_whole: bool, wants: impl Fn(u64) -> bool) -> Arc<Entry> {
    let entry = cache.create(key, &opened(), 1_000).unwrap();
    let packets = packets();
    let count = packets.len() as u64;
    for (number, bytes) in (0..).zip(packets) {
        if wants(number) {
            entry.take(&Arc::new(Packet::new(PacketNumber(number), 0, bytes.clone(), bytes)), u64::MAX);
        } else if is_whole {
            entry.skipped(number..number + 1, entry.new_request());
            assert!(entry.skipped(number..number + 1, entry.new_request()));
        }
    }
    if is_whole {
        assert!(entry.ended(count, entry.new_request()));
    }
    cache.seal(&entry, true);
    cache.save(&entry);
    cache.flush();
    entry
}
