//! A clip in memory that says "not yet" where a test wants it, and readers of cursors.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::{Access, Archive};
use crate::asf::{
    File, HeaderBuilder, MediaObject, Packet as AsfPacket, PacketNumber, Packetizer, StreamNumber, VideoFormat,
    WaveFormat, Writer, padding,
};
use crate::session::{Cursor, End, Next, Packet, Reason, Refusal};

/// Reads a clip.
pub(super) struct Memory {
    pub(super) file: Arc<File<Vec<u8>>>,
    absent: BTreeSet<u64>,
    /// Whether the next question is put off; when they run out all is there.
    not_yet: VecDeque<bool>,
    is_endless: bool,
}

impl Memory {
    pub(super) fn absent(mut self, numbers: impl IntoIterator<Item = u64>) -> Self {
        self.absent = numbers.into_iter().collect();
        self
    }

    pub(super) fn not_yet(mut self, answers: impl IntoIterator<Item = bool>) -> Self {
        self.not_yet = answers.into_iter().collect();
        self
    }

    /// Does not know where it ends; behind its last packet it fails.
    pub(super) fn endless(mut self) -> Self {
        self.is_endless = true;
        self
    }

    /// Where each key frame begins, and its time in the content.
    pub(super) fn key_frames(&self) -> impl DoubleEndedIterator<Item = (PacketNumber, Duration)> {
        let numbers = (0..self.file.packet_count()).map(PacketNumber);
        numbers.flat_map(|number| {
            let bytes = self.file.packet(number).unwrap();
            let payloads: Vec<_> = AsfPacket::parse(&bytes).unwrap().payloads().collect();
            let begins = payloads.into_iter().filter(|payload| payload.stream == VIDEO && payload.starts_key_frame());
            begins.map(move |payload| {
                (number, Duration::from_millis((payload.presentation_ms.unwrap() - PREROLL_MS).into()))
            })
        })
    }

    fn is_put_off(&mut self) -> bool {
        self.not_yet.pop_front().unwrap_or(false)
    }
}

impl Archive for Memory {
    fn packet(&mut self, number: PacketNumber) -> Access<Arc<Packet>> {
        if self.is_put_off() {
            return Access::NotYet;
        }
        if self.absent.contains(&number.0) {
            return Access::Absent;
        }
        let Ok(bytes) = self.file.packet(number) else {
            return Access::Failed(Refusal::new(Reason::Lost, "cut off"));
        };
        let send_time_ms = AsfPacket::parse(&bytes).unwrap().send_time_ms();
        let stripped = padding::strip(bytes.clone());
        Access::There(Arc::new(Packet::new(number, send_time_ms, bytes, stripped)))
    }

    fn key_frame_at(&mut self, time: Duration) -> Access<PacketNumber> {
        if self.is_put_off() {
            return Access::NotYet;
        }
        match self.key_frames().rfind(|(_, begins)| *begins <= time) {
            Some((number, _)) => Access::There(number),
            None => Access::Absent,
        }
    }

    fn end(&self) -> Option<PacketNumber> {
        (!self.is_endless).then_some(PacketNumber(self.file.packet_count()))
    }
}

pub(super) const VIDEO: StreamNumber = StreamNumber::new(2).unwrap();
/// Preroll of the clips.
pub(super) const PREROLL_MS: u32 = 2000;

/// Four seconds of sound and ten pictures a second, every `nth` of them a key frame, in packets of 500 bytes: pictures
/// begin and end within packets and are spread over one to five.
pub(super) fn clip(nth: u32) -> Memory {
    static CLIPS: LazyLock<[Arc<File<Vec<u8>>>; 2]> = LazyLock::new(|| [1, 5].map(|nth| Arc::new(generate(nth))));
    let [every, fifth] = &*CLIPS;
    let file = match nth {
        1 => Arc::clone(every),
        5 => Arc::clone(fifth),
        _ => Arc::new(generate(nth)),
    };
    Memory { file, absent: BTreeSet::new(), not_yet: VecDeque::new(), is_endless: false }
}

fn generate(nth: u32) -> File<Vec<u8>> {
    let audio = StreamNumber::new(1).unwrap();
    let header = HeaderBuilder::new(500)
        .preroll_ms(PREROLL_MS.into())
        .audio(audio, &WaveFormat::pcm(1, 8000, 8))
        .video(VIDEO, 100_000, &VideoFormat::motion_jpeg(16, 16))
        .build()
        .unwrap();
    let mut packetizer = Packetizer::new(&header);
    let mut packets = Vec::new();
    for frame in 0..40_u32 {
        let content_ms = frame * 100;
        let sound = [frame as u8; 90];
        let picture = vec![!frame as u8; 100 + (frame * 577 % 1900) as usize];
        packetizer.push(&MediaObject { stream: audio, key_frame: true, content_ms, data: &sound }, &mut packets);
        let key_frame = frame.is_multiple_of(nth);
        packetizer.push(&MediaObject { stream: VIDEO, key_frame, content_ms, data: &picture }, &mut packets);
    }
    packets.extend(packetizer.flush());
    let mut writer = Writer::new(io::Cursor::new(Vec::new()), &header).unwrap();
    packets.iter().for_each(|packet| writer.push(packet).unwrap());
    File::open(writer.finish().unwrap().into_inner()).unwrap()
}

/// All packets up to a good end, however often they are not there yet.
pub(super) fn collect(cursor: &mut dyn Cursor) -> Vec<Arc<Packet>> {
    let mut packets = Vec::new();
    loop {
        match cursor.next() {
            Next::Packet(packet) => packets.push(packet),
            Next::Nothing => {}
            Next::Ended(End::Complete) => return packets,
            other => panic!("{other:?} after {} packets", packets.len()),
        }
    }
}

pub(super) fn numbers(packets: &[Arc<Packet>]) -> Vec<u64> {
    packets.iter().map(|packet| packet.number.0).collect()
}
