//! What one viewer lets through: of the streams it selected, the payloads it can use, from a point where a decoder can
//! begin (ASF 5.2.3; the selection is that of a StreamSwitch).
//!
//! A packet loses the payloads of other streams; the rest stays byte for byte, with the times and numbers it had. No clock
//! is read: how long a stream has waited for a key frame is told by the packets.

use std::cell::Cell;

use super::outline::Part;
use super::{Header, Kept, Outline, StreamKind, StreamNumber};

/// How much of a stream a viewer wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Thinning {
    /// Every media object.
    All,
    /// Only objects marked as key frames. In a stream that has none, audio above all, this is everything: each object
    /// stands alone there, and encoders leave the mark out.
    KeyFrames,
    /// Nothing.
    Off,
}

/// The selection of one viewer, and how far each stream has come in joining.
#[derive(Clone, Debug)]
pub struct Gate {
    lanes: Vec<Lane>,
    /// Asked for each packet, and nearly always the same: lanes are memory of their own, far from here.
    is_transparent: Cell<Option<bool>>,
}

#[derive(Clone, Debug)]
struct Lane {
    number: StreamNumber,
    kind: StreamKind,
    has_key_frames: bool,
    thinning: Thinning,
    flow: Flow,
    /// Replaced: goes on until that stream has begun.
    until: Option<StreamNumber>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flow {
    /// Waits for a payload to begin at; since the packet of that send time.
    Joining { since: Option<u32> },
    /// Lets through the rest of that object alone: an object was refused, or the stream has just joined.
    Rest { of: Option<u32> },
    /// Lets everything through that the thinning does.
    Open,
}

impl Gate {
    /// Lets nothing through: [MS-MMSP] 3.2.5.11 selects no stream before the viewer does.
    pub fn new(header: &Header) -> Self {
        let mut gate = Self { lanes: Vec::new(), is_transparent: Cell::default() };
        gate.new_header(header);
        gate
    }

    /// Sets how much of a stream passes. One that was off, or at another level, joins; a number that the header does not
    /// declare changes nothing.
    pub fn select(&mut self, stream: StreamNumber, thinning: Thinning) {
        let Some(lane) = self.lane(stream) else { return };
        lane.until = None;
        if lane.thinning == thinning {
            return;
        }
        lane.thinning = thinning;
        lane.flow = Flow::JOINING;
        if thinning == Thinning::Off {
            self.end_replaced_by(stream);
        }
    }

    /// Lets `from` go on until the first key frame of `to` passes, then `to` alone (the object, where `to` has no key
    /// frames). Several may be replaced by one.
    pub fn replace(&mut self, from: StreamNumber, to: StreamNumber, thinning: Thinning) {
        let known = self.lane(to).is_some();
        self.select(to, thinning);
        if from == to || !known {
            return;
        }
        let joining = self.lane(to).is_some_and(|to| to.is_on() && matches!(to.flow, Flow::Joining { .. }));
        // What waited for `from` waits for `to` now.
        for lane in self.lanes_mut().iter_mut().filter(|lane| lane.until == Some(from)) {
            lane.until = Some(to);
        }
        if let Some(from) = self.lane(from) {
            match from.flow {
                Flow::Rest { .. } | Flow::Open if joining && from.is_on() => from.until = Some(to),
                _ => from.turn_off(),
            }
        }
        if !joining {
            self.end_replaced_by(to);
        }
    }

    /// Selects all of every declared stream: what servers and players older than Windows Media 7 expect.
    pub fn all_on(&mut self) {
        for number in self.numbers() {
            self.select(number, Thinning::All);
        }
    }

    /// Lets nothing through.
    pub fn all_off(&mut self) {
        for number in self.numbers() {
            self.select(number, Thinning::Off);
        }
    }

    /// After a jump: every selected stream joins anew.
    pub fn rejoin(&mut self) {
        self.lanes_mut().iter_mut().for_each(|lane| lane.flow = Flow::JOINING);
    }

    /// Goes on at the very packet where it stopped: nothing joins, nothing is lost or repeated.
    pub fn resume(&mut self) {
        self.lanes_mut().iter_mut().filter(|lane| lane.is_on()).for_each(|lane| lane.flow = Flow::Open);
    }

