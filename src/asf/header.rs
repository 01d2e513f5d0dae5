//! The "ASF file header" of the streaming protocols: the Header Object (ASF 3) and the first 50 bytes of the Data Object
//! (ASF 5.1), read once, and rewritten for a broadcast or for a file of another length.
//!
//! The bytes are kept as they came. Objects are walked by their sizes; the counts they declare are not believed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::objects::Facts;
use super::read::{dword, guid, put, qword};
use super::{Guid, Outline, Stream, StreamNumber};

/// A header that parsed: [`Header::bytes`] is exactly the Header Object and 50 bytes more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    bytes: Bytes,
    /// Where File Properties begins.
    file_at: usize,
    file: FileProperties,
    streams: Vec<Stream>,
}

/// File Properties Object, ASF 3.2. With `broadcast` set only preroll, packet size and bit rate mean anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileProperties {
    pub file_id: Guid,
    /// Bytes.
    pub file_size: u64,
    /// 100 ns since 1601-01-01.
    pub creation_date: u64,
    pub packet_count: u64,
    /// Includes the preroll.
    pub play_duration_100ns: u64,
    pub send_duration_100ns: u64,
    /// Every presentation time in the packets is this much later than the time in the content.
    pub preroll_ms: u64,
    pub broadcast: bool,
    pub seekable: bool,
    /// Bytes of a data packet with its padding, 64 to 65527 (what fits into a Data packet of MMS).
    pub packet_size: u32,
    /// Bits per second; 0 where unknown.
    pub max_bit_rate: u32,
}

/// Why bytes are no ASF file header.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeaderError {
    #[error("{have} bytes of ASF header, want {want}")]
    Short { have: usize, want: usize },
    #[error("the {object} begins with {found} (ASF {section})")]
    WrongObject { object: &'static str, found: Guid, section: &'static str },
    #[error("Header Object size is {size}, want 30 to {MAX_SIZE} (ASF 3.1)")]
    Size { size: u64 },
    #[error("Header Object Reserved2 is {value:#x}, want 0x2 (ASF 3.1)")]
    Reserved { value: u8 },
    #[error("an object at byte {at} of the header declares {size} bytes, {room} are left (ASF 2.1)")]
    ObjectSize { at: usize, size: u64, room: usize },
    #[error("more than {MAX_OBJECTS} objects in the header")]
    TooManyObjects,
    #[error("the header has no File Properties Object (ASF 3.2)")]
    NoFileProperties,
    #[error("packet sizes are {min} to {max}, want one size from 64 to 65527 (ASF 3.2)")]
    PacketSize { min: u32, max: u32 },
}

impl Header {
    /// Reads an ASF file header; what follows it in `bytes` is cut off.
    pub fn parse(bytes: Bytes) -> Result<Self, HeaderError> {
        let short = |want| HeaderError::Short { have: bytes.len(), want };
        let found = guid(&bytes, 0).ok_or(short(HEADER_OBJECT))?;
        if found != Guid::HEADER {
            return Err(HeaderError::WrongObject { object: "Header Object", found, section: "3.1" });
        }
        let size = qword(&bytes, 16).ok_or(short(HEADER_OBJECT))?;
        let reserved = *bytes.get(29).ok_or(short(HEADER_OBJECT))?;
        if reserved != 2 {
            return Err(HeaderError::Reserved { value: reserved });
        }
        let size = usize::try_from(size)
            .ok()
            .filter(|size| (HEADER_OBJECT..=MAX_SIZE).contains(size))
            .ok_or(HeaderError::Size { size })?;
        let total = size + DATA_OBJECT;
        if bytes.len() < total {
            return Err(short(total));
        }
        let bytes = bytes.slice(..total);
        let found = guid(&bytes, size).unwrap_or_default();
        if found != Guid::DATA {
            return Err(HeaderError::WrongObject { object: "Data Object", found, section: "5.1" });
        }

        let mut facts = Facts::default();
        facts.walk_header(&bytes, size)?;
        let (file_at, file) = facts.file.take().ok_or(HeaderError::NoFileProperties)?;
        Ok(Self { bytes: ending_in_ones(bytes), file_at, file, streams: facts.into_streams() })
    }

    /// Header Object and 50 bytes of the Data Object, which end in 01 01 (MPlayer ends its read of the header there).
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The File Properties Object.
    pub fn file(&self) -> &FileProperties {
        &self.file
    }

