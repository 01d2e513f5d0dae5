//! Who may be asked for what: routes, forwarding, the addresses that may be connected to, loops.
//!
//! Two checks, because a name says little about where it leads: [`Policy::choose`] decides on host and name and hands out
//! a [`Grant`]; [`Policy::permit`] decides on the address that the name resolved to, and that very address is to be used.
use std::net::{IpAddr, SocketAddr};

use super::allow::AllowEntry;
use super::host::HostPort;
use super::key::Key;
use super::name::Name;
use super::reach::inner_kind;
use super::refusal::Refusal;
use super::route::{Origin, Route};
use super::url::{MmsUrl, Scheme};

/// What a [`Policy`] is made of.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The first that matches wins.
    pub routes: Vec<Route>,
    /// Where hosts that no route matched may be forwarded.
    pub allow: Vec<AllowEntry>,
    /// Our name in VIA.
    pub own_name: String,
    /// Where we listen, the admin endpoint too: never connected to.
    pub listeners: Vec<SocketAddr>,
    /// Is this an address of this machine? Asked for listeners on `0.0.0.0` and `[::]`, which take every one of them.
    pub is_local: fn(IpAddr) -> bool,
}

/// Decides for each request which origin is asked, under which name. No I/O, no clock.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Rules,
    via: String,
}

/// What a request is let do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Tried in order; a refusal is an answer and ends the search.
    pub origins: Vec<Origin>,
    /// Under which it is split and cached.
    pub key: Key,
    /// To be shown to [`Policy::permit`] with the address.
    pub grant: Grant,
    /// Index of the route in the config, `None` when forwarded.
    pub route: Option<usize>,
    /// May it be cached?
    pub cache: bool,
    /// What the origins are asked to send at most, bit/s; 0 is any.
    pub receive_rate: u32,
    /// May it be split?
    pub split: bool,
}

/// A host that was let in, and by what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    host: HostPort,
    basis: Basis,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Basis {
    /// A route's origin, or a host listed letter by letter: wherever it leads.
    Listed,
    /// A glob: a name that anyone may have made up, so it leads to public addresses unless an entry covers the address.
    Glob,
    /// No entry has the name, but some are of addresses: one of them must cover the address.
    Address,
}

/// Proxies that a request may have passed.
pub(super) const MAX_VIA: usize = 8;

const PRODUCT: &str = "mmsproxy";

impl Policy {
    /// Takes rules that were checked when they were read.
    pub fn new(rules: Rules) -> Self {
        // No hyphen before the one that the name follows, so that the name is found again.
        let via = format!("{PRODUCT}/{}-{}", env!("CARGO_PKG_VERSION").replace('-', "+"), rules.own_name);
        Self { rules, via }
    }

    /// Which origin to ask: a route that matches host and name; else that host, if it is not ours and is allowed.
    pub fn choose(&self, host: Option<&HostPort>, name: &Name) -> Result<Choice, Refusal> {
        let host_text = host.map(|host| host.host.as_str());
        for (index, route) in self.rules.routes.iter().enumerate() {
            if !route.host.matches(host_text) {
                continue;
            }
            let Some(origins) = route.origins_for(name) else {
                continue;
            };
            let Some(first) = origins.first() else { continue };
            return Ok(Choice {
                key: Key::new(&first.host, first.port, &Name::joined(&first.name), route.ignore_case),
                grant: Grant {
                    host: HostPort { host: first.host.clone(), port: Some(first.port) },
                    basis: Basis::Listed,
                },
                origins,
                route: Some(index),
                cache: route.cache,
                receive_rate: route.receive_rate,
                split: route.split,
            });
        }
        let host = host.ok_or_else(|| Refusal::NoHost { name: name.clone() })?;
        if self.means_us(host) {
            return Err(Refusal::Ours { host: host.clone(), name: name.clone() });
        }
        let grant = self.forward(host)?;
        Ok(Choice {
            key: Key::new(&host.host, host.port(), name, false),
            grant,
            origins: vec![Origin {
                host: host.host.clone(),
                port: host.port(),
                name: name.as_str().into(),
                scheme: Scheme::Mms,
            }],
            route: None,
            cache: true,
            receive_rate: 0,
            split: true,
        })
    }

