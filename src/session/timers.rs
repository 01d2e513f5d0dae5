//! A table of deadlines: one for each kind of timer that a session has.

use std::time::{Duration, Instant};

/// The timers of a session, by kind. `T` is a fieldless enum, its discriminants are the places in the table.
#[derive(Clone, Debug)]
pub struct Timers<T, const N: usize> {
    deadlines: [Option<Instant>; N],
    kinds: [T; N],
}

impl<T: Copy + PartialEq, const N: usize> Timers<T, N> {
    /// A table with one place for each of `kinds`, none of them running.
    pub fn new(kinds: [T; N]) -> Self {
        Self { deadlines: [None; N], kinds }
    }

    /// Starts `kind` anew: it is due `after` from `now`.
    pub fn start(&mut self, kind: T, now: Instant, after: Duration) {
        self.set(kind, now.checked_add(after));
    }

    /// Starts `kind` unless it is running.
    pub fn start_if_stopped(&mut self, kind: T, now: Instant, after: Duration) {
        if self.deadline(kind).is_none() {
            self.start(kind, now, after);
        }
    }

    /// Stops `kind`.
    pub fn stop(&mut self, kind: T) {
        self.set(kind, None);
    }

    /// When `kind` is due; `None` where it does not run.
    pub fn deadline(&self, kind: T) -> Option<Instant> {
        self.entries().find(|(k, _)| *k == kind).and_then(|(_, at)| at)
    }

    /// The nearest deadline of all.
    pub fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Takes the kind that is due at `now` and longest overdue, and stops it.
    pub fn take_due(&mut self, now: Instant) -> Option<T> {
        let (kind, _) = self
            .entries()
            .filter_map(|(k, at)| Some((k, at?)))
            .filter(|(_, at)| *at <= now)
            .min_by_key(|(_, at)| *at)?;
        self.stop(kind);
        Some(kind)
    }

    fn entries(&self) -> impl Iterator<Item = (T, Option<Instant>)> {
        self.kinds.iter().copied().zip(self.deadlines)
    }

    fn set(&mut self, kind: T, deadline: Option<Instant>) {
        for (k, at) in self.kinds.iter().zip(&mut self.deadlines) {
            if *k == kind {
                *at = deadline;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kind {
        A,
        B,
    }

    #[test]
    fn due_timers_come_in_the_order_of_their_deadlines_and_once() {
        let now = Instant::now();
        let mut timers = Timers::new([Kind::A, Kind::B]);
        timers.start(Kind::A, now, Duration::from_secs(5));
        timers.start(Kind::B, now, Duration::from_secs(3));
        timers.start_if_stopped(Kind::B, now, Duration::from_secs(1));
        assert_eq!(timers.next(), Some(now + Duration::from_secs(3)));
        assert_eq!(timers.take_due(now), None);
        let later = now + Duration::from_secs(9);
        assert_eq!(timers.take_due(later), Some(Kind::B));
        assert_eq!(timers.take_due(later), Some(Kind::A));
        assert_eq!(timers.take_due(later), None);
        assert_eq!(timers.next(), None);
    }
}
