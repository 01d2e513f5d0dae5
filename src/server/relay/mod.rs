//! The proxy: viewers' requests on their way to origins. Which origin, the policy says; what becomes of the answers, this
//! room: `task.rs` speaks with a viewer, and `watching.rs` for it with a stream that it shares with others; `split.rs`
//! drives the source of such a stream; `opening.rs` finds the content, `connector.rs` reaches the origin, `identity.rs` is
//! who we say we are there.

mod connector;
mod fail_back;
pub mod identity;
mod kinds;
mod opening;
mod retry;
mod split;
mod stock;
mod task;
#[cfg(test)]
mod tests;
mod watching;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use self::identity::Identity;
use self::kinds::Kinds;
use self::opening::Opener;
pub use self::stock::CacheSettings;
pub(super) use self::stock::Prefetching;
use self::stock::Stock;
use self::task::Task;
use super::counters::Counters;
use super::health::Origins;
use super::source::{Link, Peer, Source};
use crate::cache::Cache;
use crate::content::{Choice, Policy};
use crate::session::{Burst, Opened};
use crate::splitter::{Bounds, Splitter};

/// How the relay behaves toward origins; all of it comes from the config.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `origin.connect`: time for a connection.
    pub connect: Duration,
    /// `origin.reply`: time for each answer.
    pub reply: Duration,
    /// `origin.stall`: time without media.
    pub stall: Duration,
    /// `origin.down`: how long an origin that failed is not asked.
    pub down: Duration,
    /// `origin.sessions`: sessions open at one origin.
    pub sessions: usize,
    /// `origin.redirects: follow`; else they are passed on to the player.
    pub follow_redirects: bool,
    /// `origin.max_redirects`: hops that are followed.
    pub max_redirects: u32,
    /// `origin.identity`: who we say we are where the viewer gives no usable name; empty is `NSPlayer/9.0.0.2980`.
    pub identity: String,
    /// `limits.buffer`: media that one session holds, bytes.
    pub buffer: usize,
    /// `limits.header`: the largest ASF file header, bytes.
    pub max_header: usize,
    /// `limits.control_packet`: the largest packet of messages, bytes.
    pub control_packet: usize,
    /// `origin.receive_rate`: what an origin is asked to send at most, bit/s; 0 is any.
    pub receive_rate: u32,
    /// `split:`
    pub split: SplitSettings,
    /// `cache:`
    pub cache: CacheSettings,
}

/// How broadcasts are split.
#[derive(Clone, Debug)]
pub struct SplitSettings {
    /// `split.linger`: how long a broadcast stays open after its last viewer.
    pub linger: Duration,
    /// `split.history` and `split.max_bytes`.
    pub bounds: Bounds,
    /// `split.fast_start`: what a joiner gets at once; `None` is one preroll, zero is nothing.
    pub fast_start: Option<Duration>,
    /// `split.give_up`: how long a lost source is looked for.
    pub give_up: Duration,
    /// `split.fail_back`: how long another origin than the first serves before the first is tried again; zero is for ever.
    pub fail_back: Duration,
    /// `split.forward_logs`: viewers' reports go on to the origin.
    pub forward_logs: bool,
    /// `limits.memory`: what histories and sessions hold together, bytes.
    pub memory: u64,
}

impl Settings {
    /// What the origins of a content are asked to send at most, bit/s.
    fn receive_rate(&self, choice: &Choice) -> Option<u32> {
        [self.receive_rate, choice.receive_rate].into_iter().filter(|limit| *limit > 0).min()
    }

    /// One preroll, faster than it plays: a picture is there sooner. Only origins of version 9 and later take it.
    fn burst(&self, opened: &Opened, receive_rate: Option<u32>) -> Burst {
        const FASTER: u32 = 5;
        let bits_per_second = opened.description.bit_rate.saturating_mul(FASTER);
        let bits_per_second = receive_rate.map_or(bits_per_second, |limit| bits_per_second.min(limit));
        Burst { bits_per_second, duration: opened.header.preroll() }
    }
}

