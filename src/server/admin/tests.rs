//! Over real sockets, by requests written out by hand: what hyper adds or leaves out is part of what is tested.

mod cache;
mod proxy;

use std::pin::Pin;

use prometheus::{Registry, TextEncoder};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::asf::{HeaderBuilder, StreamNumber, WaveFormat};
use crate::server::source::{Link, Peer, Source};
use crate::server::writer::Writers;
use crate::server::{Settings as ServerSettings, bind};
use crate::session::{Description, Opened, Reply, Request};
use crate::wire::mmsp::ids::PacketPairMode;
use crate::wire::mmsp::subscriber_name::SubscriberName;
use crate::wire::mmsp::viewer_to_mac::{Connect, ConnectFunnel, Message, OpenFile};

/// An endpoint, and the proxy behind it.
struct Endpoint {
    address: SocketAddr,
    players: SocketAddr,
    admin: Arc<Admin>,
    /// Taken by who has the config.
    reloads: mpsc::Receiver<Reload>,
    shutdown: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Endpoint {
    async fn new(settings: Settings) -> Self {
        Self::at("127.0.0.1:0", settings).await
    }

    async fn at(listen: &str, settings: Settings) -> Self {
        let registry = Registry::new();
        let counters = Arc::new(Counters::register(&registry).unwrap());
        let server_settings = ServerSettings {
            viewers: 10,
            viewers_per_address: 10,
            kernel_buffer: 65536,
            flush: Duration::from_millis(10),
            flush_max: Duration::from_millis(10),
            max_skips: 8,
            writers: 1,
            transparent: false,
            session: Arc::default(),
        };
        let writers = Writers::new(&server_settings);
        let server = Server::new(server_settings, Arc::clone(&counters), writers).unwrap();
        let players = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let players_at = players.local_addr().unwrap();
        tokio::spawn(Arc::clone(&server).accept(players, Arc::new(OneBroadcast)));
        let settings = Settings { listeners: vec![players_at], name: "edge".to_owned(), ..settings };
        let exposition: Exposition = Box::new(move || {
            let mut text = String::new();
            TextEncoder::new().encode_utf8(&registry.gather(), &mut text).map(|()| text)
        });
        let (reload_sender, reloads) = mpsc::channel(1);
        let admin = Arc::new(Admin::new(settings, server, None, counters, exposition, Some(reload_sender)));
        let listener = bind(listen.parse().unwrap()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let (shutdown, is_over) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, Arc::clone(&admin), async move {
            let _ = is_over.await;
        }));
        Self { address, players: players_at, admin, reloads, shutdown, serving }
    }