    /// What has waited for a key frame for too long begins at the next object: a broken picture is better than none. A
    /// stream of which only key frames are wanted waits on.
    pub fn begin_anyway(&mut self) {
        let waiting =
            self.lanes_mut().iter_mut().filter(|lane| lane.is_on() && matches!(lane.flow, Flow::Joining { .. }));
        for lane in waiting.filter(|lane| lane.thinning == Thinning::All) {
            lane.flow = Flow::Rest { of: None };
        }
    }

    /// The next playlist entry begins. A stream of the same number and kind keeps its selection and joins anew. A new one
    /// is selected where its kind has been (or nothing of the entry would pass) and no kept stream of that kind is on.
    pub fn new_header(&mut self, header: &Header) {
        let old = std::mem::take(self.lanes_mut());
        let same = |number, kind| old.iter().find(|lane: &&Lane| lane.number == number && lane.kind == kind);
        *self.lanes_mut() = header
            .streams()
            .iter()
            .map(|stream| Lane {
                number: stream.number,
                kind: stream.kind,
                has_key_frames: stream.has_key_frames,
                thinning: same(stream.number, stream.kind).map_or(Thinning::Off, |lane| lane.thinning),
                flow: Flow::JOINING,
                until: None,
            })
            .collect();
        for selected in old.iter().filter(|lane| lane.is_on()) {
            let mut of_kind = self.lanes_mut().iter_mut().filter(|lane| lane.kind == selected.kind);
            if !of_kind.any(|lane| lane.is_on()) {
                let first = self.lanes_mut().iter_mut().find(|lane| lane.kind == selected.kind);
                first.into_iter().for_each(|lane| lane.thinning = selected.thinning);
            }
        }
    }

    /// Everything of every declared stream passes: packets need not be parsed, nor go through [`Gate::pass`].
    pub fn is_transparent(&self) -> bool {
        let is = || self.is_whole() && self.lanes.iter().all(|lane| lane.flow == Flow::Open && lane.until.is_none());
        let known = self.is_transparent.get().unwrap_or_else(is);
        self.is_transparent.set(Some(known));
        known
    }

    /// Everything of every declared stream is selected, whether or not it has begun.
    pub fn is_whole(&self) -> bool {
        let is_whole = |lane: &Lane| {
            lane.thinning == Thinning::All || lane.thinning == Thinning::KeyFrames && !lane.has_key_frames
        };
        !self.lanes.is_empty() && self.lanes.iter().all(is_whole)
    }

    /// Some stream is selected.
    pub fn is_any_on(&self) -> bool {
        self.lanes.iter().any(Lane::is_on)
    }

    /// How much of a stream is selected; off where the header does not declare it.
    pub fn thinning(&self, stream: StreamNumber) -> Thinning {
        self.lanes.iter().find(|lane| lane.number == stream).map_or(Thinning::Off, |lane| lane.thinning)
    }

    /// Takes the next packet, and says which of its payloads stay. Those of undeclared streams are dropped: legal on disk,
    /// and WMS 4.1 sends them, but no player knows what to do with them.
    pub fn pass(&mut self, packet: &Outline) -> Kept {
        let mut kept = Kept::default();
        for part in packet.parts() {
            kept.push(self.admits(part, packet.send_time_ms()));
        }
        kept
    }

    fn admits(&mut self, part: &Part, send_time_ms: u32) -> bool {
        let Some(lane) = self.lane(part.stream).filter(|lane| lane.is_on()) else {
            return false;
        };
        let joining = matches!(lane.flow, Flow::Joining { .. });
        let admitted = lane.admits(part, send_time_ms);
        if joining && admitted {
            self.end_replaced_by(part.stream);
        }
        admitted
    }

    fn end_replaced_by(&mut self, stream: StreamNumber) {
        self.lanes_mut().iter_mut().filter(|lane| lane.until == Some(stream)).for_each(Lane::turn_off);
    }

    /// The only way to change them.
    fn lanes_mut(&mut self) -> &mut Vec<Lane> {
        self.is_transparent.set(None);
        &mut self.lanes
    }

    fn lane(&mut self, number: StreamNumber) -> Option<&mut Lane> {
        self.lanes_mut().iter_mut().find(|lane| lane.number == number)
    }

    fn numbers(&self) -> Vec<StreamNumber> {
        self.lanes.iter().map(|lane| lane.number).collect()
    }
}

impl Lane {
    fn is_on(&self) -> bool {
        self.thinning != Thinning::Off
    }

    fn turn_off(&mut self) {
        self.thinning = Thinning::Off;
        self.flow = Flow::JOINING;
        self.until = None;
    }

