//! The Data packet, [MS-MMSP] 2.2.2: 8 bytes before a piece of the ASF file header, an ASF data packet, or the random bytes
//! of a packet pair. The same on TCP and as a UDP datagram; only servers send it.

use bytes::Bytes;

use super::ids::{Incarnation, LocationId};
use crate::wire::codec::{DecodeError, Reader, check};

/// Bytes before the payload.
pub const HEADER_LEN: usize = 8;
/// The longest payload: `PacketSize` has 16 bits and counts the header.
pub const MAX_PAYLOAD: usize = 65_527;

/// `AFFlags` of a piece of the ASF file header that is not the last. 2.2.2 allows 0x00 in the middle, but ffmpeg goes on only
/// after 0x04.
pub const AF_HEADER: u8 = 0x04;
/// `AFFlags` of the last, or only, piece of the ASF file header. Other servers send 0x08 as the last of several: bit 3 is
/// what tells.
pub const AF_HEADER_LAST: u8 = 0x0C;
/// `AFFlags` of a packet-pair packet.
pub const AF_PACKET_PAIR: u8 = 0x10;

/// A Data packet; its payload shares the buffer it was received into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Data {
    /// `LocationId`.
    pub location_id: LocationId,
    /// `playIncarnation`, as it came.
    pub play_incarnation: Incarnation,
    /// `AFFlags`: one of the `AF_` values, or for an ASF data packet the low byte of its sequence number.
    pub af_flags: u8,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

impl Data {
    /// Reads a packet: a datagram, or what the deframer cut out. Bytes behind its `PacketSize` are dropped.
    pub fn decode(packet: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("Data", packet);
        let location_id = LocationId(r.u32()?);
        let play_incarnation = Incarnation::from_wire(r.u8()?);
        let af_flags = r.u8()?;
        let payload_len = payload_len(r.u16()?)?;
        let payload = packet.slice_ref(r.bytes(payload_len)?);
        Ok(Self { location_id, play_incarnation, af_flags, payload })
    }

    /// The 8 bytes to send before the payload.
    pub fn header(&self) -> [u8; HEADER_LEN] {
        encode_header(self.location_id, self.play_incarnation, self.af_flags, self.payload.len())
    }
}

/// The 8 bytes to send before a payload of `payload_len` bytes, which must be at most [`MAX_PAYLOAD`].
pub fn encode_header(
    location_id: LocationId,
    play_incarnation: Incarnation,
    af_flags: u8,
    payload_len: usize,
) -> [u8; HEADER_LEN] {
    debug_assert!(payload_len <= MAX_PAYLOAD, "a payload of {payload_len} bytes");
    let [l0, l1, l2, l3] = location_id.0.to_le_bytes();
    let [s0, s1] = u16::try_from(payload_len.saturating_add(HEADER_LEN)).unwrap_or(u16::MAX).to_le_bytes();
    [l0, l1, l2, l3, play_incarnation.get(), af_flags, s0, s1]
}

/// What is left of a `PacketSize` for the payload.
pub(super) fn payload_len(packet_size: u16) -> Result<usize, DecodeError> {
    check(usize::from(packet_size) >= HEADER_LEN, "PacketSize", packet_size, "8 or more", "2.2.2")?;
    Ok(usize::from(packet_size).saturating_sub(HEADER_LEN))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hand-written: the third packet of a file, tagged for ffmpeg's StartPlaying, with a payload of three bytes.
    const PACKET: &[u8] = &[0x02, 0x00, 0x00, 0x00, 0x04, 0x02, 0x0B, 0x00, 0x82, 0x00, 0x00];

    #[test]
    fn a_packet_is_read_and_its_header_written() {
        let data = Data::decode(&Bytes::from_static(PACKET)).unwrap();
        assert_eq!(data.location_id, LocationId(2));
        assert_eq!(data.play_incarnation.get(), 4);
        assert_eq!(data.af_flags, 2);
        assert_eq!(data.payload, [0x82, 0, 0].as_slice());
        assert_eq!(data.header(), PACKET[..8]);
    }

    #[test]
    fn a_payload_shares_the_bytes_of_its_packet() {
        let packet = Bytes::from_static(PACKET);
        assert_eq!(Data::decode(&packet).unwrap().payload.as_ptr(), packet[8..].as_ptr());
    }

    #[test]
    fn a_packet_size_below_its_own_header_is_refused() {
        let refused = Data::decode(&Bytes::from_static(&[0, 0, 0, 0, 4, 0, 7, 0])).unwrap_err();
        assert_eq!(refused.to_string(), "PacketSize is 0x7, want 8 or more ([MS-MMSP] 2.2.2)");
    }

    #[test]
    fn a_datagram_cut_short_is_refused() {
        let refused = Data::decode(&Bytes::from_static(&PACKET[..10])).unwrap_err();
        assert_eq!(refused.to_string(), "Data is cut short: 3 bytes wanted, 2 left");
    }

    #[test]
    fn the_longest_payload_fits_its_size_field() {
        let header =
            encode_header(LocationId::PACKET_PAIR_FIRST, Incarnation::UNREQUESTED, AF_PACKET_PAIR, MAX_PAYLOAD);
        assert_eq!(header, [0x00, 0xF0, 0xF0, 0xF0, 0xFF, 0x10, 0xFF, 0xFF]);
    }

    proptest! {
        #[test]
        fn any_datagram_decodes_or_errs_and_comes_back(packet: Vec<u8>) {
            if let Ok(data) = Data::decode(&Bytes::from(packet)) {
                let again: Bytes = [&data.header(), &data.payload[..]].concat().into();
                prop_assert_eq!(Data::decode(&again), Ok(data));
            }
        }
    }
}
