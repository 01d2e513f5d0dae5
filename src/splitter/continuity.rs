//! After a break: the same broadcast goes on, or another begins.
//!
//! An origin that comes back may count from anywhere. What goes on stays as it is; what steps back is moved by a constant,
//! decided by what came out last before the break and kept as long as that upstream session lasts:
//! - the packet number, to one more than the last;
//! - the send time, to the last and as much as has passed since by the clock;
//! - the presentation times of all streams, by what the send time is moved, or by more where a stream would step back;
//! - the object numbers of each stream, so that no half object is glued to a new one.
//!
//! All of it is a value: whoever gets a copy can go on with the next session.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::asf::{Header, Packet, PacketNumber, Shift, StreamNumber};

/// A packet on its way from the source into the ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parts {
    /// Its number; those of a broadcast wrap after 2^32 packets.
    pub number: PacketNumber,
    /// ASF send time, ms; wraps.
    pub send_time_ms: u32,
    /// The packet, with padding or without.
    pub bytes: Bytes,
}

/// What a header after a break says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Return {
    /// The same broadcast: viewers notice nothing but a pause.
    Same,
    /// Another one: viewers are told of a new entry.
    Other,
}

impl Return {
    /// The `result` label of `mmsproxy_split_reconnects_total`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Same => "continued",
            Self::Other => "changed",
        }
    }
}

/// What came out last, and how what comes now is moved so that it goes on.
#[derive(Clone, Debug)]
pub struct Continuity {
    header: Arc<Header>,
    /// Decided by the first packet of an upstream session.
    number_step: Option<u32>,
    /// The times are decided by the first packet that parses, the object numbers by the first payload of each stream.
    are_times_decided: bool,
    shift: Shift,
    last_number: Option<u32>,
    /// The last send time, and when it came.
    last_sent: Option<(u32, Instant)>,
    /// The last presentation time of any stream.
    last_presented_ms: Option<u32>,
    /// At most one for each stream number.
    lanes: Vec<Lane>,
    leads: Leads,
}

/// What came out of one stream.
#[derive(Clone, Debug)]
struct Lane {
    stream: StreamNumber,
    is_decided: bool,
    last_object: Option<u32>,
    latest_ms: Option<u32>,
}

impl Continuity {
    /// Nothing came yet.
    pub fn new(header: Arc<Header>) -> Self {
        Self {
            header,
            number_step: Some(0),
            are_times_decided: true,
            shift: Shift::default(),
            last_number: None,
            last_sent: None,
            last_presented_ms: None,
            lanes: Vec::new(),
            leads: Leads::default(),
        }
    }

    /// The header that viewers have: the first one of this broadcast, however often it came back since.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// A new upstream session delivered its header after a break. Where it is another broadcast, this is a new entry.
    pub fn resumed(&mut self, header: &Arc<Header>) -> Return {
        if !header.continues(&self.header) {
            self.new_entry(Arc::clone(header));
            return Return::Other;
        }
        self.number_step = None;
        self.are_times_decided = false;
        self.shift = Shift::default();
        self.lanes.iter_mut().for_each(|lane| lane.is_decided = false);
        self.leads.end_session();
        Return::Same
    }

    /// Another header is current: what follows has the numbers and times of the origin.
    pub fn new_entry(&mut self, header: Arc<Header>) {
        *self = Self::new(header);
    }

