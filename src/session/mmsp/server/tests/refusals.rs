//! What a viewer is told when something fails.

use super::*;
use crate::session::Reason;

fn refusal(reason: Reason) -> Refusal {
    Refusal::new(reason, "for a reason")
}

#[test]
fn a_refused_connect_has_its_code_and_closes() {
    let mut c = Conversation::begin();
    c.viewer_sends(connect(FREE));
    c.source_is_asked();
    c.source_answers(Reply::Refused(refusal(Reason::Loop)));
    assert_eq!(gets!(c, ReportConnectedEx).hr, HResult::E_ACCESSDENIED);
    assert_eq!(c.closing, Some(Closing::Refused(refusal(Reason::Loop))));
}

#[test]
fn a_refused_open_file_is_whole_and_names_no_file() {
    for (reason, hr) in [
        (Reason::Denied, HResult::E_ACCESSDENIED),
        (Reason::InvalidName, HResult::NS_E_INVALID_NAME),
        (Reason::NotFound, HResult::NS_E_FILE_NOT_FOUND),
        (Reason::UnknownHost, HResult::NS_E_SERVER_NOT_FOUND),
        (Reason::Unreachable, HResult::NS_E_CANNOTCONNECT),
        (Reason::Timeout, HResult::NS_E_TIMEOUT),
        (Reason::BadContent, HResult::NS_E_INVALID_DATA),
        (Reason::Protocol, HResult::NS_E_BAD_CONTROL_DATA),
        (Reason::Busy, HResult::NS_E_TOO_MANY_SESS),
    ] {
        let mut c = Conversation::begin();
        c.opens(FREE);
        c.source_answers(Reply::Refused(refusal(reason)));
        let report = gets!(c, ReportOpenFile);
        assert_eq!((report.hr, report.open_file_id, report.play_incarnation), (hr, FileId(0), 1));
        assert!(matches!(c.closing, Some(Closing::Refused(_))));
    }
}

#[test]
fn the_code_of_the_origin_is_passed_on_unchanged() {
    let mut c = Conversation::begin();
    c.opens(FREE);
    c.source_answers(Reply::Refused(Refusal { origin_code: Some(0x8007_0002), ..refusal(Reason::Origin) }));
    assert_eq!(gets!(c, ReportOpenFile).hr, HResult(0x8007_0002));
}

#[test]
fn a_code_of_the_origin_that_is_no_failure_does_not_look_like_success() {
    let mut c = Conversation::begin();
    c.opens(FREE);
    c.source_answers(Reply::Refused(Refusal { origin_code: Some(1), ..refusal(Reason::NotFound) }));
    assert_eq!(gets!(c, ReportOpenFile).hr, HResult::NS_E_FILE_NOT_FOUND);
}

#[test]
fn a_refused_start_leaves_the_session_ready() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_sends(start(4));
    c.source_is_asked();
    c.source_answers(Reply::Refused(refusal(Reason::Timeout)));
    let started = gets!(c, ReportStartedPlaying);
    assert_eq!((started.hr, started.play_incarnation), (HResult::NS_E_TIMEOUT, 4));
    assert_eq!(c.closing, None);
    c.plays(&Script::default());
}

#[test]
fn a_redirect_reaches_only_players_that_follow_it() {
    let to = "mms://elsewhere.example/clip.asf".to_owned();
    let mut c = Conversation::begin();
    c.opens(WMP9);
    c.source_answers(Reply::Redirect(to.clone()));
    let redirect = gets!(c, ReportRedirect);
    assert_eq!((redirect.redirect_type, redirect.location), (1, to.clone()));
    assert_eq!(c.closing, Some(Closing::Redirected(to.clone())));
    for name in [FREE, WMS4, "NSPlayer/4.1.0.3928; {68c0a090-8797-11d2-a2b3-00a0c9b60551}\0"] {
        let mut c = Conversation::begin();
        c.opens(name);
        c.source_answers(Reply::Redirect(to.clone()));
        let report = gets!(c, ReportOpenFile);
        assert_eq!((report.hr, report.open_file_id), (HResult::NS_E_REDIRECT, FileId(0)));
        assert!(c.closing.is_some());
    }
}

