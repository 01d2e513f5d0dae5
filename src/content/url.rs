//! `mms://` URLs: as operators write them in routes, as origins write them in redirects, as users type them.
//!
//! By hand, because general URL parsers treat this scheme as opaque and bring the tables of IDNA, while players take host
//! and path byte for byte.
use std::fmt;

use super::DEFAULT_PORT;
use super::host::{HostError, HostPort, bracketed};

/// How Data packets are to travel.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Scheme {
    /// `mms`: the reader's choice; TCP here.
    #[default]
    Mms,
    /// `mmst`: Data over TCP.
    Mmst,
    /// `mmsu`: Data over UDP.
    Mmsu,
}

impl Scheme {
    /// As it stands before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mms => "mms",
            Self::Mmst => "mmst",
            Self::Mmsu => "mmsu",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The parts of a URL. A name and password before the host are dropped, as every player does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MmsUrl {
    /// What stands before `://`.
    pub scheme: Scheme,
    /// In the form of [`HostPort::host`].
    pub host: String,
    /// What was written, `None` for none.
    pub port: Option<u16>,
    /// Everything after host and port as written: with its leading slash, its percent-encoding and its query. Empty where
    /// the URL ends with the host, which a route tells from `/`.
    pub path: String,
}

/// Why a text is no URL of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// No `://`.
    #[error("`{0}` has no scheme, want mms://host[:port][/name]")]
    NoScheme(String),
    /// A scheme other than ours.
    #[error("scheme `{0}` is not one of mms, mmst, mmsu")]
    Scheme(String),
    /// The part between `://` and the path.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl MmsUrl {
    /// Reads `scheme://[userinfo@]host[:port][path]`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::NoScheme(text.into()))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "mms" => Scheme::Mms,
            "mmst" => Scheme::Mmst,
            "mmsu" => Scheme::Mmsu,
            _ => return Err(UrlError::Scheme(scheme.into())),
        };
        let (authority, path) = match rest.find(['/', '\\', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let HostPort { host, port } = HostPort::parse(host)?;
        Ok(Self { scheme, host, port, path: path.into() })
    }

    /// The port, 1755 where none is given.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// Host and port as a player would name them.
    pub fn host_port(&self) -> HostPort {
        HostPort { host: self.host.clone(), port: self.port }
    }
}

impl fmt::Display for MmsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, bracketed(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_of_a_url() {
        let url = MmsUrl::parse("MMST://user:p@ss@Ms.Example.net:8080//dir/te%20st.asf?x=1").unwrap();
        assert_eq!(url.scheme, Scheme::Mmst);
        assert_eq!((url.host.as_str(), url.port, url.port()), ("ms.example.net", Some(8080), 8080));
        assert_eq!(url.path, "//dir/te%20st.asf?x=1");
        assert_eq!(url.to_string(), "mmst://ms.example.net:8080//dir/te%20st.asf?x=1");
    }

    #[test]
    fn no_path_is_told_from_a_slash() {
        assert_eq!(MmsUrl::parse("mms://h").unwrap().path, "");
        assert_eq!(MmsUrl::parse("mms://h/").unwrap().path, "/");
        assert_eq!(MmsUrl::parse("mmsu://[::1]?x=a@b").unwrap().path, "?x=a@b");
        assert_eq!(MmsUrl::parse("mms://[::1]:1").unwrap().to_string(), "mms://[::1]:1");
        assert_eq!(MmsUrl::parse("mms://h").unwrap().port(), 1755);
    }

    #[test]
    fn a_foreign_scheme_is_refused() {
        let refusal = |text| MmsUrl::parse(text).unwrap_err().to_string();
        assert_eq!(refusal("http://h/x"), "scheme `http` is not one of mms, mmst, mmsu");
        assert_eq!(refusal("10.0.0.5:1755"), "`10.0.0.5:1755` has no scheme, want mms://host[:port][/name]");
        assert_eq!(refusal("mms:///x"), "the host is missing");
        assert_eq!(refusal("mms://h:99999/x"), "`99999` is no port, want 1 to 65535");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_errs_and_display_parses_again(text in "(mms[tu]?://)?\\PC{0,40}") {
            if let Ok(url) = MmsUrl::parse(&text) {
                prop_assert_eq!(MmsUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
