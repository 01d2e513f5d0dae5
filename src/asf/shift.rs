//! Moves a packet's times and object numbers by a constant: a file that is played in a loop, a broadcast that came back
//! after a break, a recording that is to begin at 0 (ASF 5.2.2, 5.2.3). Nothing else in the packet changes.

use super::field::Width;
use super::read::put;
use super::{Packet, PacketError, Payload, StreamNumber};

/// What is added to each packet; all of it wraps, so a step back is a large number.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shift {
    /// Added to Send Time.
    pub send_ms: u32,
    /// Added to every presentation time.
    pub presentation_ms: u32,
    /// Added to the object numbers of each stream, modulo the width of their field; streams that are absent keep theirs.
    pub object_numbers: Vec<(StreamNumber, u32)>,
}

impl Shift {
    /// The packet, moved. Its length and padding stay.
    ///
    /// # Errors
    /// Bytes that are no packet (ASF 5.2).
    pub fn apply(&self, packet: &[u8]) -> Result<Vec<u8>, PacketError> {
        Packet::parse(packet).map(|packet| self.moved(&packet))
    }

    /// [`Shift::apply`] for a packet that has been parsed already.
    pub fn moved(&self, parsed: &Packet<'_>) -> Vec<u8> {
        let mut out = parsed.bytes().to_vec();
        let send_time = parsed.send_time_ms().wrapping_add(self.send_ms);
        put(&mut out, parsed.head.send_time_at(), &send_time.to_le_bytes());
        let [number, offset, _] = parsed.head.payload_fields();
        for payload in parsed.payloads() {
            let number_at = payload.span.start + 1;
            number.put(&mut out, number_at, payload.object_number.wrapping_add(self.object_number(payload.stream)));
            // A compressed payload has its time in the field of the offset, others behind the size of the object.
            let (width, at) = match payload.compressed {
                true => (offset, number_at + number.bytes()),
                false => (Width::Dword, payload.replicated_at + 4),
            };
            if let Some(presentation_ms) = payload.presentation_ms {
                width.put(&mut out, at, presentation_ms.wrapping_add(self.presentation_ms));
            }
        }
        out
    }

    /// So that a recording which begins with this packet begins at 0: the first packet is sent at once, and its content
    /// plays when the preroll is over, or as much later as it did, up to 10 s.
    pub fn to_start(packet: &Packet<'_>, preroll_ms: u64) -> Self {
        let send_time = packet.send_time_ms();
        let first = packet.payloads().filter_map(|payload| payload.presentation_ms).min();
        let presentation_ms = first.map_or(0, |first| {
            let preroll = u32::try_from(preroll_ms).unwrap_or(u32::MAX);
            let lead = u64::from(first.wrapping_sub(send_time));
            let fits = (preroll_ms..=preroll_ms.saturating_add(10_000)).contains(&lead);
            if fits || send_time == 0 { send_time.wrapping_neg() } else { preroll.wrapping_sub(first) }
        });
        Self { send_ms: send_time.wrapping_neg(), presentation_ms, object_numbers: Vec::new() }
    }

    /// Nothing moves.
    pub fn is_zero(&self) -> bool {
        self.send_ms == 0 && self.presentation_ms == 0 && self.object_numbers.iter().all(|&(_, step)| step == 0)
    }

    /// What is added to the object numbers of a stream.
    pub fn object_number(&self, stream: StreamNumber) -> u32 {
        self.object_numbers.iter().find(|(number, _)| *number == stream).map_or(0, |&(_, step)| step)
    }
}

/// What one round of a file takes, from all its packets: how the next rounds are moved so that they go on without a gap.
#[derive(Clone, Debug, Default)]
pub struct Loop {
    /// From the first send time, to the end of the last packet.
    send_times: Option<(u32, u32)>,
    streams: Vec<Round>,
}

/// What one stream takes in a round.
#[derive(Clone, Debug)]
struct Round {
    stream: StreamNumber,
    objects: u32,
    earliest_ms: u32,
    latest_ms: u32,
    /// Of the compressed payload with the latest time: how long its objects go on.
    tail_ms: u32,
}

