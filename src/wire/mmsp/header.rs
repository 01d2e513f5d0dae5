//! `TcpMessageHeader`, [MS-MMSP] 2.2.3: the 32 bytes before the messages of every packet on TCP that is not a Data packet.

use crate::wire::codec::{DecodeError, Reader, check, len_u32};

/// Bytes of a header.
pub const LEN: usize = 32;
/// Bytes of a header up to and including `seal`: enough to know that it is one, and how long its packet is.
pub const PREFIX_LEN: usize = 16;
/// `sessionId`, at offset 4 where a Data packet has other things: what tells the two apart.
pub const SESSION_ID: u32 = 0xB00B_FACE;
/// `seal`: `MMS ` in ASCII.
pub const SEAL: u32 = 0x2053_4D4D;

/// What a header says that its receiver uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TcpMessageHeader {
    /// `messageLength`: bytes of the message area plus 16.
    pub message_length: u32,
    /// `seq`: counts the packets of one direction from 0. For the log: nothing may depend on it.
    pub seq: u16,
}

impl TcpMessageHeader {
    /// For a message area of `len` bytes.
    pub fn for_messages(len: usize, seq: u16) -> Self {
        Self { message_length: len_u32(len.saturating_add(PREFIX_LEN)), seq }
    }

    /// Reads a whole header.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("TcpMessageHeader", bytes);
        let message_length = Self::decode_prefix(r.bytes(PREFIX_LEN)?)?;
        // Read past: total/8 by the text of 2.2.3, (total - 16)/8 from everyone who ships, checked by nobody.
        let _chunk_count = r.u32()?;
        let seq = r.u16()?;
        // MBZ and timeSent: the latter is a DOUBLE in seconds from old players and uninitialised from WMS 9.
        r.skip(2 + 8)?;
        Ok(Self { message_length, seq })
    }

    /// Reads `messageLength` from the first [`PREFIX_LEN`] bytes, as soon as they are there.
    pub fn decode_prefix(bytes: &[u8]) -> Result<u32, DecodeError> {
        let mut r = Reader::new("TcpMessageHeader", bytes);
        let rep = r.u8()?;
        let version = r.u8()?;
        let version_minor = r.u8()?;
        let _padding = r.u8()?;
        let session_id = r.u32()?;
        let message_length = r.u32()?;
        let seal = r.u32()?;
        check(session_id == SESSION_ID, "sessionId", session_id, "0xB00BFACE", "2.2.3")?;
        check(rep == 1, "rep", rep, "1", "2.2.3")?;
        check(version == 0, "version", version, "0", "2.2.3")?;
        check(version_minor == 0, "versionMinor", version_minor, "0", "2.2.3")?;
        check(seal == SEAL, "seal", seal, "0x20534D4D", "2.2.3")?;
        check(
            message_length >= 16 && message_length.is_multiple_of(8),
            "messageLength",
            message_length,
            "16 plus a multiple of 8",
            "2.2.3",
        )?;
        Ok(message_length)
    }

    /// Whether the first [`PREFIX_LEN`] bytes carry all that makes them a header: `sessionId` alone may be chance.
    pub fn is_signed(bytes: &[u8]) -> bool {
        matches!(bytes, [1, 0, 0, _, 0xCE, 0xFA, 0x0B, 0xB0, _, _, _, _, b'M', b'M', b'S', b' ', ..])
    }

    /// Bytes of the packet, header included.
    pub fn packet_len(message_length: u32) -> u64 {
        u64::from(message_length).saturating_add(PREFIX_LEN as u64)
    }

    /// Appends the header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend([1, 0, 0, 0]);
        out.extend(SESSION_ID.to_le_bytes());
        out.extend(self.message_length.to_le_bytes());
        out.extend(SEAL.to_le_bytes());
        // chunkCount: the text of 2.2.3 says the whole packet, every sender counts from here to the end, and one
        // GStreamer plugin sizes its reads by that.
        out.extend((self.message_length / 8).to_le_bytes());
        out.extend(self.seq.to_le_bytes());
        out.extend([0; 2 + 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hand-written after the published capture of WMS 4.1.0.3930's ReportConnectedEX: 128 bytes in all.
    const CAPTURED: [u8; LEN] = [
        0x01, 0x00, 0x00, 0x00, 0xCE, 0xFA, 0x0B, 0xB0, 0x70, 0x00, 0x00, 0x00, 0x4D, 0x4D, 0x53, 0x20, //
        0x0E, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];

    fn with(offset: usize, byte: u8) -> [u8; LEN] {
        let mut bytes = CAPTURED;
        bytes[offset] = byte;
        bytes
    }

    #[test]
    fn a_header_is_written_as_captured() {
        let header = TcpMessageHeader::for_messages(96, 0);
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!(out, CAPTURED);
        assert_eq!(TcpMessageHeader::decode(&out), Ok(header));
        assert!(TcpMessageHeader::is_signed(&out));
        assert_eq!(TcpMessageHeader::packet_len(header.message_length), 128);
    }

    #[test]
    fn junk_where_it_has_been_seen_is_read_past() {
        for offset in [3, 16, 22, 24, 31] {
            assert!(TcpMessageHeader::decode(&with(offset, 0xFD)).is_ok(), "{offset}");
            assert!(TcpMessageHeader::is_signed(&with(offset, 0xFD)), "{offset}");
        }
    }

    #[test]
    fn a_wrong_signature_is_refused() {
        let refusal = |offset, byte| TcpMessageHeader::decode(&with(offset, byte)).unwrap_err().to_string();
        assert_eq!(refusal(0, 2), "rep is 0x2, want 1 ([MS-MMSP] 2.2.3)");
        assert_eq!(refusal(1, 1), "version is 0x1, want 0 ([MS-MMSP] 2.2.3)");
        assert_eq!(refusal(2, 1), "versionMinor is 0x1, want 0 ([MS-MMSP] 2.2.3)");
        assert_eq!(refusal(4, 0), "sessionId is 0xb00bfa00, want 0xB00BFACE ([MS-MMSP] 2.2.3)");
        assert_eq!(refusal(12, 0), "seal is 0x20534d00, want 0x20534D4D ([MS-MMSP] 2.2.3)");
        assert_eq!(refusal(8, 8), "messageLength is 0x8, want 16 plus a multiple of 8 ([MS-MMSP] 2.2.3)");
        assert_eq!(refusal(8, 0x71), "messageLength is 0x71, want 16 plus a multiple of 8 ([MS-MMSP] 2.2.3)");
    }

    #[test]
    fn a_short_header_is_refused() {
        let refused = TcpMessageHeader::decode(&CAPTURED[..31]).unwrap_err();
        assert_eq!(refused.to_string(), "TcpMessageHeader is cut short: 10 bytes wanted, 9 left");
    }
}
