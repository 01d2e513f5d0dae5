//! From a time to the packet where a viewer starts, three ways: by the index of a file (ASF 6.1, 6.2), by bisection over
//! send times, by estimate. Entries are what a file claims: whoever uses one looks at the packet it names.

use std::time::Duration;

use super::read::{dword, guid, qword, word};
use super::{Guid, Packet, PacketNumber, StreamNumber};

/// For every interval of presentation time, preroll included, the packet with the nearest past key frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeekIndex {
    interval_100ns: u64,
    /// [`NONE`] where there is no key frame yet.
    packets: Vec<u32>,
}

impl SeekIndex {
    /// Reads a Simple Index Object, ASF 6.1. `None` if there is nothing in it to seek by.
    pub fn from_simple_index(object: &[u8]) -> Option<Self> {
        if guid(object, 0)? != Guid::SIMPLE_INDEX {
            return None;
        }
        let interval_100ns = qword(object, 40)?;
        let count = dword(object, 52)? as usize;
        let entries = object.get(SIMPLE_INDEX..)?.chunks_exact(6).take(count);
        Self::new(interval_100ns, entries.map_while(|entry| dword(entry, 0)).collect())
    }

    /// Reads the key frames of one stream out of an Index Object, ASF 6.2.
    pub fn from_index(object: &[u8], stream: StreamNumber, packet_size: u32) -> Option<Self> {
        if guid(object, 0)? != Guid::INDEX {
            return None;
        }
        let interval_100ns = u64::from(dword(object, 24)?) * 10_000;
        let specifiers = usize::from(word(object, 28)?);
        let blocks = dword(object, 30)?;
        let mut records = object.get(34..)?.chunks_exact(4).take(specifiers);
        let wanted =
            |record: &[u8]| word(record, 0) == Some(stream.get().into()) && word(record, 2) == Some(KEY_FRAMES);
        let ours = records.position(wanted)?;

        let mut packets = Vec::new();
        let mut rest = object.get(34 + 4 * specifiers..)?;
        for _ in 0..blocks {
            let Some(entries) = dword(rest, 0) else { break };
            let base = qword(rest, 4 + 8 * ours)?;
            rest = rest.get(4 + 8 * specifiers..)?;
            let bytes = (entries as usize).checked_mul(4 * specifiers)?;
            let (block, behind) = rest.split_at_checked(bytes)?;
            packets.extend(block.chunks_exact(4 * specifiers).map(|entry| {
                let offset = dword(entry, 4 * ours).filter(|&offset| offset != u32::MAX);
                let position = offset.and_then(|offset| base.checked_add(offset.into()));
                let packet = position.filter(|position| position.is_multiple_of(packet_size.into()));
                packet.and_then(|at| u32::try_from(at / u64::from(packet_size.max(1))).ok()).unwrap_or(NONE)
            }));
            rest = behind;
        }
        Self::new(interval_100ns, packets)
    }

    fn new(interval_100ns: u64, packets: Vec<u32>) -> Option<Self> {
        (interval_100ns > 0 && !packets.is_empty()).then_some(Self { interval_100ns, packets })
    }

    /// The packet for a presentation time (preroll included), and before it those of earlier entries: the first that
    /// proves to begin a key frame, not after that time, is the right one.
    pub fn candidates(&self, presentation: Duration) -> impl Iterator<Item = PacketNumber> {
        let wanted = presentation.as_nanos() / 100 / u128::from(self.interval_100ns);
        let last = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.packets.len() - 1);
        let mut before = None;
        let past = self.packets.iter().take(last + 1).rev().filter(|&&packet| packet != NONE);
        past.filter(move |&&packet| before.replace(packet) != Some(packet)).map(|&packet| PacketNumber(packet.into()))
    }
}

/// Collects the key frames of one stream while its packets go by, for a Simple Index Object.
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    stream: StreamNumber,
    key_frames: Vec<KeyFrame>,
    last_presentation_ms: u32,
}

#[derive(Clone, Copy, Debug)]
struct KeyFrame {
    object_number: u32,
    presentation_ms: u32,
    packet: u32,
    /// How many packets it is spread over.
    packets: u16,
}

impl IndexBuilder {
    /// For the packets of one stream.
    pub fn new(stream: StreamNumber) -> Self {
        Self { stream, key_frames: Vec::new(), last_presentation_ms: 0 }
    }

    /// Takes the next packet of the file.
    pub fn push(&mut self, number: PacketNumber, packet: &Packet<'_>) {
        let Ok(number) = u32::try_from(number.0) else { return };
        for payload in packet.payloads().filter(|payload| payload.stream == self.stream) {
            let presentation_ms = payload.presentation_ms.unwrap_or(self.last_presentation_ms);
            self.last_presentation_ms = self.last_presentation_ms.max(presentation_ms);
            let object_number = payload.object_number;
            if payload.starts_key_frame() {
                self.key_frames.push(KeyFrame { object_number, presentation_ms, packet: number, packets: 1 });
            } else if let Some(key_frame) =
                self.key_frames.last_mut().filter(|frame| frame.object_number == object_number)
                && payload.key_frame
            {
                key_frame.packets =
                    u16::try_from(number.saturating_sub(key_frame.packet)).unwrap_or(u16::MAX).saturating_add(1);
            }
        }
    }

