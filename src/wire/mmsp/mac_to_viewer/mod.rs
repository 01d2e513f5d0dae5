//! What servers say: `LinkMacToViewer…`, [MS-MMSP] 2.2.4.1 to 2.2.4.14, grouped by the step of a session they belong to.

mod connect;
mod open;
mod play;

pub use connect::{ReportConnectedEx, ReportConnectedFunnel, ReportDisconnectedFunnel, ReportFunnelInfo};
pub use open::{ReportOpenFile, ReportReadBlock, ReportRedirect, SecurityChallenge};
pub use play::{ReportEndOfStream, ReportStartStriding, ReportStartedPlaying, ReportStreamChange, ReportStreamSwitch};

use super::raw_message::RawMessage;
use crate::wire::codec::{DecodeError, Reader};

messages! {
    /// 2.2.4.2: answers Connect.
    0x0004_0001 ReportConnectedEx,
    /// 2.2.4.3: answers ConnectFunnel.
    0x0004_0002 ReportConnectedFunnel,
    /// 2.2.4.4: answers a ConnectFunnel that failed.
    0x0004_0003 ReportDisconnectedFunnel,
    /// 2.2.4.10: answers StartPlaying.
    0x0004_0005 ReportStartedPlaying,
    /// 2.2.4.7: answers OpenFile or SecurityResponse.
    0x0004_0006 ReportOpenFile,
    /// 2.2.4.11: answers StartStriding.
    0x0004_000A ReportStartStriding,
    /// 2.2.4.8: answers ReadBlock.
    0x0004_0011 ReportReadBlock,
    /// 2.2.4.6: answers FunnelInfo.
    0x0004_0015 ReportFunnelInfo,
    /// 2.2.4.14: answers OpenFile or SecurityResponse when credentials are wanted.
    0x0004_001A SecurityChallenge,
    /// 2.2.4.5: answers StopPlaying, or comes unasked at an end.
    0x0004_001E ReportEndOfStream,
    /// 2.2.4.12: the next playlist entry begins.
    0x0004_0020 ReportStreamChange,
    /// 2.2.4.13: answers StreamSwitch.
    0x0004_0021 ReportStreamSwitch,
    /// 2.2.4.9: answers OpenFile when the client should go elsewhere.
    0x0004_0022 ReportRedirect,
    bare
    /// 2.2.4.1: asks for a Pong.
    0x0004_001B Ping,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::mmsp::{
        ids::{ClientId, FileAttributes, FileId, HResult, PacketPairMode},
        testing::{any_message, hex, message},
    };

    fn encode(message: impl Into<Message>) -> Vec<u8> {
        let mut out = Vec::new();
        message.into().encode(0, &mut out);
        out
    }

    fn decode(packet: &[u8]) -> Message {
        Message::decode(&message(packet)).unwrap()
    }

    /// The message bytes of `expected`, hand-written from the tables of 2.2.4, are what `message` encodes to, and decode to it.
    fn assert_is(message: impl Into<Message>, expected: &str) {
        let message = message.into();
        let packet = encode(message.clone());
        assert_eq!(packet[32..], hex(expected), "{message:?}");
        assert_eq!(decode(&packet), message);
    }

    fn refusal(mid: u32, body: &str) -> String {
        Message::decode(&RawMessage { mid, body: hex(body).into() }).unwrap_err().to_string()
    }

    #[test]
    fn report_connected_ex_of_wms_4_1() {
        // Hand-written after the published capture of WMS 4.1.0.3930: ten bytes of padding where two would do.
        let captured = hex("01000000 cefa0bb0 70000000 4d4d5320 0e000000 0000 0000 0000000000000000 \
             0c000000 01000400 00000000 eff0f0f0 0b000400 1c000300 000000000000f03f 01000000 01000000 00800000 0000a000 \
             0b000000 00000000 00000000 00000000 34002e0031002e0030002e003300390033003000 0000 00000000000000000000");
        let expected = ReportConnectedEx {
            hr: HResult::S_OK,
            play_incarnation: PacketPairMode::DISABLE,
            server_version_info: "4.1.0.3930".into(),
            version_info: String::new(),
            version_url: String::new(),
            authen_package: String::new(),
        };
        assert_eq!(captured.len(), 128);
        assert_eq!(decode(&captured), expected.into());
    }

    #[test]
    fn report_connected_ex() {
        let message = ReportConnectedEx {
            hr: HResult::S_OK,
            play_incarnation: PacketPairMode::DISABLE,
            server_version_info: "4.1".into(),
            version_info: String::new(),
            version_url: String::new(),
            authen_package: "NTLM".into(),
        };
        assert_is(
            message,
            "0b000000 01000400 00000000 eff0f0f0 0b000400 1c000300 000000000000f03f 01000000 01000000 00800000 80969800 \
             04000000 00000000 00000000 05000000 34002e0031000000 4e0054004c004d000000 000000000000",
        );
    }

    #[test]
    fn the_length_of_a_string_counts_characters_and_stays_inside() {
        let fixed = "00000000 eff0f0f0 0b000400 1c000300 000000000000f03f 01000000 01000000 00800000 80969800";
        let refused = refusal(0x0004_0001, &format!("{fixed} 05000000 00000000 00000000 00000000 34002e0031000000"));
        assert_eq!(refused, "ReportConnectedEX is cut short: 10 bytes wanted, 8 left");
        let refused = refusal(0x0004_0001, &format!("{fixed} ffffffff 00000000 00000000 00000000 34002e0031000000"));
        assert_eq!(refused, "ReportConnectedEX is cut short: 8589934590 bytes wanted, 8 left");
    }

    #[test]
    fn report_connected_funnel() {
        let message = ReportConnectedFunnel { hr: HResult::S_OK };
        // The length that jlibmms takes for a name with its NUL.
        assert_eq!(encode(message.clone())[8], 80);
        assert_is(
            message,
            "08000000 02000400 00000000 00000000 00000000 \
             460075006e006e0065006c0020004f0066002000540068006500200047006f0064007300 0000 000000000000",
        );
    }

    #[test]
    fn report_disconnected_funnel() {
        let message = ReportDisconnectedFunnel { hr: HResult::NS_E_NOFUNNEL };
        assert_is(message, "02000000 03000400 0c000dc0 00000000");
    }

    #[test]
    fn report_funnel_info() {
        let message = ReportFunnelInfo {
            hr: HResult::S_OK,
            play_incarnation: PacketPairMode::DISABLE,
            client_id: ClientId(0x0403_0201),
            cubdd_datagram_size: 0,
            packet_pair: Bytes::new(),
        };
        assert_is(
            message.clone(),
            "06000000 15000400 00000000 eff0f0f0 08000000 01000000 00000100 01020304 00000000 01000000 00000000 00000000",
        );
        let pair = ReportFunnelInfo {
            play_incarnation: PacketPairMode::TCP_HIGH_ENTROPY,
            packet_pair: Bytes::from_static(&[0xA5; 8]),
            ..message
        };
        assert_is(
            pair,
            "07000000 15000400 00000000 f1f0f0f0 08000000 01000000 00000100 01020304 00000000 01000000 00000000 00000000 \
             a5a5a5a5a5a5a5a5",
        );
    }

    #[test]
    fn report_open_file() {
        let message = ReportOpenFile {
            hr: HResult::S_OK,
            play_incarnation: 1,
            open_file_id: FileId(1),
            file_attributes: FileAttributes::CAN_SEEK.with(FileAttributes::CAN_STRIDE),
            file_duration: 3600.0,
            file_blocks: 3600,
            file_packet_size: 3200,
            file_packet_count: 49,
            file_bit_rate: 256_000,
            file_header_size: 881,
        };
        assert_eq!(encode(message.clone()).len(), 152);
        assert_is(
            message,
            "0f000000 06000400 00000000 01000000 01000000 00000000 00000000 00008001 000000000020ac40 100e0000 \
             00000000000000000000000000000000 800c0000 3100000000000000 00e80300 71030000 \
             000000000000000000000000000000000000000000000000000000000000000000000000 00000000",
        );
    }

    #[test]
    fn report_read_block() {
        let message = ReportReadBlock { hr: HResult::S_OK, play_incarnation: 2 };
        assert_is(message, "03000000 11000400 00000000 02000000 00000000 00000000");
    }

    #[test]
    fn report_redirect() {
        let message = ReportRedirect {
            hr: HResult::S_OK,
            redirect_type: ReportRedirect::OTHER_URL,
            location: "mms://b/c".into(),
        };
        assert_is(message, "05000000 22000400 00000000 0100 1400 6d006d0073003a002f002f0062002f0063000000 00000000");
        let direct =
            ReportRedirect { hr: HResult::S_OK, redirect_type: ReportRedirect::OTHER_PROXY, location: String::new() };
        assert_is(direct, "03000000 22000400 00000000 0200 0200 0000 000000000000");
    }

    #[test]
    fn a_location_longer_than_its_length_field_is_cut() {
        let location = "x".repeat(40_000);
        let packet = encode(ReportRedirect { hr: HResult::S_OK, redirect_type: 1, location });
        assert_eq!(packet[46..48], 65_534u16.to_le_bytes());
        assert_eq!(packet.len(), (48 + 65_534usize).next_multiple_of(8));
    }

    #[test]
    fn report_started_playing() {
        let message = ReportStartedPlaying { hr: HResult::S_OK, play_incarnation: 4 };
        assert_is(message, "05000000 05000400 00000000 04000000 00000000 00000000 000000000000000000000000 00000000");
    }

    #[test]
    fn report_start_striding() {
        let message = ReportStartStriding { hr: HResult::S_OK, play_incarnation: 9 };
        assert_is(message, "03000000 0a000400 00000000 09000000 00000000 00000000");
    }

    #[test]
    fn report_end_of_stream() {
        // VLC stops with an incarnation of 0x001FFFFF and gets it back.
        let message = ReportEndOfStream { hr: HResult::S_FALSE, play_incarnation: 0x001F_FFFF };
        assert_is(message, "02000000 1e000400 01000000 ffff1f00");
    }

    #[test]
    fn report_stream_change() {
        let message = ReportStreamChange { hr: HResult::S_OK, packet_size: 3200, header_size: 881, bit_rate: 256_000 };
        assert_is(message, "04000000 20000400 00000000 ff000000 800c0000 71030000 00e80300 00000000");
    }

    #[test]
    fn report_stream_switch() {
        assert_is(ReportStreamSwitch { hr: HResult::S_OK }, "02000000 21000400 00000000 00000000");
    }

    #[test]
    fn security_challenge() {
        let message =
            SecurityChallenge { play_incarnation: 1, cookie: 0xC0_0C1E, token: Bytes::from_static(b"\0\0NTLMSSP") };
        assert_is(message, "04000000 1a000400 01000000 1e0cc000 09000000 00004e544c4d535350 000000");
        let refused = refusal(0x0004_001A, "01000000 00000000 09000000 00000000");
        assert_eq!(refused, "SecurityChallenge is cut short: 9 bytes wanted, 4 left");
    }

    #[test]
    fn ping() {
        assert_is(Message::Ping, "02000000 1b000400 00000000 00000000");
        assert_eq!(Message::Ping.name(), "Ping");
    }

    #[test]
    fn a_short_ping_is_refused() {
        assert_eq!(refusal(0x0004_001B, "00000000"), "Ping is cut short: 8 bytes wanted, 4 left");
    }

    #[test]
    fn an_unknown_message_is_no_error() {
        let message = Message::decode(&RawMessage { mid: 0x0004_0099, body: Bytes::new() }).unwrap();
        assert_eq!(message, Message::Unknown { mid: 0x0004_0099 });
        assert_eq!(message.name(), "Unknown");
    }

    proptest! {
        #[test]
        fn any_body_decodes_or_errs_and_comes_back(raw in any_message(0x0004_0000)) {
            if let Ok(first) = Message::decode(&raw) {
                // Compared as bytes: fileDuration may be NaN.
                let packet = encode(first);
                prop_assert_eq!(encode(decode(&packet)), packet);
            }
        }
    }
}
