//! A file that is open for viewers, who each play it from where they like.

use std::sync::Arc;
use std::time::Duration;

use super::storage::Storage;
use crate::asf::{File, FileError, Header, Packet as AsfPacket, PacketNumber, padding};
use crate::session::archive::{Access, Archive, FastStart, Linear, Start, Stride};
use crate::session::{Burst, Description, Opened, Packet, Play, Playing, Reason, Refusal};

/// An open file and what is told of it.
#[derive(Debug)]
pub struct OnDemand {
    pub(super) file: File<Storage>,
    opened: Arc<Opened>,
    duration: Duration,
}

impl OnDemand {
    /// Reads header and index. A file that does not say how long it is (a recorded broadcast, a copy that broke off) is
    /// told with the counts of what is there.
    ///
    /// # Errors
    /// What can't be read or is no ASF file.
    pub fn open(storage: Storage) -> Result<Self, FileError> {
        let file = File::open(storage)?;
        let header = match file.header() {
            header if header.is_live() => counted(&file)?,
            header => header.clone(),
        };
        let duration = header.duration();
        let description = Description {
            can_seek: true,
            can_stride: file.has_video_index(),
            duration_seconds: duration.as_secs_f64(),
            packet_count: file.packet_count(),
            bit_rate: header.bit_rate(),
            ..Description::default()
        };
        let opened = Arc::new(Opened { description, header: Arc::new(header) });
        Ok(Self { file, opened, duration })
    }

    /// What a viewer is told of it.
    pub fn opened(&self) -> Arc<Opened> {
        Arc::clone(&self.opened)
    }

    /// Content time, without the preroll.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Begins a play.
    ///
    /// # Errors
    /// A place beyond the end, trick mode where there is no index of key frames, or a file that can't be read.
    pub fn play(self: &Arc<Self>, play: &Play) -> Result<Playing, Refusal> {
        if play.is_trick_mode() && !self.file.has_video_index() {
            return Err(Refusal::new(Reason::Invalid, format!("rate {} of a file without an index", play.rate)));
        }
        let header = &self.opened.header;
        let mut reader = Reader(Arc::clone(self));
        let place = match Start::of(play, header).locate(&mut reader) {
            Access::There(place) => place,
            Access::Failed(refusal) => return Err(refusal),
            Access::Absent | Access::NotYet => return Err(Refusal::new(Reason::Internal, "no place in the file")),
        };
        let pace = self.fast_start().pace(play, header.bit_rate());
        if play.is_trick_mode() {
            let cursor = Stride::new(reader, Arc::clone(header), place, play);
            return Ok(Playing { cursor: Box::new(cursor), pace });
        }
        let cursor = Linear::new(reader, place, play.until, header.preroll());
        Ok(Playing { cursor: Box::new(cursor), pace })
    }

    fn fast_start(&self) -> FastStart {
        let header = &self.opened.header;
        let fastest = header.bit_rate().saturating_mul(FASTEST_BURST);
        let most = Burst { bits_per_second: fastest, duration: LONGEST_BURST };
        FastStart { ahead: header.preroll(), most, step: Duration::ZERO }
    }
}

/// Reads the file for one viewer.
struct Reader(Arc<OnDemand>);

impl Archive for Reader {
    fn packet(&mut self, number: PacketNumber) -> Access<Arc<Packet>> {
        let file = &self.0.file;
        if number.0 >= file.packet_count() {
            return Access::Absent;
        }
        let bytes = match file.packet(number) {
            Ok(bytes) => bytes,
            Err(error) => return Access::Failed(unreadable(&error)),
        };
        let Ok(packet) = AsfPacket::parse(&bytes) else { return Access::Absent };
        let send_time_ms = packet.send_time_ms();
        let stripped = padding::strip(bytes.clone());
        Access::There(Arc::new(Packet::new(number, send_time_ms, bytes, stripped)))
    }

    fn key_frame_at(&mut self, time: Duration) -> Access<PacketNumber> {
        match self.0.file.packet_at(time) {
            Ok(number) => Access::There(number),
            Err(error) => Access::Failed(unreadable(&error)),
        }
    }

    fn end(&self) -> Option<PacketNumber> {
        Some(PacketNumber(self.0.file.packet_count()))
    }
}

/// A file that was there a moment ago fails to be read.
pub(super) fn unreadable(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Reason::Internal, format!("can't read the file: {error}"))
}

/// The header of a file that has no counts of its own, by its last packet.
fn counted(file: &File<Storage>) -> Result<Header, FileError> {
    let count = file.packet_count();
    let (mut send_ms, mut presentation_ms) = (0, 0);
    if let Some(last) = count.checked_sub(1)
        && let Ok(packet) = AsfPacket::parse(&file.packet(PacketNumber(last))?)
    {
        send_ms = packet.send_time_ms();
        presentation_ms = packet.payloads().filter_map(|payload| payload.presentation_ms).max().unwrap_or(send_ms);
    }
    let header = file.header();
    let size = file.data_offset() + count * u64::from(header.file().packet_size);
    let [play, send] = [presentation_ms, send_ms].map(|ms| u64::from(ms) * 10_000);
    Ok(header.with_counts(count, size, play, send, false, true))
}