    /// The next packet, which comes at `now`. One that needs no move keeps its memory. Bytes that are no packet stay as
    /// they are, in their place among the others.
    pub fn pass(&mut self, now: Instant, parts: Parts) -> Parts {
        let number = self.pass_number(parts.number);
        let Ok(packet) = Packet::parse(&parts.bytes) else {
            let send_time_ms = match self.last_sent {
                Some((last, _)) if !self.are_times_decided => last,
                _ => parts.send_time_ms.wrapping_add(self.shift.send_ms),
            };
            return Parts { number, send_time_ms, bytes: parts.bytes };
        };
        if !self.are_times_decided {
            self.are_times_decided = true;
            self.decide_times(now, parts.send_time_ms, &packet);
        }
        let send_time_ms = parts.send_time_ms.wrapping_add(self.shift.send_ms);
        self.last_sent = Some((send_time_ms, now));
        let moves_objects = self.pass_payloads(&packet, send_time_ms);
        let moves = moves_objects || self.shift.send_ms != 0 || self.shift.presentation_ms != 0;
        let moved = moves.then(|| self.shift.moved(&packet));
        Parts { number, send_time_ms, bytes: moved.map_or(parts.bytes, Bytes::from) }
    }

    fn pass_number(&mut self, number: PacketNumber) -> PacketNumber {
        let low = number.0 as u32; // as the origin counts
        let last = self.last_number;
        let to_next =
            || last.filter(|last| ahead(low, *last) <= 0).map_or(0, |last| last.wrapping_add(1).wrapping_sub(low));
        let step = *self.number_step.get_or_insert_with(to_next);
        let moved = low.wrapping_add(step);
        self.last_number = Some(moved);
        if step == 0 { number } else { PacketNumber(moved.into()) }
    }

    /// By the first packet of a session.
    fn decide_times(&mut self, now: Instant, send_time_ms: u32, packet: &Packet<'_>) {
        let Some((last, at)) = self.last_sent else { return };
        if ahead(send_time_ms, last) < 0 {
            let elapsed = now.saturating_duration_since(at).as_millis() as u32; // modulo 2^32, as the field counts
            self.shift.send_ms = last.wrapping_add(elapsed).wrapping_sub(send_time_ms);
        }
        self.shift.presentation_ms = self.shift.send_ms.wrapping_add(self.lag_ms(packet));
    }

    /// How much later than by the step of the send time presentation must be, so that every stream goes on.
    fn lag_ms(&self, packet: &Packet<'_>) -> u32 {
        let Some(last) = self.last_presented_ms else { return 0 };
        let step = self.shift.send_ms;
        let times = |of: Option<StreamNumber>| {
            let payloads = packet.payloads().filter(move |payload| of.is_none_or(|stream| stream == payload.stream));
            earliest(payloads.filter_map(|payload| payload.presentation_ms))
        };
        // What a stream lacks that is presented at `first` next. All is measured from one point, for times wrap.
        let from_last = |ms: u32| i64::from(ahead(ms, last));
        let lacks = |latest: u32, first: u32| from_last(latest) + 1 - from_last(first.wrapping_add(step));
        let is_near = |latest: &u32| from_last(*latest).abs() < FAR_MS;
        let known = || {
            let lanes = self.lanes.iter().filter_map(|lane| Some((lane, lane.latest_ms.filter(is_near)?)));
            lanes.map(|(lane, latest)| (times(Some(lane.stream)), latest))
        };
        // Streams that the next packets show begin about where this one's do.
        let (any, margin_ms) = (times(None), self.leads.margin_ms());
        let lack = |others: Option<u32>| {
            let lacks = known().filter_map(|(first, latest)| Some(lacks(latest, first.or(others)?)));
            lacks.max().unwrap_or(0).max(0)
        };
        // The clock went on, and so does what can be told of the streams.
        if step == 0 && lack(any.map(|first| first.wrapping_add(margin_ms))) == 0 {
            return 0;
        }
        lack(any.map(|first| first.wrapping_sub(margin_ms))) as u32 // at most 2^31 and FAR_MS
    }

