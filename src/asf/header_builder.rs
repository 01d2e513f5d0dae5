//! A header of our own, for content that we generate (ASF 3). It declares no counts yet: it is that of a broadcast until
//! [`Header::with_counts`] says how long the file became.

use bytes::Bytes;

use super::header::{DATA_OBJECT, HEADER_OBJECT, OBJECT};
use super::{Guid, Header, HeaderError, StreamKind, StreamNumber};

/// Collects what goes into a header.
#[derive(Clone, Debug)]
pub struct HeaderBuilder {
    file_id: Guid,
    creation_date: u64,
    packet_size: u32,
    preroll_ms: u64,
    streams: Vec<Declared>,
}

#[derive(Clone, Debug)]
struct Declared {
    number: StreamNumber,
    kind: StreamKind,
    bit_rate: u32,
    type_specific: Vec<u8>,
}

/// Type-Specific Data of audio: a WAVEFORMATEX (ASF 9.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WaveFormat {
    /// Codec, as registered for WAVE files: 1 is PCM.
    pub format_tag: u16,
    pub channels: u16,
    pub samples_per_second: u32,
    pub bytes_per_second: u32,
    /// Bytes of the smallest unit of data.
    pub block_align: u16,
    pub bits_per_sample: u16,
    /// What the codec needs beside.
    pub extra: Vec<u8>,
}

/// Type-Specific Data of video: the image's size and a BITMAPINFOHEADER (ASF 9.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VideoFormat {
    pub width: u32,
    pub height: u32,
    /// Four characters that name the codec; zeros are uncompressed BGR, rows from the bottom up.
    pub compression: [u8; 4],
    pub bits_per_pixel: u16,
    /// What the codec needs beside.
    pub extra: Vec<u8>,
}

impl HeaderBuilder {
    /// For packets of this many bytes, 64 to 65527.
    pub fn new(packet_size: u32) -> Self {
        Self { file_id: Guid::default(), creation_date: 0, packet_size, preroll_ms: 0, streams: Vec::new() }
    }

    /// Tells files apart; zeros unless set.
    pub fn file_id(mut self, file_id: Guid) -> Self {
        self.file_id = file_id;
        self
    }

    /// 100 ns since 1601-01-01; 0 unless set.
    pub fn creation_date(mut self, creation_date: u64) -> Self {
        self.creation_date = creation_date;
        self
    }

    /// How much a player buffers, and by how much presentation times exceed content times; 0 unless set.
    pub fn preroll_ms(mut self, preroll_ms: u64) -> Self {
        self.preroll_ms = preroll_ms;
        self
    }

    /// Declares audio; its bit rate is that of the format.
    pub fn audio(self, number: StreamNumber, format: &WaveFormat) -> Self {
        let bit_rate = format.bytes_per_second.saturating_mul(8);
        self.stream(number, StreamKind::Audio, bit_rate, format.encode())
    }

    /// Declares video.
    pub fn video(self, number: StreamNumber, bit_rate: u32, format: &VideoFormat) -> Self {
        self.stream(number, StreamKind::Video, bit_rate, format.encode())
    }

    /// Declares any stream, by its Type-Specific Data. Of two with one number the first counts.
    pub fn stream(mut self, number: StreamNumber, kind: StreamKind, bit_rate: u32, type_specific: Vec<u8>) -> Self {
        self.streams.push(Declared { number, kind, bit_rate, type_specific });
        self
    }

    /// Writes the header. An error if the packet size is out of range, or Type-Specific Data are megabytes.
    pub fn build(&self) -> Result<Header, HeaderError> {
        let max_bit_rate = self.streams.iter().fold(0_u32, |sum, stream| sum.saturating_add(stream.bit_rate));
        let mut objects = object(Guid::FILE_PROPERTIES, |out| {
            out.extend(self.file_id.0);
            out.extend([0; 8]); // File Size
            out.extend(self.creation_date.to_le_bytes());
            out.extend([0; 24]); // packets and durations
            out.extend(self.preroll_ms.to_le_bytes());
            out.extend(1_u32.to_le_bytes()); // Broadcast
            out.extend(self.packet_size.to_le_bytes());
            out.extend(self.packet_size.to_le_bytes());
            out.extend(max_bit_rate.to_le_bytes());
        });
        objects.extend(object(Guid::HEADER_EXTENSION, |out| {
            out.extend(Guid::RESERVED_1.0);
            out.extend([6, 0, 0, 0, 0, 0]);
        }));
        for stream in &self.streams {
            objects.extend(object(Guid::STREAM_PROPERTIES, |out| {
                out.extend(stream.kind.guid().0);
                out.extend(Guid::NO_ERROR_CORRECTION.0);
                out.extend([0; 8]); // Time Offset
                out.extend((stream.type_specific.len() as u32).to_le_bytes());
                out.extend([0; 4]); // Error Correction Data Length
                out.extend([stream.number.get(), 0, 0, 0, 0, 0]);
                out.extend(&stream.type_specific);
            }));
        }
        objects.extend(object(Guid::STREAM_BITRATE_PROPERTIES, |out| {
            out.extend((self.streams.len() as u16).to_le_bytes());
            for stream in &self.streams {
                out.extend([stream.number.get(), 0]);
                out.extend(stream.bit_rate.to_le_bytes());
            }
        }));

        let mut bytes = Vec::with_capacity(HEADER_OBJECT + objects.len() + DATA_OBJECT);
        bytes.extend(Guid::HEADER.0);
        bytes.extend(((HEADER_OBJECT + objects.len()) as u64).to_le_bytes());
        bytes.extend((3 + self.streams.len() as u32).to_le_bytes());
        bytes.extend([1, 2]);
        bytes.extend(objects);
        bytes.extend(Guid::DATA.0);
        bytes.extend((DATA_OBJECT as u64).to_le_bytes());
        bytes.extend(self.file_id.0);
        bytes.extend([0; 8]); // packets
        bytes.extend([1, 1]);
        Ok(Header::parse(Bytes::from(bytes))?.as_broadcast())
    }
}

