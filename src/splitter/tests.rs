//! A broadcast from its feed to its viewers: who gets what, where a joiner begins, and what a slow one misses.

use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;
use crate::asf::testing::{Plan, PlannedPayload};
use crate::asf::{Header, PacketNumber, StreamNumber};
use crate::content::Name;
use crate::session::{Cursor, Description, End, Next, Opened, Packet, Reason, Refusal};

/// Recorded: tests/vectors/asf/README.md. Stream 1 is video, 2 is audio.
const TALK: &[u8] = include_bytes!("../../tests/vectors/asf/talk-header.bin");
const VIDEO: u16 = 1;
const AUDIO: u16 = 2;
const STEP: Duration = Duration::from_millis(100);
const ROOMY: Bounds = Bounds { history: Duration::from_secs(60), bytes: 1 << 20 };

fn key() -> Key {
    Key::new("origin.example", 1755, &Name::parse("live").unwrap(), false)
}

fn opened(edit: impl FnOnce(&mut Vec<u8>)) -> Arc<Opened> {
    let mut bytes = Header::parse(TALK.into()).unwrap().as_broadcast().bytes().to_vec();
    edit(&mut bytes);
    let header = Arc::new(Header::parse(bytes.into()).unwrap());
    Arc::new(Opened { description: Description { broadcast: true, ..Description::default() }, header })
}

fn talk() -> Arc<Opened> {
    opened(|_| {})
}

/// With another bit rate in its File Properties.
fn other() -> Arc<Opened> {
    opened(|bytes| bytes[30 + 100] ^= 1)
}

/// Packet `n`, sent at `n` times 100 ms, with a video object and a sound.
fn packet(n: u32, is_key: bool) -> Next {
    let payload = |stream: u16, key_frame| PlannedPayload {
        stream: stream as u8,
        key_frame,
        number: n,
        offset: 0,
        replicated: 8,
        presentation_ms: n * 100 + 3000,
        data: vec![n as u8; 50],
    };
    let plan = Plan::usual(n * 100, vec![payload(VIDEO, is_key), payload(AUDIO, true)]);
    let bytes = Bytes::from(plan.bytes());
    Next::from(Packet::new(PacketNumber(n.into()), n * 100, bytes.clone(), bytes))
}

/// A stream with its feed, on a clock moved by packets.
struct Air {
    splitter: Splitter,
    stream: Arc<Stream>,
    feed: Feed,
    now: Instant,
    _first: Ticket,
}

impl Air {
    fn new(bounds: Bounds) -> Self {
        let splitter = Splitter::new();
        let first = splitter.join(&key(), bounds).ticket;
        let stream = Arc::clone(first.stream());
        let mut feed = Feed::new(Arc::clone(&stream));
        let now = Instant::now();
        feed.opened(now, talk());
        feed.set_media(Media::Running);
        Self { splitter, stream, feed, now, _first: first }
    }

    /// Packets of those numbers; every `keys`th is a key frame.
    fn sends(&mut self, numbers: std::ops::Range<u32>, keys: u32) {
        for n in numbers {
            self.now += STEP;
            self.gives(packet(n, n % keys == 0));
        }
    }

    fn gives(&mut self, item: Next) {
        self.feed.push(self.now, &mut vec![item]);
    }

    /// A viewer that has the header of now.
    fn viewer(&self) -> Ticket {
        let ticket = self.splitter.join(&key(), ROOMY).ticket;
        let State::Open(content) = self.stream.subscribe().borrow().clone() else { panic!("not open") };
        ticket.has_header_of(content.entry);
        ticket
    }

    fn cursor(&self, streams: &[u16], lead_ms: u64) -> RingCursor {
        let streams: Vec<_> = streams.iter().map(|stream| StreamNumber::new(*stream).unwrap()).collect();
        let lead = if lead_ms == 0 { Lead::None } else { Lead::AtLeast(Duration::from_millis(lead_ms)) };
        self.viewer().cursor(&streams, lead, &Arc::default()).unwrap()
    }
}

