//! A running proxy, made out of a config: `serve` and `demo` start one.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{cache_of, limits};
use crate::config::{self, AccessLogFormat, Config, FastStart, Redirects};
use crate::metrics::Metrics;
use crate::server::access_log::{AccessLog, Format};
use crate::server::admin::{self, Admin};
use crate::server::relay::{self, Relay, SplitSettings};
use crate::server::source::Source;
use crate::server::writer::Writers;
use crate::server::{self, Listener, Server};
use crate::session::mmsp::server::{Settings as SessionSettings, Udp as UdpSettings};
use crate::splitter::Bounds;

/// Listeners, viewers and origins.
#[derive(Debug)]
pub struct Proxy {
    server: Arc<Server>,
    relay: Arc<Relay>,
    access_log: Option<Arc<AccessLog>>,
    own_name: String,
    /// All that we listen on: never to be connected to.
    listeners: Vec<SocketAddr>,
    mms: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Proxy {
    /// Binds all listeners and takes viewers. `reloads` is how the admin endpoint asks for the config to be read again;
    /// `None` where there is none to be read.
    pub async fn start(
        config: &Config,
        metrics: Arc<Metrics>,
        reloads: Option<mpsc::Sender<admin::Reload>>,
    ) -> anyhow::Result<Self> {
        limits::raise_open_files(config.limits.viewers, sessions_at_origins(config));
        let own_name = config.own_name()?;
        let settings = server_settings(config);
        let writers = Writers::new(&settings);
        let mut mms = Vec::new();
        for address in &config.listen.mms {
            match Listener::bind(*address, &writers) {
                Ok(listener) => mms.push((listener.local_addr()?, listener)),
                // The default names both families; a machine without IPv6 is no reason to stay away from the other.
                Err(error) if is_without_ipv6(*address, &error) && config.listen.mms.len() > 1 => {
                    warn!(%address, %error, "not listening there: this machine has no IPv6");
                }
                Err(error) => return Err(error).with_context(|| format!("can't listen on {address} (listen.mms)")),
            }
        }
        let admin = match config.listen.admin {
            Some(address) => {
                let listener =
                    server::bind(address).with_context(|| format!("can't listen on {address} (listen.admin)"))?;
                Some((listener.local_addr()?, listener))
            }
            None => None,
        };
        let addresses: Vec<SocketAddr> = mms.iter().map(|(address, _)| *address).collect();
        let admin_address = admin.as_ref().map(|(address, _)| *address);
        let listeners: Vec<SocketAddr> = addresses.iter().copied().chain(admin_address).collect();
        let policy = config.policy(own_name.clone(), listeners.clone(), is_local)?;
        let news = {
            let writers = Arc::clone(&writers);
            Arc::new(move || writers.news())
        };
        let cache = cache_of::open(config, &metrics.counters)?;
        let relay = Arc::new(Relay::new(relay_settings(config), policy, Arc::clone(&metrics.counters), news, cache));
        let access_log = open_access_log(&config.access_log, &metrics)?.map(Arc::new);
        let server = Server::with_access_log(settings, Arc::clone(&metrics.counters), writers, access_log.clone())
            .context("can't start the writers")?;
        let endpoint = match admin {
            Some((address, listener)) => {
                let settings = admin::Settings {
                    token: config.admin_token()?.map(admin::Token::from),
                    open_metrics: config.admin.open_metrics,
                    hosts: config.admin.hosts.clone(),
                    name: own_name.clone(),
                    listeners: addresses.clone(),
                };
                let counters = Arc::clone(&metrics.counters);
                let counted = Arc::clone(&relay);
                let exposition = Box::new(move || {
                    counted.count();
                    metrics.render()
                });
                let (server, relay) = (Arc::clone(&server), Some(Arc::clone(&relay)));
                let endpoint = Arc::new(Admin::new(settings, server, relay, counters, exposition, reloads));
                info!(protocol = "admin", %address, "listening");
                tokio::spawn(admin::serve(listener, Arc::clone(&endpoint), std::future::pending()));
                Some(endpoint)
            }
            None => None,
        };
        for (_, listener) in mms {
            tokio::spawn(Arc::clone(&server).accept(listener, Arc::clone(&relay) as Arc<dyn Source>));
        }
        if let Some(endpoint) = endpoint {
            endpoint.set_started();
        }
        // Last of all: who waits for this line finds everything there, /readyz too.
        for address in &addresses {
            info!(protocol = "mms", %address, "listening");
        }
        Ok(Self { server, relay, access_log, own_name, listeners, mms: addresses, admin: admin_address })
    }

    /// Where players connect.
    pub fn mms(&self) -> &[SocketAddr] {
        &self.mms
    }

    /// Where operators connect.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The viewers.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Waits until the viewers are gone, `within` at most, ends those that are left, and leaves the origins.
    pub async fn finish(&self, within: Duration) {
        const FAREWELL: Duration = Duration::from_secs(2);
        self.server.finish(within).await;
        self.relay.close(FAREWELL).await;
        if let Some(cache) = self.relay.cache().cloned() {
            // What fills have not written yet is worth a moment.
            let _ = tokio::task::spawn_blocking(move || cache.flush()).await;
        }
    }

    /// Opens the access log again, for who moved its file away.
    pub fn reopen_access_log(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Waits a moment until the access log is written, and warns where a slow disk takes longer. Blocks its thread.
    pub fn flush_access_log(&self) {
        const WAIT: Duration = Duration::from_secs(2);
        if self.access_log.as_ref().is_some_and(|log| !log.flush(WAIT)) {
            warn!("the last lines of the access log are lost: they could not be written in time");
        }
    }

    /// Takes over what can change while viewers go on: routes, forwarding, and how origins are asked.
    pub fn reload(&self, config: &Config) -> anyhow::Result<()> {
        let policy = config.policy(self.own_name.clone(), self.listeners.clone(), is_local)?;
        self.relay.reload(relay_settings(config), policy);
        Ok(())
    }
}

fn open_access_log(config: &config::AccessLog, metrics: &Metrics) -> anyhow::Result<Option<AccessLog>> {
    if config.path.as_os_str().is_empty() {
        return Ok(None);
    }
    let format = match config.format {
        AccessLogFormat::W3c => Format::W3c,
        AccessLogFormat::Json => Format::Json,
    };
    let log = AccessLog::open(&config.path, format, metrics.counters.access_log_errors.clone())
        .with_context(|| format!("can't open {} (access_log.path)", config.path.display()))?;
    Ok(Some(log))
}

/// Media leave over UDP in no smaller steps: so often a writer comes round.
const TURN: Duration = Duration::from_millis(20);

pub(super) fn server_settings(config: &Config) -> server::Settings {
    let limits = &config.limits;
    server::Settings {
        viewers: size(limits.viewers.into()),
        viewers_per_address: size(limits.viewers_per_address.into()),
        kernel_buffer: u32::try_from(limits.kernel_buffer.0).unwrap_or(u32::MAX),
        flush: config.split.flush,
        flush_max: config.split.flush_max,
        max_skips: config.split.max_skips,
        writers: std::thread::available_parallelism().map_or(1, usize::from),
        transparent: config.transparent,
        session: Arc::new(SessionSettings {
            server_version: config.server_version.clone(),
            handshake: limits.handshake,
            login: limits.login,
            idle: limits.idle,
            key_wait: config.split.key_wait,
            packet_pair: config.packet_pair,
            random: |bytes| {
                // Of a pair that is all zeros a modem may make too much; nobody is harmed.
                let _ = getrandom::fill(bytes);
            },
            udp: Some(UdpSettings {
                resend_window: config.udp.resend_window,
                resend_budget: config.udp.resend_budget.0.into(),
                flush: config.split.flush.max(TURN),
                flush_max: config.split.flush_max.max(config.split.flush).max(TURN),
                ..UdpSettings::default()
            }),
            ..SessionSettings::default()
        }),
    }
}

/// Sessions that may be open at all origins together.
fn sessions_at_origins(config: &Config) -> u64 {
    if !config.forward.allow.is_empty() {
        return u64::MAX;
    }
    let origins: usize = config.routes.iter().map(|route| 1 + route.origins.len()).sum();
    u64::from(config.origin.sessions).saturating_mul(u64::try_from(origins).unwrap_or(u64::MAX))
}

fn relay_settings(config: &Config) -> relay::Settings {
    let (origin, limits) = (&config.origin, &config.limits);
    relay::Settings {
        connect: origin.connect,
        reply: origin.reply,
        stall: origin.stall,
        down: origin.down,
        sessions: size(origin.sessions.into()),
        follow_redirects: origin.redirects == Redirects::Follow,
        max_redirects: origin.max_redirects,
        identity: origin.identity.clone(),
        receive_rate: u32::try_from(origin.receive_rate.0).unwrap_or(u32::MAX),
        buffer: size(limits.buffer.0),
        max_header: size(limits.header.0),
        control_packet: size(limits.control_packet.0),
        split: split_settings(config),
        cache: cache_of::settings(config),
    }
}

fn split_settings(config: &Config) -> SplitSettings {
    let split = &config.split;
    SplitSettings {
        linger: split.linger,
        bounds: Bounds { history: split.history, bytes: size(split.max_bytes.0) },
        fast_start: match split.fast_start {
            FastStart::Preroll => None,
            FastStart::Off => Some(Duration::ZERO),
            FastStart::For(duration) => Some(duration),
        },
        give_up: split.give_up,
        fail_back: split.fail_back,
        forward_logs: split.forward_logs,
        memory: config.limits.memory.0,
    }
}

pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Whether a listener failed because there is no IPv6 at all.
fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let is_missing = error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32);
    let is_any = address.is_ipv6() && address.ip().is_unspecified();
    is_any && (is_missing || error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Whether an address is one of this machine: a socket can be bound to no other.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
