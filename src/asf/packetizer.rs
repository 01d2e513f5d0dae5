//! Media objects into data packets of one size (ASF 5.2): small objects share a packet, large ones are cut into fragments.

use bytes::Bytes;

use super::{Header, StreamNumber};

/// A frame of video, some samples of audio, a command.
#[derive(Clone, Copy, Debug)]
pub struct MediaObject<'a> {
    pub stream: StreamNumber,
    /// A decoder can begin here; for audio, every object.
    pub key_frame: bool,
    /// When it plays, in milliseconds of the content; the preroll is added here.
    pub content_ms: u32,
    /// Not empty: an empty object takes no place in a packet. What exceeds 4 GiB is left out.
    pub data: &'a [u8],
}

/// Fills packets, in the form that ffmpeg and Windows Media Encoder use: error correction, several payloads, a WORD of
/// Padding Length.
#[derive(Clone, Debug)]
pub struct Packetizer {
    packet_size: usize,
    preroll_ms: u32,
    /// The number of each stream's next object.
    numbers: Vec<(StreamNumber, u8)>,
    open: Option<Open>,
    last_send_ms: u32,
}

/// The packet that is being filled.
#[derive(Clone, Debug)]
struct Open {
    payloads: Vec<u8>,
    count: u8,
    send_ms: u32,
    end_ms: u32,
}

impl Packetizer {
    /// For the packet size and preroll of a header.
    pub fn new(header: &Header) -> Self {
        Self {
            packet_size: header.packet_size(),
            preroll_ms: u32::try_from(header.file().preroll_ms).unwrap_or(u32::MAX),
            numbers: Vec::new(),
            open: None,
            last_send_ms: 0,
        }
    }

    /// Takes the next object, in the order of times; appends to `packets` those that became full.
    pub fn push(&mut self, object: &MediaObject<'_>, packets: &mut Vec<Bytes>) {
        let data = object.data.get(..u32::MAX as usize).unwrap_or(object.data);
        let number = self.next_number(object.stream);
        let mut offset = 0;
        while offset < data.len() {
            let room = self.room();
            let left = data.len() - offset;
            // A fragment of a few bytes is mostly header.
            if room < left.min(SMALLEST_FRAGMENT) && self.open.is_some() {
                packets.extend(self.flush());
                continue;
            }
            let open = self.open.get_or_insert_with(|| {
                self.last_send_ms = self.last_send_ms.max(object.content_ms);
                Open { payloads: Vec::new(), count: 0, send_ms: self.last_send_ms, end_ms: self.last_send_ms }
            });
            let fragment = data.get(offset..offset + left.min(room)).unwrap_or_default();
            let out = &mut open.payloads;
            out.extend([object.stream.get() | u8::from(object.key_frame) << 7, number]);
            out.extend((offset as u32).to_le_bytes());
            out.push(8);
            out.extend((data.len() as u32).to_le_bytes());
            out.extend(object.content_ms.wrapping_add(self.preroll_ms).to_le_bytes());
            out.extend((fragment.len() as u16).to_le_bytes());
            out.extend(fragment);
            open.count += 1;
            open.end_ms = open.end_ms.max(object.content_ms);
            offset += fragment.len();
        }
        if self.room() == 0 {
            packets.extend(self.flush());
        }
    }

    /// The packet that is not full yet, padded: at the end, or when a live source must not wait. `None` if nothing waits.
    pub fn flush(&mut self) -> Option<Bytes> {
        let open = self.open.take()?;
        let padding = self.packet_size.saturating_sub(PACKET_HEADER + open.payloads.len());
        let duration = u16::try_from(open.end_ms - open.send_ms).unwrap_or(u16::MAX);
        let mut packet = Vec::with_capacity(self.packet_size);
        packet.extend([0x82, 0, 0, 0x11, 0x5D]);
        packet.extend((padding as u16).to_le_bytes());
        packet.extend(open.send_ms.to_le_bytes());
        packet.extend(duration.to_le_bytes());
        packet.push(0x80 | open.count);
        packet.extend(open.payloads);
        packet.resize(self.packet_size, 0);
        Some(packet.into())
    }

    /// Bytes of data that the next payload can hold.
    fn room(&self) -> usize {
        let (used, count) = self.open.as_ref().map_or((0, 0), |open| (open.payloads.len(), open.count));
        if count == MAX_PAYLOADS {
            return 0;
        }
        self.packet_size.saturating_sub(PACKET_HEADER + PAYLOAD_HEADER + used)
    }

    fn next_number(&mut self, stream: StreamNumber) -> u8 {
        if let Some((_, next)) = self.numbers.iter_mut().find(|(number, _)| *number == stream) {
            let number = *next;
            *next = next.wrapping_add(1);
            return number;
        }
        self.numbers.push((stream, 1));
        0
    }
}

/// Error correction, flags, padding, times, Payload Flags.
const PACKET_HEADER: usize = 14;
/// Stream and object number, offset, replicated data, length.
const PAYLOAD_HEADER: usize = 17;
/// The count has six bits.
const MAX_PAYLOADS: u8 = 63;
const SMALLEST_FRAGMENT: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{HeaderBuilder, Packet};
    use super::*;

    proptest! {
        #[test]
        fn objects_come_out_of_the_packets_as_they_went_in(
            size in 64..1000_u32,
            objects in proptest::collection::vec(
                (1..4_u16, any::<bool>(), 0..100_u32, proptest::collection::vec(any::<u8>(), 1..500)),
                1..40,
            ),
        ) {
            let mut packetizer = Packetizer::new(&HeaderBuilder::new(size).preroll_ms(500).build().unwrap());
            let mut packets = Vec::new();
            let mut time = 0;
            let mut put: BTreeMap<StreamNumber, Vec<(bool, u32, Vec<u8>)>> = BTreeMap::new();
            for (stream, key_frame, later, data) in objects {
                time += later;
                let stream = StreamNumber::new(stream).unwrap();
                packetizer.push(&MediaObject { stream, key_frame, content_ms: time, data: &data }, &mut packets);
                put.entry(stream).or_default().push((key_frame, time + 500, data));
            }
            packets.extend(packetizer.flush());
            prop_assert_eq!(packetizer.flush(), None);

            let mut got: BTreeMap<StreamNumber, Vec<(bool, u32, Vec<u8>)>> = BTreeMap::new();
            let mut send_time = 0;
            for bytes in &packets {
                prop_assert_eq!(bytes.len(), size as usize);
                let packet = Packet::parse(bytes).unwrap();
                prop_assert_eq!(packet.head.padding_length.value as usize, packet.padding());
                prop_assert!(packet.send_time_ms() >= send_time);
                send_time = packet.send_time_ms();
                for payload in packet.payloads() {
                    let objects = got.entry(payload.stream).or_default();
                    if payload.starts_object() {
                        prop_assert_eq!(payload.object_number as usize, objects.len() % 256);
                        objects.push((payload.key_frame, payload.presentation_ms.unwrap(), Vec::new()));
                    }
                    let (_, _, data) = objects.last_mut().unwrap();
                    prop_assert_eq!(data.len(), payload.offset as usize);
                    data.extend(&bytes[payload.data]);
                }
            }
            prop_assert_eq!(got, put);
        }
    }
}
