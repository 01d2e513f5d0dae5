//! The proxy between a player and an origin that a test tells what to do, over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::content::MmsUrl;
use crate::server::relay::Settings;
use crate::server::testing::{Got, House, Origin, Player, Script, policy, relay_settings, until};
use crate::wire::mmsp::ids::HResult;
use crate::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

async fn visit(house: &House) -> HResult {
    Player::connect(house.address).await.open("talk.asf").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_viewers_of_a_dead_origin_make_one_attempt() {
    let origin = Origin::new(Script { dies_at: Some("Connect"), ..Script::default() }).await;
    let house = House::proxy(relay_settings(), &[origin.address]).await;
    let address = house.address;
    let viewers: Vec<_> =
        (0..100).map(|_| tokio::spawn(async move { Player::connect(address).await.open("talk.asf").await })).collect();
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap(), HResult::NS_E_CONNECTION_FAILURE);
    }
    assert_eq!((origin.accepted(), house.origin_errors("lost")), (1, 1));
    house.is_empty_soon().await;
    assert_eq!((house.sessions("refused"), house.refused("origin")), (100, 100));
}

#[tokio::test]
async fn an_origin_that_nobody_listens_at_is_unreachable() {
    let house = House::proxy(relay_settings(), &[nobody().await]).await;
    assert_eq!(visit(&house).await, HResult::NS_E_CANNOTCONNECT);
    assert_eq!(house.origin_errors("connect"), 1);
}

#[tokio::test]
async fn once_the_time_is_over_a_dead_origin_is_asked_again() {
    let origin = Origin::new(Script { dies_at: Some("Connect"), ..Script::default() }).await;
    let house = House::proxy(Settings { down: Duration::ZERO, ..relay_settings() }, &[origin.address]).await;
    visit(&house).await;
    // Connect asked for the scheme, and OpenFile for the content.
    assert_eq!(origin.accepted(), 2);
    visit(&house).await;
    assert_eq!(origin.accepted(), 4);
}

#[tokio::test]
async fn an_origin_that_dies_while_it_is_asked_is_told_of_as_lost() {
    for stage in ["FunnelInfo", "ConnectFunnel", "OpenFile", "ReadBlock"] {
        let origin = Origin::new(Script { dies_at: Some(stage), ..Script::default() }).await;
        let house = House::proxy(relay_settings(), &[origin.address]).await;
        let mut player = Player::connect(house.address).await;
        assert_eq!(player.open("talk.asf").await, HResult::NS_E_CONNECTION_FAILURE, "{stage}");
        assert_eq!(player.next().await, Got::Closed);
        drop(player);
        house.is_empty_soon().await;
        // The session that asked for the scheme might have been too old, so one more is made.
        assert_eq!((origin.accepted(), house.origin_errors("lost")), (2, 2), "{stage}");
        assert_eq!(house.counters.origin_sessions_total.with_label_values(&["failed"]).get(), 2);
    }
}

#[tokio::test]
async fn an_origin_that_dies_at_the_start_of_a_play_refuses_the_play_alone() {
    let origin = Origin::new(Script { dies_at: Some("StartPlaying"), ..Script::default() }).await;
    let house = House::proxy(relay_settings(), &[origin.address]).await;
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open("talk.asf").await, HResult::S_OK);
    assert_eq!(player.play().await, HResult::NS_E_CONNECTION_FAILURE);
    // The next try opens anew, at the origin and not for the player.
    player.start().await;
    assert!(matches!(player.answer().await, Got::Message(message) if message.name() == "ReportStartedPlaying"));
    assert_eq!((origin.accepted(), house.origin_errors("lost")), (2, 2));
    drop(player);
    house.is_empty_soon().await;
}