impl Loop {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next packet of the file, from the first to the last.
    pub fn push(&mut self, packet: &Packet<'_>) {
        let send_time = packet.send_time_ms();
        let end = send_time.saturating_add(packet.duration_ms().into());
        let (first, last) = self.send_times.unwrap_or((send_time, end));
        self.send_times = Some((first.min(send_time), last.max(end)));
        for payload in packet.payloads() {
            self.take(packet.bytes(), &payload);
        }
    }

    fn take(&mut self, bytes: &[u8], payload: &Payload) {
        let Some(presentation_ms) = payload.presentation_ms else {
            return;
        };
        let stream = payload.stream;
        let index = self.streams.iter().position(|round| round.stream == stream).unwrap_or_else(|| {
            let round = Round { stream, objects: 0, earliest_ms: u32::MAX, latest_ms: 0, tail_ms: 0 };
            self.streams.push(round);
            self.streams.len() - 1
        });
        let Some(round) = self.streams.get_mut(index) else {
            return;
        };
        let mut tail_ms = 0;
        if payload.compressed {
            let objects = payload.compressed_objects(bytes);
            let delta = payload.delta_ms(bytes);
            round.objects = round.objects.wrapping_add(objects);
            tail_ms = objects.saturating_sub(1).saturating_mul(delta);
        } else if payload.starts_object() {
            round.objects = round.objects.wrapping_add(1);
        }
        round.earliest_ms = round.earliest_ms.min(presentation_ms);
        if presentation_ms >= round.latest_ms {
            (round.latest_ms, round.tail_ms) = (presentation_ms, tail_ms);
        }
    }

    /// How long a round lasts, in milliseconds: until the last object of the longest stream is over (it is taken to last
    /// as long as the others do on average), and no shorter than the sending takes.
    pub fn period_ms(&self) -> u32 {
        let earliest = self.streams.iter().map(|round| round.earliest_ms).min().unwrap_or(0);
        let sent = self.send_times.map_or(0, |(first, last)| last.saturating_sub(first));
        self.presentation_end_ms().saturating_sub(earliest).max(sent)
    }

    /// When the last object is over, in presentation time, milliseconds.
    pub fn presentation_end_ms(&self) -> u32 {
        self.streams.iter().map(Round::end_ms).max().unwrap_or(0)
    }

    /// When the last packet has been sent, milliseconds.
    pub fn send_end_ms(&self) -> u32 {
        self.send_times.map_or(0, |(_, last)| last)
    }

    /// The shift for round `n`, counted from 0.
    pub fn round(&self, n: u64) -> Shift {
        let times = |step: u32| u64::from(step).wrapping_mul(n) as u32; // modulo 2^32, as the fields count
        Shift {
            send_ms: times(self.period_ms()),
            presentation_ms: times(self.period_ms()),
            object_numbers: self.streams.iter().map(|round| (round.stream, times(round.objects))).collect(),
        }
    }
}

