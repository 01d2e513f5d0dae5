//! A run of packets in short: when it is sent, and where a viewer can begin in it. Kept beside packets on disk, it spares a
//! seek the reading of them.

use std::time::Duration;

use super::read::{byte, dword, qword};
use super::{Packet, PacketNumber, StreamNumber};

/// What a seek needs to know of a run of packets, gaps allowed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyFrames {
    /// Whose key frames are listed.
    video: Option<StreamNumber>,
    run: Option<Run>,
    /// By packet number, no two the same.
    list: Vec<KeyFrame>,
}

/// The ends of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Run {
    first: Sent,
    last: Sent,
}

/// A packet, and when it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sent {
    number: PacketNumber,
    send_time_ms: u32,
}

/// Where a key frame begins.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyFrame {
    /// The packet of its first byte.
    pub packet: PacketNumber,
    /// Its presentation time, preroll included; where the payload has none, the send time of the packet.
    pub presentation_ms: u32,
}

/// Why bytes are no summary.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyFramesError {
    #[error("a summary of key frames has {length} bytes")]
    Length { length: usize },
    #[error("key frames of stream {number}, want 1 to 127, or none")]
    Stream { number: u8 },
    #[error("key frames out of order, or outside their packets")]
    Order,
}

impl KeyFrames {
    /// Of no packets yet. `video` is the first stream that has key frames; of content without any a packet for each second
    /// of send time is listed, for it may begin anywhere.
    pub fn new(video: Option<StreamNumber>) -> Self {
        Self { video, run: None, list: Vec::new() }
    }

    /// Takes a packet. Their order is of no account, and neither is taking one twice.
    pub fn push(&mut self, number: PacketNumber, packet: &Packet<'_>) {
        let sent = Sent { number, send_time_ms: packet.send_time_ms() };
        let run = self.run.get_or_insert(Run { first: sent, last: sent });
        if number < run.first.number {
            run.first = sent;
        }
        if number > run.last.number {
            run.last = sent;
        }
        let Some(video) = self.video else { return self.insert_second(sent) };
        for payload in packet.payloads().filter(|payload| payload.stream == video && payload.starts_key_frame()) {
            let presentation_ms = payload.presentation_ms.unwrap_or(sent.send_time_ms);
            self.insert(KeyFrame { packet: number, presentation_ms });
        }
    }

    /// Without key frames a viewer can begin anywhere: a packet for each second or so.
    fn insert_second(&mut self, Sent { number, send_time_ms }: Sent) {
        let is_near = |known: &KeyFrame| known.presentation_ms.abs_diff(send_time_ms) < SECOND_MS;
        let at = self.list.partition_point(|known| known.packet < number);
        let around = [at.checked_sub(1).and_then(|before| self.list.get(before)), self.list.get(at)];
        if !around.into_iter().flatten().any(is_near) {
            self.insert(KeyFrame { packet: number, presentation_ms: send_time_ms });
        }
    }

    fn insert(&mut self, key_frame: KeyFrame) {
        let Err(at) = self.list.binary_search(&key_frame) else { return };
        self.list.insert(at, key_frame);
        if self.list.len() > MAX_KEY_FRAMES {
            // A seek then begins a key frame too early at times, and no viewer is the worse for it.
            let gap = |around: &[KeyFrame]| match around {
                [before, _, after] => after.packet.0.saturating_sub(before.packet.0),
                _ => u64::MAX,
            };
            let densest = self.list.windows(3).enumerate().min_by_key(|(_, around)| gap(around));
            if let Some((before, _)) = densest {
                self.list.remove(before + 1);
            }
        }
    }

    /// When the first packet of the run is sent, ms; `None` of no packets.
    pub fn first_send_time_ms(&self) -> Option<u32> {
        self.run.map(|run| run.first.send_time_ms)
    }

    /// When the last packet of the run is sent, ms; `None` of no packets.
    pub fn last_send_time_ms(&self) -> Option<u32> {
        self.run.map(|run| run.last.send_time_ms)
    }

    /// The key frames that begin in the run, by packet number; of more than 1024 a part.
    pub fn list(&self) -> &[KeyFrame] {
        &self.list
    }

