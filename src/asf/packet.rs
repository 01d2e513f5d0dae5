//! A data packet (ASF 5.2): where its payloads stand, of which stream, and whether a decoder can begin at them.
//!
//! A packet is checked once, by [`Packet::parse`]; nothing is copied. Over MMS a packet may come without its padding, and
//! some servers leave the Padding Length of several payloads at 0 though bytes follow: there the padding is what lies
//! behind the last payload, whatever the field says.

use std::fmt;
use std::ops::Range;

use super::StreamNumber;
use super::field::{Field, Width};
use super::read::{byte, dword, word};

/// The place of a data packet in its file, counted from 0; a broadcast counts on from wherever it was joined.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PacketNumber(pub u64);

impl fmt::Display for PacketNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A packet whose payloads all lie inside it.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    pub(super) head: Head,
    end: usize,
}

/// One payload: a media object, a fragment of one, or several small ones (compressed).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payload {
    pub stream: StreamNumber,
    /// Set on every fragment of a key object. Audio may do without it on each: ffmpeg never sets it there.
    pub key_frame: bool,
    /// Counts the objects of the stream, modulo the width of the field (a byte, usually).
    pub object_number: u32,
    /// Where in the object the data belong, in bytes; 0 in a compressed payload, which holds whole objects.
    pub offset: u32,
    /// Bytes of the object; `None` in compressed payloads and where there are no replicated data.
    pub object_size: Option<u32>,
    /// Presentation time, preroll included; of the first object in a compressed payload.
    pub presentation_ms: Option<u32>,
    /// Holds objects of a byte of length each, numbered on from `object_number`.
    pub compressed: bool,
    /// Payload header and data, as bytes of the packet.
    pub span: Range<usize>,
    /// The data alone.
    pub data: Range<usize>,
    /// Where the replicated data begin.
    pub(super) replicated_at: usize,
}

/// Why bytes are no data packet. Who reads this from a peer may still pass the bytes on: a player decides for itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PacketError {
    #[error("the packet ends inside its {field} (ASF 5.2)")]
    Short { field: &'static str },
    #[error("error correction flags are {flags:#04x}, want a length of their own and no opaque data (ASF 5.2.1)")]
    ErrorCorrection { flags: u8 },
    #[error("Packet Length is {length}, but payloads begin at byte {at} (ASF 5.2.2)")]
    PacketLength { length: u32, at: usize },
    #[error("Padding Length is {padding}, {room} bytes are left (ASF 5.2.2)")]
    Padding { padding: u32, room: usize },
    #[error("Payload Flags are {flags:#04x}, want a count and a type of length (ASF 5.2.3.3)")]
    PayloadFlags { flags: u8 },
    #[error("Replicated Data Length is {length}, want 0, 1 or 8 and more (ASF 5.2.3.1)")]
    ReplicatedData { length: u32 },
    #[error("a payload of {length} bytes, {room} are left (ASF 5.2.3.3)")]
    PayloadLength { length: u32, room: usize },
}

impl Payload {
    /// The data begin a media object (a compressed payload begins several).
    pub fn starts_object(&self) -> bool {
        self.offset == 0
    }

    /// The last media object that is here, in whole or in part: its number, not yet cut to the width of the field, and its
    /// presentation time. `packet` is what the payload was read from.
    pub fn last_object(&self, packet: &[u8]) -> (u32, Option<u32>) {
        let more = if self.compressed { self.compressed_objects(packet).saturating_sub(1) } else { 0 };
        let later = more.saturating_mul(self.delta_ms(packet));
        (self.object_number.wrapping_add(more), self.presentation_ms.map(|first| first.wrapping_add(later)))
    }

    /// Counts the objects of a compressed payload: a byte of length, then as many bytes (ASF 5.2.3.2).
    pub(super) fn compressed_objects(&self, packet: &[u8]) -> u32 {
        let mut data = packet.get(self.data.clone()).unwrap_or_default();
        let mut count = 0;
        while let Some((&length, rest)) = data.split_first() {
            count += 1;
            data = rest.get(length.into()..).unwrap_or_default();
        }
        count
    }

    /// Presentation Time Delta of a compressed payload: how many milliseconds its objects are apart.
    pub(super) fn delta_ms(&self, packet: &[u8]) -> u32 {
        byte(packet, self.replicated_at).filter(|_| self.compressed).unwrap_or(0).into()
    }