    /// Sends a request as it stands and reads until the close.
    async fn says(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// `GET /path`, with more header lines if need be.
    async fn asks(&self, request: &str, headers: &[&str]) -> Answer {
        let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let host = self.address;
        self.says(&format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.asks(&format!("GET {path}"), &[]).await
    }

    /// A player that has opened content, as it shows in the API.
    async fn player(&self) -> (TcpStream, Value) {
        let mut stream = TcpStream::connect(self.players).await.unwrap();
        let subscriber_name = SubscriberName::parse("NSPlayer/7.0.0.1956; {12345678-0000-0000-0000-000000000000}");
        let messages: [Message; 3] = [
            Connect { play_incarnation: PacketPairMode(0x00F0_F0F0), subscriber_name }.into(),
            ConnectFunnel { funnel_name: r"\\192.0.2.9\TCP\1037".to_owned(), max_bit_rate: 0 }.into(),
            OpenFile { play_incarnation: 1, file_name: "<radio>".to_owned(), token_data: Default::default() }.into(),
        ];
        let mut bytes = Vec::new();
        for (seq, message) in (0..).zip(messages) {
            message.encode(seq, &mut bytes);
        }
        stream.write_all(&bytes).await.unwrap();
        let viewers = self.viewers_when(|viewers| viewers.iter().any(|viewer| !viewer["kind"].is_null())).await;
        (stream, viewers[0].clone())
    }

    /// Asks for the viewers until they are as wanted.
    async fn viewers_when(&self, is_wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        self.rows_when("viewers", is_wanted).await
    }

    /// Asks for one of the lists until it is as wanted.
    async fn rows_when(&self, list: &str, is_wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let ask = async {
            loop {
                let answer = self.get(&format!("/api/v1/{list}")).await.json();
                let rows = answer[list].as_array().unwrap();
                if is_wanted(rows) {
                    return rows.clone();
                }
            }
        };
        let rows = timeout(Duration::from_secs(20), ask).await;
        rows.unwrap_or_else(|_| panic!("the {list} are never as wanted"))
    }
}

/// A source that has one broadcast, and no media.
struct OneBroadcast;

impl Source for OneBroadcast {
    fn serve(self: Arc<Self>, _peer: Peer, mut link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Some(request) = link.requests.recv().await {
                let reply = match request {
                    Request::Greet(_) => Reply::Greeted { scheme: None },
                    Request::Open(_) => Reply::Opened(Arc::new(Opened {
                        description: Description { broadcast: true, bit_rate: 64_000, ..Description::default() },
                        header: Arc::new(
                            HeaderBuilder::new(1000)
                                .audio(StreamNumber::new(1).unwrap(), &WaveFormat::pcm(1, 8000, 8))
                                .build()
                                .unwrap(),
                        ),
                    })),
                    _ => continue,
                };
                if link.replies.send(reply).await.is_err() {
                    return;
                }
            }
        })
    }
}

fn with_token() -> Settings {
    Settings { token: Some("secret".to_owned().into()), ..Settings::default() }
}

#[tokio::test]
async fn health_is_told() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let answer = endpoint.get("/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn ready_is_what_has_started_and_does_not_drain() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let answer = endpoint.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "starting\n"));
    endpoint.admin.set_started();
    let answer = endpoint.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
    let answer = endpoint.asks("POST /api/v1/drain", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"draining\":true,\"connections\":0}\n"));
    assert!(endpoint.admin.server.is_draining());
    let answer = endpoint.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
    assert_eq!(endpoint.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_are_in_the_text_format() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let answer = endpoint.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.body.contains("# TYPE mmsproxy_connections gauge\nmmsproxy_connections 0\n"), "{answer:?}");
}

#[tokio::test]
async fn metrics_that_fail_are_an_error_and_no_half_page() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let (server, counters) = (Arc::clone(&endpoint.admin.server), Arc::clone(&endpoint.admin.counters));
    let exposition: Exposition = Box::new(|| Err(prometheus::Error::Msg("no figures".to_owned())));
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Arc::new(Admin::new(Settings::default(), server, None, counters, exposition, None));
    tokio::spawn(serve(listener, admin, std::future::pending()));
    let answer = Endpoint { address, ..endpoint }.get("/metrics").await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (500, Some("Error: no figures")));
}

#[tokio::test]
async fn the_status_has_its_fields() {
    let endpoint = Endpoint::new(Settings::default()).await;
    endpoint.admin.set_started();
    let status = endpoint.get("/api/v1/status").await.json();
    let fields: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "version",
            "name",
            "started_at",
            "uptime_seconds",
            "ready",
            "draining",
            "listeners",
            "connections",
            "viewers",
            "viewers_by_content",
            "origin_sessions",
            "broadcasts",
            "cache"
        ]
    );
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["name"], "edge");
    assert!(humantime::parse_rfc3339(status["started_at"].as_str().unwrap()).is_ok());
    assert_eq!((&status["ready"], &status["draining"]), (&true.into(), &false.into()));
    assert_eq!(status["listeners"]["mms"][0], endpoint.players.to_string());
    assert_eq!(status["listeners"]["admin"], endpoint.address.to_string());
    assert_eq!(status["viewers_by_content"], serde_json::json!({ "broadcast": 0, "on_demand": 0 }));
}

