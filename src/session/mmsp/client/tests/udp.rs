//! Data over UDP: the funnel, headers and media in datagrams, and what becomes of those that are lost. 3.1.2, 3.1.4.7,
//! 3.1.5.5, 3.1.5.12, 3.1.5.17 to 3.1.5.19, 3.1.6.1.

use std::net::Ipv4Addr;

use super::*;
use crate::session::mmsp::client::{Losses, Udp};
use crate::wire::mmsp::client_log::ClientLog;

fn over_udp() -> Settings {
    Settings { udp: Some(Udp::new(Ipv4Addr::new(192, 0, 2, 7).into(), 7001)), ..settings() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Exchange {
    fn datagram(&mut self, location: u32, incarnation: u8, flags: u8, payload: &[u8]) {
        let header = encode_header(LocationId(location), Incarnation::from_wire(incarnation), flags, payload.len());
        let datagram = [&header, payload].concat();
        self.client.handle_datagram(self.now, datagram.into(), &mut self.media).unwrap();
        self.drain();
    }

    /// Packet `number` of the content, sent under `sequence`.
    fn packet(&mut self, number: u32, sequence: u32, incarnation: u8) {
        let bytes = testing::packet(number.into(), number * 100).bytes;
        self.datagram(number, incarnation, sequence as u8, &bytes);
    }

    /// Packets whose numbers are those they are sent under.
    fn packets(&mut self, numbers: impl IntoIterator<Item = u32>, incarnation: u8) {
        numbers.into_iter().for_each(|number| self.packet(number, number, incarnation));
    }

    /// These pieces of the header.
    fn pieces(&mut self, header: &Header, incarnation: u8, which: impl IntoIterator<Item = usize>) {
        let pieces: Vec<&[u8]> = header.bytes().chunks(PACKET_SIZE).collect();
        for at in which {
            let flags = if at + 1 == pieces.len() { 0x0C } else { 0x04 };
            self.datagram(at as u32, incarnation, flags, pieces[at]);
        }
    }

    /// Up to ReadBlock, whose number is returned.
    fn reading(attributes: FileAttributes) -> (Self, u8) {
        let mut x = Self::opening(over_udp(), WMS9);
        x.origin_sends(report_open_file(attributes));
        let play_incarnation = gets!(x, ReadBlock).play_incarnation;
        x.origin_sends(inbound::ReportReadBlock { hr: HResult::S_OK, play_incarnation });
        (x, play_incarnation as u8)
    }

    /// Media may come as datagrams, with the incarnation that is returned.
    fn streaming_over_udp(attributes: FileAttributes) -> (Self, u8) {
        let (mut x, incarnation) = Self::reading(attributes);
        x.pieces(&testing::header(), incarnation, 0..pieces());
        assert!(matches!(x.event(), Event::Opened(_)));
        let incarnation = x.plays();
        (x, incarnation)
    }

    fn asked_for(&mut self) -> Vec<u32> {
        self.asked.drain(..).flatten().collect()
    }

    fn logged(&mut self) -> ClientLog {
        ClientLog::decode(&gets!(self, Logging).client_log).unwrap()
    }
}

/// Of the header of the content here.
fn pieces() -> usize {
    testing::header().bytes().len().div_ceil(PACKET_SIZE)
}

/// The Header timer of 3.1.2 at 100 kbit/s.
fn header_period() -> Duration {
    secs(1) + ms(testing::header().bytes().len() as u64 * 8 / 100)
}

#[test]
fn the_funnel_names_our_address_and_port() {
    let mut x = Exchange::greeted(over_udp(), WMS9);
    x.asks(Request::Open(open(None)));
    assert_eq!(gets!(x, FunnelInfo).play_incarnation, PacketPairMode::DISABLE);
    x.origin_sends(funnel_info());
    assert_eq!(gets!(x, ConnectFunnel).funnel_name, r"\\192.0.2.7\UDP\7001");
    assert!(x.client.is_over_udp());
}

#[test]
fn an_origin_that_wants_tcp_gets_it_in_the_same_session() {
    let mut x = Exchange::greeted(over_udp(), WMS9);
    x.asks(Request::Open(open(None)));
    gets!(x, FunnelInfo);
    x.origin_sends(funnel_info());
    gets!(x, ConnectFunnel);
    x.origin_sends(inbound::ReportDisconnectedFunnel { hr: HResult::NS_E_NOFUNNEL });
    assert_eq!(gets!(x, ConnectFunnel).funnel_name, r"\\127.0.0.1\TCP\1037");
    assert!(!x.client.is_over_udp());
    x.origin_sends(inbound::ReportConnectedFunnel { hr: HResult::S_OK });
    gets!(x, OpenFile);
    x.origin_sends(report_open_file(FILE));
    gets!(x, ReadBlock);
    x.origin_sends_header(&testing::header(), 1);
    assert!(matches!(x.event(), Event::Opened(_)));
    let incarnation = x.plays();
    x.packet(0, 0, incarnation);
    assert_eq!((x.media(), x.client.dropped()), (vec![], 1));
    x.origin_sends_packet(0, incarnation);
    assert_eq!(x.media(), ["0"]);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    assert_eq!(x.logged().transport, "TCP");
    assert_eq!(x.media(), ["complete"]);
    // And a second refusal is one.
    let mut x = Exchange::greeted(settings(), WMS9);
    x.asks(Request::Open(open(None)));
    x.origin_sends(funnel_info());
    assert!(x.origin_says(inbound::ReportDisconnectedFunnel { hr: HResult::S_OK }).is_err());
}

#[test]
fn a_header_comes_in_any_order() {
    let (mut x, incarnation) = Exchange::reading(FILE);
    x.pieces(&testing::header(), incarnation, (0..pieces()).rev());
    let Event::Opened(opened) = x.event() else { panic!("not open") };
    assert_eq!(opened.header.bytes(), testing::header().bytes());
    // No timer is left.
    x.advance(secs(600)).unwrap();
    x.origin_gets_nothing();
}

#[test]
fn a_header_is_read_again_four_times_and_then_nothing_comes_over_udp() {
    let (mut x, mut incarnation) = Exchange::reading(FILE);
    let period = header_period();
    for _ in 0..4 {
        x.advance(period - ms(1)).unwrap();
        x.origin_gets_nothing();
        x.advance(ms(1)).unwrap();
        assert_eq!(gets!(x, CancelReadBlock).play_incarnation, u32::from(incarnation));
        let again = gets!(x, ReadBlock);
        assert_eq!((again.open_file_id, again.play_incarnation), (FILE_ID, u32::from(incarnation) + 1));
        x.origin_sends(inbound::ReportReadBlock { hr: HResult::S_OK, play_incarnation: again.play_incarnation });
        incarnation += 1;
    }
    let error = x.advance(period).unwrap_err();
    assert_eq!(error, ClientError::NoDatagrams);
    assert_eq!(error.to_string(), "the origin's Data packets do not arrive over UDP");
    assert_eq!(error.refusal().reason, Reason::Timeout);
}

#[test]
fn pieces_of_a_header_that_came_need_not_come_again() {
    let (mut x, incarnation) = Exchange::reading(FILE);
    x.pieces(&testing::header(), incarnation, [0]);
    x.advance(secs(2)).unwrap();
    gets!(x, CancelReadBlock);
    gets!(x, ReadBlock);
    x.pieces(&testing::header(), incarnation, 1..pieces());
    x.nothing_happened();
    assert_eq!(x.client.dropped(), pieces() as u64 - 1);
    x.pieces(&testing::header(), incarnation + 1, 1..pieces());
    assert!(matches!(x.event(), Event::Opened(_)));
}

#[test]
fn an_origin_that_does_not_answer_over_tcp_is_no_question_of_udp() {
    let mut x = Exchange::opening(over_udp(), WMS9);
    x.origin_sends(report_open_file(FILE));
    let error = x.advance(secs(5)).unwrap_err();
    assert_eq!(error.to_string(), "the origin did not answer in time while reading the header");
}

#[test]
fn packets_that_come_before_the_answer_to_start_playing_wait_for_it() {
    let (mut x, incarnation) = Exchange::reading(FILE);
    x.pieces(&testing::header(), incarnation, 0..pieces());
    x.asks(Request::Play(Play::from(Position::Default)));
    gets!(x, StreamSwitch);
    let play_incarnation = gets!(x, StartPlaying).play_incarnation;
    x.packets([1, 0, 2], play_incarnation as u8);
    assert!(x.media().is_empty());
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation });
    assert_eq!(x.media(), ["0", "1", "2"]);
}