    /// The Simple Index Object with an entry a second, ASF 6.1; empty where no key frame was seen.
    pub fn simple_index(&self, file_id: Guid) -> Vec<u8> {
        let seconds = (self.last_presentation_ms / 1000 + 1).min(MAX_ENTRIES);
        let mut key_frames = self.key_frames.iter().peekable();
        let mut entries = Vec::new();
        if let Some(mut nearest) = self.key_frames.first() {
            for second in 0..seconds {
                while let Some(next) = key_frames.next_if(|frame| frame.presentation_ms <= second * 1000) {
                    nearest = next;
                }
                entries.extend(nearest.packet.to_le_bytes());
                entries.extend(nearest.packets.to_le_bytes());
            }
        }
        let count = (entries.len() / 6) as u32;
        let widest = self.key_frames.iter().map(|frame| frame.packets.into()).max().unwrap_or(0_u32);
        let mut object = Vec::with_capacity(SIMPLE_INDEX + entries.len());
        object.extend(Guid::SIMPLE_INDEX.0);
        object.extend(((SIMPLE_INDEX + entries.len()) as u64).to_le_bytes());
        object.extend(file_id.0);
        object.extend(10_000_000_u64.to_le_bytes());
        object.extend(widest.to_le_bytes());
        object.extend(count.to_le_bytes());
        object.extend(entries);
        object
    }
}

/// What a search over packets needs to know of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacketSummary {
    pub send_time_ms: u32,
    /// A key frame of the stream that is sought begins here, and not after the time that is sought.
    pub starts_key_frame: bool,
}

impl PacketSummary {
    /// Looks for key frames of `video`, if there is such a stream, up to a presentation time (preroll included): the
    /// payloads of a packet are due up to its duration after its send time.
    pub fn new(packet: &Packet<'_>, video: Option<StreamNumber>, presentation: Duration) -> Self {
        let due = |ms: u32| Duration::from_millis(ms.into()) <= presentation;
        let starts_key_frame = packet.payloads().any(|payload| {
            Some(payload.stream) == video && payload.starts_key_frame() && payload.presentation_ms.is_none_or(due)
        });
        Self { send_time_ms: packet.send_time_ms(), starts_key_frame }
    }
}

/// Finds the last of `count` packets that is sent at `time` or before, then, if `to_key_frame`, goes back to the nearest
/// key frame, at most 2000 packets or 30 s. None in reach: the packet itself.
///
/// `summary` says `None` for a packet that is missing or broken: it is taken to lie later, and never for a key frame.
pub fn bisect(
    count: u64,
    time: Duration,
    to_key_frame: bool,
    mut summary: impl FnMut(PacketNumber) -> Option<PacketSummary>,
) -> PacketNumber {
    let time_ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let (mut last, mut beyond) = (0, count);
    while beyond.saturating_sub(last) > 1 {
        let middle = last + (beyond - last) / 2;
        match summary(PacketNumber(middle)) {
            Some(packet) if packet.send_time_ms <= time_ms => last = middle,
            _ => beyond = middle,
        }
    }
    let found = PacketNumber(last);
    if !to_key_frame {
        return found;
    }
    let earliest_ms = summary(found).map_or(0, |packet| packet.send_time_ms).saturating_sub(WALK_BACK_MS);
    (last.saturating_sub(WALK_BACK_PACKETS)..=last)
        .rev()
        .map(PacketNumber)
        .map_while(|number| match summary(number) {
            Some(packet) if packet.send_time_ms < earliest_ms => None,
            packet => Some((number, packet)),
        })
        .find(|(_, packet)| packet.is_some_and(|packet| packet.starts_key_frame))
        .map_or(found, |(number, _)| number)
}

/// Where `time` would be if every packet of `duration` lasted as long: for content that can't be read at random.
pub fn estimate(count: u64, time: Duration, duration: Duration) -> PacketNumber {
    let packet = u128::from(count).saturating_mul(time.as_millis()).checked_div(duration.as_millis()).unwrap_or(0);
    PacketNumber(u64::try_from(packet).unwrap_or(u64::MAX).min(count.saturating_sub(1)))
}

