//! A viewer's place in content that is played fast, slowly or backwards: from key frame to key frame, nothing between.
//! Backwards the packets of each key frame go in reverse as well: numbers only ever fall, as `[MS-MMSP]` 2.2.2 wants it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::key_frame::KeyFrame;
use super::{Archive, Place};
use crate::asf::{Header, PacketNumber, StreamNumber};
use crate::session::{Cursor, End, Next, Packet, Play, Until};

/// Reads the key frames of the first video stream that has any.
#[derive(Debug)]
pub struct Stride<A> {
    archive: A,
    header: Arc<Header>,
    video: Option<StreamNumber>,
    direction: Direction,
    /// Content time of the next search; `None` behind the end.
    at: Option<Duration>,
    /// From one search to the next.
    step: Duration,
    /// The same, after searches that found nothing new.
    reach: Duration,
    until: Option<Duration>,
    /// Where the key frame that was found last begins.
    found: Option<PacketNumber>,
    /// That key frame, while it is read.
    reading: Option<KeyFrame>,
    /// What is left of the key frame that was read last.
    waiting: VecDeque<Arc<Packet>>,
    /// The last packet that was read: its number is not passed again.
    last: Option<PacketNumber>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Forwards,
    Backwards,
}

impl Direction {
    /// From `before` to `next` it is this way.
    fn goes(self, before: PacketNumber, next: PacketNumber) -> bool {
        match self {
            Self::Forwards => next > before,
            Self::Backwards => next < before,
        }
    }
}

impl<A: Archive> Stride<A> {
    /// From the time of `place` on, by the rate of `play`.
    pub fn new(archive: A, header: Arc<Header>, place: Place, play: &Play) -> Self {
        let direction = if play.rate < 0.0 { Direction::Backwards } else { Direction::Forwards };
        let until = play.until.map(|until| match (until, direction) {
            (Until::At(time), _) => time,
            (Until::For(duration), Direction::Forwards) => place.time.saturating_add(duration),
            (Until::For(duration), Direction::Backwards) => place.time.saturating_sub(duration),
        });
        let step = Duration::try_from_secs_f64(play.rate.abs() / PICTURES_PER_SECOND).unwrap_or(SHORTEST_STEP);
        let step = step.max(SHORTEST_STEP);
        Self {
            video: header.streams().iter().find(|stream| stream.has_key_frames).map(|stream| stream.number),
            archive,
            header,
            direction,
            at: Some(place.time),
            step,
            reach: step,
            until,
            found: None,
            reading: None,
            waiting: VecDeque::new(),
            last: None,
        }
    }

    /// The next packet; `None` at the end.
    fn read(&mut self) -> Result<Option<Arc<Packet>>, Next> {
        loop {
            if let Some(packet) = self.waiting.pop_front() {
                return Ok(Some(packet));
            }
            if self.reading.is_none() {
                let Some((video, first)) = self.video.zip(self.search()?) else { return Ok(None) };
                self.reading = Some(KeyFrame::new(&self.header, video, first));
            }
            if let Some(reading) = &mut self.reading {
                reading.read(&mut self.archive)?;
            }
            self.take();
        }
    }

    /// Goes to the next key frame that is not the one before; `None` at the end.
    fn search(&mut self) -> Result<Option<PacketNumber>, Next> {
        while let Some(time) = self.at.filter(|&time| !self.is_over(time)) {
            let found = self.archive.key_frame_at(time).found()?;
            self.at = match self.direction {
                Direction::Forwards => time.checked_add(self.reach),
                // The very beginning is shown once, however long the last step is.
                Direction::Backwards => (!time.is_zero()).then(|| time.saturating_sub(self.reach)),
            };
            // Key frames may be minutes apart: ever longer steps find the next in a few searches.
            self.reach = self.reach.saturating_mul(2);
            let is_new = |&found: &PacketNumber| self.found.is_none_or(|before| self.direction.goes(before, found));
            if let Some(found) = found.filter(is_new) {
                self.found = Some(found);
                return Ok(Some(found));
            }
        }
        self.at = None;
        Ok(None)
    }

    fn is_over(&self, time: Duration) -> bool {
        match self.direction {
            Direction::Forwards => time > self.until.unwrap_or(Duration::MAX).min(self.header.duration()),
            Direction::Backwards => self.until.is_some_and(|until| time < until),
        }
    }

    /// The key frame has been read.
    fn take(&mut self) {
        let mut packets = self.reading.take().map(KeyFrame::into_packets).unwrap_or_default();
        if self.direction == Direction::Backwards {
            packets.reverse();
        }
        // Where every picture is a key frame, one may end in the packet where the next begins.
        let first = packets.first().map(|packet| packet.number);
        if first.is_some_and(|first| self.last.is_none_or(|last| self.direction.goes(last, first))) {
            self.last = packets.last().map(|packet| packet.number);
            self.reach = self.step;
            self.waiting = packets.into();
        }
    }
}

impl<A: Archive> Cursor for Stride<A> {
    fn next(&mut self) -> Next {
        match self.read() {
            Ok(Some(packet)) => Next::Packet(packet),
            Ok(None) => Next::Ended(End::Complete),
            Err(next) => next,
        }
    }

    fn is_announced(&self) -> bool {
        true
    }
}

