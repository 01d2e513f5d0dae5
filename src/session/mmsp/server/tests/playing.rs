//! READY and STREAMING: selection, places, numbers, and stops. 3.2.5.10 to 3.2.5.15.

use super::*;
use crate::session::mmsp::testing::{packet, packet_of};

fn packets(numbers: std::ops::Range<u64>) -> Script {
    Script::packets(numbers.map(|n| packet(n, n as u32 * 100)))
}

#[test]
fn nothing_is_selected_without_a_stream_switch() {
    let mut c = Conversation::ready(WMP9, testing::file());
    c.viewer_sends(start(9));
    c.source_plays(&packets(0..3), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    c.viewer_gets_nothing();
}

#[test]
fn payloads_of_streams_that_are_off_do_not_leave() {
    let mut c = Conversation::ready(WMP9, testing::file());
    c.viewer_sends(switch(&[(1, 2), (2, 0)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(9));
    c.source_plays(&packets(0..2), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    let data = c.viewer_gets_data();
    let parsed = crate::asf::Packet::parse(&data.payload).unwrap();
    let streams: Vec<u8> = parsed.payloads().map(|payload| payload.stream.get()).collect();
    assert_eq!(streams, [2]);
}

#[test]
fn a_stream_that_does_not_exist_is_answered_and_selects_nothing() {
    let mut c = Conversation::ready(WMP9, testing::file());
    c.viewer_sends(switch(&[(77, 0)]));
    assert_eq!(gets!(c, ReportStreamSwitch).hr, HResult::S_OK);
    c.source_is_asked();
    c.viewer_sends(start(9));
    c.source_plays(&packets(0..2), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    c.viewer_gets_nothing();
}

#[test]
fn a_joining_viewer_begins_at_a_key_frame() {
    let mut c = Conversation::ready(WMP9, testing::broadcast());
    c.viewer_sends(switch(&[(1, 0), (2, 2)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(9));
    let script = Script::packets([packet_of(50, 5000, false), packet_of(51, 5100, true), packet_of(52, 5200, false)]);
    c.source_plays(&script, Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    let locations: Vec<u32> = c.viewer_gets_media().into_iter().map(|media| media.0).collect();
    assert_eq!(locations, [51, 52]);
}

#[test]
fn a_key_frame_is_not_waited_for_longer_than_key_wait() {
    let mut c = Conversation::ready(WMP9, testing::broadcast());
    c.viewer_sends(switch(&[(1, 0), (2, 2)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(9));
    let script = Script::packets([packet_of(50, 5000, false)]);
    c.source_plays(&script, Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    c.viewer_gets_nothing_for(secs(10));
    script.goes_on(Next::from(packet_of(51, 5100, false)));
    c.media_come();
    assert_eq!(c.viewer_gets_media(), [(51, 9, 0)]);
}

#[test]
fn after_a_jump_a_viewer_joins_anew_at_a_key_frame() {
    let script = Script::of([Next::from(packet(0, 0)), Next::Skipped { packets: 9, lag: Duration::from_secs(1) }]);
    script.goes_on(Next::from(packet_of(10, 1000, true)));
    let mut c = Conversation::streaming(WMP9, testing::broadcast(), &script);
    assert_eq!(c.viewer_gets_media(), [(0, 4, 0), (10, 4, 1)]);
    assert_eq!(c.session.take_skip(), Some(Skip { packets: 9, lag: Duration::from_secs(1) }));
    assert_eq!(c.session.take_skip(), None);
}

#[test]
fn a_source_that_came_back_is_no_jump_and_is_joined_at_a_key_frame_or_after_a_while_without() {
    let mut c = Conversation::ready(WMP9, testing::broadcast());
    c.viewer_sends(switch(&[(1, 0), (2, 2)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(9));
    let script = Script::packets([packet_of(0, 0, true)]);
    c.source_plays(&script, Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_media(), [(0, 9, 0)]);
    for next in [Next::Resumed, packet_of(10, 1000, false).into(), packet_of(11, 1050, true).into()] {
        script.goes_on(next);
    }
    c.media_come();
    assert_eq!(c.viewer_gets_media(), [(11, 9, 1)]);
    assert_eq!(c.session.take_skip(), None);
    script.goes_on(Next::Resumed);
    script.goes_on(packet_of(20, 2000, false).into());
    c.media_come();
    c.viewer_gets_nothing_for(Settings::default().key_wait);
    script.goes_on(packet_of(21, 2050, false).into());
    c.media_come();
    assert_eq!(c.viewer_gets_media(), [(21, 9, 2)]);
}

#[test]
fn jumps_of_one_poll_are_one_and_one_before_the_end_counts() {
    let jump = |packets| Next::Skipped { packets, lag: Duration::from_secs(packets) };
    let script = Script::of([jump(3), jump(4), Next::Ended(End::Complete)]);
    let mut c = Conversation::streaming(WMP9, testing::broadcast(), &script);
    gets!(c, ReportEndOfStream);
    assert_eq!(c.session.take_skip(), Some(Skip { packets: 7, lag: Duration::from_secs(4) }));
}

#[test]
fn packets_leave_at_their_send_time() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_sends(switch(&[(1, 0), (2, 0)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(4));
    let burst = Burst { bits_per_second: 0, duration: Duration::ZERO };
    c.source_plays(&packets(0..3), Pace::SendTime { rate: 1.0, burst, step: Duration::ZERO });
    gets!(c, ReportStartedPlaying);
    for n in 0..3 {
        assert_eq!(c.viewer_gets_media(), [(n, 4, n as u8)]);
        c.viewer_gets_nothing_for(Duration::from_millis(99));
        c.advance(Duration::from_millis(1));
    }
}

#[test]
fn each_way_to_name_a_place_and_an_end_reaches_the_source() {
    let asked = |message: inbound::StartPlaying| {
        let mut c = Conversation::ready(WMP9, testing::file());
        c.viewer_sends(message);
        c.source_plays(&Script::default(), Pace::AsItComes)
    };
    assert_eq!(asked(start(9)).from, Position::Time(Duration::ZERO));
    assert_eq!(asked(start_at_packet(9, 22)).from, Position::Packet(PacketNumber(22)));
    let by_byte = inbound::StartPlaying { position: f64::MAX, asf_offset: 4009, ..start(9) };
    assert_eq!(asked(by_byte).from, Position::Byte(4009));
    assert_eq!(
        asked(inbound::StartPlaying { frame_offset: 2500, ..start(9) }).until,
        Some(Until::At(Duration::from_millis(2500)))
    );
    let for_a_while = inbound::StartPlaying { frame_offset: 0x8000_09C4, ..start(9) };
    assert_eq!(asked(for_a_while).until, Some(Until::For(Duration::from_millis(2500))));
    let accel = Some(inbound::Accel { bandwidth: 300_000, duration_ms: 5000 });
    let burst = Burst { bits_per_second: 300_000, duration: secs(5) };
    assert_eq!(asked(inbound::StartPlaying { accel, link_bandwidth: Some(300_000), ..start(9) }).burst, Some(burst));
}

#[test]
fn a_start_without_a_place_goes_on_at_the_same_packet_with_the_new_number() {
    let script = packets(0..2);
    let mut c = Conversation::streaming(WMP9, testing::file(), &script);
    assert_eq!(c.viewer_gets_media(), [(0, 4, 0), (1, 4, 1)]);
    c.viewer_sends(start(5));
    c.source_is_not_asked();
    assert_eq!(gets!(c, ReportStartedPlaying).play_incarnation, 5);
    script.goes_on(Next::from(packet(2, 200)));
    c.media_come();
    assert_eq!(c.viewer_gets_media(), [(2, 5, 2)]);
}

#[test]
fn af_flags_count_on_through_stops_and_starts() {
    let mut c = Conversation::streaming(WMP9, testing::file(), &packets(0..3));
    c.viewer_gets_media();
    c.viewer_sends(stop(4));
    gets!(c, ReportEndOfStream);
    c.viewer_sends(start(5));
    c.source_plays(&packets(0..2), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_media(), [(0, 5, 3), (1, 5, 4)]);
}

#[test]
fn after_fe_a_start_goes_on_with_00() {
    let mut c = Conversation::streaming(WMP9, testing::file(), &packets(0..255));
    assert_eq!(c.viewer_gets_media().last(), Some(&(254, 4, 0xFE)));
    c.viewer_sends(stop(4));
    gets!(c, ReportEndOfStream);
    c.viewer_sends(start_at_packet(5, 255));
    c.source_plays(&packets(255..257), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_media(), [(255, 5, 0x00), (256, 5, 0x01)]);
}

#[test]
fn without_a_start_the_number_after_fe_is_ff() {
    let mut c = Conversation::streaming(WMP9, testing::file(), &packets(0..257));
    assert_eq!(c.viewer_gets_media()[254..], [(254, 4, 0xFE), (255, 4, 0xFF), (256, 4, 0x00)]);
}

#[test]
fn no_media_of_the_old_play_follow_a_start_that_moves() {
    let old = packets(0..1);
    let mut c = Conversation::streaming(FREE, testing::file(), &old);
    c.viewer_gets_media();
    c.viewer_sends(start_at_packet(5, 30));
    old.goes_on(Next::from(packet(1, 100)));
    c.media_come();
    c.viewer_gets_nothing();
    c.source_plays(&packets(30..31), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_media(), [(30, 5, 1)]);
}

#[test]
fn a_stop_is_answered_with_its_own_number_even_when_nothing_plays() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_sends(stop(0x001F_FFFF));
    let end = gets!(c, ReportEndOfStream);
    assert_eq!((end.hr, end.play_incarnation), (HResult::S_OK, 0x001F_FFFF));
    c.source_is_not_asked();
}

#[test]
fn a_stop_while_the_source_is_asked_is_answered_after_the_start() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_sends(start(4));
    c.viewer_sends(stop(4));
    c.viewer_sends(logging());
    c.viewer_gets_nothing();
    c.source_plays(&packets(0..3), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    gets!(c, ReportEndOfStream);
    c.viewer_gets_nothing();
    // The report keeps its place behind the stop.
    assert_eq!(c.source_is_asked(), Request::Stop);
    assert!(matches!(c.source_is_asked(), Request::Log(_)));
}

#[test]
fn trick_mode_is_served_only_where_it_was_offered() {
    let mut c = Conversation::ready(WMP9, testing::file());
    c.viewer_sends(stride(9, 5.0));
    assert_eq!(gets!(c, ReportStartStriding).hr, HResult::NS_E_INVALID_REQUEST);
    c.source_is_not_asked();
}

fn striding() -> Opened {
    let mut opened = testing::file();
    opened.description.can_stride = true;
    opened
}

#[test]
fn rates_beyond_five_and_zero_and_nan_are_refused() {
    for rate in [5.5, -6.0, 0.0, f64::NAN, f64::INFINITY] {
        let mut c = Conversation::ready(WMP9, striding());
        c.viewer_sends(stride(9, rate));
        assert_eq!(gets!(c, ReportStartStriding).hr, HResult::E_INVALIDARG, "{rate}");
    }
}

#[test]
fn striding_at_the_normal_rate_is_still_striding() {
    let mut c = Conversation::ready(WMP9, striding());
    c.viewer_sends(stride(9, 1.0));
    c.source_plays(&Script::default(), Pace::AsItComes);
    assert_eq!(gets!(c, ReportStartStriding).hr, HResult::S_OK);
}

#[test]
fn a_change_of_rate_while_streaming_goes_on_at_the_place() {
    let mut c = Conversation::streaming(WMP9, striding(), &packets(0..8));
    c.viewer_gets_media();
    c.viewer_sends(stride(5, -2.0));
    let play = c.source_plays(&packets(3..4), Pace::AsItComes);
    assert_eq!((play.rate, play.from), (-2.0, Position::Packet(PacketNumber(7))));
    gets!(c, ReportStartStriding);
    c.viewer_gets_media();
    c.viewer_sends(start(6));
    let play = c.source_plays(&Script::default(), Pace::AsItComes);
    assert_eq!((play.rate, play.from), (1.0, Position::Packet(PacketNumber(3))));
    gets!(c, ReportStartedPlaying);
}

#[test]
fn incarnations_that_data_packets_cannot_carry_are_refused() {
    for number in [0, 0xFF, 0x104] {
        let mut c = Conversation::ready(WMP9, testing::file());
        c.viewer_sends(read_block(number));
        assert_eq!(gets!(c, ReportReadBlock).hr, HResult::E_INVALIDARG);
        let mut c = Conversation::ready(WMP9, testing::file());
        c.viewer_sends(start(number));
        assert_eq!(gets!(c, ReportStartedPlaying).hr, HResult::E_INVALIDARG);
        c.source_is_not_asked();
    }
}

#[test]
fn an_end_leaves_the_session_ready_for_another_play() {
    let script = Script::of([Next::from(packet(0, 0)), Next::Ended(End::Complete)]);
    let mut c = Conversation::streaming(FREE, testing::file(), &script);
    c.viewer_gets_media();
    let end = gets!(c, ReportEndOfStream);
    assert_eq!((end.hr, end.play_incarnation), (HResult::S_OK, 4));
    c.viewer_sends(start_at_packet(4, 20));
    c.source_plays(&packets(20..21), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_media(), [(20, 4, 1)]);
}

#[test]
fn a_packet_larger_than_the_packet_size_does_not_leave() {
    let large = Bytes::from(vec![0x82; PACKET_SIZE + 1]);
    let oversized = Packet::new(PacketNumber(1), 100, large.clone(), large);
    let script = Script::packets([packet(0, 0), packet(1, 100), oversized, packet(3, 300)]);
    let mut c = Conversation::streaming(FREE, testing::file(), &script);
    assert_eq!(c.viewer_gets_media(), [(0, 4, 0), (1, 4, 1), (3, 4, 2)]);
}