#[tokio::test]
async fn an_origin_that_dies_while_it_streams_ends_the_stream() {
    let script = Script { packets: 5, dies_after_packets: true, ..Script::default() };
    let origin = Origin::new(script).await;
    let house = House::proxy(relay_settings(), &[origin.address]).await;
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open("talk.asf").await, HResult::S_OK);
    assert_eq!(player.play().await, HResult::S_OK);
    assert_eq!(player.watch().await, ((0..5).collect(), Some(HResult::NS_E_CONNECTION_FAILURE)));
    drop(player);
    house.is_empty_soon().await;
    assert_eq!((house.origin_errors("lost"), house.sessions("ended")), (1, 1));
}

#[tokio::test]
async fn an_origin_that_says_nothing_is_a_timeout() {
    let origin = Origin::new(Script { silent_at: Some("OpenFile"), ..Script::default() }).await;
    let house =
        House::proxy(Settings { reply: Duration::from_millis(50), ..relay_settings() }, &[origin.address]).await;
    assert_eq!(visit(&house).await, HResult::NS_E_TIMEOUT);
    assert_eq!(house.origin_errors("timeout"), 1);
    house.is_empty_soon().await;
}

#[tokio::test]
async fn an_origin_that_is_slow_to_greet_is_not_asked_twice() {
    let origin = Origin::new(Script { silent_at: Some("Connect"), ..Script::default() }).await;
    let settings =
        Settings { connect: Duration::from_millis(50), reply: Duration::from_millis(300), ..relay_settings() };
    let house = House::proxy(settings, &[origin.address]).await;
    assert_eq!(visit(&house).await, HResult::NS_E_TIMEOUT);
    assert_eq!((origin.accepted(), house.origin_errors("timeout")), (1, 1));
    house.is_empty_soon().await;
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_its_code_goes_through() {
    let refuses = Origin::new(Script { refuses: Some(HResult::NS_E_MAX_CLIENTS), ..Script::default() }).await;
    let serves = Origin::new(Script::default()).await;
    let house = House::proxy(relay_settings(), &[refuses.address, serves.address]).await;
    assert_eq!(visit(&house).await, HResult::NS_E_MAX_CLIENTS);
    assert_eq!(serves.accepted(), 0);
    house.is_empty_soon().await;
    assert_eq!((house.origin_errors("refused"), house.refused("origin")), (1, 1));
}

#[tokio::test]
async fn the_next_origin_is_asked_where_one_is_lost() {
    let dies = Origin::new(Script { dies_at: Some("OpenFile"), ..Script::default() }).await;
    let serves = Origin::new(Script::default()).await;
    let house = House::proxy(relay_settings(), &[nobody().await, dies.address, serves.address]).await;
    assert_eq!(visit(&house).await, HResult::S_OK);
    assert_eq!((dies.accepted(), serves.accepted()), (1, 1));
    house.is_empty_soon().await;
}

#[tokio::test]
async fn the_session_that_told_the_scheme_opens_and_the_scheme_is_asked_once() {
    let origin = Origin::new(Script::default()).await;
    let house = House::proxy(relay_settings(), &[origin.address]).await;
    for count in 1..=3 {
        let mut player = Player::connect(house.address).await;
        assert_eq!(player.open("talk.asf").await, HResult::S_OK);
        assert_eq!(origin.accepted(), count);
    }
    house.is_empty_soon().await;
    for name in origin.names() {
        let host = Some(origin.address.to_string());
        assert_eq!(name.client_token, "NSPlayer/7.0.0.1956; {68c0a090-8797-11d2-a2b3-00a0c9b60551}");
        assert_eq!((&name.host_param, &name.host_string), (&host, &host));
        assert_eq!(name.via.len(), 1);
        assert!(name.via[0].starts_with("mmsproxy/") && name.via[0].ends_with("-test"), "{name:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_credentials() {
    let there = Origin::new(Script::default()).await;
    let here = Origin::new(Script { redirects_to: Some(there.address), ..Script::default() }).await;
    let house = House::proxy(relay_settings(), &[here.address, there.address]).await;
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open_with("talk.asf", Bytes::from_static(b"a secret")).await, HResult::S_OK);
    let tokens = |origin: &Origin| {
        let heard = origin.heard.lock();
        let opens = heard.iter().filter_map(|message| match message {
            up::Message::OpenFile(open) => Some(open.token_data.clone()),
            _ => None,
        });
        opens.collect::<Vec<_>>()
    };
    assert_eq!(tokens(&here), [Bytes::from_static(b"a secret")]);
    assert_eq!(tokens(&there), [Bytes::new()]);
}

#[tokio::test]
async fn a_redirect_to_where_nothing_leads_is_refused() {
    let elsewhere = Origin::new(Script::default()).await;
    // The same machine by another name: no route's origin has it.
    let redirect = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), elsewhere.address.port()));
    let here = Origin::new(Script { redirects_to: Some(redirect), ..Script::default() }).await;
    let house = House::proxy(relay_settings(), &[here.address]).await;
    assert_eq!(visit(&house).await, HResult::E_ACCESSDENIED);
    assert_eq!(elsewhere.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_on_demand_viewer_that_pauses_gets_every_packet_in_order() {
    const PACKETS: u32 = 4000;
    let origin = Origin::new(Script { packets: PACKETS, says_end: true, ..Script::default() }).await;
    let settings = Settings { stall: Duration::from_millis(500), ..relay_settings() };
    let (buffer, stall) = (settings.buffer, settings.stall);
    let house = House::proxy(settings, &[origin.address]).await;
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open("talk.asf").await, HResult::S_OK);
    assert_eq!(player.play().await, HResult::S_OK);
    let held = house.counters.held_by_sessions();
    until(|| held.get() >= buffer as i64).await;
    // Longer than the origin's own silence would be borne: it is we who do not read.
    let pause = std::time::Instant::now();
    until(|| pause.elapsed() > stall * 3).await;
    assert!(held.get() <= (buffer + 3 * 64 * 1024) as i64, "{} bytes are held", held.get());
    assert!(origin.sent() < PACKETS as usize, "all went somewhere");
    assert_eq!(player.watch().await, ((0..PACKETS).collect(), Some(HResult::S_OK)));
    drop(player);
    house.is_empty_soon().await;
    assert_eq!(house.counters.sent_packets.with_label_values(&["on_demand", "tcp"]).get(), u64::from(PACKETS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_viewer_that_does_not_read_holds_nobody_up_and_no_more_than_its_share() {
    const PACKETS: u32 = 4000;
    let script = Script { packets: PACKETS, says_end: true, is_broadcast: true, ..Script::default() };
    let origin = Origin::new(script).await;
    let settings = relay_settings();
    let buffer = settings.buffer;
    let house = House::without_splitting(settings, origin.address).await;
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open("talk.asf").await, HResult::S_OK);
    assert_eq!(player.play().await, HResult::S_OK);
    let held = house.counters.held_by_sessions();
    until(|| {
        assert!(held.get() <= (buffer + 3 * 64 * 1024) as i64, "{} bytes are held", held.get());
        origin.sent() == PACKETS as usize
    })
    .await;
    let (numbers, end) = player.watch().await;
    assert_eq!(end, Some(HResult::S_OK));
    assert!(numbers.is_sorted() && numbers.len() < PACKETS as usize, "{} packets came", numbers.len());
    assert_eq!(numbers.last(), Some(&(PACKETS - 1)));
    drop(player);
    house.is_empty_soon().await;
}

#[tokio::test]
async fn a_viewer_that_vanishes_frees_everything() {
    for is_broadcast in [false, true] {
        let origin = Origin::new(Script { packets: 2000, is_broadcast, ..Script::default() }).await;
        let house = House::proxy(relay_settings(), &[origin.address]).await;
        let mut player = Player::connect(house.address).await;
        assert_eq!(player.open("talk.asf").await, HResult::S_OK);
        assert_eq!(player.play().await, HResult::S_OK);
        for _ in 0..20 {
            assert!(matches!(player.next().await, Got::Data(_)));
        }
        drop(player);
        house.is_empty_soon().await;
        assert_eq!(house.counters.origin_sessions_total.with_label_values(&["ended"]).get(), 1);
    }
}

#[tokio::test]
async fn sessions_at_an_origin_are_bounded_and_given_back() {
    let origin = Origin::new(Script::default()).await;
    let house = House::proxy(Settings { sessions: 1, ..relay_settings() }, &[origin.address]).await;
    let mut first = Player::connect(house.address).await;
    assert_eq!(first.open("talk.asf").await, HResult::S_OK);
    assert_eq!(visit(&house).await, HResult::NS_E_TOO_MANY_SESS);
    drop(first);
    house.is_empty_soon().await;
    assert_eq!(visit(&house).await, HResult::S_OK);
    assert_eq!(house.refused("limit"), 1);
}

#[tokio::test]
async fn an_origin_that_pings_and_reads_no_pong_is_read_no_further() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut pings = Vec::new();
        (0..1000).for_each(|_| down::Message::Ping.encode(0, &mut pings));
        while stream.write_all(&pings).await.is_ok() {
            count.fetch_add(pings.len(), Ordering::SeqCst);
        }
    });
    let settings = Settings { reply: Duration::from_millis(500), ..relay_settings() };
    let house = House::proxy(settings, &[address]).await;
    assert_eq!(visit(&house).await, HResult::NS_E_TIMEOUT);
    let written = written.load(Ordering::SeqCst);
    assert!(written < 64 * 1024 * 1024, "{written} bytes of Pings were taken");
    house.is_empty_soon().await;
}

