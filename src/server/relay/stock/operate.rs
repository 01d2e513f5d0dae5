//! What operators ask of the cache: the key of a URL, what is done for an entry now, and a prefetch as it goes on.

use std::sync::Arc;
use std::time::Duration;

use super::filling::Prefetching;
use crate::cache::Entry;
use crate::content::{Key, MmsUrl, Name};
use crate::server::relay::Relay;
use crate::server::relay::connector::denied;
use crate::session::{Reason, Refusal};

/// What is done for an entry now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::server) struct Activity {
    /// Sessions that fetch it.
    pub(in crate::server) fills: usize,
    /// Viewers that have it open.
    pub(in crate::server) readers: usize,
}

impl Relay {
    /// The key of what a player gets that asks for `url`.
    ///
    /// # Errors
    /// A name that is none, or what the policy forbids.
    pub(in crate::server) fn cache_key(&self, url: &MmsUrl) -> Result<Key, Refusal> {
        let policy = &self.rules.read().policy;
        let name = Name::parse(&url.path).map_err(|error| Refusal::new(Reason::InvalidName, error.to_string()))?;
        Ok(policy.choose(Some(&url.host_port()), &name).map_err(denied)?.key)
    }

    /// What is done for an entry now.
    pub(in crate::server) fn activity(&self, generation: u64) -> Activity {
        let filling = self.stock.as_ref().and_then(|stock| stock.filling_of(generation));
        filling
            .map_or_else(Activity::default, |filling| Activity { fills: filling.fills(), readers: filling.readers() })
    }

    /// Sessions that fetch, for all entries.
    pub(in crate::server) fn fills(&self) -> usize {
        self.stock.as_ref().map_or(0, |stock| stock.fills())
    }

    /// How long an entry is served without asking its origin.
    pub(in crate::server) fn revalidate(&self) -> Duration {
        self.rules.read().settings.cache.revalidate
    }
}

impl Prefetching {
    pub(in crate::server) fn entry(&self) -> &Arc<Entry> {
        self.0.entry()
    }

    /// Whether nothing is fetched any more.
    pub(in crate::server) fn is_over(&self) -> bool {
        self.0.fills() == 0
    }

    /// Why the last attempt brought nothing, if it did not.
    pub(in crate::server) fn failure(&self) -> Option<Refusal> {
        self.0.failure()
    }

    /// Reads the origin no faster than so many bits per second while nobody watches; 0 is any.
    pub(in crate::server) fn limit(&self, rate: u64) {
        self.0.throttle.limit(rate);
    }
}
