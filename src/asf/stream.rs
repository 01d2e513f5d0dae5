//! One stream of a file: what its Stream Properties and Extended Stream Properties say (ASF 3.3, 4.1).

use std::fmt;

use bytes::Bytes;

use super::Guid;

/// The number by which payloads and selections name a stream: 1 to 127. A payload of a damaged packet may carry 0,
/// which no header declares.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamNumber(u8);

impl StreamNumber {
    /// `None` outside 1 to 127.
    pub const fn new(number: u16) -> Option<Self> {
        match number {
            1..=127 => Some(Self(number as u8)),
            _ => None,
        }
    }

    /// The low seven bits of a payload's Stream Number field (ASF 5.2.3.1).
    pub(super) const fn from_payload(field: u8) -> Self {
        Self(field & 0x7F)
    }

    /// The number itself.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for StreamNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a stream carries (ASF 10.4).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StreamKind {
    Audio,
    Video,
    /// Commands and captions.
    Script,
    /// JFIF or degradable JPEG.
    Image,
    FileTransfer,
    Other(Guid),
}

impl StreamKind {
    /// The kind that a Stream Type GUID stands for.
    pub fn from_guid(guid: Guid) -> Self {
        match guid {
            Guid::AUDIO_MEDIA => Self::Audio,
            Guid::VIDEO_MEDIA => Self::Video,
            Guid::COMMAND_MEDIA => Self::Script,
            Guid::JFIF_MEDIA | Guid::DEGRADABLE_JPEG_MEDIA => Self::Image,
            Guid::FILE_TRANSFER_MEDIA => Self::FileTransfer,
            other => Self::Other(other),
        }
    }

    /// The Stream Type GUID to write; images are written as JFIF.
    pub fn guid(self) -> Guid {
        match self {
            Self::Audio => Guid::AUDIO_MEDIA,
            Self::Video => Guid::VIDEO_MEDIA,
            Self::Script => Guid::COMMAND_MEDIA,
            Self::Image => Guid::JFIF_MEDIA,
            Self::FileTransfer => Guid::FILE_TRANSFER_MEDIA,
            Self::Other(guid) => guid,
        }
    }
}

/// A stream that the header declares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stream {
    pub number: StreamNumber,
    pub kind: StreamKind,
    /// Encrypted Content Flag: the payloads are protected; nothing here looks into them.
    pub encrypted: bool,
    /// Average bits per second with the overhead of the format; 0 where the header does not say.
    pub bit_rate: u32,
    /// A decoder can begin only at a key frame: video, unless its Extended Stream Properties say "no cleanpoints".
    pub has_key_frames: bool,
    /// Declared only inside an Extended Stream Properties Object: players older than Windows Media 9 don't see it.
    pub hidden: bool,
    /// Type-Specific Data: WAVEFORMATEX for audio, for video the image's size and a BITMAPINFOHEADER.
    pub type_specific: Bytes,
}
