//! Logging: every play is reported once, by the player or by us. 3.1.4.5, 3.1.5.18.

use super::*;
use crate::wire::mmsp::client_log::ClientLog;

fn player_reports() -> Settings {
    Settings { player_reports: true, ..settings() }
}

fn players_log() -> Request {
    let mut bytes = Vec::new();
    let mut log = ClientLog { source_id: FileId(1), ..ClientLog::default() };
    log.info.url = "the player's own".to_owned();
    log.encode(&mut bytes);
    Request::Log(PlayerLog::ClientLog(bytes.into()))
}

/// Which play was reported, by its URL, and how many packets it had.
fn reported(x: &mut Exchange) -> (String, u32) {
    let log = ClientLog::decode(&gets!(x, Logging).client_log).unwrap();
    assert_eq!((log.source_id, log.transport.as_str()), (FILE_ID, "TCP"));
    (log.info.url, log.info.packets_received)
}

#[test]
fn our_report_says_what_we_received() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.origin_sends_packet(0, incarnation);
    x.origin_sends_packet(1, incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    assert_eq!(reported(&mut x), ("mms://o:1755/clip.asf".to_owned(), 2));
    x.asks(Request::Close);
    gets!(x, CloseFile);
}

#[test]
fn a_players_report_goes_out_right_behind_the_stop_and_once() {
    let (mut x, incarnation) = Exchange::streaming(player_reports(), WMS9, FILE);
    x.asks(Request::Stop);
    gets!(x, StopPlaying);
    x.origin_gets_nothing();
    x.asks(players_log());
    assert_eq!(reported(&mut x).0, "the player's own");
    x.asks(players_log());
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    x.asks(Request::Close);
    gets!(x, CloseFile);
}

#[test]
fn a_players_report_after_the_end_of_the_stream_is_the_only_one() {
    let (mut x, incarnation) = Exchange::streaming(player_reports(), WMS9, FILE);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    x.origin_gets_nothing();
    x.asks(players_log());
    assert_eq!(reported(&mut x).0, "the player's own");
    x.plays();
}

#[test]
fn what_the_player_left_out_is_reported_before_the_next_start_or_close() {
    let (mut x, incarnation) = Exchange::streaming(player_reports(), WMS9, FILE);
    x.origin_sends_packet(0, incarnation);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    x.origin_gets_nothing();
    x.advance(secs(60)).unwrap();
    x.asks(Request::Close);
    assert_eq!(reported(&mut x), ("mms://o:1755/clip.asf".to_owned(), 1));
    gets!(x, CloseFile);
    x.origin_gets_nothing();
}

#[test]
fn each_entry_is_reported_before_the_next_is_started_and_once() {
    let (mut x, incarnation) = Exchange::streaming(player_reports(), WMS9, BROADCAST);
    x.origin_sends_packet(0, incarnation);
    x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
    x.origin_sends(stream_change(&testing::header()));
    x.origin_sends_header(&testing::header(), 0xFF);
    assert_eq!(reported(&mut x), ("mms://o:1755/clip.asf".to_owned(), 1));
    gets!(x, StreamSwitch);
    let second = gets!(x, StartPlaying).play_incarnation as u8;
    // The player learns of the end only now, and its report would be the second.
    x.asks(players_log());
    x.origin_gets_nothing();
    x.origin_sends_packet(0, second);
    x.origin_sends(end_of_stream(HResult::S_OK, second));
    x.origin_gets_nothing();
    x.asks(players_log());
    assert_eq!(reported(&mut x).0, "the player's own");
}

#[test]
fn a_player_that_reported_no_entry_may_still_report_the_last() {
    let (mut x, incarnation) = Exchange::streaming(player_reports(), WMS9, BROADCAST);
    x.origin_sends(end_of_stream(HResult::S_FALSE, incarnation));
    x.origin_sends(stream_change(&testing::header()));
    x.origin_sends_header(&testing::header(), 0xFF);
    gets!(x, Logging);
    gets!(x, StreamSwitch);
    let second = gets!(x, StartPlaying).play_incarnation as u8;
    x.origin_sends(end_of_stream(HResult::S_OK, second));
    x.asks(players_log());
    assert_eq!(reported(&mut x).0, "the player's own");
}

#[test]
fn a_player_that_should_not_report_does_not_make_a_second_one() {
    let (mut x, incarnation) = Exchange::streaming(settings(), WMS9, FILE);
    x.origin_sends(end_of_stream(HResult::S_OK, incarnation));
    gets!(x, Logging);
    x.asks(players_log());
    x.origin_gets_nothing();
}

#[test]
fn a_report_before_anything_was_opened_goes_nowhere() {
    let mut x = Exchange::greeted(player_reports(), WMS9);
    x.asks(players_log());
    x.origin_gets_nothing();
}
