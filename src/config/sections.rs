//! The sections of proxy.yaml with their defaults. What a key is for and when to change it stands in proxy.yaml itself;
//! here, what the program may rely on.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{BitsPerSecond, ByteSize, FastStart, FinishFill, Percent, StaleIfError, duration};

/// `listen:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// For players: TCP, and UDP on the same port. An IPv6 address takes IPv6 only.
    #[serde(with = "addresses")]
    pub mms: Vec<SocketAddr>,
    /// For operators (HTTP); `""` is none.
    #[serde(with = "address")]
    pub admin: Option<SocketAddr>,
}

/// `admin:`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// A file with the bearer token; empty is none, which only a loopback address may have.
    pub token_file: PathBuf,
    /// Is `/metrics` open without the token?
    pub open_metrics: bool,
    /// Names in `Host` that are let in, beside localhost and addresses.
    pub hosts: Vec<String>,
}

/// One of `routes:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// A glob over hosts, port left out; `*` also takes players that name none.
    pub host: String,
    /// A prefix on segment borders.
    pub path: String,
    /// The URL asked; with a path, that replaces the prefix.
    pub origin: String,
    /// More of them, tried in order.
    pub origins: Vec<String>,
    /// May its on-demand content be cached?
    pub cache: bool,
    /// May its broadcasts be split?
    pub split: bool,
    /// Are names that differ in case one content?
    pub ignore_case: bool,
    /// Data from `mms://` origins.
    pub upstream: Transport,
    /// Media in from this route's origins; 0 is any. Beside `origin.receive_rate`, the smaller counts.
    pub receive_rate: BitsPerSecond,
}

/// How Data packets travel.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// On the control connection.
    #[default]
    Tcp,
    /// In datagrams.
    Udp,
}

/// `forward:`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Forward {
    /// Entries as [`crate::content::AllowEntry`] reads them.
    pub allow: Vec<String>,
}

/// `origin:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// Longest wait for a connection, name look-up included.
    #[serde(with = "duration")]
    pub connect: Duration,
    /// Longest wait for the answer to a request.
    #[serde(with = "duration")]
    pub reply: Duration,
    /// Longest silence while media is due.
    #[serde(with = "duration")]
    pub stall: Duration,
    /// How long one that could not be reached is not tried again.
    #[serde(with = "duration")]
    pub down: Duration,
    /// Sessions open at one origin at a time.
    pub sessions: u32,
    /// Media in from one origin; 0 is any.
    pub receive_rate: BitsPerSecond,
    /// What becomes of a redirect of type 1.
    pub redirects: Redirects,
    /// Redirects followed for one request.
    pub max_redirects: u32,
    /// The client-token of sessions that are no single viewer's; empty is `NSPlayer/9.0.0.2980`.
    pub identity: String,
}

/// What becomes of an origin's redirect.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirects {
    /// The proxy goes there.
    #[default]
    Follow,
    /// The player is told.
    Relay,
}

/// `split:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// How long a broadcast stays open after its last viewer.
    #[serde(with = "duration")]
    pub linger: Duration,
    /// How long packets are kept: a viewer that falls further behind jumps to the newest key frame.
    #[serde(with = "duration")]
    pub history: Duration,
    /// Bytes kept for one broadcast.
    pub max_bytes: ByteSize,
    /// What a joiner gets at once out of the history.
    pub fast_start: FastStart,
    /// Longest time packets are gathered for one write to a viewer; 0 is none.
    #[serde(with = "duration")]
    pub flush: Duration,
    /// What `flush` may grow to under load.
    #[serde(with = "duration")]
    pub flush_max: Duration,
    /// Longest wait for a key frame when the history has none.
    #[serde(with = "duration")]
    pub key_wait: Duration,
    /// Jumps in a minute after which a viewer is ended.
    pub max_skips: u32,
    /// How long a lost broadcast is tried for.
    #[serde(with = "duration")]
    pub give_up: Duration,
    /// How long another origin than the first serves a broadcast before the first is tried again; 0 is for ever.
    #[serde(with = "duration")]
    pub fail_back: Duration,
    /// Do viewers' Logging messages go on to the origin?
    pub forward_logs: bool,
}

/// `cache:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Where entries are kept; empty is no cache.
    pub dir: PathBuf,
    /// All of them together.
    pub max_size: ByteSize,
    /// What is left free on the disk.
    pub min_free: ByteSize,
    /// How long an entry is served without asking the origin.
    #[serde(with = "duration")]
    pub revalidate: Duration,
    /// How long a viewer waits for the origin's word before it gets what is there.
    #[serde(with = "duration")]
    pub revalidate_wait: Duration,
    /// How long an entry is served whose origin can't be asked.
    pub stale_if_error: StaleIfError,
    /// How long a not-found is remembered.
    #[serde(with = "duration")]
    pub negative: Duration,
    /// What a viewer gets at once.
    pub fast_start: FastStart,
    /// Does a fill go on without its viewer?
    pub finish_fill: FinishFill,
    /// Fills without a viewer at a time, at all origins.
    pub background_fills: u32,
    /// Fills of one entry at a time.
    pub max_fills_per_entry: u32,
    /// Is content stored whose origin asks for credentials?
    pub authenticated: bool,
}

