//! From Connect to the header: 3.2.5.3 to 3.2.5.9.

use super::*;

#[test]
fn a_header_comes_in_pieces_no_larger_than_a_packet_and_no_faster_than_the_bit_rate() {
    let mut c = Conversation::begin();
    c.opens(FREE);
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c.viewer_sends(read_block(2));
    gets!(c, ReportReadBlock);
    let began = c.now;
    let pieces = c.viewer_gets_header();
    assert_eq!(testing::joined(&pieces), *testing::header().bytes());
    let facts: Vec<_> = pieces.iter().map(|p| (p.location_id.0, p.af_flags, p.payload.len())).collect();
    let last = testing::header().bytes().len() - 2 * PACKET_SIZE;
    assert_eq!(facts, [(0, 0x04, PACKET_SIZE), (1, 0x04, PACKET_SIZE), (2, 0x0C, last)]);
    // Two packets of 208 bytes at 100 kbit/s go before the last.
    assert_eq!((c.now - began).as_millis(), 34);
}

#[test]
fn a_header_of_one_piece_is_the_first_and_the_last() {
    let mut c = Conversation::begin();
    c.opens(FREE);
    let header =
        crate::asf::HeaderBuilder::new(4000).audio(testing::stream(1), &crate::asf::WaveFormat::pcm(1, 8000, 8));
    let opened = Opened { header: Arc::new(header.build().unwrap()), ..testing::file() };
    c.source_answers(Reply::Opened(Arc::new(opened)));
    gets!(c, ReportOpenFile);
    c.session.handle_input(c.now, Input::Received(read_block(0xFE).into())).unwrap();
    let sent: Vec<Bytes> = std::iter::from_fn(|| match c.session.poll_output() {
        Output::Send(bytes) => Some(bytes),
        _ => None,
    })
    .collect();
    assert_eq!((sent.len(), sent[1][4], sent[1][5]), (2, 0xFE, 0x0C));
}

#[test]
fn a_cancelled_header_begins_anew_with_the_number_of_the_next_read_block() {
    let mut c = Conversation::begin();
    c.opens(WMP9);
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c.viewer_sends(read_block(1));
    gets!(c, ReportReadBlock);
    c.viewer_gets_data();
    c.viewer_sends(inbound::CancelReadBlock { play_incarnation: 1 });
    c.viewer_gets_nothing_for(secs(1));
    c.viewer_sends(read_block(2));
    assert_eq!(gets!(c, ReportReadBlock).play_incarnation, 2);
    let pieces = c.viewer_gets_header();
    assert!(pieces.iter().all(|piece| piece.play_incarnation.get() == 2));
    assert_eq!(testing::joined(&pieces), *testing::header().bytes());
}

#[test]
fn what_was_asked_ahead_of_a_cancelled_header_is_dropped_with_it() {
    let mut c = Conversation::begin();
    c.opens(WMP9);
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c.viewer_sends(read_block(1));
    c.viewer_sends(switch(&[(1, 0)]));
    c.viewer_sends(inbound::CancelReadBlock { play_incarnation: 1 });
    c.arrived.clear();
    c.viewer_sends(read_block(2));
    gets!(c, ReportReadBlock);
    c.viewer_gets_header();
    c.viewer_gets_nothing();
}

#[test]
fn a_header_can_be_read_again_when_ready() {
    let mut c = Conversation::ready(WMP9, testing::file());
    c.viewer_sends(inbound::CancelReadBlock { play_incarnation: 2 });
    c.viewer_gets_nothing();
    c.viewer_sends(read_block(3));
    gets!(c, ReportReadBlock);
    assert_eq!(testing::joined(&c.viewer_gets_header()), *testing::header().bytes());
    c.plays(&Script::default());
}

#[test]
fn requests_ahead_of_the_last_piece_are_answered_after_it() {
    let mut c = Conversation::begin();
    c.opens(WMP9);
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c.viewer_sends(read_block(1));
    c.viewer_sends(switch(&[(1, 0), (2, 0)]));
    c.viewer_sends(start(9));
    gets!(c, ReportReadBlock);
    c.source_is_not_asked();
    c.viewer_gets_header();
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.source_plays(&Script::default(), Pace::AsItComes);
    gets!(c, ReportStartedPlaying);
}

