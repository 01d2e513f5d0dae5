//! Packets by LocationId and Sequence; a clock that is moved by hand.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::mmsp::ids::{Incarnation, LocationId};

const PLAY: u8 = 9;

struct Talk {
    start: Instant,
    now: Instant,
    order: Order,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn data(incarnation: u8, at: u32, sequence: u32) -> Data {
    Data {
        location_id: LocationId(at),
        play_incarnation: Incarnation::from_wire(incarnation),
        af_flags: sequence as u8,
        payload: Bytes::new(),
    }
}

impl Talk {
    fn new() -> Self {
        Self::with(Udp::WINDOW)
    }

    fn with(window: usize) -> Self {
        let settings = Udp { window, ..Udp::new(Ipv4Addr::LOCALHOST.into(), 7000) };
        let now = Instant::now();
        let mut order = Order::new(settings);
        order.begin(PLAY, false);
        Self { start: now, now, order }
    }

    /// Packet `at` of the content comes under that number.
    fn gets(&mut self, at: u32, sequence: u32) -> Taken {
        self.order.insert(self.now, data(PLAY, at, sequence))
    }

    /// Where both are the same.
    fn all(&mut self, numbers: impl IntoIterator<Item = u32>) {
        numbers.into_iter().for_each(|number| {
            self.gets(number, number);
        });
    }

    fn up(&mut self) -> Vec<String> {
        let text = |item| match item {
            Item::Lost(packets) => format!("lost {packets}"),
            Item::Packet(data) => data.location_id.0.to_string(),
        };
        std::iter::from_fn(|| self.order.pop()).map(text).collect()
    }

    fn asks(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| Some(self.order.poll(self.now)).filter(|list| !list.is_empty()))
            .flatten()
            .map(|sequence| sequence.0)
            .collect()
    }

    /// Goes from deadline to deadline until `at`, and says what was asked for when.
    fn until(&mut self, at: Duration) -> Vec<(u64, Vec<u32>)> {
        let until = self.start + at;
        let mut asked = Vec::new();
        let mut note = |talk: &mut Self| {
            let numbers = talk.asks();
            let ms = (talk.now - talk.start).as_millis() as u64;
            asked.extend(Some((ms, numbers)).filter(|(_, numbers)| !numbers.is_empty()));
        };
        note(self);
        while let Some(due) = self.order.next_due(self.now).filter(|due| *due <= until) {
            self.now = due;
            note(self);
        }
        self.now = until;
        asked
    }
}

#[test]
fn packets_go_up_in_the_order_of_their_numbers_and_once() {
    let mut talk = Talk::new();
    talk.all([0, 2, 1, 1, 4, 0, 3, 4]);
    assert_eq!(talk.up(), ["0", "1", "2", "3", "4"]);
    assert_eq!(talk.gets(3, 3), Taken::Known);
    assert_eq!(talk.order.losses(), Losses::default());
}