#[test]
fn what_is_lost_is_asked_for_and_goes_up_in_its_place() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 3], incarnation);
    assert_eq!(x.media(), ["0"]);
    assert!(x.asked_for().is_empty());
    x.advance(ms(20)).unwrap();
    assert_eq!(x.asked_for(), [1, 2]);
    x.packets([2, 1, 2, 4], incarnation);
    assert_eq!(x.media(), ["1", "2", "3", "4"]);
    assert_eq!(x.client.losses(), Losses { asked: 2, recovered: 2, ..Losses::default() });
    x.advance(secs(9)).unwrap();
    assert!(x.asked_for().is_empty());
}

#[test]
fn what_stays_lost_is_said_in_its_place_and_reported() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 3, 4, 6], incarnation);
    x.advance(Udp::DEADLINE).unwrap();
    assert_eq!(x.media(), ["0", "lost 2", "3", "4", "lost 1", "6"]);
    x.packets([5, 7], incarnation);
    assert_eq!(x.media(), ["7"]);
    let asked = x.asked_for();
    assert_eq!(asked.len(), 12, "each of three, four times: {asked:?}");
    x.asks(Request::Stop);
    gets!(x, StopPlaying);
    let log = x.logged();
    assert_eq!((log.transport.as_str(), log.info.packets_received, log.info.packets_lost_client), ("UDP", 5, 3));
    assert_eq!((log.packets_lost_net, log.packets_lost_cont_net, log.resend_requests), (3, 2, 3));
    assert_eq!((log.packets_recovered_resent, log.info.min_reception_quality), (0, 62));
}