/// Times the bit rate of the content: a faster burst fills queues, not the player's buffer.
const FASTEST_BURST: u32 = 4;
/// More content than this ahead of its time helps no player.
const LONGEST_BURST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::testing::{clip, clip_bytes, collect, numbers};
    use crate::session::{End, Next, Pace, Position, Until};

    fn play(play: &Play) -> Result<Vec<u64>, String> {
        let mut playing = clip().play(play).map_err(|refusal| refusal.to_string())?;
        Ok(numbers(&collect(&mut *playing.cursor)))
    }

    #[test]
    fn a_play_from_the_beginning_gives_every_packet() {
        let all: Vec<u64> = (0..clip().file.packet_count()).collect();
        assert_eq!(play(&Play::from(Position::Default)), Ok(all));
    }

    #[test]
    fn a_play_from_a_packet_gives_that_very_packet() {
        assert_eq!(play(&Play::from(Position::Packet(PacketNumber(7)))).unwrap().first(), Some(&7));
    }

    #[test]
    fn a_byte_of_the_file_names_the_packet_that_holds_it() {
        let header = clip().file.data_offset();
        for (byte, packet) in [(0, 0), (header, 0), (header + 2888 * 5 - 1, 4), (header + 2888 * 5, 5)] {
            assert_eq!(play(&Play::from(Position::Byte(byte))).unwrap().first(), Some(&packet), "byte {byte}");
        }
    }

    #[test]
    fn a_play_behind_the_last_packet_ends_at_once_and_further_on_is_refused() {
        let count = clip().file.packet_count();
        assert_eq!(play(&Play::from(Position::Packet(PacketNumber(count)))), Ok(vec![]));
        let beyond = play(&Play::from(Position::Packet(PacketNumber(count + 1))));
        assert_eq!(beyond, Err(format!("packet {} of a file of {count}", count + 1)));
    }

    #[test]
    fn a_time_beyond_the_end_gives_the_last_key_frame() {
        let day = Play::from(Position::Time(Duration::from_secs(86_400)));
        assert_eq!(play(&day), play(&Play::from(Position::Time(clip().duration()))));
        assert!(!play(&day).unwrap().is_empty());
    }

    #[test]
    fn one_preroll_goes_ahead_unless_the_player_names_a_burst() {
        let pace =
            |burst| match clip().play(&Play { burst, ..Play::from(Position::Default) }).map(|playing| playing.pace) {
                Ok(Pace::SendTime { rate: 1.0, burst, step: Duration::ZERO }) => burst,
                other => panic!("{other:?}"),
            };
        let bit_rate = clip().opened().header.bit_rate();
        let burst = |bits_per_second, ms| Burst { bits_per_second, duration: Duration::from_millis(ms) };
        assert_eq!(pace(None), burst(0, 2000));
        assert_eq!(pace(Some(burst(bit_rate * 2, 5000))), burst(bit_rate * 2, 5000));
        assert_eq!(pace(Some(burst(u32::MAX, u64::MAX))), burst(bit_rate * 4, 30_000));
    }

    #[test]
    fn packets_come_as_in_the_file_and_without_padding() {
        let packets = collect(&mut *clip().play(&Play::from(Position::Default)).unwrap().cursor);
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
        let mut playing = damaged.play(&Play::from(Position::Default)).unwrap();
        assert_eq!(numbers(&collect(&mut *playing.cursor))[..4], [0, 1, 2, 4]);
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
        let mut playing = damaged.play(&Play::from(Position::Default)).unwrap();
        let Next::Ended(End::Failed(refusal)) = playing.cursor.next() else { panic!("it plays") };
        assert_eq!(refusal.to_string(), "nothing but damage before packet 1000");
    }

    #[test]
    fn trick_mode_shows_pictures_and_backwards_begins_at_the_end() {
        let fast = play(&Play { rate: 5.0, ..Play::from(Position::Default) }).unwrap();
        assert!(fast.len() >= 4 && fast.is_sorted_by(|before, after| before < after), "{fast:?}");
        let backwards = play(&Play { rate: -5.0, ..Play::from(Position::Default) }).unwrap();
        assert!(backwards.len() >= 4 && backwards.is_sorted_by(|before, after| before > after), "{backwards:?}");
        assert!(backwards.first() >= fast.last());
    }

    #[test]
    fn trick_mode_needs_an_index() {
        let whole = crate::demo::content::demo_file(Duration::from_secs(1)).unwrap();
        let data = File::open(whole.clone()).unwrap();
        let end = data.data_offset() + data.packet_count() * 2888;
        let cut = OnDemand::open(Storage::Memory(whole[..end as usize].to_vec().into())).unwrap();
        assert!(!cut.opened().description.can_stride);
        let fast = Play { rate: 5.0, ..Play::from(Position::Default) };
        let refusal = Arc::new(cut).play(&fast).err().unwrap();
        assert_eq!(refusal.to_string(), "rate 5 of a file without an index");
    }

    #[test]
    fn a_recorded_broadcast_is_told_with_the_counts_of_what_is_there() {
        let whole = crate::demo::content::demo_file(Duration::from_secs(2)).unwrap();
        let file = File::open(whole.clone()).unwrap();
        let mut live = file.header().as_broadcast().bytes().to_vec();
        live.extend(&whole[live.len()..]);
        let opened = OnDemand::open(Storage::Memory(live.into())).unwrap().opened();
        assert_eq!(opened.description.packet_count, file.packet_count());
        assert!((1.8..=2.0).contains(&opened.description.duration_seconds));
        assert!(!opened.header.is_live());
    }

    #[test]
    fn a_play_ends_where_it_was_told_to() {
        let until = |until| {
            let from = Position::Time(Duration::from_secs(1));
            play(&Play { until: Some(until), ..Play::from(from) }).unwrap()
        };
        let for_a_second = until(Until::For(Duration::from_secs(1)));
        assert_eq!(for_a_second, until(Until::At(Duration::from_secs(2))));
        let last = clip().file.packet(PacketNumber(*for_a_second.last().unwrap())).unwrap();
        let send_time_ms = AsfPacket::parse(&last).unwrap().send_time_ms();
        assert!((1800..=2000).contains(&send_time_ms), "{send_time_ms}");
    }
}
