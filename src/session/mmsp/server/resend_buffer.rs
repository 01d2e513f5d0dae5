//! What went out lately over UDP, by sequence number, so that it can go out again, `[MS-MMSP]` 3.2.5.13.
//!
//! The packet stays where it is shared, in a ring or an entry, and what that let go of is gone; only what nobody else has is
//! held here. What seldom changes is kept once for a run of packets. Of packets that follow one another in a ring that is all
//! there is to keep; of others, and of those that lost payloads, 16 bytes each.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::frame::{Form, Frame, Framing};
use crate::asf::Kept;
use crate::session::Packet;
use crate::session::packet::Seat;
use crate::wire::mmsp::ids::{Incarnation, Sequence};

/// Packets that are kept at most, whatever the window.
const MAX_SENT: usize = 8192;
/// Bytes that are held at most of packets that nobody else has.
const MAX_HELD: usize = 4 * 1024 * 1024;
/// Into how many runs a window is cut at least: by so much of it packets may stay longer.
const RUNS: u32 = 8;
/// A packet of which all was sent.
const WHOLE: u64 = u64::MAX;

/// The packets of the last seconds.
#[derive(Debug)]
pub(super) struct ResendBuffer {
    window: Duration,
    /// Packets that are kept.
    count: usize,
    /// Those of runs without a seat.
    sent: VecDeque<Sent>,
    /// All but the last run, and when the oldest of them will be too old: not to look at its memory before.
    runs: VecDeque<Run>,
    stale_at: Option<Instant>,
    /// The last run, to which packets are added.
    open: Option<Run>,
    /// The packets of runs that are held, oldest first.
    held: VecDeque<Arc<Packet>>,
    held_bytes: usize,
    /// How many of `sent` were dropped so far.
    dropped: u64,
}

/// One packet that was sent and can't be found by the one before.
#[derive(Debug)]
struct Sent {
    packet: Weak<Packet>,
    /// `Kept::bits`, or `WHOLE`.
    kept: u64,
}

/// Packets with consecutive numbers that have all else in common.
#[derive(Debug)]
struct Run {
    first: Sequence,
    /// Where the first stands; the others are the next ones there, and all of each was sent.
    seat: Option<Seat>,
    /// How many went into `sent` before the first.
    before: u64,
    packets: u32,
    began: Instant,
    ended: Instant,
    incarnation: Incarnation,
    form: Form,
    is_held: bool,
}

impl ResendBuffer {
    /// Nothing yet; packets are kept for `window`.
    pub(super) fn new(window: Duration) -> Self {
        let (sent, runs, held) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { window, count: 0, sent, runs, stale_at: None, open: None, held, held_bytes: 0, dropped: 0 }
    }

    /// `packet` goes out, with a higher number than any before. `is_alone`: nobody keeps it for us, as a history does,
    /// so it has to be held.
    pub(super) fn push(&mut self, now: Instant, packet: &Arc<Packet>, framing: &Framing, is_alone: bool) {
        let &Framing { kept, form, incarnation, sequence } = framing;
        self.forget(now);
        if self.count >= MAX_SENT {
            self.drop_oldest();
        }
        let seat = packet.seat().filter(|_| kept.is_none() && !is_alone);
        let cut = self.window / RUNS;
        let goes_on = |run: &&mut Run| {
            (run.incarnation, run.form, run.is_held) == (incarnation, form, is_alone)
                && run.offset(sequence) == run.packets
                && run.is_followed_by(seat)
                && now.saturating_duration_since(run.began) <= cut
        };
        match self.open.as_mut().filter(goes_on) {
            Some(run) => (run.packets, run.ended) = (run.packets.saturating_add(1), now),
            None => {
                let run = Run {
                    first: sequence,
                    seat: seat.cloned(),
                    before: self.dropped + self.sent.len() as u64,
                    packets: 1,
                    began: now,
                    ended: now,
                    incarnation,
                    form,
                    is_held: is_alone,
                };
                if let Some(closed) = self.open.replace(run) {
                    self.runs.push_back(closed);
                    self.age();
                }
            }
        }
        self.count += 1;
        if self.open.as_ref().is_some_and(|run| run.seat.is_none()) {
            self.sent.push_back(Sent { packet: Arc::downgrade(packet), kept: kept.map_or(WHOLE, |kept| kept.bits()) });
        }
        if is_alone {
            self.held_bytes += packet.bytes.len();
            self.held.push_back(Arc::clone(packet));
            while self.held_bytes > MAX_HELD {
                self.drop_oldest();
            }
        }
    }

