//! One upstream broadcast, many viewers: who joins, where, who leaves, and what becomes of all of them when the source is
//! lost. Knows no protocol, no socket and no task: it is fed by whoever drives a source, and hands a cursor to whoever
//! watches.
//!
//! - [`Splitter`]: the streams by their keys, and the memory that all of them may hold
//! - [`Stream`]: one of them; its [`Feed`] for the source, [`Ticket`]s and [`RingCursor`]s for viewers
//! - `ring`: the recent packets; where a joiner begins, and where one goes on that fell off
//! - `members`: who holds a stream open, and the race of a join against an idle close
//! - [`Continuity`]: what goes on after a break
//! - [`SourceFacts`]: what an operator is told of where it comes from

mod continuity;
mod members;
mod ring;
mod source;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dashmap::DashMap;

pub use self::continuity::{Continuity, Parts, Return};
pub use self::members::Finished;
pub use self::ring::{Bounds, Lead};
pub use self::source::SourceFacts;
use self::stream::Shrink;
pub use self::stream::{Content, Feed, Media, RingCursor, State, Stream, Ticket};
use crate::content::Key;

/// All broadcasts that are split.
#[derive(Debug)]
pub struct Splitter {
    streams: DashMap<Key, Arc<Stream>>,
    held: Arc<AtomicI64>,
}

/// A viewer's way into a stream.
#[derive(Debug)]
pub struct Joined {
    /// Its hold.
    pub ticket: Ticket,
    /// It is the first: a source is to be found.
    pub is_new: bool,
}

impl Splitter {
    /// Without streams.
    pub fn new() -> Self {
        Self { streams: DashMap::new(), held: Arc::default() }
    }

    /// Enters the stream of `key`, or begins it. Of several at the same moment one begins it, and it alone.
    pub fn join(&self, key: &Key, bounds: Bounds) -> Joined {
        let mut is_new = false;
        let mut begin = || {
            is_new = true;
            Arc::new(Stream::new(bounds, Arc::clone(&self.held)))
        };
        // The entry is locked meanwhile, so no other can begin or end the stream.
        let mut entry = self.streams.entry(key.clone()).or_insert_with(&mut begin);
        let ticket = loop {
            match entry.enter() {
                Some(ticket) => break ticket,
                None => *entry = begin(),
            }
        };
        Joined { ticket, is_new }
    }

    /// The source of a stream has said farewell.
    pub fn finish(&self, key: &Key, stream: &Arc<Stream>) -> Finished {
        let mut finished = Finished::Gone;
        self.streams.remove_if(key, |_, known| {
            if !Arc::ptr_eq(known, stream) {
                return false;
            }
            finished = known.finish();
            finished == Finished::Gone
        });
        finished
    }

    /// A stream has no source, or may not be shared: who waits is told by `state`, and the next to come begins anew.
    pub fn abandon(&self, key: &Key, stream: &Arc<Stream>, state: State) {
        self.streams.remove_if(key, |_, known| Arc::ptr_eq(known, stream));
        stream.abandon(state);
    }

    /// All streams, ordered by key.
    pub fn streams(&self) -> Vec<(Key, Arc<Stream>)> {
        let mut streams: Vec<_> =
            self.streams.iter().map(|entry| (entry.key().clone(), Arc::clone(entry.value()))).collect();
        streams.sort_by(|(a, _), (b, _)| a.cmp(b));
        streams
    }

    /// Bytes that all histories hold.
    pub fn held(&self) -> u64 {
        u64::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Brings the histories down to `limit` bytes where they are over it: each to its newest key frame, the idlest
    /// broadcast first, then to what is needed for viewers to go on, then to nothing. It leaves an eighth of room, so that not every packet does this again.
    pub fn relieve(&self, limit: u64) {
        if self.held() <= limit {
            return;
        }
        let goal = limit - limit / 8;
        let mut streams = self.streams();
        streams.sort_by_cached_key(|(_, stream)| stream.viewers());
        for how in [Shrink::ToKeyFrame, Shrink::ToRecent, Shrink::All] {
            for (_, stream) in &streams {
                if self.held() <= goal {
                    return;
                }
                stream.shrink(how);
            }
        }
    }
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}