#[test]
fn messages_out_of_turn_get_the_report_they_wait_for_and_end_the_session() {
    let mut c = Conversation::begin();
    let error = c.viewer_says(open_file("clip.asf")).unwrap_err();
    assert_eq!(error.to_string(), "OpenFile while waiting for Connect ([MS-MMSP] 3.2.5)");
    assert_eq!(gets!(c, ReportOpenFile).hr, HResult::NS_E_INVALID_REQUEST);

    let mut c = Conversation::begin();
    c.viewer_sends(connect(FREE));
    c.source_greets();
    gets!(c, ReportConnectedEx);
    assert!(c.viewer_says(connect(FREE)).is_err());
    assert_eq!(gets!(c, ReportConnectedEx).hr, HResult::NS_E_INVALID_REQUEST);

    let mut c = Conversation::begin();
    c.viewer_sends(connect(FREE));
    c.source_greets();
    gets!(c, ReportConnectedEx);
    let error = c.viewer_says(start(4)).unwrap_err();
    assert_eq!(error.to_string(), "StartPlaying while waiting for ConnectFunnel ([MS-MMSP] 3.2.5)");
    assert_eq!(gets!(c, ReportStartedPlaying).hr, HResult::NS_E_INVALID_REQUEST);

    let mut c = Conversation::streaming(FREE, testing::file(), &Script::default());
    assert!(c.viewer_says(read_block(2)).is_err());
    assert_eq!(gets!(c, ReportReadBlock).hr, HResult::NS_E_INVALID_REQUEST);
}

#[test]
fn nothing_follows_the_end_of_a_session() {
    let mut c = Conversation::streaming(FREE, testing::file(), &Script::default());
    c.viewer_sends(close_file());
    c.asked.clear();
    c.viewer_sends(logging());
    c.viewer_sends(close_file());
    c.viewer_sends(start(5));
    c.session.end(c.now, refusal(Reason::Kicked));
    c.settle();
    c.source_is_not_asked();
    c.viewer_gets_nothing_for(secs(7200));
}

#[test]
fn messages_without_a_known_mid_are_ignored() {
    let mut c = Conversation::begin();
    c.viewer_sends(Message::Unknown { mid: 0x0003_0030 });
    c.opens(FREE);
}

#[test]
fn a_pong_and_a_report_before_their_time_change_nothing() {
    let mut c = Conversation::begin();
    c.viewer_sends(Message::Pong);
    c.viewer_sends(connect(FREE));
    c.source_greets();
    c.viewer_sends(logging());
    c.source_is_not_asked();
    gets!(c, ReportConnectedEx);
}

#[test]
fn a_viewer_that_plays_is_told_the_end_before_it_is_put_out() {
    let mut c = Conversation::streaming(FREE, testing::file(), &Script::default());
    c.session.end(c.now, refusal(Reason::Kicked));
    c.settle();
    let end = gets!(c, ReportEndOfStream);
    assert_eq!((end.hr, end.play_incarnation), (HResult::NS_E_NOCONNECTION, 4));
    assert_eq!(c.source_is_asked(), Request::Stop);
    assert!(matches!(c.closing, Some(Closing::Refused(_))));
}

#[test]
fn a_viewer_that_waits_for_an_answer_gets_it_before_it_is_put_out() {
    let mut c = Conversation::begin();
    c.opens(FREE);
    c.session.end(c.now, refusal(Reason::Draining));
    c.settle();
    assert_eq!(gets!(c, ReportOpenFile).hr, HResult::NS_E_NOCONNECTION);
    assert!(c.closing.is_some());
}
