//! What a viewer on UDP lost is sent again: 3.2.5.13.

use proptest::prelude::*;

use super::*;
use crate::session::mmsp::testing::packet;
use crate::wire::mmsp::ids::Sequence;
use crate::wire::mmsp::resend::RequestPacketListResend;

fn request(numbers: impl IntoIterator<Item = u32>) -> RequestPacketListResend {
    RequestPacketListResend {
        client_id: CLIENT_ID,
        source_id: 1,
        begin_packet_list: numbers.into_iter().map(Sequence).collect(),
    }
}

impl Conversation {
    fn asks_again(&mut self, request: &RequestPacketListResend) -> Result<Vec<Bytes>, ResendRefusal> {
        let mut datagrams = Batch::new();
        let packets = self.session.resend(self.now, request, &mut datagrams);
        let again: Vec<Bytes> = datagrams.pieces().map(|(head, body)| [head, body].concat().into()).collect();
        assert_eq!(packets.map_or(0, |packets| packets as usize), again.len());
        packets.map(|_| again)
    }

    /// What was sent so far, by sequence number.
    fn sent(&mut self) -> Vec<Bytes> {
        self.datagrams.drain(..).map(|(_, datagram)| datagram).collect()
    }
}

fn with_budget(percent: u32) -> Settings {
    let udp = Udp { resend_budget: percent, ..Udp::default() };
    Settings { udp: Some(udp), ..with_udp() }
}

/// Packets as a ring has them: somebody else holds them too.
fn shared(count: u64) -> Vec<Arc<Packet>> {
    (0..count).map(|n| Arc::new(packet(n, n as u32 * 20))).collect()
}

fn script(packets: &[Arc<Packet>]) -> Script {
    Script::of(packets.iter().cloned().map(Next::Packet))
}

fn streaming(settings: Settings, script: &Script) -> Conversation {
    let mut c = Conversation::ready_with(settings, FREE, testing::file());
    c.plays(script);
    c
}

#[test]
fn what_was_sent_comes_again_byte_for_byte() {
    let packets = shared(40);
    let mut c = streaming(with_budget(100), &script(&packets));
    c.advance(secs(1));
    let sent = c.sent();
    assert_eq!(sent.len(), 40);
    assert_eq!(c.asks_again(&request([7, 3, 3, 39])), Ok(vec![sent[7].clone(), sent[3].clone(), sent[39].clone()]));
    // A number of its own, no place: resends are not counted.
    c.advance(secs(1));
    assert_eq!(c.asks_again(&request([7])), Ok(vec![sent[7].clone()]));
}

#[test]
fn a_resend_is_no_copy() {
    let packets = shared(1);
    let mut c = streaming(with_udp(), &script(&packets));
    let mut datagrams = Batch::new();
    assert_eq!(c.session.resend(c.now, &request([0]), &mut datagrams), Ok(1));
    assert_eq!(datagrams.pieces().next().map(|(_, body)| body.as_ptr()), Some(packets[0].bytes.as_ptr()));
}

#[test]
fn whoever_does_not_know_the_session_gets_nothing() {
    let packets = shared(3);
    let mut c = streaming(with_udp(), &script(&packets));
    let stranger = RequestPacketListResend { client_id: ClientId(0x1234_5679), ..request([0]) };
    assert_eq!(c.asks_again(&stranger), Err(ResendRefusal::ClientId));
    let other_file = RequestPacketListResend { source_id: 2, ..request([0]) };
    assert_eq!(c.asks_again(&other_file), Err(ResendRefusal::SourceId));
    assert_eq!(c.asks_again(&request([3, 0xFFFF_FFFF])), Err(ResendRefusal::Gone));
    assert_eq!(c.asks_again(&request([])), Err(ResendRefusal::Gone));
    assert_eq!(c.asks_again(&request([0])).map(|again| again.len()), Ok(1));
    let mut c = Conversation::streaming(FREE, testing::file(), &three());
    assert_eq!(c.asks_again(&request([0])), Err(ResendRefusal::NotUdp));
}

fn three() -> Script {
    Script::packets((0..3).map(|n| packet(n, n as u32 * 100)))
}

#[test]
fn what_the_ring_let_go_of_is_not_sent_again() {
    let mut packets = shared(3);
    let mut c = streaming(with_budget(100), &script(&packets));
    let sent = c.sent();
    packets.remove(1);
    assert_eq!(c.asks_again(&request([1])), Err(ResendRefusal::Gone));
    assert_eq!(c.asks_again(&request([0, 1, 2])), Ok(vec![sent[0].clone(), sent[2].clone()]));
}

#[test]
fn what_nobody_else_has_is_held_for_the_window() {
    let alone = Arc::new(packet(0, 0));
    let weak = Arc::downgrade(&alone);
    let script = Script::of([Next::Packet(alone)]);
    let mut c = streaming(with_udp(), &script);
    let sent = c.sent();
    c.advance(Duration::from_millis(4999));
    assert_eq!(c.asks_again(&request([0])), Ok(sent));
    assert!(weak.upgrade().is_some());
    c.advance(Duration::from_millis(1));
    assert_eq!(c.asks_again(&request([0])), Err(ResendRefusal::Gone));
    assert!(weak.upgrade().is_none());
}

