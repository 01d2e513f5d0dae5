//! Synthetic content: one video stream, a media object to a packet, a key frame every second. Each object begins with a mark
//! and a stamp, so that whoever receives a packet knows that it is whole, and whatever the stamp tells.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::Args;
use mmsproxy::asf::{Guid, Header, HeaderBuilder, StreamNumber, VideoFormat};
use serde::{Deserialize, Serialize};

/// Where the mark stands in an ASF data packet: behind error correction, flags, send time, duration (11 bytes), and a
/// payload's number, offset and replicated data (15).
pub const MARK_AT: usize = 26;
/// What each media object begins with.
pub const MARK: [u8; 8] = *b"mmsFANO\xA5";
/// How far a packet is to be read for its stamp.
pub const STAMP_END: usize = MARK_AT + MARK.len() + 8;
/// The one stream.
pub const VIDEO: u16 = 1;
/// How much a player is told to buffer.
pub const PREROLL: Duration = Duration::from_secs(2);

const KEY_FRAME_EVERY: u64 = 1_000_000_000;

/// What the content looks like.
#[derive(Args, Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Shape {
    /// Bytes of an ASF data packet.
    #[arg(long, default_value_t = 1450, value_parser = parse_packet)]
    pub packet: usize,
    /// Bit rate of the content, as in 300k.
    #[arg(long, default_value = "300k", value_parser = parse_rate)]
    pub rate: u64,
}

impl Shape {
    /// Time from the beginning of the content to packet `number`, in nanoseconds.
    pub fn offset(self, number: u64) -> u64 {
        let bits = u128::from(number) * self.packet as u128 * 8;
        (bits * 1_000_000_000 / u128::from(self.rate)) as u64
    }

    /// Whether packet `number` is a key frame.
    pub fn is_key_frame(self, number: u64) -> bool {
        let second = |number| self.offset(number) / KEY_FRAME_EVERY;
        number.checked_sub(1).is_none_or(|before| second(before) != second(number))
    }

    /// The ASF file header, that of a broadcast.
    pub fn header(self) -> anyhow::Result<Header> {
        let number = StreamNumber::new(VIDEO).context("no stream number")?;
        let header = HeaderBuilder::new(u32::try_from(self.packet)?)
            .file_id(Guid(*b"mmsproxy: fanout"))
            .preroll_ms(PREROLL.as_millis() as u64)
            .video(number, u32::try_from(self.rate)?, &VideoFormat::motion_jpeg(320, 240))
            .build()?;
        Ok(header)
    }

    /// Packet `number`: ASF 5.2, a single payload without padding.
    pub fn packet(self, number: u64, stamp: u64) -> Vec<u8> {
        let send_time_ms = (self.offset(number) / 1_000_000) as u32;
        let duration_ms = ((self.offset(number + 1) - self.offset(number)) / 1_000_000) as u16;
        let presentation_ms = send_time_ms.wrapping_add(PREROLL.as_millis() as u32);
        let mut packet = Vec::with_capacity(self.packet);
        packet.extend([0x82, 0, 0, 0x00, 0x5D]);
        packet.extend(send_time_ms.to_le_bytes());
        packet.extend(duration_ms.to_le_bytes());
        packet.extend([VIDEO as u8 | u8::from(self.is_key_frame(number)) << 7, number as u8]);
        packet.extend([0; 4]); // offset into the object
        packet.push(8);
        packet.extend(((self.packet - MARK_AT) as u32).to_le_bytes());
        packet.extend(presentation_ms.to_le_bytes());
        packet.extend(MARK);
        packet.extend(stamp.to_le_bytes());
        packet.resize(self.packet, 0xA5);
        packet
    }

    /// The arguments that describe it to another process.
    pub fn arguments(self) -> [String; 4] {
        ["--packet".into(), self.packet.to_string(), "--rate".into(), self.rate.to_string()]
    }
}

/// The wall clock in nanoseconds: the same in all processes of this machine.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Bits per second, as in 300k or 1.5M.
pub fn parse_rate(text: &str) -> anyhow::Result<u64> {
    let (number, unit) = match text.strip_suffix(['k', 'M']) {
        Some(number) if text.ends_with('k') => (number, 1e3),
        Some(number) => (number, 1e6),
        None => (text, 1.0),
    };
    let rate = number.parse::<f64>().context("a rate is a number, k or M behind it")? * unit;
    ensure!((1e3..=1e9).contains(&rate), "a rate is 1k to 1000M");
    Ok(rate as u64)
}

fn parse_packet(text: &str) -> anyhow::Result<usize> {
    let size = text.parse()?;
    ensure!((100..=60_000).contains(&size), "a packet has 100 to 60000 bytes");
    Ok(size)
}
