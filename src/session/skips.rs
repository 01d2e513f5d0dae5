//! The jumps of a viewer that is too slow for its broadcast: when they are so many that it had better be ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a jump counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Jumps of one viewer.
#[derive(Clone, Debug)]
pub struct Skips {
    /// Those of the last minute, oldest first, `most` at most.
    recent: VecDeque<Instant>,
    most: usize,
    total: u64,
}

impl Skips {
    /// None yet; `most` in a minute are too many.
    pub fn new(most: u32) -> Self {
        Self { recent: VecDeque::new(), most: usize::try_from(most).unwrap_or(usize::MAX).max(1), total: 0 }
    }

    /// Another one; whether it is one too many.
    pub fn add(&mut self, now: Instant) -> bool {
        self.total += 1;
        while self.recent.front().is_some_and(|first| now.saturating_duration_since(*first) >= WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() < self.most {
            self.recent.push_back(now);
        }
        self.recent.len() >= self.most
    }

    /// All that there were.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn so_many_within_a_minute_are_too_many() {
        let now = Instant::now();
        let mut skips = Skips::new(3);
        assert_eq!([0, 30, 59].map(|at| skips.add(now + secs(at))), [false, false, true]);
        assert_eq!(skips.total(), 3);
    }

    #[test]
    fn a_jump_is_forgotten_after_a_minute() {
        let now = Instant::now();
        let mut skips = Skips::new(3);
        assert_eq!([0, 30, 60, 89, 90].map(|at| skips.add(now + secs(at))), [false, false, false, true, true]);
        for at in (200..2000).step_by(30) {
            assert!(!skips.add(now + secs(at)), "at {at} s");
        }
    }

    #[test]
    fn one_may_be_too_many_and_what_is_kept_is_bounded() {
        let now = Instant::now();
        assert!(Skips::new(1).add(now) && Skips::new(0).add(now));
        let mut skips = Skips::new(8);
        assert_eq!((0..10_000).filter(|_| skips.add(now)).count(), 9_993);
        assert_eq!((skips.recent.len(), skips.total()), (8, 10_000));
    }
}
