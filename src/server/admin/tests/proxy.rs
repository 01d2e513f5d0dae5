//! What an endpoint tells of a proxy at work: players, an origin and the relay between them are real.

use super::*;
use crate::content::MmsUrl;
use crate::server::testing::{House, Origin, Player, Script, policy, relay_settings, server_settings};
use crate::wire::mmsp::ids::HResult;

/// An endpoint of a proxy in front of `origin`.
async fn proxy_of(origin: &Origin) -> (Endpoint, House) {
    let mut relay = None;
    let house = House::new(server_settings(), |counters| {
        let policy = policy(vec![MmsUrl::parse(&format!("mms://{}", origin.address)).unwrap()], true);
        let made = Arc::new(Relay::new(relay_settings(), policy, counters, Arc::new(|| {}), None));
        relay = Some(Arc::clone(&made));
        made
    })
    .await;
    let exposition: Exposition = Box::new(|| Ok(String::new()));
    let (server, counters) = (Arc::clone(&house.server), Arc::clone(&house.counters));
    let admin = Arc::new(Admin::new(Settings::default(), server, relay, counters, exposition, None));
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, admin, std::future::pending()));
    (Endpoint { address, ..Endpoint::new(Settings::default()).await }, house)
}

async fn watcher(house: &House) -> Player {
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open("live/<a>").await, HResult::S_OK);
    assert_eq!(player.play().await, HResult::S_OK);
    player
}

fn fields(row: &Value) -> Vec<&str> {
    row.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_broadcast_is_told_of_with_its_viewers_and_its_origin() {
    let origin = Origin::new(Script { is_broadcast: true, packets: 5, ..Script::default() }).await;
    let (endpoint, house) = proxy_of(&origin).await;
    let players = [watcher(&house).await, watcher(&house).await];
    let broadcasts = endpoint
        .rows_when("broadcasts", |rows| {
            rows.len() == 1 && rows[0]["state"] == "playing" && rows[0]["history_bytes"] != 0
        })
        .await;
    let row = &broadcasts[0];
    assert_eq!(
        fields(row),
        [
            "key",
            "state",
            "viewers",
            "entry",
            "bit_rate",
            "history_seconds",
            "history_bytes",
            "since",
            "origin",
            "reconnects"
        ]
    );
    let at = origin.address;
    assert_eq!((&row["key"], &row["origin"]), (&format!("{at}/live/<a>").into(), &at.to_string().into()));
    assert_eq!((&row["viewers"], &row["entry"], &row["reconnects"]), (&2.into(), &1.into(), &0.into()));
    assert!(row["bit_rate"].as_u64() > Some(0) && row["history_bytes"].is_u64(), "{row}");
    assert!(row["history_seconds"].is_f64(), "{row}");
    assert!(humantime::parse_rfc3339(row["since"].as_str().unwrap()).is_ok());

    // The session that told its scheme to the first player is on its way out.
    let origins = endpoint.rows_when("origins", |rows| rows.len() == 1 && rows[0]["sessions"] == 1).await;
    let row = &origins[0];
    assert_eq!(fields(row), ["host", "port", "state", "until", "why", "scheme", "sessions", "limit"]);
    assert_eq!((&row["host"], &row["port"]), (&at.ip().to_string().into(), &at.port().into()));
    assert_eq!((&row["state"], &row["why"], &row["scheme"]), (&"up".into(), &Value::Null, &"basic".into()));
    assert!(humantime::parse_rfc3339(row["until"].as_str().unwrap()).is_ok());
    assert_eq!(row["limit"], 500);

    let status = endpoint.get("/api/v1/status").await.json();
    assert_eq!((&status["broadcasts"], &status["origin_sessions"]), (&1.into(), &1.into()));
    let page = endpoint.get("/").await.body;
    assert!(page.contains(&format!("<td class=w>{at}/live/&lt;a&gt;<td>playing<td class=n>2")), "{page}");
    assert!(page.contains(&format!("<td class=w>{at}<td>up")), "{page}");

    drop(players);
    endpoint.rows_when("broadcasts", <[Value]>::is_empty).await;
    let origins = endpoint.rows_when("origins", |rows| rows[0]["sessions"] == 0).await;
    assert_eq!(origins[0]["state"], "up");
}

#[tokio::test]
async fn a_broadcast_that_is_not_there_yet_is_told_of_as_opening() {
    let origin = Origin::new(Script { silent_at: Some("OpenFile"), ..Script::default() }).await;
    let (endpoint, house) = proxy_of(&origin).await;
    let address = house.address;
    let waiting = tokio::spawn(async move { Player::connect(address).await.open("live").await });
    let broadcasts = endpoint.rows_when("broadcasts", |rows| rows.len() == 1 && !rows[0]["since"].is_null()).await;
    let row = &broadcasts[0];
    assert_eq!((&row["state"], &row["viewers"]), (&"opening".into(), &1.into()));
    assert_eq!((&row["entry"], &row["bit_rate"], &row["origin"]), (&Value::Null, &Value::Null, &Value::Null));
    waiting.abort();
}

#[tokio::test]
async fn a_loss_is_told_of_and_a_return_is_counted() {
    let script = Script { is_broadcast: true, packets: 5, dies_after_packets: true, ..Script::default() };
    let origin = Origin::new(script).await;
    let (endpoint, house) = proxy_of(&origin).await;
    let _player = watcher(&house).await;
    let is_lost = |row: &Value| row["state"] == "lost" && row["origin"].is_null();
    let lost = endpoint.rows_when("broadcasts", |rows| rows.len() == 1 && is_lost(&rows[0])).await;
    assert_eq!((&lost[0]["viewers"], &lost[0]["entry"]), (&1.into(), &1.into()));
    endpoint.rows_when("broadcasts", |rows| rows[0]["reconnects"].as_u64() > Some(0)).await;
}

#[tokio::test]
async fn an_origin_that_failed_is_told_of_with_the_reason() {
    let origin = Origin::new(Script { dies_at: Some("Connect"), ..Script::default() }).await;
    let (endpoint, house) = proxy_of(&origin).await;
    assert!(Player::connect(house.address).await.open("live").await.is_failure());
    let origins = endpoint.rows_when("origins", |rows| rows.len() == 1 && rows[0]["state"] == "down").await;
    let row = &origins[0];
    assert!(humantime::parse_rfc3339(row["until"].as_str().unwrap()).unwrap() > SystemTime::now(), "{row}");
    assert!(!row["why"].as_str().unwrap().is_empty() && row["scheme"].is_null(), "{row}");
}

#[tokio::test]
async fn what_is_no_proxy_has_neither_broadcasts_nor_origins() {
    let endpoint = Endpoint::new(Settings::default()).await;
    assert_eq!(endpoint.get("/api/v1/broadcasts").await.json(), serde_json::json!({ "broadcasts": [] }));
    assert_eq!(endpoint.get("/api/v1/origins").await.json(), serde_json::json!({ "origins": [] }));
}