impl Round {
    fn end_ms(&self) -> u32 {
        let last_ms = self.latest_ms.saturating_add(self.tail_ms);
        let average = last_ms.saturating_sub(self.earliest_ms).checked_div(self.objects.saturating_sub(1)).unwrap_or(0);
        last_ms.saturating_add(average)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{File, PacketNumber, testing};
    use super::*;

    /// Recorded: tests/vectors/asf/README.md.
    const CLIP: &[u8] = include_bytes!("../../tests/vectors/asf/ffmpeg-clip.asf");

    fn n(number: u16) -> StreamNumber {
        StreamNumber::new(number).unwrap()
    }

    #[test]
    fn a_loop_of_a_file_goes_on_where_it_ended() {
        let file = File::open(CLIP.to_vec()).unwrap();
        let packets: Vec<_> = (0..file.packet_count()).map(|at| file.packet(PacketNumber(at)).unwrap()).collect();
        let mut round = Loop::new();
        packets.iter().for_each(|bytes| round.push(&Packet::parse(bytes).unwrap()));
        // 4 s of content: the audio, which reaches a little further, decides.
        assert!((4000..4200).contains(&round.period_ms()), "{}", round.period_ms());
        assert!(round.round(0).is_zero());

        // Per stream: the object numbers of three rounds count on without a gap.
        let mut last: [Option<(u32, u32)>; 3] = [None; 3];
        let mut send_time = 0;
        for n in 0..3 {
            let shift = round.round(n);
            for bytes in &packets {
                let bytes = shift.apply(bytes).unwrap();
                let packet = Packet::parse(&bytes).unwrap();
                assert!(packet.send_time_ms() >= send_time);
                send_time = packet.send_time_ms();
                for payload in packet.payloads().filter(Payload::starts_object) {
                    let now = (payload.object_number, payload.presentation_ms.unwrap());
                    if let Some((number, time)) = last[usize::from(payload.stream.get())].replace(now) {
                        assert_eq!(now.0, (number + 1) % 256);
                        assert!((1..=350).contains(&(now.1 - time)), "{} after {time}", now.1);
                    }
                }
            }
        }
        assert!(send_time > 2 * round.period_ms());
    }

    #[test]
    fn a_recording_begins_at_zero() {
        // Hand-written: one payload of an object at 5000 + 3100 ms, sent at `send` ms.
        let bytes = |send: u32| {
            let start = [&[0x00, 0x5D][..], &send.to_le_bytes(), &[0, 0, 2, 7, 0, 0, 0, 0, 8, 1, 0, 0, 0]].concat();
            [&start[..], &8100_u32.to_le_bytes(), &[0xAA]].concat()
        };
        let shift = |send, preroll| Shift::to_start(&Packet::parse(&bytes(send)).unwrap(), preroll);
        let moved = |send_ms: u32, presentation_ms: u32| Shift {
            send_ms: send_ms.wrapping_neg(),
            presentation_ms: presentation_ms.wrapping_neg(),
            object_numbers: vec![],
        };
        assert_eq!(shift(5000, 3100), moved(5000, 5000));
        assert_eq!(shift(4000, 3100), moved(4000, 4000)); // a second of silence stays
        assert_eq!(shift(6000, 3100), moved(6000, 5000)); // sent late
        assert_eq!(shift(4_000_000_000, 3100), moved(4_000_000_000, 5000)); // clocks of their own
        assert!(shift(0, 3100).is_zero());
    }

    #[test]
    fn the_objects_of_a_compressed_payload_are_counted() {
        // Hand-written: two objects, 20 ms apart.
        let bytes = [0x00, 0x5D, 0, 0, 0, 0, 0, 0, 0x02, 7, 0x10, 0x0C, 0, 0, 1, 20, 1, 0xAA, 2, 0xBB, 0xCC];
        let packet = Packet::parse(&bytes).unwrap();
        let mut round = Loop::new();
        round.push(&packet);
        assert_eq!(round.period_ms(), 40);
        assert_eq!(round.round(300).object_numbers, [(n(2), 600)]);
        let moved = round.round(300).apply(&bytes).unwrap();
        let payload = Packet::parse(&moved).unwrap().payloads().next().unwrap();
        assert_eq!((payload.object_number, payload.presentation_ms), ((7 + 600) % 256, Some(3088 + 12_000)));
    }

    proptest! {
        #[test]
        fn a_shift_there_and_back_changes_nothing(
            bytes in testing::mutated(),
            send_ms: u32,
            presentation_ms: u32,
            objects: u32,
        ) {
            let there = Shift { send_ms, presentation_ms, object_numbers: vec![(n(1), objects), (n(2), 3)] };
            let back = Shift {
                send_ms: send_ms.wrapping_neg(),
                presentation_ms: presentation_ms.wrapping_neg(),
                object_numbers: vec![(n(1), objects.wrapping_neg()), (n(2), 3_u32.wrapping_neg())],
            };
            match there.apply(&bytes) {
                Ok(moved) => {
                    let (before, after) = (Packet::parse(&bytes).unwrap(), Packet::parse(&moved).unwrap());
                    prop_assert_eq!(after.send_time_ms(), before.send_time_ms().wrapping_add(send_ms));
                    for (old, new) in before.payloads().zip(after.payloads()) {
                        prop_assert_eq!((&old.span, &old.data, old.offset), (&new.span, &new.data, new.offset));
                    }
                    prop_assert_eq!(back.apply(&moved).unwrap(), bytes);
                }
                Err(_) => prop_assert!(Packet::parse(&bytes).is_err()),
            }
        }

        #[test]
        fn any_packets_make_a_loop(packets in proptest::collection::vec(testing::mutated(), 0..9), n: u64) {
            let mut round = Loop::new();
            for bytes in &packets {
                if let Ok(packet) = Packet::parse(bytes) {
                    round.push(&packet);
                }
            }
            round.round(n);
        }
    }
}
