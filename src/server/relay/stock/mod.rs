//! On-demand content out of the cache: who may have it, how fresh it is, and what fetches what is not there.
//!
//! - [`Stock`]: what is kept, found by key, and asked for again when it is old
//! - [`Filling`]: the sessions that fetch one entry, and who needs what of it
//! - `filler`, `intake`: one such session, and what becomes of its packets
//! - `operate`, `prefetch`, `throttle`: what operators ask for
//! - [`Viewing`]: a viewer's side

mod check;
mod filler;
mod filling;
mod intake;
mod joining;
mod operate;
mod order;
mod prefetch;
mod throttle;
mod viewing;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::warn;

use self::check::Verdict;
pub(super) use self::filling::Filling;
pub(in crate::server) use self::filling::Prefetching;
pub(super) use self::viewing::{Begun, LOOK_AGAIN, Viewing};
use super::opening::Opener;
use super::{Relay, Rules};
use crate::cache::{Cache, Entry};
use crate::content::Choice;
use crate::server::health::Authority;
use crate::session::{Description, Opened, Reason, Refusal};

/// How content is kept; all of it comes from the config.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// `cache.revalidate`: how long an entry is served without asking its origin.
    pub revalidate: Duration,
    /// `cache.revalidate_wait`: how long a viewer waits for the origin's word.
    pub revalidate_wait: Duration,
    /// `cache.stale_if_error`: how long an entry is served whose origin can't be asked; `None` is for ever.
    pub stale_if_error: Option<Duration>,
    /// `cache.negative`: how long a not-found is remembered.
    pub negative: Duration,
    /// `cache.fast_start`: what a viewer gets at once; `None` is one preroll, zero is nothing.
    pub fast_start: Option<Duration>,
    /// `cache.finish_fill`: the share of an entry, in percent, from which on it is fetched to its end when nobody watches;
    /// `None` is never.
    pub finish_fill: Option<u8>,
    /// `cache.background_fills`: fills without a viewer at a time.
    pub background_fills: usize,
    /// `cache.max_fills_per_entry`: sessions that fetch one entry at a time.
    pub max_fills_per_entry: usize,
    /// `cache.authenticated`: an entry whose origin asks for credentials is served to whom it lets in.
    pub authenticated: bool,
}

/// What is kept, and who fetches.
pub(super) struct Stock {
    cache: Arc<Cache>,
    /// By generation.
    fillings: DashMap<u64, Weak<Filling>>,
    /// Those that ask the origin whether an entry is still right, by key.
    checks: Mutex<HashMap<String, watch::Receiver<Option<Verdict>>>>,
    /// What an origin did not have a moment ago, by key.
    refused: Mutex<HashMap<String, (Instant, Refusal)>>,
    background: Arc<Semaphore>,
}

impl std::fmt::Debug for Stock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stock").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// What there is for a viewer that asks for content.
#[derive(Debug)]
pub(super) enum Shelf {
    /// Nothing: whoever opens it finds out what it is.
    Empty,
    /// It is served from here.
    Stored(Arc<Filling>),
    /// It is kept, and its origin has to let the viewer in first.
    Guarded(Arc<Entry>),
}

/// Not-founds that are remembered; players may name any number.
const MAX_REFUSED: usize = 10_000;

impl Stock {
    pub(super) fn new(cache: Arc<Cache>, background: usize) -> Self {
        Self {
            cache,
            fillings: DashMap::new(),
            checks: Mutex::default(),
            refused: Mutex::default(),
            background: Arc::new(Semaphore::new(background)),
        }
    }

