//! The thread that writes: one for the whole cache, so that a slow disk holds up nothing but itself.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use super::block::{Block, Slot};
use super::disk::{self, ReadError, SegmentData};
use super::entry::Entry;
use super::keeper::{Cache, meta_of};
use super::ledger::FileId;
use super::segment::OnDisk;
use super::summary;
use crate::asf::{KeyFrames, PacketNumber, padding};

/// What is to be written. Of media no more waits than `Settings::unwritten`, of entries no more than are open.
#[derive(Debug)]
pub enum Write {
    /// What memory has of a file.
    Segment(Arc<Entry>, u32),
    /// What is remembered of an entry.
    Meta(Arc<Entry>),
    /// The files of a retired entry, once nobody reads it any more.
    Remove(Arc<Entry>),
    /// Answered when all before it is done.
    Flush(Sender<()>),
}

/// How often it is looked at whether a retired entry is still read.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Works until the cache is gone.
pub fn run(cache: Weak<Cache>, jobs: &Receiver<Write>) {
    // Retired entries that are still read.
    let mut retired: Vec<Arc<Entry>> = Vec::new();
    loop {
        let job = match retired.is_empty() {
            true => jobs.recv().map_err(RecvTimeoutError::from),
            false => jobs.recv_timeout(LOOK_AGAIN),
        };
        let Some(cache) = cache.upgrade() else { return };
        match job {
            Ok(Write::Segment(entry, segment)) => write_segment(&cache, &entry, segment),
            Ok(Write::Meta(entry)) => save(&cache, &entry),
            Ok(Write::Remove(entry)) => retired.push(entry),
            Ok(Write::Flush(done)) => drop(done.send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        retired.retain(|entry| {
            // This one is ours.
            let is_read = Arc::strong_count(entry) > 1;
            if !is_read && let Err(error) = entry.dir().remove() {
                cache.failed(&error, "an entry can't be removed");
            }
            is_read
        });
    }
}

fn save(cache: &Cache, entry: &Entry) {
    if entry.marks().retired {
        return;
    }
    if let Err(error) = write_meta(entry) {
        cache.failed(&error, "what is known of an entry can't be written");
    }
}

fn write_meta(entry: &Entry) -> io::Result<()> {
    let marks = entry.marks();
    let meta = meta_of(entry.key(), entry.generation(), entry.geometry(), entry.opened(), entry.end(), marks);
    entry.dir().write_meta(&meta)
}

fn write_segment(cache: &Cache, entry: &Arc<Entry>, segment: u32) {
    let (fresh, times) = entry.fresh(segment);
    if fresh.is_empty() || entry.marks().retired {
        return;
    }
    match try_write(cache, entry, segment, &fresh, times) {
        Ok((file, times)) => {
            if entry.marks().retired {
                // It was, meanwhile: what was written goes with the rest.
                cache.ledger().remove(FileId { generation: entry.generation(), segment });
            }
            let is_whole = matches!(file, OnDisk::Whole { .. });
            entry.sealed(segment, file, times, &fresh);
            if is_whole {
                share(cache, entry, segment, &fresh);
            } else {
                cache.blocks().forget(entry.generation(), segment);
            }
        }
        Err(error) => {
            warn!(key = entry.key(), %error, "can't be stored any more, and is passed through");
            cache.observer().error(disk::error_label(&error));
            entry.give_up();
        }
    }
    entry.ring();
}

/// One file, with what an earlier one had; `times` are those of `fresh`, where they were kept.
fn try_write(
    cache: &Cache,
    entry: &Entry,
    segment: u32,
    fresh: &[Slot],
    times: Option<KeyFrames>,
) -> io::Result<(OnDisk, KeyFrames)> {
    let packet_size = entry.geometry().packet_size() as usize;
    let count = entry.slots(segment) as usize;
    let mut slots: Vec<disk::Slot<Bytes>> = fresh.iter().take(count).map(|slot| on_disk(slot, packet_size)).collect();
    slots.resize(count, disk::Slot::Unknown);
    let has_gaps = slots.contains(&disk::Slot::Unknown);
    if has_gaps {
        add_what_is_there(cache, entry, segment, &mut slots);
    }
    let file = OnDisk::of(&slots);
    let of_all = || summary::of(&entry.opened().header, entry.geometry().first_packet(segment), &slots);
    let times = times.filter(|_| !has_gaps).unwrap_or_else(of_all);
    let summary = Bytes::from(times.encode());
    // Neither a crash nor an error may leave a last file that is whole beside an entry that does not know its end.
    if count < entry.geometry().packets_per_segment() as usize {
        write_meta(entry)?;
    }
    let bytes = entry.dir().write_segment(&SegmentData { index: segment, slots, summary })?;
    let more = cache.ledger().put(FileId { generation: entry.generation(), segment }, bytes, entry.marks().plays);
    entry.uses_room(more);
    Ok((file, times))
}

/// As it came where it came whole, else with its padding put back.
fn on_disk(slot: &Slot, packet_size: usize) -> disk::Slot<Bytes> {
    match slot {
        Slot::Unknown => disk::Slot::Unknown,
        Slot::Absent => disk::Slot::Absent,
        Slot::Present(packet) if packet.bytes.len() == packet_size => disk::Slot::Present(packet.bytes.clone()),
        Slot::Present(packet) => {
            let restored = padding::restore(&packet.bytes, packet_size).unwrap_or_else(|_| {
                // Nobody can read it; as long as the others it is.
                let mut bytes = packet.bytes.to_vec();
                bytes.resize(packet_size, 0);
                bytes
            });
            disk::Slot::Present(Bytes::from(restored))
        }
    }
}

/// What an earlier file of the segment has and `slots` has not.
fn add_what_is_there(cache: &Cache, entry: &Entry, segment: u32, slots: &mut [disk::Slot<Bytes>]) {
    let dir = entry.dir();
    let header = match dir.read_header(segment) {
        Ok(header) => header,
        Err(ReadError::Missing(_)) => return,
        Err(error) => {
            warn!(%error, "a file of the cache can't be read, and is written anew");
            cache.observer().error(error.label());
            return;
        }
    };
    let per_block = entry.geometry().packets_per_block() as usize;
    for (block, slots) in slots.chunks_mut(per_block.max(1)).enumerate() {
        if !slots.contains(&disk::Slot::Unknown) {
            continue;
        }
        match dir.read_block(block as u32, &header) {
            Ok(before) => {
                for (slot, before) in slots.iter_mut().zip(before).filter(|(slot, _)| **slot == disk::Slot::Unknown) {
                    *slot = before;
                }
            }
            Err(error) => {
                warn!(%error, "a part of a file of the cache can't be read");
                cache.observer().error(error.label());
            }
        }
    }
}

/// What was just written need not be read from disk by those who are on their way to it. What nobody is about to read gives
/// its memory to what comes next.
fn share(cache: &Cache, entry: &Entry, segment: u32, fresh: &[Slot]) {
    cache.blocks().forget(entry.generation(), segment);
    let Some(needed) = entry.first_place() else { return };
    let per_block = entry.geometry().packets_per_block() as usize;
    for (block, slots) in (0..).zip(fresh.chunks(per_block.max(1))) {
        let first = entry.geometry().first_of_block(segment, block);
        let is_passed = first.saturating_add(slots.len() as u64) <= needed;
        if !is_passed && slots.len() == per_block && slots.iter().all(Slot::is_known) {
            let shared = Block::new(PacketNumber(first), slots);
            cache.blocks().put(entry.generation(), segment, block, Arc::new(shared));
        }
    }
}