    /// Remembers what comes out; whether object numbers of this packet are moved.
    fn pass_payloads(&mut self, packet: &Packet<'_>, send_time_ms: u32) -> bool {
        let mut moves = false;
        for payload in packet.payloads() {
            let Some(lane) = lane(&mut self.lanes, payload.stream) else { continue };
            if !lane.is_decided {
                lane.is_decided = true;
                let step = lane.object_step(payload.object_number, packet.object_number_bits());
                if step != 0 {
                    self.shift.object_numbers.push((payload.stream, step));
                }
            }
            let step = self.shift.object_number(payload.stream);
            moves |= step != 0;
            let (object, presentation_ms) = payload.last_object(packet.bytes());
            lane.last_object = Some(object.wrapping_add(step));
            if let Some(presentation_ms) = presentation_ms {
                let presentation_ms = presentation_ms.wrapping_add(self.shift.presentation_ms);
                lane.present(presentation_ms);
                self.last_presented_ms = Some(presentation_ms);
                self.leads.take(ahead(presentation_ms, send_time_ms));
            }
        }
        moves
    }
}

/// The lane of a stream; a new one has nothing to go on from.
fn lane(lanes: &mut Vec<Lane>, stream: StreamNumber) -> Option<&mut Lane> {
    let at = lanes.iter().position(|lane| lane.stream == stream).unwrap_or_else(|| {
        lanes.push(Lane { stream, is_decided: true, last_object: None, latest_ms: None });
        lanes.len() - 1
    });
    lanes.get_mut(at)
}

impl Lane {
    /// What the object numbers of a new session are moved by, of which `first` is the first.
    fn object_step(&self, first: u32, bits: u32) -> u32 {
        match (self.last_object, 32_u32.checked_sub(bits)) {
            (Some(last), Some(unused @ 0..32)) if ahead(first << unused, last << unused) <= 0 => {
                last.wrapping_add(1).wrapping_sub(first)
            }
            _ => 0,
        }
    }

    /// Objects may come a little out of their order; much earlier ones are those of a clock that was set.
    fn present(&mut self, ms: u32) {
        if self.latest_ms.is_none_or(|latest| !(-REORDER_MS..=0).contains(&ahead(ms, latest))) {
            self.latest_ms = Some(ms);
        }
    }
}

/// How long before its presentation content is sent: between the streams it differs by as much as their interleaving does.
#[derive(Clone, Debug, Default)]
struct Leads {
    /// The least and the most of this session; sessions may have clocks of their own.
    seen_ms: Option<(i32, i32)>,
    /// The largest difference in a session that is over.
    spread_ms: u32,
}

impl Leads {
    fn take(&mut self, ms: i32) {
        let (least, most) = self.seen_ms.unwrap_or((ms, ms));
        self.seen_ms = Some((least.min(ms), most.max(ms)));
    }

    fn end_session(&mut self) {
        let spread_ms = self.seen_ms.take().map_or(0, |(least, most)| most.abs_diff(least));
        self.spread_ms = self.spread_ms.max(spread_ms).min(MAX_MARGIN_MS);
    }

    fn margin_ms(&self) -> u32 {
        self.spread_ms.max(MIN_MARGIN_MS)
    }
}

/// How far `a` is ahead of `b` on a counter that wraps.
fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// The first of some times that may lie around a wrap.
fn earliest(times: impl Iterator<Item = u32>) -> Option<u32> {
    times.reduce(|first, time| if ahead(time, first) < 0 { time } else { first })
}

