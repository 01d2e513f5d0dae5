//! The extended log format of the W3C, with the 52 fields of Windows Media Services 9 in their order: what tools that
//! read the logs of media servers know.

use std::time::SystemTime;

use super::record::Record;
use super::text::{field, or_dash, url};
use crate::wire::mmsp::client_log::{ClientLog, Version};

/// A play, and what its player reported of it.
struct Line<'a> {
    record: &'a Record,
    report: Option<&'a ClientLog>,
}

/// A field: its name, and how it is written; empty is `-`.
type Field = (&'static str, fn(&Line<'_>) -> String);

/// Ours where we measure; the player's where it alone knows. Windows Media Services leaves `c-dns` empty, and dates a
/// line by its beginning.
const FIELDS: [Field; 52] = [
    ("c-ip", |l| l.record.who.client.ip().to_string()),
    ("date", |l| l.date_and_time().0),
    ("time", |l| l.date_and_time().1),
    ("c-dns", |_| String::new()),
    ("cs-uri-stem", |l| url(&l.record.stem())),
    ("c-starttime", |l| match l.report {
        Some(log) => (log.info.start_time_ms / 1000).to_string(),
        None => l.record.start.map(|start| start.as_secs().to_string()).unwrap_or_default(),
    }),
    ("x-duration", |l| match l.report {
        Some(log) => seconds(log.info.played_ms),
        None => l.record.lasted.as_millis().div_ceil(1000).to_string(),
    }),
    ("c-rate", |l| match l.report {
        Some(log) => log.info.rate.to_string(),
        None => l.record.rate.map(|rate| rate.to_string()).unwrap_or_default(),
    }),
    ("c-status", |l| l.record.outcome.status.to_string()),
    ("c-playerid", |l| {
        let said = l.said(|log| &log.info.unique_pid);
        let guid = l.record.who.guid.as_ref().filter(|_| said == "-");
        guid.map_or(said, |guid| field(&format!("{{{guid}}}")))
    }),
    ("c-playerversion", |l| {
        let said = l.version(|log| log.info.client_version);
        let own = l.record.who.player.split_once('/').filter(|_| said.is_empty());
        own.map_or(said, |(_, version)| field(version))
    }),
    ("c-playerlanguage", |l| l.said(|log| &log.info.lang)),
    ("cs(User-Agent)", |l| match l.said(|log| &log.info.user_agent) {
        nothing if nothing == "-" => field(&l.record.who.player),
        said => said,
    }),
    ("cs(Referer)", |l| l.said_url(|log| &log.info.hosting_web_page)),
    ("c-hostexe", |l| l.said(|log| &log.info.host_exe)),
    ("c-hostexever", |l| l.version(|log| log.info.host_exe_ver)),
    ("c-os", |l| l.said(|log| &log.os)),
    ("c-osversion", |l| l.version(|log| log.os_version)),
    ("c-cpu", |l| l.said(|log| &log.cpu)),
    ("filelength", |l| match (l.record.content, l.report) {
        (Some(content), _) => content.duration_seconds.ceil().clamp(0.0, f64::from(u32::MAX)).to_string(),
        (None, Some(log)) => seconds(log.info.file_duration_ms),
        (None, None) => String::new(),
    }),
    ("filesize", |l| l.number(|log| log.info.file_size)),
    ("avgbandwidth", |l| l.number(|log| log.info.avg_bandwidth_bps)),
    ("protocol", |_| "mms".to_owned()),
    ("transport", |l| l.record.transport.to_owned()),
    ("audiocodec", |l| l.said(|log| &log.info.audio_codec)),
    ("videocodec", |l| l.said(|log| &log.info.video_codec)),
    ("channelURL", |l| l.said_url(|log| &log.info.channel_url)),
    ("sc-bytes", |l| l.record.sent.bytes.to_string()),
    ("c-bytes", |l| l.number(|log| log.info.bytes_received)),
    ("s-pkts-sent", |l| l.record.sent.packets.to_string()),
    ("c-pkts-received", |l| l.number(|log| log.info.packets_received)),
    ("c-pkts-lost-client", |l| l.number(|log| log.info.packets_lost_client)),
    ("c-pkts-lost-net", |l| l.number(|log| log.packets_lost_net)),
    ("c-pkts-lost-cont-net", |l| l.number(|log| log.packets_lost_cont_net)),
    ("c-resendreqs", |l| l.number(|log| log.resend_requests)),
    ("c-pkts-recovered-ECC", |l| l.number(|log| log.info.packets_recovered_ecc)),
    ("c-pkts-recovered-resent", |l| l.number(|log| log.packets_recovered_resent)),
    ("c-buffercount", |l| l.number(|log| log.info.buffering_count)),
    ("c-totalbuffertime", |l| l.report.map(|log| seconds(log.info.buffering_time_ms)).unwrap_or_default()),
    ("c-quality", |l| l.number(|log| log.info.min_reception_quality.min(100))),
    ("s-ip", |l| l.record.who.server.map(|ip| ip.to_string()).unwrap_or_default()),
    ("s-dns", |_| String::new()),
    ("s-totalclients", |l| l.record.connections.to_string()),
    ("s-cpu-util", |_| String::new()),
    ("cs-user-name", |_| String::new()),
    ("s-session-id", |l| l.record.who.session_id.to_string()),
    ("s-content-path", |_| String::new()),
    ("cs-url", |l| l.record.url().map(|text| url(&text)).unwrap_or_default()),
    ("cs-media-name", |_| String::new()),
    ("c-max-bandwidth", |_| String::new()),
    ("cs-media-role", |_| String::new()),
    ("s-proxied", |_| "1".to_owned()),
];