#[test]
fn numbers_go_on_where_their_byte_goes_round_even_out_of_order() {
    let mut talk = Talk::new();
    talk.all((0..250).chain([256, 257, 252, 255, 251, 254, 253, 250]).chain(258..1000));
    assert_eq!(talk.up(), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn what_is_missing_is_asked_for_by_its_whole_number_until_the_deadline() {
    let mut talk = Talk::new();
    talk.all((0..300).chain([301]));
    // After the grace, and then each time later; what comes of it is not even looked for.
    let asked = talk.until(ms(2000));
    assert_eq!(asked, [20, 120, 320, 720].map(|at| (at, vec![300])));
    assert_eq!(talk.up()[300..], ["lost 1", "301"]);
    assert_eq!(talk.order.losses(), Losses { lost: 1, longest: 1, asked: 1, recovered: 0 });
    assert_eq!(talk.gets(300, 300), Taken::Known);
    assert_eq!(talk.up(), [""; 0]);
}

#[test]
fn three_packets_behind_a_missing_one_are_enough_to_ask() {
    let mut talk = Talk::new();
    talk.all([0, 2, 3]);
    assert_eq!(talk.asks(), [0; 0]);
    talk.all([4]);
    assert_eq!(talk.asks(), [1]);
    assert_eq!(talk.up(), ["0"]);
    talk.all([1]);
    assert_eq!(talk.up(), ["1", "2", "3", "4"]);
    assert_eq!(talk.order.losses(), Losses { lost: 0, longest: 0, asked: 1, recovered: 1 });
}

#[test]
fn a_request_asks_for_32_and_no_more_than_8_go_at_once() {
    let mut talk = Talk::new();
    talk.gets(0, 0);
    for n in [200, 400, 600] {
        talk.gets(n, n);
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| Some(talk.order.poll(talk.now).len()).filter(|n| *n > 0)).collect();
    assert_eq!(sizes, [32, 32, 32, 32, 32, 32, 7]);
    let sizes: Vec<usize> = talk.until(ms(500)).iter().map(|(_, numbers)| numbers.len()).collect();
    assert!(sizes.iter().sum::<usize>() > 597, "{sizes:?}");
}

#[test]
fn holes_too_far_back_for_the_window_are_given_up_at_once() {
    let mut talk = Talk::with(4);
    talk.all([0]);
    assert_eq!(talk.up(), ["0"]);
    talk.all([2, 3, 4, 5]);
    assert_eq!(talk.up(), ["lost 1", "2", "3", "4", "5"]);
    talk.all([105]);
    assert_eq!(talk.up(), [""; 0]);
    assert!(talk.order.slots.len() <= 100);
    talk.until(ms(1500));
    assert_eq!(talk.up(), ["lost 99", "105"]);
    assert_eq!(talk.order.losses().lost, 100);
}

#[test]
fn an_outage_of_more_than_256_packets_shows_in_the_numbers_of_the_content() {
    let mut talk = Talk::new();
    talk.all([0, 700, 701]);
    assert_eq!(talk.until(ms(20)), [(20, (1..257).collect::<Vec<_>>())]);
    talk.until(ms(1500));
    assert_eq!(talk.up(), ["0", "lost 699", "700", "701"]);
    // Longer than the window: nothing of it is asked for.
    talk.all([5000, 5001]);
    assert_eq!(talk.up(), ["lost 4298", "5000", "5001"]);
    // And the numbers behind it are the right ones.
    talk.all([5003]);
    assert_eq!(talk.until(ms(1600)), [(1520, vec![5002])]);
}

#[test]
fn content_that_leaves_packets_out_is_not_taken_for_lost() {
    let mut talk = Talk::new();
    for (at, sequence) in [(10, 0), (13, 1), (500, 2), (5000, 4), (4000, 3)] {
        assert_eq!(talk.gets(at, sequence), Taken::New);
    }
    assert_eq!(talk.up(), ["10", "13", "500", "4000", "5000"]);
}

#[test]
fn a_packet_that_was_long_on_its_way_fills_no_place_that_is_not_its_own() {
    let mut talk = Talk::new();
    talk.all((0..300).chain([301]));
    talk.up();
    // Its byte is that of 300.
    assert_eq!(talk.gets(44, 44), Taken::Known);
    assert_eq!(talk.gets(300, 300), Taken::New);
    assert_eq!(talk.up(), ["300", "301"]);
}

#[test]
fn backward_the_numbers_of_the_content_fall() {
    let mut talk = Talk::new();
    talk.order.begin(PLAY + 1, true);
    for (at, sequence) in [(90, 0), (70, 2), (80, 1), (60, 3)] {
        assert_eq!(talk.order.insert(talk.now, data(PLAY + 1, at, sequence)), Taken::New);
    }
    assert_eq!(talk.up(), ["90", "80", "70", "60"]);
}

#[test]
fn an_origin_that_does_not_count_is_believed_in_the_order_that_it_sends() {
    let mut talk = Talk::new();
    for at in 0..600 {
        assert_eq!(talk.gets(at, 0), Taken::New);
    }
    assert_eq!(talk.up().len(), 600);
    assert_eq!(talk.asks(), [0; 0]);
    assert_eq!(talk.order.losses(), Losses::default());
}

#[test]
fn the_next_play_goes_on_where_the_numbers_are_and_what_is_lost_at_its_beginning_is_missed() {
    let mut talk = Talk::new();
    talk.all(0..300);
    talk.up();
    talk.order.begin(PLAY + 1, false);
    talk.order.insert(talk.now, data(PLAY + 1, 50, 302));
    assert_eq!(talk.until(ms(20)), [(20, vec![300, 301])]);
    talk.order.insert(talk.now, data(PLAY + 1, 48, 300));
    // The other one belongs to the play before: it is not missing.
    assert_eq!(talk.order.insert(talk.now, data(PLAY, 300, 301)), Taken::Foreign);
    assert_eq!(talk.up(), ["48"]);
    talk.order.insert(talk.now, data(PLAY + 1, 49, 301));
    assert_eq!(talk.up(), ["49", "50"]);
}

#[test]
fn late_packets_of_the_play_before_are_missing_from_none() {
    // Before the first of this play, and after it.
    let mut talk = Talk::new();
    talk.all(0..10);
    talk.order.begin(PLAY + 1, false);
    talk.order.insert(talk.now, data(PLAY, 11, 11));
    talk.order.insert(talk.now, data(PLAY + 1, 50, 12));
    assert_eq!(talk.up(), ["50"]);
    let mut talk = Talk::new();
    talk.all(0..10);
    talk.order.begin(PLAY + 1, false);
    talk.order.insert(talk.now, data(PLAY + 1, 50, 12));
    assert_eq!(talk.up(), [""; 0]);
    talk.order.insert(talk.now, data(PLAY, 11, 11));
    assert_eq!(talk.up(), ["50"]);
}

#[test]
fn a_skip_of_ff_at_a_start_is_no_loss() {
    let mut talk = Talk::new();
    talk.all(0..0x1FF);
    talk.up();
    talk.order.begin(PLAY + 1, false);
    talk.order.insert(talk.now, data(PLAY + 1, 0, 0x200));
    talk.order.insert(talk.now, data(PLAY + 1, 2, 0x202));
    assert_eq!(talk.up(), ["0"]);
    assert_eq!(talk.until(ms(20)), [(20, vec![0x201])]);
}

#[test]
fn an_origin_that_begins_each_play_at_0_is_understood() {
    let mut talk = Talk::new();
    talk.all(0..100);
    talk.up();
    talk.order.begin(PLAY + 1, false);
    talk.order.insert(talk.now, data(PLAY + 1, 50, 0));
    talk.order.insert(talk.now, data(PLAY + 1, 52, 2));
    assert_eq!(talk.up(), ["50"]);
    assert_eq!(talk.until(ms(20)), [(20, vec![1])]);
    // From now on that is expected of it, and its first packet is missed.
    talk.order.begin(PLAY + 2, false);
    talk.order.insert(talk.now, data(PLAY + 2, 60, 3));
    assert_eq!(talk.until(ms(40)), [(40, vec![0, 1, 2])]);
}

#[test]
fn where_nobody_knows_how_much_is_missing_at_the_end_nothing_is_asked_for() {
    let mut talk = Talk::new();
    talk.all(0..10);
    talk.order.close(talk.now, None);
    assert_eq!(talk.until(ms(150)), []);
}

#[test]
fn an_end_is_waited_for_and_what_lies_behind_the_last_packet_is_asked_for() {
    let mut talk = Talk::new();
    talk.all(0..10);
    assert_eq!(talk.up().len(), 10);
    talk.order.close(talk.now, Some(17));
    assert!(!talk.order.is_settled(talk.now));
    let tail: Vec<u32> = (10..18).collect();
    assert_eq!(talk.until(ms(150)), [(0, tail.clone()), (100, tail)]);
    talk.all([11]);
    assert_eq!(talk.until(ms(170)), [(170, vec![10])]);
    talk.all([10]);
    assert_eq!(talk.up(), ["10", "11"]);
    talk.until(ms(369));
    assert!(!talk.order.is_settled(talk.now));
    talk.until(ms(370));
    assert!(talk.order.is_settled(talk.now));
}

#[test]
fn an_end_with_the_last_packet_of_the_content_is_not_waited_for() {
    let mut talk = Talk::new();
    talk.all([0, 2]);
    talk.up();
    talk.order.close(talk.now, Some(2));
    assert!(!talk.order.is_settled(talk.now));
    talk.all([1]);
    talk.up();
    assert!(talk.order.is_settled(talk.now));
    assert_eq!(talk.asks(), [0; 0]);
}

#[test]
fn an_end_is_waited_for_no_longer_than_a_packet() {
    let mut talk = Talk::new();
    talk.all([0]);
    talk.order.close(talk.now, None);
    for at in 1..100 {
        talk.all([2 * at]);
        talk.until(ms(100 * u64::from(at)));
        talk.up();
        if talk.order.is_settled(talk.now) {
            assert_eq!(at, 15);
            return;
        }
    }
    panic!("no end");
}

#[derive(Clone, Debug)]
enum Step {
    Packet(u8, u32, u8),
    Begin(bool),
    Later(u64),
    Close(Option<u32>),
    Discard,
}

fn step() -> impl Strategy<Value = Step> {
    let at = prop_oneof![6 => 0..600u32, 1 => any::<u32>()];
    prop_oneof![
        20 => (prop_oneof![8 => Just(PLAY), 1 => any::<u8>()], at, any::<u8>()).prop_map(|(n, at, low)| Step::Packet(n, at, low)),
        20 => (0..600u32).prop_map(|at| Step::Packet(PLAY, at, at as u8)),
        1 => any::<bool>().prop_map(Step::Begin),
        5 => (0..400u64).prop_map(Step::Later),
        1 => prop::option::of(0..600u32).prop_map(Step::Close),
        1 => Just(Step::Discard),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_rises_is_bounded_and_waits_for_what_is_to_come(
        window in 0..300usize,
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let mut talk = Talk::with(window);
        let mut last: Option<i64> = None;
        let mut is_backward = false;
        for step in steps {
            match step {
                Step::Packet(number, at, low) => {
                    talk.order.insert(talk.now, data(number, at, low.into()));
                }
                Step::Begin(backward) => {
                    is_backward = backward;
                    talk.order.begin(PLAY, backward);
                    last = None;
                }
                Step::Later(by) => talk.now += ms(by),
                Step::Close(end) => talk.order.close(talk.now, end),
                Step::Discard => talk.order.discard(),
            }
            let numbers = talk.asks();
            prop_assert!(numbers.len() <= 9 * RequestPacketListResend::MAX_PACKETS);
            while let Some(item) = talk.order.pop() {
                match item {
                    Item::Lost(packets) => prop_assert!(packets > 0),
                    Item::Packet(data) => {
                        let at = i64::from(data.location_id.0) * if is_backward { -1 } else { 1 };
                        prop_assert!(last.is_none_or(|last| at > last), "{at} behind {last:?}");
                        last = Some(at);
                    }
                }
            }
            let order = &talk.order;
            prop_assert!(order.slots.len() <= order.settings.window + 256);
            let missing = order.slots.iter().filter(|slot| matches!(slot, Slot::Missing(_))).count();
            prop_assert_eq!(missing, order.holes);
            let due = order.next_due(talk.now);
            prop_assert!(due.is_none_or(|due| due > talk.now));
            prop_assert!(missing == 0 || due.is_some_and(|due| due <= talk.now + Udp::DEADLINE), "a hole is waited for in vain");
        }
    }

    #[test]
    fn what_comes_in_any_order_within_reach_goes_up_whole(
        jitter in prop::collection::vec(0..100u32, 700),
        doubled in prop::collection::vec(any::<bool>(), 700),
    ) {
        let mut arrivals: Vec<(u32, u32)> = jitter.iter().zip(0..).map(|(jitter, n)| (n + jitter, n)).collect();
        arrivals.extend(doubled.iter().zip(0..).filter(|(doubled, _)| **doubled).map(|(_, n)| (n + 110, n)));
        arrivals.sort_by_key(|(at, _)| *at);
        let mut talk = Talk::new();
        talk.all(arrivals.into_iter().map(|(_, number)| number));
        prop_assert_eq!(talk.up(), (0..700).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