    /// The packet that went out as `sequence`, as it was; `None` where it is not known or not there any more.
    pub(super) fn again(&mut self, now: Instant, sequence: Sequence) -> Option<Frame> {
        self.forget(now);
        let oldest = self.oldest()?;
        let place = oldest.offset(sequence);
        let begins_before = |run: &&Run| oldest.offset(run.first) <= place;
        let run = match self.open.as_ref().filter(begins_before) {
            Some(open) => open,
            None => self.runs.get(self.runs.partition_point(|run| begins_before(&run)).checked_sub(1)?)?,
        };
        let offset = run.offset(sequence);
        if offset >= run.packets {
            return None;
        }
        let Run { form, incarnation, .. } = *run;
        if let Some(seat) = &run.seat {
            return Frame::new(seat.packet(offset)?, &Framing { kept: None, form, incarnation, sequence });
        }
        let index = (run.before + u64::from(offset)).checked_sub(self.dropped)?;
        let sent = self.sent.get(usize::try_from(index).ok()?)?;
        let packet = sent.packet.upgrade()?;
        let kept = match sent.kept {
            WHOLE => None,
            bits => Some(Kept::from_bits(bits, packet.outline()?.parts().len())),
        };
        Frame::new(packet, &Framing { kept, form, incarnation, sequence })
    }

    /// When all will be too old that is kept now.
    pub(super) fn forgotten_at(&self) -> Option<Instant> {
        self.open.as_ref()?.ended.checked_add(self.window)
    }

    /// Drops what is too old.
    pub(super) fn forget(&mut self, now: Instant) {
        if self.stale_at.is_some_and(|at| now < at) {
            return;
        }
        while self.oldest().is_some_and(|run| now.saturating_duration_since(run.ended) >= self.window) {
            self.drop_oldest();
        }
        if self.count == 0 && self.sent.capacity() + self.runs.capacity() > 0 {
            (self.sent, self.runs, self.held) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        }
    }

    fn drop_oldest(&mut self) {
        let Some(run) = self.runs.front_mut().or(self.open.as_mut()) else { return };
        self.count = self.count.saturating_sub(1);
        match &mut run.seat {
            Some(seat) => seat.advance(),
            None => {
                self.sent.pop_front();
                (self.dropped, run.before) = (self.dropped + 1, run.before + 1);
            }
        }
        if run.is_held {
            let bytes = self.held.pop_front().map_or(0, |packet| packet.bytes.len());
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
        }
        run.first = run.first.next();
        run.packets = run.packets.saturating_sub(1);
        if run.packets == 0 {
            if self.runs.pop_front().is_none() {
                self.open = None;
            }
            self.age();
        }
    }

    fn oldest(&self) -> Option<&Run> {
        self.runs.front().or(self.open.as_ref())
    }

    /// Another run is the oldest.
    fn age(&mut self) {
        self.stale_at = self.runs.front().and_then(|run| run.ended.checked_add(self.window));
    }
}

impl Run {
    /// Whether the packet of that seat may be the next one. A run without seats takes it as well: packets that lost payloads
    /// and others may take turns.
    fn is_followed_by(&self, seat: Option<&Seat>) -> bool {
        self.seat.as_ref().is_none_or(|first| seat.is_some_and(|next| first.is_before(next, self.packets)))
    }

