//! A server's answers until the funnel stands: [MS-MMSP] 2.2.4.2 to 2.2.4.4, 2.2.4.6.

use bytes::Bytes;

use crate::wire::{
    codec::{DecodeError, Reader, len_u32, put_utf16_nul, utf16_until_nul},
    mmsp::ids::{ClientId, HResult, PacketPairMode},
};

/// `LinkMacToViewerReportConnectedEX`, [MS-MMSP] 2.2.4.2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportConnectedEx {
    /// `hr`: on a failure the client ends.
    pub hr: HResult,
    /// `playIncarnation`: `USE` only to a client that asked for it, else `DISABLE`.
    pub play_incarnation: PacketPairMode,
    /// `ServerVersionInfo`, as `4.1.0.3930`. Clients choose by its major number what they send, WMP 9 whether it stays.
    pub server_version_info: String,
    /// `VersionInfo`: the version of an offered upgrade, or empty.
    pub version_info: String,
    /// `VersionUrl`: where the upgrade is, or empty.
    pub version_url: String,
    /// `AuthenPackage`: `BASIC` or `NTLM`; empty means that no challenge will come.
    pub authen_package: String,
}

impl ReportConnectedEx {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportConnectedEX", body);
        let hr = HResult(r.u32()?);
        let play_incarnation = PacketPairMode(r.u32()?);
        // Both protocol revisions, blockGroupPlayTime, blockGroupBlocks, nMaxOpenFiles, nBlockMaxBytes, maxBitRate.
        r.skip(4 + 4 + 8 + 4 + 4 + 4 + 4)?;
        // Characters, NUL included; 0 for none, though WMS 4.1 leaves room for one even then.
        let counts = [r.u32()?, r.u32()?, r.u32()?, r.u32()?];
        let mut string = |count: u32| {
            let len = usize::try_from(u64::from(count).saturating_mul(2)).unwrap_or(usize::MAX);
            r.bytes(len).map(utf16_until_nul)
        };
        let [server_version_info, version_info, version_url, authen_package] = counts;
        Ok(Self {
            hr,
            play_incarnation,
            server_version_info: string(server_version_info)?,
            version_info: string(version_info)?,
            version_url: string(version_url)?,
            authen_package: string(authen_package)?,
        })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.play_incarnation.0.to_le_bytes());
        out.extend(0x0004_000B_u32.to_le_bytes()); // MacToViewerProtocolRevision
        out.extend(0x0003_001C_u32.to_le_bytes()); // ViewerToMacProtocolRevision
        out.extend(1.0_f64.to_le_bytes()); // blockGroupPlayTime
        out.extend(1_u32.to_le_bytes()); // blockGroupBlocks
        out.extend(1_u32.to_le_bytes()); // nMaxOpenFiles
        out.extend(0x8000_u32.to_le_bytes()); // nBlockMaxBytes
        out.extend(0x0098_9680_u32.to_le_bytes()); // maxBitRate
        let mut strings = Vec::new();
        for text in [&self.server_version_info, &self.version_info, &self.version_url, &self.authen_package] {
            let before = strings.len();
            if !text.is_empty() {
                put_utf16_nul(&mut strings, text);
            }
            out.extend(len_u32(strings.len().saturating_sub(before) / 2).to_le_bytes());
        }
        out.append(&mut strings);
    }
}

/// `LinkMacToViewerReportConnectedFunnel`, [MS-MMSP] 2.2.4.3.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportConnectedFunnel {
    /// `hr`.
    pub hr: HResult,
}

impl ReportConnectedFunnel {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportConnectedFunnel", body);
        let hr = HResult(r.u32()?);
        // playIncarnation, packetPayloadSize. funnelName is not compared: WMS 4.1 sends `Funnel Of The `.
        r.skip(4 + 4)?;
        Ok(Self { hr })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend([0; 4 + 4]); // playIncarnation, packetPayloadSize
        // jlibmms knows two lengths of this message: with a NUL, messageLength is 80, which is one of them.
        put_utf16_nul(out, "Funnel Of The Gods");
    }
}

/// `LinkMacToViewerReportDisconnectedFunnel`, [MS-MMSP] 2.2.4.4.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportDisconnectedFunnel {
    /// `hr`: why; the client may ask for the other protocol.
    pub hr: HResult,
}

impl ReportDisconnectedFunnel {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportDisconnectedFunnel", body);
        let hr = HResult(r.u32()?);
        r.skip(4)?; // playIncarnation
        Ok(Self { hr })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend([0; 4]); // playIncarnation
    }
}

/// `LinkMacToViewerReportFunnelInfo`, [MS-MMSP] 2.2.4.6.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportFunnelInfo {
    /// `hr`.
    pub hr: HResult,
    /// `playIncarnation`: the measurement that will be made.
    pub play_incarnation: PacketPairMode,
    /// `nCubs`.
    pub client_id: ClientId,
    /// `cubddDatagramSize`: 0; WebTV wants the bytes of a Data packet.
    pub cubdd_datagram_size: u32,
    /// Random bytes of a packet pair over TCP, a multiple of 8; empty unless the mode is `TCP_HIGH_ENTROPY` or `USE`.
    pub packet_pair: Bytes,
}

impl ReportFunnelInfo {
    pub(super) fn decode_body(body: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReportFunnelInfo", body);
        let hr = HResult(r.u32()?);
        let play_incarnation = PacketPairMode(r.u32()?);
        r.skip(4 + 4 + 4)?; // transportMask, nBlockFragments, fragmentBytes
        let client_id = ClientId(r.u32()?);
        r.skip(4 + 4 + 4)?; // failedCubs, nDisks, decluster
        let cubdd_datagram_size = r.u32()?;
        let packet_pair = if carries_packet_pair(play_incarnation) { body.slice_ref(r.rest()) } else { Bytes::new() };
        Ok(Self { hr, play_incarnation, client_id, cubdd_datagram_size, packet_pair })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend(self.hr.0.to_le_bytes());
        out.extend(self.play_incarnation.0.to_le_bytes());
        out.extend(8_u32.to_le_bytes()); // transportMask
        out.extend(1_u32.to_le_bytes()); // nBlockFragments
        out.extend(0x0001_0000_u32.to_le_bytes()); // fragmentBytes
        out.extend(self.client_id.0.to_le_bytes());
        out.extend(0_u32.to_le_bytes()); // failedCubs
        out.extend(1_u32.to_le_bytes()); // nDisks
        out.extend(0_u32.to_le_bytes()); // decluster
        out.extend(self.cubdd_datagram_size.to_le_bytes());
        if carries_packet_pair(self.play_incarnation) {
            out.extend_from_slice(&self.packet_pair);
        }
    }
}

/// Only then does more than padding follow the fixed fields of ReportFunnelInfo.
fn carries_packet_pair(mode: PacketPairMode) -> bool {
    matches!(mode, PacketPairMode::USE | PacketPairMode::TCP_HIGH_ENTROPY)
}
