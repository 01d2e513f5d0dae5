//! `CLIENT_LOG` and `CLIENT_LOG_INFO`, [MS-MMSP] 2.2.1: what a client tells of how it went. Packed, without the paddings of
//! the messages, and with strings in 8-bit characters.

use std::{fmt, iter};

use super::ids::{FileId, HResult};
use crate::wire::codec::{DecodeError, Reader};

/// Bytes of a `CLIENT_LOG`.
pub const LEN: usize = 1490;
/// Bytes of a `CLIENT_LOG_INFO`.
pub const INFO_LEN: usize = 1142;

/// `CLIENT_LOG`, [MS-MMSP] 2.2.1.1. Strings that say nothing are `-`; each is cut to its field when written, and characters
/// beyond Latin-1 become `?`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientLog {
    /// `info`.
    pub info: ClientLogInfo,
    /// `dwSourceId`: `openFileId`.
    pub source_id: FileId,
    /// `dwIPAddress`: 0xFFFFFFFF, from old clients their IPv4 address.
    pub ip_address: u32,
    /// `szComputerDNS`: `-`, from old clients their name. 259 characters.
    pub computer_dns: String,
    /// `szOS`. 15 characters.
    pub os: String,
    /// `qwOSVersion`.
    pub os_version: Version,
    /// `szCPU`. 15 characters.
    pub cpu: String,
    /// `szProto`: `mms`. 7 characters.
    pub protocol: String,
    /// `szTransport`: `UDP` or `TCP`, the way of the Data packets. 7 characters.
    pub transport: String,
    /// `dwPacketsLostNet`: Data packets lost on the network.
    pub packets_lost_net: u32,
    /// `dwPacketsLostContNet`: the most Data packets lost in a row.
    pub packets_lost_cont_net: u32,
    /// `dwResendRequests`: Data packets asked for again.
    pub resend_requests: u32,
    /// `dwPacketsRecoveredResent`: Data packets recovered by that.
    pub packets_recovered_resent: u32,
    /// `dwPacketsResent`: Data packets that were sent again.
    pub packets_resent: u32,
}

/// `CLIENT_LOG_INFO`, [MS-MMSP] 2.2.1.2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientLogInfo {
    /// `szURL`: the content. 259 characters.
    pub url: String,
    /// `szChannelURL`: the .nsc file that named it. 259 characters.
    pub channel_url: String,
    /// `szUserAgent`: of the browser the player is embedded in. 63 characters.
    pub user_agent: String,
    /// `szHostingWebPage`: the page it is embedded in. 259 characters.
    pub hosting_web_page: String,
    /// `qwClientVersion`.
    pub client_version: Version,
    /// `szLang`, as `en-US`. 15 characters.
    pub lang: String,
    /// `szUniquePID`: ties the reports of one session together. 39 characters.
    pub unique_pid: String,
    /// `szHostExe`: the program the player is part of. 31 characters.
    pub host_exe: String,
    /// `qwHostExeVer`.
    pub host_exe_ver: Version,
    /// `msFileDuration` in milliseconds; 0 if live.
    pub file_duration_ms: u32,
    /// `qwFileSize` in bytes; 0 if live.
    pub file_size: u64,
    /// `dwAvgBandwidthBps` in bits per second, as received.
    pub avg_bandwidth_bps: u32,
    /// `szAudioCodec`. 63 characters.
    pub audio_codec: String,
    /// `szVideoCodec`. 63 characters.
    pub video_codec: String,
    /// `msStartTime` in milliseconds of content; 0 if live.
    pub start_time_ms: u32,
    /// `msPlayed` in milliseconds of content.
    pub played_ms: u32,
    /// `rate`: 1 is normal, negative is backward.
    pub rate: i16,
    /// `dwBufferingCount`.
    pub buffering_count: u32,
    /// `msBufferingTime` in milliseconds.
    pub buffering_time_ms: u32,
    /// `qwBytesReceived`: payload of Data packets.
    pub bytes_received: u64,
    /// `dwPacketsReceived`: Data packets.
    pub packets_received: u32,
    /// `dwPacketsLostClient`: Data packets that never came.
    pub packets_lost_client: u32,
    /// `dwPacketsRecoveredECC`: 0.
    pub packets_recovered_ecc: u32,
    /// `dwMinReceptionQuality`: 0 to 100, the least percentage received in 30 seconds.
    pub min_reception_quality: u32,
    /// `hr`: 0.
    pub hr: HResult,
}

/// A version of four 16-bit parts, the first in the top 16 bits ([MS-MMSP] 2.2.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [d1, d0, c1, c0, b1, b0, a1, a0] = self.0.to_le_bytes();
        let part = |low, high| u16::from_le_bytes([low, high]);
        write!(f, "{}.{}.{}.{}", part(a1, a0), part(b1, b0), part(c1, c0), part(d1, d0))
    }
}

