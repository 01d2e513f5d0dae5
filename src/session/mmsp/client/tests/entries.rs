//! Playlists: EndOfStream that ends nothing, StreamChange, and the next header. 3.1.4.4, 3.1.5.18, 3.1.5.19.

use super::*;

#[test]
fn a_stream_change_is_answered_with_selection_and_start_at_once() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, BROADCAST);
    x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
    gets!(x, Logging);
    let header = testing::other_header();
    x.origin_sends(stream_change(&header));
    x.origin_sends_header(&header, 0xFF);
    assert_eq!(entries(&gets!(x, StreamSwitch)), [(0xFFFF, 1, 0), (0xFFFF, 2, 0), (0xFFFF, 3, 0)]);
    let start = gets!(x, StartPlaying);
    assert_eq!((start.open_file_id, start.play_incarnation, start.position), (FILE_ID, 11, 0.0));
    // Media that come before the answer carry 0xFF, those after it the new number.
    x.origin_sends_packet(0, 0xFF);
    x.origin_sends(inbound::ReportStreamSwitch { hr: HResult::S_OK });
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation: 11 });
    x.origin_sends_packet(1, 11);
    x.origin_sends_packet(2, 0xFF);
    assert_eq!(x.media(), ["changed", "0", "1"]);
    x.nothing_happened();
}

#[test]
fn streams_that_were_off_stay_off_in_the_next_entry() {
    let mut x = Exchange::ready(settings(), WMS9, BROADCAST);
    x.asks(Request::Select(vec![choice(2, Thinning::All)]));
    let incarnation = x.plays();
    x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
    x.origin_sends(stream_change(&testing::other_header()));
    x.origin_sends_header(&testing::other_header(), 0xFF);
    gets!(x, Logging);
    assert_eq!(entries(&gets!(x, StreamSwitch)), [(1, 0xFFFF, 0), (0xFFFF, 2, 0), (0xFFFF, 3, 0)]);
}

#[test]
fn a_1_without_a_stream_change_is_a_stall_from_9_on_and_an_end_below() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, BROADCAST);
    x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
    let error = x.advance(secs(10)).unwrap_err();
    assert_eq!(error.to_string(), "the origin did not answer in time while waiting for the next entry");
    for attributes in [FILE, BROADCAST] {
        let (mut x, incarnation) = Exchange::streaming(settings(), WMS4, attributes);
        x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
        x.advance(Duration::from_millis(9_999)).unwrap();
        assert!(x.media().is_empty());
        x.advance(Duration::from_millis(1)).unwrap();
        assert_eq!(x.media(), ["complete"]);
    }
}

#[test]
fn the_0_of_an_origin_below_9_on_a_broadcast_is_held_back() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS4, BROADCAST);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    gets!(x, Logging);
    assert!(x.media().is_empty());
    x.advance(secs(9)).unwrap();
    x.origin_sends(stream_change(&testing::header()));
    x.origin_sends_header(&testing::header(), 0xFF);
    assert_eq!(x.media(), ["changed"]);

    let (mut x, incarnation) = Exchange::streaming(settings(), WMS4, BROADCAST);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    x.advance(secs(10)).unwrap();
    assert_eq!(x.media(), ["complete"]);
}

#[test]
fn the_0_of_any_other_origin_is_the_end() {
    for (version, attributes) in [(WMS4, FILE), (WMS9, FILE), (WMS9, BROADCAST)] {
        let (mut x, incarnation) = Exchange::streaming(settings(), version, attributes);
        x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
        assert_eq!(x.media(), ["complete"]);
    }
}

#[test]
fn a_promise_may_be_taken_back() {
    for (hr, end) in [
        (HResult::S_OK, "complete"),
        (HResult::NS_E_NOCONNECTION, "the origin refused to go on: NS_E_NOCONNECTION (0xC00D0005)"),
    ] {
        let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, BROADCAST);
        x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
        x.origin_sends(end_of_stream(hr, incarnation));
        assert_eq!(x.media(), [end]);
    }
}

#[test]
fn an_entry_may_follow_without_an_end_of_the_one_before() {
    let (mut x, _) = Exchange::streaming(settings(), WMS9, BROADCAST);
    x.origin_sends(stream_change(&testing::header()));
    x.origin_sends_data(0, 0xFF, 0x04, &testing::header().bytes()[..100]).unwrap();
    // It changes its mind in the middle of the header.
    x.origin_sends(stream_change(&testing::other_header()));
    x.origin_sends_header(&testing::other_header(), 0xFF);
    assert_eq!(x.media(), ["changed"]);
}

#[test]
fn a_start_that_is_refused_after_a_change_ends_the_play() {
    let (mut x, _) = Exchange::streaming(settings(), WMS9, BROADCAST);
    x.origin_sends(stream_change(&testing::header()));
    x.origin_sends_header(&testing::header(), 0xFF);
    x.origin_sends(inbound::ReportStartedPlaying { hr: HResult::NS_E_INTERNAL, play_incarnation: 11 });
    assert_eq!(x.media(), ["changed", "the origin refused StartPlaying: NS_E_INTERNAL (0xC00D0024)"]);
}

#[test]
fn a_stop_between_entries_is_waited_for_too() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, BROADCAST);
    x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
    gets!(x, Logging);
    x.asks(Request::Close);
    gets!(x, StopPlaying);
    x.origin_gets_nothing();
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    gets!(x, CloseFile);
}