/// Of the wall clock: whoever searches in a film needs no more, and a key frame weighs ten other pictures.
const PICTURES_PER_SECOND: f64 = 5.0;
const SHORTEST_STEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::asf::Packet as AsfPacket;
    use crate::session::Position;
    use crate::session::archive::testing::{Memory, PREROLL_MS, VIDEO, clip, collect, numbers};

    const SECOND: Duration = Duration::from_secs(1);

    fn cursor(archive: Memory, rate: f64, from: Duration, until: Option<Until>) -> Stride<Memory> {
        let header = Arc::new(archive.file.header().clone());
        let play = Play { rate, until, ..Play::from(Position::Default) };
        Stride::new(archive, header, Place { packet: PacketNumber(0), time: from }, &play)
    }

    fn stride(rate: f64, from: Duration, until: Option<Until>) -> Vec<Arc<Packet>> {
        collect(&mut cursor(clip(1), rate, from, until))
    }

    /// Content times at which pictures begin, in the order in which they come, ms.
    fn pictures(packets: &[Arc<Packet>]) -> Vec<u32> {
        let starts = packets.iter().filter_map(|packet| {
            let parsed = AsfPacket::parse(&packet.bytes).unwrap();
            let first = parsed.payloads().find(|payload| payload.stream == VIDEO && payload.starts_key_frame())?;
            Some(first.presentation_ms.unwrap() - PREROLL_MS)
        });
        let mut starts: Vec<u32> = starts.collect();
        starts.dedup();
        starts
    }

    #[test]
    fn only_key_frames_come() {
        for nth in [1, 5] {
            let packets = collect(&mut cursor(clip(nth), 5.0, Duration::ZERO, None));
            assert!(!packets.is_empty());
            for packet in packets {
                for bytes in [&packet.bytes, &packet.stripped] {
                    let parsed = AsfPacket::parse(bytes).unwrap();
                    assert!(parsed.payloads().all(|payload| payload.key_frame && payload.stream == VIDEO));
                }
                assert_eq!(packet.bytes.len(), 500);
            }
        }
    }

    #[test]
    fn five_times_as_fast_there_is_a_picture_for_each_second() {
        let packets = stride(5.0, Duration::ZERO, None);
        assert!(numbers(&packets).is_sorted_by(|before, after| before < after));
        let seconds: Vec<u32> = pictures(&packets).iter().map(|ms| ms / 1000).collect();
        assert!(seconds.is_sorted() && seconds.len() >= 4, "{seconds:?}");
    }

    #[test]
    fn backwards_the_numbers_only_fall_and_the_first_packet_is_the_last() {
        let numbers = numbers(&stride(-5.0, 4 * SECOND, None));
        assert!(numbers.is_sorted_by(|before, after| before > after), "{numbers:?}");
        assert!(numbers.len() >= 4);
        assert_eq!(numbers.last(), Some(&0));
    }

    #[test]
    fn however_slow_each_key_frame_comes_once() {
        for (rate, from) in [(0.1, Duration::ZERO), (-0.1, 4 * SECOND)] {
            let mut shown = pictures(&collect(&mut cursor(clip(5), rate, from, None)));
            shown.sort_unstable();
            assert_eq!(shown, [0, 500, 1000, 1500, 2000, 2500, 3000, 3500], "rate {rate}");
        }
    }

    #[test]
    fn every_picture_that_is_shown_is_whole() {
        for rate in [5.0, 0.5, -2.0] {
            let mut packets = stride(rate, 2 * SECOND, None);
            packets.sort_by_key(|packet| packet.number);
            let mut got = 0;
            let mut size = 0;
            for packet in &packets {
                for payload in AsfPacket::parse(&packet.bytes).unwrap().payloads() {
                    if payload.starts_object() {
                        (got, size) = (0, payload.object_size.unwrap());
                    }
                    assert_eq!(payload.offset, got, "rate {rate}, packet {}", packet.number);
                    got += payload.data.len() as u32;
                    assert!(got <= size);
                }
            }
        }
    }

    #[test]
    fn it_ends_where_it_was_told_to() {
        let forwards = pictures(&stride(2.0, SECOND, Some(Until::For(SECOND))));
        assert!(!forwards.is_empty() && forwards.iter().all(|ms| *ms <= 2000), "{forwards:?}");
        let backwards = pictures(&stride(-2.0, 3 * SECOND, Some(Until::At(2 * SECOND))));
        assert!(!backwards.is_empty() && backwards.iter().all(|ms| *ms >= 1000), "{backwards:?}");
    }

    proptest! {
        #[test]
        fn whatever_has_to_be_waited_for_the_same_comes(
            nth in prop_oneof![Just(1_u32), Just(5)],
            later in proptest::collection::vec(any::<bool>(), 0..200),
            absent in proptest::collection::vec(0..100_u64, 0..10),
            rate in prop_oneof![0.05..5.0_f64, -5.0..-0.05_f64],
            from_ms in 0..5000_u64,
            until in proptest::option::of((0..3000_u64).prop_map(|ms| Until::For(Duration::from_millis(ms)))),
        ) {
            let archive = || clip(nth).absent(absent.iter().copied());
            let from = Duration::from_millis(from_ms);
            let at_once = collect(&mut cursor(archive(), rate, from, until));
            prop_assert!(numbers(&at_once).is_sorted_by(|before, after| (before < after) == (rate > 0.0)));
            prop_assert_eq!(collect(&mut cursor(archive().not_yet(later), rate, from, until)), at_once);
        }
    }
}
