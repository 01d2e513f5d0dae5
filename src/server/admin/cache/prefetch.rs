//! Content that is fetched because an operator wants it: each prefetch has a task that keeps it going and sees it end.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use lru::LruCache;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tracing::info;

use super::{Kept, blocking};
use crate::content::MmsUrl;
use crate::server::admin::respond::{self, Answer};
use crate::server::printable::Printable;
use crate::server::relay::Prefetching;
use crate::session::{Reason, Refusal};

/// The body of `POST /api/v1/cache/prefetch`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Wanted {
    /// As a player would ask for it.
    pub url: String,
    /// How fast the origin is read at most, bit/s; 0 or nothing is any.
    #[serde(default)]
    pub rate: u64,
}

/// Those that go on, and why the last ones did not.
#[derive(Debug)]
pub(super) struct Prefetches {
    places: Arc<Semaphore>,
    /// How many go on for a generation.
    running: Mutex<HashMap<u64, usize>>,
    /// By key.
    failures: Mutex<LruCache<String, String>>,
}

/// Prefetches at a time.
const MAX_PREFETCHES: usize = 16;
/// Failures that are remembered.
const MAX_FAILURES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// The slowest rate, bit/s: an origin that is read more slowly takes us for dead.
const SLOWEST: u64 = 16_000;
/// How often it is looked at whether a prefetch has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Prefetches {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_PREFETCHES)),
            running: Mutex::default(),
            failures: Mutex::new(LruCache::new(MAX_FAILURES)),
        }
    }

    /// The generations that are fetched.
    pub(super) fn running(&self) -> HashSet<u64> {
        self.running.lock().keys().copied().collect()
    }

    pub(super) fn failure(&self, key: &str) -> Option<String> {
        self.failures.lock().peek(key).cloned()
    }

    /// Keeps `prefetching` until all is there or nothing more comes.
    fn watch(self: &Arc<Self>, prefetching: Prefetching, place: OwnedSemaphorePermit) {
        let entry = Arc::clone(prefetching.entry());
        let running = Running::new(self, entry.generation());
        self.failures.lock().pop(entry.key());
        tokio::spawn(async move {
            let _place = place;
            while !entry.is_complete() && !prefetching.is_over() {
                sleep(LOOK_AGAIN).await;
            }
            if !entry.is_complete() {
                let why = why(&prefetching);
                info!(key = %Printable(entry.key()), reason = %Printable(&why), "a prefetch ends early");
                running.all.failures.lock().put(entry.key().to_owned(), why);
            }
            // In this order: who sees that it is over sees why, too.
            drop(running);
        });
    }
}

/// Why it ended early.
fn why(prefetching: &Prefetching) -> String {
    let marks = prefetching.entry().marks();
    if marks.gave_up {
        return "it can't be stored: the log says why".to_owned();
    }
    if marks.retired {
        return "it was removed, or is another at the origin now".to_owned();
    }
    let failure = prefetching.failure().map(|refusal| refusal.to_string());
    failure.unwrap_or_else(|| "the origin was left before all was there".to_owned())
}

/// Counts as running until it is dropped.
struct Running {
    all: Arc<Prefetches>,
    generation: u64,
}

impl Running {
    fn new(all: &Arc<Prefetches>, generation: u64) -> Self {
        *all.running.lock().entry(generation).or_default() += 1;
        Self { all: Arc::clone(all), generation }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.all.running.lock();
        if let Some(count) = running.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.generation);
            }
        }
    }
}

pub(super) async fn answer(kept: Kept, body: &[u8]) -> Answer {
    let wanted: Wanted = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(error) => return respond::error(StatusCode::BAD_REQUEST, &format!("want {{\"url\", \"rate\"?}}: {error}")),
    };
    let url = match MmsUrl::parse(&wanted.url) {
        Ok(url) => url,
        Err(error) => return respond::error(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if (1..SLOWEST).contains(&wanted.rate) {
        return respond::error(StatusCode::BAD_REQUEST, &format!("rate is 0 or {SLOWEST} bit/s at least"));
    }
    let Ok(place) = Arc::clone(&kept.prefetches.places).try_acquire_owned() else {
        let busy = format!("{MAX_PREFETCHES} prefetches go on already: ask again when one has ended");
        return respond::error(StatusCode::TOO_MANY_REQUESTS, &busy);
    };
    let prefetching = match kept.relay.prefetch(&url).await {
        Ok(prefetching) => prefetching,
        Err(refusal) => return respond::error(status(&refusal), &refusal.to_string()),
    };
    prefetching.limit(wanted.rate);
    let key = prefetching.entry().key().to_owned();
    info!(key = %Printable(&key), "the operator has content fetched");
    kept.prefetches.watch(prefetching, place);
    let running = kept.prefetches.running();
    blocking(move || match kept.facts_of(&key) {
        Some(facts) => respond::json(StatusCode::ACCEPTED, &kept.row(facts, &running)),
        None => respond::error(StatusCode::INTERNAL_SERVER_ERROR, "it was removed at once"),
    })
    .await
}

/// What HTTP calls a refusal.
fn status(refusal: &Refusal) -> StatusCode {
    match refusal.reason {
        Reason::NotFound => StatusCode::NOT_FOUND,
        Reason::Denied | Reason::Forbidden | Reason::Loop => StatusCode::FORBIDDEN,
        Reason::InvalidName => StatusCode::BAD_REQUEST,
        Reason::Invalid | Reason::BadContent => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::Busy | Reason::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::UnknownHost | Reason::Unreachable | Reason::Lost | Reason::Protocol | Reason::Origin => {
            StatusCode::BAD_GATEWAY
        }
        Reason::Kicked | Reason::TooSlow | Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
