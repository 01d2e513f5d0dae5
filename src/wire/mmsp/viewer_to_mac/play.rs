//! A client's requests while content plays: [MS-MMSP] 2.2.4.20, 2.2.4.25 to 2.2.4.28.

use bytes::Bytes;

use crate::wire::{
    codec::{DecodeError, Reader, check, len_u32},
    mmsp::ids::FileId,
};

/// `LinkViewerToMacStreamSwitch`, [MS-MMSP] 2.2.4.28.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamSwitch {
    /// `aStreamEntries`, at most [`StreamSwitch::MAX_ENTRIES`]. The zeros that xine sends behind them are none.
    pub entries: Vec<StreamSwitchEntry>,
}

/// `STREAM_SWITCH_ENTRY`, [MS-MMSP] 2.2.4.28.1.
///
/// The text ignores the thinning level where the source is 0xFFFF. Every player sends 0xFFFF there, and the level to turn a
/// stream on or off: it is where the destination is 0xFFFF that the level means nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamSwitchEntry {
    /// `wSrcStreamNumber`: the stream to be replaced, or 0xFFFF.
    pub src_stream_number: u16,
    /// `wDstStreamNumber`: the stream to replace it, or 0xFFFF.
    pub dst_stream_number: u16,
    /// `wThinningLevel`: 0 all of the destination, 1 its key frames, 2 none of it.
    pub thinning_level: u16,
}

impl StreamSwitch {
    /// Twice the stream numbers of ASF: what lists more has lost its count.
    pub const MAX_ENTRIES: u32 = 256;

    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("StreamSwitch", body);
        let count = r.u32()?;
        check(count <= Self::MAX_ENTRIES, "cStreamEntries", count, "256 or less", "2.2.4.28")?;
        let entries = (0..count).map(|_| StreamSwitchEntry::decode(&mut r)).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(len_u32(self.entries.len()).to_le_bytes());
        for entry in &self.entries {
            out.extend(entry.src_stream_number.to_le_bytes());
            out.extend(entry.dst_stream_number.to_le_bytes());
            out.extend(entry.thinning_level.to_le_bytes());
        }
    }
}

impl StreamSwitchEntry {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let src_stream_number = r.u16()?;
        let dst_stream_number = r.u16()?;
        let thinning_level = r.u16()?;
        Ok(Self { src_stream_number, dst_stream_number, thinning_level })
    }
}

/// `LinkViewerToMacStartPlaying`, [MS-MMSP] 2.2.4.25. Only one of `position`, `asf_offset` and `location_id` means something.
#[derive(Clone, Debug, PartialEq)]
pub struct StartPlaying {
    /// `openFileId`.
    pub open_file_id: FileId,
    /// `position` in seconds of content, or DBL_MAX if unused. A DOUBLE: any bits may come, NaN too.
    pub position: f64,
    /// `asfOffset`: a byte in the ASF file, or 0 or 0xFFFFFFFF if unused.
    pub asf_offset: u32,
    /// `locationId`: an ASF data packet, or 0 or 0xFFFFFFFF if unused.
    pub location_id: u32,
    /// `frameOffset` in milliseconds: where to stop, or 0 for never; counted from where it began if the top bit is set. The free
    /// players mean "never" by 0x00FFFFFF.
    pub frame_offset: u32,
    /// `playIncarnation`, which the answer repeats and the Data packets carry.
    pub play_incarnation: u32,
    /// `dwAccelBandwidth` and `dwAccelDuration`: a fast start, from clients that were told a version of 9 or more.
    pub accel: Option<Accel>,
    /// `dwLinkBandwidth` in bits per second: the client's own connection. Only together with `accel`.
    pub link_bandwidth: Option<u32>,
}

/// How a client asks for a fast start, [MS-MMSP] 2.2.4.25.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accel {
    /// `dwAccelBandwidth` in bits per second.
    pub bandwidth: u32,
    /// `dwAccelDuration` in milliseconds of content.
    pub duration_ms: u32,
}

