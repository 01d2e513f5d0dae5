//! A viewer's place in content that is played at the normal rate.

use std::time::Duration;

use super::{Archive, MAX_ABSENT, Place};
use crate::asf::{Packet as AsfPacket, PacketNumber};
use crate::session::{Cursor, End, Next, Packet, Reason, Refusal, Until};

/// Reads an archive packet by packet.
#[derive(Debug)]
pub struct Linear<A> {
    archive: A,
    next: PacketNumber,
    /// The presentation time (preroll included) after which nothing is sent, ms.
    until_ms: Option<u64>,
}

impl<A: Archive> Linear<A> {
    /// From `place` on, in content of that preroll.
    pub fn new(archive: A, place: Place, until: Option<Until>, preroll: Duration) -> Self {
        let until = until.map(|until| match until {
            Until::At(time) => time,
            Until::For(duration) => place.time.saturating_add(duration),
        });
        let until_ms = until.map(|time| u64::try_from(time.saturating_add(preroll).as_millis()).unwrap_or(u64::MAX));
        Self { archive, next: place.packet, until_ms }
    }

    /// The packet that is read next.
    pub fn place(&self) -> PacketNumber {
        self.next
    }

    /// All that begins or goes on in the packet is due later than `until`.
    fn is_over(&self, packet: &Packet) -> bool {
        let Some(until) = self.until_ms else { return false };
        let packet = AsfPacket::parse(&packet.stripped);
        let earliest = packet.iter().flat_map(AsfPacket::payloads).filter_map(|payload| payload.presentation_ms).min();
        earliest.is_some_and(|earliest| u64::from(earliest) > until)
    }

    fn read(&mut self) -> Result<Next, Next> {
        // Players can't use what isn't a packet, so a damaged file plays on behind the damage.
        for _ in 0..MAX_ABSENT {
            if self.archive.end().is_some_and(|end| self.next >= end) {
                return Ok(Next::Ended(End::Complete));
            }
            let found = self.archive.packet(self.next).found()?;
            if found.as_ref().is_some_and(|packet| self.is_over(packet)) {
                return Ok(Next::Ended(End::Complete));
            }
            self.next = PacketNumber(self.next.0.saturating_add(1));
            if let Some(packet) = found {
                return Ok(Next::Packet(packet));
            }
        }
        let refusal = Refusal::new(Reason::BadContent, format!("nothing but damage before packet {}", self.next));
        Ok(Next::Ended(End::Failed(refusal)))
    }
}

impl<A: Archive> Cursor for Linear<A> {
    fn next(&mut self) -> Next {
        self.read().unwrap_or_else(|next| next)
    }

    fn is_announced(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::session::archive::testing::{Memory, clip, collect, numbers};

    const START: Place = Place { packet: PacketNumber(0), time: Duration::ZERO };

    fn linear(archive: Memory, from: u64, until: Option<Until>) -> Linear<Memory> {
        Linear::new(archive, Place { packet: PacketNumber(from), ..START }, until, Duration::from_secs(2))
    }

    #[test]
    fn every_packet_comes_and_the_next_is_told() {
        let mut cursor = linear(clip(1), 3, None);
        assert_eq!(cursor.place(), PacketNumber(3));
        let packets = collect(&mut cursor);
        let count = clip(1).file.packet_count();
        assert_eq!(numbers(&packets), (3..count).collect::<Vec<_>>());
        assert_eq!(cursor.place(), PacketNumber(count));
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for_at_the_same_place() {
        let mut cursor = linear(clip(1).not_yet([true]), 5, None);
        assert!(matches!(cursor.next(), Next::Nothing));
        assert_eq!(cursor.place(), PacketNumber(5));
        assert!(matches!(cursor.next(), Next::Packet(packet) if packet.number.0 == 5));
    }

    #[test]
    fn an_absent_packet_is_left_out() {
        let packets = collect(&mut linear(clip(1).absent([0, 3, 4]), 0, None));
        assert_eq!(numbers(&packets)[..3], [1, 2, 5]);
    }

    #[test]
    fn content_of_which_nothing_is_there_fails_with_a_reason() {
        let mut cursor = linear(clip(1).endless().absent(0..2000), 0, None);
        let Next::Ended(End::Failed(refusal)) = cursor.next() else { panic!("it plays") };
        assert_eq!(refusal.to_string(), "nothing but damage before packet 1000");
    }

    #[test]
    fn a_failure_of_the_archive_ends_the_play() {
        let mut cursor = linear(clip(1).endless().absent(0..1), clip(1).file.packet_count(), None);
        let Next::Ended(End::Failed(refusal)) = cursor.next() else { panic!("it plays") };
        assert_eq!(refusal.to_string(), "cut off");
    }

    #[test]
    fn it_ends_where_it_was_told_to() {
        let second = Duration::from_secs(1);
        let place = Place { time: second, ..START };
        let play = |until| {
            let packets = collect(&mut Linear::new(clip(1), place, Some(until), Duration::from_secs(2)));
            packets.last().map(|packet| packet.send_time_ms)
        };
        assert_eq!(play(Until::For(second)), play(Until::At(2 * second)));
        assert!(play(Until::For(second)).is_some_and(|ms| (1900..=2000).contains(&ms)));
    }

    proptest! {
        #[test]
        fn whatever_has_to_be_waited_for_the_same_comes(
            later in proptest::collection::vec(any::<bool>(), 0..200),
            absent in proptest::collection::vec(0..100_u64, 0..20),
            from in 0..100_u64,
            until in proptest::option::of((0..5000_u64).prop_map(|ms| Until::At(Duration::from_millis(ms)))),
        ) {
            let archive = || clip(5).absent(absent.iter().copied());
            let at_once: Vec<Arc<Packet>> = collect(&mut linear(archive(), from, until));
            prop_assert_eq!(collect(&mut linear(archive().not_yet(later), from, until)), at_once);
        }
    }
}