/// Fixed part of the Simple Index Object.
const SIMPLE_INDEX: usize = 56;
/// Index type "nearest past cleanpoint", ASF 4.9.
const KEY_FRAMES: u16 = 3;
const NONE: u32 = u32::MAX;
/// Twelve days; a presentation time that jumps must not make an index of 25 MB.
const MAX_ENTRIES: u32 = 1 << 20;
const WALK_BACK_PACKETS: u64 = 2000;
const WALK_BACK_MS: u32 = 30_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Recorded: tests/vectors/asf/README.md.
    const TALK: &[u8] = include_bytes!("../../tests/vectors/asf/talk-index.bin");

    fn first(index: &SeekIndex, ms: u64) -> Option<u64> {
        index.candidates(Duration::from_millis(ms)).next().map(|packet| packet.0)
    }

    #[test]
    fn a_simple_index_of_ffmpeg_is_read() {
        let index = SeekIndex::from_simple_index(TALK).unwrap();
        let entries: Vec<_> = (0..15).filter_map(|second| first(&index, second * 1000)).collect();
        assert_eq!(entries, [0, 0, 0, 0, 0, 0, 0, 26, 26, 26, 51, 51, 51, 77, 77]);
        assert_eq!(first(&index, 7100), Some(26)); // position 4.0 s, preroll 3.1 s
        assert_eq!(first(&index, 1_000_000), Some(77));
        let all: Vec<_> = index.candidates(Duration::from_secs(11)).map(|packet| packet.0).collect();
        assert_eq!(all, [51, 26, 0]);
    }

    #[test]
    fn a_count_larger_than_the_index_reads_what_is_there() {
        let mut bytes = TALK.to_vec();
        bytes[52..56].fill(0xFF);
        assert_eq!(SeekIndex::from_simple_index(&bytes), SeekIndex::from_simple_index(TALK));
        bytes[40..48].fill(0);
        assert_eq!(SeekIndex::from_simple_index(&bytes), None);
    }

    /// Hand-written: two streams, two blocks, entries every 500 ms.
    fn index_object() -> Vec<u8> {
        let mut object = [Guid::INDEX.0.as_slice(), &[0; 8], &500_u32.to_le_bytes(), &[2, 0, 2, 0, 0, 0]].concat();
        object.extend([2, 0, 3, 0, 1, 0, 3, 0]);
        let blocks: [(u64, &[u32]); 2] = [(0, &[u32::MAX, 0, 3200]), (6400, &[0, 7])];
        for (base, offsets) in blocks {
            object.extend((offsets.len() as u32).to_le_bytes());
            object.extend(0_u64.to_le_bytes());
            object.extend(base.to_le_bytes());
            for offset in offsets {
                object.extend(5_u32.to_le_bytes());
                object.extend(offset.to_le_bytes());
            }
        }
        object
    }

    #[test]
    fn an_index_object_is_read_for_one_stream() {
        let index = SeekIndex::from_index(&index_object(), StreamNumber::new(1).unwrap(), 3200).unwrap();
        assert_eq!(first(&index, 400), None);
        assert_eq!(first(&index, 500), Some(0));
        assert_eq!(first(&index, 1400), Some(1));
        assert_eq!(first(&index, 1500), Some(2));
        assert_eq!(first(&index, 9000), Some(2)); // 6407 is no packet's place
        assert_eq!(SeekIndex::from_index(&index_object(), StreamNumber::new(3).unwrap(), 3200), None);
    }

    #[test]
    fn bisection_goes_back_to_a_key_frame() {
        // 100 packets, 100 ms apart, every twentieth a key frame.
        let summary = |number: PacketNumber| {
            let send_time_ms = number.0 as u32 * 100;
            Some(PacketSummary { send_time_ms, starts_key_frame: number.0.is_multiple_of(20) })
        };
        let seek = |ms, key| bisect(100, Duration::from_millis(ms), key, summary).0;
        assert_eq!(seek(4550, false), 45);
        assert_eq!(seek(4550, true), 40);
        assert_eq!(seek(0, true), 0);
        assert_eq!(seek(99_999, true), 80);
        assert_eq!(bisect(0, Duration::ZERO, true, summary).0, 0);
        let holes = |number: PacketNumber| summary(number).filter(|_| number.0 < 30);
        assert_eq!(bisect(100, Duration::from_secs(9), true, holes).0, 20);
        let no_keys = |number: PacketNumber| summary(number).map(|s| PacketSummary { starts_key_frame: false, ..s });
        assert_eq!(bisect(100, Duration::from_millis(4550), true, no_keys).0, 45);
    }

    #[test]
    fn an_estimate_stays_within_the_file() {
        let minute = Duration::from_secs(60);
        assert_eq!(estimate(600, Duration::from_secs(30), minute).0, 300);
        assert_eq!(estimate(600, Duration::from_secs(90), minute).0, 599);
        assert_eq!(estimate(600, Duration::from_secs(90), Duration::ZERO).0, 0);
        assert_eq!(estimate(0, minute, minute).0, 0);
        assert_eq!(estimate(u64::MAX, Duration::MAX, minute).0, u64::MAX - 1);
    }

    proptest! {
        #[test]
        fn any_index_is_read_or_refused(
            at in proptest::collection::vec((0..90_usize, any::<u8>()), 0..8),
            cut in 0..90_usize,
            size: u32,
            ms: u64,
        ) {
            for mut bytes in [TALK.to_vec(), index_object()] {
                for &(at, value) in &at {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value;
                    }
                }
                bytes.truncate(bytes.len() - cut.min(bytes.len()));
                let simple = SeekIndex::from_simple_index(&bytes);
                let index = SeekIndex::from_index(&bytes, StreamNumber::new(1).unwrap(), size);
                for index in [simple, index].into_iter().flatten() {
                    prop_assert!(index.candidates(Duration::from_millis(ms)).count() <= bytes.len());
                }
            }
        }
    }
}
