//! The end of a stream and the next entry of a playlist: 3.2.4.1, 3.2.4.2.

use super::*;
use crate::session::Reason;
use crate::session::mmsp::testing::packet;

fn changing() -> Script {
    Script::of([
        Next::from(packet(7, 700)),
        Next::Changed(testing::other_header()),
        Next::from(packet(0, 0)),
        Next::from(packet(1, 100)),
    ])
}

/// Up to the last piece of the new header.
fn change(name: &str, opened: Opened) -> (Conversation, HResult) {
    let mut c = Conversation::streaming(name, opened, &changing());
    assert_eq!(c.viewer_gets_media(), [(7, 4, 0)]);
    let end = gets!(c, ReportEndOfStream);
    assert_eq!(end.play_incarnation, 4);
    let change = gets!(c, ReportStreamChange);
    let header = testing::other_header();
    assert_eq!(change.header_size as usize, header.bytes().len());
    assert_eq!((change.packet_size as usize, change.bit_rate), (PACKET_SIZE, header.bit_rate()));
    let pieces = c.viewer_gets_header();
    assert!(pieces.iter().all(|piece| piece.play_incarnation == Incarnation::UNREQUESTED));
    assert_eq!(pieces.last().unwrap().af_flags, 0x0C);
    assert_eq!(testing::joined(&pieces), *header.bytes());
    (c, end.hr)
}

#[test]
fn media_of_the_next_entry_wait_for_start_playing() {
    let (mut c, hr) = change(FREE, testing::file());
    assert_eq!(hr, HResult::S_FALSE);
    c.viewer_gets_nothing_for(secs(4));
    c.viewer_sends(switch(&[(1, 0), (2, 0), (3, 2)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    // Any place that it names counts for nothing here.
    c.viewer_sends(start_at_packet(5, 30));
    gets!(c, ReportStartedPlaying);
    c.source_is_not_asked();
    assert_eq!(c.viewer_gets_media(), [(0, 5, 1), (1, 5, 2)]);
}

#[test]
fn a_start_playing_that_does_not_come_is_waited_for_five_seconds() {
    let (mut c, _) = change(FREE, testing::file());
    c.viewer_gets_nothing_for(Duration::from_millis(4999));
    c.advance(Duration::from_millis(1));
    assert_eq!(c.viewer_gets_media(), [(0, 0xFF, 1), (1, 0xFF, 2)]);
    c.viewer_sends(start(5));
    gets!(c, ReportStartedPlaying);
    c.source_is_not_asked();
}

#[test]
fn a_start_playing_ahead_of_the_last_piece_does_not_renumber_the_header() {
    let mut c = Conversation::streaming(FREE, testing::file(), &changing());
    c.viewer_gets_media();
    gets!(c, ReportEndOfStream);
    gets!(c, ReportStreamChange);
    assert_eq!(c.viewer_gets_data().play_incarnation, Incarnation::UNREQUESTED);
    c.viewer_sends(start(5));
    gets!(c, ReportStartedPlaying);
    let rest = c.viewer_gets_header();
    assert!(rest.iter().all(|piece| piece.play_incarnation == Incarnation::UNREQUESTED));
    assert_eq!(c.viewer_gets_media(), [(0, 5, 1), (1, 5, 2)]);
}

#[test]
fn which_code_stands_between_entries_depends_on_who_was_told_what() {
    let version9 = || Settings { server_version: "9.1.1.3841".to_owned(), ..Settings::default() };
    let hr = |settings: Settings, name: &str, opened: Opened| {
        let script = changing();
        let mut c = Conversation::ready_with(settings, name, opened);
        c.plays(&script);
        c.viewer_gets_media();
        gets!(c, ReportEndOfStream).hr
    };
    assert_eq!(hr(Settings::default(), FREE, testing::broadcast()), HResult::S_FALSE);
    assert_eq!(hr(Settings::default(), WMP9, testing::file()), HResult::S_FALSE);
    // These read the 1 of a server below 9 as the end.
    assert_eq!(hr(Settings::default(), WMP9, testing::broadcast()), HResult::S_OK);
    assert_eq!(hr(version9(), WMP9, testing::broadcast()), HResult::S_FALSE);
}

#[test]
fn a_microsoft_player_is_closed_30_s_after_a_broadcast_ended() {
    let script = Script::of([Next::from(packet(0, 0)), Next::Ended(End::Complete)]);
    let mut c = Conversation::streaming(WMP9, testing::broadcast(), &script);
    c.viewer_gets_media();
    assert_eq!(gets!(c, ReportEndOfStream).hr, HResult::S_OK);
    c.advance(Duration::from_millis(29_999));
    assert_eq!(c.closing, None);
    c.advance(Duration::from_millis(1));
    assert_eq!(c.closing, Some(Closing::BroadcastEnded));
}

#[test]
fn a_player_that_starts_again_after_a_broadcast_ended_stays() {
    let script = Script::of([Next::Ended(End::Complete)]);
    let mut c = Conversation::streaming(WMP9, testing::broadcast(), &script);
    gets!(c, ReportEndOfStream);
    c.viewer_sends(start(5));
    c.source_plays(&Script::default(), Pace::AsItComes);
    c.advance(secs(60));
    assert_eq!(c.closing, None);
}

#[test]
fn nobody_else_is_closed_at_an_end() {
    for (name, opened) in [(FREE, testing::broadcast()), (WMP9, testing::file())] {
        let mut c = Conversation::streaming(name, opened, &Script::of([Next::Ended(End::Complete)]));
        gets!(c, ReportEndOfStream);
        c.advance(secs(120));
        assert_eq!(c.closing, None);
    }
}

#[test]
fn a_play_that_breaks_ends_with_the_code_and_leaves_the_session() {
    let lost = End::Failed(Refusal::new(Reason::Lost, "the origin closed the connection"));
    let mut c = Conversation::streaming(WMP9, testing::broadcast(), &Script::of([Next::Ended(lost)]));
    assert_eq!(gets!(c, ReportEndOfStream).hr, HResult::NS_E_CONNECTION_FAILURE);
    c.advance(secs(60));
    assert_eq!(c.closing, None);
}

#[test]
fn a_play_is_broken_until_the_next_begins() {
    let lost = End::Failed(Refusal::new(Reason::Lost, "the origin closed the connection"));
    let mut c = Conversation::streaming(WMP9, testing::broadcast(), &Script::of([Next::Ended(lost)]));
    gets!(c, ReportEndOfStream);
    assert_eq!(c.session.failure().map(|refusal| refusal.reason), Some(Reason::Lost));
    c.viewer_sends(start(5));
    c.source_plays(&Script::default(), Pace::AsItComes);
    assert_eq!(gets!(c, ReportStartedPlaying).hr, HResult::S_OK);
    assert_eq!(c.session.failure(), None);
}
