//! What is told of a viewer, and what is counted of it.

use prometheus::IntGauge;

use crate::server::access_log::record::Sent;
use crate::server::counters::Counters;

/// The `funnel` label of metrics: the way that all Data packets take.
const FUNNEL: &str = "tcp";

/// What the admin API tells of a viewer.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name of the content, as asked.
    pub content: Option<String>,
    /// Product and version of the player.
    pub player: Option<String>,
    /// `broadcast` or `on_demand`, once content is open.
    pub kind: Option<&'static str>,
    /// Media are being sent.
    pub is_streaming: bool,
    /// Bytes sent in all.
    pub sent_bytes: u64,
    /// Media packets sent.
    pub sent_packets: u64,
}

impl Facts {
    /// What was sent in all.
    pub(super) fn sent(&self) -> Sent {
        Sent { bytes: self.sent_bytes, packets: self.sent_packets }
    }
}

/// The two kinds of content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Broadcast,
    OnDemand,
}

impl Kind {
    /// The `content` label of metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::OnDemand => "on_demand",
        }
    }
}

/// One of `mmsproxy_viewers`, from the moment content is open until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    viewers: IntGauge,
    pub(super) kind: Kind,
}

impl Counted {
    /// Counts one viewer of that kind.
    pub(super) fn new(counters: &Counters, kind: Kind) -> Self {
        let viewers = counters.viewers.with_label_values(&[kind.label(), FUNNEL]);
        viewers.inc();
        Self { viewers, kind }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.viewers.dec();
    }
}

/// What was sent and is not counted yet. The counters are shared by all threads, so a writer adds up before it touches
/// them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    broadcast: Sent,
    on_demand: Sent,
}

impl Tally {
    /// So much was sent to one viewer.
    pub(super) fn add(&mut self, kind: Kind, bytes: u64, packets: u64) {
        let sent = match kind {
            Kind::Broadcast => &mut self.broadcast,
            Kind::OnDemand => &mut self.on_demand,
        };
        sent.bytes += bytes;
        sent.packets += packets;
    }

    /// Counts it, and begins anew.
    pub(super) fn count(&mut self, counters: &Counters) {
        let Self { broadcast, on_demand } = std::mem::take(self);
        for (kind, sent) in [(Kind::Broadcast, broadcast), (Kind::OnDemand, on_demand)] {
            if sent.bytes > 0 {
                let labels = &[kind.label(), FUNNEL];
                counters.sent_bytes.with_label_values(labels).inc_by(sent.bytes);
                counters.sent_packets.with_label_values(labels).inc_by(sent.packets);
            }
        }
    }
}

/// What a viewer that does not read keeps in memory, a part of `mmsproxy_held_bytes` until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    gauge: IntGauge,
    bytes: i64,
}

impl Held {
    /// Counts so many bytes.
    pub(super) fn new(counters: &Counters, bytes: usize) -> Self {
        let gauge = counters.held_by_sessions();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        gauge.add(bytes);
        Self { gauge, bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.sub(self.bytes);
    }
}
