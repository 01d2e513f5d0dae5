//! What is told of a viewer, and what it counts into.

use prometheus::{IntCounter, IntGauge};

use crate::server::counters::Counters;

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

/// Labelled handles, looked up once for each content that is opened.
#[derive(Debug)]
pub(super) struct Counted {
    viewers: IntGauge,
    pub(super) bytes: IntCounter,
    pub(super) packets: IntCounter,
    /// `broadcast` or `on_demand`.
    pub(super) kind: &'static str,
}

impl Counted {
    /// Counts one viewer of that kind, until it is dropped.
    pub(super) fn new(counters: &Counters, kind: &'static str) -> Self {
        let labels = &[kind, "tcp"];
        let viewers = counters.viewers.with_label_values(labels);
        viewers.inc();
        Self {
            viewers,
            bytes: counters.sent_bytes.with_label_values(labels),
            packets: counters.sent_packets.with_label_values(labels),
            kind,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.viewers.dec();
    }
}