    /// The data begin a key frame: a decoder can begin here.
    pub fn starts_key_frame(&self) -> bool {
        self.key_frame && self.starts_object()
    }
}

impl<'a> Packet<'a> {
    /// Checks a packet as received or as read from a file. Refuses what a payload would have to be guessed from.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let head = Head::parse(bytes)?;
        let mut end = head.payloads_at;
        for _ in 0..head.count {
            end = head.payload(bytes, end)?.span.end;
        }
        Ok(Self { bytes, head, end })
    }

    /// When the packet is due, in milliseconds on the clock of its content; wraps after 49 days.
    pub fn send_time_ms(&self) -> u32 {
        self.head.send_time_ms
    }

    /// How long the packet's content lasts, in milliseconds; often 0.
    pub fn duration_ms(&self) -> u16 {
        self.head.duration_ms
    }

    /// The payloads, in order.
    pub fn payloads(&self) -> impl Iterator<Item = Payload> {
        let mut at = self.head.payloads_at;
        (0..self.head.count).map_while(move |_| {
            let payload = self.head.payload(self.bytes, at).ok()?;
            at = payload.span.end;
            Some(payload)
        })
    }

    /// How many payloads there are, 1 to 63.
    pub fn payload_count(&self) -> usize {
        self.head.count.into()
    }

    /// How wide Media Object Number is: 0, 8, 16 or 32 bits. Numbers wrap by it.
    pub fn object_number_bits(&self) -> u32 {
        let [number, ..] = self.head.payload_fields();
        number.bytes() as u32 * 8
    }

    /// The offset after the last payload.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Bytes behind the last payload.
    pub fn padding(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// The packet says of each payload how long it is; a single one reaches up to the padding.
    pub fn is_multiple(&self) -> bool {
        self.head.payload_length.is_some()
    }

    /// The packet as it was parsed.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A key frame of this stream begins here: where to start a viewer of a stream that has key frames (ASF 5.2.3.1).
    pub fn starts_key_frame(&self, stream: StreamNumber) -> bool {
        self.payloads().any(|payload| payload.stream == stream && payload.starts_key_frame())
    }

    /// A media object of this stream begins here: where to start a stream without key frames.
    pub fn starts_object(&self, stream: StreamNumber) -> bool {
        self.payloads().any(|payload| payload.stream == stream && payload.starts_object())
    }
}

