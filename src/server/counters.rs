//! What the server counts: the names of the metrics are the project's outside and stay.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

/// The handles. Labels are bounded: never an address, a URL or a session.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Accepted connections, in handshake too.
    pub connections: IntGauge,
    /// Sessions that have content open; `content`, `funnel`.
    pub viewers: IntGaugeVec,
    /// Sessions that ended; `result`.
    pub viewer_sessions: IntCounterVec,
    /// Refusals; `reason`.
    pub refused: IntCounterVec,
    /// Bytes to viewers; `content`, `funnel`.
    pub sent_bytes: IntCounterVec,
    /// Media packets to viewers; `content`, `funnel`.
    pub sent_packets: IntCounterVec,
    /// Reports of players about what they played.
    pub viewer_logs: IntCounter,
    /// Lines of the access log that are lost.
    pub access_log_errors: IntCounter,
    /// Packets that were sent again over UDP, and requests that brought none; `result`.
    pub resends: IntCounterVec,
    /// Jumps of viewers that fell behind.
    pub viewer_skips: IntCounter,
    /// Sessions at origins now.
    pub origin_sessions: IntGauge,
    /// Sessions at origins that ended; `result`.
    pub origin_sessions_total: IntCounterVec,
    /// Failures of origins; `reason`.
    pub origin_errors: IntCounterVec,
    /// Bytes from origins.
    pub origin_received_bytes: IntCounter,
    /// Broadcasts that are split now.
    pub broadcasts: IntGauge,
    /// Broadcasts that were lost, by what became of them; `result`.
    pub split_reconnects: IntCounterVec,
    /// Openings of content that may be cached; `result`.
    pub cache_requests: IntCounterVec,
    /// Bytes of files in the cache.
    pub cache_bytes: IntGauge,
    /// Entries in the cache.
    pub cache_entries: IntGauge,
    /// Files that went to make room for others.
    pub cache_evictions: IntCounter,
    /// Sessions that fetch for the cache.
    pub cache_fills: IntGauge,
    /// What could not be stored or read; `reason`.
    pub cache_errors: IntCounterVec,
    /// Memory that the limits bound; `holder`.
    pub held_bytes: IntGaugeVec,
    /// Connect to first media packet; `content`.
    pub join_seconds: HistogramVec,
}

impl Counters {
    /// Registers all of them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vec = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let join = HistogramOpts::new("mmsproxy_join_seconds", "Connect to first media packet.")
            .buckets(vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        Ok(Self {
            connections: registered(
                registry,
                IntGauge::new("mmsproxy_connections", "Accepted connections, in handshake too.")?,
            )?,
            viewers: gauges("mmsproxy_viewers", "Sessions that have content open.", &["content", "funnel"])?,
            viewer_sessions: vec("mmsproxy_viewer_sessions_total", "Viewer sessions that ended.", &["result"])?,
            refused: vec("mmsproxy_refused_total", "What was refused to viewers.", &["reason"])?,
            sent_bytes: vec("mmsproxy_viewer_sent_bytes_total", "Bytes sent to viewers.", &["content", "funnel"])?,
            sent_packets: vec(
                "mmsproxy_viewer_sent_packets_total",
                "Media packets sent to viewers.",
                &["content", "funnel"],
            )?,
            viewer_logs: registered(
                registry,
                IntCounter::new("mmsproxy_viewer_logs_total", "Reports of players about what they played.")?,
            )?,
            access_log_errors: registered(
                registry,
                IntCounter::new("mmsproxy_access_log_errors_total", "Lines of the access log that are lost.")?,
            )?,
            resends: vec(
                "mmsproxy_resends_total",
                "Packets that were sent again over UDP, and requests that brought none.",
                &["result"],
            )?,
            viewer_skips: registered(
                registry,
                IntCounter::new("mmsproxy_viewer_skips_total", "Viewers that fell behind and jumped to a key frame.")?,
            )?,
            origin_sessions: registered(
                registry,
                IntGauge::new("mmsproxy_origin_sessions", "Upstream sessions open now.")?,
            )?,
            origin_sessions_total: vec("mmsproxy_origin_sessions_total", "Upstream sessions that ended.", &["result"])?,
            origin_errors: vec("mmsproxy_origin_errors_total", "Failures of origins.", &["reason"])?,
            origin_received_bytes: registered(
                registry,
                IntCounter::new("mmsproxy_origin_received_bytes_total", "Bytes received from origins.")?,
            )?,
            broadcasts: registered(registry, IntGauge::new("mmsproxy_broadcasts", "Broadcasts that are split now.")?)?,
            split_reconnects: vec(
                "mmsproxy_split_reconnects_total",
                "Broadcasts whose source was lost, by what became of them.",
                &["result"],
            )?,
            cache_requests: vec(
                "mmsproxy_cache_requests_total",
                "Openings of content that may be cached.",
                &["result"],
            )?,
            cache_bytes: registered(registry, IntGauge::new("mmsproxy_cache_bytes", "Bytes of files in the cache.")?)?,
            cache_entries: registered(registry, IntGauge::new("mmsproxy_cache_entries", "Entries in the cache.")?)?,
            cache_evictions: registered(
                registry,
                IntCounter::new("mmsproxy_cache_evictions_total", "Files that went to make room for others.")?,
            )?,
            cache_fills: registered(
                registry,
                IntGauge::new("mmsproxy_cache_fills", "Upstream sessions that fetch for the cache now.")?,
            )?,
            cache_errors: vec(
                "mmsproxy_cache_errors_total",
                "What could not be stored or read, and was passed through or fetched again.",
                &["reason"],
            )?,
            held_bytes: gauges("mmsproxy_held_bytes", "Media held in memory.", &["holder"])?,
            join_seconds: registered(registry, HistogramVec::new(join, &["content"])?)?,
        })
    }

    /// What one session holds, a part of `mmsproxy_held_bytes`.
    pub fn held_by_sessions(&self) -> IntGauge {
        self.held_bytes.with_label_values(&["sessions"])
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