    /// The last key frame of the run that begins at a presentation time (preroll included) or before it.
    pub fn last_at_or_before(&self, presentation: Duration) -> Option<KeyFrame> {
        let wanted = presentation.as_millis();
        // Not a bisection: times are what a file claims, in whatever order.
        self.list.iter().rfind(|key_frame| u128::from(key_frame.presentation_ms) <= wanted).copied()
    }

    /// At most 13 KB: the stream (a byte, 0 for none), number and send time of the first and the last packet, number and
    /// presentation time of each key frame; 8 and 4 bytes, little-endian. Of no packets the stream alone.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENDS + self.list.len() * ENTRY);
        out.push(self.video.map_or(0, StreamNumber::get));
        for sent in self.run.iter().flat_map(|run| [run.first, run.last]) {
            out.extend(sent.number.0.to_le_bytes());
            out.extend(sent.send_time_ms.to_le_bytes());
        }
        for key_frame in &self.list {
            out.extend(key_frame.packet.0.to_le_bytes());
            out.extend(key_frame.presentation_ms.to_le_bytes());
        }
        out
    }

    /// Reads what [`KeyFrames::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that it can't have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyFramesError> {
        let length = KeyFramesError::Length { length: bytes.len() };
        let number = byte(bytes, 0).ok_or_else(|| length.clone())?;
        let video = StreamNumber::new(number.into());
        if video.is_none() && number != 0 {
            return Err(KeyFramesError::Stream { number });
        }
        let mut entries = bytes.get(1..).unwrap_or_default().chunks_exact(ENTRY);
        let mut pairs = entries.by_ref().filter_map(|entry| Some((PacketNumber(qword(entry, 0)?), dword(entry, 8)?)));
        let ends = (pairs.next(), pairs.next());
        let list: Vec<_> =
            pairs.map(|(packet, presentation_ms)| KeyFrame { packet, presentation_ms }).take(MAX_KEY_FRAMES).collect();
        let run = match ends {
            (None, _) => None,
            (Some((first, sent)), Some((last, last_sent))) => Some(Run {
                first: Sent { number: first, send_time_ms: sent },
                last: Sent { number: last, send_time_ms: last_sent },
            }),
            (Some(_), None) => return Err(length),
        };
        let read = Self { video, run, list };
        if read.encode().len() != bytes.len() {
            return Err(length);
        }
        if !read.is_ordered() {
            return Err(KeyFramesError::Order);
        }
        Ok(read)
    }

    fn is_ordered(&self) -> bool {
        let Some(run) = self.run else { return true };
        let within = |key_frame: &KeyFrame| (run.first.number..=run.last.number).contains(&key_frame.packet);
        let is_one = run.first.number == run.last.number && run.first != run.last;
        run.first.number <= run.last.number
            && !is_one
            && self.list.iter().all(within)
            && self.list.is_sorted_by(|before, after| before < after)
    }
}