#[test]
fn an_end_overtakes_datagrams_and_goes_up_behind_them() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 1, 3], incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    // What may lie behind the last one is asked for at once.
    assert_eq!(x.asked_for(), (4..12).collect::<Vec<_>>());
    x.packets([2, 4], incarnation);
    assert_eq!(x.media(), ["0", "1", "2", "3", "4"]);
    x.origin_gets_nothing();
    x.advance(ms(200)).unwrap();
    assert_eq!(x.media(), ["complete"]);
    let log = x.logged();
    assert_eq!((log.info.packets_received, log.info.packets_lost_client, log.packets_recovered_resent), (5, 0, 0));
    assert!(x.advance(secs(600)).is_ok());
}

#[test]
fn the_last_packet_of_a_file_needs_nothing_behind_it() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    // 49 in all.
    x.packet(48, 0, incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    assert_eq!(x.media(), ["48", "complete"]);
    assert!(x.asked_for().is_empty());
}

#[test]
fn a_failure_says_so_behind_the_media_before_it() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 2], incarnation);
    x.origin_sends(end_of_stream(HResult::NS_E_NOCONNECTION, incarnation));
    x.advance(Udp::DEADLINE).unwrap();
    assert_eq!(x.media(), ["0", "lost 1", "2", "the origin refused to go on: NS_E_NOCONNECTION (0xC00D0005)"]);
}

#[test]
fn a_play_that_moves_does_not_wait_for_the_rest_of_the_one_before() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 2], incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    x.asks(Request::Play(Play::from(Position::Packet(PacketNumber(20)))));
    gets!(x, Logging);
    gets!(x, StreamSwitch);
    let play_incarnation = gets!(x, StartPlaying).play_incarnation;
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation });
    x.packets([1], incarnation);
    x.packet(20, 3, play_incarnation as u8);
    assert_eq!(x.media(), ["0", "20"]);
}

#[test]
fn what_comes_after_a_stop_goes_nowhere_and_is_not_missed() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 1, 3], incarnation);
    x.asks(Request::Play(Play::from(Position::Packet(PacketNumber(20)))));
    gets!(x, StopPlaying);
    gets!(x, Logging);
    x.packets([4, 5], incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    gets!(x, StreamSwitch);
    let play_incarnation = gets!(x, StartPlaying).play_incarnation;
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation });
    x.packet(20, 6, play_incarnation as u8);
    x.packet(22, 8, play_incarnation as u8);
    assert_eq!(x.media(), ["0", "1", "20"]);
    x.advance(ms(20)).unwrap();
    assert_eq!(x.asked_for(), [7]);
}

#[test]
fn the_next_entry_is_read_selected_and_started_once_the_one_before_is_complete() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(BROADCAST);
    x.packets([0, 1, 3], incarnation);
    x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
    gets!(x, Logging);
    let header = testing::other_header();
    x.origin_sends(stream_change(&header));
    let read = gets!(x, ReadBlock);
    assert_eq!((read.open_file_id, read.play_incarnation), (FILE_ID, 2));
    x.origin_sends(inbound::ReportReadBlock { hr: HResult::S_OK, play_incarnation: 2 });
    assert!(x.client.is_between_entries());
    x.pieces(&header, 2, 0..header.bytes().len().div_ceil(PACKET_SIZE));
    x.advance(ms(100)).unwrap();
    x.origin_gets_nothing();
    x.packets([2], incarnation);
    assert_eq!(x.media(), ["0", "1", "2", "3"]);
    x.advance(ms(200)).unwrap();
    assert_eq!(x.media(), ["changed"]);
    assert_eq!(entries(&gets!(x, StreamSwitch)), [(0xFFFF, 1, 0), (0xFFFF, 2, 0), (0xFFFF, 3, 0)]);
    let start = gets!(x, StartPlaying);
    assert_eq!((start.position, start.play_incarnation), (0.0, u32::from(incarnation) + 1));
    x.packet(1, 5, incarnation + 1);
    x.origin_sends(inbound::ReportStreamSwitch { hr: HResult::S_OK });
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation: start.play_incarnation });
    // Numbers go on over entries.
    x.packet(0, 4, incarnation + 1);
    assert_eq!(x.media(), ["0", "1"]);
    x.nothing_happened();
}