    /// Payloads of a stream that is on.
    fn admits(&mut self, part: &Part, send_time_ms: u32) -> bool {
        let only_key_frames = self.thinning == Thinning::KeyFrames && self.has_key_frames;
        if !part.starts_object {
            return match self.flow {
                Flow::Joining { .. } => false,
                Flow::Rest { of } => of == Some(part.object_number),
                Flow::Open => part.key_frame || !only_key_frames,
            };
        }
        let key_frame = part.key_frame || !self.has_key_frames;
        let rest = Flow::Rest { of: Some(part.object_number) };
        match self.flow {
            Flow::Joining { since } if !key_frame => {
                let since = since.unwrap_or(send_time_ms);
                // Some encoders mark nothing; the viewer rather sees a broken picture than none.
                let waited_enough = send_time_ms.wrapping_sub(since) > JOIN_LIMIT_MS;
                let admitted = waited_enough && !only_key_frames;
                self.flow = if admitted { rest } else { Flow::Joining { since: Some(since) } };
                admitted
            }
            // Fragments of an earlier object could still follow; from the next object on there is nothing left to refuse.
            Flow::Joining { .. } => {
                self.flow = rest;
                true
            }
            Flow::Rest { .. } | Flow::Open if only_key_frames => {
                self.flow = if key_frame { rest } else { Flow::Rest { of: None } };
                key_frame
            }
            Flow::Rest { .. } | Flow::Open => {
                self.flow = Flow::Open;
                true
            }
        }
    }
}

impl Flow {
    const JOINING: Self = Self::Joining { since: None };
}

/// How long a stream waits for its first key frame, by the send times of the packets that pass meanwhile.
const JOIN_LIMIT_MS: u32 = 30_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::Packet;
    use super::super::testing::{self, Plan, PlannedPayload};
    use super::*;

    /// Recorded: tests/vectors/asf/README.md. Stream 1 is video, 2 is audio.
    const TALK: &[u8] = include_bytes!("../../tests/vectors/asf/talk-header.bin");

    fn n(number: u16) -> StreamNumber {
        StreamNumber::new(number).unwrap()
    }

    /// Declares a third stream, video as well.
    fn header() -> Header {
        let mut bytes = TALK.to_vec();
        let mut other = TALK[390..523].to_vec();
        other[72] = 3;
        bytes.splice(523..523, other);
        bytes[16..24].copy_from_slice(&(759 + 133_u64).to_le_bytes());
        Header::parse(bytes.into()).unwrap()
    }

    fn gate(selected: &[u16]) -> Gate {
        let mut gate = Gate::new(&header());
        selected.iter().for_each(|&number| gate.select(n(number), Thinning::All));
        gate
    }

    const KEY: bool = true;
    const DELTA: bool = false;

    fn payload(stream: u8, key_frame: bool, number: u32, offset: u32) -> PlannedPayload {
        PlannedPayload {
            stream,
            key_frame,
            number,
            offset,
            replicated: 8,
            presentation_ms: 0,
            data: vec![number as u8; 5],
        }
    }

    fn packet_at(send_time_ms: u32, payloads: &[PlannedPayload]) -> Bytes {
        Plan::usual(send_time_ms, payloads.to_vec()).bytes().into()
    }

    /// Stream and object number of what passes.
    fn passes(gate: &mut Gate, payloads: &[PlannedPayload]) -> Vec<(u8, u32)> {
        passed(gate, &packet_at(0, payloads))
    }

    fn passed(gate: &mut Gate, bytes: &Bytes) -> Vec<(u8, u32)> {
        let kept = gate.pass(&Outline::read(bytes).unwrap());
        if kept.is_empty() {
            return vec![];
        }
        let left = Outline::read(&kept.apply(bytes).unwrap()).unwrap();
        left.parts().iter().map(|part| (part.stream.get(), part.object_number)).collect()
    }

    #[test]
    fn nothing_passes_before_a_selection() {
        let mut gate = gate(&[]);
        assert!(!gate.is_any_on());
        assert_eq!(passes(&mut gate, &[payload(1, KEY, 0, 0), payload(2, DELTA, 0, 0)]), []);
    }

