//! A whole ASF file behind a trait that reads at an offset: its header, its packets by number, and the packet for a time.
//! A file may be shorter than it says (a copy that broke off) or say nothing (a recorded broadcast): what is there counts.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::header::DATA_OBJECT;
use super::index::{self, PacketSummary, SeekIndex};
use super::read::{guid, qword};
use super::{Guid, Header, HeaderError, Packet, PacketNumber, StreamKind, StreamNumber};

/// Bytes that can be read at any place; shared readers don't disturb one another.
pub trait ReadAt {
    /// Fills `buf` with the bytes at `offset`; `UnexpectedEof` if there are fewer.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// How many bytes there are.
    fn len(&self) -> io::Result<u64>;

    /// There are none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// An open file.
#[derive(Clone, Debug)]
pub struct File<R> {
    source: R,
    header: Header,
    packet_count: u64,
    /// The stream whose key frames seeking goes to: the first video that has any.
    video: Option<StreamNumber>,
    index: Option<SeekIndex>,
}

/// Why a file can't be opened or sought in.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl<R: ReadAt> File<R> {
    /// Reads header and index; no packet yet.
    pub fn open(source: R) -> Result<Self, FileError> {
        let length = source.len()?;
        let start = read(&source, 0, length.min(HEADER_START))?;
        let header = match Header::parse(start) {
            Err(HeaderError::Short { want, .. }) if want as u64 <= length => {
                Header::parse(read(&source, 0, want as u64)?)?
            }
            other => other?,
        };
        let data_offset = header.bytes().len() as u64;
        let there = length.saturating_sub(data_offset) / u64::from(header.file().packet_size);
        let declared = Some(header.file().packet_count).filter(|_| !header.is_live());
        let video = header.streams().iter().find(|stream| stream.has_key_frames).map(|stream| stream.number);
        let index = match video {
            Some(video) if !header.is_live() => find_index(&source, &header, length, video)?,
            _ => None,
        };
        Ok(Self { source, packet_count: there.min(declared.unwrap_or(u64::MAX)), video, index, header })
    }

    /// The header as it stands in the file.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many whole packets there are, and not more than the header declares.
    pub fn packet_count(&self) -> u64 {
        self.packet_count
    }

    /// Where packet 0 begins, in bytes.
    pub fn data_offset(&self) -> u64 {
        self.header.bytes().len() as u64
    }

    /// An index of key frames came with the file.
    pub fn has_video_index(&self) -> bool {
        self.index.is_some()
    }

    /// A packet with its padding. `InvalidInput` beyond the last one.
    pub fn packet(&self, number: PacketNumber) -> io::Result<Bytes> {
        if number.0 >= self.packet_count {
            let refusal = format!("packet {number} of a file of {}", self.packet_count);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
        }
        let size = u64::from(self.header.file().packet_size);
        read(&self.source, self.data_offset() + number.0 * size, size)
    }

    /// The packet from which `time` of the content can be played: at a key frame where there is video. The index is
    /// believed where the packet it names bears it out; a time beyond the end gives the last key frame.
    pub fn packet_at(&self, time: Duration) -> Result<PacketNumber, FileError> {
        if time.is_zero() || self.packet_count == 0 {
            return Ok(PacketNumber(0));
        }
        let presentation = time.saturating_add(self.header.preroll());
        let candidates = self.index.iter().flat_map(|index| index.candidates(presentation)).take(INDEX_TRIES);
        for number in candidates.filter(|number| number.0 < self.packet_count) {
            if self.summary(number, presentation)?.is_some_and(|packet| packet.starts_key_frame) {
                return Ok(number);
            }
        }
        let mut failure = None;
        let found = index::bisect(self.packet_count, time, self.video.is_some(), |number| {
            self.summary(number, presentation).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                None
            })
        });
        failure.map_or(Ok(found), |error| Err(error.into()))
    }

    fn summary(&self, number: PacketNumber, presentation: Duration) -> io::Result<Option<PacketSummary>> {
        let bytes = self.packet(number)?;
        Ok(Packet::parse(&bytes).ok().map(|packet| PacketSummary::new(&packet, self.video, presentation)))
    }
}

fn read(source: &impl ReadAt, at: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    source.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// Walks the objects behind the Data Object (ASF 6). The k-th Simple Index belongs to the k-th video stream that is not
/// hidden; an Index Object names its streams.
fn find_index(
    source: &impl ReadAt,
    header: &Header,
    length: u64,
    video: StreamNumber,
) -> Result<Option<SeekIndex>, FileError> {
    let data_at = header.bytes().len() - DATA_OBJECT;
    let Some(mut at) = qword(header.bytes(), data_at + 16)
        .filter(|&size| size >= DATA_OBJECT as u64)
        .and_then(|size| size.checked_add(data_at as u64))
    else {
        return Ok(None);
    };
    let visible = |stream: &&super::Stream| stream.kind == StreamKind::Video && !stream.hidden;
    let mut before = header.streams().iter().filter(visible).take_while(|stream| stream.number != video).count();
    let mut second_choice = None;
    for _ in 0..MAX_OBJECTS {
        let room = length.saturating_sub(at);
        if room < OBJECT_START {
            break;
        }
        let object = read(source, at, OBJECT_START)?;
        let (Some(kind), Some(size)) = (guid(&object, 0), qword(&object, 16)) else {
            break;
        };
        if !(OBJECT_START..=room).contains(&size) {
            break;
        }
        match kind {
            Guid::SIMPLE_INDEX if before > 0 => before -= 1,
            Guid::SIMPLE_INDEX if size <= MAX_INDEX => {
                if let Some(index) = SeekIndex::from_simple_index(&read(source, at, size)?) {
                    return Ok(Some(index));
                }
            }
            Guid::INDEX if size <= MAX_INDEX => {
                second_choice = SeekIndex::from_index(&read(source, at, size)?, video, header.file().packet_size);
            }
            _ => {}
        }
        at += size;
    }
    Ok(second_choice)
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        ReadAt::len(self.as_slice())
    }
}

