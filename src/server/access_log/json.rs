//! An object a line. The names of the fields are the project's outside: they stay, and new ones come beside them.

use std::time::SystemTime;

use serde::Serialize;

use super::record::Record;
use super::text::{plain, url};
use crate::wire::mmsp::client_log::{ClientLog, Version};

/// What we measured.
#[derive(Debug, Serialize)]
struct Line {
    /// RFC 3339, as is `ended_at`.
    started_at: String,
    ended_at: String,
    session_id: u64,
    client: String,
    server: Option<String>,
    protocol: &'static str,
    transport: &'static str,
    name: String,
    url: Option<String>,
    /// `broadcast` or `on_demand`; null where nothing was open.
    content: Option<&'static str>,
    content_seconds: Option<f64>,
    player: Option<String>,
    player_id: Option<String>,
    start_seconds: Option<f64>,
    rate: Option<f64>,
    duration_seconds: f64,
    sent_bytes: u64,
    sent_packets: u64,
    status: u16,
    hresult: String,
    reason: Option<String>,
    connections: i64,
    /// What the player said; null where it said nothing.
    report: Option<Report>,
}

/// CLIENT_LOG in the words of the specification, [MS-MMSP] 2.2.1.
#[derive(Debug, Serialize)]
struct Report {
    url: Option<String>,
    channel_url: Option<String>,
    user_agent: Option<String>,
    hosting_web_page: Option<String>,
    client_version: Option<String>,
    lang: Option<String>,
    unique_pid: Option<String>,
    host_exe: Option<String>,
    host_exe_ver: Option<String>,
    computer_dns: Option<String>,
    os: Option<String>,
    os_version: Option<String>,
    cpu: Option<String>,
    protocol: Option<String>,
    transport: Option<String>,
    file_duration_ms: u32,
    file_size: u64,
    avg_bandwidth_bps: u32,
    audio_codec: Option<String>,
    video_codec: Option<String>,
    start_time_ms: u32,
    played_ms: u32,
    rate: i16,
    buffering_count: u32,
    buffering_time_ms: u32,
    bytes_received: u64,
    packets_received: u32,
    packets_lost_client: u32,
    packets_lost_net: u32,
    packets_lost_cont_net: u32,
    resend_requests: u32,
    packets_recovered_ecc: u32,
    packets_recovered_resent: u32,
    packets_resent: u32,
    min_reception_quality: u32,
}

/// One line, with its end. Empty where a value can't be written as JSON, which none of these is.
pub(super) fn line(record: &Record, report: Option<&ClientLog>) -> String {
    let mut text = serde_json::to_string(&Line::new(record, report)).unwrap_or_default();
    text.push('\n');
    text
}

impl Line {
    fn new(record: &Record, report: Option<&ClientLog>) -> Self {
        let Record { who, content, outcome, .. } = record;
        let ended_at = record.started_at.checked_add(record.lasted).unwrap_or(record.started_at);
        Self {
            started_at: rfc3339(record.started_at),
            ended_at: rfc3339(ended_at),
            session_id: who.session_id,
            client: who.client.to_string(),
            server: who.server.map(|ip| ip.to_string()),
            protocol: "mms",
            transport: record.transport,
            name: plain(&record.name).unwrap_or_default(),
            url: record.url().map(|text| url(&text)),
            content: content.map(|content| if content.broadcast { "broadcast" } else { "on_demand" }),
            content_seconds: content.map(|content| content.duration_seconds),
            player: plain(&who.player),
            player_id: who.guid.as_deref().and_then(plain),
            start_seconds: record.start.map(|start| start.as_secs_f64()),
            rate: record.rate,
            duration_seconds: record.lasted.as_secs_f64(),
            sent_bytes: record.sent.bytes,
            sent_packets: record.sent.packets,
            status: outcome.status,
            hresult: format!("0x{:08X}", outcome.hresult.0),
            reason: outcome.reason.as_deref().and_then(plain),
            connections: record.connections,
            report: report.map(Report::new),
        }
    }
}

impl Report {
    fn new(log: &ClientLog) -> Self {
        let info = &log.info;
        Self {
            url: plain(&info.url),
            channel_url: plain(&info.channel_url),
            user_agent: plain(&info.user_agent),
            hosting_web_page: plain(&info.hosting_web_page),
            client_version: version(info.client_version),
            lang: plain(&info.lang),
            unique_pid: plain(&info.unique_pid),
            host_exe: plain(&info.host_exe),
            host_exe_ver: version(info.host_exe_ver),
            computer_dns: plain(&log.computer_dns),
            os: plain(&log.os),
            os_version: version(log.os_version),
            cpu: plain(&log.cpu),
            protocol: plain(&log.protocol),
            transport: plain(&log.transport),
            file_duration_ms: info.file_duration_ms,
            file_size: info.file_size,
            avg_bandwidth_bps: info.avg_bandwidth_bps,
            audio_codec: plain(&info.audio_codec),
            video_codec: plain(&info.video_codec),
            start_time_ms: info.start_time_ms,
            played_ms: info.played_ms,
            rate: info.rate,
            buffering_count: info.buffering_count,
            buffering_time_ms: info.buffering_time_ms,
            bytes_received: info.bytes_received,
            packets_received: info.packets_received,
            packets_lost_client: info.packets_lost_client,
            packets_lost_net: log.packets_lost_net,
            packets_lost_cont_net: log.packets_lost_cont_net,
            resend_requests: log.resend_requests,
            packets_recovered_ecc: info.packets_recovered_ecc,
            packets_recovered_resent: log.packets_recovered_resent,
            packets_resent: log.packets_resent,
            min_reception_quality: info.min_reception_quality,
        }
    }
}

fn version(version: Version) -> Option<String> {
    (version.0 != 0).then(|| version.to_string())
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(super::in_calendar(time)).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::record::testing::{client_log, record};
    use super::*;

    fn parsed(line: &str) -> Value {
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_play_is_an_object() {
        let expected = json!({
            "started_at": "2000-02-19T22:42:32.250Z",
            "ended_at": "2000-02-19T22:42:34.750Z",
            "session_id": 7,
            "client": "192.0.2.10:1037",
            "server": "192.0.2.1",
            "protocol": "mms",
            "transport": "TCP",
            "name": "clips/a talk.asf?WMBitrate=300",
            "url": "mms://media.example/clips/a%20talk.asf?WMBitrate=300",
            "content": "on_demand",
            "content_seconds": 66.2,
            "player": "NSPlayer/7.0.0.1956",
            "player_id": "68c0a090-8797-11d2-a2b3-00a0c9b60551",
            "start_seconds": 12.9,
            "rate": 1.0,
            "duration_seconds": 2.5,
            "sent_bytes": 94_500,
            "sent_packets": 65,
            "status": 200,
            "hresult": "0x00000000",
            "reason": null,
            "connections": 3,
            "report": null,
        });
        assert_eq!(parsed(&line(&record(), None)), expected);
    }

    #[test]
    fn a_report_stands_in_it_and_stays_on_its_line() {
        let mut log = client_log();
        log.os = "Win\n2000\u{9b}".into();
        let line = parsed(&line(&record(), Some(&log)));
        let report = &line["report"];
        assert_eq!((&report["os"], &report["video_codec"]), (&json!("Win?2000?"), &Value::Null));
        assert_eq!((&report["played_ms"], &report["client_version"]), (&json!(2001), &json!("6.4.9.1109")));
    }

    #[test]
    fn numbers_that_json_does_not_know_are_null() {
        let mut record = record();
        record.rate = Some(f64::NAN);
        assert_eq!(parsed(&line(&record, None))["rate"], Value::Null);
    }
}
