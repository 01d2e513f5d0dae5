//! Bandwidth measured by a packet pair: 3.2.5.3, 3.2.5.4, 3.2.5.8.

use super::*;

const FFMPEGS: PacketPairMode = PacketPairMode(0x00F0_F0F0);

/// Connect and its answer.
fn offered(settings: Settings, asked: PacketPairMode) -> (Conversation, PacketPairMode) {
    let mut c = Conversation::with(settings);
    c.viewer_sends(inbound::Connect { play_incarnation: asked, ..connect(WMP9) });
    c.source_greets();
    let offered = gets!(c, ReportConnectedEx).play_incarnation;
    (c, offered)
}

fn without() -> Settings {
    Settings { packet_pair: false, ..with_udp() }
}

fn asks(c: &mut Conversation, play_incarnation: PacketPairMode) {
    c.viewer_sends(inbound::FunnelInfo { play_incarnation });
}

fn is_told_none(c: &mut Conversation) {
    let info = gets!(c, ReportFunnelInfo);
    assert_eq!((info.play_incarnation, info.client_id), (PacketPairMode::DISABLE, CLIENT_ID));
    assert!(info.packet_pair.iter().all(|&byte| byte == 0));
    c.viewer_gets_nothing();
}

#[test]
fn a_pair_is_offered_to_whom_asks_for_it_where_the_config_allows() {
    assert_eq!(offered(with_udp(), PacketPairMode::USE).1, PacketPairMode::USE);
    for asked in [PacketPairMode::DISABLE, PacketPairMode(0), FFMPEGS, PacketPairMode::TCP_HIGH_ENTROPY] {
        assert_eq!(offered(with_udp(), asked).1, PacketPairMode::DISABLE);
    }
    assert_eq!(offered(without(), PacketPairMode::USE).1, PacketPairMode::DISABLE);
}

#[test]
fn over_tcp_three_packets_of_different_random_bytes_have_their_sizes() {
    for mode in [PacketPairMode::USE, PacketPairMode::TCP_HIGH_ENTROPY] {
        let (mut c, _) = offered(with_udp(), PacketPairMode::USE);
        c.session.handle_input(c.now, Input::Received(inbound::FunnelInfo { play_incarnation: mode }.into())).unwrap();
        let (mut sizes, mut sequences, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        while let Output::Send(bytes) = c.session.poll_output() {
            sizes.push(bytes.len());
            sequences.push(u16::from_le_bytes([bytes[20], bytes[21]]));
            c.arrive(&bytes);
            let info = gets!(c, ReportFunnelInfo);
            assert_eq!(info.play_incarnation, PacketPairMode::TCP_HIGH_ENTROPY);
            assert_eq!(info.client_id, CLIENT_ID);
            pairs.push(info.packet_pair);
        }
        assert_eq!(sizes, [512, 512, 1056]);
        assert_eq!(pairs.iter().map(Bytes::len).collect::<Vec<_>>(), [432, 432, 976]);
        assert!(sequences.is_sorted_by(|a, b| a + 1 == *b), "{sequences:?}");
        assert_ne!(pairs[0], pairs[1]);
        assert_ne!(pairs[0], pairs[2][..432]);
    }
}

#[test]
fn whatever_else_is_asked_for_has_one_answer() {
    for mode in [FFMPEGS, PacketPairMode::DISABLE, PacketPairMode(0)] {
        let (mut c, _) = offered(with_udp(), PacketPairMode::DISABLE);
        asks(&mut c, mode);
        is_told_none(&mut c);
    }
    for mode in [PacketPairMode::USE, PacketPairMode::TCP_HIGH_ENTROPY, PacketPairMode::UDP_HIGH_ENTROPY] {
        let (mut c, _) = offered(without(), PacketPairMode::USE);
        asks(&mut c, mode);
        is_told_none(&mut c);
    }
    // No socket, no datagrams.
    let (mut c, _) = offered(Settings { udp: None, ..with_udp() }, PacketPairMode::USE);
    asks(&mut c, PacketPairMode::UDP_HIGH_ENTROPY);
    is_told_none(&mut c);
}

/// Up to ReportOpenFile, with a pair over UDP asked for.
fn opened(protocol: &str) -> Conversation {
    let (mut c, _) = offered(with_udp(), PacketPairMode::USE);
    asks(&mut c, PacketPairMode::UDP_HIGH_ENTROPY);
    let info = gets!(c, ReportFunnelInfo);
    assert_eq!((info.play_incarnation, info.packet_pair.len()), (PacketPairMode::UDP_HIGH_ENTROPY, 0));
    c.viewer_sends(connect_funnel(protocol));
    if protocol == "UDP" {
        c.driver_claims(1037);
    }
    gets!(c, ReportConnectedFunnel);
    c.viewer_sends(open_file("clip.asf"));
    c.source_is_asked();
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c
}

fn gets_pair(c: &mut Conversation) -> [Bytes; 2] {
    [0xF0F0_F000, 0xF0F0_F001].map(|location| {
        let data = c.viewer_gets_datagram();
        assert_eq!((data.location_id.0, data.play_incarnation.get(), data.af_flags), (location, 0xFF, 0x10));
        assert_eq!(data.header()[6..], 1472u16.to_le_bytes());
        data.payload
    })
}

#[test]
fn over_udp_two_datagrams_go_before_the_header_and_again_before_the_next() {
    let mut c = opened("UDP");
    c.session.handle_input(c.now, Input::Received(read_block(2).into())).unwrap();
    assert!(matches!(c.session.poll_output(), Output::SendDatagram(pair) if pair.len() == 1472));
    assert!(matches!(c.session.poll_output(), Output::SendDatagram(pair) if pair.len() == 1472));
    assert!(matches!(c.session.poll_output(), Output::Send(_)), "ReportReadBlock comes behind");
    c.settle();
    let pieces = c.viewer_gets_header();
    assert!(pieces.iter().all(|piece| piece.play_incarnation.get() == 2));
    // The pair is part of what may leave at the bit rate: 2944 and 600 bytes or so at 100 kbit/s.
    c.advance(secs(1));
    c.viewer_sends(read_block(3));
    gets!(c, ReportReadBlock);
    let [first, second] = gets_pair(&mut c);
    assert_ne!(first, second);
    assert_eq!(c.viewer_gets_header()[0].play_incarnation.get(), 3);
}

#[test]
fn headers_that_are_asked_for_again_and_again_leave_at_the_bit_rate() {
    let mut c = opened("UDP");
    for number in 2..202 {
        c.viewer_sends(read_block(number));
    }
    c.advance(secs(2));
    let bytes: usize = c.datagrams.iter().map(|(_, datagram)| datagram.len()).sum();
    // Two seconds of 100 kbit/s, and the pair and the piece that leave at once.
    assert!(bytes <= 25_000 + 2944 + 208, "{bytes}");
}

#[test]
fn there_is_no_pair_of_datagrams_for_a_viewer_on_tcp() {
    let mut c = opened("TCP");
    c.viewer_sends(read_block(2));
    gets!(c, ReportReadBlock);
    c.viewer_gets_header();
    assert!(c.datagrams.is_empty());
}
