//! Content for the conversations of both roles: two headers, and packets small enough to be read.

use std::sync::Arc;

use bytes::Bytes;

use crate::asf::padding;
use crate::asf::{Header, HeaderBuilder, MediaObject, PacketNumber, Packetizer, StreamNumber, VideoFormat, WaveFormat};
use crate::session::{Description, Opened, Packet};
use crate::wire::mmsp::deframer::{Deframer, Frame};
use crate::wire::mmsp::viewer_to_mac::Message;

/// Bytes of a data packet of the content here; the header takes three pieces of it.
pub(super) const PACKET_SIZE: usize = 200;

pub(super) fn stream(number: u16) -> StreamNumber {
    StreamNumber::new(number).unwrap()
}

fn builder() -> HeaderBuilder {
    HeaderBuilder::new(PACKET_SIZE as u32)
        .video(stream(1), 36_000, &VideoFormat::motion_jpeg(16, 16))
        .audio(stream(2), &WaveFormat::pcm(1, 8000, 8))
}

/// Video 1 and audio 2 at 100 kbit/s.
pub(super) fn header() -> Arc<Header> {
    Arc::new(builder().build().unwrap())
}

/// Another entry: it has a second audio stream.
pub(super) fn other_header() -> Arc<Header> {
    Arc::new(builder().audio(stream(3), &WaveFormat::pcm(1, 8000, 8)).build().unwrap())
}

/// Packet `number`, sent at `ms`, with a frame of video and a piece of audio, and padding.
pub(super) fn packet(number: u64, ms: u32) -> Packet {
    packet_of(number, ms, true)
}

/// The same; the video frame may need others.
pub(super) fn packet_of(number: u64, ms: u32, key_frame: bool) -> Packet {
    let mut packetizer = Packetizer::new(&header());
    let mut full = Vec::new();
    for (number_of_stream, key_frame) in [(1, key_frame), (2, true)] {
        let data = [number as u8; 5];
        let object = MediaObject { stream: stream(number_of_stream), key_frame, content_ms: ms, data: &data };
        packetizer.push(&object, &mut full);
    }
    let bytes = packetizer.flush().unwrap();
    assert!(full.is_empty());
    Packet::new(PacketNumber(number), ms, bytes.clone(), padding::strip(bytes))
}

/// A file of 49 packets, 8 s long.
pub(super) fn file() -> Opened {
    let description = Description {
        can_seek: true,
        duration_seconds: 8.0,
        packet_count: 49,
        bit_rate: 100_000,
        ..Description::default()
    };
    Opened { description, header: header() }
}

/// A live broadcast.
pub(super) fn broadcast() -> Opened {
    let description = Description { broadcast: true, live: true, bit_rate: 100_000, ..Description::default() };
    Opened { description, header: header() }
}

/// All that a player said on one connection.
pub(super) fn recorded(stream: &[u8]) -> Vec<Message> {
    let mut deframer = Deframer::for_server();
    deframer.buffer().extend_from_slice(stream);
    let mut messages = Vec::new();
    while let Some(frame) = deframer.next_frame().unwrap() {
        let Frame::Message(raw) = frame else { panic!("{frame:?}") };
        messages.push(Message::decode(&raw).unwrap());
    }
    messages
}

/// All bytes of the pieces of a header.
pub(super) fn joined(pieces: &[crate::wire::mmsp::data::Data]) -> Bytes {
    pieces.iter().flat_map(|piece| piece.payload.iter().copied()).collect::<Vec<u8>>().into()
}
