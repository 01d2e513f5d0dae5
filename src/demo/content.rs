//! Content generated on the spot, so that no download and no encoder is needed to see a stream: motion-JPEG and PCM, which
//! players of every age decode, in an ASF file as our own writer makes it.

use std::io::Cursor;
use std::time::Duration;

use anyhow::Context;

use super::{picture, sound};
use crate::asf::{Guid, Header, HeaderBuilder, MediaObject, Packetizer, StreamNumber, VideoFormat, WaveFormat, Writer};

/// A file of this length of content, in whole frames of 80 ms; the same for the same length. Picture and tune begin anew
/// without a seam after any multiple of 16 s.
///
/// # Errors
/// None that a length can cause; they are those of the encoder and the writer.
pub fn demo_file(length: Duration) -> anyhow::Result<Vec<u8>> {
    let frames = u32::try_from(length.as_millis().div_ceil(FRAME_MS.into())).context("a file of days")?;
    let header = header(frames)?;
    let mut writer = Writer::new(Cursor::new(Vec::new()), &header)?;
    let mut packetizer = Packetizer::new(&header);
    let mut packets = Vec::new();
    for frame in 0..frames {
        let content_ms = frame.checked_mul(FRAME_MS).context("a file of days")?;
        let samples = sound::pcm(u64::from(frame) * SAMPLES_PER_FRAME, SAMPLES_PER_FRAME);
        let picture = picture::jpeg(Duration::from_millis(content_ms.into()))?;
        // Sound first: whoever is short of bandwidth would rather miss a picture.
        for (stream, data) in [(AUDIO, &samples), (VIDEO, &picture)] {
            packetizer.push(&MediaObject { stream, key_frame: true, content_ms, data }, &mut packets);
        }
        for packet in packets.drain(..) {
            writer.push(&packet)?;
        }
    }
    if let Some(packet) = packetizer.flush() {
        writer.push(&packet)?;
    }
    Ok(writer.finish()?.into_inner())
}

fn header(frames: u32) -> anyhow::Result<Header> {
    let file_id = u128::from_le_bytes(*b"mmsproxy clip\0\0\0") ^ u128::from(frames) << 96;
    let video = VideoFormat::motion_jpeg(picture::WIDTH.into(), picture::HEIGHT.into());
    let header = HeaderBuilder::new(PACKET_SIZE)
        .file_id(Guid(file_id.to_le_bytes()))
        .preroll_ms(PREROLL_MS)
        .audio(AUDIO, &WaveFormat::pcm(1, sound::SAMPLE_RATE, 16))
        .video(VIDEO, VIDEO_BIT_RATE, &video)
        .build()?;
    Ok(header)
}

/// The stream with the tune.
pub const AUDIO: StreamNumber = stream(1);
/// The stream with the pictures.
pub const VIDEO: StreamNumber = stream(2);

const fn stream(number: u16) -> StreamNumber {
    match StreamNumber::new(number) {
        Some(number) => number,
        None => panic!("1 to 127"),
    }
}

/// 12.5 frames a second: whole milliseconds and whole samples, so that a loop has no seam in time.
const FRAME_MS: u32 = 80;
const SAMPLES_PER_FRAME: u64 = sound::SAMPLE_RATE as u64 * FRAME_MS as u64 / 1000;
/// With the 8 bytes before it, two frames of Ethernet.
const PACKET_SIZE: u32 = 2888;
const PREROLL_MS: u64 = 2000;
/// What the pictures need, headers of packets and payloads included.
const VIDEO_BIT_RATE: u32 = 390_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asf::{File, Packet, PacketNumber, StreamKind};

    fn file(seconds: u64) -> File<Vec<u8>> {
        File::open(demo_file(Duration::from_secs(seconds)).unwrap()).unwrap()
    }

    #[test]
    fn it_declares_sound_and_pictures_in_a_header_that_old_players_can_hold() {
        let file = file(1);
        let kinds: Vec<_> = file.header().streams().iter().map(|stream| (stream.number, stream.kind)).collect();
        assert_eq!(kinds, [(AUDIO, StreamKind::Audio), (VIDEO, StreamKind::Video)]);
        // xine and MPlayer have 8 KB for it.
        assert!(file.header().bytes().len() < 8192);
        assert!(file.has_video_index());
        assert!(!file.header().is_live());
    }

    #[test]
    fn it_is_as_long_as_was_asked() {
        assert_eq!(file(2).header().duration(), Duration::from_secs(2));
    }

    #[test]
    fn it_has_every_frame_and_each_is_a_key_frame() {
        let file = file(2);
        let mut starts = Vec::new();
        for number in 0..file.packet_count() {
            let bytes = file.packet(PacketNumber(number)).unwrap();
            for payload in Packet::parse(&bytes).unwrap().payloads().filter(|payload| payload.stream == VIDEO) {
                assert!(payload.key_frame);
                starts.extend(payload.starts_object().then_some(payload.presentation_ms.unwrap()));
            }
        }
        let expected: Vec<u32> = (0..25).map(|frame| 2000 + frame * 80).collect();
        assert_eq!(starts, expected);
    }

    #[test]
    fn it_keeps_to_the_bit_rate_it_declares() {
        let file = file(4);
        let bits = file.packet_count() * u64::from(PACKET_SIZE) * 8;
        let declared = u64::from(file.header().bit_rate()) * 4;
        assert!((declared / 2..=declared).contains(&bits), "{bits} of {declared}");
    }

    #[test]
    fn the_same_length_gives_the_same_bytes() {
        let length = Duration::from_millis(400);
        assert_eq!(demo_file(length).unwrap(), demo_file(length).unwrap());
    }
}
