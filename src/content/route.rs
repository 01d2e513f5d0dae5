//! A reverse route: which names it takes, and what its origins call them.
use std::fmt;

use super::host::{Glob, bracketed};
use super::name::{Name, NameError};
use super::url::{MmsUrl, Scheme};

/// A reverse route: names below a prefix, asked at an origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Hosts of players that it takes.
    pub host: Glob,
    /// Prefix on segment borders; the empty name takes all.
    pub path: Name,
    /// The first, and those asked when the one before can't be reached. Never empty in a checked config.
    pub origins: Vec<MmsUrl>,
    /// May its content be cached?
    pub cache: bool,
    /// What its origins are asked to send at most, bit/s; 0 is any.
    pub receive_rate: u32,
    /// May its broadcasts be split?
    pub split: bool,
    /// Are names that differ in case one content?
    pub ignore_case: bool,
}

/// Whom to ask, and for what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// In the form of [`super::HostPort::host`].
    pub host: String,
    /// TCP.
    pub port: u16,
    /// `fileName` of OpenFile at that origin.
    pub name: String,
    /// How Data is to travel.
    pub scheme: Scheme,
}

impl Route {
    /// Whom to ask for a name, in order, and what for; `None` for a name that is not below the prefix.
    pub(super) fn origins_for(&self, name: &Name) -> Option<Vec<Origin>> {
        let rest = below(&self.path, name, self.ignore_case)?;
        Some(self.origins.iter().filter_map(|url| asked_at(url, name, rest)).collect())
    }

    /// The name under which an origin of a route knows the route's prefix, if it is a name at all.
    pub fn name_at(origin: &MmsUrl) -> Result<Name, NameError> {
        Name::parse(&origin.path)
    }
}

/// What follows a route's prefix in a name: empty, or from the `/` or `?` on that ends the prefix.
fn below<'a>(prefix: &Name, name: &'a Name, ignore_case: bool) -> Option<&'a str> {
    let prefix = prefix.as_str().trim_end_matches('/');
    if prefix.is_empty() {
        return Some(name.as_str());
    }
    let (path, _) = name.split_query();
    let segments = prefix.split('/').count();
    let end = path.match_indices('/').nth(segments.saturating_sub(1)).map_or(path.len(), |(at, _)| at);
    let (head, rest) = name.as_str().split_at_checked(end)?;
    let equal = head == prefix || (ignore_case && head.to_lowercase() == prefix.to_lowercase());
    equal.then_some(rest)
}

/// A path in the URL replaces the prefix, none leaves the name whole.
fn asked_at(url: &MmsUrl, name: &Name, rest: &str) -> Option<Origin> {
    let name = if url.path.is_empty() {
        name.clone()
    } else {
        let base = Route::name_at(url).ok()?;
        let base = base.as_str().trim_end_matches('/');
        let border = if rest.is_empty() || rest.starts_with(['/', '?']) { "" } else { "/" };
        Name::joined(&format!("{base}{border}{rest}"))
    };
    Some(Origin { host: url.host.clone(), port: url.port(), name: name.as_str().into(), scheme: url.scheme })
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}/{}", self.scheme, bracketed(&self.host), self.port, self.name)
    }
}
