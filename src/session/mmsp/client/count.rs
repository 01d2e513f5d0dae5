//! Where the Sequence of a session stands, though Data packets carry no more than its low byte: `[MS-MMSP]` 2.2.2 and
//! 3.1.4.7. The byte is certain; the rest is how often we saw it go round.

use crate::wire::mmsp::ids::Sequence;

/// Packets before the first one that may be missing at the beginning of a play.
const MAX_LEAD: u8 = 64;
/// Who begins again with a number up to this, far from where the play before ended, begins each play at 0.
const RESTART: u8 = 8;

/// Counts on over plays.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// The number behind the newest packet.
    end: u64,
    /// This origin begins each play at 0.
    restarts: bool,
}

/// What lies between the end of the play before and the first packet that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lead {
    /// So many are missing.
    Missing(u64),
    /// So many at most, and nobody knows their numbers.
    Unknown(u64),
}

impl Count {
    /// How many are missing before a packet of that byte, if they are no more than 255.
    pub(super) fn missing(&self, low: u8) -> u64 {
        low.wrapping_sub(self.low()).into()
    }

    /// How far before the end the packet of that byte is, 1 to 256.
    pub(super) fn back(&self, low: u8) -> usize {
        usize::from(self.low().wrapping_sub(low).wrapping_sub(1)).saturating_add(1)
    }

    /// The number of the packet so far before the end.
    pub(super) fn before(&self, packets: usize) -> Sequence {
        Sequence(self.end.wrapping_sub(packets as u64) as u32)
    }

    /// The number of the packet so far behind the newest.
    pub(super) fn behind(&self, packets: u64) -> Sequence {
        Sequence(self.end.wrapping_add(packets) as u32)
    }

    /// So many more were sent.
    pub(super) fn advance(&mut self, packets: u64) {
        self.end = self.end.wrapping_add(packets);
    }

    /// The first packet of a play came, and is not counted yet. Numbers go on over plays, or begin anew at 0; after 0xFE a
    /// Start makes them go on at 0x00, 3.2.5.11.
    pub(super) fn begin(&mut self, low: u8) -> Lead {
        if self.restarts {
            self.end = 0;
        }
        if low == 0 && self.low() == 0xFF {
            self.advance(1);
        }
        match low.wrapping_sub(self.low()) {
            ahead if ahead <= MAX_LEAD => Lead::Missing(ahead.into()),
            _ if low <= RESTART => {
                (self.restarts, self.end) = (true, 0);
                Lead::Missing(low.into())
            }
            ahead => Lead::Unknown(ahead.into()),
        }
    }

    /// A packet of the play before came, and none of this one yet.
    pub(super) fn late(&mut self, low: u8) {
        let missing = self.missing(low);
        if missing <= MAX_LEAD.into() {
            self.advance(missing.saturating_add(1));
        }
    }

    fn low(&self) -> u8 {
        self.end as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(end: u64) -> Count {
        Count { end, restarts: false }
    }

    #[test]
    fn the_byte_goes_round_and_the_count_goes_on() {
        let mut count = at(0x1FE);
        assert_eq!((count.missing(0xFE), count.missing(0x01), count.missing(0xFD)), (0, 3, 255));
        assert_eq!((count.back(0xFD), count.back(0xFF), count.back(0xFE)), (1, 255, 256));
        count.advance(3);
        assert_eq!((count.before(3), count.behind(0)), (Sequence(0x1FE), Sequence(0x201)));
        assert_eq!(at(0x1_0000_0001).before(2), Sequence(u32::MAX));
    }

    #[test]
    fn a_play_begins_where_the_numbers_are_or_at_0() {
        for (end, low, lead, next) in [
            (300, 44, Lead::Missing(0), 300),
            (300, 46, Lead::Missing(2), 300),
            // After 0xFE.
            (0x1FF, 0, Lead::Missing(0), 0x200),
            (0x1FF, 0xFF, Lead::Missing(0), 0x1FF),
            // Anew, with a loss and without.
            (100, 0, Lead::Missing(0), 0),
            (100, 3, Lead::Missing(3), 0),
            (100, 90, Lead::Unknown(246), 100),
        ] {
            let mut count = at(end);
            assert_eq!((count.begin(low), count.end), (lead, next), "{low} behind {end}");
        }
    }
}