#[test]
fn funnel_info_and_connect_funnel_may_come_again() {
    let mut c = Conversation::ready(WMP9, testing::file());
    c.viewer_sends(inbound::FunnelInfo { play_incarnation: PacketPairMode::TCP_HIGH_ENTROPY });
    assert_eq!(gets!(c, ReportFunnelInfo).play_incarnation, PacketPairMode::DISABLE);
    c.viewer_sends(connect_funnel("TCP"));
    gets!(c, ReportConnectedFunnel);
    c.viewer_gets_nothing();
    c.plays(&Script::default());
}

#[test]
fn a_file_can_be_opened_in_place_of_another() {
    let mut c = Conversation::ready(WMP9, testing::file());
    c.viewer_sends(open_file("other.asf"));
    assert!(matches!(c.source_is_asked(), Request::Open(open) if open.name == "other.asf"));
    c.source_answers(Reply::Opened(Arc::new(testing::broadcast())));
    assert!(gets!(c, ReportOpenFile).file_attributes.contains(FileAttributes::BROADCAST));
}

#[test]
fn credentials_that_come_unasked_are_passed_on_with_the_scheme_that_was_told() {
    let mut c = Conversation::begin();
    c.viewer_sends(connect(WMP9));
    c.source_is_asked();
    c.source_answers(Reply::Greeted { scheme: Some(AuthScheme::Basic) });
    assert_eq!(gets!(c, ReportConnectedEx).authen_package, "BASIC");
    c.viewer_sends(connect_funnel("TCP"));
    let token_data = Bytes::from_static(b"dTpw\0");
    c.viewer_sends(inbound::OpenFile { token_data: token_data.clone(), ..open_file("clip.asf") });
    let Request::Open(open) = c.source_is_asked() else { panic!("it asked for content") };
    assert_eq!(open.credentials, Some(Credentials { scheme: AuthScheme::Basic, token: token_data }));
}

#[test]
fn challenges_and_answers_are_relayed_as_they_are_until_the_origin_is_content() {
    let mut c = Conversation::begin();
    c.opens(WMP9);
    for round in 1..=2 {
        let token = Bytes::from(vec![0, 0, round]);
        c.source_answers(Reply::Challenge(Credentials { scheme: AuthScheme::Ntlm, token: token.clone() }));
        let challenge = gets!(c, SecurityChallenge);
        assert_eq!((challenge.play_incarnation, challenge.cookie, challenge.token), (1, u32::from(round), token));
        let (cookie, token) = (challenge.cookie, Bytes::from(vec![0, 0, 9, round]));
        c.viewer_sends(inbound::SecurityResponse { play_incarnation: 1, cookie, token: token.clone() });
        assert_eq!(c.source_is_asked(), Request::Answer(Credentials { scheme: AuthScheme::Ntlm, token }));
    }
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    assert_eq!(gets!(c, ReportOpenFile).hr, HResult::S_OK);
}

#[test]
fn a_response_to_another_challenge_ends_the_session() {
    let mut c = Conversation::begin();
    c.opens(WMP9);
    c.source_answers(Reply::Challenge(Credentials { scheme: AuthScheme::Ntlm, token: Bytes::new() }));
    gets!(c, SecurityChallenge);
    let response = inbound::SecurityResponse { play_incarnation: 1, cookie: 77, token: Bytes::new() };
    assert!(c.viewer_says(response).is_err());
    assert_eq!(gets!(c, ReportOpenFile).open_file_id, FileId(0));
}

#[test]
fn the_live_bit_is_told_to_microsoft_players_alone() {
    for (name, is_told) in [(WMP9, true), (FREE, false)] {
        let mut c = Conversation::begin();
        c.opens(name);
        c.source_answers(Reply::Opened(Arc::new(testing::broadcast())));
        let attributes = gets!(c, ReportOpenFile).file_attributes;
        assert_eq!(attributes.contains(FileAttributes::LIVE), is_told);
        assert!(attributes.contains(FileAttributes::BROADCAST));
    }
}