#[test]
fn the_header_of_the_next_entry_is_read_again_too() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(BROADCAST);
    x.packets([0], incarnation);
    x.origin_sends(stream_change(&testing::header()));
    gets!(x, ReadBlock);
    for _ in 0..4 {
        x.advance(header_period()).unwrap();
        gets!(x, CancelReadBlock);
        gets!(x, ReadBlock);
    }
    assert_eq!(x.advance(header_period()), Err(ClientError::NoDatagrams));
    // Nobody reads meanwhile: that is no fault of the network.
    let (mut x, incarnation) = Exchange::streaming_over_udp(BROADCAST);
    x.packets([0], incarnation);
    x.client.set_paused(x.now, true);
    x.origin_sends(stream_change(&testing::header()));
    gets!(x, ReadBlock);
    x.advance(secs(600)).unwrap();
    x.client.set_paused(x.now, false);
    x.drain();
    x.pieces(&testing::header(), 2, 0..pieces());
    x.advance(secs(1)).unwrap();
    assert_eq!(x.media(), ["0", "changed"]);
}

#[test]
fn media_that_never_come_over_udp_say_that_it_does_not_work() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(BROADCAST);
    assert_eq!(x.advance(secs(10)), Err(ClientError::NoDatagrams));
    // Once some have, silence is the origin's.
    let (mut x, _) = {
        let (mut x, _) = Exchange::streaming_over_udp(BROADCAST);
        x.packet(0, 0, incarnation);
        (x, incarnation)
    };
    let error = x.advance(secs(10)).unwrap_err();
    assert_eq!(error.to_string(), "the origin did not answer in time while streaming");
}

#[test]
fn datagrams_that_belong_to_nothing_are_counted_and_do_nothing() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.client.handle_datagram(x.now, Bytes::from_static(b"short"), &mut x.media).unwrap();
    x.client.handle_datagram(x.now, Bytes::new(), &mut x.media).unwrap();
    x.packet(0, 0, incarnation.wrapping_add(1));
    x.datagram(0xF0F0_F000, 0xFF, 0x10, &[0; 100]);
    x.datagram(0, incarnation, 0, &[0x82; PACKET_SIZE + 1]);
    assert_eq!((x.media(), x.client.dropped()), (vec![], 5));
    x.packets([0, 0], incarnation);
    assert_eq!((x.media(), x.client.dropped()), (vec!["0".to_owned()], 5));
}

#[test]
fn an_origin_that_agreed_to_udp_may_send_by_tcp() {
    let (mut x, incarnation) = Exchange::reading(FILE);
    x.origin_sends_header(&testing::header(), incarnation);
    assert!(matches!(x.event(), Event::Opened(_)));
    let incarnation = x.plays();
    for (number, flags) in [(0, 0), (2, 2), (1, 1)] {
        let bytes = testing::packet(number, 0).bytes;
        x.origin_sends_data(number as u32, incarnation, flags, &bytes).unwrap();
    }
    assert_eq!(x.media(), ["0", "1", "2"]);
}

#[test]
fn an_origin_that_closes_behind_its_end_ends_well() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 2], incarnation);
    assert!(!x.client.handle_disconnect(&mut Vec::new()));
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    assert!(x.client.handle_disconnect(&mut x.media));
    x.drain();
    assert_eq!(x.media(), ["0", "lost 1", "2", "complete"]);
    assert_eq!(x.deadline, None);
}

#[test]
fn a_close_needs_no_datagrams() {
    let (mut x, incarnation) = Exchange::streaming_over_udp(FILE);
    x.packets([0, 2], incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    x.asks(Request::Close);
    gets!(x, Logging);
    gets!(x, CloseFile);
    assert!(matches!(x.event(), Event::Closed));
    x.packets([1], incarnation);
    assert_eq!(x.media(), ["0"]);
    assert_eq!(x.deadline, None);
}
