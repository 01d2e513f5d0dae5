//! The admin endpoint: metrics, health, the API and a plain page, for operators and their tools.
//!
//! It answers from what the server knows at the moment of the question and keeps no state of its own but whether the
//! proxy has finished its start, and the prefetches that operators began. Who may ask is decided in `guard.rs`, before anything else is looked at.

mod api;
mod broadcasts;
pub mod cache;
mod guard;
mod origins;
mod page;
mod query;
mod reload;
mod respond;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, debug, info_span, warn};

use super::counters::Counters;
use super::relay::Relay;
use super::{ACCEPT_PAUSE, Server};

pub use self::guard::Token;
pub use self::reload::{Fault, Reload, ReloadRefused, Reloaded};

/// Connections served at once; more wait to be accepted until one ends.
const MAX_CONNECTIONS: usize = 64;
/// How long a request's header may take, and how long a connection may rest between two requests.
const HEADER: Duration = Duration::from_secs(5);
/// How long a request's body may take.
const BODY: Duration = Duration::from_secs(5);
/// How long the config may take to be read again.
const RELOAD: Duration = Duration::from_secs(5);
/// A request's header, bytes.
const MAX_HEADER: usize = 16 * 1024;
/// A request's body, bytes.
const MAX_BODY: usize = 64 * 1024;
/// Age at which a connection is closed after the answer that is on its way, so that one whose answers nobody reads ends.
const LIFETIME: Duration = Duration::from_secs(30);
/// How long that last answer may take, or a piece of it.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the endpoint goes by; all of it comes from the config and from what was bound.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// From `admin.token_file`. Without one, only a listener on a loopback address serves more than health.
    pub token: Option<Token>,
    /// `admin.open_metrics`: `/metrics` asks for no token.
    pub open_metrics: bool,
    /// `admin.hosts`: names in `Host` that are ours, beside localhost and addresses.
    pub hosts: Vec<String>,
    /// Our name in VIA.
    pub name: String,
    /// Where players come in.
    pub listeners: Vec<SocketAddr>,
}

/// Gives all metrics in the text format of Prometheus, 0.0.4.
pub type Exposition = Box<dyn Fn() -> Result<String, prometheus::Error> + Send + Sync>;

/// What the endpoint tells of, and what it may change.
pub struct Admin {
    settings: Settings,
    server: Arc<Server>,
    relay: Option<Arc<Relay>>,
    counters: Arc<Counters>,
    exposition: Exposition,
    reloads: Option<mpsc::Sender<Reload>>,
    started_at: SystemTime,
    started: Instant,
    is_started: AtomicBool,
    desk: cache::Desk,
}

/// Pieces of long answers that a connection has taken.
type Progress = Arc<AtomicU64>;

impl Admin {
    /// The state behind an endpoint; `/readyz` says "starting" until `set_started`. `counters` are those of `server`.
    /// `relay` is what `server` takes content from, `None` where that is no proxy. `reloads` goes to whoever has the config;
    /// `None` where nobody has one.
    pub fn new(
        settings: Settings,
        server: Arc<Server>,
        relay: Option<Arc<Relay>>,
        counters: Arc<Counters>,
        exposition: Exposition,
        reloads: Option<mpsc::Sender<Reload>>,
    ) -> Self {
        Self {
            settings,
            server,
            relay,
            counters,
            exposition,
            reloads,
            started_at: SystemTime::now(),
            started: Instant::now(),
            is_started: AtomicBool::new(false),
            desk: cache::Desk::new(),
        }
    }

    /// The listeners for players are open: from here on the proxy is ready, until it drains.
    pub fn set_started(&self) {
        self.is_started.store(true, Ordering::Release);
    }

    /// Whether viewers are taken.
    pub fn readiness(&self) -> Readiness {
        if self.server.is_draining() {
            Readiness::Draining
        } else if self.is_started.load(Ordering::Acquire) {
            Readiness::Ready
        } else {
            Readiness::Starting
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("settings", &self.settings).field("readiness", &self.readiness()).finish()
    }
}

/// Whether viewers are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// No more.
    Draining,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        })
    }
}

/// Serves the endpoint on `listener` until `shutdown` comes; answers that are on their way then get a moment to go out.
pub async fn serve(listener: TcpListener, state: Arc<Admin>, shutdown: impl Future<Output = ()> + Send) {
    let address = listener.local_addr().ok();
    let (closing, is_closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let serve = connection(stream, address, Arc::clone(&state), is_closing.clone());
                    connections.spawn(serve.instrument(info_span!("admin", %peer)));
                }
                Err(error) => {
                    warn!(%error, "a connection to the admin endpoint could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    closing.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    listener: Option<SocketAddr>,
    state: Arc<Admin>,
    mut is_closing: watch::Receiver<bool>,
) {
    let progress = Progress::default();
    let service = service_fn(|request| async {
        let response = state.answer(request, listener, &progress).await;
        Ok::<_, Infallible>(response)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER)
            .max_buf_size(MAX_HEADER)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "connection ended");
            }
            return;
        }
        _ = is_closing.wait_for(|is_closing| *is_closing) => {}
        () = sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let mut taken = 0;
    while timeout(FAREWELL, connection.as_mut()).await.is_err() {
        // A long answer goes on as long as somebody reads it.
        let before = std::mem::replace(&mut taken, progress.load(Ordering::Relaxed));
        if before == taken || *is_closing.borrow() {
            debug!("an answer was not read in time");
            return;
        }
    }
}

#[cfg(test)]
mod tests;
