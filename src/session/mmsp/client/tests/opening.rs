//! From Connect to the header: 3.1.4.1 to 3.1.5.12.

use super::*;

#[test]
fn the_first_messages_are_those_of_a_windows_media_format_9_client() {
    let mut x = Exchange::begin();
    let connect = gets!(x, Connect);
    assert_eq!((connect.play_incarnation, connect.subscriber_name), (PacketPairMode::DISABLE, settings().name));
    x.origin_gets_nothing();
    x.origin_sends(connected(WMS9, "NTLM"));
    let Event::Connected { scheme, version } = x.event() else { panic!("connected") };
    assert_eq!((scheme, version.as_str()), (Some(AuthScheme::Ntlm), WMS9));
    assert!(x.client.is_greeted());
    x.origin_gets_nothing();
    x.asks(Request::Open(open(None)));
    assert_eq!(gets!(x, FunnelInfo).play_incarnation, PacketPairMode::DISABLE);
    x.origin_sends(funnel_info());
    let funnel = gets!(x, ConnectFunnel);
    assert_eq!((funnel.funnel_name.as_str(), funnel.max_bit_rate), (r"\\127.0.0.1\TCP\1037", 0x0098_9680));
    x.origin_sends(inbound::ReportConnectedFunnel { hr: HResult::S_OK });
    let opened = gets!(x, OpenFile);
    assert_eq!((opened.play_incarnation, opened.file_name.as_str()), (9, "clip.asf"));
    assert!(opened.token_data.is_empty());
    x.origin_sends(report_open_file(FILE));
    let read = gets!(x, ReadBlock);
    assert_eq!((read.open_file_id, read.play_incarnation), (FILE_ID, 1));
    x.origin_sends(inbound::ReportReadBlock { hr: HResult::S_OK, play_incarnation: 1 });
    x.origin_sends_header(&testing::header(), 1);
    let Event::Opened(opened) = x.event() else { panic!("opened") };
    assert_eq!(opened.header.bytes(), testing::header().bytes());
    let Description { can_seek, broadcast, authenticated, packet_count, bit_rate, .. } = opened.description;
    assert!(can_seek && !broadcast && !authenticated);
    assert_eq!((packet_count, bit_rate), (49, 100_000));
}

#[test]
fn three_funnel_infos_of_a_server_that_measures_are_tolerated() {
    let mut x = Exchange::greeted(settings(), WMS9);
    x.asks(Request::Open(open(None)));
    gets!(x, FunnelInfo);
    for _ in 0..3 {
        x.origin_sends(inbound::ReportFunnelInfo {
            play_incarnation: PacketPairMode::TCP_HIGH_ENTROPY,
            ..funnel_info()
        });
    }
    gets!(x, ConnectFunnel);
    x.origin_gets_nothing();
    x.origin_sends(inbound::ReportConnectedFunnel { hr: HResult::S_OK });
    gets!(x, OpenFile);
}

#[test]
fn a_header_before_its_report_and_data_of_others_do_no_harm() {
    let mut x = Exchange::opening(settings(), WMS9);
    x.origin_sends(report_open_file(FILE));
    gets!(x, ReadBlock);
    x.origin_sends_data(0xF0F0_F000, 0xFF, 0x10, &[7; 100]).unwrap();
    x.origin_sends_header(&testing::header(), 1);
    assert!(matches!(x.event(), Event::Opened(_)));
    x.origin_sends(inbound::ReportReadBlock { hr: HResult::S_OK, play_incarnation: 1 });
    x.nothing_happened();
}

#[test]
fn a_header_that_takes_long_is_waited_for_as_long_as_pieces_come() {
    let mut x = Exchange::opening(settings(), WMS9);
    x.origin_sends(report_open_file(FILE));
    gets!(x, ReadBlock);
    let header = testing::header();
    let bytes = header.bytes();
    for piece in bytes[..bytes.len() - 1].chunks(PACKET_SIZE) {
        x.advance(secs(4)).unwrap();
        x.origin_sends_data(0, 1, 0x04, piece).unwrap();
    }
    // Nothing is no piece.
    x.advance(secs(4)).unwrap();
    x.origin_sends_data(0, 1, 0x04, &[]).unwrap();
    let error = x.advance(secs(1)).unwrap_err();
    assert_eq!(error.to_string(), "the origin did not answer in time while reading the header");
}

#[test]
fn a_pong_answers_each_ping_at_any_time() {
    let mut x = Exchange::begin();
    gets!(x, Connect);
    x.origin_sends(Message::Ping);
    assert_eq!(x.origin_gets(), out::Message::Pong);
    x.origin_sends(connected(WMS9, "NTLM"));
    x.origin_sends(Message::Ping);
    assert_eq!(x.origin_gets(), out::Message::Pong);
    let (mut x, _) = Exchange::streaming(settings(), WMS9, FILE);
    x.origin_sends(Message::Ping);
    assert_eq!(x.origin_gets(), out::Message::Pong);
}

