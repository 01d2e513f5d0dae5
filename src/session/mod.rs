//! The rules of a conversation, without I/O and without a clock: time is an argument everywhere.
//!
//! This file is the seam between a protocol and the content above it: what a session asks for ([`Request`]), what it
//! is told ([`Reply`]), and where its media come from ([`Cursor`]). No wire detail crosses it: no message number, no
//! incarnation, no HRESULT. A new protocol is a new folder beside [`mmsp`]; a new kind of content is a new cursor.

pub mod archive;
pub mod batch;
pub mod bells;
pub mod bucket;
pub mod mmsp;
pub mod pacer;
pub mod packet;
pub mod skips;
pub mod timers;

pub use packet::Packet;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::asf::{Header, PacketNumber, StreamNumber, Thinning};

/// What a session asks of the content above it.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A player said who it is and whom it wants. Answered by [`Reply::Greeted`] or [`Reply::Refused`].
    Greet(Caller),
    /// It wants this content. Answered by [`Reply::Opened`], `Challenge`, `Redirect` or `Refused`.
    Open(Open),
    /// Its answer to the last [`Reply::Challenge`], answered as `Open` is.
    Answer(Credentials),
    /// Which streams it wants from now on; streams that are not named keep their state. Not answered.
    Select(Vec<StreamChoice>),
    /// Media, please. Answered by [`Reply::Playing`] or `Refused`; ends any play before it.
    Play(Play),
    /// No more media. Not answered.
    Stop,
    /// What the player says about what it received. Not answered.
    Log(PlayerLog),
    /// The player is done. Not answered; nothing is asked after it.
    Close,
}

/// Who asks, as told by the player.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// Product and version, such as `NSPlayer/9.0.0.2980`.
    pub user_agent: String,
    /// The identifier of its session, `{8-4-4-4-12}` hexadecimal digits without the braces; `None` where it is malformed.
    pub guid: Option<String>,
    /// The server it believes to talk to, `host[:port]`, as it came.
    pub host: Option<String>,
    /// The proxies that the request came through.
    pub via: Vec<String>,
    /// It reports what it played by itself, so nobody else needs to on its behalf.
    pub sends_logs: bool,
}

/// A request for content.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Open {
    /// The name as the player sent it.
    pub name: String,
    /// What it brought along unasked.
    pub credentials: Option<Credentials>,
}

/// An authentication scheme of the Media Server protocols.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthScheme {
    /// Name and password in clear text.
    Basic,
    /// Challenge and response, bound to one connection.
    Ntlm,
}

impl fmt::Display for AuthScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic => "BASIC",
            Self::Ntlm => "NTLM",
        })
    }
}

/// An authentication token with its scheme. The bytes are opaque, and `Debug` does not show them.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// The scheme the token belongs to.
    pub scheme: AuthScheme,
    /// The token, as it stands on the wire.
    pub token: Bytes,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} token of {} bytes", self.scheme, self.token.len())
    }
}

/// One line of a stream selection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamChoice {
    /// The stream that goes when `stream` has begun; `None` where nothing is replaced.
    pub replaces: Option<StreamNumber>,
    /// The stream that is meant.
    pub stream: StreamNumber,
    /// How much of it.
    pub thinning: Thinning,
}

/// A request for media.
#[derive(Clone, Debug, PartialEq)]
pub struct Play {
    /// Where to begin.
    pub from: Position,
    /// Where to end; `None` is the end of the content.
    pub until: Option<Until>,
    /// 1.0 is the normal rate; other rates (-5 to 5, never 0) are trick mode, key frames only.
    pub rate: f64,
    /// How much the player wants faster than real time.
    pub burst: Option<Burst>,
}

impl Play {
    /// From `from` to the end at the normal rate.
    pub fn from(from: Position) -> Self {
        Self { from, until: None, rate: 1.0, burst: None }
    }

    /// Whether trick mode is asked for.
    pub fn is_trick_mode(&self) -> bool {
        self.rate != 1.0
    }
}