/// A proxy in front of origins.
pub struct Relay {
    rules: RwLock<Arc<Rules>>,
    origins: Origins,
    kinds: Kinds,
    splitter: Splitter,
    /// On-demand content that is kept; none where no cache is configured.
    stock: Option<Arc<Stock>>,
    counters: Arc<Counters>,
    /// Called when media have come that viewers share.
    news: News,
    /// How many streams and fills have a source that is to be left properly.
    drivers: watch::Sender<usize>,
    /// We are going down: a stream that nobody watches does not linger.
    is_closing: AtomicBool,
}

/// To be called when media have come that viewers share, so that they go out at once where that is wanted.
pub type News = Arc<dyn Fn() + Send + Sync>;

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("splitter", &self.splitter).finish_non_exhaustive()
    }
}

/// What a viewer's session goes by from its beginning to its end, whatever is reloaded meanwhile.
#[derive(Debug)]
struct Rules {
    settings: Settings,
    policy: Policy,
}

impl Relay {
    /// A relay that asks whom `policy` allows.
    pub fn new(
        settings: Settings,
        policy: Policy,
        counters: Arc<Counters>,
        news: News,
        cache: Option<Arc<Cache>>,
    ) -> Self {
        let origins = Origins::new(settings.down, settings.sessions);
        let background = settings.cache.background_fills;
        let stock = cache.map(|cache| Arc::new(Stock::new(cache, background)));
        Self {
            rules: RwLock::new(Arc::new(Rules { settings, policy })),
            origins,
            kinds: Kinds::default(),
            splitter: Splitter::new(),
            stock,
            counters,
            news,
            drivers: watch::Sender::new(0),
            is_closing: AtomicBool::new(false),
        }
    }

    /// Leaves the origins of all broadcasts that nobody watches any more, as a client should. Takes `within` at most.
    pub async fn close(&self, within: Duration) {
        self.is_closing.store(true, Ordering::Release);
        self.splitter.streams().iter().for_each(|(_, stream)| stream.ring_for_driver());
        if let Some(stock) = self.stock() {
            stock.leave();
        }
        let _ = timeout(within, self.drivers.subscribe().wait_for(|drivers| *drivers == 0)).await;
    }

    /// The broadcasts that are split now.
    pub fn splitter(&self) -> &Splitter {
        &self.splitter
    }

    /// The origins that were asked, and what is known of them.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// On-demand content that is kept.
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.stock.as_ref().map(|stock| stock.cache())
    }

    /// Brings the figures of the cache up to date.
    pub fn count(&self) {
        let Some(cache) = self.cache() else { return };
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.counters.cache_bytes.set(gauge(cache.bytes()));
        self.counters.cache_entries.set(gauge(cache.entries() as u64));
        self.counters.held_bytes.with_label_values(&["cache"]).set(gauge(cache.held()));
    }

    /// New rules for viewers that come from now on. What is known of origins stays, their limits with it.
    pub fn reload(&self, settings: Settings, policy: Policy) {
        *self.rules.write() = Arc::new(Rules { settings, policy });
    }
}

impl Relay {
    /// Opens content for nobody in particular: under our own name, with an identifier of its own.
    fn shared_opener(self: &Arc<Self>, rules: &Arc<Rules>) -> Box<Opener> {
        Box::new(Opener::new(Arc::clone(self), Arc::clone(rules), Identity::shared()))
    }

    fn stock(&self) -> Option<&Arc<Stock>> {
        self.stock.as_ref()
    }

    /// A place among the fills that nobody watches.
    fn background_fill(&self) -> Option<OwnedSemaphorePermit> {
        self.stock.as_ref()?.background_fill()
    }

    /// Brings what histories hold down to what sessions leave of `memory`, and counts it.
    fn relieve(&self, memory: u64) {
        let sessions = u64::try_from(self.counters.held_by_sessions().get()).unwrap_or(0);
        let cache = self.cache().map_or(0, |cache| cache.held());
        self.splitter.relieve(memory.saturating_sub(sessions).saturating_sub(cache));
        self.counters.held_bytes.with_label_values(&["history"]).set(self.splitter.held() as i64);
    }
}

impl Source for Relay {
    fn serve(self: Arc<Self>, peer: Peer, link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let rules = Arc::clone(&self.rules.read());
        // Apart from the future, which would hold it twice.
        let mut task = Box::new(Task::new(self, rules, peer, link));
        Box::pin(async move { task.run().await })
    }
}
