//! So many bytes at once, and so many in a second: what may go to a viewer whose network does not slow us down by itself.

use std::time::{Duration, Instant};

use super::pacer::seconds;

/// A bucket that is full at first, and fills again at its rate.
#[derive(Clone, Debug)]
pub struct Bucket {
    bytes_per_second: f64,
    depth: f64,
    /// When it is full again; `None` before the first byte was taken.
    full_at: Option<Instant>,
}

impl Bucket {
    /// `depth` bytes at once, a larger packet alone.
    pub fn new(bytes_per_second: f64, depth: f64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1.0), depth: depth.max(0.0), full_at: None }
    }

    /// Another rate and depth from now on; the time until it is full stays.
    pub fn resize(&mut self, bytes_per_second: f64, depth: f64) {
        *self = Self { full_at: self.full_at, ..Self::new(bytes_per_second, depth) };
    }

    /// When `bytes` are there, not before `at`; they are taken then.
    pub fn due(&mut self, at: Instant, bytes: usize) -> Instant {
        let due = self.first(at, bytes);
        self.pay(due, bytes);
        due
    }

    /// Takes `bytes` if they are there now.
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let is_there = self.first(now, bytes) <= now;
        if is_there {
            self.pay(now, bytes);
        }
        is_there
    }

    fn first(&self, at: Instant, bytes: usize) -> Instant {
        let Some(full_at) = self.full_at else { return at };
        // All of it is there when the bucket is full but for what lies in it beyond `bytes`.
        let beyond = self.time((self.depth - bytes as f64).max(0.0));
        full_at.checked_sub(beyond).map_or(at, |first| first.max(at))
    }

    fn pay(&mut self, at: Instant, bytes: usize) {
        let full_at = self.full_at.map_or(at, |full_at| full_at.max(at));
        self.full_at = full_at.checked_add(self.time(bytes as f64));
    }

    fn time(&self, bytes: f64) -> Duration {
        seconds(bytes / self.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_in_it_leaves_at_once_and_the_rest_at_its_rate() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000.0, 250.0);
        let due: Vec<_> = (0..5).map(|_| bucket.due(now, 100) - now).collect();
        assert_eq!(due, [0, 0, 50, 150, 250].map(ms));
        assert_eq!(bucket.due(now + ms(10_000), 250), now + ms(10_000));
        assert_eq!(bucket.due(now + ms(10_000), 1), now + ms(10_001));
    }

    #[test]
    fn a_packet_larger_than_the_bucket_waits_until_it_is_full_and_leaves_alone() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000.0, 100.0);
        assert_eq!(bucket.due(now, 500), now);
        assert_eq!(bucket.due(now, 500), now + ms(500));
        assert_eq!(bucket.due(now, 100), now + ms(1000));
    }

    #[test]
    fn what_is_not_there_is_not_taken() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000.0, 100.0);
        assert!(bucket.take(now, 60) && !bucket.take(now, 60) && bucket.take(now, 40));
        assert!(!bucket.take(now + ms(49), 50) && bucket.take(now + ms(50), 50));
    }

    #[test]
    fn another_rate_counts_from_now_on() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000.0, 0.0);
        bucket.due(now, 1000);
        bucket.resize(100.0, 0.0);
        assert_eq!(bucket.due(now, 10), now + ms(1000));
        assert_eq!(bucket.due(now, 10), now + ms(1100));
    }

    proptest! {
        #[test]
        fn no_more_leaves_in_any_time_than_the_rate_and_what_was_in_it(
            packets in prop::collection::vec((1usize..200, 0u64..300), 1..60),
        ) {
            let (mut now, mut bucket, mut sent) = (Instant::now(), Bucket::new(1000.0, 300.0), Vec::new());
            for (bytes, later) in packets {
                now += ms(later);
                sent.push((bucket.due(now, bytes), bytes));
            }
            for (first, (from, _)) in sent.iter().enumerate() {
                let mut bytes = 0;
                for (until, more) in &sent[first..] {
                    bytes += more;
                    prop_assert!(bytes as f64 <= 300.5 + (*until - *from).as_secs_f64() * 1000.0);
                }
            }
        }
    }
}