    /// The streams, hidden ones too, by number.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The stream of that number.
    pub fn stream(&self, number: StreamNumber) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.number == number)
    }

    /// Bytes of a data packet with its padding.
    pub fn packet_size(&self) -> usize {
        self.file.packet_size as usize
    }

    /// Bits per second, never 0: Maximum Bitrate, else the sum over the streams if each has a rate, else what counts and
    /// durations say, else the sum over those that have one, else a guess of 1 Mbit/s: whoever paces by it shall neither
    /// stop nor send all at once.
    pub fn bit_rate(&self) -> u32 {
        let sum = self.streams.iter().fold(0_u32, |sum, stream| sum.saturating_add(stream.bit_rate));
        let each = if self.streams.iter().all(|stream| stream.bit_rate > 0) { sum } else { 0 };
        let rates = [self.file.max_bit_rate, each, self.sent_bit_rate(), sum];
        rates.into_iter().find(|&rate| rate > 0).unwrap_or(GUESSED_BIT_RATE)
    }

    /// All packets over Send Duration; 0 where the header doesn't know.
    fn sent_bit_rate(&self) -> u32 {
        if self.is_live() {
            return 0;
        }
        let bits = u128::from(self.file.packet_count) * u128::from(self.file.packet_size) * 8;
        let rate = (bits * 10_000_000).checked_div(self.file.send_duration_100ns.into()).unwrap_or(0);
        u32::try_from(rate).unwrap_or(u32::MAX)
    }

    /// How long the content plays: Play Duration without the preroll; zero for a broadcast.
    pub fn duration(&self) -> Duration {
        if self.is_live() {
            return Duration::ZERO;
        }
        from_100ns(self.file.play_duration_100ns).saturating_sub(self.preroll())
    }

    /// How much a player buffers before it starts.
    pub fn preroll(&self) -> Duration {
        Duration::from_millis(self.file.preroll_ms)
    }

    /// The streams of which a key frame begins in a packet. Sound may be marked as well, but each of its objects stands
    /// alone, and nobody waits for one: it is left out.
    pub fn key_frames<'a>(&'a self, packet: &'a Outline) -> impl Iterator<Item = StreamNumber> + 'a {
        packet.key_frames().filter(|number| self.stream(*number).is_some_and(|stream| stream.has_key_frames))
    }

    /// A broadcast has no end and no counts. Some servers forget the flag and only leave the packet count at 0.
    pub fn is_live(&self) -> bool {
        self.file.broadcast || self.file.packet_count == 0
    }

    /// The header for viewers of a broadcast made from this content: Broadcast set, Seekable clear, no size and no
    /// durations, an empty Data Object.
    ///
    /// The packet count in File Properties is 0xFFFFFFFF: Windows Media Player 9 takes 0 as "nothing to play". ASF 3.2
    /// calls the field invalid here, ffmpeg and VLC read past it, and 0 stays in the Data Object, which nobody reads.
    pub fn as_broadcast(&self) -> Self {
        self.rewritten(Rewrite {
            file_size: 0,
            packet_count: UNKNOWN_COUNT,
            play_duration_100ns: 0,
            send_duration_100ns: 0,
            broadcast: true,
            seekable: false,
            data_size: DATA_OBJECT as u64,
            data_packets: 0,
        })
    }

    /// The same header for a file of `packets` packets: sizes and counts, in the Data Object too.
    pub fn with_counts(
        &self,
        packets: u64,
        file_size: u64,
        play_duration_100ns: u64,
        send_duration_100ns: u64,
        broadcast: bool,
        seekable: bool,
    ) -> Self {
        self.rewritten(Rewrite {
            file_size,
            packet_count: packets,
            play_duration_100ns,
            send_duration_100ns,
            broadcast,
            seekable,
            data_size: packets.saturating_mul(self.file.packet_size.into()).saturating_add(DATA_OBJECT as u64),
            data_packets: packets,
        })
    }

    /// The broadcast that `before` began goes on under this header: they are equal but for what a restarted encoder or
    /// server gives anew. That is File ID, sizes, counts, durations and the creation date, in File Properties and in the
    /// Data Object (ASF 3.2, 5.1).
    pub fn continues(&self, before: &Self) -> bool {
        self.fixed().eq(before.fixed())
    }

    /// The bytes that stay as long as a broadcast goes on.
    fn fixed(&self) -> impl Iterator<Item = &[u8]> {
        let (file, data) = (self.file_at, self.data_at());
        let parts = [0..file + 24, file + 80..data + 16, data + 48..data + DATA_OBJECT];
        parts.into_iter().map(|part| self.bytes.get(part).unwrap_or_default())
    }

    fn data_at(&self) -> usize {
        self.bytes.len().saturating_sub(DATA_OBJECT)
    }

    fn rewritten(&self, to: Rewrite) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let at = self.file_at;
        let flags = dword(&bytes, at + 88).unwrap_or(0) & !3 | u32::from(to.broadcast) | u32::from(to.seekable) << 1;
        put(&mut bytes, at + 40, &to.file_size.to_le_bytes());
        put(&mut bytes, at + 56, &to.packet_count.to_le_bytes());
        put(&mut bytes, at + 64, &to.play_duration_100ns.to_le_bytes());
        put(&mut bytes, at + 72, &to.send_duration_100ns.to_le_bytes());
        put(&mut bytes, at + 88, &flags.to_le_bytes());
        put(&mut bytes, self.data_at() + 16, &to.data_size.to_le_bytes());
        put(&mut bytes, self.data_at() + 40, &to.data_packets.to_le_bytes());
        let file = FileProperties {
            file_size: to.file_size,
            packet_count: to.packet_count,
            play_duration_100ns: to.play_duration_100ns,
            send_duration_100ns: to.send_duration_100ns,
            broadcast: to.broadcast,
            seekable: to.seekable,
            ..self.file.clone()
        };
        Self { bytes: bytes.freeze(), file_at: at, file, streams: self.streams.clone() }
    }
}