/// What a cursor has, in words; packets by their numbers.
fn told(cursor: &mut RingCursor) -> Vec<String> {
    std::iter::from_fn(|| match cursor.next() {
        Next::Packet(packet) => Some(packet.number.to_string()),
        Next::Skipped { packets, .. } => Some(format!("skipped {packets}")),
        Next::Resumed => Some("resumed".to_owned()),
        Next::Lost { packets } => Some(format!("lost {packets}")),
        Next::Changed(_) => Some("changed".to_owned()),
        Next::Ended(_) => Some("ended".to_owned()),
        Next::Nothing => None,
    })
    .collect()
}

fn first(cursor: &mut RingCursor) -> String {
    told(cursor).into_iter().next().unwrap_or_default()
}

#[test]
fn a_joiner_begins_at_the_last_key_frame_that_is_a_preroll_old() {
    let mut air = Air::new(ROOMY);
    air.sends(0..60, 10);
    // The newest packet is 5.9 s into the broadcast.
    assert_eq!(first(&mut air.cursor(&[VIDEO, AUDIO], 3000)), "20");
    assert_eq!(first(&mut air.cursor(&[VIDEO, AUDIO], 1900)), "40");
    assert_eq!(first(&mut air.cursor(&[VIDEO, AUDIO], 1901)), "30");
    assert_eq!(first(&mut air.cursor(&[VIDEO], 60_000)), "0");
    assert_eq!(told(&mut air.cursor(&[VIDEO, AUDIO], 0)), [""; 0]);
}

#[test]
fn sound_alone_begins_a_preroll_back_wherever_that_is() {
    let mut air = Air::new(ROOMY);
    air.sends(0..60, 10);
    assert_eq!(first(&mut air.cursor(&[AUDIO], 3000)), "29");
    assert_eq!(first(&mut air.cursor(&[AUDIO], 60_000)), "0");
}

#[test]
fn without_a_key_frame_a_joiner_gets_the_sound_of_a_preroll() {
    let mut air = Air::new(ROOMY);
    air.sends(1..60, 1000);
    assert_eq!(first(&mut air.cursor(&[VIDEO, AUDIO], 3000)), "29");
}

#[test]
fn every_viewer_gets_the_same_memory() {
    let mut air = Air::new(ROOMY);
    let (mut one, mut two) = (air.cursor(&[VIDEO], 0), air.cursor(&[AUDIO], 0));
    air.sends(0..1, 1);
    let (Next::Packet(one), Next::Packet(two)) = (one.next(), two.next()) else { panic!("two packets") };
    assert!(Arc::ptr_eq(&one, &two));
}

