//! Packets for tests, in every shape that ASF 5.2 allows.

use proptest::collection::vec;
use proptest::prelude::*;

// Recorded: tests/vectors/asf/README.md.
pub(crate) const MULTIPLE: &[u8] = include_bytes!("../../tests/vectors/asf/talk-packet-0.bin");
pub(crate) const SINGLE: &[u8] = include_bytes!("../../tests/vectors/asf/talk-packet-1.bin");
pub(crate) const BYTE_PADDING: &[u8] = include_bytes!("../../tests/vectors/asf/talk-packet-7.bin");
pub(crate) const WORD_PADDING: &[u8] = include_bytes!("../../tests/vectors/asf/talk-packet-25.bin");

/// What a packet is built from. Types are the two-bit codes 0 to 3.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub error_correction: Option<u8>,
    pub packet_length: u8,
    pub sequence: u8,
    pub padding_length: u8,
    /// Types of number, offset and replicated length; the last is never absent.
    pub fields: [u8; 3],
    /// Type of Payload Length where there are several.
    pub multiple: Option<u8>,
    pub send_time_ms: u32,
    pub payloads: Vec<PlannedPayload>,
    pub padding: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct PlannedPayload {
    pub stream: u8,
    pub key_frame: bool,
    pub number: u32,
    pub offset: u32,
    /// 0, 1 (compressed) or 8 and more.
    pub replicated: usize,
    pub presentation_ms: u32,
    pub data: Vec<u8>,
}

impl Plan {
    /// The layout that encoders use: two bytes of error correction, several payloads, a byte of padding length.
    pub(crate) fn usual(send_time_ms: u32, payloads: Vec<PlannedPayload>) -> Self {
        Self {
            error_correction: Some(2),
            packet_length: 0,
            sequence: 0,
            padding_length: 1,
            fields: [1, 3, 1],
            multiple: Some(2),
            send_time_ms,
            payloads,
            padding: 9,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(length) = self.error_correction {
            out.push(0x80 | length);
            out.extend(vec![0; length.into()]);
        }
        let flags =
            u8::from(self.multiple.is_some()) | self.sequence << 1 | self.padding_length << 3 | self.packet_length << 5;
        let [number, offset, replicated] = self.fields;
        out.extend([flags, replicated | offset << 2 | number << 4 | 0x40]);
        let length_at = out.len();
        field(&mut out, self.packet_length, 0);
        field(&mut out, self.sequence, 0x5A5A);
        field(&mut out, self.padding_length, self.padding as u32);
        out.extend(self.send_time_ms.to_le_bytes());
        out.extend([1, 0]);
        if let Some(length) = self.multiple {
            out.push(length << 6 | self.payloads.len() as u8);
        }
        for payload in &self.payloads {
            payload.append(self, &mut out);
        }
        out.extend(vec![0; self.padding]);
        let mut length = Vec::new();
        field(&mut length, self.packet_length, out.len() as u32);
        out[length_at..][..length.len()].copy_from_slice(&length);
        out
    }

    /// The fields are wide enough for what stands in them.
    fn is_legal(&self) -> bool {
        let long = self.payloads.iter().any(|payload| payload.data.len() > 255);
        (self.packet_length != 1 || self.bytes().len() <= 255)
            && (self.multiple.is_some() || self.padding_length != 0 || self.padding == 0)
            && (self.padding_length != 1 || self.padding <= 255)
            && (self.multiple != Some(1) || !long)
    }
}

impl PlannedPayload {
    fn append(&self, plan: &Plan, out: &mut Vec<u8>) {
        let [number, offset, replicated] = plan.fields;
        out.push(self.stream | u8::from(self.key_frame) << 7);
        field(out, number, self.number);
        field(out, offset, if self.replicated == 1 { self.presentation_ms } else { self.offset });
        field(out, replicated, self.replicated as u32);
        match self.replicated {
            0 => {}
            1 => out.push(20),
            more => {
                out.extend(70_000_u32.to_le_bytes());
                out.extend(self.presentation_ms.to_le_bytes());
                out.extend(vec![7; more - 8]);
            }
        }
        if let Some(length) = plan.multiple {
            field(out, length, self.data.len() as u32);
        }
        out.extend(&self.data);
    }
}

fn field(out: &mut Vec<u8>, width: u8, value: u32) {
    let bytes = [0, 1, 2, 4][usize::from(width)];
    out.extend(&value.to_le_bytes()[..bytes]);
}

fn payload() -> impl Strategy<Value = PlannedPayload> {
    let replicated = prop_oneof![Just(0_usize), Just(1), Just(8), 9..20_usize];
    let offset = prop_oneof![Just(0), 0..3000_u32];
    (1..=4_u8, any::<bool>(), 0..4_u32, offset, replicated, any::<u32>(), vec(any::<u8>(), 0..300)).prop_map(
        |(stream, key_frame, number, offset, replicated, presentation_ms, data)| PlannedPayload {
            stream,
            key_frame,
            number,
            offset,
            replicated,
            presentation_ms,
            data,
        },
    )
}

/// Any legal packet of up to 5 payloads of the streams 1 to 4.
pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let shape = (proptest::option::of(0..=15_u8), 0..4_u8, 0..4_u8, 0..4_u8);
    let fields = [0..4_u8, 0..4_u8, 1..4_u8];
    let padding = prop_oneof![Just(0_usize), 0..4_usize, 0..600_usize];
    (shape, fields, proptest::option::of(1..4_u8), any::<u32>(), vec(payload(), 1..=5), padding)
        .prop_map(|(shape, fields, multiple, send_time_ms, mut payloads, padding)| {
            let (error_correction, packet_length, sequence, padding_length) = shape;
            if multiple.is_none() {
                payloads.truncate(1);
            }
            Plan {
                error_correction,
                packet_length,
                sequence,
                padding_length,
                fields,
                multiple,
                send_time_ms,
                payloads,
                padding,
            }
        })
        .prop_filter("fields are wide enough", Plan::is_legal)
}

/// A legal packet with a few of its bytes changed: most still parse.
pub(crate) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (plan(), vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4)).prop_map(|(plan, changes)| {
        let mut bytes = plan.bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes
    })
}