    #[test]
    fn video_joins_at_a_key_frame_and_audio_at_any_object() {
        let mut gate = gate(&[1, 2]);
        assert_eq!(passes(&mut gate, &[payload(2, DELTA, 7, 99), payload(1, DELTA, 1, 0)]), []);
        assert_eq!(passes(&mut gate, &[payload(2, DELTA, 8, 0), payload(1, KEY, 2, 50)]), [(2, 8)]);
        assert_eq!(passes(&mut gate, &[payload(1, KEY, 3, 0), payload(2, DELTA, 8, 9)]), [(1, 3), (2, 8)]);
        assert_eq!(passes(&mut gate, &[payload(1, KEY, 3, 5), payload(1, DELTA, 4, 0)]), [(1, 3), (1, 4)]);
    }

    #[test]
    fn after_joining_only_the_objects_that_began_go_on() {
        let mut gate = gate(&[1]);
        assert_eq!(passes(&mut gate, &[payload(1, KEY, 3, 0), payload(1, DELTA, 2, 9)]), [(1, 3)]);
    }

    #[test]
    fn a_gate_turns_transparent_once_every_stream_has_joined() {
        let mut gate = gate(&[]);
        gate.all_on();
        assert!(!gate.is_transparent());
        let keys = [payload(1, KEY, 0, 0), payload(2, DELTA, 0, 0), payload(3, KEY, 0, 0)];
        assert_eq!(passes(&mut gate, &keys).len(), 3);
        assert!(!gate.is_transparent());
        let next = [payload(1, DELTA, 1, 0), payload(2, DELTA, 1, 0), payload(3, DELTA, 1, 0)];
        assert_eq!(passes(&mut gate, &next).len(), 3);
        assert!(gate.is_transparent());
        gate.all_on();
        assert!(gate.is_transparent());
        gate.select(n(2), Thinning::KeyFrames);
        assert!(!gate.is_transparent());
    }

    #[test]
    fn a_resumed_gate_sends_from_the_very_packet() {
        let mut gate = gate(&[1, 2, 3]);
        gate.resume();
        assert!(gate.is_transparent());
        assert_eq!(passes(&mut gate, &[payload(1, DELTA, 4, 80)]), [(1, 4)]);
        gate.rejoin();
        assert_eq!(passes(&mut gate, &[payload(1, DELTA, 4, 85)]), []);
    }

    #[test]
    fn thinning_keeps_all_fragments_of_key_frames() {
        let mut gate = gate(&[2]);
        gate.select(n(1), Thinning::KeyFrames);
        let packet = [payload(1, KEY, 1, 0), payload(1, KEY, 1, 5), payload(1, DELTA, 2, 0), payload(2, DELTA, 0, 0)];
        assert_eq!(passes(&mut gate, &packet), [(1, 1), (1, 1), (2, 0)]);
        assert_eq!(passes(&mut gate, &[payload(1, DELTA, 2, 5), payload(1, KEY, 3, 0)]), [(1, 3)]);
        // Back to everything: what follows a dropped frame is of no use before the next key frame.
        gate.select(n(1), Thinning::All);
        assert_eq!(
            passes(&mut gate, &[payload(1, DELTA, 4, 0), payload(1, KEY, 5, 0), payload(1, DELTA, 6, 0)]),
            [(1, 5), (1, 6)]
        );
    }

    #[test]
    fn thinning_leaves_a_stream_without_key_frames_as_it_is() {
        let mut gate = gate(&[]);
        gate.select(n(2), Thinning::KeyFrames);
        assert_eq!(passes(&mut gate, &[payload(2, DELTA, 0, 0), payload(2, DELTA, 1, 0)]), [(2, 0), (2, 1)]);
    }

    #[test]
    fn a_replaced_stream_goes_on_until_the_new_one_begins() {
        let mut gate = gate(&[1]);
        gate.resume();
        gate.replace(n(1), n(3), Thinning::All);
        assert_eq!(passes(&mut gate, &[payload(1, DELTA, 5, 0), payload(3, DELTA, 8, 0)]), [(1, 5)]);
        let packet = [payload(1, DELTA, 6, 0), payload(3, KEY, 9, 0), payload(1, DELTA, 7, 0)];
        assert_eq!(passes(&mut gate, &packet), [(1, 6), (3, 9)]);
        assert_eq!(gate.thinning(n(1)), Thinning::Off);
    }

