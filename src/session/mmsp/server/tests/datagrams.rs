//! Data over UDP: its form, its pace, its end, and the next entry: 3.2.4.1, 3.2.4.2, 3.2.5.8 and 3.2.5.11.1.

use super::*;
use crate::session::Reason;
use crate::session::mmsp::testing::{packet, packet_of};

/// Twice the bit rate of the content here, bytes in a second.
const TWICE: usize = 25_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ready() -> Conversation {
    Conversation::ready_with(with_udp(), FREE, testing::file())
}

fn streaming(script: &Script) -> Conversation {
    let mut c = ready();
    c.plays(script);
    c
}

/// With a pace of the source's, from the first packet on.
fn paced(script: &Script, pace: Pace) -> Conversation {
    let mut c = ready();
    c.viewer_sends(switch(&[(1, 0), (2, 0)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(4));
    c.source_plays(script, pace);
    gets!(c, ReportStartedPlaying);
    c
}

fn three() -> Script {
    Script::packets((0..3).map(|n| packet(n, n as u32 * 100)))
}

fn fails() -> End {
    End::Failed(Refusal::new(Reason::Lost, "the origin closed the connection"))
}

/// Bytes that left together, and when.
fn lumps(c: &Conversation) -> Vec<(Instant, usize)> {
    let mut lumps: Vec<(Instant, usize)> = Vec::new();
    for (at, datagram) in &c.datagrams {
        match lumps.last_mut() {
            Some((last, bytes)) if last == at => *bytes += datagram.len(),
            _ => lumps.push((*at, datagram.len())),
        }
    }
    lumps
}

#[test]
fn header_and_media_are_datagrams_and_messages_are_not() {
    let mut c = Conversation::with(with_udp());
    c.opens(FREE);
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c.viewer_sends(read_block(2));
    gets!(c, ReportReadBlock);
    let pieces = c.viewer_gets_header();
    assert_eq!(testing::joined(&pieces), *testing::header().bytes());
    assert!(pieces.iter().all(|piece| piece.payload.len() <= PACKET_SIZE && piece.play_incarnation.get() == 2));
    c.plays(&three());
    assert_eq!(c.viewer_gets_datagrams(), [(0, 4, 0), (1, 4, 1), (2, 4, 2)]);
    c.viewer_gets_nothing();
}

#[test]
fn a_header_that_was_lost_is_sent_again_with_the_number_of_the_new_request() {
    let mut c = Conversation::with(with_udp());
    c.opens(FREE);
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    gets!(c, ReportOpenFile);
    c.viewer_sends(read_block(2));
    gets!(c, ReportReadBlock);
    // Of several pieces one has left.
    assert_eq!(c.viewer_gets_datagram().af_flags, 0x04);
    c.viewer_sends(inbound::CancelReadBlock { play_incarnation: 2 });
    c.advance(secs(1));
    assert!(c.datagrams.is_empty());
    for number in [3, 4] {
        c.viewer_sends(read_block(number));
        assert_eq!(gets!(c, ReportReadBlock).play_incarnation, number);
        let pieces = c.viewer_gets_header();
        assert!(pieces.iter().all(|piece| u32::from(piece.play_incarnation.get()) == number));
        assert_eq!(testing::joined(&pieces), *testing::header().bytes());
    }
    c.plays(&three());
    assert_eq!(c.viewer_gets_datagrams().len(), 3);
}

#[test]
fn pieces_of_a_header_leave_at_the_bit_rate() {
    let mut c = Conversation::with(with_udp());
    c.opens(FREE);
    c.source_answers(Reply::Opened(Arc::new(testing::file())));
    c.viewer_sends(read_block(2));
    c.advance(secs(2));
    assert!(c.datagrams.len() > 2);
    let took = ms(1) * (PACKET_SIZE as u32 + 8) * 8 / 100;
    for (before, after) in c.datagrams.iter().zip(c.datagrams.iter().skip(1)) {
        assert_eq!(after.0 - before.0, took);
    }
}

#[test]
fn packets_keep_their_padding_where_all_of_them_is_wanted() {
    let mut c = streaming(&Script::packets([packet(0, 0)]));
    assert_eq!(c.viewer_gets_datagram().payload, packet(0, 0).bytes);
    // What came without it goes without it.
    let Packet { bytes: _, stripped, .. } = packet(1, 100);
    let mut c = streaming(&Script::packets([Packet::new(PacketNumber(1), 100, stripped.clone(), stripped.clone())]));
    assert_eq!(c.viewer_gets_datagram().payload, stripped);
    // A part of it has none.
    let mut c = ready();
    c.viewer_sends(switch(&[(1, 2), (2, 0)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(4));
    c.source_plays(&Script::packets([packet(0, 0)]), Pace::AsItComes);
    let payload = c.viewer_gets_datagram().payload;
    assert!(payload.len() < packet(0, 0).stripped.len());
}

#[test]
fn wms4_gets_packets_of_full_size_over_udp_too() {
    let Packet { bytes, stripped, .. } = packet(0, 0);
    let mut c = Conversation::ready_with(with_udp(), WMS4, testing::file());
    c.viewer_sends(start(3));
    c.source_plays(&Script::packets([Packet::new(PacketNumber(0), 0, stripped.clone(), stripped)]), Pace::AsItComes);
    assert_eq!(c.viewer_gets_datagram().payload, bytes);
}

#[test]
fn a_packet_over_udp_is_no_copy() {
    let shared = Arc::new(packet(0, 0));
    let mut c = ready();
    c.viewer_sends(switch(&[(1, 0), (2, 0)]));
    c.viewer_sends(start(4));
    let cursor = Box::new(Script::of([Next::Packet(Arc::clone(&shared))]));
    let reply = Reply::Playing(Playing { cursor, pace: Pace::AsItComes });
    c.session.handle_input(c.now, Input::Reply(reply)).unwrap();
    c.drain();
    let mut datagrams = Batch::new();
    c.session.poll_media(c.now, 1 << 20, &mut Batch::new(), &mut datagrams);
    let pieces: Vec<_> = datagrams.pieces().collect();
    assert_eq!((pieces.len(), pieces[0].0.len(), pieces[0].1.as_ptr()), (1, 8, shared.bytes.as_ptr()));
}

#[test]
fn whatever_the_source_says_a_burst_leaves_at_twice_the_bit_rate_and_in_no_lump() {
    let at_once = Burst { bits_per_second: 0, duration: secs(10) };
    let fast = Burst { bits_per_second: 4_000_000, duration: secs(10) };
    let paces = [
        Pace::AsItComes,
        Pace::AtMost { bits_per_second: 1_000_000 },
        Pace::SendTime { rate: 1.0, burst: at_once, step: secs(1) },
        Pace::SendTime { rate: 1.0, burst: fast, step: secs(1) },
    ];
    for pace in paces {
        // Ten seconds of 100 kbit/s.
        let c = {
            let mut c = paced(&Script::packets((0..600).map(|n| packet(n, n as u32 * 1000 / 60))), pace);
            c.advance(secs(20));
            c
        };
        assert_eq!(c.datagrams.len(), 600, "{pace:?}");
        let lumps = lumps(&c);
        let largest = lumps.iter().map(|(_, bytes)| *bytes).max().unwrap();
        assert!(largest <= TWICE / 10, "{pace:?}: {largest} bytes at once");
        let (began, ended) = (lumps[0].0, lumps.last().unwrap().0);
        let sent: usize = lumps.iter().map(|(_, bytes)| bytes).sum();
        let least = Duration::from_secs_f64((sent - TWICE / 10) as f64 / TWICE as f64);
        assert!(ended - began >= least, "{pace:?}: {:?} rather than {least:?}", ended - began);
        assert!(ended - began < secs(6), "{pace:?}: {:?}", ended - began);
    }
}

#[test]
fn media_by_send_time_leave_in_steps_of_a_turn_and_not_of_a_second() {
    let none = Burst { bits_per_second: 0, duration: Duration::ZERO };
    let script = Script::packets((0..100).map(|n| packet(n, n as u32 * 20)));
    let mut c = paced(&script, Pace::SendTime { rate: 1.0, burst: none, step: secs(1) });
    c.advance(secs(3));
    let lumps = lumps(&c);
    assert_eq!(lumps.len(), 20);
    assert!(lumps.iter().zip(&lumps[1..]).all(|(before, after)| after.0 - before.0 == ms(100)));
    assert!(lumps.iter().all(|(_, bytes)| *bytes == 5 * (PACKET_SIZE + 8)));
}

#[test]
fn no_more_leaves_at_once_than_is_allowed_however_long_a_turn_took() {
    let udp = Udp { flush: ms(20), flush_max: ms(20), max_burst: 1000, ..Udp::default() };
    let mut c = Conversation::ready_with(Settings { udp: Some(udp), ..with_udp() }, FREE, testing::file());
    c.plays(&Script::packets((0..200).map(|n| packet(n, n as u32 * 10))));
    c.datagrams.clear();
    for _ in 0..20 {
        c.now += secs(2);
        let mut datagrams = Batch::new();
        let due = c.session.poll_media(c.now, 1 << 20, &mut Batch::new(), &mut datagrams);
        assert!((1..=1000).contains(&datagrams.bytes()), "{}", datagrams.bytes());
        assert!(due.is_some_and(|due| due > c.now && due < c.now + ms(50)), "{due:?}");
    }
}

#[test]
fn a_full_batch_of_datagrams_is_gone_on_with_at_once() {
    let mut c = streaming(&Script::default());
    let script = Script::packets([packet(0, 0), packet(1, 0)]);
    c.viewer_sends(start_at_packet(5, 7));
    c.source_plays(&Script::default(), Pace::AsItComes);
    c.viewer_sends(stop(5));
    c.viewer_sends(start(6));
    c.asked.clear();
    let reply = Reply::Playing(Playing { cursor: Box::new(script), pace: Pace::AsItComes });
    c.session.handle_input(c.now, Input::Reply(reply)).unwrap();
    c.drain();
    let mut datagrams = Batch::new();
    assert_eq!(c.session.poll_media(c.now, 100, &mut Batch::new(), &mut datagrams), Some(c.now));
    assert_eq!(datagrams.pieces().count(), 1);
    assert_eq!(c.session.poll_media(c.now, 1000, &mut Batch::new(), &mut datagrams), None);
    assert_eq!(datagrams.pieces().count(), 2);
}

#[test]
fn an_end_follows_the_last_datagram_by_200_ms() {
    for end in [End::Complete, fails()] {
        let mut c = streaming(&Script::of([Next::from(packet(0, 0)), Next::Ended(end)]));
        assert_eq!(c.viewer_gets_datagrams().len(), 1);
        c.viewer_gets_nothing_for(ms(199));
        c.advance(ms(1));
        gets!(c, ReportEndOfStream);
        assert!(!c.session.is_streaming());
    }
    // Where nothing was sent lately, nothing is waited for.
    let script = three();
    let mut c = streaming(&script);
    c.advance(secs(1));
    script.goes_on(Next::Ended(End::Complete));
    c.media_come();
    gets!(c, ReportEndOfStream);
}

#[test]
fn a_stop_is_answered_when_the_last_datagram_has_arrived_and_what_follows_waits() {
    let mut c = streaming(&three());
    c.advance(ms(50));
    c.viewer_sends(stop(0x001F_FFFF));
    assert_eq!(c.source_is_asked(), Request::Stop);
    // As VLC does.
    c.viewer_sends(stop(0x001F_FFFF));
    c.viewer_sends(start(4));
    c.viewer_gets_nothing_for(ms(149));
    c.source_is_not_asked();
    c.advance(ms(1));
    assert_eq!(gets!(c, ReportEndOfStream).play_incarnation, 0x001F_FFFF);
    gets!(c, ReportEndOfStream);
    assert!(matches!(c.source_is_asked(), Request::Play(_)));
    c.viewer_gets_nothing();
}

fn changing() -> Script {
    Script::of([
        Next::from(packet(7, 700)),
        Next::Changed(testing::other_header()),
        Next::from(packet(0, 0)),
        Next::from(packet(1, 100)),
    ])
}

/// Up to StreamChange.
fn changed() -> Conversation {
    let mut c = streaming(&changing());
    assert_eq!(c.viewer_gets_datagrams(), [(7, 4, 0)]);
    c.viewer_gets_nothing_for(ms(199));
    c.advance(ms(1));
    assert_eq!(gets!(c, ReportEndOfStream).hr, HResult::S_FALSE);
    let change = gets!(c, ReportStreamChange);
    assert_eq!(change.header_size as usize, testing::other_header().bytes().len());
    c
}

fn gets_entry_header(c: &mut Conversation, number: u32) {
    c.viewer_sends(read_block(number));
    assert_eq!(gets!(c, ReportReadBlock).hr, HResult::S_OK);
    let pieces = c.viewer_gets_header();
    assert!(pieces.iter().all(|piece| u32::from(piece.play_incarnation.get()) == number));
    assert_eq!(testing::joined(&pieces), *testing::other_header().bytes());
}

#[test]
fn the_next_entry_waits_until_the_player_has_its_header_and_starts() {
    let mut c = changed();
    c.advance(secs(4));
    assert!(c.datagrams.is_empty());
    gets_entry_header(&mut c, 5);
    c.advance(secs(2));
    assert!(c.datagrams.is_empty());
    c.viewer_sends(switch(&[(3, 2)]));
    gets!(c, ReportStreamSwitch);
    c.source_is_asked();
    c.viewer_sends(start(6));
    assert_eq!(gets!(c, ReportStartedPlaying).hr, HResult::S_OK);
    c.source_is_not_asked();
    assert_eq!(c.viewer_gets_datagrams(), [(0, 6, 1), (1, 6, 2)]);
}

#[test]
fn the_header_of_the_next_entry_may_be_asked_for_again() {
    let mut c = changed();
    c.viewer_sends(read_block(5));
    gets!(c, ReportReadBlock);
    assert_eq!(c.viewer_gets_datagram().play_incarnation.get(), 5);
    c.viewer_sends(inbound::CancelReadBlock { play_incarnation: 5 });
    c.advance(secs(1));
    assert!(c.datagrams.is_empty());
    gets_entry_header(&mut c, 6);
    gets_entry_header(&mut c, 7);
    c.viewer_sends(read_block(0x100));
    assert_eq!(gets!(c, ReportReadBlock).hr, HResult::E_INVALIDARG);
    c.viewer_sends(start(8));
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_datagrams(), [(0, 8, 1), (1, 8, 2)]);
}

#[test]
fn a_player_that_does_not_follow_to_the_next_entry_is_told_of_an_end() {
    let mut without_header = changed();
    without_header.advance(ms(4999));
    let mut without_start = changed();
    gets_entry_header(&mut without_start, 5);
    without_start.advance(ms(4998));
    for c in [&mut without_header, &mut without_start] {
        c.viewer_gets_nothing_for(Duration::ZERO);
        c.advance(ms(2));
        let end = gets!(c, ReportEndOfStream);
        assert_eq!((end.hr, end.play_incarnation), (HResult::NS_E_TIMEOUT, 4));
        assert_eq!(c.source_is_asked(), Request::Stop);
        assert_eq!(c.session.failure().map(|refusal| refusal.reason), Some(Reason::Timeout));
        assert!(!c.session.is_streaming() && c.closing.is_none());
        // It may still come back.
        c.viewer_sends(read_block(9));
        gets!(c, ReportReadBlock);
        assert_eq!(testing::joined(&c.viewer_gets_header()), *testing::other_header().bytes());
    }
}

#[test]
fn a_stop_ends_the_wait_for_the_next_entry() {
    let mut c = changed();
    c.viewer_sends(stop(4));
    gets!(c, ReportEndOfStream);
    assert_eq!(c.source_is_asked(), Request::Stop);
    c.viewer_gets_nothing_for(secs(20));
}

#[test]
fn sequence_numbers_go_on_over_stops_and_entries() {
    let mut c = changed();
    gets_entry_header(&mut c, 5);
    c.viewer_sends(start(6));
    gets!(c, ReportStartedPlaying);
    assert_eq!(c.viewer_gets_datagrams(), [(0, 6, 1), (1, 6, 2)]);
    c.viewer_sends(stop(6));
    c.advance(secs(1));
    gets!(c, ReportEndOfStream);
    c.asked.clear();
    c.viewer_sends(start(7));
    c.source_plays(&Script::packets([packet_of(9, 0, true)]), Pace::AsItComes);
    assert_eq!(c.viewer_gets_datagrams(), [(9, 7, 3)]);
}
