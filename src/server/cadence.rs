//! How often a writer comes round. Cost is per call and viewer, hardly per byte, so a writer that can't keep its pace
//! comes less often and finds more packets for each call, up to a bound; it comes more often again when there is room.

use std::time::{Duration, Instant};

/// Lateness of a turn that says nothing about load: timers have whole milliseconds.
const TOLERANCE: Duration = Duration::from_millis(2);

/// The rounds of one writer, and the turns in each.
#[derive(Clone, Debug)]
pub(super) struct Cadence {
    shortest: Duration,
    longest: Duration,
    /// What a round takes now.
    interval: Duration,
    /// Turns of a round.
    turns: u32,
    /// Turns begin at whole steps from here, where there is time for that: each writer has another, or all would want all
    /// cores at the same moment, and whoever joins then would wait for all of them.
    origin: Instant,
    /// Turns of this round that are over.
    done: u32,
    /// When the next turn is to begin.
    next: Instant,
    /// What of this round was work, or waiting for the thread to be free.
    busy: Duration,
}

impl Cadence {
    /// Rounds of `turns` turns that take `shortest`, and `longest` under load. Turns begin at whole steps from `origin`.
    pub(super) fn new(origin: Instant, shortest: Duration, longest: Duration, turns: u32) -> Self {
        let (longest, turns) = (longest.max(shortest), turns.max(1));
        Self { shortest, longest, interval: shortest, turns, origin, done: 0, next: origin, busy: Duration::ZERO }
    }

    /// When the next turn is to begin.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// After a rest with nothing to do the next turn is at once.
    pub(super) fn resume(&mut self, now: Instant) {
        self.next = now;
    }

    /// A turn is over. What was missed meanwhile is not caught up: the next turn finds more to do.
    pub(super) fn turn(&mut self, began: Instant, ended: Instant) {
        let late = began.saturating_duration_since(self.next).saturating_sub(TOLERANCE);
        self.busy += late + ended.saturating_duration_since(began);
        let step = self.interval / self.turns;
        let next = self.next + step;
        self.next = if ended > next { ended } else { self.at_step(next, step) };
        self.done += 1;
        if self.done >= self.turns {
            self.adapt();
            self.done = 0;
            self.busy = Duration::ZERO;
        }
    }

    /// The first whole step that is not before `at`.
    fn at_step(&self, at: Instant, step: Duration) -> Instant {
        let since = at.saturating_duration_since(self.origin).as_nanos();
        let beyond = since.checked_rem(step.as_nanos()).unwrap_or(0);
        // Less than a step, which is no longer than a round.
        let left = u64::try_from(step.as_nanos() - beyond).unwrap_or(0);
        if beyond == 0 { at } else { at + Duration::from_nanos(left) }
    }

    /// Work should be a half to three quarters of a round; the rest is for handshakes and origins on the same cores.
    fn adapt(&mut self) {
        let wanted = self.busy * 3 / 2;
        if self.busy > self.interval * 3 / 4 {
            self.interval = wanted.max(self.interval).min(self.longest);
        } else if self.busy < self.interval / 2 {
            // A step at a time: what was quick once may have been luck.
            self.interval = wanted.max(self.interval * 9 / 10).max(self.shortest).min(self.interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNS: u32 = 10;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A writer whose turns begin `late` and take `work`, for that many rounds; the interval after each.
    fn rounds(cadence: &mut Cadence, work: Duration, late: Duration, rounds: u32) -> Vec<Duration> {
        let mut after = Vec::new();
        for _ in 0..rounds {
            for _ in 0..TURNS {
                let began = cadence.next() + late;
                cadence.turn(began, began + work);
            }
            after.push(cadence.interval);
        }
        after
    }

    fn cadence() -> Cadence {
        Cadence::new(Instant::now(), ms(100), ms(400), TURNS)
    }

    #[test]
    fn turns_are_spread_over_the_interval_and_keep_it() {
        let start = Instant::now();
        let mut cadence = Cadence::new(start, ms(100), ms(400), TURNS);
        let mut begins = Vec::new();
        for _ in 0..TURNS * 2 {
            begins.push((cadence.next() - start).as_millis());
            // The millisecond of a timer adds up to nothing.
            let began = cadence.next() + ms(1);
            cadence.turn(began, began + ms(3));
        }
        assert_eq!(begins, (0..200).step_by(10).collect::<Vec<_>>());
    }

    #[test]
    fn a_writer_finds_back_to_its_own_moments() {
        let start = Instant::now();
        let mut cadence = Cadence::new(start + ms(5), ms(100), ms(400), TURNS);
        cadence.resume(start + ms(1011));
        let mut begins = Vec::new();
        for work in [ms(1), ms(1), ms(13), ms(1), ms(1)] {
            begins.push((cadence.next() - start).as_millis());
            cadence.turn(cadence.next(), cadence.next() + work);
        }
        // Whoever waited is served at once, and what comes after a turn that was too long as well.
        assert_eq!(begins, [1011, 1025, 1035, 1048, 1065]);
    }

    #[test]
    fn under_load_the_interval_grows_until_the_work_fits_and_stays_there() {
        let mut cadence = cadence();
        // 160 ms of work in each round: no interval of 100 ms holds that.
        let after = rounds(&mut cadence, ms(16), Duration::ZERO, 20);
        assert_eq!(after.last(), Some(&ms(240)));
        assert!(after.windows(2).skip(1).all(|pair| pair[0] == pair[1]), "{after:?}");
    }

    #[test]
    fn the_interval_has_a_bound_and_a_writer_beyond_it_is_always_due() {
        let mut cadence = cadence();
        let after = rounds(&mut cadence, ms(100), Duration::ZERO, 20);
        assert_eq!(after.last(), Some(&ms(400)));
        let began = cadence.next();
        cadence.turn(began, began + ms(100));
        assert_eq!(cadence.next(), began + ms(100));
    }

    #[test]
    fn it_shrinks_step_by_step_when_there_is_room_again() {
        let mut cadence = cadence();
        rounds(&mut cadence, ms(30), Duration::ZERO, 10);
        assert_eq!(cadence.interval, ms(400));
        let after = rounds(&mut cadence, ms(1), Duration::ZERO, 40);
        assert!(after[0] >= ms(350) && after.windows(2).all(|pair| pair[1] <= pair[0]), "{after:?}");
        assert_eq!(after.last(), Some(&ms(100)));
    }

    #[test]
    fn a_thread_that_has_no_time_for_the_writer_counts_as_load() {
        let mut cadence = cadence();
        assert!(rounds(&mut cadence, ms(1), ms(15), 5).last() > Some(&ms(100)));
    }

    #[test]
    fn the_lateness_of_timers_is_no_load_even_in_short_intervals() {
        let mut cadence = Cadence::new(Instant::now(), ms(10), ms(400), TURNS);
        assert_eq!(rounds(&mut cadence, Duration::from_micros(10), ms(1), 100).last(), Some(&ms(10)));
    }

    #[test]
    fn a_rest_is_no_load() {
        let mut cadence = cadence();
        for _ in 0..50 {
            cadence.resume(cadence.next() + ms(5000));
            let began = cadence.next();
            cadence.turn(began, began + ms(1));
        }
        assert_eq!(cadence.interval, ms(100));
    }
}
