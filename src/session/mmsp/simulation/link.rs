//! One direction of a network that loses, delays and repeats datagrams. Equal seeds give equal networks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long everything is on its way at least.
pub(super) const DELAY: Duration = Duration::from_millis(20);
/// By how much more at most what is overtaken.
const DETOUR_MS: u64 = 80;

/// Numbers that look like random ones: SplitMix64.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn says(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Link {
    dice: Dice,
    /// Of datagrams that are lost; the same share is overtaken by others, and the same comes twice.
    percent: u64,
    on_their_way: BTreeMap<(Instant, u64), Bytes>,
    sent: u64,
}

impl Link {
    pub(super) fn new(seed: u64, percent: u64) -> Self {
        Self { dice: Dice::new(seed), percent, on_their_way: BTreeMap::new(), sent: 0 }
    }

    pub(super) fn send(&mut self, now: Instant, datagram: Bytes) {
        if self.dice.says(self.percent) {
            return;
        }
        let copies = if self.dice.says(self.percent) { 2 } else { 1 };
        for _ in 0..copies {
            let detour = if self.dice.says(self.percent) { self.dice.below(DETOUR_MS) } else { 0 };
            self.sent += 1;
            self.on_their_way.insert((now + DELAY + Duration::from_millis(detour), self.sent), datagram.clone());
        }
    }

    /// When the next arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.on_their_way.keys().next().map(|(at, _)| *at)
    }

    /// What arrives by `now`.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<Bytes> {
        self.next().filter(|at| *at <= now)?;
        self.on_their_way.pop_first().map(|(_, datagram)| datagram)
    }
}
