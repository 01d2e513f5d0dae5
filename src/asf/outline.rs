//! What a gate needs to know of a packet, read once and asked by every viewer (ASF 5.2.3).

use super::{Packet, PacketError, StreamNumber};

/// Send time and payloads of a packet, without the packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outline {
    send_time_ms: u32,
    parts: Box<[Part]>,
}

/// One payload of an outline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// The object, counted per stream, modulo the width of the field.
    pub object_number: u32,
    /// Whose payload it is.
    pub stream: StreamNumber,
    /// It belongs to a key object.
    pub key_frame: bool,
    /// The data begin a media object.
    pub starts_object: bool,
}

impl Outline {
    /// Reads a packet, with padding or without.
    ///
    /// # Errors
    /// Bytes that are no packet (ASF 5.2).
    pub fn read(packet: &[u8]) -> Result<Self, PacketError> {
        Packet::parse(packet).map(|packet| Self::of(&packet))
    }

    /// The outline of a packet that has been parsed already.
    pub fn of(packet: &Packet<'_>) -> Self {
        let mut parts = Vec::with_capacity(packet.payload_count());
        parts.extend(packet.payloads().map(|payload| Part {
            object_number: payload.object_number,
            stream: payload.stream,
            key_frame: payload.key_frame,
            starts_object: payload.starts_object(),
        }));
        Self { send_time_ms: packet.send_time_ms(), parts: parts.into() }
    }

    /// When the packet is due, in milliseconds on the clock of its content; wraps after 49 days.
    pub fn send_time_ms(&self) -> u32 {
        self.send_time_ms
    }

    /// The payloads in order, at most 63.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The streams of which a key frame begins in this packet; one with two of them is named twice.
    pub fn key_frames(&self) -> impl Iterator<Item = StreamNumber> {
        self.parts.iter().filter(|part| part.key_frame && part.starts_object).map(|part| part.stream)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        size_of_val::<[Part]>(&self.parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{self, MULTIPLE, SINGLE};
    use super::*;

    #[test]
    fn a_key_frame_is_named_where_it_begins() {
        let keys = |bytes| Outline::read(bytes).unwrap().key_frames().map(StreamNumber::get).collect::<Vec<_>>();
        assert_eq!(keys(MULTIPLE), [1]);
        assert!(keys(SINGLE).is_empty()); // it goes on here
    }

    #[test]
    fn a_payload_takes_eight_bytes() {
        assert_eq!(Outline::read(MULTIPLE).unwrap().heap_bytes(), 2 * 8);
    }

    proptest! {
        #[test]
        fn an_outline_says_what_the_packet_says(bytes in testing::mutated()) {
            let Ok(packet) = Packet::parse(&bytes) else {
                prop_assert!(Outline::read(&bytes).is_err());
                return Ok(());
            };
            let outline = Outline::read(&bytes).unwrap();
            prop_assert_eq!(outline.send_time_ms(), packet.send_time_ms());
            prop_assert_eq!(outline.parts().len(), packet.payload_count());
            for (part, payload) in outline.parts().iter().zip(packet.payloads()) {
                prop_assert_eq!((part.stream, part.object_number), (payload.stream, payload.object_number));
                prop_assert_eq!((part.key_frame, part.starts_object), (payload.key_frame, payload.offset == 0));
            }
            for stream in (1..=127).filter_map(StreamNumber::new) {
                let begins = outline.key_frames().any(|key| key == stream);
                prop_assert_eq!(begins, packet.starts_key_frame(stream));
            }
        }
    }
}
