//! What no value can tell alone: addresses that clash, times of zero, URLs and names that parse as text but mean nothing.
//! Each fault is a key and a reason that says what to write instead.
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{ByteSize, Config, Route, Transport};
use crate::content::{self, AllowEntry, Glob, HostPort, MmsUrl, Name, Policy, Rules, Scheme};

/// A key (`routes[0].origin`) and what is wrong with it.
type Found = (String, String);

/// Everything that is wrong.
pub(super) fn faults(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    identity(config, &mut found);
    listeners(config, &mut found);
    match routes_and_allow(config) {
        Ok((routes, _)) => origins_that_are_ours(config, &routes, &mut found),
        Err(faults) => found.extend(faults),
    }
    for (index, host) in config.admin.hosts.iter().enumerate() {
        if !HostPort::parse(host).is_ok_and(|host| host.port.is_none()) {
            found.push((format!("admin.hosts[{index}]"), format!("`{host}` is no host name (port left out)")));
        }
    }
    times(config, &mut found);
    amounts(config, &mut found);
    access_log(config, &mut found);
    found
}

/// Routes and entries as [`Policy`] wants them, or what is wrong with them.
pub(super) fn routes_and_allow(config: &Config) -> Result<(Vec<content::Route>, Vec<AllowEntry>), Vec<Found>> {
    let mut found = Vec::new();
    let routes = config.routes.iter().enumerate().map(|(index, r)| route(&format!("routes[{index}]"), r, &mut found));
    let routes: Vec<content::Route> = routes.collect();
    let mut allow = Vec::new();
    for (index, text) in config.forward.allow.iter().enumerate() {
        match AllowEntry::parse(text) {
            Ok(entry) => allow.push(entry),
            Err(error) => found.push((format!("forward.allow[{index}]"), error.to_string())),
        }
    }
    if found.is_empty() { Ok((routes, allow)) } else { Err(found) }
}

fn route(at: &str, route: &Route, found: &mut Vec<Found>) -> content::Route {
    let bare = route.host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::Ipv6Addr>().is_ok();
    if route.host.is_empty() || (!address && route.host.contains([':', '/', '@', ' '])) {
        let reason = format!("`{}` is no host or glob over hosts (port left out), as in \"*.example.net\"", route.host);
        found.push((format!("{at}.host"), reason));
    }
    let path = match Name::parse(&route.path) {
        Ok(path) if route.path.starts_with('/') && !route.path.contains('?') => path,
        Ok(_) => {
            let reason = format!("`{}` is no path, want one that begins with / and has no query", route.path);
            found.push((format!("{at}.path"), reason));
            Name::default()
        }
        Err(error) => {
            found.push((format!("{at}.path"), error.to_string()));
            Name::default()
        }
    };
    let mut origins = Vec::new();
    let named = route.origins.iter().enumerate().map(|(index, url)| (format!("{at}.origins[{index}]"), url));
    for (key, text) in std::iter::once((format!("{at}.origin"), &route.origin)).chain(named) {
        match origin(text) {
            Ok(url) => origins.push(over(route.upstream, url)),
            Err(reason) => found.push((key, reason)),
        }
    }
    content::Route {
        host: Glob::new(&route.host),
        path,
        origins,
        cache: route.cache,
        receive_rate: u32::try_from(route.receive_rate.0).unwrap_or(u32::MAX),
        split: route.split,
        ignore_case: route.ignore_case,
    }
}

/// `mms://` leaves open how Data travels.
fn over(transport: Transport, url: MmsUrl) -> MmsUrl {
    match (transport, url.scheme) {
        (Transport::Udp, Scheme::Mms) => MmsUrl { scheme: Scheme::Mmsu, ..url },
        _ => url,
    }
}

fn origin(text: &str) -> Result<MmsUrl, String> {
    if text.is_empty() {
        return Err("is missing, want a URL as in \"mms://10.0.0.5:1755/live\"".into());
    }
    let url = MmsUrl::parse(text).map_err(|error| error.to_string())?;
    content::Route::name_at(&url).map_err(|error| error.to_string())?;
    if url.path.contains('?') {
        return Err(format!("`{text}` has a query, which a route can't add to what players ask"));
    }
    Ok(url)
}

/// A route that leads back to us would be refused at each request; here it is found before the first.
fn origins_that_are_ours(config: &Config, routes: &[content::Route], found: &mut Vec<Found>) {
    let policy = Policy::new(Rules {
        routes: Vec::new(),
        allow: Vec::new(),
        own_name: String::new(),
        listeners: config.listen.mms.clone(),
        is_local: |_| false,
    });
    for (index, route) in routes.iter().enumerate() {
        for (number, url) in route.origins.iter().enumerate() {
            let address = url.host_port().address().map(|ip| SocketAddr::new(ip, url.port()));
            if address.is_some_and(|address| policy.is_own(address)) {
                let key = match number.checked_sub(1) {
                    None => format!("routes[{index}].origin"),
                    Some(number) => format!("routes[{index}].origins[{number}]"),
                };
                found.push((key, format!("`{url}` is this proxy itself (listen.mms)")));
            }
        }
    }
}