/// Pictures that are shown before those they were made from precede them by less.
const REORDER_MS: i32 = 10_000;
/// A stream that lies half the range of the clock apart from the last one was left behind by a jump: 12 days.
const FAR_MS: i64 = 1 << 30;
/// What streams may lie apart though no session has shown it yet.
const MIN_MARGIN_MS: u32 = 1000;
/// One damaged packet must not push a broadcast into the future.
const MAX_MARGIN_MS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::asf::testing::{self, Plan, PlannedPayload};

    /// Recorded: tests/vectors/asf/README.md.
    const TALK: &[u8] = include_bytes!("../../tests/vectors/asf/talk-header.bin");
    const CLIP: &[u8] = include_bytes!("../../tests/vectors/asf/ffmpeg-clip.asf");

    fn header() -> Arc<Header> {
        Arc::new(Header::parse(Bytes::from_static(TALK)).unwrap().as_broadcast())
    }

    /// The same broadcast, begun anew: another File ID and date.
    fn restarted() -> Arc<Header> {
        let mut bytes = header().bytes().to_vec();
        bytes[30 + 24..30 + 40].fill(7);
        bytes[30 + 48..30 + 56].fill(8);
        Arc::new(Header::parse(bytes.into()).unwrap())
    }

    fn n(number: u8) -> StreamNumber {
        StreamNumber::new(number.into()).unwrap()
    }

    /// An object of a stream, or a part of one: its number and its presentation time.
    fn object(stream: u8, number: u32, presentation_ms: u32) -> PlannedPayload {
        PlannedPayload {
            stream,
            key_frame: true,
            number,
            offset: 0,
            replicated: 8,
            presentation_ms,
            data: vec![0xAA; 4],
        }
    }

    fn plan(send_time_ms: u32, payloads: &[PlannedPayload]) -> Plan {
        Plan::usual(send_time_ms, payloads.to_vec())
    }

    fn parts(number: u32, plan: &Plan) -> Parts {
        let number = PacketNumber(number.into());
        Parts { number, send_time_ms: plan.send_time_ms, bytes: plan.bytes().into() }
    }

    fn packet(number: u32, send_time_ms: u32, payloads: &[PlannedPayload]) -> Parts {
        parts(number, &plan(send_time_ms, payloads))
    }

    /// Stream, object number and presentation time of each payload.
    fn objects(parts: &Parts) -> Vec<(u8, u32, u32)> {
        let packet = Packet::parse(&parts.bytes).unwrap();
        assert_eq!(packet.send_time_ms(), parts.send_time_ms);
        let seen = |p: crate::asf::Payload| (p.stream.get(), p.object_number, p.presentation_ms.unwrap());
        packet.payloads().map(seen).collect()
    }

    /// A broadcast whose last packet, of both streams, came out as number 1000 at 60 s.
    fn broken(at: Instant) -> Continuity {
        let mut continuity = Continuity::new(header());
        let before = packet(1000, 60_000, &[object(1, 40, 63_000), object(2, 100, 63_100)]);
        assert_eq!(continuity.pass(at, before.clone()), before);
        continuity
    }

    #[test]
    fn a_broadcast_that_went_on_meanwhile_is_not_touched() {
        let now = Instant::now();
        let mut continuity = broken(now);
        assert_eq!(continuity.resumed(&header()), Return::Same);
        for ms in [62_000, 62_100] {
            let number = 1000 + ms - 61_999;
            let after = packet(number, ms, &[object(1, ms / 100 - 579, ms + 3000), object(2, 203, ms + 3100)]);
            let memory = after.bytes.as_ptr();
            let out = continuity.pass(now + Duration::from_secs(2), after.clone());
            assert_eq!((&out, out.bytes.as_ptr()), (&after, memory));
        }
    }

    #[test]
    fn an_encoder_that_begins_anew_goes_on_by_the_wall_clock() {
        let now = Instant::now();
        let mut continuity = broken(now);
        assert_eq!(continuity.resumed(&restarted()), Return::Same);
        let after = [packet(0, 0, &[object(1, 0, 3000), object(2, 0, 3100)]), packet(1, 40, &[object(1, 1, 3040)])];
        let out = after.map(|parts| continuity.pass(now + Duration::from_secs(5), parts));
        assert_eq!(out.each_ref().map(|parts| (parts.number.0, parts.send_time_ms)), [(1001, 65_000), (1002, 65_040)]);
        assert_eq!(objects(&out[0]), [(1, 41, 68_000), (2, 101, 68_100)]);
        assert_eq!(objects(&out[1]), [(1, 42, 68_040)]);
    }

    #[test]
    fn a_second_break_goes_on_from_what_came_out() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut continuity = broken(now);
        let first = packet(0, 0, &[object(1, 0, 3000), object(2, 0, 3100)]);
        for (seconds, number, send_time_ms) in [(5, 1001, 65_000), (8, 1002, 68_000)] {
            continuity.resumed(&header());
            let out = continuity.pass(at(seconds), first.clone());
            assert_eq!((out.number.0, out.send_time_ms), (number, send_time_ms));
        }
        // The third session has a clock of its own, which is ahead of all.
        continuity.resumed(&header());
        let ahead = packet(5000, 900_000, &[object(1, 50, 903_000), object(2, 110, 903_100)]);
        assert_eq!(continuity.pass(at(9), ahead.clone()), ahead);
    }

    #[test]
    fn only_what_steps_back_is_moved() {
        let now = Instant::now();
        let mut continuity = broken(now);
        continuity.resumed(&header());
        let out = continuity.pass(now, packet(7, 60_500, &[object(1, 41, 63_500), object(2, 100, 63_600)]));
        assert_eq!((out.number.0, out.send_time_ms), (1001, 60_500));
        assert_eq!(objects(&out), [(1, 41, 63_500), (2, 101, 63_600)]);
    }

    #[test]
    fn half_an_object_is_not_glued_to_one_of_the_same_number() {
        let now = Instant::now();
        let mut continuity = broken(now);
        continuity.resumed(&header());
        let rest = PlannedPayload { offset: 9, ..object(1, 40, 63_000) };
        let out = continuity.pass(now, packet(1001, 61_000, &[rest, object(1, 41, 64_000)]));
        assert_eq!(objects(&out).iter().map(|(_, number, _)| *number).collect::<Vec<_>>(), [41, 42]);
    }

    #[test]
    fn presentation_is_moved_by_more_where_a_stream_would_step_back() {
        let now = Instant::now();
        let mut continuity = broken(now);
        continuity.resumed(&header());
        // Back at once: by the send time alone, both would begin before what came out last.
        let out = continuity.pass(now, packet(0, 0, &[object(1, 0, 2800), object(2, 0, 2900)]));
        assert_eq!(out.send_time_ms, 60_000);
        assert_eq!(objects(&out), [(1, 41, 63_001), (2, 101, 63_101)]);
    }

    #[test]
    fn a_stream_that_shows_itself_later_does_not_step_back_either() {
        let now = Instant::now();
        let mut continuity = broken(now);
        continuity.resumed(&header());
        continuity.pass(now, packet(0, 0, &[object(2, 0, 3100)]));
        let out = continuity.pass(now, packet(1, 10, &[object(1, 0, 2101)]));
        assert!(objects(&out)[0].2 > 63_000, "{:?}", objects(&out));
    }

    #[test]
    fn streams_that_lay_further_apart_get_a_wider_margin() {
        let now = Instant::now();
        let mut continuity = Continuity::new(header());
        continuity.pass(now, packet(0, 60_000, &[object(1, 0, 66_000), object(2, 0, 62_000)]));
        continuity.resumed(&header());
        continuity.pass(now, packet(0, 0, &[object(1, 0, 6000)]));
        let out = continuity.pass(now, packet(1, 10, &[object(2, 0, 2000)]));
        assert!(objects(&out)[0].2 > 62_000, "{:?}", objects(&out));
    }

    #[test]
    fn send_times_that_wrap_go_on() {
        let now = Instant::now();
        let mut continuity = Continuity::new(header());
        continuity.pass(now, packet(u32::MAX, u32::MAX - 100, &[object(1, 255, 2900)]));
        continuity.resumed(&header());
        let after = packet(0, 50, &[object(1, 0, 3050)]);
        assert_eq!(continuity.pass(now, after.clone()), after);
        continuity.resumed(&header());
        let out = continuity.pass(now + Duration::from_millis(30), packet(0, u32::MAX - 3, &[object(1, 0, 3000)]));
        assert_eq!((out.number.0, out.send_time_ms), (1, 80));
    }

    #[test]
    fn the_objects_of_a_compressed_payload_all_count() {
        let now = Instant::now();
        let mut continuity = Continuity::new(header());
        // Two objects of a byte each, 20 ms apart.
        let two = PlannedPayload { replicated: 1, data: vec![1, 0xAA, 1, 0xBB], ..object(2, 7, 3000) };
        continuity.pass(now, packet(0, 0, std::slice::from_ref(&two)));
        continuity.resumed(&header());
        let out = continuity.pass(now, packet(1, 0, &[two]));
        assert_eq!(objects(&out), [(2, 9, 3021)]);
    }

    #[test]
    fn viewers_keep_the_first_header_as_long_as_it_is_the_same_broadcast() {
        let first = header();
        let mut continuity = Continuity::new(Arc::clone(&first));
        assert_eq!(continuity.resumed(&restarted()), Return::Same);
        assert!(Arc::ptr_eq(continuity.header(), &first));
        let other = Arc::new(Header::parse(Bytes::from_static(CLIP)).unwrap());
        assert_eq!(continuity.resumed(&other), Return::Other);
        assert!(Arc::ptr_eq(continuity.header(), &other));
    }

    #[test]
    fn the_next_entry_counts_as_the_origin_does() {
        let now = Instant::now();
        let mut continuity = broken(now);
        continuity.resumed(&header());
        let first = packet(0, 0, &[object(1, 0, 3000)]);
        assert_ne!(continuity.pass(now, first.clone()), first);
        continuity.new_entry(restarted());
        assert_eq!(continuity.pass(now, first.clone()), first);
    }

    #[test]
    fn bytes_that_are_no_packet_keep_their_place_and_decide_no_times() {
        let now = Instant::now();
        let mut continuity = broken(now);
        continuity.resumed(&header());
        let damaged =
            |number| Parts { number: PacketNumber(number), send_time_ms: 0, bytes: Bytes::from_static(&[0xFF]) };
        assert_eq!(continuity.pass(now, damaged(0)), Parts { send_time_ms: 60_000, ..damaged(1001) });
        continuity.pass(now, packet(1, 20_000, &[object(1, 0, 23_000)]));
        assert_eq!(continuity.pass(now, damaged(2)), Parts { send_time_ms: 40_000, ..damaged(1003) });
    }

    /// What one upstream session brings: where its counters begin, and some of its three streams in each packet.
    #[derive(Clone, Debug)]
    struct Run {
        number: u32,
        send_ms: u32,
        presentation_ms: u32,
        objects: [u32; 3],
        /// How far the streams lie apart.
        skews_ms: [u32; 3],
        /// Width of object numbers, as in [`Plan::fields`].
        width: u8,
        packets: Vec<Vec<(u8, bool)>>,
    }

    /// Between two packets; longer than what several objects in one take.
    const STEP_MS: u32 = 200;

    impl Run {
        fn packets(&self) -> Vec<Parts> {
            let mut objects = self.objects;
            let content = self.packets.iter().zip(0_u32..).map(|(streams, at)| {
                let payloads = streams.iter().zip(0_u32..).map(|(&(stream, compressed), index)| {
                    let of = usize::from(stream) - 1;
                    let time = self.presentation_ms.wrapping_add(at * STEP_MS + self.skews_ms[of] + index * 40);
                    let mut payload = object(stream, objects[of], time);
                    if compressed {
                        payload = PlannedPayload { replicated: 1, data: vec![1, 0xAA, 1, 0xBB], ..payload };
                    }
                    objects[of] = objects[of].wrapping_add(1 + u32::from(compressed));
                    payload
                });
                let payloads: Vec<_> = payloads.collect();
                let plan =
                    Plan { fields: [self.width, 3, 1], ..plan(self.send_ms.wrapping_add(at * STEP_MS), &payloads) };
                parts(self.number.wrapping_add(at), &plan)
            });
            content.collect()
        }
    }

    fn run() -> impl Strategy<Value = Run> {
        let packets = proptest::collection::vec(proptest::collection::vec((1..=3_u8, any::<bool>()), 1..4), 1..12);
        let skews_ms = [0..800_u32, 0..800_u32, 0..800_u32];
        (any::<[u32; 3]>(), any::<[u32; 3]>(), skews_ms, 1..4_u8, packets).prop_map(
            |([number, send_ms, presentation_ms], objects, skews_ms, width, packets)| Run {
                number,
                send_ms,
                presentation_ms,
                objects,
                skews_ms,
                width,
                packets,
            },
        )
    }

    /// Another run of the same encoder, whose clocks were all moved by `ms` against its end, and the counters by `by`.
    fn moved(first: &Run, then: &Run, ms: i32, by: i32) -> Run {
        let ms = (first.packets.len() as u32 * STEP_MS).wrapping_add_signed(ms);
        let by = 100_u32.wrapping_add_signed(by);
        Run {
            number: first.number.wrapping_add(by),
            send_ms: first.send_ms.wrapping_add(ms),
            presentation_ms: first.presentation_ms.wrapping_add(ms),
            objects: first.objects.map(|number| number.wrapping_add(by)),
            skews_ms: first.skews_ms,
            width: first.width,
            packets: then.packets.clone(),
        }
    }

    /// The runs, with breaks of `pause_ms` between, as they come out.
    fn out_of(runs: &[Run], pause_ms: u64) -> Vec<Vec<Parts>> {
        let mut now = Instant::now();
        let mut continuity = Continuity::new(header());
        let passed = runs.iter().enumerate().map(|(index, run)| {
            if index > 0 {
                now += Duration::from_millis(pause_ms);
                assert_eq!(continuity.resumed(&restarted()), Return::Same);
            }
            run.packets().into_iter().map(|parts| continuity.pass(now, parts)).collect()
        });
        passed.collect()
    }

    fn payloads(parts: &[Parts]) -> Vec<(StreamNumber, u32, u32, Option<u32>)> {
        let of = |parts: &Parts| {
            let packet = Packet::parse(&parts.bytes).unwrap();
            let last = packet.payloads().map(|payload| {
                let (number, presentation_ms) = payload.last_object(packet.bytes());
                (payload.stream, payload.object_number, number, presentation_ms)
            });
            last.collect::<Vec<_>>()
        };
        parts.iter().flat_map(of).collect()
    }

    /// From one session to the next everything goes on.
    fn check_break(before: &[Parts], after: &[Parts], width: u8) {
        let (last, first) = (before.last().unwrap(), after.first().unwrap());
        assert!(ahead(first.number.0 as u32, last.number.0 as u32) > 0);
        assert!(ahead(first.send_time_ms, last.send_time_ms) >= 0);
        let unused = [32, 24, 16, 0][usize::from(width)];
        for stream in (1..=3).map(n) {
            let of = |parts| payloads(parts).into_iter().filter(move |payload| payload.0 == stream);
            let Some((_, _, last_object, _)) = of(before).next_back() else { continue };
            let Some((_, first_object, _, _)) = of(after).next() else { continue };
            assert!(ahead(first_object << unused, last_object << unused) > 0, "objects of stream {stream}");
            let begins = after.iter().find_map(|parts| {
                let packet = Packet::parse(&parts.bytes).unwrap();
                packet.payloads().find(|payload| payload.stream == stream)?.presentation_ms
            });
            let latest =
                of(before).map(|payload| payload.3.unwrap()).reduce(|a, b| if ahead(b, a) > 0 { b } else { a });
            assert!(ahead(begins.unwrap(), latest.unwrap()) > 0, "presentation of stream {stream}");
        }
    }

    /// Within a session the same is added to everything of a kind.
    fn check_constants(run: &Run, out: &[Parts]) {
        let came = run.packets();
        let added = |parts: fn(&Parts) -> u32| {
            let mut added: Vec<_> =
                came.iter().zip(out).map(|(old, new)| parts(new).wrapping_sub(parts(old))).collect();
            added.dedup();
            added.len()
        };
        assert_eq!(added(|parts| parts.number.0 as u32), 1);
        assert_eq!(added(|parts| parts.send_time_ms), 1);
        let unused = [32, 24, 16, 0][usize::from(run.width)];
        let mut times = Vec::new();
        let mut numbers: [Vec<u32>; 4] = Default::default();
        for (old, new) in payloads(&came).into_iter().zip(payloads(out)) {
            times.push(new.3.unwrap().wrapping_sub(old.3.unwrap()));
            numbers[usize::from(old.0.get())].push(new.1.wrapping_sub(old.1) << unused);
        }
        times.dedup();
        assert_eq!(times.len(), 1);
        for mut numbers in numbers {
            numbers.dedup();
            assert!(numbers.len() <= 1);
        }
    }

    proptest! {
        #[test]
        fn two_breaks_with_any_clocks_and_counters_go_on(runs in [run(), run(), run()], pause_ms in 0..20_000_u64) {
            let width = runs[0].width;
            let runs = runs.map(|run| Run { width, ..run });
            let out = out_of(&runs, pause_ms);
            for pair in out.windows(2) {
                check_break(&pair[0], &pair[1], width);
            }
            for (run, out) in runs.iter().zip(&out) {
                check_constants(run, out);
            }
        }

        #[test]
        fn one_encoder_goes_on_wherever_it_is_joined_again(
            first in run(),
            then in run(),
            ms in prop_oneof![-5000..0_i32, 0..5000_i32],
            by in prop_oneof![-200..20_i32, Just(0)],
            pause_ms in 0..20_000_u64,
        ) {
            let runs = [first.clone(), moved(&first, &then, ms, by)];
            let out = out_of(&runs, pause_ms);
            check_break(&out[0], &out[1], first.width);
            check_constants(&runs[1], &out[1]);
        }

        #[test]
        fn without_a_step_back_nothing_is_changed(first in run(), then in run(), ms in 0..100_000_i32, by in 0..20_i32) {
            let second = moved(&first, &then, ms, by);
            let out = out_of(&[first.clone(), second.clone()], 500);
            prop_assert_eq!(&out[0], &first.packets());
            prop_assert_eq!(&out[1], &second.packets());
        }

        #[test]
        fn any_bytes_pass_and_keep_what_they_hold(
            sessions in proptest::collection::vec(proptest::collection::vec(testing::mutated(), 1..8), 1..4),
            numbers: [u64; 4],
        ) {
            let mut continuity = Continuity::new(header());
            let now = Instant::now();
            for (packets, number) in sessions.into_iter().zip(numbers) {
                for (bytes, at) in packets.into_iter().zip(0..) {
                    let number = PacketNumber(number.wrapping_add(at));
                    let send_time_ms = Packet::parse(&bytes).map_or(0, |packet| packet.send_time_ms());
                    let out = continuity.pass(now, Parts { number, send_time_ms, bytes: bytes.clone().into() });
                    prop_assert_eq!(out.bytes.len(), bytes.len());
                    match (Packet::parse(&bytes), Packet::parse(&out.bytes)) {
                        (Ok(old), Ok(new)) => {
                            prop_assert_eq!(new.send_time_ms(), out.send_time_ms);
                            for (old, new) in old.payloads().zip(new.payloads()) {
                                prop_assert_eq!((&old.span, old.stream, old.key_frame), (&new.span, new.stream, new.key_frame));
                                prop_assert_eq!(&bytes[old.data], &out.bytes[new.data]);
                            }
                        }
                        (Err(_), _) => prop_assert_eq!(&out.bytes, &bytes),
                        (Ok(_), Err(error)) => panic!("{error}"),
                    }
                }
                continuity.resumed(&header());
            }
        }
    }
}
