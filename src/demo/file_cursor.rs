//! A viewer's place in a file that is played at the normal rate.

use std::sync::Arc;

use super::on_demand::{OnDemand, unreadable};
use crate::asf::{Packet as AsfPacket, PacketNumber, padding};
use crate::session::{Cursor, End, Next, Packet, Play, Reason, Refusal, Until};

/// Reads a file packet by packet.
#[derive(Debug)]
pub struct FileCursor {
    content: Arc<OnDemand>,
    next: PacketNumber,
    /// The presentation time (preroll included) after which nothing is sent, ms.
    until_ms: Option<u64>,
}

impl FileCursor {
    /// At the place that `play` names; its rate is taken for the normal one.
    ///
    /// # Errors
    /// A place beyond the end, or a file that can't be read.
    pub fn new(content: Arc<OnDemand>, play: &Play) -> Result<Self, Refusal> {
        let (next, time) = content.start(play)?;
        let until = play.until.map(|until| match until {
            Until::At(time) => time,
            Until::For(duration) => time.saturating_add(duration),
        });
        let preroll = content.file.header().preroll();
        let until_ms = until.map(|time| u64::try_from(time.saturating_add(preroll).as_millis()).unwrap_or(u64::MAX));
        Ok(Self { content, next, until_ms })
    }

    /// All that begins or goes on in the packet is due later than `until`.
    fn is_over(&self, packet: &AsfPacket<'_>) -> bool {
        let earliest = packet.payloads().filter_map(|payload| payload.presentation_ms).min();
        self.until_ms.zip(earliest).is_some_and(|(until, earliest)| u64::from(earliest) > until)
    }
}

impl Cursor for FileCursor {
    fn next(&mut self) -> Next {
        // Players can't use what isn't a packet, so a damaged file plays on behind the damage.
        for _ in 0..MAX_DAMAGE {
            let number = self.next;
            if number.0 >= self.content.file.packet_count() {
                return Next::Ended(End::Complete);
            }
            let bytes = match self.content.file.packet(number) {
                Ok(bytes) => bytes,
                Err(error) => return Next::Ended(End::Failed(unreadable(&error))),
            };
            self.next = PacketNumber(number.0 + 1);
            let Ok(packet) = AsfPacket::parse(&bytes) else { continue };
            if self.is_over(&packet) {
                return Next::Ended(End::Complete);
            }
            let send_time_ms = packet.send_time_ms();
            let stripped = padding::strip(bytes.clone());
            return Next::from(Packet::new(number, send_time_ms, bytes, stripped));
        }
        let refusal = Refusal::new(Reason::BadContent, format!("nothing but damage before packet {}", self.next));
        Next::Ended(End::Failed(refusal))
    }
}

/// Packets in a row that are none; then the file is taken for lost.
const MAX_DAMAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::storage::Storage;
    use crate::demo::testing::{clip, clip_bytes, collect, numbers};
    use crate::session::Position;

    #[test]
    fn packets_come_as_in_the_file_and_without_padding() {
        let mut cursor = FileCursor::new(clip(), &Play::from(Position::Default)).unwrap();
        let packets = collect(&mut cursor);
        let last = packets.last().unwrap();
        assert_eq!(last.bytes, clip().file.packet(last.number).unwrap());
        assert!(last.stripped.len() < last.bytes.len());
        let whole = AsfPacket::parse(&last.bytes).unwrap();
        assert_eq!(whole.send_time_ms(), last.send_time_ms);
        assert_eq!(whole.payloads().count(), AsfPacket::parse(&last.stripped).unwrap().payloads().count());
    }

    #[test]
    fn a_damaged_packet_is_left_out() {
        let mut bytes = clip_bytes().to_vec();
        let third = clip().file.data_offset() as usize + 3 * 2888;
        bytes[third] = 0xFF;
        let damaged = Arc::new(OnDemand::open(Storage::Memory(bytes.into())).unwrap());
        let mut cursor = FileCursor::new(damaged, &Play::from(Position::Default)).unwrap();
        assert_eq!(numbers(&collect(&mut cursor))[..4], [0, 1, 2, 4]);
    }

    #[test]
    fn a_file_that_is_nothing_but_damage_fails_with_a_reason() {
        let mut bytes = clip_bytes().to_vec();
        let data = clip().file.data_offset() as usize;
        // 1000 packets of damage: the header says how many there are.
        bytes.truncate(data);
        bytes.resize(data + 1001 * 2888, 0xFF);
        let header = clip().file.header().with_counts(1001, 0, 40_000_000, 20_000_000, false, true);
        bytes[..data].copy_from_slice(header.bytes());
        let damaged = Arc::new(OnDemand::open(Storage::Memory(bytes.into())).unwrap());
        let mut cursor = FileCursor::new(damaged, &Play::from(Position::Default)).unwrap();
        let Next::Ended(End::Failed(refusal)) = cursor.next() else { panic!("it plays") };
        assert_eq!(refusal.to_string(), "nothing but damage before packet 1000");
    }
}
