//! What a line of the access log tells: a play as we measured it, and what its player reported.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::content::{DEFAULT_PORT, HostPort, Name};
use crate::session::Refusal;
use crate::session::mmsp::hresult;
use crate::wire::mmsp::client_log;
use crate::wire::mmsp::ids::HResult;

/// Characters of a player's name, GUID or host that are kept.
const MAX_TOKEN: usize = 256;
/// Characters of a content's name that are kept.
const MAX_NAME: usize = 1024;
/// Characters of a reason that are kept.
const MAX_REASON: usize = 256;

/// A play that ended, or a request for content that was refused.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose it was.
    pub who: Arc<Who>,
    /// The name of the content, as asked.
    pub name: Arc<str>,
    /// What was open; `None` where nothing was.
    pub content: Option<Content>,
    /// When it began.
    pub started_at: SystemTime,
    /// How long it lasted.
    pub lasted: Duration,
    /// Where in the content it began; `None` where the player named a packet or a byte, or nothing played.
    pub start: Option<Duration>,
    /// 1.0 is normal; `None` where nothing played.
    pub rate: Option<f64>,
    /// What was sent for it.
    pub sent: Sent,
    /// How it ended.
    pub outcome: Outcome,
    /// `TCP` or `UDP`: the way that Data took.
    pub transport: &'static str,
    /// Connections at the end, this one too.
    pub connections: i64,
    /// What the player said of it.
    pub report: Option<Report>,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Who {
    /// The viewer's number in logs and in the admin API.
    pub session_id: u64,
    /// Where the viewer is.
    pub client: SocketAddr,
    /// Where it found us.
    pub server: Option<IpAddr>,
    /// Product and version of the player.
    pub player: String,
    /// The identifier the player goes by, without braces.
    pub guid: Option<String>,
    /// The host it asked for.
    pub host: Option<String>,
    /// It is of a kind that reports what it played.
    pub sends_logs: bool,
}

/// What is told of content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Content {
    /// Every viewer gets the same at the same time.
    pub broadcast: bool,
    /// Seconds; 0 where it is unknown or endless.
    pub duration_seconds: f64,
}

/// Bytes and packets that were sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Headers and messages between the packets too.
    pub bytes: u64,
    /// Media packets.
    pub packets: u64,
}

impl Sent {
    /// What came on top of `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(earlier.bytes), packets: self.packets.saturating_sub(earlier.packets) }
    }
}

/// How a play ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// In the numbers of HTTP, as Windows Media Services uses them.
    pub status: u16,
    /// What the player was told.
    pub hresult: HResult,
    /// Why; `None` where it ended as it should.
    pub reason: Option<String>,
}

impl Outcome {
    /// It ended as it should.
    pub fn ended() -> Self {
        Self { status: 200, hresult: HResult::S_OK, reason: None }
    }

    /// The player vanished: Windows Media Services says 408 where the report never came.
    pub fn vanished(reason: &str) -> Self {
        Self { status: 408, hresult: HResult::NS_E_CONNECTION_FAILURE, reason: Some(cut(reason, MAX_REASON)) }
    }

    /// It was refused, or broke on our side.
    pub fn refused(refusal: &Refusal) -> Self {
        Self::failed(hresult(refusal), &refusal.detail)
    }

    /// The player was told `hresult`.
    pub fn failed(hresult: HResult, reason: &str) -> Self {
        Self { status: status(hresult), hresult, reason: Some(cut(reason, MAX_REASON)) }
    }
}

/// A CLIENT_LOG ([MS-MMSP] 2.2.1) as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report(Box<[u8]>);

impl Report {
    /// Keeps what a CLIENT_LOG is made of; `None` where something is missing.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.get(..client_log::LEN).map(|bytes| Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Record {
    /// The path of the content, in one form however it was asked for; without a query.
    pub(super) fn stem(&self) -> String {
        let name = self.canonical_name();
        format!("/{}", name.split('?').next().unwrap_or_default())
    }

