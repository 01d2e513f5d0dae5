//! `RequestPacketListResend`, [MS-MMSP] 2.2.5: the one thing clients send over UDP, to the port number they reached on TCP.

use super::ids::{ClientId, FileId, Sequence};
use crate::wire::codec::{DecodeError, Reader, check};

/// `Signature`.
pub const SIGNATURE: u32 = 0xBEEF_F00D;

/// `RequestPacketListResend`, [MS-MMSP] 2.2.5: a client on UDP asks for lost Data packets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestPacketListResend {
    /// `dwClientId`: the `nCubs` that ReportFunnelInfo gave the client.
    pub client_id: ClientId,
    /// `wSourceId`: the low 16 bits of `openFileId`.
    pub source_id: u16,
    /// `dwBeginPacketList`: 1 to 32 numbers that packets were transmitted under, not their LocationIds.
    pub begin_packet_list: Vec<Sequence>,
}

impl RequestPacketListResend {
    /// Packets that one request may ask for.
    pub const MAX_PACKETS: usize = 32;

    /// Reads one UDP datagram. Bytes behind the list are dropped.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("RequestPacketListResend", datagram);
        let signature = r.u32()?;
        check(signature == SIGNATURE, "Signature", signature, "0xBEEFF00D", "2.2.5")?;
        let client_id = ClientId(r.u32()?);
        let source_id = r.u16()?;
        let count = r.u16()?;
        check((1..=32).contains(&count), "wNumPackets", count, "1 to 32", "2.2.5")?;
        let begin_packet_list = (0..count).map(|_| r.u32().map(Sequence)).collect::<Result<_, _>>()?;
        Ok(Self { client_id, source_id, begin_packet_list })
    }

    /// Appends the datagram to `out`. What exceeds [`Self::MAX_PACKETS`] is left out: it belongs into another request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let list = self.begin_packet_list.iter().take(Self::MAX_PACKETS);
        out.extend(SIGNATURE.to_le_bytes());
        out.extend(self.client_id.0.to_le_bytes());
        out.extend(self.source_id.to_le_bytes());
        out.extend(u16::try_from(list.len()).unwrap_or(u16::MAX).to_le_bytes());
        list.for_each(|sequence| out.extend(sequence.0.to_le_bytes()));
    }

    /// Whether `wSourceId` names `file`.
    pub fn is_for(&self, file: FileId) -> bool {
        u32::from(self.source_id) == file.0 & 0xFFFF
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hand-written: a request for the packets 0x1FE and 0x201 of file 1.
    const DATAGRAM: [u8; 20] = [
        0x0D, 0xF0, 0xEF, 0xBE, 0x04, 0x03, 0x02, 0x01, 0x01, 0x00, 0x02, 0x00, //
        0xFE, 0x01, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00,
    ];

    fn refusal(change: impl Fn(&mut Vec<u8>)) -> String {
        let mut datagram = DATAGRAM.to_vec();
        change(&mut datagram);
        RequestPacketListResend::decode(&datagram).unwrap_err().to_string()
    }

    #[test]
    fn a_request_for_two_packets() {
        let request = RequestPacketListResend {
            client_id: ClientId(0x0102_0304),
            source_id: 1,
            begin_packet_list: vec![Sequence(0x1FE), Sequence(0x201)],
        };
        assert_eq!(RequestPacketListResend::decode(&DATAGRAM), Ok(request.clone()));
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(out, DATAGRAM);
        assert!(request.is_for(FileId(0x0007_0001)));
        assert!(!request.is_for(FileId(2)));
    }

    #[test]
    fn a_request_for_no_packets_is_refused() {
        assert_eq!(refusal(|datagram| datagram[10] = 0), "wNumPackets is 0x0, want 1 to 32 ([MS-MMSP] 2.2.5)");
        assert_eq!(refusal(|datagram| datagram[10] = 33), "wNumPackets is 0x21, want 1 to 32 ([MS-MMSP] 2.2.5)");
    }

    #[test]
    fn a_datagram_that_is_no_request_is_refused() {
        let refused = refusal(|datagram| datagram[0] = 0);
        assert_eq!(refused, "Signature is 0xbeeff000, want 0xBEEFF00D ([MS-MMSP] 2.2.5)");
        let refused = refusal(|datagram| datagram.truncate(19));
        assert_eq!(refused, "RequestPacketListResend is cut short: 4 bytes wanted, 3 left");
    }

    #[test]
    fn a_list_that_is_too_long_is_cut() {
        let begin_packet_list = (0..40).map(Sequence).collect();
        let mut out = Vec::new();
        RequestPacketListResend { client_id: ClientId(0), source_id: 0, begin_packet_list }.encode(&mut out);
        assert_eq!(RequestPacketListResend::decode(&out).unwrap().begin_packet_list.len(), 32);
    }

    proptest! {
        #[test]
        fn any_datagram_decodes_or_errs_and_comes_back(count in 0..40u8, tail: Vec<u8>) {
            let datagram = [&DATAGRAM[..10], &[count, 0], &tail].concat();
            prop_assert!(RequestPacketListResend::decode(&tail).is_err());
            if let Ok(request) = RequestPacketListResend::decode(&datagram) {
                let mut out = Vec::new();
                request.encode(&mut out);
                prop_assert_eq!(RequestPacketListResend::decode(&out), Ok(request));
            }
        }
    }
}
