//! The config from the outside: the texts that an operator reads.
use super::*;

const FILE: &str = "proxy.yaml";

/// All faults, a line each.
fn faults(text: &str) -> String {
    Config::parse(text, FILE).unwrap_err().to_string()
}

fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Config::read(text, FILE, &variables)
}

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "# nothing\n", "{}", "limits:\nroutes:\nforward:\n  allow:\n"] {
        assert_eq!(Config::parse(text, FILE).unwrap(), Config::default(), "{text}");
    }
}

#[test]
fn settings_are_read() {
    let text = "
name: 0017
listen: { mms: [\"127.0.0.1:11755\"], admin: \"\" }
routes:
  - path: /radio
    origin: mms://10.0.0.5:1755/live
    receive_rate: 3.5Mbps
  - origin: mmsu://[::1]:1756
    origins: [mms://spare.test]
    cache: false
forward: { allow: [\"*.example.net\", 10.0.0.0/8] }
limits: { buffer: 1MiB, idle: 90m, viewers: 5 }
cache: { stale_if_error: forever, finish_fill: always, max_size: 0 }
split: { fast_start: 5s }
access_log: { format: json }
drain: 0
";
    let config = Config::parse(text, FILE).unwrap();
    assert_eq!(config.name, "0017");
    assert_eq!((config.listen.mms.len(), config.listen.admin), (1, None));
    assert_eq!(config.routes.len(), 2);
    assert_eq!((config.routes[0].host.as_str(), config.routes[0].receive_rate), ("*", BitsPerSecond(3_500_000)));
    assert_eq!((config.routes[1].path.as_str(), config.routes[1].cache), ("/", false));
    assert_eq!(config.limits.buffer, ByteSize(1 << 20));
    assert_eq!((config.limits.idle, config.limits.viewers), (Duration::from_secs(5400), 5));
    assert_eq!((config.cache.stale_if_error, config.cache.max_size), (StaleIfError::Forever, ByteSize(0)));
    assert_eq!(config.split.fast_start, FastStart::For(Duration::from_secs(5)));
    assert_eq!(config.access_log.format, AccessLogFormat::Json);
    assert_eq!(config.drain, Duration::ZERO);
}

#[test]
fn an_unknown_key_is_named_with_the_nearest() {
    assert_eq!(
        faults("routes:\n  - path: /radio\n    orgin: mms://h\n"),
        "proxy.yaml:3: routes[0].orgin: unknown key; did you mean `origin`?"
    );
    assert_eq!(
        faults("origin:\n  conect: 5s\nlinger: 3s\nlimits: { handshakes: 1s }\n"),
        "proxy.yaml: 3 faults\n\
         proxy.yaml:2: origin.conect: unknown key; did you mean `connect`?\n\
         proxy.yaml:3: linger: unknown key; did you mean `split.linger`?\n\
         proxy.yaml:4: limits.handshakes: unknown key; did you mean `handshake`?"
    );
    assert_eq!(
        faults("admin:\n  zebra: 1\n"),
        "proxy.yaml:2: admin.zebra: unknown key; known here: token_file, open_metrics, hosts"
    );
}

#[test]
fn a_bad_value_says_what_to_write_instead() {
    for (text, fault) in [
        (
            "split:\n  history: 20\n",
            "2: split.history: `20` is no duration, want a number and its unit, as in 10s, 100ms or 2m",
        ),
        (
            "cache:\n  max_size: 20 gigs\n",
            "2: cache.max_size: `20 gigs` is no size, want a number and its unit, as in 512KiB or 20GiB",
        ),
        (
            "origin: { receive_rate: 300 }\n",
            "1: origin.receive_rate: `300` is no bit rate, want a number and its unit, as in 300kbps or 3.5Mbps (0 = any)",
        ),
        ("packet_pair: yes\n", "1: packet_pair: `yes` is neither true nor false"),
        ("limits:\n  viewers: -1\n", "2: limits.viewers: `-1` is no whole number from 0 to 4294967295"),
        ("limits:\n  viewers: 1.5\n", "2: limits.viewers: `1.5` is no whole number from 0 to 4294967295"),
        ("access_log: { format: xml }\n", "1: access_log.format: `xml` is unknown here, want `w3c` or `json`"),
        (
            "cache: { finish_fill: 110% }\n",
            "1: cache.finish_fill: `110%` is no rule for fills, want always, never or a percentage as in 10%",
        ),
        (
            "listen:\n  mms:\n    - \"[::]:1755\"\n    - :1755\n",
            "4: listen.mms[1]: `:1755` is no address to listen on, want address:port, as in 127.0.0.1:1755 or [::]:1755",
        ),
        ("listen: { mms: \"127.0.0.1:1755\" }\n", "1: listen.mms: want a list, as in [\"127.0.0.1:1755\"]"),
        (
            "limits: 5\n",
            "1: limits: want keys below it: viewers, viewers_per_address, handshake, login, idle, memory, buffer, header, kernel_buffer, control_packet",
        ),
        ("drain:\n", "1: drain: has no value; leave the key out for its default"),
        ("drain: [1s]\n", "1: drain: want a single value"),
    ] {
        assert_eq!(faults(text), format!("proxy.yaml:{fault}"));
    }
}

#[test]
fn what_is_no_yaml_is_shown() {
    let text = faults("name: a\nlisten: [1\n");
    assert!(text.starts_with("proxy.yaml:"), "{text}");
    assert!(text.contains("| listen: [1"), "{text}");
    assert!(!text.contains("<input>"), "{text}");
}

#[test]
fn a_url_that_no_route_can_ask_is_refused() {
    for (route, fault) in [
        ("origin: http://h/x", ".origin: scheme `http` is not one of mms, mmst, mmsu"),
        ("origin: 10.0.0.5:1755", ".origin: `10.0.0.5:1755` has no scheme, want mms://host[:port][/name]"),
        ("path: /x", ".origin: is missing, want a URL as in \"mms://10.0.0.5:1755/live\""),
        ("origin: mms://h/a/../b", ".origin: `a/../b` has a segment `.` or `..`"),
        ("origin: \"mms://h/a?b\"", ".origin: `mms://h/a?b` has a query, which a route can't add to what players ask"),
        ("origin: mms://127.0.0.1/x", ".origin: `mms://127.0.0.1/x` is this proxy itself (listen.mms)"),
        (
            "{ origin: mms://h, origins: [mms://h, \"mms://[::1]:1755\"] }",
            ".origins[1]: `mms://[::1]:1755` is this proxy itself (listen.mms)",
        ),
        ("{ origin: mms://h, path: radio }", ".path: `radio` is no path, want one that begins with / and has no query"),
        (
            "{ origin: mms://h, host: \"h:1755\" }",
            ".host: `h:1755` is no host or glob over hosts (port left out), as in \"*.example.net\"",
        ),
    ] {
        assert_eq!(faults(&format!("routes:\n  - {route}\n")), format!("proxy.yaml:2: routes[0]{fault}"));
    }
}

#[test]
fn an_admin_endpoint_open_to_others_needs_a_token() {
    let text = "listen:\n  admin: 0.0.0.0:9180\n";
    assert_eq!(
        faults(text),
        "proxy.yaml:2: listen.admin: `0.0.0.0:9180` is open to others, so admin.token_file must name a file with a bearer token"
    );
    assert!(Config::parse(&format!("{text}admin: {{ token_file: /run/token }}\n"), FILE).is_ok());
}

#[test]
fn faults_that_take_several_keys_are_all_found() {
    let text = "name: a b
listen:
  mms: [\"0.0.0.0:1755\", \"127.0.0.1:1755\"]
  admin: 127.0.0.1:1755
server_version: 9
forward:
  allow: [ok.test, 10.0.0.0/40]
origin: { connect: 0s, identity: WMP }
split: { flush: 1s }
limits:
  buffer: 1KiB
  viewers: 0
";
    assert_eq!(
        faults(text),
        "proxy.yaml: 10 faults
proxy.yaml:1: name: `a b` is no name, want up to 64 letters, digits, `-`, `_` and `.`
proxy.yaml:3: listen.mms[1]: `127.0.0.1:1755` is taken by `0.0.0.0:1755`
proxy.yaml:4: listen.admin: `127.0.0.1:1755` is taken by `0.0.0.0:1755` of listen.mms
proxy.yaml:5: server_version: `9` is no version, want four numbers as in 4.1.0.3930
proxy.yaml:7: forward.allow[1]: `10.0.0.0/40` is no block of addresses, want such as 10.0.0.0/8 or fd00::/8
proxy.yaml:8: origin.identity: `WMP` is no client-token, want one as in NSPlayer/9.0.0.2980
proxy.yaml:8: origin.connect: is 0, which leaves no time at all; want more, as in 10s
proxy.yaml:9: split.flush_max: is below split.flush, from which it grows
proxy.yaml:11: limits.buffer: `1KiB` is too little, want 64KiB or more
proxy.yaml:12: limits.viewers: is 0, which lets nothing through; want 1 or more"
    );
}

#[test]
fn an_access_log_needs_a_directory_to_be_in() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &Path| Config::parse(&format!("access_log: {{ path: \"{}\" }}", path.display()), FILE);
    for path in ["", "-", "access.log"] {
        assert_eq!(at(Path::new(path)).unwrap().access_log.path, Path::new(path));
    }
    assert!(at(&directory.path().join("access.log")).is_ok());
    let missing = directory.path().join("no");
    assert_eq!(
        at(&missing.join("access.log")).unwrap_err().to_string(),
        format!(
            "proxy.yaml:1: access_log.path: `{}` is no directory; make it, and let it belong to who runs the proxy",
            missing.display()
        )
    );
    assert_eq!(
        at(directory.path()).unwrap_err().to_string(),
        "proxy.yaml:1: access_log.path: is a directory, want a file in it"
    );
}

#[test]
fn variables_override_the_file() {
    let config = with_variables(
        "name: file\nlimits: { viewers: 5, idle: 1m }\n",
        &[
            ("MMSPROXY__NAME", "7"),
            ("MMSPROXY__LISTEN__MMS", "[\"127.0.0.1:1755\"]"),
            ("MMSPROXY__LIMITS__VIEWERS", "6"),
            ("MMSPROXY__ROUTES", "[{ origin: mms://h }]"),
            ("MMSPROXY__FORWARD", "allow: [x.test]"),
            ("MMSPROXY_OTHER", "left alone"),
        ],
    )
    .unwrap();
    assert_eq!((config.name.as_str(), config.limits.viewers, config.limits.idle), ("7", 6, Duration::from_secs(60)));
    assert_eq!(config.listen.mms, ["127.0.0.1:1755".parse().unwrap()]);
    assert_eq!((config.routes[0].origin.as_str(), config.forward.allow[0].as_str()), ("mms://h", "x.test"));
}

#[test]
fn a_fault_in_a_variable_names_it() {
    let fault = |name, value| with_variables("", &[(name, value)]).unwrap_err().to_string();
    assert_eq!(
        fault("MMSPROXY__ORIGIN__CONNECT", "soon"),
        "MMSPROXY__ORIGIN__CONNECT: origin.connect: `soon` is no duration, \
         want a number and its unit, as in 10s, 100ms or 2m"
    );
    assert_eq!(
        fault("MMSPROXY__ORIGIN__CONECT", "5s"),
        "MMSPROXY__ORIGIN__CONECT: origin.conect: unknown key; did you mean MMSPROXY__ORIGIN__CONNECT?"
    );
    assert_eq!(fault("MMSPROXY__ZEBRA", "5s"), "MMSPROXY__ZEBRA: zebra: unknown key");
    assert_eq!(
        fault("MMSPROXY__LIMITS__BUFFER", "1KiB"),
        "MMSPROXY__LIMITS__BUFFER: limits.buffer: `1KiB` is too little, want 64KiB or more"
    );
    assert!(fault("MMSPROXY__LISTEN__MMS", "[").starts_with("MMSPROXY__LISTEN__MMS: listen.mms: "));
}

#[test]
fn the_config_printed_reads_as_itself() {
    let config = Config::parse(
        "name: \"on\"\nroutes:\n  - { path: \"/a b\", host: \"*.x\", origin: \"mms://h/ä\", origins: [mms://i] }\n  - origin: mms://j\n\
         cache: { stale_if_error: forever, finish_fill: never }\nsplit: { flush: 0 }\naccess_log: { path: \"/x y\" }\n",
        FILE,
    )
    .unwrap();
    for config in [config, Config::default()] {
        assert_eq!(Config::parse(&config.to_yaml().unwrap(), "printed").unwrap(), config);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load_with(Path::new("no/such.yaml"), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.starts_with("can't read no/such.yaml: "), "{error}");
    assert_eq!(Config::find(Some(Path::new("x.yaml"))).unwrap(), PathBuf::from("x.yaml"));
}

#[test]
fn a_policy_comes_out_of_it() {
    let config = Config::parse("routes: [{ path: /radio, origin: mms://10.0.0.5/live }]", FILE).unwrap();
    let policy = config.policy(config.own_name().unwrap(), config.listen.mms.clone(), |_| false).unwrap();
    let choice = policy.choose(None, &crate::content::Name::parse("/radio/x").unwrap()).unwrap();
    assert_eq!(choice.origins[0].to_string(), "mms://10.0.0.5:1755/live/x");
    let broken = Config { routes: vec![Route::default()], ..Config::default() };
    assert_eq!(
        broken.policy("x".into(), vec![], |_| false).unwrap_err().to_string(),
        "config: routes[0].origin: is missing, want a URL as in \"mms://10.0.0.5:1755/live\""
    );
}

#[test]
fn a_random_name_is_one_that_may_be_configured() {
    let name = Config::default().own_name().unwrap();
    assert_eq!(Config::parse(&format!("name: \"{name}\""), FILE).unwrap().own_name().unwrap(), name);
}

#[test]
fn a_token_is_read_without_its_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let config = Config { admin: Admin { token_file: path.clone(), ..Admin::default() }, ..Config::default() };
    assert!(config.admin_token().unwrap_err().to_string().starts_with("admin.token_file: can't read "));
    std::fs::write(&path, "secret\n").unwrap();
    assert_eq!(config.admin_token().unwrap().as_deref(), Some("secret"));
    std::fs::write(&path, "\n").unwrap();
    assert!(config.admin_token().unwrap_err().to_string().ends_with("is empty, want a token in it"));
    assert_eq!(Config::default().admin_token().unwrap(), None);
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_config_or_faults(text in "([a-z_]{0,9}[:\\-\\[\\]{}, \n*&!|>'\"#0-9]{0,3}){0,20}") {
        let _ = Config::parse(&text, FILE);
    }
}

/// The manual in the repository.
const MANUAL: &str = include_str!("../../proxy.yaml");

#[test]
fn the_manual_is_the_default_and_has_every_key() {
    fn keys(value: &serde_json::Value) -> Vec<String> {
        let below = |(key, value): (&String, &serde_json::Value)| {
            let mut all = vec![key.clone()];
            all.extend(keys(value).iter().map(|below| format!("{key}.{below}")));
            all
        };
        value.as_object().into_iter().flatten().flat_map(below).collect()
    }
    assert_eq!(Config::parse(MANUAL, FILE).unwrap(), Config::default());
    let written: serde_json::Value = serde_yaml::from_str(MANUAL).unwrap();
    assert_eq!(keys(&written), keys(&lay::tree_of(&Config::default()).unwrap()));
}

#[test]
fn the_route_in_the_manual_has_every_key_at_its_default() {
    let lines = MANUAL.lines().skip_while(|line| *line != "# routes:").take_while(|line| line.starts_with('#'));
    let text: String = lines.map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or_default())).collect();
    let config = Config::parse(&text, FILE).unwrap();
    let expected = Route { path: "/radio".into(), origin: "mms://10.0.0.5:1755/live".into(), ..Route::default() };
    assert_eq!(config.routes, [expected]);
    for key in lay::tree_of(&Route::default()).unwrap().as_object().unwrap().keys() {
        assert!(text.contains(&format!(" {key}: ")), "{key}");
    }
}

#[test]
fn data_come_over_udp_where_scheme_or_route_say_so() {
    for (upstream, schemes) in [("tcp", ["mms", "mmst", "mmsu"]), ("udp", ["mmsu", "mmst", "mmsu"])] {
        let route = format!("{{ origin: mms://a, origins: [mmst://a, mmsu://a], upstream: {upstream} }}");
        let config = Config::parse(&format!("routes: [{route}]\n"), FILE).unwrap();
        let (routes, _) = check::routes_and_allow(&config).unwrap();
        let found: Vec<String> = routes[0].origins.iter().map(|origin| origin.scheme.to_string()).collect();
        assert_eq!(found, schemes);
    }
}
