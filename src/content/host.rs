//! Hosts as players, URLs and operators write them: `host[:port]` (RFC 3986 3.2.2, IPv6 in brackets, no IDNA) and globs
//! over them.
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::DEFAULT_PORT;

/// A host in the one form in which two of them may be compared, and the port if one was given.
///
/// ```
/// use mmsproxy::content::HostPort;
/// let host = HostPort::parse("MS.Example.net:8080").unwrap();
/// assert_eq!((host.host.as_str(), host.port), ("ms.example.net", Some(8080)));
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HostPort {
    /// In lower case, without brackets and without the dot that ends a fully qualified name.
    pub host: String,
    /// What was written after the colon.
    pub port: Option<u16>,
}

/// Why a text is no `host[:port]`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostError {
    /// Nothing stands where the host should.
    #[error("the host is missing")]
    Missing,
    /// A character that no host has.
    #[error("`{0}` is no host name: letters, digits, `-`, `_` and `.`, or an address (IPv6 in brackets)")]
    Malformed(String),
    /// Not a number of 1 to 65535.
    #[error("`{0}` is no port, want 1 to 65535")]
    Port(String),
}

impl HostPort {
    /// Reads `host`, `host:port`, `[v6]`, `[v6]:port`, or an IPv6 address without brackets.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let text = text.trim();
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: address.to_string(), port: None });
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or_else(|| HostError::Malformed(text.into()))?;
            let address: Ipv6Addr = address.parse().map_err(|_| HostError::Malformed(text.into()))?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => return Err(HostError::Malformed(text.into())),
            };
            (address.to_string(), port)
        } else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            (canonical_host(host)?, port)
        };
        Ok(Self { host, port: port.map(parse_port).transpose()? })
    }

    /// The port, 1755 where none is given.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// The host as an address, if it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bracketed(&self.host))?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The host as it stands in a URL: an IPv6 address in brackets.
pub(super) fn bracketed(host: &str) -> std::borrow::Cow<'_, str> {
    if host.contains(':') { format!("[{host}]").into() } else { host.into() }
}

/// Port 0 is refused: nobody can be reached there.
pub(super) fn parse_port(text: &str) -> Result<u16, HostError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0).ok_or_else(|| HostError::Port(text.into()))
}

fn canonical_host(text: &str) -> Result<String, HostError> {
    let host = text.strip_suffix('.').unwrap_or(text);
    if host.is_empty() {
        return Err(HostError::Missing);
    }
    // What is not ASCII stays as it came: without IDNA tables we have no say in it, and the resolver decides.
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !host.chars().all(fits) {
        return Err(HostError::Malformed(text.into()));
    }
    Ok(host.to_lowercase())
}

/// A pattern over hosts, any case: `*` stands for any characters (dots too), `?` for one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob(String);

impl Glob {
    /// Takes the pattern as written. An IPv6 address is compared in its canonical form, brackets or not.
    pub fn new(pattern: &str) -> Self {
        let bare = pattern.trim().trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<Ipv6Addr>() {
            Ok(address) => Self(address.to_string()),
            Err(_) => Self(pattern.trim().to_lowercase()),
        }
    }

    /// Does the text hold a wildcard?
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// Matches a host in the form of [`HostPort::host`]. `*` alone also matches a player that names none.
    pub fn matches(&self, host: Option<&str>) -> bool {
        match host {
            None => self.0 == "*",
            Some(host) => glob(&self.0, host),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Remembers only the last `*`, so no pattern takes more than the product of both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut last_star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let text_here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = text_here.clone();
                last_star = Some((pattern.clone(), text_here));
            }
            (Some('?'), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            _ => {
                let Some((after_star, tried)) = &mut last_star else {
                    return false;
                };
                if tried.next().is_none() {
                    return false;
                }
                pattern = after_star.clone();
                text = tried.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_compared_in_one_form() {
        for (text, host, port) in [
            ("ms.example.net", "ms.example.net", None),
            ("MS.Example.NET:1755", "ms.example.net", Some(1755)),
            ("ms.example.net.", "ms.example.net", None),
            (" 10.0.0.5:8080 ", "10.0.0.5", Some(8080)),
            ("[2001:DB8::0:1]:80", "2001:db8::1", Some(80)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("bücher.example", "bücher.example", None),
        ] {
            assert_eq!(HostPort::parse(text), Ok(HostPort { host: host.into(), port }), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "the host is missing"),
            (":1755", "the host is missing"),
            ("host:0", "`0` is no port, want 1 to 65535"),
            ("host:+1", "`+1` is no port, want 1 to 65535"),
            ("host:", "`` is no port, want 1 to 65535"),
            ("host:70000", "`70000` is no port, want 1 to 65535"),
            ("a/b", "`a/b` is no host name: letters, digits, `-`, `_` and `.`, or an address (IPv6 in brackets)"),
            ("[::1", "`[::1` is no host name: letters, digits, `-`, `_` and `.`, or an address (IPv6 in brackets)"),
        ] {
            assert_eq!(HostPort::parse(text).map_err(|e| e.to_string()), Err(reason.to_string()), "{text}");
        }
    }

    #[test]
    fn globs_ignore_case_and_only_a_star_matches_no_host() {
        assert!(Glob::new("*.Example.net").matches(Some("a.b.example.net")));
        assert!(!Glob::new("*.example.net").matches(Some("example.net")));
        assert!(Glob::new("ms?.example.*").matches(Some("ms1.example.net")));
        assert!(!Glob::new("ms?.example.net").matches(Some("ms.example.net")));
        assert!(Glob::new("*a*b").matches(Some("xaxbxab")));
        assert!(Glob::new("[0:0::1]").matches(Some("::1")));
        assert!(Glob::new("*").matches(None));
        assert!(!Glob::new("**").matches(None));
        assert!(Glob::new("*").matches(Some("")));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_errs_and_display_parses_again(text in "\\PC{0,40}") {
            if let Ok(host) = HostPort::parse(&text) {
                prop_assert_eq!(HostPort::parse(&host.to_string()), Ok(host));
            }
        }

        #[test]
        fn a_glob_agrees_with_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn by_definition(p: &[u8], t: &[u8]) -> bool {
                match (p.split_first(), t.split_first()) {
                    (None, _) => t.is_empty(),
                    (Some((b'*', rest)), None) => by_definition(rest, t),
                    (Some((b'*', rest)), Some((_, t_rest))) => by_definition(rest, t) || by_definition(p, t_rest),
                    (Some((b'?', rest)), Some((_, t_rest))) => by_definition(rest, t_rest),
                    (Some((c, rest)), Some((d, t_rest))) => c == d && by_definition(rest, t_rest),
                    (Some(_), None) => false,
                }
            }
            prop_assert_eq!(glob(&pattern, &text), by_definition(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
