//! Apart from the policy only for their length.
use proptest::prelude::*;

use super::*;
use crate::content::host::Glob;

fn route(host: &str, path: &str, origins: &[&str]) -> Route {
    Route {
        host: Glob::new(host),
        path: Name::parse(path).unwrap(),
        origins: origins.iter().map(|url| MmsUrl::parse(url).unwrap()).collect(),
        cache: true,
        receive_rate: 0,
        split: true,
        ignore_case: false,
    }
}

fn rules(routes: Vec<Route>, allow: &[&str]) -> Rules {
    Rules {
        routes,
        allow: allow.iter().map(|entry| AllowEntry::parse(entry).unwrap()).collect(),
        own_name: "edge1".into(),
        listeners: vec!["0.0.0.0:1755".parse().unwrap(), "[::]:1755".parse().unwrap()],
        is_local: |ip| ip == IpAddr::from([192, 0, 2, 1]),
    }
}

fn policy(routes: Vec<Route>, allow: &[&str]) -> Policy {
    Policy::new(rules(routes, allow))
}

fn host(text: &str) -> HostPort {
    HostPort::parse(text).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a route asks its first origin for.
fn asked(path: &str, origin: &str, sent: &str) -> Option<String> {
    policy(vec![route("*", path, &[origin])], &[]).choose(None, &name(sent)).ok().map(|c| c.origins[0].name.clone())
}

#[test]
fn a_path_in_the_origin_replaces_the_prefix() {
    let live = |sent| asked("/radio", "mms://10.0.0.5:1755/live", sent);
    assert_eq!(live("/radio/x").as_deref(), Some("live/x"));
    assert_eq!(live("radio").as_deref(), Some("live"));
    assert_eq!(live("radio?WMCache=0").as_deref(), Some("live?WMCache=0"));
    assert_eq!(live("radio/").as_deref(), Some("live/"));
    assert_eq!(live("radio//x").as_deref(), Some("live//x"));
    assert_eq!(live("radios"), None);
    assert_eq!(live("Radio/x"), None);
    assert_eq!(live("a/radio/x"), None);
    assert_eq!(live("x?/radio/"), None);
}

#[test]
fn an_origin_without_a_path_is_asked_for_the_whole_name() {
    assert_eq!(asked("/radio", "mms://10.0.0.5:1755", "radio/x").as_deref(), Some("radio/x"));
    assert_eq!(asked("/radio", "mms://10.0.0.5:1755/", "radio/x").as_deref(), Some("x"));
    assert_eq!(asked("/radio", "mms://10.0.0.5:1755/", "radio").as_deref(), Some(""));
    assert_eq!(asked("/", "mms://10.0.0.5:1755/live", "x").as_deref(), Some("live/x"));
    assert_eq!(asked("/", "mms://10.0.0.5:1755/live/", "x").as_deref(), Some("live/x"));
    assert_eq!(asked("/", "mms://10.0.0.5:1755/live", "").as_deref(), Some("live"));
    assert_eq!(asked("/", "mms://10.0.0.5:1755", "x%20y").as_deref(), Some("x y"));
    assert_eq!(asked("/a/b/", "mms://10.0.0.5:1755/my%20live", "a/b/c").as_deref(), Some("my live/c"));
}

#[test]
fn a_route_that_ignores_case_makes_one_content_of_both() {
    let mut radio = route("*", "/Radio", &["mms://origin.test/Live"]);
    radio.ignore_case = true;
    let policy = policy(vec![radio], &[]);
    let (one, other) = (policy.choose(None, &name("RADIO/X")).unwrap(), policy.choose(None, &name("radio/x")).unwrap());
    assert_eq!(one.key, other.key);
    assert_eq!(one.origins[0].name, "Live/X");
}

#[test]
fn the_first_route_that_matches_host_and_name_wins() {
    let policy = policy(
        vec![
            route("music.example.*", "/", &["mms://music.test", "mmsu://spare.test:1756/m"]),
            route("*", "/radio", &["mms://radio.test"]),
        ],
        &[],
    );
    let choice = policy.choose(Some(&host("music.EXAMPLE.net:99")), &name("radio/x")).unwrap();
    assert_eq!(choice.route, Some(0));
    let origins: Vec<String> = choice.origins.iter().map(Origin::to_string).collect();
    assert_eq!(origins, ["mms://music.test:1755/radio/x", "mmsu://spare.test:1756/m/radio/x"]);
    assert_eq!(choice.key.to_string(), "music.test:1755/radio/x");
    assert_eq!(policy.choose(None, &name("radio/x")).unwrap().route, Some(1));
    assert_eq!(policy.choose(Some(&host("other.test")), &name("radio/x")).unwrap().route, Some(1));
}

#[test]
fn a_refusal_names_the_entry_that_would_allow_it() {
    let policy = policy(vec![route("*", "/radio", &["mms://10.0.0.5"])], &["ms.example.net"]);
    let refusal = |host: Option<&HostPort>, sent| policy.choose(host, &name(sent)).unwrap_err().to_string();
    assert_eq!(
        refusal(None, "x"),
        "no route takes `x` and the player names no host: a route with this path would allow it"
    );
    assert_eq!(
        refusal(Some(&host("other.example.net:8080")), "x"),
        "forward.allow does not have `other.example.net:8080`: an entry \"other.example.net:8080\" would allow it"
    );
    assert_eq!(
        refusal(Some(&host("ms.example.net:8080")), "x"),
        "forward.allow does not have `ms.example.net:8080`: an entry \"ms.example.net:8080\" would allow it"
    );
    assert_eq!(
        refusal(Some(&host("192.0.2.1")), "x"),
        "no route takes `x`, and host `192.0.2.1` is this proxy: a route with this path would allow it"
    );
    assert!(policy.choose(Some(&host("ms.example.net")), &name("x")).is_ok());
}

#[test]
fn a_host_that_is_ours_is_never_forwarded() {
    let policy = policy(vec![], &["*:*", "127.0.0.1:*", "edge1"]);
    for ours in ["127.0.0.1", "127.0.0.1:1755", "[::1]", "0.0.0.0", "192.0.2.1", "EDGE1", "[::ffff:127.0.0.1]"] {
        let refused = policy.choose(Some(&host(ours)), &name("x"));
        assert!(matches!(refused, Err(Refusal::Ours { .. })), "{ours}");
    }
    assert!(policy.choose(Some(&host("127.0.0.1:1756")), &name("x")).is_ok());
}

#[test]
fn a_glob_lets_no_name_lead_inside() {
    let policy = policy(vec![], &["*.example.net", "10.1.0.0/16"]);
    let grant = policy.choose(Some(&host("a.example.net")), &name("x")).unwrap().grant;
    for inside in [
        "127.0.0.2:1756",
        "10.2.0.1:1755",
        "192.168.1.1:1755",
        "172.16.0.1:1755",
        "169.254.169.254:1755",
        "224.0.0.1:1755",
        "0.0.0.0:1",
        "0.1.2.3:1755",
        "100.64.0.1:1755",
        "255.255.255.255:1755",
        "[::1]:1",
        "[::]:1",
        "[fe80::1]:1755",
        "[fd00::1]:1755",
        "[ff02::1]:1755",
        "[::ffff:10.2.0.1]:1755",
        "[64:ff9b::10.2.0.1]:1755",
        "[::10.2.0.1]:1755",
    ] {
        assert!(matches!(policy.permit(&grant, address(inside)), Err(Refusal::Address { .. })), "{inside}");
    }
    for allowed in ["203.0.113.9:1755", "10.1.2.3:1755", "[::ffff:10.1.2.3]:1755", "[2001:db8::1]:1755"] {
        assert_eq!(policy.permit(&grant, address(allowed)), Ok(()), "{allowed}");
    }
    assert_eq!(
        policy.permit(&grant, address("10.1.2.3:80")).unwrap_err().to_string(),
        "`a.example.net` leads to 10.1.2.3:80, which is private: an entry \"10.1.2.3:80\" in forward.allow would allow it"
    );
    assert_eq!(
        policy.permit(&grant, address("[::1]:1756")).unwrap_err().to_string(),
        "`a.example.net` leads to [::1]:1756, which is loopback: an entry \"[::1]:1756\" in forward.allow would allow it"
    );
}

#[test]
fn a_block_takes_names_that_lead_into_it() {
    let policy = policy(vec![], &["10.0.0.0/8"]);
    let grant = policy.choose(Some(&host("media.corp")), &name("x")).unwrap().grant;
    assert_eq!(policy.permit(&grant, address("10.0.0.5:1755")), Ok(()));
    assert_eq!(
        policy.permit(&grant, address("203.0.113.9:1755")).unwrap_err().to_string(),
        "`media.corp` leads to 203.0.113.9:1755, which is in no address or block of the list: \
         an entry \"203.0.113.9\" in forward.allow would allow it"
    );
    assert!(policy.choose(Some(&host("10.0.0.5")), &name("x")).is_ok());
    assert!(policy.choose(Some(&host("11.0.0.5")), &name("x")).is_err());
}

#[test]
fn what_is_listed_leads_anywhere_but_to_our_own_listeners() {
    let policy = policy(vec![route("*", "/r", &["mms://inside.test"])], &["localhost"]);
    for grant in [
        policy.choose(None, &name("r/x")).unwrap().grant,
        policy.choose(Some(&host("localhost")), &name("x")).unwrap().grant,
        policy.redirect(&MmsUrl::parse("mms://inside.test:99/x").unwrap()).unwrap(),
    ] {
        assert_eq!(policy.permit(&grant, address("127.0.0.1:1756")), Ok(()));
        assert_eq!(policy.permit(&grant, address("10.0.0.5:1755")), Ok(()));
        for own in ["127.0.0.1:1755", "127.9.9.9:1755", "0.0.0.0:1755", "192.0.2.1:1755", "[::1]:1755"] {
            let refused = policy.permit(&grant, address(own));
            assert!(matches!(refused, Err(Refusal::OwnListener { .. })), "{own}");
        }
        assert!(policy.permit(&grant, address("[::ffff:127.0.0.1]:1755")).is_err());
    }
}

#[test]
fn a_listener_on_one_address_leaves_the_others() {
    let mut rules = rules(vec![], &[]);
    rules.listeners = vec![address("127.0.0.1:1755"), address("[::1]:1756")];
    let policy = Policy::new(rules);
    assert!(policy.is_own(address("127.0.0.1:1755")) && policy.is_own(address("0.0.0.0:1755")));
    assert!(!policy.is_own(address("127.0.0.2:1755")) && !policy.is_own(address("[::1]:1755")));
    assert!(policy.is_own(address("[::]:1756")) && !policy.is_own(address("127.0.0.1:1756")));
}

#[test]
fn a_redirect_leads_to_known_or_allowed_hosts() {
    let policy = policy(vec![route("*", "/", &["mms://a.test", "mms://b.test"])], &["*.cdn.test"]);
    let redirect = |url| policy.redirect(&MmsUrl::parse(url).unwrap());
    assert!(redirect("mms://B.test:8080/x").is_ok() && redirect("mms://c.cdn.test/x").is_ok());
    assert_eq!(
        redirect("mms://evil.test/x").unwrap_err().to_string(),
        "forward.allow does not have `evil.test`: an entry \"evil.test\" would allow it"
    );
}

#[test]
fn one_origin_is_left_by_host_or_routes_or_the_name_decides() {
    let one = policy(vec![route("*", "/a", &["mms://o.test/x"]), route("*", "/b", &["mms://o.test/y"])], &["f.test"]);
    let of = |policy: &Policy, text: Option<&str>| policy.origins_for_host(text.map(host).as_ref());
    assert_eq!(of(&one, None), Some(("o.test".into(), 1755)));
    assert_eq!(of(&one, Some("127.0.0.1")), Some(("o.test".into(), 1755)));
    assert_eq!(of(&one, Some("f.test")), None);
    let two = policy(
        vec![
            route("x.test", "/", &["mms://x.origin:1"]),
            route("*", "/a", &["mms://o.test/x"]),
            route("*", "/", &["mms://p.test/y"]),
        ],
        &["f.test:80"],
    );
    assert_eq!(of(&two, Some("x.test")), Some(("x.origin".into(), 1)));
    assert_eq!(of(&two, Some("y.test")), None);
    let forward = policy(vec![], &["f.test:80"]);
    assert_eq!(of(&forward, Some("f.test:80")), Some(("f.test".into(), 80)));
    assert_eq!(of(&forward, Some("g.test")), None);
    assert_eq!(of(&forward, None), None);
}

#[test]
fn a_loop_is_refused_and_a_chain_is_not() {
    let policy = policy(vec![], &[]);
    let check = |via: &[&str]| policy.loop_check(&via.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(check(&["WMS/9.0", "mmsproxy/0.1.0-edge2", "mmsproxy/0.1.0-x-edge1"]), Ok(()));
    assert!(matches!(check(&["WMS/9.0", policy.own_via()]), Err(Refusal::Loop { .. })));
    assert_eq!(
        check(&["mmsproxy/9.9-EDGE1"]).unwrap_err().to_string(),
        "the request has been here before: VIA has our own `mmsproxy/9.9-EDGE1` (proxies in a chain must differ in `name`)"
    );
    assert_eq!(check(&["a"; 8]), Ok(()));
    assert_eq!(
        check(&["a"; 9]).unwrap_err().to_string(),
        "the request has passed 9 proxies, at most 8 may be named in VIA"
    );
    assert_eq!(policy.own_via(), concat!("mmsproxy/", env!("CARGO_PKG_VERSION"), "-edge1"));
}

proptest! {
    #[test]
    fn replacing_the_prefix_never_climbs_out_of_the_route(
        path in "(/[ab.%]{1,3}){0,3}/?",
        base in "(/[ab.%]{1,3}){0,3}/?",
        sent in "([ab.%/\\\\?2eEcC]|%2[eE]|\\PC){0,24}",
    ) {
        let (Ok(prefix), Ok(sent), Ok(url)) =
            (Name::parse(&path), Name::parse(&sent), MmsUrl::parse(&format!("mms://o.test{base}"))) else { return Ok(()) };
        let mut route = route("*", "/", &[]);
        route.path = prefix;
        route.origins = vec![url];
        if let Ok(choice) = policy(vec![route], &[]).choose(None, &sent) {
            let asked = &choice.origins[0].name;
            prop_assert!(Name::parse(asked).is_ok(), "{asked}");
            let below = Name::parse(&base).unwrap().as_str().trim_end_matches('/').to_string();
            let rest = asked.strip_prefix(&below);
            prop_assert!(rest.is_some_and(|r| below.is_empty() || r.is_empty() || r.starts_with(['/', '?'])), "{}", asked);
        }
    }
}
