//! Clocks and bounds: who may let how much time pass, and how much may wait.

use super::*;

#[test]
fn a_viewer_has_ten_seconds_in_all_until_it_has_the_header() {
    let mut c = Conversation::begin();
    c.advance(secs(6));
    c.viewer_sends(connect(FREE));
    c.source_greets();
    gets!(c, ReportConnectedEx);
    c.advance(Duration::from_millis(3999));
    assert_eq!(c.closing, None);
    c.advance(Duration::from_millis(1));
    assert_eq!(c.closing, Some(Closing::Handshake("waiting for ConnectFunnel")));
}

#[test]
fn the_time_of_the_source_is_not_the_viewers() {
    let mut c = Conversation::begin();
    c.advance(secs(5));
    c.viewer_sends(connect(FREE));
    c.advance(secs(60));
    c.source_greets();
    gets!(c, ReportConnectedEx);
    c.viewer_sends(connect_funnel("TCP"));
    gets!(c, ReportConnectedFunnel);
    c.viewer_sends(open_file("clip.asf"));
    c.source_is_asked();
    c.advance(secs(60));
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c.advance(Duration::from_millis(4999));
    assert_eq!(c.closing, None);
    c.advance(Duration::from_millis(1));
    assert_eq!(c.closing, Some(Closing::Handshake("waiting for ReadBlock")));
}

#[test]
fn a_viewer_that_has_the_header_is_in_no_hurry() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_gets_nothing_for(secs(3599));
    assert_eq!(c.closing, None);
    c.advance(secs(1));
    assert_eq!(c.closing, Some(Closing::Idle));
}

#[test]
fn a_login_prompt_has_a_time_of_its_own() {
    let challenged = || {
        let mut c = Conversation::begin();
        c.opens(WMP9);
        c.source_answers(Reply::Challenge(Credentials { scheme: AuthScheme::Ntlm, token: Bytes::new() }));
        let cookie = gets!(c, SecurityChallenge).cookie;
        (c, cookie)
    };
    let (mut c, cookie) = challenged();
    c.advance(secs(30));
    c.viewer_sends(inbound::SecurityResponse { play_incarnation: 1, cookie, token: Bytes::new() });
    assert!(matches!(c.source_is_asked(), Request::Answer(_)));
    c.advance(secs(300));
    assert_eq!(c.closing, None);
    let (mut c, _) = challenged();
    c.advance(secs(120));
    assert_eq!(c.closing, Some(Closing::Login));
}

#[test]
fn no_ping_goes_out_before_the_first_play() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_gets_nothing_for(secs(300));
    c.plays(&Script::default());
    c.viewer_gets_nothing_for(secs(29));
    c.advance(secs(1));
    assert_eq!(c.viewer_gets(), out::Message::Ping);
}

#[test]
fn pings_go_on_every_30_s_and_any_control_packet_puts_them_off() {
    let mut c = Conversation::streaming(FREE, testing::file(), &Script::default());
    for _ in 0..3 {
        c.viewer_gets_nothing_for(Duration::from_millis(29_999));
        c.advance(Duration::from_millis(1));
        assert_eq!(c.viewer_gets(), out::Message::Ping);
    }
    c.advance(secs(20));
    c.viewer_sends(Message::Pong);
    c.viewer_gets_nothing_for(secs(29));
    c.viewer_sends(switch(&[(1, 0)]));
    gets!(c, ReportStreamSwitch);
    c.viewer_gets_nothing_for(secs(29));
}

#[test]
fn a_paused_viewer_is_pinged_and_leaves_by_idle_timeout() {
    let mut c = Conversation::streaming(FREE, testing::file(), &Script::default());
    c.viewer_sends(stop(0x001F_FFFF));
    gets!(c, ReportEndOfStream);
    c.advance(secs(3599));
    assert_eq!((c.arrived.len(), &c.closing), (119, &None));
    c.advance(secs(1));
    assert_eq!(c.closing, Some(Closing::Idle));
}

#[test]
fn a_play_has_no_idle_timeout() {
    let mut c = Conversation::streaming(FREE, testing::file(), &Script::default());
    c.advance(secs(7200));
    assert_eq!(c.closing, None);
}

#[test]
fn more_than_16_requests_ahead_of_the_answers_end_the_session() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_sends(start(4));
    for _ in 0..16 {
        c.viewer_sends(stop(4));
    }
    assert_eq!(c.viewer_says(stop(4)), Err(SessionError::Backlog));
}

#[test]
fn media_wait_for_the_reply_and_a_full_batch_is_gone_on_with_at_once() {
    let mut c = Conversation::ready(FREE, testing::file());
    c.viewer_sends(switch(&[(1, 0), (2, 0)]));
    c.viewer_sends(start(4));
    c.arrived.clear();
    let packets = (0..50).map(|n| testing::packet(n, n as u32));
    let cursor = Box::new(Script::packets(packets));
    let reply = Reply::Playing(Playing { cursor, pace: Pace::AsItComes });
    c.session.handle_input(c.now, Input::Reply(reply)).unwrap();
    let mut batch = Batch::new();
    // A writer may ask before the task has sent ReportStartedPlaying.
    assert_eq!(c.session.poll_media(c.now, 500, &mut batch, &mut Batch::new()), None);
    assert!(batch.is_empty());
    c.drain();
    assert_eq!(c.session.poll_media(c.now, 500, &mut batch, &mut Batch::new()), Some(c.now));
    let first = batch.bytes();
    assert!((500..500 + PACKET_SIZE + 8).contains(&first));
    assert_eq!(c.session.poll_media(c.now, 500, &mut batch, &mut Batch::new()), Some(c.now));
    assert_eq!(batch.bytes(), first);
    assert_eq!(c.session.poll_media(c.now, 1 << 20, &mut batch, &mut Batch::new()), None);
    assert_eq!(batch.take_packets(), 50);
}