/// From one place where a viewer begins to the next, where any place would do.
const SECOND_MS: u32 = 1000;
/// Of one run.
const MAX_KEY_FRAMES: usize = 1024;
/// A packet number and a time.
const ENTRY: usize = 12;
/// The stream, and both ends of the run.
const ENDS: usize = 1 + 2 * ENTRY;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{Plan, PlannedPayload};
    use super::*;

    const VIDEO: StreamNumber = StreamNumber::new(1).unwrap();

    /// A packet with a payload of stream 2 and one of stream 1, whose data begin an object.
    fn packet(send_time_ms: u32, key_frame: bool, presentation_ms: u32) -> Vec<u8> {
        let payload = |stream, key_frame| PlannedPayload {
            stream,
            key_frame,
            number: 0,
            offset: 0,
            replicated: 8,
            presentation_ms,
            data: vec![0],
        };
        Plan::usual(send_time_ms, vec![payload(2, true), payload(1, key_frame)]).bytes()
    }

    /// Packets 100 to 149, 100 ms apart, every tenth with a key frame; presented 2 s after they are sent.
    fn run(video: Option<StreamNumber>, numbers: impl Iterator<Item = u64>) -> KeyFrames {
        let mut key_frames = KeyFrames::new(video);
        for number in numbers {
            let ms = number as u32 * 100;
            let bytes = packet(ms, number.is_multiple_of(10), ms + 2000);
            key_frames.push(PacketNumber(number), &Packet::parse(&bytes).unwrap());
        }
        key_frames
    }

    fn at(key_frames: &KeyFrames, ms: u64) -> Option<u64> {
        key_frames.last_at_or_before(Duration::from_millis(ms)).map(|key_frame| key_frame.packet.0)
    }

    #[test]
    fn a_time_leads_to_the_key_frame_before_it() {
        let key_frames = run(Some(VIDEO), 100..150);
        assert_eq!((key_frames.first_send_time_ms(), key_frames.last_send_time_ms()), (Some(10_000), Some(14_900)));
        assert_eq!(at(&key_frames, 11_999), None);
        assert_eq!(at(&key_frames, 12_000), Some(100));
        assert_eq!(at(&key_frames, 12_999), Some(100));
        assert_eq!(at(&key_frames, 13_000), Some(110));
        assert_eq!(key_frames.last_at_or_before(Duration::MAX).unwrap().packet.0, 140);
    }

    #[test]
    fn of_content_without_video_a_packet_a_second_is_listed_by_its_send_time() {
        let key_frames = run(None, 105..150);
        assert_eq!((key_frames.first_send_time_ms(), key_frames.last_send_time_ms()), (Some(10_500), Some(14_900)));
        let list: Vec<_> = key_frames.list().iter().map(|listed| (listed.packet.0, listed.presentation_ms)).collect();
        assert_eq!(list, [(105, 10_500), (115, 11_500), (125, 12_500), (135, 13_500), (145, 14_500)]);
        assert_eq!(KeyFrames::decode(&key_frames.encode()), Ok(key_frames));
        assert_eq!(KeyFrames::new(None).encode(), [0]);
    }

    #[test]
    fn neither_order_nor_repetition_of_packets_matters() {
        let backwards = run(Some(VIDEO), (100..150).rev().chain(120..125));
        assert_eq!(backwards, run(Some(VIDEO), 100..150));
    }

    #[test]
    fn of_very_many_key_frames_a_part_is_kept_all_over_the_run() {
        let key_frames = run(Some(VIDEO), (0..30_000).step_by(10));
        assert!(key_frames.list().len() <= MAX_KEY_FRAMES);
        assert!(key_frames.encode().len() <= 13_000);
        for ms in (2000..3_000_000).step_by(10_000) {
            let found = at(&key_frames, ms).unwrap() * 100 + 2000;
            assert!(found <= ms && ms - found <= 4000, "{ms}: {found}");
        }
        assert_eq!(KeyFrames::decode(&key_frames.encode()), Ok(key_frames));
    }

    #[test]
    fn what_it_cannot_have_written_is_refused() {
        let bytes = run(Some(VIDEO), 100..150).encode();
        let refusal = |bytes: &[u8]| KeyFrames::decode(bytes).unwrap_err().to_string();
        assert_eq!(refusal(&[]), "a summary of key frames has 0 bytes");
        assert_eq!(refusal(&bytes[..13]), "a summary of key frames has 13 bytes");
        assert_eq!(refusal(&bytes[..84]), "a summary of key frames has 84 bytes");
        assert_eq!(refusal(&[128]), "key frames of stream 128, want 1 to 127, or none");
        let mut swapped = bytes.clone();
        swapped[37..49].fill(0);
        assert_eq!(refusal(&swapped), "key frames out of order, or outside their packets");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            video in proptest::option::of(Just(VIDEO)),
            packets in proptest::collection::vec((any::<u64>(), any::<u32>(), any::<bool>(), any::<u32>()), 0..30),
        ) {
            let mut key_frames = KeyFrames::new(video);
            for (number, send_time_ms, key_frame, presentation_ms) in packets {
                let bytes = packet(send_time_ms, key_frame, presentation_ms);
                key_frames.push(PacketNumber(number), &Packet::parse(&bytes).unwrap());
            }
            prop_assert_eq!(KeyFrames::decode(&key_frames.encode()), Ok(key_frames));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            changes in proptest::collection::vec((0..85_usize, any::<u8>()), 0..6),
            length in 0..=85_usize,
        ) {
            let mut bytes = run(Some(VIDEO), 100..150).encode();
            for (at, value) in changes {
                bytes[at] = value;
            }
            bytes.truncate(length);
            if let Ok(read) = KeyFrames::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