impl StartPlaying {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("StartPlaying", body);
        let open_file_id = FileId(r.u32()?);
        r.skip(4)?; // padding: 0x0001FFFF from the free players
        let position = r.f64()?;
        let asf_offset = r.u32()?;
        let location_id = r.u32()?;
        let frame_offset = r.u32()?;
        let play_incarnation = r.u32()?;
        // The length alone tells what is there: 40 bytes of message have neither, 48 the one, 56 both.
        let accel = match r.remaining() {
            8.. => Some(Accel { bandwidth: r.u32()?, duration_ms: r.u32()? }),
            _ => None,
        };
        let link_bandwidth = if accel.is_some() { r.u32().ok() } else { None };
        Ok(Self {
            open_file_id,
            position,
            asf_offset,
            location_id,
            frame_offset,
            play_incarnation,
            accel,
            link_bandwidth,
        })
    }

    /// A link bandwidth without accel is written behind an accel of zeros, as its place demands.
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.open_file_id.0.to_le_bytes());
        out.extend([0; 4]); // padding
        out.extend(self.position.to_le_bytes());
        out.extend(self.asf_offset.to_le_bytes());
        out.extend(self.location_id.to_le_bytes());
        out.extend(self.frame_offset.to_le_bytes());
        out.extend(self.play_incarnation.to_le_bytes());
        if let Some(accel) = self.accel.or(self.link_bandwidth.map(|_| Accel::default())) {
            out.extend(accel.bandwidth.to_le_bytes());
            out.extend(accel.duration_ms.to_le_bytes());
        }
        if let Some(link_bandwidth) = self.link_bandwidth {
            out.extend(link_bandwidth.to_le_bytes());
        }
    }
}

/// `LinkViewerToMacStartStriding`, [MS-MMSP] 2.2.4.26. As StartPlaying, at a rate.
#[derive(Clone, Debug, PartialEq)]
pub struct StartStriding {
    /// `openFileId`.
    pub open_file_id: FileId,
    /// `position` in seconds of content, or DBL_MAX if unused. A DOUBLE: any bits may come, NaN too.
    pub position: f64,
    /// `asfOffset`: a byte in the ASF file, or 0 or 0xFFFFFFFF if unused.
    pub asf_offset: u32,
    /// `locationId`: an ASF data packet, or 0 or 0xFFFFFFFF if unused.
    pub location_id: u32,
    /// `playIncarnation`, which the answer repeats and the Data packets carry.
    pub play_incarnation: u32,
    /// `rate`: -5 to 5 times real time, never 0. A DOUBLE: any bits may come, NaN too.
    pub rate: f64,
}

impl StartStriding {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("StartStriding", body);
        let open_file_id = FileId(r.u32()?);
        r.skip(4)?; // padding
        let position = r.f64()?;
        let asf_offset = r.u32()?;
        let location_id = r.u32()?;
        r.skip(4)?; // frameOffset
        let play_incarnation = r.u32()?;
        let rate = r.f64()?;
        Ok(Self { open_file_id, position, asf_offset, location_id, play_incarnation, rate })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.open_file_id.0.to_le_bytes());
        out.extend([0; 4]); // padding
        out.extend(self.position.to_le_bytes());
        out.extend(self.asf_offset.to_le_bytes());
        out.extend(self.location_id.to_le_bytes());
        out.extend([0; 4]); // frameOffset
        out.extend(self.play_incarnation.to_le_bytes());
        out.extend(self.rate.to_le_bytes());
    }
}

/// `LinkViewerToMacStopPlaying`, [MS-MMSP] 2.2.4.27.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StopPlaying {
    /// `openFileId`.
    pub open_file_id: FileId,
    /// `playIncarnation`: by the text that of the last Start request, from Microsoft's clients junk, from VLC 0x001FFFFF. The
    /// answer repeats it.
    pub play_incarnation: u32,
}

impl StopPlaying {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("StopPlaying", body);
        let open_file_id = FileId(r.u32()?);
        let play_incarnation = r.u32()?;
        Ok(Self { open_file_id, play_incarnation })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.open_file_id.0.to_le_bytes());
        out.extend(self.play_incarnation.to_le_bytes());
    }
}

/// `LinkViewerToMacLogging`, [MS-MMSP] 2.2.4.20.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Logging {
    /// `log`, padding included: of any length, because a report we can't read is no reason to end a session. See
    /// [`ClientLog`](crate::wire::mmsp::client_log::ClientLog).
    pub client_log: Bytes,
}

impl Logging {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { client_log: body.clone() })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.client_log);
    }
}