#[tokio::test]
async fn a_viewer_is_told_of() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let (player, viewer) = endpoint.player().await;
    assert_eq!(viewer["address"], player.local_addr().unwrap().to_string());
    assert!(humantime::parse_rfc3339(viewer["since"].as_str().unwrap()).is_ok());
    assert!(viewer["player"].as_str().unwrap().starts_with("NSPlayer/7.0.0.1956"), "{viewer}");
    assert_eq!((&viewer["content"], &viewer["kind"]), (&"<radio>".into(), &"broadcast".into()));
    assert_eq!((&viewer["funnel"], &viewer["state"]), (&"tcp".into(), &"open".into()));
    assert!(viewer["sent_bytes"].is_u64() && viewer["sent_packets"] == 0, "{viewer}");
    let status = endpoint.get("/api/v1/status").await.json();
    assert_eq!((&status["connections"], &status["viewers"]), (&1.into(), &1.into()));
    assert_eq!(status["viewers_by_content"], serde_json::json!({ "broadcast": 1, "on_demand": 0 }));
}

#[tokio::test]
async fn the_operator_ends_a_session() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let (mut player, viewer) = endpoint.player().await;
    let answer = endpoint.asks(&format!("DELETE /api/v1/viewers/{}", viewer["id"]), &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    player.read_to_end(&mut Vec::new()).await.unwrap();
    drop(player);
    endpoint.viewers_when(<[Value]>::is_empty).await;
    let metrics = endpoint.get("/metrics").await.body;
    assert!(metrics.contains("mmsproxy_viewer_sessions_total{result=\"kicked\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_viewer_that_is_not_there_is_not_ended() {
    let endpoint = Endpoint::new(Settings::default()).await;
    for id in ["7", "-1", "x", "", "1/2", "18446744073709551616"] {
        let answer = endpoint.asks(&format!("DELETE /api/v1/viewers/{id}"), &[]).await;
        let error = format!("no viewer has the id `{id}`");
        assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some(error.as_str())));
    }
}

#[tokio::test]
async fn the_page_shows_a_session_and_loads_nothing() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let (_player, _) = endpoint.player().await;
    let answer = endpoint.get("/").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(answer.body.contains("<td class=w>&lt;radio&gt;<td>broadcast<td>open"), "{}", answer.body);
}

#[tokio::test]
async fn a_reload_is_answered_by_who_has_the_config() {
    let mut endpoint = Endpoint::new(Settings::default()).await;
    let (_gone, nobody) = mpsc::channel(1);
    let mut reloads = std::mem::replace(&mut endpoint.reloads, nobody);
    tokio::spawn(async move {
        let Some(Reload { answer }) = reloads.recv().await else { return };
        answer.send(Ok(Reloaded { reloaded: &["routes"] })).unwrap();
        let Some(Reload { answer }) = reloads.recv().await else { return };
        let fault = Fault { key: "drain".to_owned(), message: "proxy.yaml:3: drain: has no value".to_owned() };
        answer.send(Err(ReloadRefused { error: fault.message.clone(), faults: vec![fault] })).unwrap();
    });
    let answer = endpoint.asks("POST /api/v1/reload", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"reloaded\":[\"routes\"]}\n"));
    let answer = endpoint.asks("POST /api/v1/reload", &[]).await;
    let message = "proxy.yaml:3: drain: has no value";
    let refused = serde_json::json!({ "error": message, "faults": [{ "key": "drain", "message": message }] });
    assert_eq!((answer.status, answer.json()), (422, refused));
    // The proxy drains: nobody listens any more.
    assert_eq!(endpoint.asks("POST /api/v1/reload", &[]).await.status, 503);
}

