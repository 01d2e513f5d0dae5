//! Selection, starts, stops and ends: 3.1.4.2 to 3.1.4.6.

use super::*;

#[test]
fn a_start_follows_the_complete_selection_at_once() {
    let mut x = Exchange::ready(settings(), WMS9, FILE);
    x.asks(Request::Select(vec![choice(2, Thinning::All)]));
    x.origin_gets_nothing();
    x.asks(Request::Play(Play::from(Position::Packet(PacketNumber(22)))));
    assert_eq!(entries(&gets!(x, StreamSwitch)), [(1, 0xFFFF, 0), (0xFFFF, 2, 0)]);
    let start = gets!(x, StartPlaying);
    assert_eq!((start.open_file_id, start.play_incarnation, start.location_id), (FILE_ID, 10, 22));
    assert_eq!((start.position, start.asf_offset, start.frame_offset), (f64::MAX, u32::MAX, 0));
    assert_eq!((start.accel, start.link_bandwidth), (None, None));
}

#[test]
fn without_a_selection_every_stream_is_on() {
    let mut x = Exchange::ready(settings(), WMS9, FILE);
    x.asks(Request::Play(Play::from(Position::Default)));
    assert_eq!(entries(&gets!(x, StreamSwitch)), [(0xFFFF, 1, 0), (0xFFFF, 2, 0)]);
    assert_eq!(gets!(x, StartPlaying).position, 0.0);
}

#[test]
fn accel_fields_go_only_to_servers_from_9_on() {
    for (version, accelerates) in [(WMS9, true), (WMS4, false)] {
        let mut x = Exchange::ready(settings(), version, FILE);
        let burst = Some(Burst { bits_per_second: 500_000, duration: secs(3) });
        x.asks(Request::Play(Play { burst, ..Play::from(Position::Default) }));
        gets!(x, StreamSwitch);
        let start = gets!(x, StartPlaying);
        let accel = out::Accel { bandwidth: 500_000, duration_ms: 3000 };
        assert_eq!(start.accel, accelerates.then_some(accel));
        assert_eq!(start.link_bandwidth, accelerates.then_some(500_000));
    }
}

#[test]
fn an_end_that_is_asked_for_stands_in_frame_offset() {
    for (until, frame_offset) in [(Until::At(secs(2)), 2000), (Until::For(secs(2)), 0x8000_07D0)] {
        let mut x = Exchange::ready(settings(), WMS9, FILE);
        x.asks(Request::Play(Play { until: Some(until), ..Play::from(Position::Default) }));
        gets!(x, StreamSwitch);
        assert_eq!(gets!(x, StartPlaying).frame_offset, frame_offset);
    }
}

#[test]
fn another_rate_is_striding() {
    let mut x = Exchange::ready(settings(), WMS9, FILE);
    x.asks(Request::Play(Play { rate: -5.0, ..Play::from(Position::Time(secs(4))) }));
    gets!(x, StreamSwitch);
    let start = gets!(x, StartStriding);
    assert_eq!((start.rate, start.position, start.play_incarnation), (-5.0, 4.0, 10));
    x.origin_sends(inbound::ReportStartStriding { hr: HResult::S_OK, play_incarnation: 10 });
    assert!(matches!(x.event(), Event::Playing));
    assert!(x.client.is_streaming());
}

#[test]
fn media_are_taken_by_the_number_of_their_start_alone() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    assert_eq!(incarnation, 10);
    x.origin_sends_packet(7, 9);
    x.origin_sends_packet(8, 10);
    x.origin_sends_packet(9, 0xFF);
    let Some(Next::Packet(packet)) = x.media.first() else { panic!("a packet") };
    assert_eq!((packet.send_time_ms, &packet.bytes), (800, &testing::packet(8, 800).bytes));
    assert_eq!(x.media(), ["8"]);
}

#[test]
fn a_play_that_moves_stops_reports_and_waits_first() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.asks(Request::Stop);
    x.asks(Request::Play(Play::from(Position::Time(secs(3)))));
    let stop = gets!(x, StopPlaying);
    assert_eq!((stop.open_file_id, stop.play_incarnation), (FILE_ID, u32::from(incarnation)));
    gets!(x, Logging);
    x.origin_gets_nothing();
    x.origin_sends_packet(8, incarnation);
    assert!(x.media().is_empty());
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    gets!(x, StreamSwitch);
    let start = gets!(x, StartPlaying);
    assert_eq!((start.play_incarnation, start.position), (11, 3.0));
    assert!(x.media().is_empty());
}