    pub(super) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// A place among the fills that nobody watches.
    pub(super) fn background_fill(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.background).try_acquire_owned().ok()
    }

    /// Ends a fill that nobody watches, so that a viewer gets its place; `false` where there is none.
    pub(super) fn yield_place(&self, at: &Authority) -> bool {
        self.all().iter().any(|filling| filling.is_at(at) && filling.yield_place())
    }

    /// Has all sessions that fetch leave their origins.
    pub(super) fn leave(&self) {
        self.all().iter().for_each(|filling| filling.leave());
    }

    /// Sessions that fetch, now.
    pub(super) fn fills(&self) -> usize {
        self.all().iter().map(|filling| filling.fills()).sum()
    }

    /// Apart from the map: what is dropped here for good takes itself out of it.
    fn all(&self) -> Vec<Arc<Filling>> {
        self.fillings.iter().filter_map(|filling| filling.upgrade()).collect()
    }

    /// What is fetched or played of an entry now.
    pub(super) fn filling_of(&self, generation: u64) -> Option<Arc<Filling>> {
        let filling = self.fillings.get(&generation).map(|filling| Weak::clone(&filling));
        filling.and_then(|filling| filling.upgrade())
    }

    /// Remembers that an origin does not have a content.
    pub(super) fn note_refusal(&self, key: &str, refusal: &Refusal) {
        if refusal.reason != Reason::NotFound {
            return;
        }
        let mut refused = self.refused.lock();
        if refused.len() >= MAX_REFUSED {
            refused.clear();
        }
        refused.insert(key.to_owned(), (Instant::now(), refusal.clone()));
    }

    /// Why a content is not asked for again yet.
    fn refusal(&self, key: &str, within: Duration) -> Option<Refusal> {
        let mut refused = self.refused.lock();
        let (since, refusal) = refused.get(key)?;
        if since.elapsed() < within {
            return Some(refusal.clone());
        }
        refused.remove(key);
        None
    }

    /// What is kept under a key. A disk that can't be read has nothing.
    pub(super) async fn find(self: &Arc<Self>, key: &str) -> Option<Arc<Entry>> {
        let (stock, key) = (Arc::clone(self), key.to_owned());
        let found = tokio::task::spawn_blocking(move || stock.cache.find(&key)).await;
        match found {
            Ok(Ok(entry)) => entry,
            Ok(Err(error)) => {
                warn!(%error, "the cache can't be read");
                None
            }
            Err(_) => None,
        }
    }

    /// Begins an entry for content that was just opened, in the place of any before it. `None` where it can't be kept.
    pub(super) async fn create(self: &Arc<Self>, key: &str, opened: &Arc<Opened>) -> Option<Arc<Entry>> {
        let (stock, key, opened) = (Arc::clone(self), key.to_owned(), Arc::clone(opened));
        let created = tokio::task::spawn_blocking(move || stock.cache.create(&key, &opened, now())).await;
        match created {
            Ok(Ok(entry)) => Some(entry),
            Ok(Err(error)) => {
                self.cache.failed(&error, "content can't be kept");
                None
            }
            Err(_) => None,
        }
    }

    /// What fetches an entry, made if nobody does yet.
    pub(super) fn filling(
        &self,
        relay: &Arc<Relay>,
        rules: &Arc<Rules>,
        choice: &Choice,
        entry: &Arc<Entry>,
    ) -> Arc<Filling> {
        let mut known = self.fillings.entry(entry.generation()).or_default();
        if let Some(filling) = known.upgrade() {
            return filling;
        }
        // Nobody was here for a while: what could not be stored then may be now.
        entry.mark(|marks| marks.gave_up = false);
        let (cache, entry) = (Arc::clone(&self.cache), Arc::clone(entry));
        let filling = Arc::new(Filling::new(Arc::clone(relay), Arc::clone(rules), choice.clone(), cache, entry));
        *known = Arc::downgrade(&filling);
        filling
    }

    /// Nobody needs it any more.
    fn dropped(&self, generation: u64) {
        self.fillings.remove_if(&generation, |_, filling| filling.strong_count() == 0);
    }

    /// Keeps content that was just opened, with the session that opened it, for whoever plays it first.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        relay: &Arc<Relay>,
        rules: &Arc<Rules>,
        choice: &Choice,
        opened: &Arc<Opened>,
        opener: Box<Opener>,
    ) -> Result<Arc<Filling>, Box<Opener>> {
        let Some(entry) = self.create(&choice.key.to_string(), opened).await else { return Err(opener) };
        let filling = self.filling(relay, rules, choice, &entry);
        filling.take_session(opener);
        Ok(filling)
    }
}

/// Whether content may be kept: all of it can be had, at any place, by anybody.
pub(super) fn may_be_kept(opened: &Opened) -> bool {
    let Description { broadcast, live, playlist, can_seek, authenticated, packet_count, .. } = opened.description;
    can_seek && packet_count > 0 && !(broadcast || live || playlist || authenticated) && !opened.header.is_live()
}

/// Milliseconds since the epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