impl WaveFormat {
    /// Uncompressed samples of 8 or 16 bits.
    pub fn pcm(channels: u16, samples_per_second: u32, bits_per_sample: u16) -> Self {
        let block_align = channels.saturating_mul(bits_per_sample / 8);
        Self {
            format_tag: 1,
            channels,
            samples_per_second,
            bytes_per_second: samples_per_second.saturating_mul(block_align.into()),
            block_align,
            bits_per_sample,
            extra: Vec::new(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(18 + self.extra.len());
        out.extend(self.format_tag.to_le_bytes());
        out.extend(self.channels.to_le_bytes());
        out.extend(self.samples_per_second.to_le_bytes());
        out.extend(self.bytes_per_second.to_le_bytes());
        out.extend(self.block_align.to_le_bytes());
        out.extend(self.bits_per_sample.to_le_bytes());
        out.extend((self.extra.len() as u16).to_le_bytes());
        out.extend(&self.extra);
        out
    }
}

impl VideoFormat {
    /// Uncompressed BGR, 24 bits a pixel, rows from the bottom up, each padded to a multiple of 4 bytes.
    pub fn bgr(width: u32, height: u32) -> Self {
        Self { width, height, compression: [0; 4], bits_per_pixel: 24, extra: Vec::new() }
    }

    /// JPEG images.
    pub fn motion_jpeg(width: u32, height: u32) -> Self {
        Self { compression: *b"MJPG", ..Self::bgr(width, height) }
    }

    fn encode(&self) -> Vec<u8> {
        let size = BITMAP_INFO_HEADER + self.extra.len();
        let row = u64::from(self.width) * u64::from(self.bits_per_pixel) / 8;
        let image = row.next_multiple_of(4).saturating_mul(self.height.into());
        let mut out = Vec::with_capacity(11 + size);
        out.extend(self.width.to_le_bytes());
        out.extend(self.height.to_le_bytes());
        out.push(2);
        out.extend((size as u16).to_le_bytes());
        out.extend((size as u32).to_le_bytes());
        out.extend(self.width.to_le_bytes());
        out.extend(self.height.to_le_bytes());
        out.extend([1, 0]); // planes
        out.extend(self.bits_per_pixel.to_le_bytes());
        out.extend(self.compression);
        out.extend(u32::try_from(image).unwrap_or(u32::MAX).to_le_bytes());
        out.extend([0; 16]); // resolution, colours
        out.extend(&self.extra);
        out
    }
}

/// GUID, size, and what `content` writes.
fn object(guid: Guid, content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut inner = Vec::new();
    content(&mut inner);
    let size = (OBJECT + inner.len()) as u64;
    [&guid.0[..], &size.to_le_bytes(), &inner].concat()
}

const BITMAP_INFO_HEADER: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: u16) -> StreamNumber {
        StreamNumber::new(number).unwrap()
    }

    #[test]
    fn what_was_declared_is_read_again() {
        let header = HeaderBuilder::new(1400)
            .file_id(Guid([7; 16]))
            .preroll_ms(2000)
            .video(n(2), 300_000, &VideoFormat::motion_jpeg(320, 240))
            .audio(n(1), &WaveFormat::pcm(2, 44_100, 16))
            .build()
            .unwrap();
        assert!(header.is_live() && !header.file().seekable);
        assert_eq!((header.file().file_id, header.packet_size()), (Guid([7; 16]), 1400));
        assert_eq!(header.preroll().as_secs(), 2);
        assert_eq!(header.bit_rate(), 300_000 + 44_100 * 32);
        let [audio, video] = header.streams() else { panic!("two streams") };
        assert_eq!((audio.kind, audio.bit_rate, audio.type_specific.len()), (StreamKind::Audio, 1_411_200, 18));
        assert_eq!((video.kind, video.bit_rate, video.type_specific.len()), (StreamKind::Video, 300_000, 51));
        assert!(video.has_key_frames && !audio.has_key_frames);
        assert_eq!(video.type_specific[27..31], *b"MJPG");
    }

    #[test]
    fn a_packet_size_out_of_range_is_refused() {
        let refusal = HeaderBuilder::new(65_528).build().unwrap_err();
        assert_eq!(refusal.to_string(), "packet sizes are 65528 to 65528, want one size from 64 to 65527 (ASF 3.2)");
    }
}
