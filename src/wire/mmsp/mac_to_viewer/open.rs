//! A server's answers while content is opened and its header read: [MS-MMSP] 2.2.4.7 to 2.2.4.9, 2.2.4.14.

use bytes::Bytes;

use crate::wire::{
    codec::{DecodeError, Reader, check, put_utf16, utf16_until_nul},
    mmsp::{
        exchange,
        ids::{FileAttributes, FileId, HResult},
    },
};

/// `LinkMacToViewerReportOpenFile`, [MS-MMSP] 2.2.4.7. A failure carries all fields too: players read them at their offsets.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportOpenFile {
    /// `hr`.
    pub hr: HResult,
    /// `playIncarnation`: the one of the OpenFile or SecurityResponse it answers.
    pub play_incarnation: u32,
    /// `openFileId`: VLC goes on only with 1 or 2 and never looks at `hr`.
    pub open_file_id: FileId,
    /// `fileAttributes`.
    pub file_attributes: FileAttributes,
    /// `fileDuration` in seconds, without preroll; 0 if unknown. A DOUBLE: any bits may come, NaN too.
    pub file_duration: f64,
    /// `fileBlocks`: `fileDuration` rounded up.
    pub file_blocks: u32,
    /// `filePacketSize`: bytes of the largest ASF data packet.
    pub file_packet_size: u32,
    /// `filePacketCount`: ASF data packets in the file; 0 if unknown.
    pub file_packet_count: u64,
    /// `fileBitRate` in bits per second: the sum over all streams.
    pub file_bit_rate: u32,
    /// `fileHeaderSize`: bytes of the ASF file header, up to the first data packet.
    pub file_header_size: u32,
}

impl ReportOpenFile {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportOpenFile", body);
        let hr = HResult(r.u32()?);
        let play_incarnation = r.u32()?;
        let open_file_id = FileId(r.u32()?);
        r.skip(4 + 4)?; // padding, fileName
        let file_attributes = FileAttributes(r.u32()?);
        let file_duration = r.f64()?;
        let file_blocks = r.u32()?;
        r.skip(16)?; // unused1
        let file_packet_size = r.u32()?;
        let file_packet_count = r.u64()?;
        let file_bit_rate = r.u32()?;
        let file_header_size = r.u32()?;
        r.skip(36)?; // unused2
        Ok(Self {
            hr,
            play_incarnation,
            open_file_id,
            file_attributes,
            file_duration,
            file_blocks,
            file_packet_size,
            file_packet_count,
            file_bit_rate,
            file_header_size,
        })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.play_incarnation.to_le_bytes());
        out.extend(self.open_file_id.0.to_le_bytes());
        out.extend([0; 4 + 4]); // padding, fileName
        out.extend(self.file_attributes.0.to_le_bytes());
        out.extend(self.file_duration.to_le_bytes());
        out.extend(self.file_blocks.to_le_bytes());
        out.extend([0; 16]); // unused1
        out.extend(self.file_packet_size.to_le_bytes());
        out.extend(self.file_packet_count.to_le_bytes());
        out.extend(self.file_bit_rate.to_le_bytes());
        out.extend(self.file_header_size.to_le_bytes());
        out.extend([0; 36]); // unused2
    }
}

/// `LinkMacToViewerReportReadBlock`, [MS-MMSP] 2.2.4.8.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportReadBlock {
    /// `hr`.
    pub hr: HResult,
    /// `playIncarnation`: the one of the ReadBlock it answers.
    pub play_incarnation: u32,
}

impl ReportReadBlock {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportReadBlock", body);
        let hr = HResult(r.u32()?);
        let play_incarnation = r.u32()?;
        r.skip(4)?; // playSequence
        Ok(Self { hr, play_incarnation })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.play_incarnation.to_le_bytes());
        out.extend([0; 4]); // playSequence
    }
}

/// `LinkMacToViewerReportRedirect`, [MS-MMSP] 2.2.4.9.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportRedirect {
    /// `hr`.
    pub hr: HResult,
    /// `RedirectType`: one of the two constants.
    pub redirect_type: u16,
    /// `wszLocation`: a URL without percent-encoding, cut after [`ReportRedirect::MAX_LOCATION`] UTF-16 units; empty in a type 2
    /// that means "without a proxy".
    pub location: String,
}

impl ReportRedirect {
    /// `location` is the content's other URL.
    pub const OTHER_URL: u16 = 1;
    /// `location` is another proxy, or none.
    pub const OTHER_PROXY: u16 = 2;
    /// UTF-16 units of a location: with its NUL it still fits `cbLocation`.
    pub const MAX_LOCATION: usize = 32_766;

    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportRedirect", body);
        let hr = HResult(r.u32()?);
        let redirect_type = r.u16()?;
        let location_len = r.u16()?;
        check(
            usize::from(location_len) / 2 <= Self::MAX_LOCATION,
            "cbLocation",
            location_len,
            "65533 or less",
            "2.2.4.9",
        )?;
        let location = utf16_until_nul(r.bytes(usize::from(location_len))?);
        Ok(Self { hr, redirect_type, location })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.redirect_type.to_le_bytes());
        let mut location = Vec::new();
        put_utf16(&mut location, self.location.split('\0').next().unwrap_or_default());
        location.truncate(Self::MAX_LOCATION.saturating_mul(2));
        location.extend([0, 0]);
        out.extend(u16::try_from(location.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.append(&mut location);
    }
}

/// `LinkMacToViewerSecurityChallenge`, [MS-MMSP] 2.2.4.14. It has no `hr`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecurityChallenge {
    /// `playIncarnation`: the one of the OpenFile or SecurityResponse it answers.
    pub play_incarnation: u32,
    /// `cookie`: comes back in the SecurityResponse.
    pub cookie: u32,
    /// `pToken`: for NTLM two zero bytes and a message, for Basic the realm.
    pub token: Bytes,
}

impl SecurityChallenge {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let (play_incarnation, cookie, token) = exchange::decode("SecurityChallenge", body)?;
        Ok(Self { play_incarnation, cookie, token })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        exchange::encode(self.play_incarnation, self.cookie, &self.token, out);
    }
}