/// A place in content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Position {
    /// The player names none: the beginning, or the newest key frame of a broadcast.
    Default,
    /// Content time, which does not include the preroll.
    Time(Duration),
    /// This very packet.
    Packet(PacketNumber),
    /// The packet that holds this byte of the ASF file.
    Byte(u64),
}

/// The end of a play, in content time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// At this time.
    At(Duration),
    /// This long after the requested start.
    For(Duration),
}

/// Media faster than real time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Burst {
    /// How fast, in bit/s.
    pub bits_per_second: u32,
    /// How much of the content.
    pub duration: Duration,
}

/// What a player reports about a play, in the form of its own protocol.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlayerLog {
    /// CLIENT_LOG, `[MS-MMSP]` 2.2.1.
    ClientLog(Bytes),
}

/// What a session is told from above.
pub enum Reply {
    /// The answer to `Greet`.
    Greeted {
        /// The scheme that a challenge would use; `None` where it can't be known.
        scheme: Option<AuthScheme>,
    },
    /// The content is open.
    Opened(Arc<Opened>),
    /// Credentials are needed.
    Challenge(Credentials),
    /// The content is elsewhere: a URL.
    Redirect(String),
    /// Media begin.
    Playing(Playing),
    /// The request before this fails.
    Refused(Refusal),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeted { scheme } => write!(f, "Greeted({scheme:?})"),
            Self::Opened(opened) => write!(f, "Opened({:?})", opened.description),
            Self::Challenge(credentials) => write!(f, "Challenge({credentials:?})"),
            Self::Redirect(location) => write!(f, "Redirect({location})"),
            Self::Playing(playing) => write!(f, "Playing({:?})", playing.pace),
            Self::Refused(refusal) => write!(f, "Refused({refusal})"),
        }
    }
}

/// Open content: what it is, and its ASF file header.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What the source says of it.
    pub description: Description,
    /// The ASF file header: the Header Object and the fixed part of the Data Object.
    pub header: Arc<Header>,
}

/// What a source says of its content beyond the ASF file header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Every viewer gets the same at the same time.
    pub broadcast: bool,
    /// It comes from a live encoder.
    pub live: bool,
    /// It is one entry of a playlist on the server.
    pub playlist: bool,
    /// A play may begin anywhere.
    pub can_seek: bool,
    /// Trick mode is served.
    pub can_stride: bool,
    /// Content time in seconds, 0 where it is unknown or endless.
    pub duration_seconds: f64,
    /// Packets in the file, 0 where unknown.
    pub packet_count: u64,
    /// The sum of the maximum bit rates of all streams, bit/s; never 0.
    pub bit_rate: u32,
    /// Credentials were needed, so nobody else may be served from this session.
    pub authenticated: bool,
}

/// The beginning of media.
pub struct Playing {
    /// Where the packets are read.
    pub cursor: Box<dyn Cursor>,
    /// Who minds the clock.
    pub pace: Pace,
}

/// When packets may leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The source minds the clock: packets leave as they come.
    AsItComes,
    /// The same, but what is there already leaves no faster than this.
    AtMost {
        /// bit/s; more than the content has, or it would never catch up.
        bits_per_second: u32,
    },
    /// By send time from the first packet on, at `rate`; the first `burst.duration` of the content goes faster.
    SendTime {
        /// 1.0 is real time; the sign says nothing here.
        rate: f64,
        /// What goes ahead of its time, and how fast; 0 bit/s is at once.
        burst: Burst,
        /// Behind the burst, packets leave ahead of their time by less than this, so that those of one step leave
        /// together: cost is per call, and players have a buffer. Zero is each at its own time.
        step: Duration,
    },
    /// By send time, where everybody's clock is the same: a packet of `send_time_ms` is due at `at`.
    Clock {
        /// When the packet of `send_time_ms` is due.
        at: Instant,
        /// The send time that `at` belongs to, ms.
        send_time_ms: u32,
    },
}

