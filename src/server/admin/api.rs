//! The routes, and what the API tells. Field names are the project's outside: they stay, and new ones come beside them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::broadcasts::BroadcastList;
use super::cache::CacheStatus;
use super::guard::{self, Audience};
use super::origins::OriginList;
use super::page::{self, Figures};
use super::respond::{self, Answer};
use super::{Admin, BODY, MAX_BODY, Progress, Readiness};
use crate::server::viewer::Viewer;
use crate::session::{Reason, Refusal};

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Status {
    /// The version that runs.
    pub(super) version: &'static str,
    /// Our name in VIA.
    pub(super) name: String,
    /// RFC 3339.
    pub(super) started_at: String,
    pub(super) uptime_seconds: u64,
    /// Viewers are taken.
    pub(super) ready: bool,
    /// No more viewers are taken.
    pub(super) draining: bool,
    pub(super) listeners: Listeners,
    /// Accepted connections, in handshake too.
    pub(super) connections: i64,
    /// Sessions that have content open.
    pub(super) viewers: i64,
    /// The same by kind of content.
    pub(super) viewers_by_content: ByContent,
    /// Sessions at origins now.
    pub(super) origin_sessions: i64,
    /// Broadcasts that have a source now, each one session for all its viewers.
    pub(super) broadcasts: i64,
    /// Null where there is no cache.
    pub(super) cache: Option<CacheStatus>,
}

/// Where we listen.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Listeners {
    /// For players.
    pub(super) mms: Vec<SocketAddr>,
    /// Where this request came in.
    pub(super) admin: Option<SocketAddr>,
}

/// A figure for each kind of content.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ByContent {
    pub(super) broadcast: i64,
    pub(super) on_demand: i64,
}

/// `GET /api/v1/viewers`.
#[derive(Clone, Debug, Serialize)]
struct ViewerList {
    viewers: Vec<ViewerRow>,
}

/// One session, whether it has content or not.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ViewerRow {
    /// What DELETE takes, and the logs say.
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    /// RFC 3339.
    pub(super) since: String,
    /// Product and version; null before Connect.
    pub(super) player: Option<String>,
    /// The name as asked; null before OpenFile.
    pub(super) content: Option<String>,
    /// `broadcast` or `on_demand`; null before content is open.
    pub(super) kind: Option<&'static str>,
    pub(super) funnel: &'static str,
    /// `handshake`, `open` or `streaming`.
    pub(super) state: &'static str,
    pub(super) sent_bytes: u64,
    pub(super) sent_packets: u64,
}

/// The answer to `POST /api/v1/drain`.
#[derive(Clone, Copy, Debug, Serialize)]
struct Draining {
    draining: bool,
    /// Connections that go on.
    connections: i64,
}

impl From<&Viewer> for ViewerRow {
    fn from(viewer: &Viewer) -> Self {
        let facts = viewer.facts();
        let state = match (facts.is_streaming, facts.kind) {
            (true, _) => "streaming",
            (false, Some(_)) => "open",
            (false, None) => "handshake",
        };
        Self {
            id: viewer.id,
            address: viewer.address,
            since: rfc3339(viewer.since),
            player: facts.player,
            content: facts.content,
            kind: facts.kind,
            funnel: facts.funnel,
            state,
            sent_bytes: facts.sent_bytes,
            sent_packets: facts.sent_packets,
        }
    }
}