#[tokio::test]
async fn without_a_config_file_there_is_nothing_to_reload() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let (server, counters) = (Arc::clone(&endpoint.admin.server), Arc::clone(&endpoint.admin.counters));
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let exposition: Exposition = Box::new(|| Ok(String::new()));
    let admin = Arc::new(Admin::new(Settings::default(), server, None, counters, exposition, None));
    tokio::spawn(serve(listener, admin, std::future::pending()));
    let answer = Endpoint { address, ..endpoint }.asks("POST /api/v1/reload", &[]).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (409, Some("this proxy runs without a config file")));
}

#[tokio::test]
async fn an_unknown_path_is_a_json_error() {
    let endpoint = Endpoint::new(Settings::default()).await;
    for path in ["/nothing", "/metrics/", "//metrics", "/api/v1", "/api/v1/viewersx", "/%6detrics"] {
        let answer = endpoint.get(path).await;
        assert_eq!((answer.status, answer.json()["error"].is_string()), (404, true), "{path}");
    }
}

#[tokio::test]
async fn another_method_learns_which_are_allowed() {
    let endpoint = Endpoint::new(Settings::default()).await;
    for (request, allow) in [
        ("POST /metrics", "GET, HEAD"),
        ("DELETE /", "GET, HEAD"),
        ("OPTIONS /api/v1/status", "GET, HEAD"),
        ("GET /api/v1/drain", "POST"),
        ("GET /api/v1/reload", "POST"),
        ("GET /api/v1/viewers/1", "DELETE"),
        ("BREW /healthz", "GET, HEAD"),
    ] {
        let answer = endpoint.asks(request, &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{request}");
        assert_eq!(answer.json()["error"], format!("this path takes {allow}"));
    }
    assert!(!endpoint.admin.server.is_draining());
}

#[tokio::test]
async fn head_gives_the_headers_alone() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let lists = ["/api/v1/viewers", "/api/v1/broadcasts", "/api/v1/origins"];
    for path in ["/", "/metrics", "/healthz", "/api/v1/status"].into_iter().chain(lists) {
        let (get, head) = (endpoint.get(path).await, endpoint.asks(&format!("HEAD {path}"), &[]).await);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{path}");
    }
}

#[tokio::test]
async fn a_page_by_another_name_reads_nothing() {
    let endpoint = Endpoint::new(Settings { hosts: vec!["media.example".to_owned()], ..Settings::default() }).await;
    for path in ["/", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/nothing"] {
        let answer =
            endpoint.says(&format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, 421, "{path}");
        let answer =
            endpoint.says(&format!("GET {path} HTTP/1.1\r\nHost: media.example\r\nConnection: close\r\n\r\n")).await;
        assert_ne!(answer.status, 421, "{path}");
    }
    let answer = endpoint.says("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    let answer = endpoint.says("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn another_page_does_not_drain() {
    let endpoint = Endpoint::new(Settings::default()).await;
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"] {
        let answer = endpoint.asks("POST /api/v1/drain", &[header]).await;
        assert_eq!((answer.status, endpoint.admin.server.is_draining()), (403, false), "{header}");
        assert_eq!(answer.json()["error"], "a change must not come from another page");
    }
    let own = format!("Origin: http://{}", endpoint.address);
    assert_eq!(endpoint.asks("POST /api/v1/drain", &[&own]).await.status, 200);
}

#[tokio::test]
async fn the_token_is_asked_for_everything_but_health() {
    let endpoint = Endpoint::at("0.0.0.0:0", with_token()).await;
    endpoint.admin.set_started();
    let lists = ["GET /api/v1/viewers", "GET /api/v1/broadcasts", "GET /api/v1/origins"];
    for request in ["GET /", "GET /metrics", "GET /api/v1/status", "GET /nothing"].into_iter().chain(lists) {
        let answer = endpoint.asks(request, &[]).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer realm=\"mmsproxy\"")));
        assert_eq!(endpoint.asks(request, &["Authorization: Bearer wrong"]).await.status, 401, "{request}");
        assert_ne!(endpoint.asks(request, &["Authorization: Bearer secret"]).await.status, 401, "{request}");
    }
    let of_cache = ["GET /api/v1/cache", "DELETE /api/v1/cache?url=x", "GET /api/v1/cache/export?url=x"];
    let of_cache = of_cache.into_iter().chain(["POST /api/v1/cache/prefetch", "POST /api/v1/cache/verify"]);
    let changes = ["POST /api/v1/drain", "POST /api/v1/reload", "DELETE /api/v1/viewers/1"];
    for request in changes.into_iter().chain(of_cache).chain(["GET /api/v1/cache/digests?url=x"]) {
        assert_eq!(endpoint.asks(request, &[]).await.status, 401, "{request}");
    }
    assert!(!endpoint.admin.server.is_draining());
    assert_eq!(endpoint.get("/healthz").await.status, 200);
    assert_eq!(endpoint.get("/readyz").await.status, 200);
    assert_eq!(endpoint.asks("POST /api/v1/drain", &["Authorization: Bearer secret"]).await.status, 200);
}

