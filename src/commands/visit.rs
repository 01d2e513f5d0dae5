//! A session at an origin on our own behalf: `probe` and `record` are players of a kind.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus::{IntCounter, IntGauge};
use tokio::net::lookup_host;
use tokio::sync::Notify;

use crate::asf::Thinning;
use crate::content::{HostPort, MmsUrl, Name, Scheme};
use crate::server::pipe::{Overflow, PipeCursor, pipe};
use crate::server::relay::identity::{OWN_IDENTITY, own_guid};
use crate::server::upstream::{Counts, Upstream};
use crate::session::mmsp::client::{Event, Settings};
use crate::session::{AuthScheme, Burst, Open, Opened, Play, Position, Request, StreamChoice};
use crate::wire::mmsp::subscriber_name::SubscriberName;

const CONNECT: Duration = Duration::from_secs(5);
const REPLY: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_secs(30);
const MAX_HEADER: usize = 8 * 1024 * 1024;
const MAX_CONTROL_PACKET: usize = 64 * 1024;
/// What may wait for whoever takes the media, bytes.
const BUFFER: usize = 4 * 1024 * 1024;

/// A connection to an origin, or through a proxy.
pub(super) struct Visit {
    pub(super) upstream: Upstream,
    /// `ServerVersionInfo`.
    pub(super) version: String,
    /// The scheme that was announced.
    pub(super) scheme: Option<AuthScheme>,
}

/// What came of opening.
pub(super) enum Answer {
    Opened(Arc<Opened>),
    LoginRequired(AuthScheme),
    Redirected(String),
    Refused(String),
}

impl Visit {
    /// Connects to the host of `url`, or to `via` as a player does that has a proxy set.
    pub(super) async fn connect(url: &MmsUrl, via: Option<&HostPort>) -> anyhow::Result<Self> {
        let target = HostPort { host: url.host.clone(), port: Some(url.port()) };
        let peer = via.cloned().unwrap_or_else(|| target.clone());
        let addresses = lookup_host((peer.host.as_str(), peer.port()));
        let addresses = addresses.await.with_context(|| format!("`{}` has no address", peer.host))?;
        let settings = Settings {
            name: SubscriberName {
                client_token: format!("{OWN_IDENTITY}; {{{}}}", own_guid()),
                host_param: Some(target.to_string()),
                host_string: Some(target.to_string()),
                via: Vec::new(),
            },
            reply: REPLY,
            stall: STALL,
            max_header: MAX_HEADER,
            player_reports: false,
            relays_reports: false,
            udp: None,
        };
        let mut last = None;
        for address in addresses {
            let counts = Counts::new(IntGauge::new("open", "open")?, IntCounter::new("received", "received")?);
            let connected = Upstream::connect(address, CONNECT, MAX_CONTROL_PACKET, settings.clone(), counts).await;
            match connected {
                Ok(mut upstream) => match upstream.next().await? {
                    Event::Connected { scheme, version } => return Ok(Self { upstream, version, scheme }),
                    other => bail!("{peer} answered Connect with {other:?}"),
                },
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error.into()),
            None => bail!("`{}` has no address", peer.host),
        }
    }

    /// Opens the content of `url`.
    pub(super) async fn open(&mut self, url: &MmsUrl) -> anyhow::Result<Answer> {
        let name = Name::parse(&url.path)?.as_str().to_owned();
        if url.scheme == Scheme::Mmsu {
            self.upstream.take_datagrams().await;
        }
        self.upstream.request(Request::Open(Open { name, credentials: None }))?;
        loop {
            match self.upstream.next().await? {
                Event::Opened(opened) => return Ok(Answer::Opened(opened)),
                Event::Challenge(credentials) => return Ok(Answer::LoginRequired(credentials.scheme)),
                Event::Redirect { location, .. } => return Ok(Answer::Redirected(location)),
                Event::Refused(refusal) => return Ok(Answer::Refused(refusal.to_string())),
                Event::Connected { .. } | Event::Playing | Event::Closed => {}
            }
        }
    }

    /// Plays what was opened, every stream in full, from the start; on-demand content `faster` than real time where the
    /// origin does that: those of version 9 and later do. Where packets come, and what rings when there are more.
    pub(super) fn play(&mut self, opened: &Opened, faster: u32) -> anyhow::Result<(PipeCursor, Arc<Notify>)> {
        let bell = Arc::new(Notify::new());
        let (feeder, cursor) = pipe(BUFFER, Overflow::Wait, Arc::clone(&bell), IntGauge::new("held", "held")?);
        self.upstream.feed(feeder);
        let choices = opened.header.streams().iter();
        let choices = choices.map(|s| StreamChoice { replaces: None, stream: s.number, thinning: Thinning::All });
        self.upstream.request(Request::Select(choices.collect()))?;
        let duration = Duration::try_from_secs_f64(opened.description.duration_seconds).unwrap_or_default();
        let burst = Burst { bits_per_second: opened.description.bit_rate.saturating_mul(faster), duration };
        let burst = (!opened.description.broadcast && !duration.is_zero()).then_some(burst);
        self.upstream.request(Request::Play(Play { burst, ..Play::from(Position::Default) }))?;
        Ok((cursor, bell))
    }

    /// Ends the session as a player should.
    pub(super) async fn close(self) {
        self.upstream.close(REPLY).await;
    }
}
