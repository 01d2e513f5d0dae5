//! One entry of `forward.allow`: a host, a glob over hosts, an address or a CIDR block, and the port it is for.
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::DEFAULT_PORT;
use super::host::{Glob, HostError, HostPort, parse_port};

/// `host[:port]`: port 1755 unless given, `*` for any. IPv6 is written `[fd00::1]:1755`, `fd00::/8` or `[fd00::/8]:*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowEntry {
    hosts: Hosts,
    /// `None` is any.
    port: Option<u16>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Hosts {
    Name(String),
    Glob(Glob),
    Addresses(IpNet),
}

/// Why a text is no entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AllowError {
    /// Host or port.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The part around the slash.
    #[error("`{0}` is no block of addresses, want such as 10.0.0.0/8 or fd00::/8")]
    Block(String),
    /// A URL where a host should stand.
    #[error("`{0}` is a URL, want its host alone: host[:port]")]
    Url(String),
    /// A character that is in no host.
    #[error("`{0}` is no host, glob or block of addresses")]
    Glob(String),
}

impl AllowEntry {
    /// Reads an entry.
    pub fn parse(text: &str) -> Result<Self, AllowError> {
        let text = text.trim();
        if text.contains("://") {
            return Err(AllowError::Url(text.into()));
        }
        let (host, port) = split_port(text);
        let port = match port {
            Some("*") => None,
            Some(port) => Some(parse_port(port)?),
            None => Some(DEFAULT_PORT),
        };
        let hosts = if host.contains('/') {
            let block: IpNet = host.parse().map_err(|_| AllowError::Block(host.into()))?;
            Hosts::Addresses(block.trunc())
        } else if Glob::is_pattern(host) {
            let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '?' | ':');
            if !host.chars().all(fits) {
                return Err(AllowError::Glob(host.into()));
            }
            Hosts::Glob(Glob::new(host))
        } else {
            let host = HostPort::parse(host)?.host;
            host.parse::<IpAddr>().map_or(Hosts::Name(host), |address| Hosts::Addresses(address.into()))
        };
        Ok(Self { hosts, port })
    }

    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Is this host listed by name, letter by letter?
    pub(super) fn names(&self, host: &str, port: u16) -> bool {
        self.has_port(port) && matches!(&self.hosts, Hosts::Name(name) if name == host)
    }

    /// Does a glob let this host in?
    pub(super) fn matches(&self, host: &str, port: u16) -> bool {
        self.has_port(port) && matches!(&self.hosts, Hosts::Glob(glob) if glob.matches(Some(host)))
    }

    /// Is this an entry of addresses, for this port?
    pub(super) fn is_of_addresses(&self, port: u16) -> bool {
        self.has_port(port) && matches!(&self.hosts, Hosts::Addresses(_))
    }

    /// Does an address or a block of the list hold this one? `address` must not be an IPv4 address mapped into IPv6.
    pub(super) fn covers(&self, address: SocketAddr) -> bool {
        self.has_port(address.port()) && matches!(&self.hosts, Hosts::Addresses(block) if block.contains(&address.ip()))
    }
}

impl fmt::Display for AllowEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::Name(name) => f.write_str(name)?,
            Hosts::Glob(glob) => write!(f, "{glob}")?,
            Hosts::Addresses(IpNet::V6(block)) if block.prefix_len() == 128 => write!(f, "[{}]", block.addr())?,
            Hosts::Addresses(IpNet::V6(block)) => write!(f, "[{block}]")?,
            Hosts::Addresses(IpNet::V4(block)) if block.prefix_len() == 32 => write!(f, "{}", block.addr())?,
            Hosts::Addresses(IpNet::V4(block)) => write!(f, "{block}")?,
        }
        match self.port {
            Some(DEFAULT_PORT) => Ok(()),
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

/// Host (without brackets) and port of `h`, `h:p`, `[v6]`, `[v6]:p`, `[v6/n]:p`, `[v6]/n`, `v6`, `v6/n`, `v4/n:p`.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some((inside, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match after.strip_prefix(':') {
            Some(port) => (inside, Some(port)),
            None if after.is_empty() => (inside, None),
            // What is left is no entry; the whole text is named in the refusal.
            None => (text, None),
        };
    }
    let v6 = text.split('/').next().is_some_and(|address| address.matches(':').count() > 1);
    match text.rsplit_once(':') {
        Some((host, port)) if !v6 => (host, Some(port)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_show_as_they_would_be_written() {
        for (text, shown) in [
            ("ms.Example.net", "ms.example.net"),
            ("ms.example.net:1755", "ms.example.net"),
            ("ms.example.net:*", "ms.example.net:*"),
            ("*", "*"),
            ("*:*", "*:*"),
            ("*.example.net:8080", "*.example.net:8080"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.0.0.0/8:*", "10.0.0.0/8:*"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("fd00::/8", "[fd00::/8]"),
            ("[fd00::/8]:80", "[fd00::/8]:80"),
            ("[::1]:80", "[::1]:80"),
            ("::1", "[::1]"),
        ] {
            let entry = AllowEntry::parse(text).unwrap();
            assert_eq!(entry.to_string(), shown);
            assert_eq!(AllowEntry::parse(shown), Ok(entry));
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_with_a_reason() {
        for (text, reason) in [
            ("mms://h/x", "`mms://h/x` is a URL, want its host alone: host[:port]"),
            ("10.0.0.0/33", "`10.0.0.0/33` is no block of addresses, want such as 10.0.0.0/8 or fd00::/8"),
            ("host/8", "`host/8` is no block of addresses, want such as 10.0.0.0/8 or fd00::/8"),
            ("host:http", "`http` is no port, want 1 to 65535"),
            ("*@x", "`*@x` is no host, glob or block of addresses"),
            ("", "the host is missing"),
        ] {
            assert_eq!(AllowEntry::parse(text).map_err(|e| e.to_string()), Err(reason.to_string()), "{text}");
        }
    }

    #[test]
    fn a_port_is_1755_unless_given() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let block = AllowEntry::parse("10.0.0.0/8").unwrap();
        assert!(
            block.covers(at("10.9.9.9:1755")) && !block.covers(at("10.9.9.9:80")) && !block.covers(at("11.0.0.1:1755"))
        );
        assert!(AllowEntry::parse("10.0.0.0/8:*").unwrap().covers(at("10.9.9.9:80")));
        let star = AllowEntry::parse("*").unwrap();
        assert!(star.matches("any.example", 1755) && !star.matches("any.example", 80));
        assert!(AllowEntry::parse("h").unwrap().names("h", 1755) && !AllowEntry::parse("h").unwrap().names("h", 1));
    }
}