    /// How far `sequence` is behind the first.
    fn offset(&self, sequence: Sequence) -> u32 {
        sequence.0.wrapping_sub(self.first.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::batch::Batch;
    use crate::session::mmsp::testing::{PACKET_SIZE, packet};

    const WINDOW: Duration = Duration::from_secs(5);

    fn framing(incarnation: u32, sequence: u32) -> Framing {
        Framing {
            kept: None,
            form: Form { packet_size: PACKET_SIZE, is_padded: true, is_restored: false },
            incarnation: Incarnation::from_request(incarnation).unwrap(),
            sequence: Sequence(sequence),
        }
    }

    fn bytes(frame: Frame) -> Vec<u8> {
        let mut batch = Batch::new();
        frame.push(&mut batch);
        batch.to_vec()
    }

    #[test]
    fn a_packet_that_was_sent_takes_16_bytes() {
        assert_eq!(size_of::<Sent>(), 16);
    }

    #[test]
    fn no_more_is_kept_than_a_count_whatever_the_window() {
        let (now, packet) = (Instant::now(), Arc::new(packet(0, 0)));
        let mut sent = ResendBuffer::new(Duration::MAX);
        for sequence in 0..MAX_SENT as u32 + 100 {
            sent.push(now, &packet, &framing(4, sequence), false);
        }
        assert_eq!((sent.sent.len(), sent.runs.len(), sent.held.len()), (MAX_SENT, 0, 0));
        assert!(sent.again(now, Sequence(99)).is_none());
        assert!(sent.again(now, Sequence(100)).is_some() && sent.again(now, Sequence(MAX_SENT as u32 + 99)).is_some());
    }

    #[test]
    fn no_more_is_held_than_some_bytes() {
        let now = Instant::now();
        let large: bytes::Bytes = vec![0; 64 * 1024].into();
        let mut sent = ResendBuffer::new(WINDOW);
        for sequence in 0..100 {
            let packet = Packet::new(crate::asf::PacketNumber(0), 0, large.clone(), large.clone());
            sent.push(now, &Arc::new(packet), &framing(4, sequence), true);
        }
        assert_eq!((sent.sent.len(), sent.held.len(), sent.held_bytes), (64, 64, MAX_HELD));
        sent.forget(now + WINDOW);
        assert_eq!((sent.sent.capacity(), sent.held.capacity(), sent.held_bytes), (0, 0, 0));
    }

    #[test]
    fn numbers_wrap() {
        let (now, packet) = (Instant::now(), Arc::new(packet(0, 0)));
        let mut sent = ResendBuffer::new(WINDOW);
        for sequence in [u32::MAX - 1, u32::MAX, 0, 1] {
            sent.push(now, &packet, &framing(4, sequence), false);
            assert!(sent.again(now, Sequence(sequence)).is_some());
        }
        assert_eq!(sent.runs.len(), 0);
        assert!(sent.again(now, Sequence(2)).is_none() && sent.again(now, Sequence(u32::MAX - 2)).is_none());
    }

    #[test]
    fn packets_of_one_ring_take_no_place_of_their_own() {
        let (now, mut row) = (Instant::now(), Arc::default());
        let shared: Vec<_> = (0..200).map(|number| packet(number, 0).seated(&mut row)).collect();
        let mut sent = ResendBuffer::new(WINDOW);
        // It joins in the middle of a row, and jumps later.
        let given: Vec<_> = shared[30..120].iter().chain(&shared[150..]).collect();
        for (sequence, packet) in (0..).zip(&given) {
            sent.push(now, packet, &framing(4, sequence), false);
        }
        assert_eq!((sent.count, sent.sent.len(), sent.runs.len()), (140, 0, 3));
        for (sequence, packet) in (0..).zip(&given) {
            let was = Frame::new(Arc::clone(packet), &framing(4, sequence)).unwrap();
            assert_eq!(bytes(sent.again(now, Sequence(sequence)).unwrap()), bytes(was));
        }
        // What the ring lets go of is gone.
        drop(given);
        drop(shared);
        assert!(sent.again(now, Sequence(0)).is_none() && sent.again(now, Sequence(139)).is_none());
        sent.forget(now + WINDOW);
        assert_eq!((sent.count, sent.runs.capacity()), (0, 0));
    }

    proptest! {
        #[test]
        fn what_comes_again_is_what_was_sent_and_nothing_is_older_than_it_may_be(
            steps in prop::collection::vec((1u32..4, 0u32..3, 0u64..1500, 0u8..6), 1..100),
            begin in prop_oneof![Just(0u32), Just(u32::MAX - 40)],
        ) {
            let mut now = Instant::now();
            let mut sent = ResendBuffer::new(WINDOW);
            let (mut sequence, mut all, mut shared, mut row) = (begin, Vec::new(), Vec::new(), Arc::default());
            for (number, (incarnation, hole, later, kind)) in steps.into_iter().enumerate() {
                let is_alone = kind == 0;
                now += Duration::from_millis(later);
                sequence = sequence.wrapping_add(hole);
                let packet = packet(number as u64, 0);
                // Most stand in a row, as those of a ring.
                let packet = if kind > 1 { packet.seated(&mut row) } else { Arc::new(packet) };
                let framing = framing(incarnation, sequence);
                all.push((now, sequence, bytes(Frame::new(Arc::clone(&packet), &framing).unwrap())));
                sent.push(now, &packet, &framing, is_alone);
                if !is_alone {
                    shared.push(packet);
                }
                sequence = sequence.wrapping_add(1);
                for (at, sequence, was) in &all {
                    match sent.again(now, Sequence(*sequence)) {
                        Some(frame) => {
                            prop_assert_eq!(&bytes(frame), was);
                            prop_assert!(now - *at < WINDOW + WINDOW / RUNS);
                        }
                        None => prop_assert!(now - *at >= WINDOW),
                    }
                }
            }
        }
    }
}
