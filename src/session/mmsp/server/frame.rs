//! A packet in the form in which one viewer gets it, with the 8 bytes before it, `[MS-MMSP]` 2.2.2. Made when it is sent,
//! and again, byte for byte, when it is asked for anew.

use std::sync::Arc;

use bytes::Bytes;

use crate::asf::{Kept, PacketNumber, padding};
use crate::session::Packet;
use crate::session::batch::Batch;
use crate::wire::mmsp::data;
use crate::wire::mmsp::ids::{Incarnation, LocationId, Sequence};

/// How packets of an entry look to a viewer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Form {
    /// The packet size of the content; none goes out that is larger.
    pub(super) packet_size: usize,
    /// Padding stays where it came.
    pub(super) is_padded: bool,
    /// What came without padding, or lost it, is filled up to the packet size.
    pub(super) is_restored: bool,
}

/// How one packet goes out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// What of it; `None` is all.
    pub(super) kept: Option<Kept>,
    pub(super) form: Form,
    pub(super) incarnation: Incarnation,
    pub(super) sequence: Sequence,
}

/// A Data packet.
#[derive(Debug)]
pub(super) struct Frame {
    header: [u8; data::HEADER_LEN],
    body: Body,
}

#[derive(Debug)]
enum Body {
    Whole { packet: Arc<Packet>, is_padded: bool },
    Part(Bytes),
}

impl Frame {
    /// `packet`; `None` where nothing is left of it, or it is larger than it may be.
    pub(super) fn new(packet: Arc<Packet>, framing: &Framing) -> Option<Self> {
        let Form { packet_size, is_padded, is_restored } = framing.form;
        let mut part = match framing.kept {
            None => None,
            Some(kept) => Some(packet.form(kept, is_padded)?),
        };
        let payload = part.as_ref().unwrap_or(packet.whole(is_padded));
        if is_restored
            && payload.len() < packet_size
            && let Ok(restored) = padding::restore(payload, packet_size)
        {
            part = Some(restored.into());
        }
        let length = part.as_ref().unwrap_or(packet.whole(is_padded)).len();
        if length > data::MAX_PAYLOAD || length > packet_size {
            return None;
        }
        let flags = framing.sequence.low_byte();
        let header = data::encode_header(location(packet.number), framing.incarnation, flags, length);
        Some(Self { header, body: part.map_or(Body::Whole { packet, is_padded }, Body::Part) })
    }

    /// With its 8 bytes.
    pub(super) fn len(&self) -> usize {
        let payload = match &self.body {
            Body::Whole { packet, is_padded } => packet.whole(*is_padded),
            Body::Part(bytes) => bytes,
        };
        self.header.len() + payload.len()
    }

    /// Appends it.
    pub(super) fn push(self, batch: &mut Batch) {
        match self.body {
            Body::Whole { packet, is_padded } => batch.push_whole(self.header, packet, is_padded),
            Body::Part(bytes) => batch.push_packet(self.header, bytes),
        }
    }
}

fn location(number: PacketNumber) -> LocationId {
    // LocationIds of a broadcast wrap after 2^32 packets.
    LocationId(number.0 as u32)
}
