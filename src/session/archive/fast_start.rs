//! How fast content that is read at random leaves: what goes ahead of its time, and what of a player's wish is granted.

use std::time::Duration;

use crate::session::{Burst, Pace, Play};

/// What may leave ahead of its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FastStart {
    /// How much of the content goes at once where the player names no burst.
    pub ahead: Duration,
    /// The most that a player gets who names one.
    pub most: Burst,
    /// See [`Pace::SendTime`].
    pub step: Duration,
}

impl FastStart {
    /// The pace of `play`, in content of `bit_rate` bit/s. Trick mode has no burst and no step: pictures are shown as they
    /// come.
    pub fn pace(&self, play: &Play, bit_rate: u32) -> Pace {
        if play.is_trick_mode() {
            let burst = Burst { bits_per_second: 0, duration: Duration::ZERO };
            return Pace::SendTime { rate: play.rate, burst, step: Duration::ZERO };
        }
        // A burst slower than the content would stall it: the player can't have meant that.
        let asked = play.burst.filter(|burst| burst.bits_per_second >= bit_rate);
        let burst = match asked {
            Some(burst) => Burst {
                bits_per_second: burst.bits_per_second.min(self.most.bits_per_second),
                duration: burst.duration.min(self.most.duration),
            },
            None => Burst { bits_per_second: 0, duration: self.ahead.min(self.most.duration) },
        };
        Pace::SendTime { rate: play.rate, burst, step: self.step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Position;

    const SECOND: Duration = Duration::from_secs(1);
    const FAST_START: FastStart = FastStart {
        ahead: Duration::from_secs(2),
        most: Burst { bits_per_second: 400_000, duration: Duration::from_secs(30) },
        step: SECOND,
    };

    fn burst(bits_per_second: u32, duration: Duration) -> Burst {
        Burst { bits_per_second, duration }
    }

    #[test]
    fn what_is_set_goes_ahead_unless_the_player_names_a_burst() {
        let pace = |burst| match FAST_START.pace(&Play { burst, ..Play::from(Position::Default) }, 100_000) {
            Pace::SendTime { rate: 1.0, burst, step: SECOND } => burst,
            other => panic!("{other:?}"),
        };
        assert_eq!(pace(None), burst(0, 2 * SECOND));
        assert_eq!(pace(Some(burst(200_000, 5 * SECOND))), burst(200_000, 5 * SECOND));
        assert_eq!(pace(Some(burst(u32::MAX, Duration::MAX))), FAST_START.most);
        assert_eq!(pace(Some(burst(1000, 5 * SECOND))), burst(0, 2 * SECOND));
    }

    #[test]
    fn no_more_goes_ahead_than_a_player_may_ask_for() {
        let long = FastStart { ahead: 60 * SECOND, ..FAST_START };
        let pace = long.pace(&Play::from(Position::Default), 100_000);
        assert_eq!(pace, Pace::SendTime { rate: 1.0, burst: burst(0, 30 * SECOND), step: SECOND });
    }

    #[test]
    fn trick_mode_has_neither_burst_nor_step() {
        let play = Play { rate: -5.0, burst: Some(burst(200_000, SECOND)), ..Play::from(Position::Default) };
        let none = burst(0, Duration::ZERO);
        assert_eq!(FAST_START.pace(&play, 100_000), Pace::SendTime { rate: -5.0, burst: none, step: Duration::ZERO });
    }
}
