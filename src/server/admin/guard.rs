//! Who may ask what.
//!
//! Three doors, in this order. The name in `Host` must be ours, else a page whose name was pointed at our address could
//! read us from the operator's browser. A change must not come from another page, which needs no answer to do harm. And
//! whoever is not on this machine needs the token.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use subtle::ConstantTimeEq;

use super::Settings;

/// Where browsers say whose page a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A bearer token. It is printed nowhere.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Whether `given` is the token, in a time that tells nothing but the length. An empty token is nobody's.
    fn matches(&self, given: &str) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(given.as_bytes()))
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Who may see a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Audience {
    /// Anyone: health, for probes.
    Anyone,
    /// Whoever may scrape.
    Scrapers,
    /// Operators.
    Operators,
}

/// Why a request is not looked at.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Denial {
    /// RFC 9112 3.2.
    #[error("a request has one Host, which is a name or an address")]
    BadHost,
    /// Not ours, or not known to be.
    #[error("`{0}` is no name of this endpoint; names beside localhost and addresses stand in admin.hosts")]
    OtherHost(String),
    /// A page that is not ours wants to change something.
    #[error("a change must not come from another page")]
    OtherPage,
    /// No token, or not the right one.
    #[error("the bearer token of admin.token_file is needed")]
    NoToken,
    /// Nothing to ask for, and not on loopback.
    #[error("without admin.token_file this endpoint is open on loopback only")]
    NoTokenSet,
}

impl Denial {
    /// What HTTP calls it.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadHost => StatusCode::BAD_REQUEST,
            Self::OtherHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherPage | Self::NoTokenSet => StatusCode::FORBIDDEN,
            Self::NoToken => StatusCode::UNAUTHORIZED,
        }
    }
}

/// Lets a request in that came to `listener`, or says why not.
pub(super) fn admit(
    settings: &Settings,
    listener: Option<SocketAddr>,
    audience: Audience,
    request: &Parts,
) -> Result<(), Denial> {
    let host = own_host(settings, request)?;
    let is_change = !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_change && !is_own_page(&request.headers, host) {
        return Err(Denial::OtherPage);
    }
    let is_free = match audience {
        Audience::Anyone => true,
        Audience::Scrapers => settings.open_metrics,
        Audience::Operators => false,
    };
    if is_free {
        return Ok(());
    }
    match &settings.token {
        Some(token) if bearer(&request.headers).is_some_and(|given| token.matches(given)) => Ok(()),
        Some(_) => Err(Denial::NoToken),
        None if listener.is_some_and(|address| address.ip().to_canonical().is_loopback()) => Ok(()),
        None => Err(Denial::NoTokenSet),
    }
}

/// The host and port that the request names, if they are ours. HTTP/1.0 may name none: no browser speaks that.
fn own_host<'a>(settings: &Settings, request: &'a Parts) -> Result<Option<&'a str>, Denial> {
    let host = only(&request.headers, &HOST).map_err(|Unreadable| Denial::BadHost)?;
    if host.is_none() && request.version > Version::HTTP_10 {
        return Err(Denial::BadHost);
    }
    // A request line with a whole URL overrides Host (RFC 9112 3.2.2), so both must be ours.
    let target = request.uri.authority().map(|authority| authority.as_str());
    for named in [host, target].into_iter().flatten() {
        let name = without_port(named).ok_or(Denial::BadHost)?;
        if !is_ours(settings, name) {
            return Err(Denial::OtherHost(name.to_owned()));
        }
    }
    Ok(target.or(host))
}

/// The host of `host[:port]`.
fn without_port(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (name, port) = authority.split_at_checked(end)?;
    let is_port = port.is_empty() || port.strip_prefix(':')?.bytes().all(|digit| digit.is_ascii_digit());
    (is_port && !name.is_empty()).then_some(name)
}

/// Addresses can't be pointed elsewhere, so each of them is as good as ours.
fn is_ours(settings: &Settings, name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let name = plain(name);
    name.parse::<Ipv4Addr>().is_ok() || name == "localhost" || settings.hosts.iter().any(|ours| plain(ours) == name)
}