#[tokio::test]
async fn a_name_of_several_addresses_is_tried_at_each() {
    let origin = Origin::new(Script::default()).await;
    let url = MmsUrl::parse(&format!("mms://localhost:{}", origin.address.port())).unwrap();
    let house = House::in_front_of(relay_settings(), policy(vec![url], true)).await;
    // `::1` may be its first address, and nobody listens there.
    assert_eq!(visit(&house).await, HResult::S_OK);
    assert_eq!((origin.accepted(), house.origin_errors("connect")), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_viewers_of_a_broadcast_are_one_session_at_the_origin() {
    const PACKETS: u32 = 50;
    for name in ["live", "live.asf"] {
        let script = Script { packets: PACKETS, is_broadcast: true, ..Script::default() };
        let origin = Origin::new(script).await;
        let house = House::proxy(relay_settings(), &[origin.address]).await;
        let address = house.address;
        let viewers: Vec<_> = (0..20)
            .map(|_| {
                tokio::spawn(async move {
                    let mut player = Player::connect(address).await;
                    assert_eq!(player.open(name).await, HResult::S_OK);
                    assert_eq!(player.play().await, HResult::S_OK);
                    loop {
                        if matches!(player.next().await, Got::Data(data) if data.location_id.0 == PACKETS - 1) {
                            return player;
                        }
                    }
                })
            })
            .collect();
        let mut players = Vec::new();
        for viewer in viewers {
            players.push(viewer.await.unwrap());
        }
        assert_eq!(house.counters.origin_sessions.get(), 1);
        assert_eq!(house.counters.broadcasts.get(), 1);
        assert_eq!(origin.sent(), PACKETS as usize, "asked once, sent once");
        // One more may have been asked for its scheme.
        assert!(origin.accepted() <= 2, "{} connections for {name}", origin.accepted());
        drop(players);
        house.is_empty_soon().await;
        until(|| house.counters.broadcasts.get() == 0).await;
    }
}

#[tokio::test]
async fn a_broadcast_that_stays_away_is_given_up_and_can_be_asked_for_again() {
    let script = Script { packets: 5, is_broadcast: true, dies_after_packets: true, ..Script::default() };
    let origin = Origin::new(script).await;
    let mut settings = relay_settings();
    settings.split.give_up = Duration::ZERO;
    let house = House::proxy(settings, &[origin.address]).await;
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open("live").await, HResult::S_OK);
    for _ in 0..2 {
        assert_eq!(player.play().await, HResult::S_OK);
        assert_eq!(player.watch().await.1, Some(HResult::NS_E_CONNECTION_FAILURE));
    }
    assert_eq!(house.counters.split_reconnects.with_label_values(&["gave_up"]).get(), 2);
}
