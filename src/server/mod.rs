//! Sockets and tasks: the only asynchronous room. Listeners, limits, drain; the rest is in the rooms below.

pub mod access_log;
pub mod admin;
mod cadence;
pub mod counters;
pub mod health;
pub mod intercept;
pub mod mailbox;
pub mod pipe;
mod printable;
pub mod relay;
pub mod sink;
mod sockets;
pub mod source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod udp;
pub mod upstream;
pub mod viewer;
pub mod writer;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tracing::{Instrument, debug, info, info_span, warn};

use self::access_log::AccessLog;
use self::counters::Counters;
use self::source::{Link, Peer, Source, link};
use self::udp::{Funnels, Port};
use self::viewer::{Plays, Road, Viewer, Ways};
use self::writer::Writers;
use crate::session::mmsp::server::{Session, Settings as SessionSettings};
use crate::session::{Reason, Refusal, Reply, Request};
use crate::wire::mmsp::ids::ClientId;

/// Connections that wait to be accepted; the system may allow fewer. Thousands come at once when a broadcast begins.
const BACKLOG: i32 = 4096;
/// Viewers beyond the limits that are told so, in each server; more are just closed.
const REFUSED_AT_ONCE: usize = 256;
/// How long nothing is accepted after a failure such as "too many open files": what is open may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a failure of accept is told while it lasts.
const ACCEPT_COMPLAINT: Duration = Duration::from_secs(10);

/// How a server behaves; all of it comes from the config.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `limits.viewers`: connections in all.
    pub viewers: usize,
    /// `limits.viewers_per_address`: connections of one address.
    pub viewers_per_address: usize,
    /// `limits.kernel_buffer`: bytes that may wait in the kernel for one viewer.
    pub kernel_buffer: u32,
    /// `split.flush`: how often a viewer that streams is written to; 0 is at once.
    pub flush: Duration,
    /// `split.flush_max`: what that grows to under load.
    pub flush_max: Duration,
    /// `split.max_skips`: jumps in a minute after which a viewer is too slow.
    pub max_skips: u32,
    /// How many writers share the viewers.
    pub writers: usize,
    /// `transparent`: redirected connections tell where they were going.
    pub transparent: bool,
    /// What each session goes by.
    pub session: Arc<SessionSettings>,
}

/// Viewers, and where they come in.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    counters: Arc<Counters>,
    access_log: Option<Arc<AccessLog>>,
    viewers: Mutex<Viewers>,
    writers: Arc<Writers>,
    /// Who takes Data over UDP.
    funnels: Arc<Funnels>,
    next_id: AtomicU64,
    is_draining: AtomicBool,
    /// Rung when a viewer is gone.
    left: Notify,
}

#[derive(Debug, Default)]
struct Viewers {
    by_id: HashMap<u64, Arc<Viewer>>,
    by_address: HashMap<IpAddr, usize>,
    refused: usize,
}

/// A viewer's place among the limits; given back when dropped.
struct Place {
    server: Arc<Server>,
    viewer: Arc<Viewer>,
    is_refused: bool,
}

impl Server {
    /// A server without listeners yet. Its `writers`, no other server's, run from here on.
    ///
    /// # Errors
    /// The system gives no thread for them.
    pub fn new(settings: Settings, counters: Arc<Counters>, writers: Arc<Writers>) -> io::Result<Arc<Self>> {
        Self::with_access_log(settings, counters, writers, None)
    }

    /// The same, with a log of what is played.
    pub fn with_access_log(
        settings: Settings,
        counters: Arc<Counters>,
        writers: Arc<Writers>,
        access_log: Option<Arc<AccessLog>>,
    ) -> io::Result<Arc<Self>> {
        writers.start(&counters)?;
        Ok(Arc::new(Self {
            settings,
            counters,
            access_log,
            viewers: Mutex::default(),
            writers,
            funnels: Arc::default(),
            next_id: AtomicU64::new(1),
            is_draining: AtomicBool::new(false),
            left: Notify::new(),
        }))
    }

