//! `GET /api/v1/broadcasts`: the streams that viewers share now.

use serde::Serialize;

use super::api::rfc3339;
use crate::content::{HostPort, Key};
use crate::server::relay::Relay;
use crate::splitter::{Content, Media, SourceFacts, State, Stream};

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BroadcastList {
    pub(super) broadcasts: Vec<BroadcastRow>,
}

/// One split stream.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BroadcastRow {
    /// `host:port/name`: the first origin of its route, and the name there.
    pub(super) key: String,
    /// `opening`, `open`, `changing` (the header of the next entry is on its way), `playing`, or `lost`: its source is
    /// looked for.
    pub(super) state: &'static str,
    /// Viewers that have it open, paused ones too.
    pub(super) viewers: usize,
    /// Counts the entries of its playlist, from 1; null before it is open.
    pub(super) entry: Option<u64>,
    /// Bits per second, as the header says; null before it is open.
    pub(super) bit_rate: Option<u32>,
    /// How long the packets took to come that are kept.
    pub(super) history_seconds: f64,
    /// What they hold in memory.
    pub(super) history_bytes: usize,
    /// RFC 3339: when it was first asked for; null in the moment before.
    pub(super) since: Option<String>,
    /// `host:port` of the origin that serves it now; null where none does.
    pub(super) origin: Option<String>,
    /// How often its source was lost and came back.
    pub(super) reconnects: u64,
}

impl BroadcastList {
    /// What `relay` splits now, ordered by key; nothing where there is no relay.
    pub(super) fn of(relay: Option<&Relay>) -> Self {
        let streams = relay.map(|relay| relay.splitter().streams()).unwrap_or_default();
        Self { broadcasts: streams.iter().filter_map(|(key, stream)| BroadcastRow::of(key, stream)).collect() }
    }
}

impl BroadcastRow {
    /// `None` where it turned out to be no broadcast, and is about to go.
    fn of(key: &Key, stream: &Stream) -> Option<Self> {
        let content = match stream.state() {
            State::Opening => None,
            State::Open(content) => Some(content),
            State::Unshared | State::Refused(_) => return None,
        };
        let source = stream.source();
        let (history_bytes, age) = stream.history();
        Some(Self {
            key: key.to_string(),
            state: state(content.as_ref(), &source),
            viewers: stream.viewers(),
            entry: content.as_ref().map(|content| content.entry),
            bit_rate: content.as_ref().map(|content| content.opened.description.bit_rate),
            // To the millisecond: more would be digits without meaning.
            history_seconds: (age.as_secs_f64() * 1000.0).round() / 1000.0,
            history_bytes,
            since: source.since.map(rfc3339),
            origin: source.origin.map(|(host, port)| HostPort { host, port: Some(port) }.to_string()),
            reconnects: source.reconnects,
        })
    }
}

/// A loss comes first: until media come again it is what an operator has to know.
fn state(content: Option<&Content>, source: &SourceFacts) -> &'static str {
    match content {
        None => "opening",
        Some(_) if source.is_lost => "lost",
        Some(content) if content.is_changing => "changing",
        Some(content) if content.media == Media::Running => "playing",
        Some(_) => "open",
    }
}