/// Whether a request comes from no page, as those of tools do, or from one of ours.
fn is_own_page(headers: &HeaderMap, host: Option<&str>) -> bool {
    let is_own_origin = only(headers, &ORIGIN).is_ok_and(|origin| match (origin, host) {
        (None, _) => true,
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        }
        (Some(_), None) => false,
    });
    let is_own_site =
        only(headers, &SEC_FETCH_SITE).is_ok_and(|site| matches!(site, None | Some("same-origin" | "none")));
    is_own_origin && is_own_site
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, &AUTHORIZATION).ok()??.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A header that is there more than once, or is no text.
struct Unreadable;

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Unreadable> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Unreadable),
        (Some(_), Some(_)) => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:9180";
    const PUBLIC: &str = "192.0.2.1:9180";

    fn ask(settings: &Settings, listener: &str, method: &str, headers: &[(&str, &str)]) -> Result<(), Denial> {
        ask_as(Audience::Operators, settings, listener, method, headers)
    }

    fn ask_as(
        audience: Audience,
        settings: &Settings,
        listener: &str,
        method: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), Denial> {
        let mut request = Request::builder().method(method).uri("/api/v1/drain");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admit(settings, listener.parse().ok(), audience, &request.body(()).unwrap().into_parts().0)
    }

    fn with_token() -> Settings {
        Settings { token: Some("secret".to_owned().into()), ..Settings::default() }
    }

    #[test]
    fn addresses_and_localhost_are_ours() {
        let settings = Settings { hosts: vec!["Media.example.".to_owned()], ..Settings::default() };
        for host in [
            "127.0.0.1:9180",
            "192.0.2.7",
            "[::1]:9180",
            "[2001:db8::1]",
            "localhost:9180",
            "LOCALHOST",
            "localhost.",
            "media.example:80",
            "MEDIA.EXAMPLE.",
        ] {
            assert_eq!(ask(&settings, LOOPBACK, "GET", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let settings = Settings { hosts: vec!["media.example".to_owned()], ..Settings::default() };
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "media.example.evil",
            "[evil]",
            "1.2.3",
        ] {
            let denial = ask(&settings, LOOPBACK, "GET", &[("host", host)]).unwrap_err();
            assert_eq!(denial.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
            assert!(denial.to_string().starts_with(&format!("`{host}` is no name of this endpoint")), "{denial}");
        }
    }

    #[test]
    fn a_host_that_is_missing_twofold_or_garbled_is_refused() {
        let no_hosts: [&[(&str, &str)]; 7] = [
            &[],
            &[("host", "")],
            &[("host", ":80")],
            &[("host", "[::1")],
            &[("host", "user@127.0.0.1:80x")],
            &[("host", "localhost:80@evil")],
            &[("host", "localhost"), ("host", "localhost")],
        ];
        for headers in no_hosts {
            assert_eq!(ask(&Settings::default(), LOOPBACK, "GET", headers), Err(Denial::BadHost), "{headers:?}");
        }
    }

    #[test]
    fn a_url_in_the_request_line_must_be_ours_as_well() {
        let request = Request::builder().uri("http://evil.example/").header("host", "localhost").body(()).unwrap();
        let denial = admit(&Settings::default(), LOOPBACK.parse().ok(), Audience::Anyone, &request.into_parts().0);
        assert_eq!(denial, Err(Denial::OtherHost("evil.example".to_owned())));
    }

    #[test]
    fn another_page_changes_nothing() {
        for other in [
            ("origin", "http://evil.example"),
            ("origin", "http://127.0.0.1:3000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "of-tomorrow"),
        ] {
            let headers = [("host", LOOPBACK), other];
            for method in ["POST", "DELETE", "PUT"] {
                assert_eq!(ask(&Settings::default(), LOOPBACK, method, &headers), Err(Denial::OtherPage), "{other:?}");
            }
            assert_eq!(ask(&Settings::default(), LOOPBACK, "GET", &headers), Ok(()), "{other:?}");
        }
    }

    #[test]
    fn our_page_and_tools_change_things() {
        for own in [("origin", "http://127.0.0.1:9180"), ("sec-fetch-site", "same-origin"), ("accept", "*/*")] {
            let headers = [("host", LOOPBACK), own];
            assert_eq!(ask(&Settings::default(), LOOPBACK, "POST", &headers), Ok(()), "{own:?}");
        }
    }

    #[test]
    fn off_loopback_nothing_but_health_is_open() {
        let settings = Settings::default();
        for listener in [PUBLIC, "0.0.0.0:9180", "[::]:9180", "unknown"] {
            let host = [("host", PUBLIC)];
            assert_eq!(ask(&settings, listener, "GET", &host), Err(Denial::NoTokenSet), "{listener}");
            assert_eq!(ask_as(Audience::Anyone, &settings, listener, "GET", &host), Ok(()), "{listener}");
        }
        assert_eq!(ask(&settings, "[::ffff:127.0.0.1]:9180", "GET", &[("host", LOOPBACK)]), Ok(()));
    }

    #[test]
    fn the_token_opens() {
        for given in ["Bearer secret", "bearer  secret"] {
            let headers = [("host", PUBLIC), ("authorization", given)];
            assert_eq!(ask(&with_token(), PUBLIC, "POST", &headers), Ok(()), "{given}");
        }
    }

    #[test]
    fn a_token_that_is_set_is_asked_for_on_loopback_too() {
        assert_eq!(ask(&with_token(), LOOPBACK, "GET", &[("host", LOOPBACK)]), Err(Denial::NoToken));
    }

    #[test]
    fn other_tokens_do_not_open() {
        for given in ["Bearer secre", "Bearer secrets", "Bearer ", "Bearer", "Basic secret", "secret", ""] {
            let headers = [("host", PUBLIC), ("authorization", given)];
            assert_eq!(ask(&with_token(), PUBLIC, "GET", &headers), Err(Denial::NoToken), "{given}");
        }
        let twice = [("host", PUBLIC), ("authorization", "Bearer secret"), ("authorization", "Bearer secret")];
        assert_eq!(ask(&with_token(), PUBLIC, "GET", &twice), Err(Denial::NoToken));
        let empty = Settings { token: Some(String::new().into()), ..Settings::default() };
        let headers = [("host", PUBLIC), ("authorization", "Bearer ")];
        assert_eq!(ask(&empty, PUBLIC, "GET", &headers), Err(Denial::NoToken));
    }

    #[test]
    fn metrics_are_open_when_the_config_says_so() {
        let host = [("host", PUBLIC)];
        let open = Settings { open_metrics: true, ..with_token() };
        assert_eq!(ask_as(Audience::Scrapers, &open, PUBLIC, "GET", &host), Ok(()));
        assert_eq!(ask_as(Audience::Scrapers, &with_token(), PUBLIC, "GET", &host), Err(Denial::NoToken));
        assert_eq!(ask_as(Audience::Operators, &open, PUBLIC, "GET", &host), Err(Denial::NoToken));
    }

    #[test]
    fn the_token_is_not_printed() {
        assert!(!format!("{:?}", with_token()).contains("secret"));
    }
}
