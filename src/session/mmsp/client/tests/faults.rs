//! Origins that lie, stall, or send too much.

use super::*;

fn stalls(mut x: Exchange, while_what: &str) {
    x.advance(Duration::from_millis(4_999)).unwrap();
    let error = x.advance(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.to_string(), format!("the origin did not answer in time while {while_what}"));
    assert_eq!(error.refusal().reason, Reason::Timeout);
}

#[test]
fn each_answer_has_its_time() {
    stalls(Exchange::begin(), "connecting");
    let mut x = Exchange::greeted(settings(), WMS9);
    x.advance(secs(600)).unwrap();
    x.asks(Request::Open(open(None)));
    stalls(x, "asking for FunnelInfo");
    stalls(Exchange::opening(settings(), WMS9), "opening");
    let mut x = Exchange::opening(settings(), WMS9);
    x.origin_sends(report_open_file(FILE));
    stalls(x, "reading the header");
    let mut x = Exchange::ready(settings(), WMS9, FILE);
    x.advance(secs(600)).unwrap();
    x.asks(Request::Play(Play::from(Position::Default)));
    stalls(x, "starting");
    let (mut x, _) = Exchange::streaming(settings(), WMS9, FILE);
    x.origin_sends(stream_change(&testing::header()));
    stalls(x, "reading the header of the next entry");
}

#[test]
fn silence_while_streaming_is_a_stall_unless_nobody_reads() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.advance(secs(9)).unwrap();
    x.origin_sends_packet(0, incarnation);
    x.advance(secs(9)).unwrap();
    x.client.set_paused(x.now, true);
    x.drain();
    x.advance(secs(3600)).unwrap();
    // What was read before the pause still counts, and does not start the clock.
    x.origin_sends_packet(1, incarnation);
    x.advance(secs(3600)).unwrap();
    x.client.set_paused(x.now, false);
    x.drain();
    x.advance(Duration::from_millis(9_999)).unwrap();
    let error = x.advance(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.to_string(), "the origin did not answer in time while streaming");
}

#[test]
fn a_pause_between_entries_neither_ends_the_play_nor_lasts_for_ever() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS4, BROADCAST);
    x.client.set_paused(x.now, true);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    x.advance(secs(600)).unwrap();
    assert!(x.media().is_empty());
    x.client.set_paused(x.now, false);
    x.drain();
    x.advance(secs(10)).unwrap();
    assert_eq!(x.media(), ["complete"]);
}

#[test]
fn a_pause_in_the_next_header_is_no_fault_of_the_origin() {
    let (mut x, _) = Exchange::streaming(settings(), WMS9, BROADCAST);
    x.origin_sends(stream_change(&testing::header()));
    x.client.set_paused(x.now, true);
    x.drain();
    x.advance(secs(600)).unwrap();
    x.client.set_paused(x.now, false);
    x.drain();
    assert!(x.advance(secs(5)).is_err());
}

#[test]
fn a_header_without_an_end_is_not_collected() {
    let mut x = Exchange::opening(settings(), WMS9);
    x.origin_sends(report_open_file(FILE));
    x.origin_sends_data(0, 1, 0x04, &[0; 4000]).unwrap();
    let error = x.origin_sends_data(1, 1, 0x04, &[0; 97]).unwrap_err();
    assert_eq!(error, ClientError::HeaderTooLarge { limit: 4096 });
    assert_eq!(error.refusal().reason, Reason::BadContent);
}

#[test]
fn a_stream_change_to_a_header_that_is_too_large_ends_the_session() {
    let (mut x, _) = Exchange::streaming(settings(), WMS9, BROADCAST);
    let change = inbound::ReportStreamChange { header_size: 4097, ..stream_change(&testing::header()) };
    assert_eq!(x.origin_says(change), Err(ClientError::HeaderTooLarge { limit: 4096 }));
}

#[test]
fn a_header_that_is_none_is_refused() {
    let mut x = Exchange::opening(settings(), WMS9);
    x.origin_sends(report_open_file(FILE));
    let error = x.origin_sends_data(0, 1, 0x0C, &[0; 100]).unwrap_err();
    assert!(error.to_string().starts_with("the origin's ASF header is broken: "), "{error}");
}

#[test]
fn a_packet_larger_than_the_header_allows_ends_the_session() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    let error = x.origin_sends_data(0, incarnation, 0, &[0x82; PACKET_SIZE + 1]).unwrap_err();
    assert_eq!(error.to_string(), "the origin sent a data packet of 201 bytes, more than its header's 200");
}

#[test]
fn each_refusal_on_the_way_names_its_message() {
    let hr = HResult::E_ACCESSDENIED;
    let mut x = Exchange::begin();
    let error = x.origin_says(inbound::ReportConnectedEx { hr, ..connected(WMS9, "") }).unwrap_err();
    assert_eq!(error, ClientError::Refused { what: "Connect", hr });
    let mut x = Exchange::greeted(settings(), WMS9);
    x.asks(Request::Open(open(None)));
    x.origin_sends(funnel_info());
    let error = x.origin_says(inbound::ReportDisconnectedFunnel { hr: HResult::S_OK }).unwrap_err();
    assert_eq!(error, ClientError::Refused { what: "ConnectFunnel", hr: HResult::NS_E_NOFUNNEL });
    let mut x = Exchange::opening(settings(), WMS9);
    x.origin_sends(report_open_file(FILE));
    let error = x.origin_says(inbound::ReportReadBlock { hr, play_incarnation: 1 }).unwrap_err();
    assert_eq!(error, ClientError::Refused { what: "ReadBlock", hr });
}

#[test]
fn messages_at_a_time_of_their_own_change_nothing() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.origin_sends(Message::Unknown { mid: 0x0004_0077 });
    x.origin_sends(connected(WMS4, "BASIC"));
    x.origin_sends(report_open_file(BROADCAST));
    x.origin_sends(inbound::ReportConnectedFunnel { hr: HResult::S_OK });
    x.origin_sends_packet(5, incarnation);
    assert_eq!(x.media(), ["5"]);
    x.nothing_happened();
    x.origin_gets_nothing();
}