impl ClientLog {
    /// Reads what Logging carries. One that is too short is an error, bytes behind it are dropped, and neither size it states
    /// is believed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("CLIENT_LOG", bytes);
        r.skip(4)?; // cbSize
        Ok(Self {
            info: ClientLogInfo::decode(&mut r)?,
            source_id: FileId(r.u32()?),
            ip_address: r.u32()?,
            computer_dns: string::<260>(&mut r)?,
            os: string::<16>(&mut r)?,
            os_version: Version(r.u64()?),
            cpu: string::<16>(&mut r)?,
            protocol: string::<8>(&mut r)?,
            transport: string::<8>(&mut r)?,
            packets_lost_net: r.u32()?,
            packets_lost_cont_net: r.u32()?,
            resend_requests: r.u32()?,
            packets_recovered_resent: r.u32()?,
            packets_resent: r.u32()?,
        })
    }

    /// Appends [`LEN`] bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend((LEN as u32).to_le_bytes());
        self.info.encode(out);
        out.extend(self.source_id.0.to_le_bytes());
        out.extend(self.ip_address.to_le_bytes());
        put_string::<260>(out, &self.computer_dns);
        put_string::<16>(out, &self.os);
        out.extend(self.os_version.0.to_le_bytes());
        put_string::<16>(out, &self.cpu);
        put_string::<8>(out, &self.protocol);
        put_string::<8>(out, &self.transport);
        out.extend(self.packets_lost_net.to_le_bytes());
        out.extend(self.packets_lost_cont_net.to_le_bytes());
        out.extend(self.resend_requests.to_le_bytes());
        out.extend(self.packets_recovered_resent.to_le_bytes());
        out.extend(self.packets_resent.to_le_bytes());
    }
}

