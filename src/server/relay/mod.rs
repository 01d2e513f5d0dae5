//! The proxy: each viewer's requests go to an origin session of its own. Which origin, the policy says; what becomes of
//! the answers, this room: `task.rs` speaks with the viewer, `opening.rs` finds the content, `connector.rs` reaches the
//! origin, `identity.rs` is who we say we are there.

mod connector;
pub mod identity;
mod opening;
mod task;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use self::task::Task;
use super::counters::Counters;
use super::health::Origins;
use super::source::{Link, Peer, Source};
use crate::content::Policy;
use crate::session::{Burst, Opened};

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
}

impl Settings {
    /// One preroll, faster than it plays: a picture is there sooner. Only origins of version 9 and later take it.
    fn burst(&self, opened: &Opened) -> Burst {
        const FASTER: u32 = 5;
        let bits_per_second = opened.description.bit_rate.saturating_mul(FASTER);
        let bits_per_second = match self.receive_rate {
            0 => bits_per_second,
            limit => bits_per_second.min(limit),
        };
        Burst { bits_per_second, duration: opened.header.preroll() }
    }
}

/// A proxy in front of origins.
#[derive(Debug)]
pub struct Relay {
    rules: RwLock<Arc<Rules>>,
    origins: Origins,
    counters: Arc<Counters>,
}

/// What a viewer's session goes by from its beginning to its end, whatever is reloaded meanwhile.
#[derive(Debug)]
struct Rules {
    settings: Settings,
    policy: Policy,
}

impl Relay {
    /// A relay that asks whom `policy` allows.
    pub fn new(settings: Settings, policy: Policy, counters: Arc<Counters>) -> Self {
        let origins = Origins::new(settings.down, settings.sessions);
        Self { rules: RwLock::new(Arc::new(Rules { settings, policy })), origins, counters }
    }

    /// New rules for viewers that come from now on. What is known of origins stays, their limits with it.
    pub fn reload(&self, settings: Settings, policy: Policy) {
        *self.rules.write() = Arc::new(Rules { settings, policy });
    }
}

impl Source for Relay {
    fn serve(self: Arc<Self>, peer: Peer, link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let rules = Arc::clone(&self.rules.read());
        Box::pin(Task::new(self, rules, peer, link).run())
    }
}