#[test]
fn a_challenge_goes_up_and_its_answer_down_as_they_are() {
    let mut x = Exchange::opening(settings(), WMS9);
    let token = Bytes::from_static(&[0, 0]);
    x.origin_sends(inbound::SecurityChallenge { play_incarnation: 9, cookie: 0x77, token: token.clone() });
    let Event::Challenge(credentials) = x.event() else { panic!("a challenge") };
    assert_eq!(credentials, Credentials { scheme: AuthScheme::Ntlm, token });
    x.advance(secs(600)).unwrap();
    let token = Bytes::from_static(b"\0\0NTLMSSP\0");
    x.asks(Request::Answer(Credentials { scheme: AuthScheme::Ntlm, token: token.clone() }));
    let response = gets!(x, SecurityResponse);
    assert_eq!((response.play_incarnation, response.cookie, response.token), (9, 0x77, token));
    x.origin_sends(report_open_file(FILE));
    gets!(x, ReadBlock);
    x.origin_sends_header(&testing::header(), 1);
    let Event::Opened(opened) = x.event() else { panic!("opened") };
    assert!(opened.description.authenticated);
}

#[test]
fn the_scheme_of_a_challenge_shows_in_its_first_bytes_and_below_9_in_what_was_announced() {
    let scheme = |version: &str, announced: &str, token: &'static [u8]| {
        let mut x = Exchange::begin();
        gets!(x, Connect);
        x.origin_sends(connected(version, announced));
        x.event();
        x.asks(Request::Open(open(None)));
        x.origin_sends(funnel_info());
        x.origin_sends(inbound::ReportConnectedFunnel { hr: HResult::S_OK });
        let token = Bytes::from_static(token);
        x.origin_sends(inbound::SecurityChallenge { play_incarnation: 9, cookie: 1, token });
        let Event::Challenge(credentials) = x.event() else { panic!("a challenge") };
        credentials.scheme
    };
    assert_eq!(scheme(WMS9, "BASIC", &[0, 0]), AuthScheme::Ntlm);
    assert_eq!(scheme(WMS9, "NTLM", b"r\0e\0"), AuthScheme::Basic);
    assert_eq!(scheme(WMS4, "BASIC", &[0, 0]), AuthScheme::Basic);
    assert_eq!(scheme(WMS4, "NTLM", &[0, 0]), AuthScheme::Ntlm);
    assert_eq!(scheme(WMS4, "NTLM", b"r\0e\0"), AuthScheme::Basic);
}

#[test]
fn credentials_go_along_with_open_file_only_to_an_origin_of_their_scheme() {
    for (scheme, token) in [(AuthScheme::Ntlm, "secret"), (AuthScheme::Basic, "")] {
        let mut x = Exchange::greeted(settings(), WMS9);
        let credentials = Credentials { scheme, token: Bytes::from_static(b"secret") };
        x.asks(Request::Open(open(Some(credentials))));
        gets!(x, FunnelInfo);
        x.origin_sends(funnel_info());
        gets!(x, ConnectFunnel);
        x.origin_sends(inbound::ReportConnectedFunnel { hr: HResult::S_OK });
        assert_eq!(gets!(x, OpenFile).token_data, token.as_bytes());
    }
}

#[test]
fn a_redirect_ends_the_session_and_says_where_to() {
    let mut x = Exchange::opening(settings(), WMS9);
    let location = "mms://other.example/clip.asf".to_owned();
    x.origin_sends(inbound::ReportRedirect { hr: HResult::S_OK, redirect_type: 1, location: location.clone() });
    assert!(matches!(x.event(), Event::Redirect { kind: 1, location: to } if to == location));
    x.asks(Request::Close);
    assert!(matches!(x.event(), Event::Closed));
    x.origin_gets_nothing();
    x.advance(secs(60)).unwrap();
}

#[test]
fn a_refusal_carries_the_origins_code() {
    let refused = |hr| {
        let mut x = Exchange::opening(settings(), WMS9);
        x.origin_sends(inbound::ReportOpenFile { hr, ..report_open_file(FILE) });
        let Event::Refused(refusal) = x.event() else { panic!("refused") };
        assert_eq!(refusal.detail, format!("the origin refused OpenFile: {hr}"));
        (refusal.reason, refusal.origin_code)
    };
    assert_eq!(refused(HResult::NS_E_FILE_NOT_FOUND), (Reason::NotFound, Some(0xC00D_001A)));
    assert_eq!(refused(HResult::E_ACCESSDENIED), (Reason::Forbidden, Some(0x8007_0005)));
    assert_eq!(refused(HResult::NS_E_TOO_MANY_SESS), (Reason::Origin, Some(0xC00D_000F)));
}
