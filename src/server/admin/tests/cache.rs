//! What an endpoint tells of a cache, and does to it.

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::cache::Cache;
use crate::cache::testing::{cache, keep, packets};
use crate::content::MmsUrl;
use crate::server::testing::{House, Origin, Player, Script, policy, relay_settings, server_settings};
use crate::wire::mmsp::ids::HResult;

/// An endpoint of a proxy that has a cache, in front of an origin.
struct Proxy {
    endpoint: Endpoint,
    cache: Arc<Cache>,
    origin: Origin,
    house: House,
    _dir: TempDir,
}

impl Proxy {
    async fn new(script: Script) -> Self {
        let (dir, cache) = cache();
        let origin = Origin::new(script).await;
        let mut relay = None;
        let kept = Arc::clone(&cache);
        let house = House::new(server_settings(), |counters| {
            let policy = policy(vec![MmsUrl::parse(&format!("mms://{}/vod", origin.address)).unwrap()], true);
            let made = Arc::new(Relay::new(relay_settings(), policy, counters, Arc::new(|| {}), Some(kept)));
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
        let endpoint = Endpoint { address, ..Endpoint::new(Settings::default()).await };
        Self { endpoint, cache, origin, house, _dir: dir }
    }

    /// With nobody behind it.
    async fn alone() -> Self {
        Self::new(Script { dies_at: Some("Connect"), ..Script::default() }).await
    }

    /// The key of a name behind the route, which puts `vod/` before it.
    fn key(&self, name: &str) -> String {
        format!("{}/vod/{name}", self.origin.address)
    }

    async fn entries(&self) -> Vec<Value> {
        self.endpoint.get("/api/v1/cache").await.json()["entries"].as_array().unwrap().clone()
    }

    async fn prefetch(&self, body: &str) -> Answer {
        let (host, length) = (self.endpoint.address, body.len());
        let head = format!("POST /api/v1/cache/prefetch HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        self.endpoint.says(&format!("{head}Content-Length: {length}\r\n\r\n{body}")).await
    }
}

#[tokio::test]
async fn without_a_cache_there_is_nothing_and_nothing_to_do() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let nothing = serde_json::json!({ "bytes": 0, "max_size": 0, "fills": 0, "entries": [] });
    assert_eq!(endpoint.get("/api/v1/cache").await.json(), nothing);
    assert_eq!(endpoint.asks("DELETE /api/v1/cache?url=x", &[]).await.json()["removed"], 0);
    assert_eq!(endpoint.asks("POST /api/v1/cache/prefetch", &[]).await.status, 409);
    assert_eq!(endpoint.get("/api/v1/status").await.json()["cache"], Value::Null);
}

#[tokio::test]
async fn entries_are_listed_and_found_by_what_a_player_asks_for() {
    let proxy = Proxy::alone().await;
    let count = packets().len();
    for name in ["b c.asf", "a.asf"] {
        keep(&proxy.cache, &proxy.key(name), true, |_| true);
    }
    let list = proxy.endpoint.get("/api/v1/cache").await.json();
    assert_eq!((&list["bytes"], &list["max_size"]), (&proxy.cache.bytes().into(), &(1_u64 << 30).into()));
    let urls: Vec<_> = list["entries"].as_array().unwrap().iter().map(|row| row["url"].as_str().unwrap()).collect();
    assert_eq!(urls, ["a.asf", "b c.asf"].map(|name| format!("mms://{}", proxy.key(name))));
    let row = &list["entries"][0];
    assert_eq!(
        (&row["packets"], &row["packets_present"], &row["is_complete"]),
        (&count.into(), &count.into(), &true.into())
    );
    assert_eq!((&row["state"], &row["readers"], &row["fills"]), (&"stale".into(), &0.into(), &0.into()));
    // As it is listed, as a player asks for it, and not at all.
    for url in [format!("mms://{}", proxy.key("b%20c.asf")), "mms://any/b%2520c.asf".into(), proxy.key("b+c.asf")] {
        let found = proxy.endpoint.get(&format!("/api/v1/cache?url={url}")).await.json();
        assert_eq!(found["entries"][0]["url"], format!("mms://{}", proxy.key("b c.asf")), "{url}");
        assert_eq!(found["entries"].as_array().unwrap().len(), 1);
    }
    assert_eq!(proxy.endpoint.get("/api/v1/cache?url=mms://any/none").await.json()["entries"], Value::Array(vec![]));

    let status = proxy.endpoint.get("/api/v1/status").await.json();
    assert_eq!((&status["cache"]["entries"], &status["cache"]["fills"]), (&2.into(), &0.into()));
    let page = proxy.endpoint.get("/").await.body;
    assert!(page.contains(&format!("<td class=w>mms://{}<td>stale<td class=n>100 %", proxy.key("a.asf"))), "{page}");
}

#[tokio::test]
async fn content_is_removed_by_url_and_by_prefix() {
    let proxy = Proxy::alone().await;
    for name in ["a.asf", "old/b.asf", "old/c.asf", "older.asf"] {
        keep(&proxy.cache, &proxy.key(name), true, |_| true);
    }
    let removed = async |query: &str| {
        let answer = proxy.endpoint.asks(&format!("DELETE /api/v1/cache?url={query}"), &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["removed"].as_u64().unwrap()
    };
    assert_eq!(removed("mms://any/a.asf").await, 1);
    assert_eq!(removed("mms://any/a.asf").await, 0);
    assert_eq!(removed("mms://any/old").await, 0);
    assert_eq!(removed("mms://any/old/&prefix=true").await, 2);
    assert_eq!(proxy.entries().await.len(), 1);
    assert_eq!(removed(&format!("mms://{}&prefix=true", proxy.origin.address)).await, 1);
    assert_eq!(proxy.endpoint.asks("DELETE /api/v1/cache", &[]).await.status, 400);
    assert_eq!(proxy.endpoint.asks("DELETE /api/v1/cache?url=x&prefix=maybe", &[]).await.status, 400);
}

#[tokio::test]
async fn an_export_comes_whole_or_says_why_not() {
    let proxy = Proxy::alone().await;
    keep(&proxy.cache, &proxy.key("whole"), true, |_| true);
    keep(&proxy.cache, &proxy.key("part"), false, |number| number < 3);
    let mut stream = TcpStream::connect(proxy.endpoint.address).await.unwrap();
    let ask = "GET /api/v1/cache/export?url=mms://any/whole HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let file = crate::asf::File::open(Bytes::from(answer.split_off(body))).unwrap();
    let last = crate::asf::PacketNumber(file.packet_count() - 1);
    assert_eq!(file.packet(last).unwrap(), packets().pop().unwrap());
    let part = proxy.endpoint.get("/api/v1/cache/export?url=mms://any/part").await;
    assert_eq!(part.status, 409);
    assert!(part.json()["error"].as_str().unwrap().contains("3 of "), "{part:?}");
    assert_eq!(proxy.endpoint.get("/api/v1/cache/export?url=mms://any/none").await.status, 404);
    assert_eq!(proxy.endpoint.get("/api/v1/cache/export").await.status, 400);
}

#[tokio::test]
async fn each_packet_has_a_line_of_its_own() {
    let proxy = Proxy::alone().await;
    keep(&proxy.cache, &proxy.key("a"), true, |number| number != 1);
    let answer = proxy.endpoint.get("/api/v1/cache/digests?url=mms://any/a").await;
    let is_of = |line: &&str, what: &str| line.split_once(' ').is_some_and(|(first, _)| first == what);
    let lines: Vec<&str> = answer.body.lines().filter(|line| line.contains(' ')).collect();
    assert!(is_of(&lines[0], "header") && is_of(&lines[1], "0") && lines[2] == "1 absent", "{lines:?}");
    assert_eq!(lines.len(), 1 + packets().len());
}

#[tokio::test]
async fn files_are_checked() {
    let proxy = Proxy::alone().await;
    for name in ["a", "b"] {
        keep(&proxy.cache, &proxy.key(name), true, |_| true);
    }
    let checked = proxy.endpoint.asks("POST /api/v1/cache/verify", &[]).await.json();
    assert_eq!((&checked["entries"], &checked["files"], &checked["next"]), (&2.into(), &2.into(), &Value::Null));
    assert_eq!(checked["faults"], Value::Array(vec![]));
    let one = proxy.endpoint.asks("POST /api/v1/cache/verify?url=mms://any/b", &[]).await.json();
    assert_eq!(one["entries"], 1);
    assert_eq!(proxy.endpoint.asks("POST /api/v1/cache/verify?url=mms://any/c", &[]).await.status, 404);
    assert_eq!(proxy.endpoint.asks("POST /api/v1/cache/verify?from=x", &[]).await.status, 400);
}

#[tokio::test]
async fn a_prefetch_fetches_all_without_a_viewer() {
    let proxy = Proxy::new(Script { packets: 5, says_end: true, ..Script::default() }).await;
    let answer = proxy.prefetch("{\"url\": \"mms://any/talk.asf\"}").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let row = answer.json();
    assert_eq!(row["url"], format!("mms://{}", proxy.key("talk.asf")));
    assert_eq!((&row["origin_version"], &row["duration_seconds"]), (&"9.01.01.3862".into(), &10.0.into()));
    let is_over = |row: &Value| row["is_complete"] == true && row["prefetching"] == false && row["fills"] == 0;
    let wait = async {
        loop {
            match &proxy.entries().await[..] {
                [row] if is_over(row) => return row.clone(),
                _ => {}
            }
        }
    };
    let row = timeout(Duration::from_secs(20), wait).await.unwrap();
    assert_eq!((&row["packets_present"], &row["error"], &row["readers"]), (&5.into(), &Value::Null, &0.into()));
    assert_eq!(proxy.origin.sent(), 5);
    // It is there: a player's request opens no session.
    let accepted = proxy.origin.accepted();
    let mut player = Player::connect(proxy.house.address).await;
    assert_eq!(player.open("talk.asf").await, HResult::S_OK);
    assert_eq!(player.play().await, HResult::S_OK);
    assert_eq!(proxy.origin.sent(), 5);
    assert!(proxy.origin.accepted() <= accepted + 1, "but for the question which login it would want");
}

#[tokio::test]
async fn a_prefetch_that_can_not_begin_says_why() {
    let proxy = Proxy::alone().await;
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        ("{\"url\": \"no url\"}", 400),
        ("{\"url\": \"mms://any/x\", \"rate\": 1}", 400),
        ("{\"url\": \"mms://any/../x\"}", 400),
        ("{\"url\": \"mms://any/x\"}", 502),
    ] {
        let answer = proxy.prefetch(body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(!answer.json()["error"].as_str().unwrap().is_empty());
    }
    assert!(proxy.entries().await.is_empty());
}

#[tokio::test]
async fn a_prefetch_that_ends_early_says_why() {
    let script = Script { packets: 5, dies_after_packets: true, ..Script::default() };
    let proxy = Proxy::new(script).await;
    assert_eq!(proxy.prefetch("{\"url\": \"mms://any/x\", \"rate\": 1000000000}").await.status, 202);
    let wait = async {
        loop {
            match &proxy.entries().await[..] {
                [row] if row["prefetching"] == false => return row.clone(),
                _ => {}
            }
        }
    };
    let row = timeout(Duration::from_secs(20), wait).await.unwrap();
    assert_eq!(row["is_complete"], false);
    assert!(!row["error"].as_str().unwrap().is_empty(), "{row}");
}