    #[test]
    fn a_replacement_that_is_replaced_passes_its_wait_on() {
        let mut gate = gate(&[1]);
        gate.resume();
        gate.replace(n(1), n(3), Thinning::All);
        gate.replace(n(3), n(2), Thinning::All);
        assert_eq!(passes(&mut gate, &[payload(1, DELTA, 1, 0), payload(3, KEY, 1, 0)]), [(1, 1)]);
        assert_eq!(passes(&mut gate, &[payload(2, DELTA, 1, 0), payload(1, DELTA, 2, 0)]), [(2, 1)]);
    }

    #[test]
    fn a_replacement_that_is_turned_off_ends_both() {
        let mut gate = gate(&[1]);
        gate.resume();
        gate.replace(n(1), n(3), Thinning::All);
        gate.select(n(3), Thinning::Off);
        assert!(!gate.is_any_on());
    }

    #[test]
    fn a_stream_nobody_declared_neither_passes_nor_replaces() {
        let mut gate = gate(&[1, 2, 3]);
        gate.resume();
        gate.select(n(9), Thinning::All);
        gate.replace(n(1), n(9), Thinning::All);
        assert_eq!(passes(&mut gate, &[payload(9, KEY, 0, 0), payload(1, DELTA, 0, 0)]), [(1, 0)]);
    }

    #[test]
    fn a_key_frame_that_never_comes_is_waited_for_no_longer_than_half_a_minute() {
        let mut gate = gate(&[1]);
        let at = |send_time_ms: u32| packet_at(send_time_ms, &[payload(1, DELTA, 1, 0)]);
        let start = u32::MAX - 10_000; // send times wrap
        assert_eq!(passed(&mut gate, &at(start)), []);
        assert_eq!(passed(&mut gate, &at(start.wrapping_add(30_000))), []);
        assert_eq!(passed(&mut gate, &at(start.wrapping_add(30_001))), [(1, 1)]);
    }

    #[test]
    fn the_next_entry_keeps_the_selection_by_number_and_kind() {
        let mut gate = gate(&[2, 3]);
        gate.new_header(&Header::parse(Bytes::from_static(TALK)).unwrap());
        assert_eq!(gate.thinning(n(2)), Thinning::All);
        assert_eq!(gate.thinning(n(1)), Thinning::All); // the only video there is
        assert!(!gate.is_transparent());
    }

    #[test]
    fn a_rewritten_packet_keeps_all_but_padding_and_payloads() {
        let bytes = Bytes::from_static(include_bytes!("../../tests/vectors/asf/talk-packet-25.bin"));
        let mut gate = gate(&[2]);
        gate.resume();
        let kept = gate.pass(&Outline::read(&bytes).unwrap());
        assert!(!kept.is_all() && !kept.is_empty());
        let thin = kept.apply(&bytes).unwrap();
        let packet = Packet::parse(&thin).unwrap();
        assert_eq!(thin[..5], [0x82, 0, 0, 0x01, 0x5D]);
        assert_eq!(thin[5..11], bytes[7..13]); // Send Time and Duration
        assert_eq!((packet.send_time_ms(), packet.padding()), (2913, 0));
        assert!(packet.payloads().all(|payload| payload.stream == n(2)));
    }

    proptest! {
        #[test]
        fn what_passes_is_as_it_was(
            packets in proptest::collection::vec(testing::mutated(), 1..20),
            levels in proptest::collection::vec(0..3_u8, 3),
            resume: bool,
        ) {
            let mut gate = gate(&[]);
            for (number, level) in (1..).zip(levels) {
                let levels = [Thinning::All, Thinning::KeyFrames, Thinning::Off];
                gate.select(n(number), levels[usize::from(level)]);
            }
            if resume {
                gate.resume();
            }
            for bytes in packets {
                let bytes = Bytes::from(bytes);
                let Ok(packet) = Packet::parse(&bytes) else { continue };
                let kept = gate.pass(&Outline::of(&packet));
                if !kept.is_all() && !kept.is_empty() {
                    let thin = kept.apply(&bytes).unwrap();
                    prop_assert!(thin.len() <= bytes.len());
                    let after = Packet::parse(&thin).unwrap();
                    prop_assert_eq!((after.send_time_ms(), after.padding()), (packet.send_time_ms(), 0));
                    // In order, each payload that is left is one of those that were there, and of a selected stream.
                    let mut before = packet.payloads();
                    for payload in after.payloads() {
                        prop_assert!(gate.thinning(payload.stream) != Thinning::Off);
                        prop_assert!(before.any(|old| bytes[old.span] == thin[payload.span.clone()]));
                    }
                }
            }
        }
    }
}
