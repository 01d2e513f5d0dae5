//! Blocks in memory, and the threads that read them from disk: one read for all who ask, one copy for all who read.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread;

use lru::LruCache;
use moka::sync::Cache as Moka;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tracing::warn;

use super::block::Block;
use super::disk::ReadError;
use super::entry::Entry;
use super::keeper::Cache;
use super::summary;
use crate::asf::PacketNumber;
use crate::session::bells::Bells;

/// Which block.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Id {
    generation: u64,
    segment: u32,
    block: u32,
}

/// What is to be read.
#[derive(Debug)]
pub struct Read {
    entry: Arc<Entry>,
    what: What,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum What {
    Block(Id),
    /// What is kept of the times of all files.
    Times {
        generation: u64,
    },
}

type Asked = HashMap<What, Bells>;

/// Blocks in memory.
#[derive(Debug)]
pub struct Blocks {
    blocks: Moka<Id, Arc<Block>>,
    /// What was read last, whether `blocks` took it or not: it does not take what is rarely asked for while it is full, and
    /// whoever had it read must get it.
    latest: Mutex<LruCache<Id, Arc<Block>>>,
    /// Those that are being read, and who waits for each.
    asked: Mutex<Asked>,
    /// No longer than `asked`.
    reads: Sender<Read>,
}

/// Blocks that are kept whatever room there is: more than are read at a time.
const LATEST: NonZeroUsize = NonZeroUsize::new(64).unwrap(); // the compiler sees that it is not zero
/// Threads that read. Disks serve a few at a time better than one, and many worse.
const READERS: usize = 4;

impl Blocks {
    /// Up to `bytes` of them.
    pub fn new(bytes: u64, reads: Sender<Read>) -> Self {
        let blocks = Moka::builder().max_capacity(bytes).weigher(|_, block: &Arc<Block>| block.weight()).build();
        Self { blocks, latest: Mutex::new(LruCache::new(LATEST)), asked: Mutex::default(), reads }
    }

    /// A block that the disk has, if memory has it as well; else it is read, and `bell` is rung then.
    pub fn get(&self, entry: &Arc<Entry>, segment: u32, block: u32, bell: &Arc<Notify>) -> Option<Arc<Block>> {
        let id = Id { generation: entry.generation(), segment, block };
        self.find(&id).or_else(|| self.get_or_ask(entry, id, bell))
    }

    fn find(&self, id: &Id) -> Option<Arc<Block>> {
        self.blocks.get(id).or_else(|| self.latest.lock().peek(id).cloned())
    }

    fn get_or_ask(&self, entry: &Arc<Entry>, id: Id, bell: &Arc<Notify>) -> Option<Arc<Block>> {
        let what = What::Block(id);
        let asked = self.asked.lock();
        // It is put there before it is no longer asked for: who looked too early does not have it read again.
        if !asked.contains_key(&what)
            && let Some(block) = self.find(&id)
        {
            return Some(block);
        }
        self.ask(asked, entry, what, bell);
        None
    }

    /// Has the times of all files of an entry read; `bell` is rung then.
    pub(super) fn read_times(&self, entry: &Arc<Entry>, bell: &Arc<Notify>) {
        self.ask(self.asked.lock(), entry, What::Times { generation: entry.generation() }, bell);
    }

    fn ask(&self, mut asked: MutexGuard<'_, Asked>, entry: &Arc<Entry>, what: What, bell: &Arc<Notify>) {
        let waiting = asked.entry(what).or_default();
        let is_first = waiting.is_empty();
        waiting.add(bell);
        drop(asked);
        if is_first {
            // The readers live as long as the cache.
            let _ = self.reads.send(Read { entry: Arc::clone(entry), what });
        }
    }

    pub(super) fn put(&self, generation: u64, segment: u32, block: u32, shared: Arc<Block>) {
        let id = Id { generation, segment, block };
        self.latest.lock().put(id, Arc::clone(&shared));
        self.blocks.insert(id, shared);
    }

    /// A file is gone, or has become another.
    pub(super) fn forget(&self, generation: u64, segment: u32) {
        for block in 0..super::disk::Geometry::BLOCKS {
            self.forget_block(&Id { generation, segment, block });
        }
    }

    /// What memory has of a place is older than the disk.
    pub(super) fn forget_at(&self, entry: &Entry, number: PacketNumber) {
        if let Some(place) = entry.geometry().place(number.0) {
            let block = entry.geometry().block_of(place.slot);
            self.forget_block(&Id { generation: entry.generation(), segment: place.segment, block });
        }
    }

    fn forget_block(&self, id: &Id) {
        self.blocks.invalidate(id);
        self.latest.lock().pop(id);
    }

    /// What they hold, bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.weighted_size()
    }
}

