//! What Prometheus reads: a registry of our own, with what the rooms count, the process and the build.
//!
//! Every labelled series whose values are known exists at 0 from the start: a rate over a series that begins with its
//! first event misses that event, and a dashboard can't tell "none yet" from "no such thing".

use std::sync::Arc;

use prometheus::{IntGauge, Opts, Registry, TextEncoder};

use crate::server::counters::Counters;

/// `content`: the two kinds of content.
const CONTENT: [&str; 2] = ["broadcast", "on_demand"];
/// `funnel`: the ways that Data packets take.
const FUNNEL: [&str; 2] = ["tcp", "udp"];
/// `result` of `mmsproxy_viewer_sessions_total`.
const VIEWER_RESULTS: [&str; 6] = ["ended", "failed", "kicked", "redirected", "refused", "too_slow"];
/// `reason` of `mmsproxy_refused_total`.
const REFUSED_REASONS: [&str; 9] =
    ["draining", "http", "internal", "limit", "loop", "malformed", "origin", "policy", "timeout"];
/// `result` of `mmsproxy_origin_sessions_total`.
const ORIGIN_RESULTS: [&str; 2] = ["ended", "failed"];
/// `reason` of `mmsproxy_origin_errors_total`.
const ORIGIN_REASONS: [&str; 5] = ["connect", "lost", "protocol", "refused", "timeout"];
/// `result` of `mmsproxy_split_reconnects_total`.
const RECONNECTS: [&str; 3] = ["changed", "continued", "gave_up"];
/// `result` of `mmsproxy_cache_requests_total`.
const CACHE_RESULTS: [&str; 6] = ["hit", "miss", "partial", "pass", "revalidated", "stale"];
/// `reason` of `mmsproxy_cache_errors_total`.
const CACHE_ERRORS: [&str; 3] = ["checksum", "disk_full", "io"];
/// `result` of `mmsproxy_resends_total`: packets that were sent again, and requests that brought none.
const RESENDS: [&str; 8] = ["budget", "client_id", "gone", "malformed", "sent", "source_id", "tcp", "unknown"];
/// `holder` of `mmsproxy_held_bytes`.
const HOLDERS: [&str; 3] = ["cache", "history", "sessions"];

/// The metrics of one proxy.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// All that `render` tells; a room that counts more registers it here.
    pub registry: Registry,
    /// What the server counts.
    pub counters: Arc<Counters>,
}