impl ReadAt for Bytes {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_ref().read_exact_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        ReadAt::len(self.as_ref())
    }
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Enough to know how long the header is.
const HEADER_START: u64 = 30;
const OBJECT_START: u64 = 24;
/// Objects behind the Data Object.
const MAX_OBJECTS: usize = 64;
/// An entry a second for a month.
const MAX_INDEX: u64 = 16 << 20;
/// Entries of an index that may be wrong before we stop believing it.
const INDEX_TRIES: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Recorded: tests/vectors/asf/README.md.
    const CLIP: &[u8] = include_bytes!("../../tests/vectors/asf/ffmpeg-clip.asf");

    fn clip() -> File<Bytes> {
        File::open(Bytes::from_static(CLIP)).unwrap()
    }

    /// The packets at which a key frame of the video begins, and its content time.
    fn key_frames<R: ReadAt>(file: &File<R>) -> Vec<(u64, Duration)> {
        let mut found = Vec::new();
        for number in 0..file.packet_count() {
            let bytes = file.packet(PacketNumber(number)).unwrap();
            let packet = Packet::parse(&bytes).unwrap();
            found.extend(packet.payloads().filter(|p| Some(p.stream) == file.video && p.starts_key_frame()).map(|p| {
                let presentation = Duration::from_millis(p.presentation_ms.unwrap().into());
                (number, presentation.saturating_sub(file.header.preroll()))
            }));
        }
        found
    }

    #[test]
    fn a_file_of_ffmpeg_opens() {
        let file = clip();
        assert_eq!(file.packet_count(), file.header().file().packet_count);
        assert_eq!(file.data_offset(), file.header().bytes().len() as u64);
        assert!(file.has_video_index());
        let beyond = file.packet(PacketNumber(file.packet_count())).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_time_leads_to_the_key_frame_before_it() {
        let with_index = clip();
        let without = File { index: None, ..clip() };
        let wrong = File { index: SeekIndex::from_simple_index(&wrong_index()), ..clip() };
        let keys = key_frames(&with_index);
        assert_eq!(keys.len(), 3);
        for file in [&with_index, &without, &wrong] {
            assert_eq!(file.packet_at(Duration::ZERO).unwrap(), PacketNumber(0));
            assert_eq!(file.packet_at(Duration::MAX).unwrap().0, keys.last().unwrap().0);
            for ms in (0..6000).step_by(50) {
                let time = Duration::from_millis(ms);
                let (packet, start) =
                    *keys.iter().rfind(|(packet, _)| *packet == file.packet_at(time).unwrap().0).unwrap();
                assert!(packet == 0 || start <= time, "{time:?} starts at {start:?}");
                // An index has an entry a second.
                let late = time.saturating_sub(start + Duration::from_secs(1));
                let next = keys.iter().find(|(_, next)| *next > start).map_or(Duration::MAX, |(_, next)| *next);
                assert!(start + late < next, "{time:?} starts at {start:?}");
            }
        }
    }

    /// Hand-written: says for every second the packets 1 and 999.
    fn wrong_index() -> Vec<u8> {
        let mut object = [Guid::SIMPLE_INDEX.0.as_slice(), &[0; 24], &10_000_000_u64.to_le_bytes(), &[0; 4]].concat();
        object.extend(10_u32.to_le_bytes());
        for _ in 0..5 {
            object.extend([1, 0, 0, 0, 1, 0, 231, 3, 0, 0, 1, 0]);
        }
        object
    }

    #[test]
    fn a_truncated_file_has_the_packets_that_are_there() {
        let whole = clip();
        let length = CLIP.len().min(whole.data_offset() as usize + 3 * whole.header().packet_size() + 17);
        let file = File::open(Bytes::from_static(&CLIP[..length])).unwrap();
        assert_eq!(file.packet_count(), 3);
        assert!(!file.has_video_index());
        let refusal = File::open(CLIP[..200].to_vec()).unwrap_err();
        assert_eq!(refusal.to_string(), format!("30 bytes of ASF header, want {}", whole.data_offset()));
    }

    #[test]
    fn a_recorded_broadcast_has_what_is_there() {
        let whole = clip();
        let mut bytes = whole.header().as_broadcast().bytes().to_vec();
        bytes.extend(&CLIP[bytes.len()..]);
        let file = File::open(bytes).unwrap();
        assert!(file.packet_count() >= whole.packet_count());
        assert!(file.packet_at(Duration::from_secs(2)).unwrap().0 > 0);
    }

    proptest! {
        #[test]
        fn a_damaged_file_opens_or_errs(
            changes in proptest::collection::vec((0..CLIP.len(), any::<u8>()), 0..8),
            header_changes in proptest::collection::vec((0..1000_usize, any::<u8>()), 0..4),
            ms in 0..6000_u64,
        ) {
            let mut bytes = CLIP.to_vec();
            for (at, value) in changes.into_iter().chain(header_changes) {
                bytes[at] = value;
            }
            if let Ok(file) = File::open(bytes) {
                let found = file.packet_at(Duration::from_millis(ms)).unwrap();
                prop_assert!(found.0 == 0 || file.packet(found).is_ok());
            }
        }
    }
}
