//! A viewer's place in a file that is played fast, slowly or backwards: from key frame to key frame, nothing between.
//! Backwards the packets of each key frame go in reverse as well: numbers only ever fall, as `[MS-MMSP]` 2.2.2 wants it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::on_demand::{OnDemand, unreadable};
use crate::asf::{Gate, Outline, Packet as AsfPacket, PacketNumber, StreamNumber, Thinning, padding};
use crate::session::{Cursor, End, Next, Packet, Play, Refusal, Until};

/// Reads the key frames of the first video stream that has any.
#[derive(Debug)]
pub struct StrideCursor {
    content: Arc<OnDemand>,
    video: Option<StreamNumber>,
    /// What is left of the key frame that was read last.
    waiting: VecDeque<Packet>,
    direction: Direction,
    /// Content time of the next search; `None` behind the end.
    at: Option<Duration>,
    step: Duration,
    until: Option<Duration>,
    /// Where the key frame that was found last begins.
    found: Option<PacketNumber>,
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

impl StrideCursor {
    /// At the place that `play` names, moving by its rate.
    ///
    /// # Errors
    /// A place beyond the end, or a file that can't be read.
    pub fn new(content: Arc<OnDemand>, play: &Play) -> Result<Self, Refusal> {
        let (_, time) = content.start(play)?;
        let direction = if play.rate < 0.0 { Direction::Backwards } else { Direction::Forwards };
        let until = play.until.map(|until| match (until, direction) {
            (Until::At(time), _) => time,
            (Until::For(duration), Direction::Forwards) => time.saturating_add(duration),
            (Until::For(duration), Direction::Backwards) => time.saturating_sub(duration),
        });
        let video = content.file.header().streams().iter().find(|stream| stream.has_key_frames);
        Ok(Self {
            video: video.map(|stream| stream.number),
            waiting: VecDeque::new(),
            direction,
            at: Some(time),
            step: Duration::try_from_secs_f64(play.rate.abs() / PICTURES_PER_SECOND)
                .unwrap_or(SHORTEST_STEP)
                .max(SHORTEST_STEP),
            until,
            found: None,
            last: None,
            content,
        })
    }

    /// Goes to the next key frame and reads it; `false` at the end.
    fn advance(&mut self) -> Result<bool, Refusal> {
        let mut step = self.step;
        while let Some(time) = self.at {
            let is_over = match self.direction {
                Direction::Forwards => time > self.until.unwrap_or(Duration::MAX).min(self.content.duration()),
                Direction::Backwards => self.until.is_some_and(|until| time < until),
            };
            if is_over {
                break;
            }
            let found = self.content.file.packet_at(time).map_err(|error| unreadable(&error))?;
            let is_new = self.found.is_none_or(|before| self.direction.goes(before, found));
            self.at = match self.direction {
                Direction::Forwards => time.checked_add(step),
                // The very beginning is shown once, however long the last step is.
                Direction::Backwards => (!time.is_zero()).then(|| time.saturating_sub(step)),
            };
            if is_new {
                self.found = Some(found);
                self.read(found)?;
                // Where every picture is a key frame, one may end in the packet where the next begins.
                let first = self.waiting.front().map(|packet| packet.number);
                if first.is_some_and(|first| self.last.is_none_or(|last| self.direction.goes(last, first))) {
                    self.last = self.waiting.back().map(|packet| packet.number);
                    return Ok(true);
                }
                self.waiting.clear();
            }
            // Key frames may be minutes apart: ever longer steps find the next in a few searches.
            step = step.saturating_mul(2);
        }
        self.at = None;
        Ok(false)
    }

    /// Reads the key frame that begins in packet `first`.
    fn read(&mut self, first: PacketNumber) -> Result<(), Refusal> {
        let Some(video) = self.video else { return Ok(()) };
        let mut gate = Gate::new(self.content.file.header());
        gate.all_off();
        gate.select(video, Thinning::KeyFrames);
        let mut object = None;
        let mut missing = 0_u64;
        let most = (MAX_KEY_FRAME / self.content.file.header().packet_size().max(1)) as u64;
        let end = self.content.file.packet_count().min(first.0.saturating_add(most));
        for number in (first.0..end).map(PacketNumber) {
            let bytes = self.content.file.packet(number).map_err(|error| unreadable(&error))?;
            let Ok(packet) = AsfPacket::parse(&bytes) else { break };
            for payload in packet.payloads().filter(|payload| payload.stream == video) {
                if object.is_none() && payload.starts_key_frame() {
                    object = Some(payload.object_number);
                    missing = payload.object_size.unwrap_or(0).into();
                }
                if object == Some(payload.object_number) {
                    missing = missing.saturating_sub(payload.data.len() as u64);
                }
            }
            if object.is_none() {
                break;
            }
            let kept = gate.pass(&Outline::of(&packet));
            if let Ok(form) = kept.apply(&bytes)
                && !kept.is_empty()
            {
                let packet = self.packet(number, packet.send_time_ms(), padding::strip(form));
                match self.direction {
                    Direction::Forwards => self.waiting.push_back(packet),
                    Direction::Backwards => self.waiting.push_front(packet),
                }
            }
            if missing == 0 {
                break;
            }
        }
        Ok(())
    }

