//! A client's requests until the funnel stands: [MS-MMSP] 2.2.4.17 to 2.2.4.19.

use bytes::Bytes;

use crate::wire::{
    codec::{DecodeError, Reader, put_utf16_nul, utf16_until_nul, utf16_with_nuls},
    mmsp::{ids::PacketPairMode, subscriber_name::SubscriberName},
};

/// `LinkViewerToMacConnect`, [MS-MMSP] 2.2.4.17.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connect {
    /// `playIncarnation`: whether a bandwidth measurement is wanted.
    pub play_incarnation: PacketPairMode,
    /// `subscriberName`.
    pub subscriber_name: SubscriberName,
}

impl Connect {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("Connect", body);
        let play_incarnation = PacketPairMode(r.u32()?);
        r.skip(4 + 4)?; // MacToViewerProtocolRevision, ViewerToMacProtocolRevision
        let subscriber_name = SubscriberName::parse(&utf16_with_nuls(r.rest()));
        Ok(Self { play_incarnation, subscriber_name })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.play_incarnation.0.to_le_bytes());
        out.extend(0x0004_000B_u32.to_le_bytes()); // MacToViewerProtocolRevision
        out.extend(0x0003_001C_u32.to_le_bytes()); // ViewerToMacProtocolRevision
        out.append(&mut self.subscriber_name.to_wire());
    }
}

/// `LinkViewerToMacFunnelInfo`, [MS-MMSP] 2.2.4.19.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FunnelInfo {
    /// `playIncarnation`: which bandwidth measurement is wanted.
    pub play_incarnation: PacketPairMode,
}

impl FunnelInfo {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("FunnelInfo", body);
        Ok(Self { play_incarnation: PacketPairMode(r.u32()?) })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.play_incarnation.0.to_le_bytes());
    }
}

/// `LinkViewerToMacConnectFunnel`, [MS-MMSP] 2.2.4.18.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectFunnel {
    /// `funnelName`: see [`FunnelName`](crate::wire::mmsp::funnel_name::FunnelName). Kept as text, because one that names no
    /// funnel gets an answer of its own.
    pub funnel_name: String,
    /// `maxBitRate` in bits per second; 0x00989680 by the specification, and believed by nobody.
    pub max_bit_rate: u32,
}

impl ConnectFunnel {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ConnectFunnel", body);
        r.skip(4 + 4 + 4)?; // playIncarnation, maxBlockBytes, maxFunnelBytes
        let max_bit_rate = r.u32()?;
        r.skip(4)?; // funnelMode
        let funnel_name = utf16_until_nul(r.rest());
        Ok(Self { funnel_name, max_bit_rate })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(0_u32.to_le_bytes()); // playIncarnation
        out.extend(0xFFFF_FFFF_u32.to_le_bytes()); // maxBlockBytes
        out.extend(0_u32.to_le_bytes()); // maxFunnelBytes
        out.extend(self.max_bit_rate.to_le_bytes());
        out.extend(2_u32.to_le_bytes()); // funnelMode
        put_utf16_nul(out, &self.funnel_name);
    }
}
