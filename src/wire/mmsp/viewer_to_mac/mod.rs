//! What clients say: `LinkViewerToMac…`, [MS-MMSP] 2.2.4.15 to 2.2.4.28, grouped by the step of a session they belong to.

mod connect;
mod open;
mod play;

pub use connect::{Connect, ConnectFunnel, FunnelInfo};
pub use open::{CancelReadBlock, CloseFile, OpenFile, ReadBlock, SecurityResponse};
pub use play::{Accel, Logging, StartPlaying, StartStriding, StopPlaying, StreamSwitch, StreamSwitchEntry};

use super::raw_message::RawMessage;
use crate::wire::codec::{DecodeError, Reader};

messages! {
    /// 2.2.4.17: opens a session.
    0x0003_0001 Connect,
    /// 2.2.4.18: says where Data packets are to go.
    0x0003_0002 ConnectFunnel,
    /// 2.2.4.21: names the content.
    0x0003_0005 OpenFile,
    /// 2.2.4.25: asks for the content at its own speed.
    0x0003_0007 StartPlaying,
    /// 2.2.4.27: asks for no more.
    0x0003_0009 StopPlaying,
    /// 2.2.4.16: ends a session.
    0x0003_000D CloseFile,
    /// 2.2.4.23: asks for the ASF file header.
    0x0003_0015 ReadBlock,
    /// 2.2.4.19: asks for a ClientId and maybe a bandwidth measurement.
    0x0003_0018 FunnelInfo,
    /// 2.2.4.24: answers SecurityChallenge.
    0x0003_001A SecurityResponse,
    /// 2.2.4.15: gives up on the ASF file header.
    0x0003_0025 CancelReadBlock,
    /// 2.2.4.26: asks for the content fast forward or backward.
    0x0003_0028 StartStriding,
    /// 2.2.4.20: reports how it went.
    0x0003_0032 Logging,
    /// 2.2.4.28: selects streams.
    0x0003_0033 StreamSwitch,
    bare
    /// 2.2.4.22: answers Ping; VLC sends it unasked while it pauses.
    0x0003_001B Pong,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::mmsp::{
        ids::{FileId, PacketPairMode},
        subscriber_name::SubscriberName,
        testing::{any_message, hex, message, messages},
    };

    /// A recorded client; see `tests/vectors/clients/README.md`.
    macro_rules! recorded {
        ($file:literal) => {
            include_bytes!(concat!("../../../../tests/vectors/clients/", $file)).as_slice()
        };
    }

    fn encode(message: impl Into<Message>, seq: u16) -> Vec<u8> {
        let mut out = Vec::new();
        message.into().encode(seq, &mut out);
        out
    }

    fn decode(packet: &[u8]) -> Message {
        Message::decode(&message(packet)).unwrap()
    }

    /// The message bytes of `expected`, hand-written from the tables of 2.2.4, are what `message` encodes to, and decode to it.
    fn assert_is(message: impl Into<Message>, expected: &str) {
        let message = message.into();
        let packet = encode(message.clone(), 0);
        assert_eq!(packet[32..], hex(expected), "{message:?}");
        assert_eq!(decode(&packet), message);
    }

    /// The recorded packet decodes to `expected`, and that encodes to the very same bytes.
    fn assert_recorded(recorded: &[u8], expected: impl Into<Message>) {
        let expected = expected.into();
        assert_eq!(decode(recorded), expected);
        let seq = u16::from_le_bytes([recorded[20], recorded[21]]);
        assert_eq!(encode(expected, seq), recorded);
    }

    fn refusal(mid: u32, body: &str) -> String {
        Message::decode(&RawMessage { mid, body: hex(body).into() }).unwrap_err().to_string()
    }

    fn names(stream: &[u8]) -> Vec<&'static str> {
        messages(stream).iter().map(|raw| Message::decode(raw).unwrap().name()).collect()
    }

    const NONE: PacketPairMode = PacketPairMode(0);

    fn connect(subscriber_name: &str) -> Connect {
        Connect { play_incarnation: NONE, subscriber_name: SubscriberName::parse(subscriber_name) }
    }

    fn start(open_file_id: u32, location_id: u32) -> StartPlaying {
        StartPlaying {
            open_file_id: FileId(open_file_id),
            position: 0.0,
            asf_offset: 0xFFFF_FFFF,
            location_id,
            frame_offset: 0x00FF_FFFF,
            play_incarnation: 4,
            accel: None,
            link_bandwidth: None,
        }
    }

    fn all_on(streams: std::ops::RangeInclusive<u16>) -> StreamSwitch {
        let entries = streams
            .map(|dst_stream_number| StreamSwitchEntry {
                src_stream_number: 0xFFFF,
                dst_stream_number,
                thinning_level: 0,
            })
            .collect();
        StreamSwitch { entries }
    }

    #[test]
    fn recorded_clients_say_what_is_expected_of_them() {
        let play = ["Connect", "ConnectFunnel", "OpenFile", "ReadBlock", "StreamSwitch", "StartPlaying"];
        assert_eq!(names(recorded!("libmms-0.6.4/mmst-stream.bin")), play);
        assert_eq!(names(recorded!("mplayer-1.5/mmst-stream.bin")), play);
        assert_eq!(names(recorded!("xine-1.2.13/mmst-stream.bin")), play);
        assert_eq!(names(recorded!("vlc-3.0.24/mmsu-stream.bin")), [&play[..], &["CloseFile"]].concat());
        assert_eq!(names(recorded!("xine-1.2.13/mmst-probe-stream.bin")), play[..5]);
        let ffmpeg = [&play[..1], &["FunnelInfo"], &play[1..], &["Pong", "CloseFile"]].concat();
        assert_eq!(names(recorded!("ffmpeg-5.1.9/ping-stream.bin"))[..8], ffmpeg[..8]);
        let seek = [&play[..], &["StartPlaying", "StartPlaying"]].concat();
        assert_eq!(names(recorded!("libmms-0.6.4/seek-stream.bin")), seek);
        let pause = ["StopPlaying", "Pong", "Pong", "StopPlaying", "StartPlaying", "StopPlaying", "StartPlaying"];
        let pause = [&play[..], &pause, &["CloseFile"]].concat();
        assert_eq!(names(recorded!("vlc-3.0.24/pause-resume-seek-stream.bin")), pause);
    }

    #[test]
    fn recorded_connect() {
        assert_recorded(
            recorded!("ffmpeg-5.1.9/mmst-00-Connect.bin"),
            connect("NSPlayer/7.0.0.1956; {7E667F5D-A661-495E-A512-F55686DDA178}; Host: 127.0.0.1"),
        );
        assert_recorded(
            recorded!("libmms-0.6.4/mmst-00-Connect.bin"),
            connect("NSPlayer/7.0.0.1956; {B56DF2A4-F59E-522B-71BF-13A1E3D98377}; Host: 127.0.0.1"),
        );
        assert_recorded(
            recorded!("mplayer-1.5/mmst-00-Connect.bin"),
            connect("NSPlayer/7.0.0.1956; {33715801-BAB3-9D85-24E9-03B90328270A}; Host: 127.0.0.1"),
        );
        assert_recorded(
            recorded!("vlc-3.0.24/mmst-00-Connect.bin"),
            connect("NSPlayer/7.0.0.1956; {0xbabac001-0x1b9c-0x0049-0x0285fc7a97b49fdf}; Host: 127.0.0.1"),
        );
        // xine: a chunk of padding too many.
        assert_eq!(
            decode(recorded!("xine-1.2.13/mmst-00-Connect.bin")),
            connect("NSPlayer/7.0.0.1956; {53E19BA5-660E-117D-6053-0897EE041F5A}; Host: 127.0.0.1").into(),
        );
    }

    #[test]
    fn recorded_funnel_info_has_four_bytes_too_many() {
        let message = FunnelInfo { play_incarnation: PacketPairMode(0x00F0_F0F0) };
        assert_eq!(decode(recorded!("ffmpeg-5.1.9/mmst-01-FunnelInfo.bin")), message.into());
    }

    #[test]
    fn recorded_connect_funnel() {
        let message = ConnectFunnel { funnel_name: r"\\192.168.0.129\TCP\1037".into(), max_bit_rate: 10_000_000 };
        assert_recorded(recorded!("ffmpeg-5.1.9/mmst-02-ConnectFunnel.bin"), message.clone());
        assert_recorded(recorded!("libmms-0.6.4/mmst-01-ConnectFunnel.bin"), message);
        let message = ConnectFunnel { funnel_name: r"\\192.168.0.1\TCP\1037".into(), max_bit_rate: 0 };
        assert_eq!(decode(recorded!("mplayer-1.5/mmst-01-ConnectFunnel.bin")), message.into());
        // xine and VLC: a '0' behind the NUL.
        let message = ConnectFunnel { funnel_name: r"\\192.168.0.129\TCP\1037".into(), max_bit_rate: 0 };
        assert_eq!(decode(recorded!("xine-1.2.13/mmst-01-ConnectFunnel.bin")), message.into());
        let message = ConnectFunnel { funnel_name: r"\\192.168.0.1\TCP\1242".into(), max_bit_rate: 0x000A_0000 };
        assert_eq!(decode(recorded!("vlc-3.0.24/mmst-01-ConnectFunnel.bin")), message.into());
        let message = ConnectFunnel { funnel_name: r"\\127.0.0.1\UDP\7000".into(), max_bit_rate: 0x000A_0000 };
        assert_eq!(decode(recorded!("vlc-3.0.24/mmsu-01-ConnectFunnel.bin")), message.into());
    }

    #[test]
    fn recorded_open_file() {
        let open = |play_incarnation, file_name: &str| OpenFile {
            play_incarnation,
            file_name: file_name.into(),
            token_data: Bytes::new(),
        };
        assert_eq!(decode(recorded!("ffmpeg-5.1.9/mmst-03-OpenFile.bin")), open(1, "dir/te%20st.asf?x=1").into());
        assert_eq!(decode(recorded!("ffmpeg-5.1.9/emptypath-03-OpenFile.bin")), open(1, "").into());
        assert_eq!(decode(recorded!("vlc-3.0.24/userinfo-02-OpenFile.bin")), open(1, "/dir//a%C3%A9.asf").into());
        assert_recorded(recorded!("libmms-0.6.4/nonascii-02-OpenFile.bin"), open(1, "dir//a\u{E9}.asf"));
        assert_eq!(decode(recorded!("mplayer-1.5/nonascii-02-OpenFile.bin")), open(0, "/dir//a\u{E9}.asf").into());
    }

    #[test]
    fn open_file_with_a_token() {
        // 2.2.4.21 works the offset of tokenData out for this name: 0x10.
        let message =
            OpenFile { play_incarnation: 9, file_name: "abc.asf".into(), token_data: Bytes::from_static(b"Basic\0") };
        assert_is(
            message,
            "06000000 05000300 09000000 00000000 10000000 06000000 6100620063002e00 6100730066000000 426173696300 0000",
        );
        // As the 2009 text has it: no NUL.
        let raw =
            RawMessage { mid: 0x0003_0005, body: hex("09000000 00000000 02000000 02000000 6100 00006300").into() };
        let expected = OpenFile { play_incarnation: 9, file_name: "a".into(), token_data: Bytes::from_static(&[0, 0]) };
        assert_eq!(Message::decode(&raw), Ok(expected.into()));
    }

    #[test]
    fn a_token_outside_of_its_message_is_refused() {
        let refused = refusal(0x0003_0005, "09000000 00000000 00000000 02000000 6100620063000000");
        assert_eq!(refused, "token is 0x0, want 2 or more before tokenData ([MS-MMSP] 2.2.4.21)");
        let refused = refusal(0x0003_0005, "09000000 00000000 08000000 01000000 6100620063000000");
        assert_eq!(refused, "OpenFile is cut short: 1 bytes wanted, 0 left");
        let refused = refusal(0x0003_0005, "09000000 00000000 feffffff 01000000 6100620063000000");
        assert_eq!(refused, "OpenFile is cut short: 4294967294 bytes wanted, 8 left");
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Bytes::from_static(b"dXNlcjpwYXNz");
        let open = OpenFile { play_incarnation: 1, file_name: "a".into(), token_data: token.clone() };
        assert_eq!(format!("{open:?}"), r#"OpenFile { play_incarnation: 1, file_name: "a", token_data: 12 bytes }"#);
        let response = SecurityResponse { play_incarnation: 1, cookie: 2, token };
        assert_eq!(format!("{response:?}"), "SecurityResponse { play_incarnation: 1, cookie: 2, token: 12 bytes }");
    }

    #[test]
    fn security_response() {
        let message = SecurityResponse { play_incarnation: 9, cookie: 7, token: Bytes::from_static(b"abc\0") };
        assert_is(message, "03000000 1a000300 09000000 07000000 04000000 61626300");
        let refused = refusal(0x0003_001A, "09000000 07000000 05000000 61626300");
        assert_eq!(refused, "SecurityResponse is cut short: 5 bytes wanted, 4 left");
    }

    #[test]
    fn recorded_read_block() {
        let message = ReadBlock { open_file_id: FileId(1), play_incarnation: 2 };
        assert_recorded(recorded!("libmms-0.6.4/mmst-03-ReadBlock.bin"), message.clone());
        assert_recorded(recorded!("vlc-3.0.24/mmst-03-ReadBlock.bin"), message.clone());
        assert_eq!(decode(recorded!("ffmpeg-5.1.9/mmst-04-ReadBlock.bin")), message.clone().into());
        // MPlayer: zeros but for the two fields that are read.
        assert_eq!(decode(recorded!("mplayer-1.5/mmst-03-ReadBlock.bin")), message.into());
    }

    #[test]
    fn cancel_read_block() {
        assert_is(CancelReadBlock { play_incarnation: 3 }, "02000000 25000300 03000000 00000000");
    }

    #[test]
    fn recorded_stream_switch() {
        assert_recorded(recorded!("ffmpeg-5.1.9/mmst-05-StreamSwitch.bin"), all_on(1..=2));
        assert_recorded(recorded!("vlc-3.0.24/mmst-04-StreamSwitch.bin"), all_on(1..=2));
        // xine: zeros for an entry that is not counted.
        assert_eq!(decode(recorded!("xine-1.2.13/mmst-04-StreamSwitch.bin")), all_on(1..=2).into());
    }

    #[test]
    fn entries_that_are_not_there_are_refused() {
        let refused = refusal(0x0003_0033, "02000000 ffff01000000 ffff0200");
        assert_eq!(refused, "StreamSwitch is cut short: 2 bytes wanted, 0 left");
        let refused = refusal(0x0003_0033, "ffffffff ffff01000000 ffff02000000");
        assert_eq!(refused, "cStreamEntries is 0xffffffff, want 256 or less ([MS-MMSP] 2.2.4.28)");
    }

    #[test]
    fn recorded_start_playing() {
        let unused = 0xFFFF_FFFF;
        assert_eq!(decode(recorded!("ffmpeg-5.1.9/mmst-06-StartPlaying.bin")), start(1, unused).into());
        assert_eq!(decode(recorded!("vlc-3.0.24/pause-resume-seek-10-StartPlaying.bin")), start(1, 0x16).into());
        let seek = StartPlaying { position: 6.6, play_incarnation: 5, ..start(1, unused) };
        assert_eq!(decode(recorded!("libmms-0.6.4/seek-06-StartPlaying.bin")), seek.into());
        let mplayer = StartPlaying { frame_offset: 0, ..start(1, unused) };
        assert_eq!(decode(recorded!("mplayer-1.5/mmst-05-StartPlaying.bin")), mplayer.into());
    }

    #[test]
    fn start_playing_grows_with_what_it_asks() {
        let plain = StartPlaying { position: f64::MAX, frame_offset: 0, ..start(1, 7) };
        let fixed = "07000300 01000000 00000000 ffffffffffffef7f ffffffff 07000000 00000000 04000000";
        assert_is(plain.clone(), &format!("05000000 {fixed}"));
        let accel = StartPlaying { accel: Some(Accel { bandwidth: 1_000_000, duration_ms: 60_000 }), ..plain };
        assert_is(accel.clone(), &format!("06000000 {fixed} 40420f00 60ea0000"));
        let link = StartPlaying { link_bandwidth: Some(2), ..accel };
        assert_is(link.clone(), &format!("07000000 {fixed} 40420f00 60ea0000 02000000 00000000"));
        let alone = encode(StartPlaying { accel: None, ..link.clone() }, 0);
        assert_eq!(decode(&alone), StartPlaying { accel: Some(Accel::default()), ..link }.into());
    }

    #[test]
    fn start_striding() {
        let message = StartStriding {
            open_file_id: FileId(1),
            position: 0.0,
            asf_offset: 0,
            location_id: 0xFFFF_FFFF,
            play_incarnation: 9,
            rate: -5.0,
        };
        assert_is(
            message,
            "06000000 28000300 01000000 00000000 0000000000000000 00000000 ffffffff 00000000 09000000 00000000000014c0",
        );
    }

    #[test]
    fn recorded_stop_playing() {
        let message = StopPlaying { open_file_id: FileId(1), play_incarnation: 0x001F_FFFF };
        assert_recorded(recorded!("vlc-3.0.24/pause-resume-seek-06-StopPlaying.bin"), message);
    }

    #[test]
    fn recorded_close_file() {
        let message = Message::from(CloseFile { open_file_id: FileId(1) });
        assert_eq!(decode(recorded!("ffmpeg-5.1.9/mmst-07-CloseFile.bin")), message);
        assert_is(message, "02000000 0d000300 00000000 01000000");
    }

    #[test]
    fn recorded_pong() {
        assert_eq!(decode(recorded!("ffmpeg-5.1.9/ping-07-Pong.bin")), Message::Pong);
        assert_recorded(recorded!("vlc-3.0.24/pause-resume-seek-07-Pong.bin"), Message::Pong);
        assert_eq!(refusal(0x0003_001B, ""), "Pong is cut short: 8 bytes wanted, 0 left");
    }

    #[test]
    fn a_log_of_any_length_is_taken() {
        let message = Logging { client_log: Bytes::from_static(&[7; 8]) };
        assert_is(message, "02000000 32000300 0707070707070707");
        assert_eq!(encode(Logging { client_log: vec![0; 1490].into() }, 0).len(), 1536);
    }

    #[test]
    fn what_wireshark_calls_have_stopped_playing_is_unknown_to_us() {
        let message = Message::decode(&RawMessage { mid: 0x0003_0030, body: Bytes::new() });
        assert_eq!(message, Ok(Message::Unknown { mid: 0x0003_0030 }));
    }

    proptest! {
        #[test]
        fn any_body_decodes_or_errs_and_comes_back(raw in any_message(0x0003_0000)) {
            if let Ok(first) = Message::decode(&raw) {
                // Compared as bytes: position and rate may be NaN.
                let packet = encode(first, 0);
                prop_assert_eq!(encode(decode(&packet), 0), packet);
            }
        }
    }
}
