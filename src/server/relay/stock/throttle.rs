//! How fast an origin is read for a fill that nobody watches: a bucket that leaks at a rate.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Shared by the sessions that fetch one entry.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bits per second; 0 is any.
    rate: u64,
    /// When what came has leaked away.
    empty_at: Option<Instant>,
}

impl Throttle {
    /// Bits per second from now on; 0 is any.
    pub(super) fn limit(&self, rate: u64) {
        *self.state.lock() = State { rate, empty_at: None };
    }

    /// Bits per second; 0 is any.
    pub(super) fn rate(&self) -> u64 {
        self.state.lock().rate
    }

    /// So many bytes came.
    pub(super) fn came(&self, now: Instant, bytes: u64) {
        let mut state = self.state.lock();
        let nanoseconds = u128::from(bytes) * 8 * 1_000_000_000;
        let Some(takes) = nanoseconds.checked_div(state.rate.into()) else { return };
        let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
        let from = state.empty_at.filter(|empty_at| *empty_at > now).unwrap_or(now);
        state.empty_at = from.checked_add(takes);
    }

    /// How long nothing more is to be read; `None` where there is room.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.state.lock().empty_at?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_leaks_away_at_the_rate() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        throttle.came(now, 1_000_000);
        assert_eq!(throttle.wait(now), None);
        throttle.limit(8_000);
        throttle.came(now, 500);
        throttle.came(now, 500);
        assert_eq!(throttle.wait(now), Some(Duration::from_secs(1)));
        let later = now + Duration::from_millis(1500);
        assert_eq!(throttle.wait(later), None);
        // What was not used is not saved up.
        throttle.came(later, 1000);
        assert_eq!(throttle.wait(later), Some(Duration::from_secs(1)));
        throttle.limit(0);
        assert_eq!(throttle.wait(later), None);
    }

    #[test]
    fn no_figure_is_too_large() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        throttle.limit(1);
        throttle.came(now, u64::MAX);
        throttle.came(now, u64::MAX);
        throttle.limit(u64::MAX);
        throttle.came(now, u64::MAX);
        assert!(throttle.wait(now).is_some());
    }
}