/// What a path names.
enum Route<'a> {
    Page,
    Metrics,
    Healthz,
    Readyz,
    Status,
    Viewers,
    Viewer(&'a str),
    Broadcasts,
    Origins,
    Cache,
    Prefetch,
    Verify,
    Export,
    Digests,
    Drain,
    Reload,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/api/v1/status" => Self::Status,
            "/api/v1/viewers" => Self::Viewers,
            "/api/v1/broadcasts" => Self::Broadcasts,
            "/api/v1/origins" => Self::Origins,
            "/api/v1/cache" => Self::Cache,
            "/api/v1/cache/prefetch" => Self::Prefetch,
            "/api/v1/cache/verify" => Self::Verify,
            "/api/v1/cache/export" => Self::Export,
            "/api/v1/cache/digests" => Self::Digests,
            "/api/v1/drain" => Self::Drain,
            "/api/v1/reload" => Self::Reload,
            _ => Self::Viewer(path.strip_prefix("/api/v1/viewers/")?),
        })
    }

    fn audience(&self) -> Audience {
        match self {
            Self::Healthz | Self::Readyz => Audience::Anyone,
            Self::Metrics => Audience::Scrapers,
            // Whatever is not said to be open is not.
            _ => Audience::Operators,
        }
    }

    /// The methods it takes, as `Allow` lists them.
    fn allow(&self) -> &'static str {
        match self {
            Self::Viewer(_) => "DELETE",
            Self::Cache => "GET, HEAD, DELETE",
            Self::Export | Self::Digests => "GET",
            Self::Prefetch | Self::Verify | Self::Drain | Self::Reload => "POST",
            _ => "GET, HEAD",
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

impl Admin {
    /// Answers a request that came to `listener`. The body of an answer to HEAD is left out by hyper.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        listener: Option<SocketAddr>,
        progress: &Progress,
    ) -> Answer {
        let (request, body) = request.into_parts();
        let path = request.uri.path();
        let route = Route::of(path);
        // Who may not ask does not learn what there is.
        let audience = route.as_ref().map_or(Audience::Operators, Route::audience);
        if let Err(denial) = guard::admit(&self.settings, listener, audience, &request) {
            debug!(method = %request.method, path, reason = %denial, "refused");
            return respond::denied(&denial);
        }
        let Some(route) = route else {
            return respond::error(StatusCode::NOT_FOUND, "there is nothing at this path");
        };
        if !route.takes(&request.method) {
            return respond::not_allowed(route.allow());
        }
        // Few take a body. It is read all the same: a close with something unread takes the answer with it.
        let body = match read_to_end(body).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let query = request.uri.query();
        match route {
            Route::Page => respond::html(page::render(&Figures {
                status: self.status(listener),
                viewers: self.viewer_rows(),
                broadcasts: BroadcastList::of(self.relay.as_deref()).broadcasts,
                origins: OriginList::of(self.relay.as_deref()).origins,
                entries: self.loaded_rows(),
            })),
            Route::Metrics => self.metrics(),
            Route::Healthz => respond::line(StatusCode::OK, "ok"),
            Route::Readyz => match self.readiness() {
                Readiness::Ready => respond::line(StatusCode::OK, Readiness::Ready),
                other => respond::line(StatusCode::SERVICE_UNAVAILABLE, other),
            },
            Route::Status => respond::json(StatusCode::OK, &self.status(listener)),
            Route::Viewers => respond::json(StatusCode::OK, &ViewerList { viewers: self.viewer_rows() }),
            Route::Viewer(id) => self.end_viewer(id),
            Route::Broadcasts => respond::json(StatusCode::OK, &BroadcastList::of(self.relay.as_deref())),
            Route::Origins => respond::json(StatusCode::OK, &OriginList::of(self.relay.as_deref())),
            Route::Cache if request.method == Method::DELETE => self.cache_purge(query).await,
            Route::Cache => self.cache_list(query).await,
            Route::Prefetch => self.cache_prefetch(body).await,
            Route::Verify => self.cache_verify(query).await,
            Route::Export => self.cache_export(query, progress).await,
            Route::Digests => self.cache_digests(query, progress).await,
            Route::Drain => self.drain(),
            Route::Reload => self.reload().await,
        }
    }

    fn metrics(&self) -> Answer {
        match (self.exposition)() {
            Ok(text) => respond::metrics(text),
            Err(error) => {
                error!(%error, "the metrics could not be gathered");
                respond::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
            }
        }
    }

    fn status(&self, listener: Option<SocketAddr>) -> Status {
        let viewers_of = |content: &str| -> i64 {
            ["tcp", "udp"].iter().map(|funnel| self.counters.viewers.with_label_values(&[content, funnel]).get()).sum()
        };
        let viewers_by_content = ByContent { broadcast: viewers_of("broadcast"), on_demand: viewers_of("on_demand") };
        let readiness = self.readiness();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            name: self.settings.name.clone(),
            started_at: rfc3339(self.started_at),
            uptime_seconds: self.started.elapsed().as_secs(),
            ready: readiness == Readiness::Ready,
            draining: readiness == Readiness::Draining,
            listeners: Listeners { mms: self.settings.listeners.clone(), admin: listener },
            connections: self.counters.connections.get(),
            viewers: viewers_by_content.broadcast + viewers_by_content.on_demand,
            viewers_by_content,
            origin_sessions: self.counters.origin_sessions.get(),
            broadcasts: self.counters.broadcasts.get(),
            cache: self.cache_status(),
        }
    }

    fn viewer_rows(&self) -> Vec<ViewerRow> {
        self.server.viewers().iter().map(|viewer| ViewerRow::from(&**viewer)).collect()
    }

    fn end_viewer(&self, id: &str) -> Answer {
        let Some(viewer) = id.parse().ok().and_then(|id| self.server.viewer(id)) else {
            return respond::error(StatusCode::NOT_FOUND, &format!("no viewer has the id `{id}`"));
        };
        info!(viewer = viewer.id, address = %viewer.address, "the operator ends a session");
        viewer.end(Refusal::new(Reason::Kicked, "ended by the operator"));
        respond::no_content()
    }

    fn drain(&self) -> Answer {
        if !self.server.is_draining() {
            info!("the operator drains the proxy: no more viewers are taken");
        }
        self.server.drain();
        respond::json(StatusCode::OK, &Draining { draining: true, connections: self.counters.connections.get() })
    }
}

async fn read_to_end(body: Incoming) -> Result<Bytes, Answer> {
    match timeout(BODY, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(respond::error(StatusCode::PAYLOAD_TOO_LARGE, &format!("a body has {MAX_BODY} bytes at most")))
        }
        Ok(Err(error)) => Err(respond::error(StatusCode::BAD_REQUEST, &error.to_string())),
        Err(_) => Err(respond::error(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

/// Empty for times that RFC 3339 can't tell: a clock that was never set must not end the answer.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let mut text = String::new();
    match write!(text, "{}", humantime::format_rfc3339_millis(time)) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}