impl Metrics {
    /// A registry with everything in it. Fails where a name is taken twice, which is a fault of ours.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let version = Opts::new("mmsproxy_build_info", "The version that runs; always 1.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build_info = IntGauge::with_opts(version)?;
        build_info.set(1);
        registry.register(Box::new(build_info))?;
        // It reads /proc.
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let counters = Counters::register(&registry)?;
        begin_at_zero(&counters)?;
        Ok(Self { registry, counters: Arc::new(counters) })
    }

    /// All metrics in the text format of Prometheus, 0.0.4.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn begin_at_zero(counters: &Counters) -> Result<(), prometheus::Error> {
    for content in CONTENT {
        for funnel in FUNNEL {
            counters.viewers.get_metric_with_label_values(&[content, funnel])?;
            counters.sent_bytes.get_metric_with_label_values(&[content, funnel])?;
            counters.sent_packets.get_metric_with_label_values(&[content, funnel])?;
        }
        counters.join_seconds.get_metric_with_label_values(&[content])?;
    }
    let by_label: [(_, &[&str]); 8] = [
        (&counters.viewer_sessions, &VIEWER_RESULTS),
        (&counters.refused, &REFUSED_REASONS),
        (&counters.origin_sessions_total, &ORIGIN_RESULTS),
        (&counters.origin_errors, &ORIGIN_REASONS),
        (&counters.split_reconnects, &RECONNECTS),
        (&counters.cache_requests, &CACHE_RESULTS),
        (&counters.cache_errors, &CACHE_ERRORS),
        (&counters.resends, &RESENDS),
    ];
    for (counter, values) in by_label {
        for value in values {
            counter.get_metric_with_label_values(&[value])?;
        }
    }
    for holder in HOLDERS {
        counters.held_bytes.get_metric_with_label_values(&[holder])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::session::Reason;

    /// One line of the text format: name, labels, value.
    fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let value = value.parse().expect(line);
        let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), BTreeMap::new(), value) };
        let labels = labels.strip_suffix('}').expect(line).split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").expect(line);
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        (name.to_owned(), labels.collect(), value)
    }

    fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
        text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
    }

    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn every_line_is_well_formed_and_every_family_has_help_and_type() {
        let text = Metrics::new().unwrap().render().unwrap();
        let mut families = BTreeMap::new();
        let mut helped = BTreeSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            } else {
                let (name, ..) = sample(line);
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|part| name.strip_suffix(part).filter(|family| families.contains_key(*family)))
                    .unwrap_or(&name);
                let kind = families.get(family).unwrap_or_else(|| panic!("{line} has no TYPE"));
                assert!(helped.contains(family), "{line}");
                assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            }
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn the_build_is_told() {
        let text = Metrics::new().unwrap().render().unwrap();
        let series = format!("mmsproxy_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(value(&text, &series), Some(1.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_told() {
        let text = Metrics::new().unwrap().render().unwrap();
        assert!(value(&text, "process_open_fds").unwrap() > 0.0);
        assert!(value(&text, "process_resident_memory_bytes").unwrap() > 0.0);
    }

    #[test]
    fn known_series_exist_at_zero() {
        let text = Metrics::new().unwrap().render().unwrap();
        for series in [
            "mmsproxy_connections",
            "mmsproxy_viewers{content=\"broadcast\",funnel=\"tcp\"}",
            "mmsproxy_viewers{content=\"on_demand\",funnel=\"udp\"}",
            "mmsproxy_viewer_sessions_total{result=\"kicked\"}",
            "mmsproxy_refused_total{reason=\"policy\"}",
            "mmsproxy_viewer_skips_total",
            "mmsproxy_viewer_sent_bytes_total{content=\"broadcast\",funnel=\"tcp\"}",
            "mmsproxy_viewer_sent_packets_total{content=\"on_demand\",funnel=\"tcp\"}",
            "mmsproxy_viewer_logs_total",
            "mmsproxy_access_log_errors_total",
            "mmsproxy_origin_sessions",
            "mmsproxy_origin_sessions_total{result=\"failed\"}",
            "mmsproxy_origin_errors_total{reason=\"connect\"}",
            "mmsproxy_origin_received_bytes_total",
            "mmsproxy_held_bytes{holder=\"sessions\"}",
            "mmsproxy_join_seconds_count{content=\"broadcast\"}",
        ] {
            assert_eq!(value(&text, series), Some(0.0), "{series}");
        }
    }

    #[test]
    fn each_reason_of_a_refusal_has_its_series() {
        for reason in [
            Reason::Denied,
            Reason::InvalidName,
            Reason::Invalid,
            Reason::Loop,
            Reason::Busy,
            Reason::Timeout,
            Reason::Draining,
            Reason::NotFound,
            Reason::UnknownHost,
            Reason::Unreachable,
            Reason::Lost,
            Reason::Protocol,
            Reason::BadContent,
            Reason::Origin,
            Reason::Internal,
        ] {
            assert!(REFUSED_REASONS.contains(&reason.label()), "{}", reason.label());
        }
    }

    #[test]
    fn labels_are_bounded() {
        let known: &[(&str, &[&str])] = &[
            ("content", &CONTENT),
            ("funnel", &FUNNEL),
            ("holder", &HOLDERS),
            ("version", &[env!("CARGO_PKG_VERSION")]),
        ];
        let text = Metrics::new().unwrap().render().unwrap();
        for (name, labels, _) in samples(&text) {
            for (label, value) in labels {
                let values: &[&str] = match (label.as_str(), name.as_str()) {
                    ("le", "mmsproxy_join_seconds_bucket") => continue,
                    ("result", "mmsproxy_viewer_sessions_total") => &VIEWER_RESULTS,
                    ("result", "mmsproxy_origin_sessions_total") => &ORIGIN_RESULTS,
                    ("result", "mmsproxy_split_reconnects_total") => &RECONNECTS,
                    ("result", "mmsproxy_cache_requests_total") => &CACHE_RESULTS,
                    ("reason", "mmsproxy_cache_errors_total") => &CACHE_ERRORS,
                    ("result", "mmsproxy_resends_total") => &RESENDS,
                    ("reason", "mmsproxy_refused_total") => &REFUSED_REASONS,
                    ("reason", "mmsproxy_origin_errors_total") => &ORIGIN_REASONS,
                    _ => known.iter().find(|(known, _)| *known == label).unwrap_or_else(|| panic!("{name} {label}")).1,
                };
                assert!(values.contains(&value.as_str()), "{name} {label}={value}");
            }
        }
    }

    #[test]
    fn two_registries_do_not_meet() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.counters.connections.inc();
        assert_eq!(value(&one.render().unwrap(), "mmsproxy_connections"), Some(1.0));
        assert_eq!(value(&other.render().unwrap(), "mmsproxy_connections"), Some(0.0));
    }
}
