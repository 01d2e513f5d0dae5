//! A running proxy, made out of a config: `serve` and `demo` start one.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context;
use nix::errno::Errno;
use tracing::{info, warn};

use super::limits;
use crate::config::{Config, Redirects};
use crate::metrics::Metrics;
use crate::server::admin::{self, Admin};
use crate::server::relay::{self, Relay};
use crate::server::source::Source;
use crate::server::{self, Server};
use crate::session::mmsp::server::Settings as SessionSettings;

/// Listeners, viewers and origins.
#[derive(Debug)]
pub struct Proxy {
    server: Arc<Server>,
    relay: Arc<Relay>,
    own_name: String,
    /// All that we listen on: never to be connected to.
    listeners: Vec<SocketAddr>,
    mms: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Proxy {
    /// Binds all listeners and takes viewers.
    pub async fn start(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        limits::raise_open_files(config.limits.viewers);
        let own_name = config.own_name()?;
        let mut mms = Vec::new();
        for address in &config.listen.mms {
            match server::bind(*address) {
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
        let relay = Arc::new(Relay::new(relay_settings(config), policy, Arc::clone(&metrics.counters)));
        let server = Server::new(server_settings(config), Arc::clone(&metrics.counters));
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
                let exposition = Box::new(move || metrics.render());
                let endpoint = Arc::new(Admin::new(settings, Arc::clone(&server), counters, exposition));
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
        Ok(Self { server, relay, own_name, listeners, mms: addresses, admin: admin_address })
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

    /// Takes over what can change while viewers go on: routes, forwarding, and how origins are asked.
    pub fn reload(&self, config: &Config) -> anyhow::Result<()> {
        let policy = config.policy(self.own_name.clone(), self.listeners.clone(), is_local)?;
        self.relay.reload(relay_settings(config), policy);
        Ok(())
    }
}

pub(super) fn server_settings(config: &Config) -> server::Settings {
    let limits = &config.limits;
    server::Settings {
        viewers: size(limits.viewers.into()),
        viewers_per_address: size(limits.viewers_per_address.into()),
        kernel_buffer: u32::try_from(limits.kernel_buffer.0).unwrap_or(u32::MAX),
        flush: config.split.flush,
        writers: std::thread::available_parallelism().map_or(1, usize::from),
        transparent: config.transparent,
        session: SessionSettings {
            server_version: config.server_version.clone(),
            handshake: limits.handshake,
            login: limits.login,
            idle: limits.idle,
            key_wait: config.split.key_wait,
            ..SessionSettings::default()
        },
    }
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
    }
}

fn size(number: u64) -> usize {
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
