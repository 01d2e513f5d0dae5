//! `/api/v1/cache`: what is kept of on-demand content. Whatever touches the disk is done on threads that may block.
//!
//! - `row`: an entry as the API tells it
//! - `prefetch`: content that is fetched because an operator wants it
//! - `check`: `POST /api/v1/cache/verify`
//! - `stream`: entries as files and as digests, sent while they are read

mod check;
mod prefetch;
mod row;
mod stream;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::query::parameter;
use super::respond::{self, Answer};
use super::{Admin, Progress};
use crate::cache::{Cache, Facts};
use crate::content::{Key, MmsUrl, Name};
use crate::server::relay::Relay;

pub use self::check::{Checked, Wrong};
use self::prefetch::Prefetches;
pub use self::prefetch::Wanted;
pub use self::row::{EntryRow, EntryState};

/// `GET /api/v1/cache`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CacheList {
    /// Of all files.
    pub bytes: u64,
    /// `cache.max_size`, bytes.
    pub max_size: u64,
    /// Sessions at origins that fetch.
    pub fills: usize,
    /// By URL.
    pub entries: Vec<EntryRow>,
}

/// The answer to `DELETE /api/v1/cache`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Removed {
    /// Entries.
    pub removed: usize,
}

/// The cache in `GET /api/v1/status`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CacheStatus {
    pub(super) bytes: u64,
    pub(super) max_size: u64,
    pub(super) entries: usize,
    pub(super) fills: usize,
}

/// What the endpoint does for operators beyond an answer.
#[derive(Debug)]
pub(super) struct Desk {
    prefetches: Arc<Prefetches>,
    /// Places for those who read entries through the endpoint.
    streams: Arc<Semaphore>,
}

/// Entries that are read through the endpoint at a time.
const MAX_STREAMS: usize = 4;

impl Desk {
    pub(super) fn new() -> Self {
        Self { prefetches: Arc::new(Prefetches::new()), streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }
}

/// A proxy that has a cache, and the cache.
#[derive(Clone)]
struct Kept {
    relay: Arc<Relay>,
    cache: Arc<Cache>,
    prefetches: Arc<Prefetches>,
}

impl Kept {
    /// An entry as it is told. `running` was looked at before the entry was: who is told that nothing goes on any more
    /// is told what came of it, too.
    fn row(&self, facts: Facts, running: &HashSet<u64>) -> EntryRow {
        let mut row = EntryRow::of(&facts, SystemTime::now(), self.relay.revalidate());
        let activity = self.relay.activity(facts.generation);
        (row.fills, row.readers) = (activity.fills, activity.readers);
        if let Ok(url) = MmsUrl::parse(&row.url) {
            row.origin_version = self.relay.origins().version(&(url.host.clone(), url.port()));
        }
        row.is_prefetching = running.contains(&facts.generation);
        row.error = if facts.is_complete { None } else { self.prefetches.failure(&facts.key) };
        row
    }

    /// The keys that a URL may mean: as it stands, with its default port, and as a player's request would be understood.
    fn keys_of(&self, url: &str) -> Vec<String> {
        let mut keys = literal_keys(url);
        if let Ok(url) = MmsUrl::parse(url)
            && let Ok(key) = self.relay.cache_key(&url)
        {
            keys.push(key.to_string());
        }
        keys
    }

    /// The key of an entry that is there.
    fn find(&self, url: &str) -> Option<String> {
        self.keys_of(url).into_iter().find(|key| self.facts_of(key).is_some())
    }

    fn facts_of(&self, key: &str) -> Option<Facts> {
        self.cache.facts_of(key).inspect_err(|error| error!(%error, "the cache can't be read")).ok().flatten()
    }

    fn rows(&self, url: Option<&str>) -> Vec<EntryRow> {
        let running = self.prefetches.running();
        let facts = match url {
            None => self.cache.facts(|_| true),
            Some(url) => self.keys_of(url).iter().find_map(|key| self.facts_of(key)).into_iter().collect(),
        };
        facts.into_iter().map(|facts| self.row(facts, &running)).collect()
    }