    fn packet(&self, number: PacketNumber, send_time_ms: u32, stripped: Bytes) -> Packet {
        let padded = padding::restore(&stripped, self.content.file.header().packet_size());
        let bytes = padded.map_or_else(|_| stripped.clone(), Bytes::from);
        Packet::new(number, send_time_ms, bytes, stripped)
    }
}

impl Cursor for StrideCursor {
    fn next(&mut self) -> Next {
        if let Some(packet) = self.waiting.pop_front() {
            return Next::from(packet);
        }
        match self.advance() {
            Ok(true) => self.waiting.pop_front().map_or(Next::Ended(End::Complete), Next::from),
            Ok(false) => Next::Ended(End::Complete),
            Err(refusal) => Next::Ended(End::Failed(refusal)),
        }
    }
}

/// Of the wall clock: whoever searches in a film needs no more, and a key frame weighs ten other pictures.
const PICTURES_PER_SECOND: f64 = 5.0;
const SHORTEST_STEP: Duration = Duration::from_millis(1);
/// Bytes of packets that one key frame may be spread over; of a larger one only the beginning is sent.
const MAX_KEY_FRAME: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::content::{AUDIO, VIDEO};
    use crate::demo::testing::{clip, collect, numbers};
    use crate::session::Position;

    fn stride(rate: f64, from: Position, until: Option<Until>) -> Vec<Arc<Packet>> {
        let play = Play { rate, until, ..Play::from(from) };
        collect(&mut StrideCursor::new(clip(), &play).unwrap())
    }

    /// Content times at which pictures begin, in the order in which they come, ms.
    fn pictures(packets: &[Arc<Packet>]) -> Vec<u32> {
        let starts = packets.iter().filter_map(|packet| {
            let parsed = AsfPacket::parse(&packet.bytes).unwrap();
            let first = parsed.payloads().find(|payload| payload.stream == VIDEO && payload.starts_key_frame())?;
            Some(first.presentation_ms.unwrap() - 2000)
        });
        let mut starts: Vec<u32> = starts.collect();
        starts.dedup();
        starts
    }

    #[test]
    fn only_key_frames_come() {
        let packets = stride(5.0, Position::Default, None);
        assert!(!packets.is_empty());
        for packet in packets {
            for bytes in [&packet.bytes, &packet.stripped] {
                let parsed = AsfPacket::parse(bytes).unwrap();
                assert!(parsed.payloads().all(|payload| payload.key_frame && payload.stream != AUDIO));
            }
            assert_eq!(packet.bytes.len(), 2888);
        }
    }

    #[test]
    fn five_times_as_fast_there_is_a_picture_for_each_second() {
        let packets = stride(5.0, Position::Default, None);
        assert!(numbers(&packets).is_sorted_by(|before, after| before < after));
        let seconds: Vec<u32> = pictures(&packets).iter().map(|ms| ms / 1000).collect();
        assert!(seconds.is_sorted() && seconds.len() >= 4, "{seconds:?}");
    }

    #[test]
    fn backwards_the_numbers_only_fall_and_the_first_packet_is_the_last() {
        let numbers = numbers(&stride(-5.0, Position::Default, None));
        assert!(numbers.is_sorted_by(|before, after| before > after), "{numbers:?}");
        assert!(numbers.len() >= 4);
    }

    #[test]
    fn every_picture_that_is_shown_is_whole() {
        for rate in [5.0, 0.5, -2.0] {
            let mut packets = stride(rate, Position::Time(Duration::from_secs(2)), None);
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
        let second = Duration::from_secs(1);
        let forwards = pictures(&stride(2.0, Position::Time(second), Some(Until::For(second))));
        assert!(forwards.iter().all(|ms| *ms <= 2000), "{forwards:?}");
        let backwards = pictures(&stride(-2.0, Position::Time(3 * second), Some(Until::At(2 * second))));
        assert!(!backwards.is_empty() && backwards.iter().all(|ms| *ms >= 1000), "{backwards:?}");
    }
}
