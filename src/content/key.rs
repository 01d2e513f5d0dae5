//! What the splitter and the cache count as one content.
use std::fmt;

use super::host::bracketed;
use super::name::Name;

/// First origin of the route (or the forward host), port, and the name as asked there. Neither the Host a player claims
/// nor the transport is part of it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    host: String,
    port: u16,
    name: String,
}

/// Parameters that Windows Media players and servers add for themselves; they don't name the content.
const NOT_PART: [&str; 5] = ["WMCache", "WMBitrate", "WMContentBitrate", "WMReconnect", "WMThinning"];

impl Key {
    /// `host` in the form of [`super::HostPort::host`]; `ignore_case` as the route says.
    pub fn new(host: &str, port: u16, name: &Name, ignore_case: bool) -> Self {
        let name = without_player_parameters(name);
        Self { host: host.into(), port, name: if ignore_case { name.to_lowercase() } else { name } }
    }

    /// Host of the first origin.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port of the first origin.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name without the parameters that players add.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", bracketed(&self.host), self.port, self.name)
    }
}

fn without_player_parameters(name: &Name) -> String {
    let (path, Some(query)) = name.split_query() else {
        return name.as_str().into();
    };
    let names_content = |parameter: &&str| {
        let key = parameter.split('=').next().unwrap_or_default();
        !NOT_PART.iter().any(|not_part| key.eq_ignore_ascii_case(not_part))
    };
    let all = query.split('&').count();
    let kept: Vec<&str> = query.split('&').filter(names_content).collect();
    match (kept.is_empty(), kept.len() == all) {
        (true, _) => path.into(),
        (_, true) => name.as_str().into(),
        _ => format!("{path}?{}", kept.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, ignore_case: bool) -> String {
        Key::new("origin.test", 1755, &Name::parse(name).unwrap(), ignore_case).to_string()
    }

    #[test]
    fn parameters_of_players_do_not_name_a_content() {
        assert_eq!(key("a.asf?WMCache=0", false), "origin.test:1755/a.asf");
        assert_eq!(key("a.asf?x=1&wmbitrate=300000&y&WMThinning=1", false), "origin.test:1755/a.asf?x=1&y");
        assert_eq!(key("a.asf?WMContentBitrate=1&WMReconnect=2", false), "origin.test:1755/a.asf");
        assert_eq!(key("a.asf?WMCacheX=1", false), "origin.test:1755/a.asf?WMCacheX=1");
        assert_eq!(key("WMCache=0", false), "origin.test:1755/WMCache=0");
        assert_eq!(key("a?", false), "origin.test:1755/a?");
    }

    #[test]
    fn case_counts_unless_the_route_ignores_it() {
        assert_ne!(key("Talk.asf", false), key("talk.ASF", false));
        assert_eq!(key("Talk.asf", true), key("talk.ASF", true));
    }

    #[test]
    fn an_address_shows_in_brackets() {
        assert_eq!(Key::new("::1", 80, &Name::default(), false).to_string(), "[::1]:80/");
    }
}
