//! A server's messages while content plays: [MS-MMSP] 2.2.4.5, 2.2.4.10 to 2.2.4.13.

use bytes::Bytes;

use crate::wire::{
    codec::{DecodeError, Reader},
    mmsp::ids::{HResult, Incarnation},
};

/// `LinkMacToViewerReportEndOfStream`, [MS-MMSP] 2.2.4.5.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportEndOfStream {
    /// `hr`: `S_OK` at the end or when stopped, `S_FALSE` between two playlist entries, else why it ended.
    pub hr: HResult,
    /// `playIncarnation`: the one of the StopPlaying it answers, else of the last Start request.
    pub play_incarnation: u32,
}

impl ReportEndOfStream {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportEndOfStream", body);
        let hr = HResult(r.u32()?);
        let play_incarnation = r.u32()?;
        Ok(Self { hr, play_incarnation })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.play_incarnation.to_le_bytes());
    }
}

/// `LinkMacToViewerReportStartedPlaying`, [MS-MMSP] 2.2.4.10.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportStartedPlaying {
    /// `hr`.
    pub hr: HResult,
    /// `playIncarnation`: the one of the StartPlaying it answers.
    pub play_incarnation: u32,
}

impl ReportStartedPlaying {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportStartedPlaying", body);
        let hr = HResult(r.u32()?);
        let play_incarnation = r.u32()?;
        r.skip(4 + 4 + 12)?; // tigerFileId, unused1, unused2
        Ok(Self { hr, play_incarnation })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.play_incarnation.to_le_bytes());
        out.extend([0; 4 + 4 + 12]); // tigerFileId, unused1, unused2
    }
}

/// `LinkMacToViewerReportStartStriding`, [MS-MMSP] 2.2.4.11.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportStartStriding {
    /// `hr`.
    pub hr: HResult,
    /// `playIncarnation`: the one of the StartStriding it answers.
    pub play_incarnation: u32,
}

impl ReportStartStriding {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportStartStriding", body);
        let hr = HResult(r.u32()?);
        let play_incarnation = r.u32()?;
        r.skip(4)?; // spare
        Ok(Self { hr, play_incarnation })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.play_incarnation.to_le_bytes());
        out.extend([0; 4]); // spare
    }
}

/// `LinkMacToViewerReportStreamChange`, [MS-MMSP] 2.2.4.12. Its `dwTcpHdrIncarnation` is always
/// [`Incarnation::UNREQUESTED`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportStreamChange {
    /// `hr`.
    pub hr: HResult,
    /// `cbPacketSize`: bytes of the new entry's largest ASF data packet.
    pub packet_size: u32,
    /// `cbHeaderSize`: bytes of its ASF file header.
    pub header_size: u32,
    /// `dwBitRate` in bits per second: the sum over its streams.
    pub bit_rate: u32,
}

impl ReportStreamChange {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportStreamChange", body);
        let hr = HResult(r.u32()?);
        r.skip(4)?; // dwTcpHdrIncarnation
        let packet_size = r.u32()?;
        let header_size = r.u32()?;
        let bit_rate = r.u32()?;
        r.skip(4)?; // dwStreamId
        Ok(Self { hr, packet_size, header_size, bit_rate })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(u32::from(Incarnation::UNREQUESTED.get()).to_le_bytes()); // dwTcpHdrIncarnation
        out.extend(self.packet_size.to_le_bytes());
        out.extend(self.header_size.to_le_bytes());
        out.extend(self.bit_rate.to_le_bytes());
        out.extend([0; 4]); // dwStreamId
    }
}

/// `LinkMacToViewerReportStreamSwitch`, [MS-MMSP] 2.2.4.13. Nothing but the order ties it to its request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportStreamSwitch {
    /// `hr`.
    pub hr: HResult,
}

impl ReportStreamSwitch {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportStreamSwitch", body);
        Ok(Self { hr: HResult(r.u32()?) })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
    }
}
