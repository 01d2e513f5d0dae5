//! What our client role says about a play when no player does: CLIENT_LOG, `[MS-MMSP]` 2.2.1. Every client but the oldest
//! must send one whenever a stream stops (3.1.4.5, 3.1.5.18), and free players never do.

use std::time::Instant;

use bytes::Bytes;

use super::Losses;
use crate::wire::mmsp::client_log::ClientLog;
use crate::wire::mmsp::ids::FileId;

/// Where dwSourceId and szTransport stand in a CLIENT_LOG, 2.2.1.
const SOURCE_ID: std::ops::Range<usize> = 1146..1150;
const TRANSPORT: std::ops::Range<usize> = 1462..1470;

/// What was received since the play began.
#[derive(Clone, Debug)]
pub(super) struct Received {
    since: Instant,
    packets: u32,
    bytes: u64,
    /// Of a play over UDP.
    pub(super) losses: Option<Losses>,
}

impl Received {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, packets: 0, bytes: 0, losses: None }
    }

    pub(super) fn count(&mut self, payload: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(payload as u64);
    }

    /// The report.
    pub(super) fn client_log(&self, now: Instant, url: &str, user_agent: &str, file_id: FileId) -> Bytes {
        let played = now.saturating_duration_since(self.since);
        let seconds = played.as_secs_f64().max(0.001);
        let mut log = ClientLog { source_id: file_id, ..ClientLog::default() };
        log.protocol = "mms".to_owned();
        log.transport = transport(self.losses.is_some()).to_owned();
        log.info.url = url.to_owned();
        log.info.user_agent = user_agent.to_owned();
        log.info.host_exe = "mmsproxy".to_owned();
        log.info.played_ms = u32::try_from(played.as_millis()).unwrap_or(u32::MAX);
        log.info.rate = 1;
        log.info.bytes_received = self.bytes;
        log.info.packets_received = self.packets;
        log.info.avg_bandwidth_bps = (self.bytes as f64 * 8.0 / seconds).clamp(0.0, f64::from(u32::MAX)) as u32;
        let losses = self.losses.unwrap_or_default();
        let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        log.info.packets_lost_client = count(losses.lost);
        log.packets_lost_net = count(losses.lost.saturating_add(losses.recovered));
        log.packets_lost_cont_net = count(losses.longest);
        log.resend_requests = count(losses.asked);
        log.packets_recovered_resent = count(losses.recovered);
        log.packets_resent = count(losses.recovered);
        let received = u64::from(self.packets);
        let quality = received.saturating_mul(100).checked_div(received.saturating_add(losses.lost));
        log.info.min_reception_quality = count(quality.unwrap_or(100));
        let mut bytes = Vec::new();
        log.encode(&mut bytes);
        bytes.into()
    }
}

/// A player's own report, made true for our session: dwSourceId is the origin's openFileId, szTransport the way that
/// our Data came. The rest is the player's, whatever its length.
pub(super) fn relayed(log: &Bytes, file_id: FileId, over_udp: bool) -> Bytes {
    let mut bytes = log.to_vec();
    if let Some(field) = bytes.get_mut(SOURCE_ID) {
        field.copy_from_slice(&file_id.0.to_le_bytes());
    }
    if let Some(field) = bytes.get_mut(TRANSPORT) {
        field.fill(0);
        field.iter_mut().zip(transport(over_udp).bytes()).for_each(|(to, byte)| *to = byte);
    }
    bytes.into()
}

fn transport(over_udp: bool) -> &'static str {
    if over_udp { "UDP" } else { "TCP" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_log_names_the_origins_file_and_our_transport() {
        let mut log = ClientLog { source_id: FileId(1), ..ClientLog::default() };
        log.transport = "UDP".to_owned();
        log.info.packets_received = 77;
        let mut bytes = Vec::new();
        log.encode(&mut bytes);
        for (over_udp, transport) in [(false, "TCP"), (true, "UDP")] {
            let out = ClientLog::decode(&relayed(&bytes.clone().into(), FileId(0x1234), over_udp)).unwrap();
            let told = (out.source_id, out.transport.as_str(), out.info.packets_received);
            assert_eq!(told, (FileId(0x1234), transport, 77));
        }
    }

    #[test]
    fn a_short_log_passes_as_it_is() {
        let short = Bytes::from_static(b"too short to be one");
        assert_eq!(relayed(&short, FileId(1), true), short);
    }
}
