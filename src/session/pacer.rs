//! When the next packet may leave: ASF send times against the clock of one play.
//!
//! Send times of real files jump, stand still and wrap, so they are followed with care: a step back of more than a
//! second or forward of more than ten sets the clock anew, and whatever the times say, no more than twice the bit rate
//! leaves past the burst.

use std::time::{Duration, Instant};

use super::Pace;

/// Send times that fall back by more than this are a new beginning, ms.
const STEP_BACK_MS: i64 = 1_000;
/// Send times that leap by more than this are a new beginning, ms.
const STEP_FORWARD_MS: i64 = 10_000;

/// The clock of one play.
#[derive(Clone, Debug)]
pub struct Pacer {
    pace: Pace,
    /// What may leave at most, bit/s: twice the content's bit rate, times the play's own rate.
    ceiling: f64,
    base: Option<Base>,
    /// When the packets before have left, at the rate of [`Pace::AtMost`].
    free: Option<Instant>,
}

/// Where wall time and content time meet.
#[derive(Clone, Copy, Debug)]
struct Base {
    at: Instant,
    /// The send time of the packet before.
    last_ms: u32,
    /// Content time from the packet at `at` to the packet before, ms.
    elapsed_ms: i64,
    /// Bits that have left since.
    bits: f64,
    burst_left: bool,
}

impl Pacer {
    /// The pacer of content of `bit_rate` bit/s.
    pub fn new(pace: Pace, bit_rate: u32) -> Self {
        let rate = if let Pace::SendTime { rate, .. } = pace { rate.abs().max(1.0) } else { 1.0 };
        Self { pace, ceiling: f64::from(bit_rate.max(1)) * 2.0 * rate, base: None, free: None }
    }

    /// The next entry of a playlist begins: its send times start anew, and its bit rate is another.
    pub fn new_entry(&mut self, bit_rate: u32) {
        *self = Self::new(self.pace, bit_rate);
    }

    /// When a packet of `send_time_ms` and `bytes` bytes is due. Asked once for each packet, in order.
    pub fn due(&mut self, now: Instant, send_time_ms: u32, bytes: usize) -> Instant {
        match self.pace {
            Pace::AsItComes => now,
            Pace::AtMost { bits_per_second } => {
                let due = self.free.map_or(now, |free| free.max(now));
                self.free = Some(due + seconds(bytes as f64 * 8.0 / f64::from(bits_per_second.max(1))));
                due
            }
            Pace::Clock { at, send_time_ms: reference } => {
                let delta = i64::from(send_time_ms.wrapping_sub(reference) as i32);
                let magnitude = Duration::from_millis(delta.unsigned_abs());
                let due = if delta < 0 { at.checked_sub(magnitude).unwrap_or(now) } else { at + magnitude };
                // The reference moves along: half the range of send times is less than a month.
                self.pace = Pace::Clock { at: due, send_time_ms };
                due
            }
            Pace::SendTime { rate, burst, step: grid } => {
                let mut base = self.base.unwrap_or(Base {
                    at: now,
                    last_ms: send_time_ms,
                    elapsed_ms: 0,
                    bits: 0.0,
                    burst_left: true,
                });
                // Trick mode backwards steps down in time at its own pace: only the distance counts.
                let step = i64::from(send_time_ms.wrapping_sub(base.last_ms) as i32);
                let step = if rate < 0.0 { -step } else { step };
                if !(-STEP_BACK_MS..=STEP_FORWARD_MS).contains(&step) {
                    base.at = self.at(&base, rate, burst.duration).max(now);
                    base.elapsed_ms = 0;
                    base.bits = 0.0;
                    base.burst_left = false;
                } else {
                    base.elapsed_ms += step;
                }
                base.last_ms = send_time_ms;
                let in_burst = base.burst_left && base.elapsed_ms < burst.duration.as_millis() as i64;
                let due = if in_burst {
                    match burst.bits_per_second {
                        0 => base.at,
                        bps => base.at + seconds(base.bits / f64::from(bps)),
                    }
                } else {
                    let by_time = self.at(&base, rate, if base.burst_left { burst.duration } else { Duration::ZERO });
                    let paid = if base.burst_left { self.burst_bits(burst.duration) } else { 0.0 };
                    let exact = by_time.max(base.at + seconds((base.bits - paid).max(0.0) / self.ceiling));
                    on_grid(base.at, exact, grid)
                };
                base.bits += bytes as f64 * 8.0;
                self.base = Some(base);
                due
            }
        }
    }

