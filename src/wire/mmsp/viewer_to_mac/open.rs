//! A client's requests to open content, read its header, and close it: [MS-MMSP] 2.2.4.15, 2.2.4.16, 2.2.4.21, 2.2.4.23,
//! 2.2.4.24. Tokens are credentials: `Debug` does not show them.

use std::fmt;

use bytes::Bytes;

use crate::wire::{
    codec::{DecodeError, Reader, check, len_u32, put_utf16_nul, utf16_until_nul},
    mmsp::{exchange, ids::FileId},
};

/// `LinkViewerToMacOpenFile`, [MS-MMSP] 2.2.4.21.
#[derive(Clone, Eq, PartialEq)]
pub struct OpenFile {
    /// `playIncarnation`, which the answer repeats. 0 from MPlayer, though 0x01 to 0xFE is legal.
    pub play_incarnation: u32,
    /// `fileName`: the path of the URL, unescaped by some players and not by others.
    pub file_name: String,
    /// `tokenData`: credentials, or empty.
    pub token_data: Bytes,
}

impl OpenFile {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("OpenFile", body);
        let play_incarnation = r.u32()?;
        r.skip(4)?; // spare
        let token = r.u32()?;
        let token_len = r.u32()?;
        if token_len == 0 {
            let file_name = utf16_until_nul(r.rest());
            return Ok(Self { play_incarnation, file_name, token_data: Bytes::new() });
        }
        check(token >= 2, "token", token, "2 or more before tokenData", "2.2.4.21")?;
        // The 2009 text wants no NUL in fileName, so it may be tokenData that ends it.
        let file_name = utf16_until_nul(r.bytes(usize::try_from(token).unwrap_or(usize::MAX))?);
        let token_data = body.slice_ref(r.bytes(usize::try_from(token_len).unwrap_or(usize::MAX))?);
        Ok(Self { play_incarnation, file_name, token_data })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        let mut file_name = Vec::new();
        put_utf16_nul(&mut file_name, &self.file_name);
        let token = if self.token_data.is_empty() { 0 } else { len_u32(file_name.len()) };
        out.extend(self.play_incarnation.to_le_bytes());
        out.extend([0; 4]); // spare
        out.extend(token.to_le_bytes());
        out.extend(len_u32(self.token_data.len()).to_le_bytes());
        out.append(&mut file_name);
        out.extend_from_slice(&self.token_data);
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile")
            .field("play_incarnation", &self.play_incarnation)
            .field("file_name", &self.file_name)
            .field("token_data", &Secret(&self.token_data))
            .finish()
    }
}

/// `LinkViewerToMacSecurityResponse`, [MS-MMSP] 2.2.4.24.
#[derive(Clone, Eq, PartialEq)]
pub struct SecurityResponse {
    /// `playIncarnation`: the one of the SecurityChallenge it answers.
    pub play_incarnation: u32,
    /// `cookie`: the one of the SecurityChallenge it answers.
    pub cookie: u32,
    /// `pToken`: credentials.
    pub token: Bytes,
}

impl SecurityResponse {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let (play_incarnation, cookie, token) = exchange::decode("SecurityResponse", body)?;
        Ok(Self { play_incarnation, cookie, token })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        exchange::encode(self.play_incarnation, self.cookie, &self.token, out);
    }
}

impl fmt::Debug for SecurityResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityResponse")
            .field("play_incarnation", &self.play_incarnation)
            .field("cookie", &self.cookie)
            .field("token", &Secret(&self.token))
            .finish()
    }
}

/// Shows how much there is of a secret.
struct Secret<'a>(&'a [u8]);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// `LinkViewerToMacReadBlock`, [MS-MMSP] 2.2.4.23. Its other fields ask for a part of the header; a server sends all of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadBlock {
    /// `openFileId`.
    pub open_file_id: FileId,
    /// `playIncarnation`, which the answer repeats and the Data packets of the header carry.
    pub play_incarnation: u32,
}

impl ReadBlock {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReadBlock", body);
        let open_file_id = FileId(r.u32()?);
        r.skip(4 + 4 + 4 + 4 + 4 + 8 + 8)?; // fileBlockId, offset, length, flags, padding, tEarliest, tDeadline
        let play_incarnation = r.u32()?;
        r.skip(4)?; // playSequence
        Ok(Self { open_file_id, play_incarnation })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.open_file_id.0.to_le_bytes());
        out.extend(0_u32.to_le_bytes()); // fileBlockId
        out.extend(0_u32.to_le_bytes()); // offset
        out.extend(0x8000_u32.to_le_bytes()); // length
        out.extend(0xFFFF_FFFF_u32.to_le_bytes()); // flags
        out.extend(0_u32.to_le_bytes()); // padding
        out.extend(0.0_f64.to_le_bytes()); // tEarliest
        out.extend(3600.0_f64.to_le_bytes()); // tDeadline
        out.extend(self.play_incarnation.to_le_bytes());
        out.extend(0_u32.to_le_bytes()); // playSequence
    }
}

/// `LinkViewerToMacCancelReadBlock`, [MS-MMSP] 2.2.4.15.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CancelReadBlock {
    /// `playIncarnation`: the one of the ReadBlock to cancel.
    pub play_incarnation: u32,
}

impl CancelReadBlock {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("CancelReadBlock", body);
        Ok(Self { play_incarnation: r.u32()? })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.play_incarnation.to_le_bytes());
    }
}

/// `LinkViewerToMacCloseFile`, [MS-MMSP] 2.2.4.16.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseFile {
    /// `openFileId`.
    pub open_file_id: FileId,
}

impl CloseFile {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("CloseFile", body);
        r.skip(4)?; // playIncarnation
        Ok(Self { open_file_id: FileId(r.u32()?) })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend([0; 4]); // playIncarnation
        out.extend(self.open_file_id.0.to_le_bytes());
    }
}