    /// Takes viewers from `listener` and serves them from `source`. Never returns: an error of accept, "too many open
    /// files" above all, neither ends it nor makes it spin.
    pub async fn accept(self: Arc<Self>, listener: impl Into<Listener>, source: Arc<dyn Source>) {
        let Listener { tcp, udp } = listener.into();
        if let Some(Err(error)) = udp.as_ref().map(|port| port.listen(&self.funnels, &self.counters)) {
            warn!(%error, "players' requests for lost packets are not answered");
        }
        let road = udp.map(|port| Road { port, funnels: Arc::clone(&self.funnels) });
        let mut told: Option<Instant> = None;
        loop {
            match tcp.accept().await {
                Ok((stream, address)) => {
                    // An IPv4 address is itself, however it came: else it would count twice among the limits.
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    self.take(stream, address, road.clone(), &source);
                }
                Err(error) if is_of_one_connection(&error) => debug!(%error, "a connection was gone before it began"),
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() >= ACCEPT_COMPLAINT) {
                        warn!(%error, "connections can't be accepted");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// All viewers, in the order they came.
    pub fn viewers(&self) -> Vec<Arc<Viewer>> {
        let mut viewers: Vec<_> = self.viewers.lock().by_id.values().map(Arc::clone).collect();
        viewers.sort_by_key(|viewer| viewer.id);
        viewers
    }

    /// One of them.
    pub fn viewer(&self, id: u64) -> Option<Arc<Viewer>> {
        self.viewers.lock().by_id.get(&id).map(Arc::clone)
    }

    /// No more viewers are taken from here on; those that are there may go on.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether `drain` was called.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Waits until all viewers are gone, `within` at most; ends those that are left, and waits a moment for them.
    pub async fn finish(&self, within: Duration) {
        const LAST_WORDS: Duration = Duration::from_secs(2);
        if tokio::time::timeout(within, self.empty()).await.is_err() {
            for viewer in self.viewers() {
                viewer.end(Refusal::new(Reason::Draining, "the proxy is going down"));
            }
            let _ = tokio::time::timeout(LAST_WORDS, self.empty()).await;
        }
    }

    async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.viewers.lock().by_id.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, road: Option<Road>, source: &Arc<dyn Source>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let redirected_from = self.settings.transparent.then(|| intercept::original_destination(&stream)).flatten();
        let peer = Peer { id, address, redirected_from };
        // Its datagrams would come from another address than the one that the player asked.
        let road = road.filter(|_| redirected_from.is_none());
        let span = info_span!("viewer", id, peer = %address);
        // nCubs is all that keeps a stranger from asking for a viewer's packets: without randomness nobody is served.
        let Ok(client_id) = getrandom::u32() else { return };
        sockets::bound_kernel_buffer(&SockRef::from(&stream), self.settings.kernel_buffer);
        let Some(writer) = self.writers.of(id) else { return };
        let session = Session::new(Instant::now(), Arc::clone(&self.settings.session), ClientId(client_id));
        let bell = Arc::new(Notify::new());
        let plays = self.access_log.as_ref().map_or_else(Plays::default, |log| {
            let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
            Plays::of(id, address, local, log, &self.counters)
        });
        let viewer = Viewer::new(
            peer,
            stream,
            session,
            Arc::clone(&bell),
            Arc::clone(writer),
            Arc::clone(&self.counters),
            self.settings.max_skips,
        );
        let viewer = Arc::new(viewer.with_road(road).with_plays(plays));
        let (viewer_link, source_link) = link(bell);
        let (place, refusal) = match self.admit(&viewer) {
            Ok(place) => (place, None),
            Err(Some((place, refusal))) => (place, Some(refusal)),
            Err(None) => {
                info!(parent: &span, "closed without a word: too many are being refused");
                return;
            }
        };
        let source = match refusal {
            None => Arc::clone(source),
            Some(refusal) => Arc::new(Refuse(refusal)) as Arc<dyn Source>,
        };
        tokio::spawn(source.serve(peer, source_link).instrument(span.clone()));
        let mut ways = Ways { link: viewer_link, idle: self.settings.session.idle };
        let serve = async move {
            place.viewer.serve(&mut ways).await;
            // The limits have room again once the source has been told.
            drop((ways, place));
        };
        tokio::spawn(serve.instrument(span));
    }

    /// Finds a place; beyond the limits one to be refused in, as long as not too many are.
    fn admit(self: &Arc<Self>, viewer: &Arc<Viewer>) -> Result<Place, Option<(Place, Refusal)>> {
        let address = viewer.address.ip();
        let limit =
            |key: &str, n: usize| Refusal::new(Reason::Busy, format!("{n} viewers are connected (limits.{key})"));
        let mut viewers = self.viewers.lock();
        let of_address = viewers.by_address.get(&address).copied().unwrap_or(0);
        let refusal = if self.is_draining() {
            Some(Refusal::new(Reason::Draining, "the proxy is going down"))
        } else if viewers.by_id.len() - viewers.refused >= self.settings.viewers {
            Some(limit("viewers", self.settings.viewers))
        } else if of_address >= self.settings.viewers_per_address {
            Some(limit("viewers_per_address", self.settings.viewers_per_address))
        } else {
            None
        };
        if let Some(refusal) = &refusal {
            if viewers.refused >= REFUSED_AT_ONCE {
                self.counters.refused.with_label_values(&[refusal.reason.label()]).inc();
                return Err(None);
            }
            viewers.refused += 1;
        } else {
            *viewers.by_address.entry(address).or_default() += 1;
        }
        viewers.by_id.insert(viewer.id, Arc::clone(viewer));
        drop(viewers);
        self.counters.connections.inc();
        let place = Place { server: Arc::clone(self), viewer: Arc::clone(viewer), is_refused: refusal.is_some() };
        match refusal {
            None => Ok(place),
            Some(refusal) => Err(Some((place, refusal))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut viewers = self.server.viewers.lock();
        viewers.by_id.remove(&self.viewer.id);
        if self.is_refused {
            viewers.refused -= 1;
        } else if let Some(count) = viewers.by_address.get_mut(&self.viewer.address.ip()) {
            *count -= 1;
            if *count == 0 {
                viewers.by_address.remove(&self.viewer.address.ip());
            }
        }
        drop(viewers);
        self.server.counters.connections.dec();
        self.server.left.notify_waiters();
    }
}

/// A source for viewers beyond the limits: it refuses at the first question, so that they learn why.
struct Refuse(Refusal);

impl Source for Refuse {
    fn serve(self: Arc<Self>, _peer: Peer, mut link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Some(request) = link.requests.recv().await {
                let is_question = !matches!(request, Request::Select(_) | Request::Stop | Request::Log(_));
                if is_question && link.replies.send(Reply::Refused(self.0.clone())).await.is_err() {
                    break;
                }
            }
        })
    }
}

/// Whether an error of accept says nothing about the next connection.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Where viewers come in: TCP, and UDP at the same address and port.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    udp: Option<Arc<Port>>,
}

impl Listener {
    /// Listens at `address`. Where UDP can't be had there, viewers are served over TCP alone, and that is said.
    ///
    /// # Errors
    /// The address can't be listened at.
    pub fn bind(address: SocketAddr, writers: &Writers) -> io::Result<Self> {
        let tcp = bind(address)?;
        let address = tcp.local_addr()?;
        let udp = Port::bind(address, writers.count());
        if let Err(error) = &udp {
            warn!(%address, %error, "no UDP here: players get Data over TCP");
        }
        Ok(Self { tcp, udp: udp.ok().map(Arc::new) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl From<TcpListener> for Listener {
    /// TCP alone.
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, udp: None }
    }
}

/// A listening socket; one on IPv6 takes IPv6 only, so that the same port can be named for both.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