fn identity(config: &Config, found: &mut Vec<Found>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !config.name.chars().all(fits) || config.name.len() > 64 {
        let reason =
            format!("`{}` is no name, want up to 64 letters, digits, `-`, `_` and `.`", config.name.escape_debug());
        found.push(("name".into(), reason));
    }
    if !is_version(&config.server_version) {
        let reason = format!("`{}` is no version, want four numbers as in 4.1.0.3930", config.server_version);
        found.push(("server_version".into(), reason));
    }
    // [MS-MMSP] 2.2.4.17: major and minor of one or two digits, then two numbers of up to four.
    let identity = &config.origin.identity;
    if !identity.is_empty() && !identity.strip_prefix("NSPlayer/").is_some_and(is_version) {
        let reason = format!("`{identity}` is no client-token, want one as in NSPlayer/9.0.0.2980");
        found.push(("origin.identity".into(), reason));
    }
}

fn is_version(text: &str) -> bool {
    let number = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.split('.').count() == 4 && text.split('.').all(number)
}

fn listeners(config: &Config, found: &mut Vec<Found>) {
    let listen = &config.listen;
    if listen.mms.is_empty() {
        found.push(("listen.mms".into(), "has no address, want at least one as in [\"0.0.0.0:1755\"]".into()));
    }
    for (index, address) in listen.mms.iter().enumerate() {
        if let Some(other) = listen.mms.iter().take(index).find(|other| clash(address, other)) {
            found.push((format!("listen.mms[{index}]"), format!("`{address}` is taken by `{other}`")));
        }
    }
    let Some(admin) = listen.admin else { return };
    if let Some(other) = listen.mms.iter().find(|other| clash(&admin, other)) {
        found.push(("listen.admin".into(), format!("`{admin}` is taken by `{other}` of listen.mms")));
    }
    if !admin.ip().to_canonical().is_loopback() && config.admin.token_file.as_os_str().is_empty() {
        let reason = format!("`{admin}` is open to others, so admin.token_file must name a file with a bearer token");
        found.push(("listen.admin".into(), reason));
    }
}

/// Port 0 is a free one each time.
fn clash(one: &SocketAddr, other: &SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let meet = a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()));
    one.port() == other.port() && one.port() != 0 && meet
}

fn times(config: &Config, found: &mut Vec<Found>) {
    let Config { origin, split, limits, .. } = config;
    for (key, time) in [
        ("origin.connect", origin.connect),
        ("origin.reply", origin.reply),
        ("origin.stall", origin.stall),
        ("split.history", split.history),
        ("split.give_up", split.give_up),
        ("limits.handshake", limits.handshake),
        ("limits.login", limits.login),
        ("limits.idle", limits.idle),
    ] {
        if time == Duration::ZERO {
            found.push((key.into(), "is 0, which leaves no time at all; want more, as in 10s".into()));
        }
    }
    if split.flush_max < split.flush {
        found.push(("split.flush_max".into(), "is below split.flush, from which it grows".into()));
    }
}

fn amounts(config: &Config, found: &mut Vec<Found>) {
    let Config { origin, split, cache, limits, .. } = config;
    for (key, number) in [
        ("origin.sessions", origin.sessions),
        ("split.max_skips", split.max_skips),
        ("cache.max_fills_per_entry", cache.max_fills_per_entry),
        ("limits.viewers", limits.viewers),
        ("limits.viewers_per_address", limits.viewers_per_address),
    ] {
        if number == 0 {
            found.push((key.into(), "is 0, which lets nothing through; want 1 or more".into()));
        }
    }
    // An ASF data packet may be 65,527 bytes long on the wire ([MS-MMSP] 2.2.2), a name of OpenFile some kilobytes.
    for (key, size, least) in [
        ("split.max_bytes", split.max_bytes, ByteSize(1 << 20)),
        ("limits.memory", limits.memory, ByteSize(16 << 20)),
        ("limits.buffer", limits.buffer, ByteSize(64 << 10)),
        ("limits.header", limits.header, ByteSize(64 << 10)),
        ("limits.kernel_buffer", limits.kernel_buffer, ByteSize(4 << 10)),
        ("limits.control_packet", limits.control_packet, ByteSize(8 << 10)),
    ] {
        if size < least {
            found.push((key.into(), format!("`{size}` is too little, want {least} or more")));
        }
    }
}

/// A log that can't be opened is found before anybody has played anything.
fn access_log(config: &Config, found: &mut Vec<Found>) {
    let path = &config.access_log.path;
    if path.as_os_str().is_empty() || path.as_os_str() == "-" {
        return;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let reason = if path.is_dir() {
        "is a directory, want a file in it".to_owned()
    } else if !directory.is_dir() {
        format!("`{}` is no directory; make it, and let it belong to who runs the proxy", directory.display())
    } else {
        return;
    };
    found.push(("access_log.path".into(), reason));
}