/// `udp:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Udp {
    /// How long after a packet was sent it may be asked for again.
    #[serde(with = "duration")]
    pub resend_window: Duration,
    /// What is sent again at most, of a session's bit rate.
    pub resend_budget: Percent,
}

/// `limits:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of players at a time.
    pub viewers: u32,
    /// Of one address.
    pub viewers_per_address: u32,
    /// From the connection to OpenFile, the wait for the origin not counted.
    #[serde(with = "duration")]
    pub handshake: Duration,
    /// For an answer to a challenge.
    #[serde(with = "duration")]
    pub login: Duration,
    /// Without a sign of life from the player.
    #[serde(with = "duration")]
    pub idle: Duration,
    /// Media held by all sessions, histories and the cache's blocks.
    pub memory: ByteSize,
    /// Media held by one session, read from the origin and not sent yet.
    pub buffer: ByteSize,
    /// The longest ASF header.
    pub header: ByteSize,
    /// What may wait unsent in the kernel for one viewer (TCP_NOTSENT_LOWAT).
    pub kernel_buffer: ByteSize,
    /// The longest control message, either way.
    pub control_packet: ByteSize,
}

/// `access_log:`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// A file, or `-` for standard output; empty is no access log.
    pub path: PathBuf,
    /// Of its lines.
    pub format: AccessLogFormat,
}

/// How the lines of the access log look.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// Extended log format, with the fields of Windows Media Services.
    #[default]
    W3c,
    /// An object a line.
    Json,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            mms: vec![([0, 0, 0, 0], 1755).into(), ([0u16; 8], 1755).into()],
            admin: Some(([127, 0, 0, 1], 9180).into()),
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            host: "*".into(),
            path: "/".into(),
            origin: String::new(),
            origins: Vec::new(),
            cache: true,
            split: true,
            ignore_case: false,
            upstream: Transport::Tcp,
            receive_rate: BitsPerSecond(0),
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            reply: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            down: Duration::from_secs(2),
            sessions: 500,
            receive_rate: BitsPerSecond(0),
            redirects: Redirects::Follow,
            max_redirects: 5,
            identity: String::new(),
        }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(10),
            history: Duration::from_secs(20),
            max_bytes: ByteSize(32 << 20),
            fast_start: FastStart::Preroll,
            flush: Duration::from_millis(100),
            flush_max: Duration::from_millis(400),
            key_wait: Duration::from_secs(10),
            max_skips: 8,
            give_up: Duration::from_secs(60),
            fail_back: Duration::ZERO,
            forward_logs: false,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            dir: "/var/cache/mmsproxy".into(),
            max_size: ByteSize(20 << 30),
            min_free: ByteSize(1 << 30),
            revalidate: Duration::from_secs(5 * 60),
            revalidate_wait: Duration::from_secs(2),
            stale_if_error: StaleIfError::For(Duration::from_secs(24 * 3600)),
            negative: Duration::from_secs(10),
            fast_start: FastStart::Preroll,
            finish_fill: FinishFill::Above(Percent(10)),
            background_fills: 4,
            max_fills_per_entry: 2,
            authenticated: false,
        }
    }
}

impl Default for Udp {
    fn default() -> Self {
        Self { resend_window: Duration::from_secs(5), resend_budget: Percent(20) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            viewers: 10_000,
            viewers_per_address: 1_000,
            handshake: Duration::from_secs(10),
            login: Duration::from_secs(120),
            idle: Duration::from_secs(3600),
            memory: ByteSize(1 << 30),
            buffer: ByteSize(512 << 10),
            header: ByteSize(8 << 20),
            kernel_buffer: ByteSize(128 << 10),
            control_packet: ByteSize(64 << 10),
        }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { path: "-".into(), format: AccessLogFormat::W3c }
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let want = "want address:port, as in 127.0.0.1:1755 or [::]:1755";
    text.parse().map_err(|_| format!("`{text}` is no address to listen on, {want}"))
}

mod address {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(None),
            text => super::parse_address(text).map(Some).map_err(D::Error::custom),
        }
    }

    pub fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&address.map(|address| address.to_string()).unwrap_or_default())
    }
}

mod addresses {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| super::parse_address(text).map_err(D::Error::custom)).collect()
    }

    pub fn serialize<S: Serializer>(addresses: &[SocketAddr], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(addresses.iter().map(ToString::to_string))
    }
}
