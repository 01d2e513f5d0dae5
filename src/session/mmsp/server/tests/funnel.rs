//! Which way Data packets go, and who is still there to get them: 3.2.5.5.

use super::*;
use crate::session::Reason;
use crate::session::mmsp::testing::packet;

fn at_funnel(settings: Settings) -> Conversation {
    let mut c = Conversation::with(settings);
    c.viewer_sends(connect(FREE));
    c.source_greets();
    gets!(c, ReportConnectedEx);
    c
}

fn funnel(name: &str) -> inbound::ConnectFunnel {
    inbound::ConnectFunnel { funnel_name: name.to_owned(), max_bit_rate: 0 }
}

fn udp(port: u16) -> Funnel {
    Funnel::Udp(NonZeroU16::new(port).unwrap())
}

fn is_refused(c: &mut Conversation) {
    assert_eq!(gets!(c, ReportDisconnectedFunnel).hr, HResult::NS_E_NOFUNNEL);
}

#[test]
fn a_port_is_the_viewers_when_the_driver_has_it() {
    let mut c = at_funnel(with_udp());
    c.viewer_sends(funnel(r"\\10.9.8.7\udp\7000"));
    c.viewer_gets_nothing();
    assert_eq!(c.session.funnel(), Funnel::Tcp);
    c.driver_claims(7000);
    gets!(c, ReportConnectedFunnel);
    assert_eq!((c.session.funnel(), c.session.client_id()), (udp(7000), CLIENT_ID));
}

#[test]
fn a_viewer_whose_port_another_has_takes_tcp() {
    let mut c = at_funnel(with_udp());
    c.viewer_sends(connect_funnel("UDP"));
    c.claims.clear();
    c.input(Input::Funnel(Err(Refusal::new(Reason::Busy, "another viewer has the port")))).unwrap();
    is_refused(&mut c);
    c.viewer_sends(connect_funnel("TCP"));
    gets!(c, ReportConnectedFunnel);
    assert_eq!((c.session.funnel(), c.claims.len()), (Funnel::Tcp, 0));
}

#[test]
fn what_comes_before_the_driver_has_the_port_waits() {
    let mut c = at_funnel(with_udp());
    c.viewer_sends(connect_funnel("UDP"));
    c.viewer_sends(open_file("clip.asf"));
    c.viewer_gets_nothing();
    c.source_is_not_asked();
    c.driver_claims(1037);
    gets!(c, ReportConnectedFunnel);
    assert!(matches!(c.source_is_asked(), Request::Open(_)));
}

#[test]
fn what_can_be_nobodys_funnel_is_refused_without_a_question() {
    let mut c = at_funnel(with_udp());
    for name in [r"\\10.9.8.7\UDP\1023", r"\\10.9.8.7\UDP\0", r"\\10.9.8.7\CUBDD\1100\1200", "UDP"] {
        c.viewer_sends(funnel(name));
        is_refused(&mut c);
    }
    assert!(c.claims.is_empty());
    let mut c = at_funnel(Settings::default());
    c.viewer_sends(connect_funnel("UDP"));
    is_refused(&mut c);
    assert!(c.claims.is_empty());
    // An answer to a question that nobody asked.
    c.input(Input::Funnel(Ok(()))).unwrap();
    c.viewer_gets_nothing();
    assert_eq!(c.session.funnel(), Funnel::Tcp);
}

#[test]
fn a_funnel_may_change_and_only_one_over_udp_is_given_back() {
    let mut c = at_funnel(with_udp());
    c.viewer_sends(connect_funnel("TCP"));
    gets!(c, ReportConnectedFunnel);
    assert!(c.claims.is_empty());
    c.viewer_sends(connect_funnel("UDP"));
    c.driver_claims(1037);
    gets!(c, ReportConnectedFunnel);
    c.viewer_sends(funnel(r"\\10.9.8.7\UDP\1038"));
    assert_eq!(c.session.funnel(), udp(1037));
    c.driver_claims(1038);
    gets!(c, ReportConnectedFunnel);
    assert_eq!(c.session.funnel(), udp(1038));
    // What it had stays where it can't have the other.
    c.viewer_sends(funnel(r"\\10.9.8.7\UDP\80"));
    is_refused(&mut c);
    assert_eq!(c.session.funnel(), udp(1038));
    c.viewer_sends(connect_funnel("TCP"));
    gets!(c, ReportConnectedFunnel);
    assert_eq!((c.session.funnel(), c.claims.pop_front()), (Funnel::Tcp, Some(None)));
}

#[test]
fn nobody_tries_port_after_port() {
    let mut c = at_funnel(with_udp());
    for _ in 0..8 {
        c.viewer_sends(connect_funnel("UDP"));
        c.driver_claims(1037);
        gets!(c, ReportConnectedFunnel);
        c.viewer_sends(connect_funnel("TCP"));
        gets!(c, ReportConnectedFunnel);
        assert_eq!(c.claims.pop_front(), Some(None));
    }
    c.viewer_sends(connect_funnel("UDP"));
    is_refused(&mut c);
}

#[test]
fn a_play_goes_on_over_tcp_when_the_viewer_wants_that() {
    let script = Script::packets([packet(0, 0)]);
    let mut c = Conversation::ready_with(with_udp(), FREE, testing::file());
    c.plays(&script);
    assert_eq!(c.viewer_gets_datagrams(), [(0, 4, 0)]);
    c.viewer_sends(connect_funnel("TCP"));
    gets!(c, ReportConnectedFunnel);
    script.goes_on(Next::from(packet(1, 100)));
    c.media_come();
    assert_eq!((c.viewer_gets_datagrams(), c.viewer_gets_media()), (vec![], vec![(1, 4, 1)]));
}

#[test]
fn a_viewer_on_udp_that_answers_nothing_for_two_minutes_is_closed() {
    let mut c = Conversation::ready_with(with_udp(), FREE, testing::file());
    // Before the first play it is not pinged, and may be silent.
    c.viewer_gets_nothing_for(secs(300));
    c.plays(&Script::default());
    for _ in 0..3 {
        c.advance(secs(30));
        assert_eq!(c.viewer_gets(), out::Message::Ping);
    }
    c.viewer_sends(Message::Pong);
    c.advance(Duration::from_millis(119_999));
    assert_eq!((c.arrived.len(), &c.closing), (3, &None));
    c.advance(Duration::from_millis(1));
    assert_eq!(c.closing, Some(Closing::Silent));
    assert_eq!(c.session.funnel(), Funnel::Tcp);
}

#[test]
fn a_viewer_on_tcp_may_be_silent() {
    let mut c = Conversation::ready_with(with_udp(), FREE, testing::file());
    c.plays(&Script::default());
    c.viewer_sends(connect_funnel("TCP"));
    c.advance(secs(3000));
    assert_eq!(c.closing, None);
}

#[test]
fn a_short_silence_pings_more_often() {
    let settings = Settings { udp: Some(Udp { silence: secs(20), ..Udp::default() }), ..Settings::default() };
    let mut c = Conversation::ready_with(settings, FREE, testing::file());
    c.plays(&Script::default());
    c.viewer_gets_nothing_for(Duration::from_millis(4999));
    c.advance(Duration::from_millis(1));
    assert_eq!(c.viewer_gets(), out::Message::Ping);
}