/// Starts the threads that read, until the cache is gone.
pub fn spawn_readers(cache: &Arc<Cache>, reads: Receiver<Read>) -> io::Result<()> {
    let reads = Arc::new(Mutex::new(reads));
    for _ in 0..READERS {
        let (cache, reads) = (Arc::downgrade(cache), Arc::clone(&reads));
        thread::Builder::new().name("cache-reader".to_owned()).spawn(move || run(&cache, &reads))?;
    }
    Ok(())
}

fn run(cache: &Weak<Cache>, reads: &Mutex<Receiver<Read>>) {
    loop {
        let read = reads.lock().recv();
        let Ok(Read { entry, what }) = read else { return };
        let Some(cache) = cache.upgrade() else { return };
        match what {
            What::Block(id) => match read_block(&entry, id) {
                Ok(block) => cache.blocks().put(id.generation, id.segment, id.block, Arc::new(block)),
                Err(error) => unreadable(&cache, &entry, id.segment, &error),
            },
            What::Times { .. } => {
                for segment in entry.unread_times() {
                    match entry.dir().read_header(segment) {
                        // What makes no sense is of no use, and no harm.
                        Ok(header) => entry.has_times(segment, summary::read(&entry, header.summary())),
                        Err(error) => unreadable(&cache, &entry, segment, &error),
                    }
                }
            }
        }
        let waiting = cache.blocks().asked.lock().remove(&what).unwrap_or_default();
        waiting.ring();
    }
}

fn unreadable(cache: &Cache, entry: &Entry, segment: u32, error: &ReadError) {
    match error {
        // It went, or a fuller one took its place, a moment ago: who waits looks again.
        ReadError::Missing(_) if !entry.files().contains(&segment) => {}
        error => {
            warn!(key = entry.key(), %error, "a file of the cache can't be read");
            cache.observer().error(error.label());
            cache.drop_file(entry, segment);
        }
    }
}

fn read_block(entry: &Entry, id: Id) -> Result<Block, ReadError> {
    let header = entry.dir().read_header(id.segment)?;
    let slots = entry.dir().read_block(id.block, &header)?;
    let first = entry.geometry().first_of_block(id.segment, id.block);
    Ok(Block::from_disk(PacketNumber(first), &slots))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::super::film::{Film, Home, KEY};
    use super::*;

    #[test]
    fn what_memory_has_no_room_for_is_there_for_who_asked() {
        let (reads, _asked) = std::sync::mpsc::channel();
        let blocks = Blocks::new(0, reads);
        let id = Id { generation: 1, segment: 2, block: 3 };
        blocks.put(1, 2, 3, Arc::new(Block::new(PacketNumber(0), Vec::new())));
        blocks.blocks.run_pending_tasks();
        assert!(blocks.find(&id).is_some());
        blocks.forget(1, 2);
        assert!(blocks.find(&id).is_none());
    }

    #[test]
    fn what_many_ask_for_is_read_once_and_each_is_rung() {
        let (home, film) = (Home::new(), Film::new(60_000, 8));
        let entry = film.store(&home.open(), KEY, 1);
        let (reads, asked) = channel();
        let blocks = Blocks::new(1 << 20, reads);
        let bells: Vec<Arc<Notify>> = (0..100).map(|_| Arc::default()).collect();
        for bell in bells.iter().chain(&bells) {
            assert!(blocks.get(&entry, 0, 0, bell).is_none());
            assert!(blocks.get(&entry, 0, 1, bell).is_none());
        }
        let asked: Vec<What> = asked.try_iter().map(|read| read.what).collect();
        let id = |block| Id { generation: entry.generation(), segment: 0, block };
        assert_eq!(asked, [What::Block(id(0)), What::Block(id(1))]);
        let waiting = blocks.asked.lock().remove(&asked[0]).unwrap();
        assert!(waiting.iter().zip(&bells).all(|(one, other)| Arc::ptr_eq(&one, other)) && waiting.len() == 100);
    }

    #[test]
    fn what_was_read_since_the_first_look_is_not_read_again() {
        let (home, film) = (Home::new(), Film::new(60_000, 8));
        let entry = film.store(&home.open(), KEY, 1);
        let (reads, asked) = channel();
        let blocks = Blocks::new(1 << 20, reads);
        assert!(blocks.get(&entry, 0, 0, &Arc::default()).is_none());
        let shared = Arc::new(read_block(&entry, Id { generation: entry.generation(), segment: 0, block: 0 }).unwrap());
        blocks.put(entry.generation(), 0, 0, Arc::clone(&shared));
        blocks.asked.lock().clear();
        let id = Id { generation: entry.generation(), segment: 0, block: 0 };
        for got in [blocks.get(&entry, 0, 0, &Arc::default()), blocks.get_or_ask(&entry, id, &Arc::default())] {
            assert!(Arc::ptr_eq(&got.unwrap(), &shared));
        }
        assert_eq!(asked.try_iter().count(), 1);
        blocks.forget(entry.generation(), 0);
        assert!(blocks.get(&entry, 0, 0, &Arc::default()).is_none());
        assert_eq!(asked.try_iter().count(), 1);
    }
}