/// Why a request or a play fails. The text is the operator's; the player gets the code that its protocol has for it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// What kind of failure.
    pub reason: Reason,
    /// The code that the origin gave, passed on as it is where the player's protocol has the same codes.
    pub origin_code: Option<u32>,
    /// What happened, for the log.
    pub detail: String,
}

impl Refusal {
    /// A refusal of our own.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, origin_code: None, detail: detail.into() }
    }
}

/// The kinds of failure that a source knows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// Our policy forbids it.
    Denied,
    /// The name can't be a name.
    InvalidName,
    /// There is no such content.
    NotFound,
    /// The origin lets nobody have it, whoever asks.
    Forbidden,
    /// The request carries our own name, or too many.
    Loop,
    /// The origin's name can't be resolved.
    UnknownHost,
    /// The origin can't be reached.
    Unreachable,
    /// The origin does not answer in time, or sends nothing any more.
    Timeout,
    /// The connection to the origin is lost.
    Lost,
    /// The origin says what no origin may say.
    Protocol,
    /// The content can't be understood.
    BadContent,
    /// Too many sessions are open at the origin.
    Busy,
    /// The request makes no sense for this content.
    Invalid,
    /// The origin refused; its code is in `origin_code`.
    Origin,
    /// We are going down.
    Draining,
    /// The viewer's session was ended by the operator.
    Kicked,
    /// The viewer can't keep up with its broadcast.
    TooSlow,
    /// A fault of ours.
    Internal,
}

impl Reason {
    /// Whether asking another origin may help: it never does where an origin gave an answer.
    pub fn is_worth_another_origin(self) -> bool {
        matches!(self, Self::UnknownHost | Self::Unreachable | Self::Timeout | Self::Lost | Self::Protocol | Self::Busy)
    }

    /// The `reason` label of `mmsproxy_refused_total`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Denied => "policy",
            Self::InvalidName | Self::Invalid => "malformed",
            Self::Loop => "loop",
            Self::Busy | Self::TooSlow => "limit",
            Self::Timeout => "timeout",
            Self::Draining => "draining",
            Self::Kicked => "kicked",
            Self::NotFound
            | Self::Forbidden
            | Self::UnknownHost
            | Self::Unreachable
            | Self::Lost
            | Self::Protocol
            | Self::BadContent
            | Self::Origin => "origin",
            Self::Internal => "internal",
        }
    }
}

/// A place in a ring, in a cache entry or in a 1:1 upstream. Knows no protocol, never waits.
pub trait Cursor: Send {
    /// What comes next. After `Ended` it is not asked again.
    fn next(&mut self) -> Next;

    /// Whether the driver is always told when there is more after `Nothing`. One that may have more without a word is
    /// asked again and again.
    fn is_announced(&self) -> bool {
        false
    }

    /// Whether its packets stay where they are for some seconds after it gave them out, as those of a history do. Others
    /// have to be held by whoever may need them again.
    fn is_history(&self) -> bool {
        false
    }
}

/// What a cursor has.
#[derive(Clone, Debug)]
pub enum Next {
    /// A data packet.
    Packet(Arc<Packet>),
    /// The viewer was too slow, and packets were left out: what follows begins at a key frame.
    Skipped {
        /// How many.
        packets: u64,
        /// How far behind the newest packet the viewer was.
        lag: Duration,
    },
    /// The source was lost and is back: nobody knows what is missing, and each stream goes on at a key frame.
    Resumed,
    /// So many packets were lost on the way, here in the order: the source had them, and nobody knows their numbers.
    Lost {
        /// How many, as far as that can be told.
        packets: u64,
    },
    /// The next entry begins here, in order for everyone, however late.
    Changed(Arc<Header>),
    /// No more comes.
    Ended(End),
    /// Not there yet; the driver is told when it is.
    Nothing,
}

impl From<Packet> for Next {
    fn from(packet: Packet) -> Self {
        Self::Packet(Arc::new(packet))
    }
}

/// How a play ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// All was sent.
    Complete,
    /// It broke.
    Failed(Refusal),
}
