//! Why a request is refused, in words that an operator can act on.
use std::net::SocketAddr;

use super::DEFAULT_PORT;
use super::host::HostPort;
use super::name::Name;
use super::policy::MAX_VIA;

/// Why a request is refused. Players are told E_ACCESSDENIED, the log this text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Nothing says whom to ask.
    #[error("no route takes `{name}` and the player names no host: a route with this path would allow it")]
    NoHost {
        /// As asked.
        name: Name,
    },
    /// The player means us, and there is no content here.
    #[error("no route takes `{name}`, and host `{host}` is this proxy: a route with this path would allow it")]
    Ours {
        /// As claimed.
        host: HostPort,
        /// As asked.
        name: Name,
    },
    /// Not in the list.
    #[error("forward.allow does not have `{host}`: an entry \"{host}\" would allow it")]
    NotAllowed {
        /// As claimed.
        host: HostPort,
    },
    /// The name may be asked, this address may not.
    #[error("`{host}` leads to {address}, which is {kind}: an entry \"{}\" in forward.allow would allow it", entry(.address))]
    Address {
        /// As claimed.
        host: HostPort,
        /// As resolved.
        address: SocketAddr,
        /// What kind of address it is.
        kind: &'static str,
    },
    /// A proxy that calls itself; no entry allows it.
    #[error("`{host}` leads to {address}, where this proxy itself listens")]
    OwnListener {
        /// As claimed.
        host: HostPort,
        /// As resolved.
        address: SocketAddr,
    },
    /// Our own name came back in VIA.
    #[error("the request has been here before: VIA has our own `{via}` (proxies in a chain must differ in `name`)")]
    Loop {
        /// The entry that is ours.
        via: String,
    },
    /// Too long a way.
    #[error("the request has passed {count} proxies, at most {MAX_VIA} may be named in VIA")]
    TooManyHops {
        /// Entries in VIA.
        count: usize,
    },
}

impl Refusal {
    /// The label of `mmsproxy_refused_total`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Loop { .. } | Self::TooManyHops { .. } => "loop",
            _ => "policy",
        }
    }
}

fn entry(address: &SocketAddr) -> String {
    HostPort { host: address.ip().to_string(), port: Some(address.port()).filter(|&p| p != DEFAULT_PORT) }.to_string()
}