/// What stands above the lines, whenever a file is opened.
pub(super) fn header(now: SystemTime) -> String {
    let (date, time) = date_and_time(now);
    let names = FIELDS.map(|(name, _)| name).join(" ");
    let version = env!("CARGO_PKG_VERSION");
    format!("#Software: mmsproxy/{version}\n#Version: 1.0\n#Date: {date} {time}\n#Fields: {names}\n")
}

/// One line, with its end.
pub(super) fn line(record: &Record, report: Option<&ClientLog>) -> String {
    let line = Line { record, report };
    let mut text = FIELDS.map(|(_, write)| or_dash(write(&line))).join(" ");
    text.push('\n');
    text
}

impl Line<'_> {
    fn date_and_time(&self) -> (String, String) {
        date_and_time(self.record.started_at)
    }

    fn said(&self, value: fn(&ClientLog) -> &String) -> String {
        self.report.map_or_else(|| "-".to_owned(), |log| field(value(log)))
    }

    fn said_url(&self, value: fn(&ClientLog) -> &String) -> String {
        self.report.map(|log| url(value(log).trim())).unwrap_or_default()
    }

    fn number<N: ToString>(&self, value: fn(&ClientLog) -> N) -> String {
        self.report.map(|log| value(log).to_string()).unwrap_or_default()
    }

    fn version(&self, value: fn(&ClientLog) -> Version) -> String {
        self.report.map(value).filter(|version| version.0 != 0).map(|version| version.to_string()).unwrap_or_default()
    }
}

/// Whole seconds, rounded up, as Windows Media Services does: what was short is not nothing.
fn seconds(ms: u32) -> String {
    ms.div_ceil(1000).to_string()
}