#[tokio::test]
async fn open_metrics_are_open() {
    let endpoint = Endpoint::at("0.0.0.0:0", Settings { open_metrics: true, ..with_token() }).await;
    assert_eq!(endpoint.get("/metrics").await.status, 200);
    assert_eq!(endpoint.get("/api/v1/status").await.status, 401);
}

#[tokio::test]
async fn without_a_token_others_get_health_alone() {
    let endpoint = Endpoint::at("0.0.0.0:0", Settings::default()).await;
    let answer = endpoint.get("/api/v1/status").await;
    let error = "without admin.token_file this endpoint is open on loopback only";
    assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some(error)));
    assert_eq!(endpoint.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_header_beyond_the_limit_is_refused() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let long = format!("X-Long: {}", "x".repeat(2 * MAX_HEADER));
    let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{long}\r\n\r\n");
    // What is unread when it closes may cut the answer off; that it is no 200 is what counts.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let head = format!("POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1);
    let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; MAX_BODY + 1]).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!((answer.as_slice(), endpoint.admin.server.is_draining()), (&b"HTTP/1.1 413"[..], false));
}

#[tokio::test]
async fn a_body_within_the_limit_is_read_and_ignored() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let request = "POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(endpoint.says(request).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let answer = endpoint.says("POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{").await;
    assert_eq!((answer.status, endpoint.admin.server.is_draining()), (408, false));
}

#[tokio::test(start_paused = true)]
async fn silent_and_slow_clients_are_let_go() {
    let endpoint = Endpoint::new(Settings::default()).await;
    for said in ["", "GET /heal", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_no_answers_is_let_go() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
    while stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_ok() {}
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_for_a_place() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(endpoint.address).await.unwrap());
    }
    let waiting = endpoint.get("/healthz");
    let mut waiting = pin!(waiting);
    // All places are taken, so nothing comes before one is free.
    tokio::select! {
        biased;
        answer = &mut waiting => panic!("{answer:?}"),
        () = yield_for_a_while() => {}
    }
    silent.pop();
    assert_eq!(waiting.await.status, 200);
}

async fn yield_for_a_while() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_requests_go_over_one_connection() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    let answer = endpoint.says(&format!("{ask}\r\n{ask}Connection: close\r\n\r\n")).await;
    assert_eq!(format!("{}{}", answer.head, answer.body).matches("HTTP/1.1 200 OK").count(), 2);
}

#[tokio::test]
async fn garbage_is_a_bad_request() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let answer = endpoint.says("\u{1}\u{0}\u{0}\u{0}MMS \r\n\r\n").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn it_ends_when_told_and_lets_idle_connections_go() {
    let endpoint = Endpoint::new(Settings::default()).await;
    let mut idle = TcpStream::connect(endpoint.address).await.unwrap();
    assert_eq!(endpoint.get("/healthz").await.status, 200);
    endpoint.shutdown.send(()).unwrap();
    endpoint.serving.await.unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}