    fn purge(&self, url: &str, is_prefix: bool) -> usize {
        if !is_prefix {
            let Some(key) = self.find(url) else { return 0 };
            // Only what was met is listed.
            let _ = self.cache.find(&key);
            return self.cache.purge(|other| other == key);
        }
        if !self.cache.is_scanned() {
            for facts in self.cache.facts(|_| true) {
                let _ = self.cache.find(&facts.key);
            }
        }
        self.keys_of(url)
            .iter()
            .map(|prefix| self.cache.purge(|key| is_below(key, prefix)))
            .find(|n| *n > 0)
            .unwrap_or(0)
    }
}

/// Whether a key begins with a prefix, which ends at the border of a segment as a route's does: `h:1755/radio` is of
/// `h:1755/radio/x` and `h:1755/radio?x`, not of `h:1755/radios`.
pub fn is_below(key: &str, prefix: &str) -> bool {
    let rest = key.strip_prefix(prefix);
    rest.is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']))
}

/// The keys that a URL, or a key, may mean whatever the routes say.
pub fn literal_keys(url: &str) -> Vec<String> {
    let mut keys = vec![url.split_once("://").map_or(url, |(_, key)| key).to_owned()];
    if let Ok(url) = MmsUrl::parse(url)
        && let Ok(name) = Name::parse(&url.path)
    {
        keys.push(Key::new(&url.host, url.port(), &name, false).to_string());
    }
    keys
}

impl Admin {
    /// The cache and its figures; `None` where there is none.
    pub(super) fn cache_status(&self) -> Option<CacheStatus> {
        let relay = self.relay.as_deref()?;
        let cache = relay.cache()?;
        let (bytes, max_size) = (cache.bytes(), cache.max_size());
        Some(CacheStatus { bytes, max_size, entries: cache.entries(), fills: relay.fills() })
    }

    /// The entries that are in memory: what was played lately. Reads no disk.
    pub(super) fn loaded_rows(&self) -> Vec<EntryRow> {
        let Some(kept) = self.kept() else { return Vec::new() };
        let running = kept.prefetches.running();
        kept.cache.all_loaded().iter().map(|entry| kept.row(Facts::of_loaded(entry), &running)).collect()
    }

    fn kept(&self) -> Option<Kept> {
        let relay = Arc::clone(self.relay.as_ref()?);
        let cache = Arc::clone(relay.cache()?);
        Some(Kept { relay, cache, prefetches: Arc::clone(&self.desk.prefetches) })
    }

    /// `GET /api/v1/cache`, `?url=` for one entry.
    pub(super) async fn cache_list(&self, query: Option<&str>) -> Answer {
        let Some(kept) = self.kept() else { return respond::json(StatusCode::OK, &CacheList::default()) };
        let url = parameter(query, "url");
        blocking(move || {
            let (bytes, max_size, fills) = (kept.cache.bytes(), kept.cache.max_size(), kept.relay.fills());
            let list = CacheList { bytes, max_size, fills, entries: kept.rows(url.as_deref()) };
            respond::json(StatusCode::OK, &list)
        })
        .await
    }

    /// `DELETE /api/v1/cache?url=`, with `&prefix=true` all that begin so.
    pub(super) async fn cache_purge(&self, query: Option<&str>) -> Answer {
        let Some(url) = parameter(query, "url").filter(|url| !url.is_empty()) else { return no_url() };
        let is_prefix = match parameter(query, "prefix").as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1" | "") => true,
            Some(_) => return respond::error(StatusCode::BAD_REQUEST, "prefix is true or false"),
        };
        let Some(kept) = self.kept() else { return respond::json(StatusCode::OK, &Removed { removed: 0 }) };
        blocking(move || {
            let removed = kept.purge(&url, is_prefix);
            info!(url, is_prefix, removed, "the operator removes content from the cache");
            respond::json(StatusCode::OK, &Removed { removed })
        })
        .await
    }

    /// `POST /api/v1/cache/prefetch`.
    pub(super) async fn cache_prefetch(&self, body: Bytes) -> Answer {
        match self.kept() {
            Some(kept) => prefetch::answer(kept, &body).await,
            None => no_cache(),
        }
    }

    /// `POST /api/v1/cache/verify`, with `?url=` one entry.
    pub(super) async fn cache_verify(&self, query: Option<&str>) -> Answer {
        match self.kept() {
            Some(kept) => check::answer(kept, query).await,
            None => no_cache(),
        }
    }

    /// `GET /api/v1/cache/export?url=`, `&partial=true` for what is there.
    pub(super) async fn cache_export(&self, query: Option<&str>, progress: &Progress) -> Answer {
        match self.kept() {
            Some(kept) => stream::export(kept, &self.desk.streams, query, progress).await,
            None => no_cache(),
        }
    }

    /// `GET /api/v1/cache/digests?url=`.
    pub(super) async fn cache_digests(&self, query: Option<&str>, progress: &Progress) -> Answer {
        match self.kept() {
            Some(kept) => stream::digests(kept, &self.desk.streams, query, progress).await,
            None => no_cache(),
        }
    }
}

async fn blocking(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let lost = |error: tokio::task::JoinError| respond::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
    spawn_blocking(work).await.unwrap_or_else(lost)
}

fn no_url() -> Answer {
    respond::error(StatusCode::BAD_REQUEST, "which content? url is missing")
}

fn no_cache() -> Answer {
    respond::error(StatusCode::CONFLICT, "there is no cache (cache.dir)")
}

fn not_kept(url: &str) -> Answer {
    respond::error(StatusCode::NOT_FOUND, &format!("{url} is not in the cache"))
}
