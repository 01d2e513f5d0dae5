//! When a lost origin is asked again: at once after a viewer's wish, else after waits that double, each a little more or
//! less than the others' so that a hundred broadcasts do not come back in one moment.

use std::time::{Duration, Instant};

/// The first wait after a loss.
const SHORTEST: Duration = Duration::from_millis(250);
/// No wait is longer: an origin that is back is found soon.
const LONGEST: Duration = Duration::from_secs(3);

/// The attempts to get one source back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// When the next attempt is due; `None` while one is made.
    at: Option<Instant>,
    wait: Duration,
    give_up: Option<Instant>,
}

impl Retry {
    /// One attempt, now.
    pub(super) fn now(now: Instant) -> Self {
        Self { at: Some(now), wait: SHORTEST, give_up: Some(now) }
    }

    /// Attempts from a loss on, until `give_up` after it. The first is due when [`Retry::again`] has been called.
    pub(super) fn after_loss(now: Instant, give_up: Duration) -> Self {
        Self { at: None, wait: SHORTEST, give_up: now.checked_add(give_up) }
    }

    /// When the next attempt is due; `None` while one is made.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// An attempt is being made.
    pub(super) fn begin(&mut self) {
        self.at = None;
    }

    /// There is time for one more attempt, which is due after a wait; `false` where there is none.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        if self.give_up.is_some_and(|give_up| now >= give_up) {
            return false;
        }
        let due = now + jittered(self.wait);
        self.at = Some(self.give_up.map_or(due, |give_up| due.min(give_up)));
        self.wait = (self.wait * 2).min(LONGEST);
        true
    }
}

/// Up to a quarter more or less.
fn jittered(wait: Duration) -> Duration {
    // Without randomness all come back together, which is a pity and no fault.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait.mul_f64(0.75 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_further_and_further_apart_until_it_is_given_up() {
        let start = Instant::now();
        let give_up = Duration::from_secs(20);
        let mut retry = Retry::after_loss(start, give_up);
        let (mut now, mut waits) = (start, Vec::new());
        while retry.again(now) {
            let at = retry.at().unwrap();
            waits.push(at - now);
            now = at;
            retry.begin();
            assert_eq!(retry.at(), None);
        }
        assert_eq!(now - start, give_up);
        assert!(waits[0] >= SHORTEST.mul_f64(0.75) && waits[0] <= SHORTEST.mul_f64(1.25), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST.mul_f64(1.25)), "{waits:?}");
        assert!((7..=13).contains(&waits.len()), "{waits:?}");
    }

    #[test]
    fn what_a_viewer_asks_for_is_tried_once() {
        let now = Instant::now();
        let mut retry = Retry::now(now);
        assert_eq!(retry.at(), Some(now));
        retry.begin();
        assert!(!retry.again(now));
    }
}