#[test]
fn a_close_while_streaming_stops_reports_and_waits_first() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.asks(Request::Close);
    gets!(x, StopPlaying);
    gets!(x, Logging);
    x.origin_gets_nothing();
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    assert_eq!(gets!(x, CloseFile).open_file_id, FILE_ID);
    assert!(matches!(x.event(), Event::Closed));
    x.origin_sends(Message::Ping);
    x.origin_gets_nothing();
}

#[test]
fn a_close_forgets_the_play_that_waited_before_it() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.asks(Request::Play(Play::from(Position::Time(secs(3)))));
    x.asks(Request::Close);
    gets!(x, StopPlaying);
    gets!(x, Logging);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    gets!(x, CloseFile);
    x.origin_gets_nothing();
}

#[test]
fn a_close_gets_through_however_much_waits() {
    let mut x = Exchange::ready(settings(), WMS9, FILE);
    x.asks(Request::Play(Play::from(Position::Default)));
    for _ in 0..100 {
        x.asks(Request::Play(Play::from(Position::Default)));
    }
    x.asks(Request::Close);
    gets!(x, StreamSwitch);
    gets!(x, StartPlaying);
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation: 10 });
    gets!(x, StopPlaying);
    gets!(x, Logging);
    x.origin_sends(end_of_stream(HResult::S_OK, 10));
    gets!(x, CloseFile);
}

#[test]
fn an_origin_that_never_answers_a_stop_is_left_without() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.asks(Request::Play(Play::from(Position::Default)));
    gets!(x, StopPlaying);
    gets!(x, Logging);
    x.advance(secs(5)).unwrap();
    gets!(x, StreamSwitch);
    let next = gets!(x, StartPlaying).play_incarnation;
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation: next });
    // A late answer says nothing about the play that runs now.
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    assert!(x.client.is_streaming() && x.media().is_empty());
}

#[test]
fn a_change_of_streams_names_what_changed_and_one_is_outstanding() {
    let (mut x, _) = Exchange::streaming(settings(), WMS9, FILE);
    x.asks(Request::Select(vec![choice(1, Thinning::KeyFrames), choice(2, Thinning::All)]));
    assert_eq!(entries(&gets!(x, StreamSwitch)), [(0xFFFF, 1, 1)]);
    x.asks(Request::Select(vec![choice(1, Thinning::Off)]));
    x.asks(Request::Select(vec![choice(1, Thinning::All), choice(2, Thinning::Off)]));
    x.origin_gets_nothing();
    x.origin_sends(inbound::ReportStreamSwitch { hr: HResult::S_OK });
    assert_eq!(entries(&gets!(x, StreamSwitch)), [(0xFFFF, 1, 0), (2, 0xFFFF, 0)]);
}

#[test]
fn a_refused_start_leaves_the_session_ready() {
    let mut x = Exchange::ready(settings(), WMS9, FILE);
    x.asks(Request::Play(Play::from(Position::Default)));
    gets!(x, StreamSwitch);
    gets!(x, StartPlaying);
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::NS_E_INVALID_REQUEST, play_incarnation: 10 });
    let Event::Refused(refusal) = x.event() else { panic!("refused") };
    assert_eq!(refusal.origin_code, Some(HResult::NS_E_INVALID_REQUEST.0));
    x.plays();
}

#[test]
fn an_end_is_reported_and_leaves_the_session_ready() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.origin_sends_packet(8, incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    gets!(x, Logging);
    assert_eq!(x.media(), ["8", "complete"]);
    x.advance(secs(60)).unwrap();
    x.plays();
}

#[test]
fn an_end_by_a_fault_says_which() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, BROADCAST);
    x.origin_sends(end_of_stream(HResult::NS_E_CONNECTION_FAILURE, incarnation));
    assert_eq!(x.media(), ["the origin refused to go on: NS_E_CONNECTION_FAILURE (0xC00D0029)"]);
}
