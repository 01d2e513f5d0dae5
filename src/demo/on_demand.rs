//! A file that is open for viewers, who each play it from where they like.

use std::sync::Arc;
use std::time::Duration;

use super::file_cursor::FileCursor;
use super::storage::Storage;
use super::stride_cursor::StrideCursor;
use crate::asf::{File, FileError, Header, Packet, PacketNumber};
use crate::session::{Burst, Description, Opened, Pace, Play, Playing, Position, Reason, Refusal};

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
    /// A place beyond the end, or trick mode where there is no index of key frames.
    pub fn play(self: &Arc<Self>, play: &Play) -> Result<Playing, Refusal> {
        if !play.is_trick_mode() {
            let cursor = FileCursor::new(Arc::clone(self), play)?;
            return Ok(Playing { cursor: Box::new(cursor), pace: self.pace(play) });
        }
        if !self.file.has_video_index() {
            return Err(Refusal::new(Reason::Invalid, format!("rate {} of a file without an index", play.rate)));
        }
        let cursor = StrideCursor::new(Arc::clone(self), play)?;
        let burst = Burst { bits_per_second: 0, duration: Duration::ZERO };
        Ok(Playing { cursor: Box::new(cursor), pace: Pace::SendTime { rate: play.rate, burst } })
    }

    fn pace(&self, play: &Play) -> Pace {
        let bit_rate = self.opened.header.bit_rate();
        // A burst slower than the content would stall it: the player can't have meant that.
        let asked = play.burst.filter(|burst| burst.bits_per_second >= bit_rate);
        let burst = match asked {
            Some(burst) => Burst {
                bits_per_second: burst.bits_per_second.min(bit_rate.saturating_mul(FASTEST_BURST)),
                duration: burst.duration.min(LONGEST_BURST),
            },
            None => Burst { bits_per_second: 0, duration: self.opened.header.preroll().min(LONGEST_BURST) },
        };
        Pace::SendTime { rate: play.rate, burst }
    }

    /// Where a play begins: the packet, and its time in the content.
    ///
    /// # Errors
    /// A packet or a byte behind the last packet, or a file that can't be read.
    pub(super) fn start(&self, play: &Play) -> Result<(PacketNumber, Duration), Refusal> {
        let count = self.file.packet_count();
        let number = match play.from {
            Position::Default if play.rate < 0.0 => return self.at_time(self.duration),
            Position::Default => return Ok((PacketNumber(0), Duration::ZERO)),
            Position::Time(time) => return self.at_time(time.min(self.duration)),
            Position::Packet(number) => number,
            Position::Byte(at) => {
                let packet_size = u64::from(self.opened.header.file().packet_size);
                PacketNumber(at.saturating_sub(self.file.data_offset()).checked_div(packet_size).unwrap_or(0))
            }
        };
        // The number behind the last is no place to play from, but a player that stopped at the very end resumes there.
        if number.0 > count {
            return Err(Refusal::new(Reason::Invalid, format!("packet {number} of a file of {count}")));
        }
        let last = PacketNumber(number.0.min(count.saturating_sub(1)));
        let send_time_ms = self.read(last)?.and_then(|bytes| Some(Packet::parse(&bytes).ok()?.send_time_ms()));
        Ok((number, Duration::from_millis(send_time_ms.unwrap_or(0).into())))
    }

    fn at_time(&self, time: Duration) -> Result<(PacketNumber, Duration), Refusal> {
        let number = self.file.packet_at(time).map_err(|error| unreadable(&error))?;
        Ok((number, time))
    }

    /// `None` in a file without packets.
    fn read(&self, number: PacketNumber) -> Result<Option<bytes::Bytes>, Refusal> {
        if number.0 >= self.file.packet_count() {
            return Ok(None);
        }
        self.file.packet(number).map(Some).map_err(|error| unreadable(&error))
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
        && let Ok(packet) = Packet::parse(&file.packet(PacketNumber(last))?)
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
    use crate::demo::testing::{clip, collect, numbers};
    use crate::session::Until;

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
        let pace = |burst| match clip().pace(&Play { burst, ..Play::from(Position::Default) }) {
            Pace::SendTime { rate: 1.0, burst } => (burst.bits_per_second, burst.duration.as_millis()),
            other => panic!("{other:?}"),
        };
        let bit_rate = clip().opened().header.bit_rate();
        let asked = |bits_per_second, ms| Some(Burst { bits_per_second, duration: Duration::from_millis(ms) });
        assert_eq!(pace(None), (0, 2000));
        assert_eq!(pace(asked(bit_rate * 2, 5000)), (bit_rate * 2, 5000));
        assert_eq!(pace(asked(u32::MAX, u64::MAX)), (bit_rate * 4, 30_000));
        assert_eq!(pace(asked(1000, 5000)), (0, 2000));
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
        let send_time_ms = Packet::parse(&last).unwrap().send_time_ms();
        assert!((1800..=2000).contains(&send_time_ms), "{send_time_ms}");
    }
}
