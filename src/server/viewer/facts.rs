//! What is told of a viewer, and what is counted of it.

use prometheus::IntGauge;

use crate::server::access_log::record::Sent;
use crate::server::counters::Counters;

/// The way that Data packets take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Way {
    #[default]
    Tcp,
    Udp,
}

impl Way {
    /// The `funnel` label of metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// As the access log has it.
    pub(super) fn transport(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// What the admin API tells of a viewer.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name of the content, as asked.
    pub content: Option<String>,
    /// Product and version of the player.
    pub player: Option<String>,
    /// `broadcast` or `on_demand`, once content is open.
    pub kind: Option<&'static str>,
    /// `tcp` or `udp`: the way that Data packets take.
    pub funnel: &'static str,
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
    pub(super) way: Way,
}

impl Counted {
    /// Counts one viewer of that kind, on that way.
    pub(super) fn new(counters: &Counters, kind: Kind, way: Way) -> Self {
        let viewers = counters.viewers.with_label_values(&[kind.label(), way.label()]);
        viewers.inc();
        Self { viewers, kind, way }
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
pub(super) struct Tally([Sent; 4]);

impl Tally {
    const KINDS: [(Kind, Way); 4] = [
        (Kind::Broadcast, Way::Tcp),
        (Kind::OnDemand, Way::Tcp),
        (Kind::Broadcast, Way::Udp),
        (Kind::OnDemand, Way::Udp),
    ];

    /// So much was sent to one viewer.
    pub(super) fn add(&mut self, counted: &Counted, bytes: u64, packets: u64) {
        if let Some(sent) = self.of(counted) {
            sent.bytes += bytes;
            sent.packets += packets;
        }
    }

    /// So much of what was added has not left.
    pub(super) fn take_back(&mut self, counted: &Counted, bytes: u64, packets: u64) {
        if let Some(sent) = self.of(counted) {
            sent.bytes = sent.bytes.saturating_sub(bytes);
            sent.packets = sent.packets.saturating_sub(packets);
        }
    }

    fn of(&mut self, counted: &Counted) -> Option<&mut Sent> {
        let of = (counted.kind, counted.way);
        self.0.iter_mut().zip(Self::KINDS).find(|(_, kind)| *kind == of).map(|(sent, _)| sent)
    }

    /// Counts it, and begins anew.
    pub(super) fn count(&mut self, counters: &Counters) {
        for (sent, (kind, way)) in std::mem::take(self).0.into_iter().zip(Self::KINDS) {
            if sent.bytes > 0 {
                let labels = &[kind.label(), way.label()];
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