#[test]
fn an_ended_play_is_remembered_for_the_window_and_no_longer() {
    let alone = Arc::new(packet(0, 0));
    let weak = Arc::downgrade(&alone);
    let mut c = streaming(with_udp(), &Script::of([Next::Packet(alone), Next::Ended(End::Complete)]));
    c.advance(Duration::from_millis(200));
    gets!(c, ReportEndOfStream);
    assert_eq!(c.asks_again(&request([0])).map(|again| again.len()), Ok(1));
    // Nobody asks, and nothing is sent.
    c.advance(secs(5));
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_part_of_a_packet_comes_again_as_it_was() {
    let packets = shared(3);
    let mut c = Conversation::ready_with(with_budget(100), FREE, testing::file());
    c.viewer_sends(switch(&[(1, 2), (2, 0)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(4));
    let script = script(&packets);
    c.source_plays(&script, Pace::AsItComes);
    let one = c.sent();
    assert!(one.iter().zip(&packets).all(|(sent, packet)| sent.len() < 8 + packet.stripped.len()));
    // What it chooses later does not change what it got before.
    c.viewer_sends(switch(&[(1, 0), (2, 0)]));
    let whole = Arc::new(packet(3, 300));
    script.goes_on(Next::Packet(Arc::clone(&whole)));
    c.media_come();
    let all = [one, c.sent()].concat();
    assert_eq!(all[3][8..], whole.bytes);
    assert_eq!(c.asks_again(&request(0..4)), Ok(all));
}

#[test]
fn wms4_gets_the_padding_again_that_was_put_back() {
    let Packet { bytes, stripped, .. } = packet(0, 0);
    let packets = [Arc::new(Packet::new(PacketNumber(0), 0, stripped.clone(), stripped))];
    let mut c = Conversation::ready_with(with_udp(), WMS4, testing::file());
    c.viewer_sends(start(3));
    c.source_plays(&script(&packets), Pace::AsItComes);
    let sent = c.sent();
    assert_eq!(sent[0][8..], bytes);
    assert_eq!(c.asks_again(&request([0])), Ok(sent));
}

#[test]
fn numbers_of_several_plays_lead_to_their_packets() {
    let packets = shared(3);
    let mut c = streaming(with_budget(100), &script(&packets));
    c.viewer_sends(stop(4));
    c.advance(Duration::from_millis(200));
    c.asked.clear();
    c.viewer_sends(start(9));
    c.source_plays(&script(&packets), Pace::AsItComes);
    let sent = c.sent();
    assert_eq!((sent[2][4], sent[3][4], sent[3][5]), (4, 9, 3));
    assert_eq!(c.asks_again(&request([2, 3])), Ok(vec![sent[2].clone(), sent[3].clone()]));
}

#[test]
fn the_number_that_a_start_leaves_out_leads_to_nothing() {
    let packets = shared(255);
    let mut c = streaming(with_budget(100), &script(&packets));
    c.advance(secs(3));
    let mut sent = c.sent();
    assert_eq!((sent.len(), sent[254][5]), (255, 0xFE));
    c.viewer_sends(stop(4));
    c.advance(secs(1));
    c.asked.clear();
    c.viewer_sends(start(10));
    let next = [Arc::new(packet(255, 5100))];
    c.source_plays(&script(&next), Pace::AsItComes);
    sent.extend(c.sent());
    assert_eq!(sent[255][5], 0);
    assert_eq!(c.asks_again(&request([255])), Err(ResendRefusal::Gone));
    assert_eq!(c.asks_again(&request([254, 256])), Ok(vec![sent[254].clone(), sent[255].clone()]));
}

#[test]
fn a_request_within_the_budget_is_answered_and_the_rest_is_not() {
    let packets = shared(100);
    // A tenth of 100 kbit/s: 1,250 bytes at once, 6 datagrams of 208 bytes.
    let mut c = streaming(with_budget(10), &script(&packets));
    c.advance(secs(2));
    let sent = c.sent();
    assert_eq!(c.asks_again(&request(0..32)), Ok(sent[..6].to_vec()));
    assert_eq!(c.asks_again(&request([7])), Err(ResendRefusal::Budget));
    c.advance(secs(1));
    assert_eq!(c.asks_again(&request(32..64)), Ok(sent[32..38].to_vec()));
    // Without a budget there is still one packet at a time.
    let mut c = streaming(with_budget(0), &script(&packets));
    c.advance(secs(2));
    assert_eq!(c.asks_again(&request(0..32)).map(|again| again.len()), Ok(1));
}

proptest! {
    #[test]
    fn no_more_goes_out_again_in_any_time_than_the_budget(
        requests in prop::collection::vec((prop::collection::vec(0u32..120, 1..33), 0u64..400), 1..30),
    ) {
        let packets = shared(100);
        // Half of 100 kbit/s, and as much at once as goes in a second.
        let mut c = streaming(with_budget(50), &script(&packets));
        c.advance(secs(2));
        let sent = c.sent();
        let mut again = Vec::new();
        for (numbers, later) in requests {
            c.advance(Duration::from_millis(later));
            for datagram in c.asks_again(&request(numbers.clone())).unwrap_or_default() {
                prop_assert!(numbers.iter().any(|&number| sent.get(number as usize) == Some(&datagram)));
                again.push((c.now, datagram.len()));
            }
        }
        for (first, (from, _)) in again.iter().enumerate() {
            let mut bytes = 0;
            for (until, more) in &again[first..] {
                bytes += more;
                prop_assert!(bytes as f64 <= 6250.5 + (*until - *from).as_secs_f64() * 6250.0);
            }
        }
    }
}