/// Everything before the payloads: error correction data and payload parsing information (ASF 5.2.1, 5.2.2).
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Where Length Type Flags stand.
    pub flags_at: usize,
    pub packet_length: Field,
    pub padding_length: Field,
    /// Where the first payload begins.
    pub payloads_at: usize,
    send_time_ms: u32,
    duration_ms: u16,
    property_flags: u8,
    count: u8,
    /// Width of each Payload Length; `None` in a packet with a single payload.
    pub payload_length: Option<Width>,
    /// Where payloads end at the latest.
    limit: usize,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let short = |field| move || PacketError::Short { field };
        let first = byte(bytes, 0).ok_or_else(short("first byte"))?;
        let flags_at = match first {
            0x00..=0x7F => 0,
            0x80..=0x8F => 1 + usize::from(first & 0x0F),
            flags => return Err(PacketError::ErrorCorrection { flags }),
        };
        let flags = byte(bytes, flags_at).ok_or_else(short("Length Type Flags"))?;
        let property_flags = byte(bytes, flags_at + 1).ok_or_else(short("Property Flags"))?;
        // The fields stand in another order than their types in the flags.
        let packet_length = Field::read(bytes, flags_at + 2, flags >> 5).ok_or_else(short("Packet Length"))?;
        let sequence = Field::read(bytes, packet_length.end(), flags >> 1).ok_or_else(short("Sequence"))?;
        let padding_length = Field::read(bytes, sequence.end(), flags >> 3).ok_or_else(short("Padding Length"))?;
        let send_time_at = padding_length.end();
        let send_time_ms = dword(bytes, send_time_at).ok_or_else(short("Send Time"))?;
        let duration_ms = word(bytes, send_time_at + 4).ok_or_else(short("Duration"))?;
        let mut at = send_time_at + 6;
        let (count, payload_length) = if flags & 1 == 0 {
            (1, None)
        } else {
            let flags = byte(bytes, at).ok_or_else(short("Payload Flags"))?;
            at += 1;
            match (flags & 0x3F, Width::of(flags >> 6)) {
                (0, _) | (_, Width::Absent) => return Err(PacketError::PayloadFlags { flags }),
                (count, width) => (count, Some(width)),
            }
        };
        let mut limit = bytes.len();
        if packet_length.width != Width::Absent {
            let length = packet_length.value;
            limit = limit.min(length as usize);
            if limit < at {
                return Err(PacketError::PacketLength { length, at });
            }
        }
        if payload_length.is_none() {
            let (padding, room) = (padding_length.value, limit - at);
            limit = room
                .checked_sub(padding as usize)
                .map(|room| at + room)
                .ok_or(PacketError::Padding { padding, room })?;
        }
        Ok(Self {
            flags_at,
            packet_length,
            padding_length,
            payloads_at: at,
            send_time_ms,
            duration_ms,
            property_flags,
            count,
            payload_length,
            limit,
        })
    }

    /// Where Send Time stands.
    pub(super) fn send_time_at(&self) -> usize {
        self.padding_length.end()
    }

    /// Types of Media Object Number, Offset Into Media Object and Replicated Data Length, in the order of the fields.
    pub(super) fn payload_fields(&self) -> [Width; 3] {
        [4, 2, 0].map(|shift| Width::of(self.property_flags >> shift))
    }

    /// Reads the payload that begins at `start`. The type of Stream Number is a byte whatever the flags say, as all
    /// readers take it.
    fn payload(&self, bytes: &[u8], start: usize) -> Result<Payload, PacketError> {
        let bytes = bytes.get(..self.limit).unwrap_or(bytes);
        let short = |field| move || PacketError::Short { field };
        let stream = byte(bytes, start).ok_or_else(short("Stream Number"))?;
        let [number, offset, replicated] = self.payload_fields();
        let number = Field::of(bytes, start + 1, number).ok_or_else(short("Media Object Number"))?;
        let offset = Field::of(bytes, number.end(), offset).ok_or_else(short("Offset Into Media Object"))?;
        let replicated = Field::of(bytes, offset.end(), replicated).ok_or_else(short("Replicated Data Length"))?;
        let mut at = replicated.end();
        let (object_size, presentation_ms) = match replicated.value {
            0 => (None, None),
            1 => (None, Some(offset.value)),
            length @ 2..=7 => return Err(PacketError::ReplicatedData { length }),
            _ => (dword(bytes, at), dword(bytes, at + 4)),
        };
        at += replicated.value as usize;
        if at > bytes.len() {
            return Err(PacketError::Short { field: "Replicated Data" });
        }
        let end = match self.payload_length {
            None => bytes.len(),
            Some(width) => {
                let length = Field::of(bytes, at, width).ok_or_else(short("Payload Length"))?;
                at = length.end();
                let (length, room) = (length.value, bytes.len() - at);
                if length as usize > room {
                    return Err(PacketError::PayloadLength { length, room });
                }
                at + length as usize
            }
        };
        let compressed = replicated.value == 1;
        Ok(Payload {
            stream: StreamNumber::from_payload(stream),
            key_frame: stream & 0x80 != 0,
            object_number: number.value,
            offset: if compressed { 0 } else { offset.value },
            object_size,
            presentation_ms,
            compressed,
            span: start..end,
            data: at..end,
            replicated_at: replicated.end(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{self, BYTE_PADDING, MULTIPLE, SINGLE, WORD_PADDING};
    use super::*;

    fn stream(number: u16) -> StreamNumber {
        StreamNumber::new(number).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        Packet::parse(bytes).unwrap_err().to_string()
    }

    #[test]
    fn the_payloads_of_a_packet_of_ffmpeg_are_found() {
        let packet = Packet::parse(MULTIPLE).unwrap();
        assert_eq!((packet.send_time_ms(), packet.duration_ms(), packet.padding()), (0, 46, 0));
        assert!(packet.is_multiple());
        let payloads: Vec<_> = packet.payloads().collect();
        let audio = Payload {
            stream: stream(2),
            key_frame: false,
            object_number: 1,
            offset: 0,
            object_size: Some(371),
            presentation_ms: Some(3100),
            compressed: false,
            span: 12..400,
            data: 29..400,
            replicated_at: 19,
        };
        let video = Payload {
            stream: stream(1),
            key_frame: true,
            object_size: Some(8378),
            presentation_ms: Some(3146),
            span: 400..3200,
            data: 417..3200,
            replicated_at: 407,
            ..audio.clone()
        };
        assert_eq!(payloads, [audio, video]);
        assert!(packet.starts_key_frame(stream(1)) && !packet.starts_key_frame(stream(2)));
        assert!(packet.starts_object(stream(2)));
    }

    #[test]
    fn a_single_payload_reaches_up_to_the_padding() {
        let packet = Packet::parse(SINGLE).unwrap();
        assert!(!packet.is_multiple());
        let payload = packet.payloads().next().unwrap();
        assert_eq!((payload.offset, payload.data), (2783, 26..3200));
        assert!(!packet.starts_key_frame(stream(1)));
    }

    #[test]
    fn padding_is_what_lies_behind_the_payloads() {
        let packet = Packet::parse(BYTE_PADDING).unwrap();
        assert_eq!((packet.send_time_ms(), packet.payloads().count(), packet.padding()), (513, 5, 164));
        let packet = Packet::parse(WORD_PADDING).unwrap();
        assert_eq!((packet.send_time_ms(), packet.payloads().count(), packet.padding()), (2913, 4, 291));
        let mut inferred = WORD_PADDING.to_vec();
        inferred[5..7].fill(0);
        assert_eq!(Packet::parse(&inferred).unwrap().padding(), 291);
    }

    #[test]
    fn a_compressed_payload_holds_whole_objects() {
        // Hand-written: no error correction, one payload, no lengths; two objects of 1 and 2 bytes, 20 ms apart.
        let bytes = [0x00, 0x5D, 0, 0, 0, 0, 0, 0, 0x02, 7, 0x10, 0x0C, 0, 0, 1, 20, 1, 0xAA, 2, 0xBB, 0xCC];
        let payload = Packet::parse(&bytes).unwrap().payloads().next().unwrap();
        assert!(payload.compressed && payload.starts_object());
        assert_eq!((payload.presentation_ms, payload.object_size), (Some(3088), None));
        assert_eq!(payload.data, 16..21);
    }

    #[test]
    fn broken_packets_are_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = MULTIPLE.to_vec();
            bytes[at] = value;
            bytes
        };
        assert_eq!(refusal(&[]), "the packet ends inside its first byte (ASF 5.2)");
        assert_eq!(refusal(&MULTIPLE[..8]), "the packet ends inside its Send Time (ASF 5.2)");
        assert_eq!(
            refusal(&with(0, 0x92)),
            "error correction flags are 0x92, want a length of their own and no opaque data (ASF 5.2.1)"
        );
        assert_eq!(refusal(&with(11, 0x80)), "Payload Flags are 0x80, want a count and a type of length (ASF 5.2.3.3)");
        assert_eq!(refusal(&with(18, 7)), "Replicated Data Length is 7, want 0, 1 or 8 and more (ASF 5.2.3.1)");
        assert_eq!(refusal(&MULTIPLE[..3199]), "a payload of 2783 bytes, 2782 are left (ASF 5.2.3.3)");
        let mut single = SINGLE.to_vec();
        single[3] = 0x08; // the first byte of Send Time becomes the padding
        single[5] = 0xFF;
        assert_eq!(refusal(&single[..100]), "Padding Length is 255, 88 bytes are left (ASF 5.2.2)");
        single[3] = 0x20;
        single[5] = 3;
        assert_eq!(refusal(&single), "Packet Length is 3, but payloads begin at byte 12 (ASF 5.2.2)");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_err(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payloads().all(|payload| bytes.get(payload.span).is_some()));
            }
        }

        #[test]
        fn payloads_are_found_where_they_were_put(plan in testing::plan()) {
            let bytes = plan.bytes();
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.padding(), plan.padding);
            let found: Vec<_> = packet.payloads().map(|p| (p.stream, bytes[p.data].to_vec())).collect();
            let put: Vec<_> = plan.payloads.iter().map(|p| (stream(p.stream.into()), p.data.clone())).collect();
            prop_assert_eq!(found, put);
        }
    }
}