/// The fields in which two headers of the same streams differ.
struct Rewrite {
    file_size: u64,
    packet_count: u64,
    play_duration_100ns: u64,
    send_duration_100ns: u64,
    broadcast: bool,
    seekable: bool,
    data_size: u64,
    data_packets: u64,
}

impl FileProperties {
    /// `None` where the object is too short to be one.
    pub(super) fn parse(object: &[u8]) -> Result<Option<Self>, HeaderError> {
        let read = || {
            let flags = dword(object, 88)?;
            let file = Self {
                file_id: guid(object, 24)?,
                file_size: qword(object, 40)?,
                creation_date: qword(object, 48)?,
                packet_count: qword(object, 56)?,
                play_duration_100ns: qword(object, 64)?,
                send_duration_100ns: qword(object, 72)?,
                preroll_ms: qword(object, 80)?,
                broadcast: flags & 1 != 0,
                seekable: flags & 2 != 0,
                packet_size: dword(object, 96)?,
                max_bit_rate: dword(object, 100)?,
            };
            Some((dword(object, 92)?, file))
        };
        match read() {
            Some((min, file)) if min == file.packet_size && (64..=65527).contains(&min) => Ok(Some(file)),
            Some((min, file)) => Err(HeaderError::PacketSize { min, max: file.packet_size }),
            None => Ok(None),
        }
    }
}

/// The Data Object's Reserved field is 0x0101 (ASF 5.1); where an origin says otherwise we put it right.
fn ending_in_ones(bytes: Bytes) -> Bytes {
    if bytes.ends_with(&[1, 1]) {
        return bytes;
    }
    let mut right = BytesMut::from(&bytes[..]);
    let at = right.len().saturating_sub(2);
    put(&mut right, at, &[1, 1]);
    right.freeze()
}

/// A count of 100 ns units, as a duration.
pub(super) fn from_100ns(units: u64) -> Duration {
    Duration::from_micros(units / 10) + Duration::from_nanos(units % 10 * 100)
}

