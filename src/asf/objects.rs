//! The walk over the objects of a header, whatever their order: what each says of the file and of its streams (ASF 3, 4).

use bytes::Bytes;

use super::header::{HEADER_OBJECT, MAX_OBJECTS, OBJECT};
use super::read::{dword, guid, qword, word};
use super::{FileProperties, Guid, HeaderError, Stream, StreamKind, StreamNumber};

/// What a walk over the objects finds, in whatever order they stand.
#[derive(Default)]
pub(super) struct Facts {
    objects: usize,
    /// Where File Properties begins, and what it says.
    pub(super) file: Option<(usize, FileProperties)>,
    streams: Vec<Stream>,
    /// Stream Bitrate Properties: number and average bits per second.
    rates: Vec<(StreamNumber, u32)>,
    extended: Vec<Extended>,
}

/// What Extended Stream Properties add to a stream.
struct Extended {
    number: StreamNumber,
    bit_rate: u32,
    no_key_frames: bool,
}

/// Objects nest once: in the Header Extension.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Depth {
    Header,
    Extension,
}

impl Facts {
    /// Reads the objects of a Header Object of `size` bytes.
    pub(super) fn walk_header(&mut self, header: &Bytes, size: usize) -> Result<(), HeaderError> {
        self.walk(header, HEADER_OBJECT, size, Depth::Header)
    }

    /// Reads the objects between `at` and `end`. Fewer than 24 bytes at the end are no object and are left alone.
    fn walk(&mut self, header: &Bytes, mut at: usize, end: usize, depth: Depth) -> Result<(), HeaderError> {
        while end.saturating_sub(at) >= OBJECT {
            let room = end - at;
            let size = qword(header, at + 16).unwrap_or(0);
            let object = usize::try_from(size)
                .ok()
                .filter(|size| (OBJECT..=room).contains(size))
                .map(|size| header.slice(at..at + size))
                .ok_or(HeaderError::ObjectSize { at, size, room })?;
            self.objects += 1;
            if self.objects > MAX_OBJECTS {
                return Err(HeaderError::TooManyObjects);
            }
            match (depth, guid(&object, 0).unwrap_or_default()) {
                (Depth::Header, Guid::FILE_PROPERTIES) if self.file.is_none() => {
                    self.file = FileProperties::parse(&object)?.map(|file| (at, file));
                }
                (Depth::Header, Guid::STREAM_PROPERTIES) => self.stream_properties(&object, false),
                (Depth::Header, Guid::STREAM_BITRATE_PROPERTIES) => self.bit_rates(&object),
                (Depth::Header, Guid::HEADER_EXTENSION) => {
                    let declared = dword(&object, 42).unwrap_or(0) as usize;
                    let inner = object.len().saturating_sub(HEADER_EXTENSION).min(declared);
                    self.walk(header, at + HEADER_EXTENSION, at + HEADER_EXTENSION + inner, Depth::Extension)?;
                }
                (Depth::Extension, Guid::EXTENDED_STREAM_PROPERTIES) => self.extended_stream_properties(&object),
                _ => {}
            }
            at += object.len();
        }
        Ok(())
    }

    /// ASF 3.3. An object whose lengths don't fit declares no stream; of two with one number the first counts.
    fn stream_properties(&mut self, object: &Bytes, hidden: bool) {
        let mut read = || {
            let flags = word(object, 72)?;
            let number = StreamNumber::new(flags & 0x7F)?;
            let length = dword(object, 64)? as usize;
            let end = STREAM_PROPERTIES.checked_add(length)?;
            end.checked_add(dword(object, 68)? as usize).filter(|&end| end <= object.len())?;
            let kind = StreamKind::from_guid(guid(object, 24)?);
            let type_specific = object.slice(STREAM_PROPERTIES..end);
            let bit_rate = match kind {
                // WAVEFORMATEX counts bytes per second.
                StreamKind::Audio => dword(&type_specific, 8).unwrap_or(0).saturating_mul(8),
                _ => 0,
            };
            if self.streams.iter().all(|stream| stream.number != number) {
                self.streams.push(Stream {
                    number,
                    kind,
                    encrypted: flags & 0x8000 != 0,
                    bit_rate,
                    has_key_frames: kind == StreamKind::Video,
                    hidden,
                    type_specific,
                });
            }
            Some(())
        };
        read();
    }

    /// ASF 3.12.
    fn bit_rates(&mut self, object: &[u8]) {
        let count = word(object, 24).unwrap_or(0);
        let records = object.get(26..).unwrap_or_default().chunks_exact(6).take(count.into());
        self.rates.extend(
            records.filter_map(|record| Some((StreamNumber::new(word(record, 0)? & 0x7F)?, dword(record, 2)?))),
        );
    }

    /// ASF 4.1, with the Stream Properties that may stand at its end.
    fn extended_stream_properties(&mut self, object: &Bytes) {
        let mut read = || {
            let number = StreamNumber::new(word(object, 72)?)?;
            let no_key_frames = dword(object, 68)? & 4 != 0;
            self.extended.push(Extended { number, bit_rate: dword(object, 40)?, no_key_frames });
            let mut at = EXTENDED_STREAM_PROPERTIES;
            for _ in 0..word(object, 84)? {
                at = at.checked_add(4 + usize::from(word(object, at + 2)?))?;
            }
            for _ in 0..word(object, 86)? {
                at = at.checked_add(22)?.checked_add(dword(object, at + 18)? as usize)?;
            }
            let size = usize::try_from(qword(object, at + 16)?).ok()?;
            let embedded = (guid(object, at)? == Guid::STREAM_PROPERTIES && size <= object.len() - at)
                .then(|| object.slice(at..at + size))?;
            self.stream_properties(&embedded, true);
            Some(())
        };
        read();
    }

    /// The streams by number, with what the other objects say of them.
    pub(super) fn into_streams(self) -> Vec<Stream> {
        let Self { mut streams, rates, extended, .. } = self;
        for stream in &mut streams {
            let more = extended.iter().find(|extended| extended.number == stream.number);
            let declared = rates.iter().find(|(number, _)| *number == stream.number).map(|&(_, rate)| rate);
            stream.has_key_frames &= !more.is_some_and(|more| more.no_key_frames);
            stream.bit_rate = [declared, more.map(|more| more.bit_rate)]
                .into_iter()
                .flatten()
                .find(|&rate| rate > 0)
                .unwrap_or(stream.bit_rate);
        }
        streams.sort_by_key(|stream| stream.number);
        streams
    }
}

const HEADER_EXTENSION: usize = 46;
const STREAM_PROPERTIES: usize = 78;
const EXTENDED_STREAM_PROPERTIES: usize = 88;