impl ClientLogInfo {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(4)?; // cbSize
        Ok(Self {
            url: string::<260>(r)?,
            channel_url: string::<260>(r)?,
            user_agent: string::<64>(r)?,
            hosting_web_page: string::<260>(r)?,
            client_version: Version(r.u64()?),
            lang: string::<16>(r)?,
            unique_pid: string::<40>(r)?,
            host_exe: string::<32>(r)?,
            host_exe_ver: Version(r.u64()?),
            file_duration_ms: r.u32()?,
            file_size: r.u64()?,
            avg_bandwidth_bps: r.u32()?,
            audio_codec: string::<64>(r)?,
            video_codec: string::<64>(r)?,
            start_time_ms: r.u32()?,
            played_ms: r.u32()?,
            rate: r.u16()?.cast_signed(),
            buffering_count: r.u32()?,
            buffering_time_ms: r.u32()?,
            bytes_received: r.u64()?,
            packets_received: r.u32()?,
            packets_lost_client: r.u32()?,
            packets_recovered_ecc: r.u32()?,
            min_reception_quality: r.u32()?,
            hr: HResult(r.u32()?),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend((INFO_LEN as u32).to_le_bytes());
        put_string::<260>(out, &self.url);
        put_string::<260>(out, &self.channel_url);
        put_string::<64>(out, &self.user_agent);
        put_string::<260>(out, &self.hosting_web_page);
        out.extend(self.client_version.0.to_le_bytes());
        put_string::<16>(out, &self.lang);
        put_string::<40>(out, &self.unique_pid);
        put_string::<32>(out, &self.host_exe);
        out.extend(self.host_exe_ver.0.to_le_bytes());
        out.extend(self.file_duration_ms.to_le_bytes());
        out.extend(self.file_size.to_le_bytes());
        out.extend(self.avg_bandwidth_bps.to_le_bytes());
        put_string::<64>(out, &self.audio_codec);
        put_string::<64>(out, &self.video_codec);
        out.extend(self.start_time_ms.to_le_bytes());
        out.extend(self.played_ms.to_le_bytes());
        out.extend(self.rate.to_le_bytes());
        out.extend(self.buffering_count.to_le_bytes());
        out.extend(self.buffering_time_ms.to_le_bytes());
        out.extend(self.bytes_received.to_le_bytes());
        out.extend(self.packets_received.to_le_bytes());
        out.extend(self.packets_lost_client.to_le_bytes());
        out.extend(self.packets_recovered_ecc.to_le_bytes());
        out.extend(self.min_reception_quality.to_le_bytes());
        out.extend(self.hr.0.to_le_bytes());
    }
}

/// A client that has nothing to tell yet.
impl Default for ClientLog {
    fn default() -> Self {
        Self {
            info: ClientLogInfo::default(),
            source_id: FileId(0),
            ip_address: 0xFFFF_FFFF,
            computer_dns: nothing(),
            os: nothing(),
            os_version: Version(0),
            cpu: nothing(),
            protocol: "mms".to_owned(),
            transport: "TCP".to_owned(),
            packets_lost_net: 0,
            packets_lost_cont_net: 0,
            resend_requests: 0,
            packets_recovered_resent: 0,
            packets_resent: 0,
        }
    }
}

/// A client that has nothing to tell yet.
impl Default for ClientLogInfo {
    fn default() -> Self {
        Self {
            url: nothing(),
            channel_url: nothing(),
            user_agent: nothing(),
            hosting_web_page: nothing(),
            client_version: Version(0),
            lang: nothing(),
            unique_pid: nothing(),
            host_exe: nothing(),
            host_exe_ver: Version(0),
            file_duration_ms: 0,
            file_size: 0,
            avg_bandwidth_bps: 0,
            audio_codec: nothing(),
            video_codec: nothing(),
            start_time_ms: 0,
            played_ms: 0,
            rate: 1,
            buffering_count: 0,
            buffering_time_ms: 0,
            bytes_received: 0,
            packets_received: 0,
            packets_lost_client: 0,
            packets_recovered_ecc: 0,
            min_reception_quality: 100,
            hr: HResult::S_OK,
        }
    }
}

fn nothing() -> String {
    "-".to_owned()
}

/// A string in a field of `N` bytes, the last of which is a NUL even where a client wrote something else.
fn string<const N: usize>(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let field = r.array::<N>()?;
    Ok(field.iter().take(N.saturating_sub(1)).take_while(|&&byte| byte != 0).copied().map(char::from).collect())
}

fn put_string<const N: usize>(out: &mut Vec<u8>, text: &str) {
    let bytes = text.chars().take_while(|&c| c != '\0').map(|c| u8::try_from(c).unwrap_or(b'?'));
    out.extend(bytes.take(N.saturating_sub(1)).chain(iter::repeat(0)).take(N));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(log: &ClientLog) -> Vec<u8> {
        let mut out = Vec::new();
        log.encode(&mut out);
        out
    }

    #[test]
    fn each_field_stands_at_its_offset() {
        // The offsets are those of the tables in 2.2.1, worked out by hand.
        let log = ClientLog {
            info: ClientLogInfo {
                url: "mms://a/b".into(),
                video_codec: "wmv2".into(),
                rate: -5,
                bytes_received: 0x0102_0304_0506_0708,
                hr: HResult(0x0A0B_0C0D),
                ..ClientLogInfo::default()
            },
            source_id: FileId(1),
            os: "Windows".into(),
            packets_resent: 7,
            ..ClientLog::default()
        };
        let bytes = encode(&log);
        assert_eq!(bytes.len(), 1490);
        assert_eq!(bytes[..4], 1490u32.to_le_bytes());
        assert_eq!(bytes[4..8], 1142u32.to_le_bytes());
        assert_eq!(bytes[8..18], *b"mms://a/b\0");
        assert_eq!(bytes[4 + 1032..][..5], *b"wmv2\0");
        assert_eq!(bytes[4 + 1104..][..2], [0xFB, 0xFF]);
        assert_eq!(bytes[4 + 1114..][..8], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[4 + 1134..][..4], [100, 0, 0, 0]);
        assert_eq!(bytes[4 + 1138..][..4], [0x0D, 0x0C, 0x0B, 0x0A]);
        assert_eq!(bytes[1146..1154], [1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(bytes[1154..1156], *b"-\0");
        assert_eq!(bytes[1414..1422], *b"Windows\0");
        assert_eq!(bytes[1454..1470], *b"mms\0\0\0\0\0TCP\0\0\0\0\0");
        assert_eq!(bytes[1486..], [7, 0, 0, 0]);
        assert_eq!(ClientLog::decode(&bytes), Ok(log));
    }

    #[test]
    fn a_short_log_is_refused_and_a_long_one_cut() {
        let mut bytes = encode(&ClientLog::default());
        bytes.extend([0xFF; 6]);
        assert_eq!(ClientLog::decode(&bytes), Ok(ClientLog::default()));
        let refused = ClientLog::decode(&bytes[..1489]).unwrap_err();
        assert_eq!(refused.to_string(), "CLIENT_LOG is cut short: 4 bytes wanted, 3 left");
        let refused = ClientLog::decode(&[]).unwrap_err();
        assert_eq!(refused.to_string(), "CLIENT_LOG is cut short: 4 bytes wanted, 0 left");
    }

    #[test]
    fn a_string_is_cut_to_its_field() {
        let log = ClientLog { os: "Fenêtres € 2026 XP".into(), ..ClientLog::default() };
        assert_eq!(ClientLog::decode(&encode(&log)).unwrap().os, "Fenêtres ? 2026");
    }

    #[test]
    fn a_version_shows_its_four_parts() {
        assert_eq!(Version(0x0009_0000_0000_0BA4).to_string(), "9.0.0.2980");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_err_and_come_back(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            match ClientLog::decode(&bytes) {
                Ok(log) => prop_assert_eq!(ClientLog::decode(&encode(&log)), Ok(log)),
                Err(_) => prop_assert!(bytes.len() < LEN),
            }
        }
    }
}
