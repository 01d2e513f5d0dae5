//! The end of a play over UDP. EndOfStream comes over TCP and overtakes datagrams, and the loss of the last ones shows in
//! nothing: so they are waited for, and where it is known how many lie behind the newest packet, they are asked for.

use std::time::{Duration, Instant};

use super::asking::later;

/// Nothing new for so long is the end.
const QUIET: Duration = Duration::from_millis(200);
/// Packets behind the newest one that are asked for.
const PROBED: u64 = 8;

/// The last moments of a play.
#[derive(Debug)]
pub(super) struct Closing {
    /// When it ends at the latest.
    until: Instant,
    /// When it ends if nothing comes.
    quiet: Instant,
    probe: Instant,
    probes: u32,
    /// Where the content ends, if that is known.
    last: Option<i64>,
}

impl Closing {
    pub(super) fn new(now: Instant, until: Instant, last: Option<i64>) -> Self {
        Self { until, quiet: later(now, QUIET).min(until), probe: now, probes: 0, last }
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// A packet came: there may be more.
    pub(super) fn came(&mut self, now: Instant) {
        self.quiet = later(now, QUIET).min(self.until);
    }

    /// How far behind the newest packet it is asked now.
    pub(super) fn probe(&mut self, now: Instant, wait: Duration, newest: Option<i64>) -> std::ops::Range<u64> {
        let behind = self.behind(newest);
        if now < self.probe || now >= self.quiet || behind == 0 {
            return 0..0;
        }
        self.probe = later(now, wait.saturating_mul(1 << self.probes.min(16)));
        self.probes = self.probes.saturating_add(1);
        0..behind.min(PROBED)
    }

    /// When there is something to do, if that is after `now`.
    pub(super) fn next_due(&self, now: Instant, earliest: Instant, newest: Option<i64>) -> Option<Instant> {
        let probe = Some(self.probe.max(earliest)).filter(|at| *at < self.quiet && self.behind(newest) > 0);
        [probe, Some(self.quiet), Some(self.until)].into_iter().flatten().filter(|at| *at > now).min()
    }

    pub(super) fn is_over(&self, now: Instant, newest: Option<i64>) -> bool {
        now >= self.quiet || self.is_last(newest)
    }

    /// How many packets are known to be missing at the end: what was never sent is not asked for.
    fn behind(&self, newest: Option<i64>) -> u64 {
        let (Some(last), Some(newest)) = (self.last, newest) else { return 0 };
        u64::try_from(last.saturating_sub(newest)).unwrap_or(0)
    }

    fn is_last(&self, newest: Option<i64>) -> bool {
        self.last.is_some() && self.last == newest
    }
}
