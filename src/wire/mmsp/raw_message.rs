//! One MMS message before anyone looked into it: `chunkLen`, `MID` and a body, [MS-MMSP] 2.2.4. Apart from the messages
//! themselves, because packing and padding are the same for all.

use std::iter;

use bytes::Bytes;

use super::header::TcpMessageHeader;
use crate::wire::codec::{DecodeError, Reader, check, len_u32, padding_to_8};

/// Bytes of `chunkLen` and `MID`.
const HEAD_LEN: usize = 8;

/// A message as the deframer cuts it out of its packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawMessage {
    /// `MID`: direction in the high half, which message in the low one.
    pub mid: u32,
    /// What follows `MID` up to the end of the message, padding included. Nobody says how much of it is padding, and what
    /// stands there may be anything.
    pub body: Bytes,
}

impl RawMessage {
    /// Takes the first message off a message area. On an error `area` is unchanged.
    pub fn take_from(area: &mut Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("MMS message", area);
        let chunk_len = r.u32()?;
        let mid = r.u32()?;
        check(chunk_len >= 1, "chunkLen", chunk_len, "1 or more", "2.2.4")?;
        let len = usize::try_from(u64::from(chunk_len).saturating_mul(8)).unwrap_or(usize::MAX);
        r.skip(len.saturating_sub(HEAD_LEN))?;
        let body = area.split_to(len).split_off(HEAD_LEN);
        Ok(Self { mid, body })
    }

    /// Appends a whole packet with this one message to `out`: 2.2.3 lets a packet carry several, but clients must and
    /// servers should send one.
    pub fn encode(&self, seq: u16, out: &mut Vec<u8>) {
        let padding = padding_to_8(self.body.len());
        let len = HEAD_LEN.saturating_add(self.body.len()).saturating_add(padding);
        TcpMessageHeader::for_messages(len, seq).encode(out);
        out.extend(len_u32(len / 8).to_le_bytes());
        out.extend(self.mid.to_le_bytes());
        out.extend_from_slice(&self.body);
        out.extend(iter::repeat_n(0, padding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_one_by_one() {
        let mut area = Bytes::from_static(&[1, 0, 0, 0, 7, 0, 3, 0, 2, 0, 0, 0, 0x1B, 0, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let first = RawMessage::take_from(&mut area);
        assert_eq!(first, Ok(RawMessage { mid: 0x0003_0007, body: Bytes::new() }));
        let second = RawMessage::take_from(&mut area);
        assert_eq!(second, Ok(RawMessage { mid: 0x0003_001B, body: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]) }));
        assert!(area.is_empty());
    }

    #[test]
    fn a_message_of_no_chunks_is_refused() {
        let mut area = Bytes::from_static(&[0, 0, 0, 0, 0x1B, 0, 3, 0]);
        let refused = RawMessage::take_from(&mut area).unwrap_err();
        assert_eq!(refused.to_string(), "chunkLen is 0x0, want 1 or more ([MS-MMSP] 2.2.4)");
    }

    #[test]
    fn a_message_longer_than_its_packet_is_refused() {
        let mut area = Bytes::from_static(&[3, 0, 0, 0, 0x1B, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let refused = RawMessage::take_from(&mut area).unwrap_err();
        assert_eq!(refused.to_string(), "MMS message is cut short: 16 bytes wanted, 8 left");
        let mut area = Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFF, 0x1B, 0, 3, 0]);
        assert!(RawMessage::take_from(&mut area).is_err());
        assert_eq!(area.len(), 8);
    }

    #[test]
    fn a_body_is_padded_with_zeros() {
        let mut out = vec![0xAA];
        RawMessage { mid: 0x0003_0018, body: Bytes::from_static(&[1, 2, 3]) }.encode(7, &mut out);
        assert_eq!(out.len(), 1 + 48);
        assert_eq!(out[33..], [2, 0, 0, 0, 0x18, 0, 3, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
        assert_eq!(TcpMessageHeader::decode(&out[1..]), Ok(TcpMessageHeader { message_length: 32, seq: 7 }));
    }
}