/// GUID and size of any object.
pub(super) const OBJECT: usize = 24;
/// Fixed part of the Header Object, ASF 3.1.
pub(super) const HEADER_OBJECT: usize = 30;
/// Fixed part of the Data Object, ASF 5.1.
pub(super) const DATA_OBJECT: usize = 50;
/// No header in use comes near it.
pub(super) const MAX_SIZE: usize = 8 << 20;
pub(super) const MAX_OBJECTS: usize = 4096;
/// Data Packets Count of a broadcast: see [`Header::as_broadcast`].
const UNKNOWN_COUNT: u64 = 0xFFFF_FFFF;
const GUESSED_BIT_RATE: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::StreamKind;
    use super::*;

    /// Recorded: tests/vectors/asf/README.md.
    const TALK: &[u8] = include_bytes!("../../tests/vectors/asf/talk-header.bin");

    fn talk() -> Header {
        Header::parse(Bytes::from_static(TALK)).unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = TALK.to_vec();
        change(&mut bytes);
        Header::parse(bytes.into()).unwrap_err().to_string()
    }

    #[test]
    fn a_header_of_ffmpeg_is_read() {
        let header = talk();
        let file = header.file();
        assert_eq!(header.bytes(), TALK);
        assert_eq!((file.file_size, file.packet_count, file.packet_size), (285_755, 89, 3200));
        assert_eq!((file.play_duration_100ns, file.send_duration_100ns), (131_460_000, 100_460_000));
        assert_eq!((file.preroll_ms, file.broadcast, file.seekable), (3100, false, true));
        assert_eq!(header.duration(), Duration::from_millis(10_046));
        assert_eq!(header.bit_rate(), 264_000);
        assert!(!header.is_live());
        let kinds: Vec<_> = header.streams().iter().map(|s| (s.number.get(), s.kind, s.has_key_frames)).collect();
        assert_eq!(kinds, [(1, StreamKind::Video, true), (2, StreamKind::Audio, false)]);
        assert_eq!(header.streams()[1].bit_rate, 64_000);
    }

    #[test]
    fn what_follows_the_header_is_cut() {
        let long = [TALK, b"packets"].concat();
        assert_eq!(Header::parse(long.into()).unwrap(), talk());
    }

    #[test]
    fn a_broadcast_header_has_no_counts() {
        let header = talk().as_broadcast();
        assert!(header.is_live());
        assert_eq!(header.duration(), Duration::ZERO);
        assert_eq!(header.file().packet_count, 0xFFFF_FFFF);
        assert_eq!(header.bytes()[759 + 16..][..8], 50_u64.to_le_bytes());
        assert_eq!(Header::parse(header.bytes().clone()).unwrap(), header);
        assert_eq!(header.as_broadcast(), header);
    }

    #[test]
    fn counts_are_written_and_nothing_else() {
        let header = talk();
        let same = header.as_broadcast().with_counts(89, 285_755, 131_460_000, 100_460_000, false, true);
        assert_eq!(same, header);
    }

    #[test]
    fn a_restarted_broadcast_continues() {
        let before = talk().as_broadcast();
        let mut bytes = before.bytes().to_vec();
        // File ID, size, creation date, count, durations; in the Data Object: size, File ID, count.
        for open in [30 + 24..30 + 80, 759 + 16..759 + 48] {
            bytes[open].iter_mut().for_each(|byte| *byte ^= 0xA5);
        }
        let after = Header::parse(bytes.into()).unwrap();
        assert_ne!(after, before);
        assert!(after.continues(&before) && before.continues(&after));
    }

    #[test]
    fn any_other_byte_makes_another_broadcast() {
        let before = talk();
        let open = |at: usize| (30 + 24..30 + 80).contains(&at) || (759 + 16..759 + 48).contains(&at);
        let mut parsed = 0;
        for at in (0..TALK.len()).filter(|at| !open(*at)) {
            let mut bytes = TALK.to_vec();
            bytes[at] ^= 0x01;
            // The Reserved field of the Data Object is put right whenever a header is read.
            if let Some(other) = Header::parse(bytes.into()).ok().filter(|_| at < 807) {
                parsed += 1;
                assert!(!other.continues(&before), "byte {at}");
            }
        }
        assert!(parsed > 400, "{parsed}");
        const CLIP: &[u8] = include_bytes!("../../tests/vectors/asf/ffmpeg-clip.asf");
        assert!(!Header::parse(Bytes::from_static(CLIP)).unwrap().continues(&before));
    }

    #[test]
    fn a_count_of_zero_is_live() {
        assert!(talk().with_counts(0, 0, 0, 0, false, false).is_live());
    }

    #[test]
    fn the_bit_rate_is_never_zero() {
        let rate = |bytes: &[u8]| Header::parse(Bytes::copy_from_slice(bytes)).unwrap().bit_rate();
        let mut bytes = TALK.to_vec();
        bytes[30 + 100..][..4].fill(0);
        // The video stream states no rate, so the audio's is not all.
        assert_eq!(u64::from(rate(&bytes)), 89 * 3200 * 8 * 10_000_000 / 100_460_000);
        bytes[30 + 72..][..8].fill(0);
        assert_eq!(rate(&bytes), 64_000);
        bytes.drain(390..637); // both streams
        bytes[16..24].copy_from_slice(&(759 - 247_u64).to_le_bytes());
        assert_eq!(rate(&bytes), GUESSED_BIT_RATE);
    }

    #[test]
    fn the_header_ends_in_ones() {
        let mut bytes = TALK.to_vec();
        bytes[807..].fill(0);
        assert_eq!(Header::parse(bytes.into()).unwrap().bytes(), TALK);
    }

    #[test]
    fn broken_headers_are_refused() {
        assert_eq!(refusal(|b| b.truncate(10)), "10 bytes of ASF header, want 30");
        assert_eq!(refusal(|b| b.truncate(800)), "800 bytes of ASF header, want 809");
        assert_eq!(
            refusal(|b| b[0] = 0),
            "the Header Object begins with 75B22600-668E-11CF-A6D9-00AA0062CE6C (ASF 3.1)"
        );
        assert_eq!(refusal(|b| b[29] = 3), "Header Object Reserved2 is 0x3, want 0x2 (ASF 3.1)");
        assert_eq!(
            refusal(|b| b[23] = 0x80),
            "Header Object size is 9223372036854776567, want 30 to 8388608 (ASF 3.1)"
        );
        assert_eq!(
            refusal(|b| b[46] = 23),
            "an object at byte 30 of the header declares 23 bytes, 729 are left (ASF 2.1)"
        );
        assert_eq!(
            refusal(|b| b[53] = 0xFF),
            "an object at byte 30 of the header declares 18374686479671623784 bytes, 729 are left (ASF 2.1)"
        );
        assert_eq!(refusal(|b| b[30] = 0), "the header has no File Properties Object (ASF 3.2)");
        assert_eq!(
            refusal(|b| b[30 + 92] = 0),
            "packet sizes are 3072 to 3200, want one size from 64 to 65527 (ASF 3.2)"
        );
        assert_eq!(
            refusal(|b| b[759] = 0),
            "the Data Object begins with 75B22600-668E-11CF-A6D9-00AA0062CE6C (ASF 5.1)"
        );
    }

    #[test]
    fn a_hidden_stream_without_key_frames_is_found_in_the_extension() {
        let mut embedded = TALK[390..523].to_vec(); // the video stream
        embedded[72] = 5;
        let mut extended = [Guid::EXTENDED_STREAM_PROPERTIES.0.as_slice(), &[0; 72]].concat();
        extended[40..44].copy_from_slice(&90_000_u32.to_le_bytes());
        extended[68] = 4;
        extended[72] = 5;
        extended[84] = 1;
        extended.extend([0, 0, 2, 0, b'x', 0]);
        extended.extend(embedded);
        let size = extended.len() as u64;
        extended[16..24].copy_from_slice(&size.to_le_bytes());
        let mut bytes = TALK.to_vec();
        bytes.splice(290..290, extended); // the Header Extension is 134..290
        bytes[16..24].copy_from_slice(&(759 + size).to_le_bytes());
        bytes[134 + 16..][..8].copy_from_slice(&(156 + size).to_le_bytes());
        bytes[134 + 42..][..4].copy_from_slice(&(110 + size as u32).to_le_bytes());
        let header = Header::parse(bytes.into()).unwrap();
        let hidden = header.stream(StreamNumber::new(5).unwrap()).unwrap();
        assert!(hidden.hidden && !hidden.has_key_frames);
        assert_eq!(hidden.bit_rate, 90_000);
        assert_eq!(header.streams().len(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_err(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::parse(bytes.into());
        }

        #[test]
        fn a_damaged_header_parses_or_errs(
            at in proptest::collection::vec((0..TALK.len(), any::<u8>()), 1..8)
        ) {
            let mut bytes = TALK.to_vec();
            for (at, value) in at {
                bytes[at] = value;
            }
            if let Ok(header) = Header::parse(bytes.into()) {
                prop_assert!(header.bit_rate() > 0);
                header.duration();
                let broadcast = header.as_broadcast();
                prop_assert_eq!(Header::parse(broadcast.bytes().clone()).unwrap(), broadcast);
            }
        }
    }
}