    /// The wall time of the packet before, when `ahead` of the content went out at once.
    fn at(&self, base: &Base, rate: f64, ahead: Duration) -> Instant {
        let content = seconds(base.elapsed_ms.max(0) as f64 / 1e3).saturating_sub(ahead);
        base.at + seconds(content.as_secs_f64() / rate.abs().max(0.01))
    }

    /// What a burst of `duration` may weigh before the ceiling counts, bits.
    fn burst_bits(&self, duration: Duration) -> f64 {
        duration.as_secs_f64() * self.ceiling
    }
}

/// The last point at `due` or before it that is whole steps behind `base`.
fn on_grid(base: Instant, due: Instant, step: Duration) -> Instant {
    let since = due.saturating_duration_since(base).as_nanos();
    let ahead = since.checked_rem(step.as_nanos()).unwrap_or(0);
    due.checked_sub(Duration::from_nanos_u128(ahead)).unwrap_or(due)
}

/// A time that may be computed from anything.
pub(super) fn seconds(seconds: f64) -> Duration {
    // A day is beyond any wait of a play; it also keeps the conversion from failing.
    Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Burst;

    const NO_BURST: Burst = Burst { bits_per_second: 0, duration: Duration::ZERO };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn pacer(rate: f64, burst: Burst) -> Pacer {
        Pacer::new(Pace::SendTime { rate, burst, step: Duration::ZERO }, 1_000_000)
    }

    /// In steps of a second.
    fn stepped(rate: f64, burst: Burst) -> Pacer {
        Pacer::new(Pace::SendTime { rate, burst, step: ms(1000) }, 1_000_000)
    }

    #[test]
    fn packets_of_one_step_leave_together_none_late_and_none_a_step_early() {
        let now = Instant::now();
        let (mut pacer, mut exact) = (stepped(1.0, NO_BURST), pacer(1.0, NO_BURST));
        let mut seen = Vec::new();
        for send_time_ms in (500..4500).step_by(40) {
            let (due, at) = (pacer.due(now, send_time_ms, 100), exact.due(now, send_time_ms, 100));
            assert!(due <= at && at < due + ms(1000), "{send_time_ms}");
            seen.push(due - now);
        }
        assert!(seen.is_sorted());
        seen.dedup();
        assert_eq!(seen, [0, 1000, 2000, 3000].map(ms));
    }

    #[test]
    fn steps_are_those_of_the_wall_clock_and_begin_where_the_burst_ends() {
        let now = Instant::now();
        let mut pacer = stepped(2.0, Burst { bits_per_second: 0, duration: ms(3000) });
        for (send_time_ms, due) in [(0, 0), (2999, 0), (3000, 0), (4999, 0), (5000, 1000), (6999, 1000), (7000, 2000)] {
            assert_eq!(pacer.due(now, send_time_ms, 10), now + ms(due), "{send_time_ms}");
        }
    }

    #[test]
    fn a_burst_of_its_own_bit_rate_keeps_to_it_whatever_the_step() {
        let now = Instant::now();
        let mut pacer = stepped(1.0, Burst { bits_per_second: 80_000, duration: ms(1000) });
        assert_eq!(pacer.due(now, 0, 1000), now);
        assert_eq!(pacer.due(now, 10, 1000), now + ms(100));
    }

    #[test]
    fn after_a_leap_in_send_time_the_steps_begin_anew() {
        let now = Instant::now();
        let mut pacer = stepped(1.0, NO_BURST);
        pacer.due(now, 0, 10);
        assert_eq!(pacer.due(now, 1700, 10), now + ms(1000));
        assert_eq!(pacer.due(now, 3_000_000, 10), now + ms(1700));
        assert_eq!(pacer.due(now, 3_000_999, 10), now + ms(1700));
        assert_eq!(pacer.due(now, 3_001_000, 10), now + ms(2700));
        assert_eq!(pacer.due(now, 5, 10), now + ms(2700));
    }

    #[test]
    fn a_step_of_send_times_that_stand_still_is_no_more_than_twice_its_bit_rate() {
        let now = Instant::now();
        let mut pacer = stepped(1.0, NO_BURST);
        let due: Vec<_> = (0..=500).map(|_| pacer.due(now, 0, 1000) - now).collect();
        assert_eq!((due[249], due[250], due[500]), (ms(0), ms(1000), ms(2000)));
    }

    #[test]
    fn packets_leave_at_their_send_time() {
        let now = Instant::now();
        let mut pacer = pacer(1.0, NO_BURST);
        assert_eq!(pacer.due(now, 500, 100), now);
        assert_eq!(pacer.due(now, 700, 100), now + ms(200));
        assert_eq!(pacer.due(now, 1500, 100), now + ms(1000));
    }

    #[test]
    fn one_preroll_goes_at_once_and_the_rest_keeps_that_lead() {
        let now = Instant::now();
        let mut pacer = pacer(1.0, Burst { bits_per_second: 0, duration: ms(3000) });
        assert_eq!(pacer.due(now, 0, 1000), now);
        assert_eq!(pacer.due(now, 2999, 1000), now);
        assert_eq!(pacer.due(now, 5000, 1000), now + ms(2000));
    }

    #[test]
    fn a_burst_has_its_own_bit_rate() {
        let now = Instant::now();
        let mut pacer = pacer(1.0, Burst { bits_per_second: 80_000, duration: ms(1000) });
        assert_eq!(pacer.due(now, 0, 1000), now);
        assert_eq!(pacer.due(now, 10, 1000), now + ms(100));
        assert_eq!(pacer.due(now, 20, 1000), now + ms(200));
    }

    #[test]
    fn what_is_there_leaves_no_faster_than_asked_and_the_rest_as_it_comes() {
        let now = Instant::now();
        let mut pacer = Pacer::new(Pace::AtMost { bits_per_second: 80_000 }, 1);
        assert_eq!(pacer.due(now, 0, 1000), now);
        assert_eq!(pacer.due(now, 0, 1000), now + ms(100));
        assert_eq!(pacer.due(now + ms(100), 0, 1000), now + ms(200));
        assert_eq!(pacer.due(now + ms(900), 0, 1000), now + ms(900));
    }

    #[test]
    fn a_leap_in_send_time_does_not_stall_the_stream() {
        let now = Instant::now();
        let mut pacer = pacer(1.0, NO_BURST);
        pacer.due(now, 0, 10);
        assert_eq!(pacer.due(now, 3_000_000, 10), now);
        assert_eq!(pacer.due(now, 3_000_100, 10), now + ms(100));
        assert_eq!(pacer.due(now, 5, 10), now + ms(100));
    }

    #[test]
    fn a_file_whose_send_times_stand_still_leaves_at_twice_its_bit_rate() {
        let now = Instant::now();
        let mut pacer = pacer(1.0, NO_BURST);
        let last = (0..=250).map(|_| pacer.due(now, 0, 1000)).last();
        assert_eq!(last, Some(now + ms(1000)));
    }

    #[test]
    fn send_times_wrap_without_a_pause() {
        let now = Instant::now();
        let mut pacer = pacer(1.0, NO_BURST);
        pacer.due(now, u32::MAX - 99, 10);
        assert_eq!(pacer.due(now, 100, 10), now + ms(200));
    }

    #[test]
    fn on_a_common_clock_the_past_is_due_at_once() {
        let now = Instant::now() + Duration::from_secs(60);
        let mut pacer = Pacer::new(Pace::Clock { at: now, send_time_ms: 5000 }, 1);
        assert_eq!(pacer.due(now, 4000, 10), now - ms(1000));
        assert_eq!(pacer.due(now, 5500, 10), now + ms(500));
    }

    #[test]
    fn on_a_common_clock_months_go_by_and_send_times_wrap() {
        const STEP: u32 = 1_000_000_000;
        let now = Instant::now();
        let mut pacer = Pacer::new(Pace::Clock { at: now, send_time_ms: 0 }, 1);
        for step in 1..=10u32 {
            let expected = now + Duration::from_millis(u64::from(STEP) * u64::from(step));
            assert_eq!(pacer.due(now, STEP.wrapping_mul(step), 10), expected);
        }
    }

    #[test]
    fn backwards_at_five_times_the_rate_a_second_takes_a_fifth() {
        let now = Instant::now();
        let mut pacer = pacer(-5.0, NO_BURST);
        pacer.due(now, 10_000, 10);
        assert_eq!(pacer.due(now, 9_000, 10), now + ms(200));
    }
}