#[test]
fn a_viewer_that_falls_off_goes_on_at_the_newest_key_frame() {
    let mut air = Air::new(Bounds { history: Duration::from_secs(3), ..ROOMY });
    let mut slow = air.cursor(&[VIDEO], 0);
    air.sends(0..2, 10);
    assert_eq!(told(&mut slow), ["0", "1"]);
    air.sends(2..58, 10);
    let Next::Skipped { packets, lag } = slow.next() else { panic!("no jump") };
    assert_eq!((packets, lag), (48, Duration::from_secs(3)));
    assert_eq!(told(&mut slow), (50..58).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_jump_over_the_beginning_of_an_entry_tells_of_it_first() {
    let mut air = Air::new(Bounds { history: Duration::from_secs(2), ..ROOMY });
    let mut slow = air.cursor(&[VIDEO], 0);
    air.sends(0..5, 10);
    air.gives(Next::Changed(Arc::clone(&other().header)));
    air.sends(0..41, 10);
    assert_eq!(told(&mut slow), ["changed", "skipped 46", "40"]);
    // With no key frame since, it begins where the entry does.
    let mut slow = air.cursor(&[VIDEO], 0);
    air.sends(41..80, 1000);
    air.gives(Next::Changed(Arc::clone(&talk().header)));
    assert_eq!(told(&mut slow), ["skipped 39", "changed"]);
}

#[test]
fn what_an_origin_lost_on_the_way_is_a_gap_in_the_numbers() {
    let mut air = Air::new(ROOMY);
    let mut viewer = air.cursor(&[VIDEO], 0);
    air.sends(0..3, 10);
    air.gives(Next::Lost { packets: 2 });
    air.sends(5..7, 10);
    assert_eq!(told(&mut viewer), ["0", "1", "2", "5", "6"]);
}

#[test]
fn a_jump_over_an_end_ends_the_play() {
    let mut air = Air::new(Bounds { history: Duration::from_secs(2), ..ROOMY });
    let mut slow = air.cursor(&[VIDEO], 0);
    air.sends(0..5, 10);
    air.gives(Next::Ended(End::Complete));
    let mut anew = air.cursor(&[VIDEO], 0);
    air.sends(5..41, 10);
    assert_eq!(first(&mut slow), "ended");
    assert_eq!(told(&mut anew), ["skipped 35", "40"]);
}

/// Whether it was rung since this was last asked.
fn is_rung(bell: &Notify) -> bool {
    pin!(bell.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn who_finds_nothing_is_called_for_the_first_packet_and_no_other() {
    let mut air = Air::new(ROOMY);
    let (streams, lead) = ([StreamNumber::new(VIDEO).unwrap()], Lead::AtLeast(STEP));
    let (early, late) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut waiting = air.viewer().cursor(&streams, lead, &early).unwrap();
    for _ in 0..1000 {
        air.viewer().cursor(&streams, lead, &Arc::default()).unwrap();
    }
    assert!(air.stream.hungry() < 10, "who is gone is not kept in mind");
    assert!(!is_rung(&early));
    air.sends(0..1, 10);
    assert!(is_rung(&early));
    assert_eq!(told(&mut waiting), ["0"]);
    air.sends(1..2, 10);
    assert!(!is_rung(&early));
    let mut joiner = air.viewer().cursor(&streams, lead, &late).unwrap();
    assert_eq!(told(&mut joiner), ["0", "1"]);
    air.sends(2..3, 10);
    assert!(!is_rung(&late));
}

#[test]
fn nobody_joins_before_an_entry_a_break_or_an_end() {
    for mark in [Next::Changed(Arc::clone(&other().header)), Next::Ended(End::Complete)] {
        let mut air = Air::new(ROOMY);
        air.sends(0..50, 10);
        air.gives(mark);
        assert_eq!(told(&mut air.cursor(&[VIDEO], 3000)), [""; 0]);
        air.sends(50..52, 10);
        assert_eq!(told(&mut air.cursor(&[VIDEO], 3000)), ["50", "51"]);
    }
    let mut air = Air::new(ROOMY);
    air.sends(0..50, 10);
    assert_eq!(air.feed.reopened(air.now, talk()), Return::Same);
    // Until something comes, the history is as good as it was.
    assert_eq!(first(&mut air.cursor(&[VIDEO], 3000)), "10");
    air.sends(60..62, 10);
    assert_eq!(told(&mut air.cursor(&[VIDEO], 3000)), ["60", "61"]);
}

#[test]
fn who_read_an_older_header_is_told_before_the_first_packet() {
    let mut air = Air::new(ROOMY);
    let paused = air.viewer();
    air.sends(0..5, 10);
    air.gives(Next::Changed(Arc::clone(&other().header)));
    air.sends(0..1, 10);
    let streams = [StreamNumber::new(VIDEO).unwrap()];
    let mut cursor = paused.cursor(&streams, Lead::AtLeast(STEP), &Arc::default()).unwrap();
    assert_eq!(told(&mut cursor), ["changed", "0"]);
    // It has that one now, also for its next play.
    assert_eq!(told(&mut paused.cursor(&streams, Lead::AtLeast(STEP), &Arc::default()).unwrap()), ["0"]);
}

#[test]
fn a_source_that_comes_back_with_what_is_known_goes_on_without_a_break() {
    let mut air = Air::new(ROOMY);
    let mut viewer = air.cursor(&[VIDEO], 0);
    air.sends(0..50, 10);
    assert_eq!(air.feed.reopened(air.now, talk()), Return::Same);
    air.sends(40..53, 10);
    assert_eq!(told(&mut viewer), (0..53).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(air.feed.reopened(air.now, talk()), Return::Same);
    air.sends(0..2, 10);
    assert_eq!(told(&mut viewer), ["resumed", "53", "54"]);
}

#[test]
fn a_loop_that_was_begun_anew_is_not_taken_for_what_is_known_for_long() {
    let mut air = Air::new(ROOMY);
    let mut viewer = air.cursor(&[VIDEO], 0);
    // It was lost within a preroll of its beginning.
    air.sends(0..38, 10);
    assert_eq!(air.feed.reopened(air.now, talk()), Return::Same);
    air.sends(0..38, 10);
    let told = told(&mut viewer);
    let resumed = told.iter().position(|word| word == "resumed").unwrap();
    assert_eq!(told[resumed - 1], "37");
    assert_eq!(told[resumed + 1..].len(), 38 - 30, "{told:?}");
    assert_eq!(told[resumed + 1], "38");
}

#[test]
fn a_source_that_comes_back_as_another_begins_an_entry() {
    let mut air = Air::new(ROOMY);
    let mut viewer = air.cursor(&[VIDEO], 0);
    air.sends(0..2, 10);
    assert_eq!(air.feed.reopened(air.now, other()), Return::Other);
    air.sends(0..1, 10);
    assert_eq!(told(&mut viewer), ["0", "1", "changed", "0"]);
    let State::Open(content) = air.stream.subscribe().borrow().clone() else { panic!("not open") };
    assert_eq!(content.opened.header.bytes(), other().header.bytes());
}

#[test]
fn what_is_over_is_asked_for_again() {
    let mut air = Air::new(ROOMY);
    let viewer = air.viewer();
    viewer.ask();
    assert!(!air.stream.is_asked(), "it runs already");
    air.gives(Next::Ended(End::Failed(Refusal::new(Reason::Lost, "gone"))));
    viewer.ask();
    assert!(air.stream.is_asked());
}

#[test]
fn of_many_at_the_same_moment_one_begins_the_stream() {
    const MANY: usize = 16;
    let splitter = Splitter::new();
    for _ in 0..50 {
        let start = Barrier::new(MANY);
        let begun: usize = thread::scope(|scope| {
            let join = || {
                start.wait();
                let joined = splitter.join(&key(), ROOMY);
                start.wait();
                usize::from(joined.is_new)
            };
            let all: Vec<_> = (0..MANY).map(|_| scope.spawn(join)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(begun, 1);
        let [(_, stream)] = &splitter.streams()[..] else { panic!("one stream") };
        assert!(stream.begin_close());
        assert_eq!(splitter.finish(&key(), stream), Finished::Gone);
        assert!(splitter.streams().is_empty());
    }
}

#[test]
fn who_comes_during_the_farewell_waits_for_the_next_opening() {
    let mut air = Air::new(ROOMY);
    air.sends(0..5, 10);
    let Air { splitter, stream, mut feed, now, _first } = air;
    assert!(!stream.begin_close(), "somebody watches");
    drop(_first);
    assert!(stream.begin_close());
    let late = splitter.join(&key(), ROOMY);
    assert!(!late.is_new && matches!(&*stream.subscribe().borrow(), State::Opening));
    assert_eq!(splitter.finish(&key(), &stream), Finished::Again);
    feed.opened(now, talk());
    let State::Open(content) = stream.subscribe().borrow().clone() else { panic!("not open") };
    late.ticket.has_header_of(content.entry);
    let streams = [StreamNumber::new(VIDEO).unwrap()];
    assert_eq!(told(&mut late.ticket.cursor(&streams, Lead::AtLeast(60 * STEP), &Arc::default()).unwrap()), [""; 0]);
}

#[test]
fn what_can_not_be_shared_is_begun_anew_by_the_next() {
    let splitter = Splitter::new();
    let first = splitter.join(&key(), ROOMY);
    splitter.abandon(&key(), first.ticket.stream(), State::Unshared);
    assert!(matches!(&*first.ticket.stream().subscribe().borrow(), State::Unshared));
    assert!(splitter.join(&key(), ROOMY).is_new);
}

#[test]
fn the_idlest_broadcast_gives_its_history_back_first() {
    let splitter = Splitter::new();
    let now = Instant::now();
    let streams: Vec<_> = (0..3)
        .map(|viewers| {
            let key = Key::new("origin.example", 1755, &Name::parse(&format!("live{viewers}")).unwrap(), false);
            let tickets: Vec<_> = (0..=viewers).map(|_| splitter.join(&key, ROOMY).ticket).collect();
            let mut feed = Feed::new(Arc::clone(tickets[0].stream()));
            feed.opened(now, talk());
            for n in 0..50 {
                feed.push(now + STEP * n, &mut vec![packet(n, n % 20 == 0)]);
            }
            tickets
        })
        .collect();
    let bytes = |at: usize| streams[at][0].stream().history().0;
    let (full, all) = (bytes(0), splitter.held());
    assert_eq!(all, 3 * full as u64);
    splitter.relieve(all);
    assert_eq!(splitter.held(), all, "it was within the limit");
    splitter.relieve(all - 1);
    assert!(bytes(0) < full / 3 && bytes(2) == full, "{} {} {}", bytes(0), bytes(1), bytes(2));
    // Viewers that keep up lose nothing of it: the last second is left to all, as long as there is room.
    splitter.relieve(all / 3);
    assert!((0..3).all(|at| bytes(at) > 10 * 100), "{} {} {}", bytes(0), bytes(1), bytes(2));
    splitter.relieve(0);
    assert!(splitter.held() < 3 * 1000);
    drop(streams);
    splitter.streams().iter().for_each(|(key, stream)| splitter.abandon(key, stream, State::Unshared));
    assert_eq!(splitter.held(), 0);
}

#[test]
fn more_reports_than_an_origin_reads_are_not_kept() {
    let air = Air::new(ROOMY);
    let viewer = air.viewer();
    for _ in 0..1000 {
        viewer.report(crate::session::PlayerLog::ClientLog(Bytes::from_static(b"log")));
    }
    assert!(air.stream.take_reports().len() <= 100);
    assert!(air.stream.take_reports().is_empty());
}

/// What may happen to a ring.
#[derive(Clone, Debug)]
enum Step {
    Packet { is_key: bool },
    Entry,
    Break,
    End,
    Shrink,
    Read { viewer: usize, most: usize },
    Join { viewer: usize, lead_ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => any::<bool>().prop_map(|is_key| Step::Packet { is_key }),
        1 => Just(Step::Entry),
        1 => Just(Step::Break),
        1 => Just(Step::End),
        1 => Just(Step::Shrink),
        10 => (0..3_usize, 0..20_usize).prop_map(|(viewer, most)| Step::Read { viewer, most }),
        2 => (0..3_usize, 0..4000_u64).prop_map(|(viewer, lead_ms)| Step::Join { viewer, lead_ms }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_viewers_get_packets_in_order_and_nothing_passes_the_bounds(
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let bounds = Bounds { history: Duration::from_secs(4), bytes: 6000 };
        let mut air = Air::new(bounds);
        let mut next = 0;
        let mut viewers: Vec<_> = (0..3).map(|_| (air.cursor(&[VIDEO, AUDIO], 0), None::<u64>)).collect();
        for step in steps {
            match step {
                Step::Packet { is_key } => {
                    air.now += STEP;
                    air.gives(packet(next, is_key));
                    next += 1;
                }
                Step::Entry => air.gives(Next::Changed(Arc::clone(&other().header))),
                Step::Break => { air.feed.reopened(air.now, talk()); }
                Step::End => air.gives(Next::Ended(End::Complete)),
                Step::Shrink => air.splitter.relieve(air.splitter.held() / 2),
                Step::Join { viewer, lead_ms } => viewers[viewer] = (air.cursor(&[VIDEO, AUDIO], lead_ms), None),
                Step::Read { viewer, most } => {
                    let (cursor, last) = &mut viewers[viewer];
                    let mut is_over = false;
                    for _ in 0..most {
                        match cursor.next() {
                            Next::Packet(packet) => {
                                prop_assert!(last.is_none_or(|last| packet.number.0 > last));
                                *last = Some(packet.number.0);
                            }
                            Next::Ended(_) => { is_over = true; break; }
                            Next::Nothing => break,
                            Next::Skipped { .. } | Next::Changed(_) | Next::Resumed | Next::Lost { .. } => {}
                        }
                    }
                    if is_over {
                        viewers[viewer] = (air.cursor(&[VIDEO, AUDIO], 0), None);
                    }
                }
            }
            let (bytes, age) = air.stream.history();
            prop_assert!(bytes <= bounds.bytes + TALK.len() + 1000, "{bytes} bytes");
            prop_assert!(age <= bounds.history);
            prop_assert_eq!(air.splitter.held(), bytes as u64);
        }
    }
}