    /// The one origin that a player of this host can mean, whatever name it will ask for; `None` where the name decides.
    /// Its `AuthenPackage` is what the player is to be told before it names a content.
    pub fn origins_for_host(&self, host: Option<&HostPort>) -> Option<(String, u16)> {
        let host_text = host.map(|host| host.host.as_str());
        let mut left: Vec<(&str, u16)> = Vec::new();
        let mut takes_all = false;
        for route in self.rules.routes.iter().filter(|route| route.host.matches(host_text)) {
            let Some(first) = route.origins.first() else { continue };
            left.push((&first.host, first.port()));
            takes_all = route.path.as_str().is_empty();
            if takes_all {
                break;
            }
        }
        if let Some(host) = host
            && !takes_all
            && !self.means_us(host)
            && self.forward(host).is_ok()
        {
            left.push((&host.host, host.port()));
        }
        let (first, others) = left.split_first()?;
        others.iter().all(|other| other == first).then(|| (first.0.to_string(), first.1))
    }

    /// May this address, to which the host of the grant resolved, be connected to? To be asked for each of them, and no
    /// other address used.
    pub fn permit(&self, grant: &Grant, address: SocketAddr) -> Result<(), Refusal> {
        let address = canonical(address);
        if self.is_own(address) {
            return Err(Refusal::OwnListener { host: grant.host.clone(), address });
        }
        let kind = match (grant.basis, inner_kind(address.ip())) {
            (Basis::Listed, _) | (Basis::Glob, None) => return Ok(()),
            (Basis::Glob, Some(kind)) => kind,
            (Basis::Address, kind) => kind.unwrap_or("in no address or block of the list"),
        };
        if self.rules.allow.iter().any(|entry| entry.covers(address)) {
            return Ok(());
        }
        Err(Refusal::Address { host: grant.host.clone(), address, kind })
    }

    /// May an origin send us there? To hosts that some route's origin names, or that may be forwarded to.
    pub fn redirect(&self, url: &MmsUrl) -> Result<Grant, Refusal> {
        let host = url.host_port();
        if self.rules.routes.iter().flat_map(|route| &route.origins).any(|origin| origin.host == host.host) {
            return Ok(Grant { host, basis: Basis::Listed });
        }
        self.forward(&host)
    }

    /// Refuses a request that has been here, or passed too many proxies. `via` are the entries as they came, without the
    /// one we will append.
    pub fn loop_check(&self, via: &[String]) -> Result<(), Refusal> {
        if let Some(own) = via.iter().find(|entry| self.is_own_via(entry)) {
            return Err(Refusal::Loop { via: own.clone() });
        }
        if via.len() > MAX_VIA {
            return Err(Refusal::TooManyHops { count: via.len() });
        }
        Ok(())
    }

    /// What we append to VIA: `mmsproxy/<version>-<name>`.
    pub fn own_via(&self) -> &str {
        &self.via
    }

    /// Do we listen there ourselves?
    pub fn is_own(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let (ip, port) = (address.ip(), address.port());
        self.rules.listeners.iter().any(|&listener| {
            let at = canonical(listener).ip();
            // An IPv6 listener takes IPv6 only, so [::] is no wildcard for IPv4.
            let same_family = at.is_ipv4() == ip.is_ipv4();
            let meets = at == ip
                || (at.is_unspecified() && (ip.is_loopback() || ip.is_unspecified() || (self.rules.is_local)(ip)))
                // A connection to the unspecified address arrives at loopback.
                || (ip.is_unspecified() && at.is_loopback());
            listener.port() == port && same_family && meets
        })
    }

    fn is_own_via(&self, entry: &str) -> bool {
        let Some((product, version_and_name)) = entry.trim().split_once('/') else {
            return false;
        };
        let Some((_, name)) = version_and_name.split_once('-') else {
            return false;
        };
        product.eq_ignore_ascii_case(PRODUCT) && name.eq_ignore_ascii_case(&self.rules.own_name)
    }

    fn means_us(&self, host: &HostPort) -> bool {
        host.host.eq_ignore_ascii_case(&self.rules.own_name)
            || host.address().is_some_and(|ip| self.is_own(SocketAddr::new(ip, host.port())))
    }

    fn forward(&self, host: &HostPort) -> Result<Grant, Refusal> {
        let (name, port) = (host.host.as_str(), host.port());
        let allow = &self.rules.allow;
        let basis = match host.address() {
            Some(ip) if allow.iter().any(|entry| entry.covers(canonical(SocketAddr::new(ip, port)))) => Basis::Address,
            _ if allow.iter().any(|entry| entry.names(name, port)) => Basis::Listed,
            _ if allow.iter().any(|entry| entry.matches(name, port)) => Basis::Glob,
            None if allow.iter().any(|entry| entry.is_of_addresses(port)) => Basis::Address,
            _ => return Err(Refusal::NotAllowed { host: host.clone() }),
        };
        Ok(Grant { host: host.clone(), basis })
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