    /// The content's URL at the host that was asked for; at our own address where none was named. Players differ in
    /// whether they tell the default port.
    pub(super) fn url(&self) -> Option<String> {
        let named = self.who.host.as_deref().and_then(|host| HostPort::parse(host).ok());
        let host = named.or_else(|| HostPort::parse(&self.who.server?.to_string()).ok())?;
        let port = host.port.filter(|port| *port != DEFAULT_PORT);
        Some(format!("mms://{}/{}", HostPort { port, ..host }, self.canonical_name()))
    }

    /// A name that is refused for its form is told as it came.
    fn canonical_name(&self) -> String {
        Name::parse(&self.name).map_or_else(|_| self.name.to_string(), |name| name.as_str().to_owned())
    }
}

impl Who {
    /// Bounds what a player says of itself: a line may wait long for its turn.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            player: cut(&self.player, MAX_TOKEN),
            guid: self.guid.map(|guid| cut(&guid, MAX_TOKEN)),
            host: self.host.map(|host| cut(&host, MAX_TOKEN)),
            ..self
        }
    }
}

/// A name of content, bounded.
pub fn name(text: &str) -> Arc<str> {
    cut(text, MAX_NAME).into()
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// Windows Media Services has 200, 400, 401, 404, 408, 480 and 500; the rest says who failed, as gateways do.
fn status(hresult: HResult) -> u16 {
    match hresult {
        hresult if !hresult.is_failure() => 200,
        HResult::NS_E_REDIRECT => 302,
        HResult::NS_E_INVALID_NAME | HResult::NS_E_INVALID_REQUEST | HResult::E_INVALIDARG => 400,
        HResult::E_ACCESSDENIED => 401,
        HResult::NS_E_FILE_NOT_FOUND | HResult::NS_E_FILE_OPEN_FAILED => 404,
        HResult::NS_E_TOO_MANY_SESS
        | HResult::NS_E_MAX_CLIENTS
        | HResult::NS_E_NETWORK_BUSY
        | HResult::NS_E_INSUFFICIENT_BANDWIDTH
        | HResult::NS_E_FILE_BANDWIDTH_LIMIT => 480,
        HResult::NS_E_CANNOTCONNECT
        | HResult::NS_E_SERVER_NOT_FOUND
        | HResult::NS_E_CONNECTION_FAILURE
        | HResult::NS_E_BAD_CONTROL_DATA
        | HResult::NS_E_INVALID_DATA => 502,
        HResult::NS_E_NOCONNECTION => 503,
        HResult::NS_E_TIMEOUT => 504,
        _ => 500,
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::wire::mmsp::client_log::{ClientLog, ClientLogInfo, Version};

    /// Two and a half seconds of a file.
    pub(in crate::server::access_log) fn record() -> Record {
        Record {
            transport: "TCP",
            who: Arc::new(Who {
                session_id: 7,
                client: "192.0.2.10:1037".parse().unwrap(),
                server: Some("192.0.2.1".parse().unwrap()),
                player: "NSPlayer/7.0.0.1956".to_owned(),
                guid: Some("68c0a090-8797-11d2-a2b3-00a0c9b60551".to_owned()),
                host: Some("media.example".to_owned()),
                sends_logs: false,
            }),
            name: "clips/a talk.asf?WMBitrate=300".into(),
            content: Some(Content { broadcast: false, duration_seconds: 66.2 }),
            started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(951_000_152_250),
            lasted: Duration::from_millis(2_500),
            start: Some(Duration::from_millis(12_900)),
            rate: Some(1.0),
            sent: Sent { bytes: 94_500, packets: 65 },
            outcome: Outcome::ended(),
            connections: 3,
            report: None,
        }
    }

    /// What Windows Media Player 6.4 would say of it.
    pub(in crate::server::access_log) fn client_log() -> ClientLog {
        let version = |a: u64, b: u64, c: u64, d: u64| Version(a << 48 | b << 32 | c << 16 | d);
        ClientLog {
            info: ClientLogInfo {
                url: "mms://media.example/clips/a talk.asf".into(),
                user_agent: "Mozilla/4.0 (compatible; MSIE 5.01; Windows NT 5.0)".into(),
                client_version: version(6, 4, 9, 1109),
                lang: "en-US".into(),
                unique_pid: "{287978e9-a059-4c08-bfc9-da2dddf38a22}".into(),
                host_exe: "iexplore.exe".into(),
                host_exe_ver: version(5, 0, 2920, 0),
                file_duration_ms: 66_200,
                file_size: 2_139_795,
                avg_bandwidth_bps: 79_630,
                audio_codec: "Windows Media Audio V2".into(),
                start_time_ms: 12_900,
                played_ms: 2_001,
                buffering_count: 1,
                buffering_time_ms: 4_500,
                bytes_received: 93_980,
                packets_received: 64,
                packets_lost_client: 1,
                min_reception_quality: 98,
                ..ClientLogInfo::default()
            },
            os: "Windows 2000".into(),
            os_version: version(5, 0, 0, 2195),
            cpu: "Pentium".into(),
            packets_lost_net: 2,
            packets_lost_cont_net: 1,
            resend_requests: 4,
            packets_recovered_resent: 1,
            ..ClientLog::default()
        }
    }

    /// As it comes over the wire.
    pub(in crate::server::access_log) fn report(log: &ClientLog) -> Option<Report> {
        let mut bytes = Vec::new();
        log.encode(&mut bytes);
        Report::new(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Reason;

    #[test]
    fn each_refusal_has_the_number_that_operators_know() {
        for (reason, code, status) in [
            (Reason::Denied, None, 401),
            (Reason::InvalidName, None, 400),
            (Reason::NotFound, None, 404),
            (Reason::Busy, None, 480),
            (Reason::Unreachable, None, 502),
            (Reason::Lost, None, 502),
            (Reason::Kicked, None, 503),
            (Reason::Timeout, None, 504),
            (Reason::Internal, None, 500),
            (Reason::Origin, Some(HResult::NS_E_MAX_CLIENTS.0), 480),
            (Reason::Origin, Some(0x8000_4005), 500),
        ] {
            let refusal = Refusal { origin_code: code, ..Refusal::new(reason, "why") };
            let outcome = Outcome::refused(&refusal);
            assert_eq!((outcome.status, outcome.reason.as_deref()), (status, Some("why")), "{reason:?}");
        }
        assert_eq!(Outcome::failed(HResult::NS_E_REDIRECT, "elsewhere").status, 302);
    }

    #[test]
    fn content_has_one_url_however_it_is_asked_for() {
        let url = |host: Option<&str>, name: &str| {
            let mut record = testing::record();
            Arc::make_mut(&mut record.who).host = host.map(str::to_owned);
            Record { name: name.into(), ..record }.url().unwrap()
        };
        for (host, name) in [("media.example", "/a/b"), ("Media.Example:1755", "a\\b"), ("media.example.", "a%2Fb")] {
            assert_eq!(url(Some(host), name), "mms://media.example/a/b");
        }
        assert_eq!(url(Some("[2001:DB8::1]:80"), "a"), "mms://[2001:db8::1]:80/a");
        assert_eq!((url(None, "a"), url(Some("x/y z"), "a")), ("mms://192.0.2.1/a".into(), "mms://192.0.2.1/a".into()));
    }

    #[test]
    fn what_waits_is_bounded() {
        assert_eq!(name(&"é".repeat(40_000)).chars().count(), MAX_NAME);
        assert_eq!(Outcome::vanished(&"x".repeat(9_999)).reason.map(|reason| reason.len()), Some(MAX_REASON));
        assert_eq!(Report::new(&[0; client_log::LEN - 1]), None);
        assert_eq!(Report::new(&[0; 65_536]).map(|report| report.as_bytes().len()), Some(client_log::LEN));
    }
}