/// UTC.
fn date_and_time(time: SystemTime) -> (String, String) {
    let text = humantime::format_rfc3339_seconds(super::in_calendar(time)).to_string();
    let (date, time) = text.split_once('T').unwrap_or_default();
    (date.to_owned(), time.trim_end_matches('Z').to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::record::testing::{client_log, record};
    use super::*;

    /// As Windows Media Services 9 has them.
    const NAMES: &str = "c-ip date time c-dns cs-uri-stem c-starttime x-duration c-rate c-status c-playerid \
        c-playerversion c-playerlanguage cs(User-Agent) cs(Referer) c-hostexe c-hostexever c-os c-osversion c-cpu \
        filelength filesize avgbandwidth protocol transport audiocodec videocodec channelURL sc-bytes c-bytes \
        s-pkts-sent c-pkts-received c-pkts-lost-client c-pkts-lost-net c-pkts-lost-cont-net c-resendreqs \
        c-pkts-recovered-ECC c-pkts-recovered-resent c-buffercount c-totalbuffertime c-quality s-ip s-dns \
        s-totalclients s-cpu-util cs-user-name s-session-id s-content-path cs-url cs-media-name c-max-bandwidth \
        cs-media-role s-proxied";

    #[test]
    fn the_header_names_the_fields() {
        let header = header(SystemTime::UNIX_EPOCH + Duration::from_secs(951_000_152));
        let software = concat!("#Software: mmsproxy/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            header.lines().collect::<Vec<_>>(),
            [software, "#Version: 1.0", "#Date: 2000-02-19 22:42:32", &format!("#Fields: {NAMES}")]
        );
    }

    #[test]
    fn a_play_without_a_report_is_told_as_we_measured_it() {
        assert_eq!(
            line(&record(), None),
            "192.0.2.10 2000-02-19 22:42:32 - /clips/a%20talk.asf 12 3 1 200 \
             {68c0a090-8797-11d2-a2b3-00a0c9b60551} 7.0.0.1956 - NSPlayer/7.0.0.1956 - - - - - - 67 - - mms TCP - - - \
             94500 - 65 - - - - - - - - - - 192.0.2.1 - 3 - - 7 - \
             mms://media.example/clips/a%20talk.asf?WMBitrate=300 - - - 1\n"
        );
    }

    #[test]
    fn a_report_completes_it() {
        assert_eq!(
            line(&record(), Some(&client_log())),
            "192.0.2.10 2000-02-19 22:42:32 - /clips/a%20talk.asf 12 3 1 200 \
             {287978e9-a059-4c08-bfc9-da2dddf38a22} 6.4.9.1109 en-US \
             Mozilla/4.0_(compatible;_MSIE_5.01;_Windows_NT_5.0) - iexplore.exe 5.0.2920.0 Windows_2000 5.0.0.2195 \
             Pentium 67 2139795 79630 mms TCP Windows_Media_Audio_V2 - - 94500 93980 65 64 1 2 1 4 0 1 1 5 98 \
             192.0.2.1 - 3 - - 7 - mms://media.example/clips/a%20talk.asf?WMBitrate=300 - - - 1\n"
        );
    }

    #[test]
    fn a_report_of_lies_stays_in_its_fields() {
        let evil = "x y\n192.0.2.66 2000-01-01\r#Fields: a \"b".to_owned();
        let mut log = client_log();
        for text in [&mut log.info.host_exe, &mut log.info.hosting_web_page, &mut log.info.unique_pid, &mut log.os] {
            text.clone_from(&evil);
        }
        log.info.min_reception_quality = u32::MAX;
        let mut record = record();
        record.name = "a\nb c\"".into();
        let text = line(&record, Some(&log));
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(text.trim_end().split(' ').count(), FIELDS.len());
        assert!(text.contains(" /a%0Ab%20c%22 ") && text.contains(" 100 192.0.2.1 "), "{text}");
    }

    #[test]
    fn a_refusal_has_no_media() {
        let mut record = record();
        (record.content, record.start, record.rate) = (None, None, None);
        (record.lasted, record.outcome.status) = (Duration::ZERO, 404);
        let text = line(&record, None);
        assert!(text.contains("/clips/a%20talk.asf - 0 - 404 {"), "{text}");
    }
}
