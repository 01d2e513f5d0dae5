//! When a missing packet is asked for, and when no more: `[MS-MMSP]` 3.1.4.7 leaves both to the client.

use std::time::{Duration, Instant};

/// A packet may be late by this much without being lost.
const GRACE: Duration = Duration::from_millis(20);
/// So many packets behind a missing one say sooner that it is lost.
const LATER: u64 = 3;
/// Between the first and the second request, as long as nobody knows how far the origin is.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MIN_WAIT: Duration = Duration::from_millis(20);
const MAX_WAIT: Duration = Duration::from_millis(250);
/// Between requests on average: 100 in a second, each for up to 32 packets.
const INTERVAL: Duration = Duration::from_millis(10);
/// Requests that may go at once.
const AT_ONCE: u32 = 8;

/// A packet that is missing.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    since: Instant,
    /// When it is asked for next.
    due: Instant,
    /// When it was asked for last.
    asked: Option<Instant>,
    asks: u32,
    /// Packets that had come before the one that showed it.
    arrivals: u64,
}

impl Hole {
    pub(super) fn new(now: Instant, arrivals: u64) -> Self {
        Self { since: now, due: later(now, GRACE), asked: None, asks: 0, arrivals }
    }

    /// When it is given up.
    pub(super) fn end(&self, deadline: Duration) -> Instant {
        later(self.since, deadline)
    }

    /// When it is asked for next, where so many packets have come.
    pub(super) fn due(&self, arrivals: u64) -> Instant {
        let is_lost = self.asks == 0 && arrivals.saturating_sub(self.arrivals) >= LATER;
        if is_lost { self.since } else { self.due }
    }

    pub(super) fn is_asked_for(&self) -> bool {
        self.asks > 0
    }

    fn ask(&mut self, now: Instant, wait: Duration) {
        let wait = wait.saturating_mul(1 << self.asks.min(16));
        self.asks = self.asks.saturating_add(1);
        self.asked = Some(now);
        self.due = later(now, wait);
    }
}

/// How far away the origin is, and how much it may be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asking {
    /// Between a request and its answer, smoothed.
    round_trip: Option<Duration>,
    /// How far the requests so far reach, an interval each; it may be ahead of the clock by [`AT_ONCE`] of them.
    used: Option<Instant>,
}

impl Asking {
    /// When the next request may go.
    pub(super) fn earliest(&self, now: Instant) -> Instant {
        let ahead = INTERVAL.saturating_mul(AT_ONCE.saturating_sub(1));
        self.used.and_then(|used| used.checked_sub(ahead)).map_or(now, |at| at.max(now))
    }

    /// A request goes out.
    pub(super) fn sent(&mut self, now: Instant) {
        self.used = Some(later(self.used.map_or(now, |used| used.max(now)), INTERVAL));
    }

    /// `hole` is in the request.
    pub(super) fn asks_for(&self, now: Instant, hole: &mut Hole) {
        hole.ask(now, self.wait());
    }

    /// What was missing has come. Who was asked for once tells how far the origin is.
    pub(super) fn filled(&mut self, now: Instant, hole: &Hole) {
        if let (1, Some(asked)) = (hole.asks, hole.asked) {
            let took = now.saturating_duration_since(asked);
            self.round_trip =
                Some(self.round_trip.map_or(took, |before| before.saturating_mul(7).saturating_add(took) / 8));
        }
    }

    /// Between the first and the second request; doubled each time.
    pub(super) fn wait(&self) -> Duration {
        self.round_trip.map_or(FIRST_WAIT, |took| took.saturating_mul(2).clamp(MIN_WAIT, MAX_WAIT))
    }
}

/// `after` from `at`; where a clock can't count that far, `at`.
pub(super) fn later(at: Instant, after: Duration) -> Instant {
    at.checked_add(after).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_hole_is_asked_for_after_a_grace_or_after_packets_behind_it() {
        let now = Instant::now();
        let hole = Hole::new(now, 7);
        assert_eq!(hole.due(9), now + GRACE);
        assert_eq!(hole.due(10), now);
    }

    #[test]
    fn each_request_waits_twice_as_long_as_the_one_before() {
        let now = Instant::now();
        let (asking, mut hole) = (Asking::default(), Hole::new(now, 0));
        let mut waits = Vec::new();
        for _ in 0..4 {
            let at = hole.due(0);
            asking.asks_for(at, &mut hole);
            waits.push(hole.due(99) - at);
        }
        assert_eq!(waits, [ms(100), ms(200), ms(400), ms(800)]);
    }

    #[test]
    fn a_near_origin_is_asked_again_sooner() {
        let now = Instant::now();
        let mut asking = Asking::default();
        let mut hole = Hole::new(now, 0);
        asking.asks_for(now, &mut hole);
        asking.filled(now + ms(15), &hole);
        assert_eq!(asking.wait(), ms(30));
        // One that was asked for twice tells nothing: nobody knows which answer it is.
        asking.asks_for(now, &mut hole);
        asking.filled(now + ms(900), &hole);
        assert_eq!(asking.wait(), ms(30));
    }

    #[test]
    fn no_more_than_a_hundred_requests_go_in_a_second() {
        let start = Instant::now();
        let mut asking = Asking::default();
        let mut sent = 0;
        for now in (0..1000).map(|at| start + ms(at)) {
            while asking.earliest(now) <= now {
                asking.sent(now);
                sent += 1;
                assert!(sent <= 110, "{sent} requests");
            }
        }
        assert!(sent >= 100, "{sent} requests");
    }
}
