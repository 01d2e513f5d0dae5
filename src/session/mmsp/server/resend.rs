//! What went out lately over UDP, by sequence number, so that it can go out again, `[MS-MMSP]` 3.2.5.13.
//!
//! 16 bytes for each packet. The packet stays where it is shared, in a ring or an entry, and what that let go of is gone;
//! only what nobody else has is held here. What seldom changes is kept once for a run of packets.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::frame::{Form, Frame, Framing};
use crate::asf::Kept;
use crate::session::Packet;
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
pub(super) struct SentLately {
    window: Duration,
    sent: VecDeque<Sent>,
    runs: VecDeque<Run>,
    /// The packets of runs that are held, oldest first.
    held: VecDeque<Arc<Packet>>,
    held_bytes: usize,
    /// How many were dropped so far.
    dropped: u64,
}

/// One packet that was sent.
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
    /// How many packets went before the first.
    before: u64,
    packets: u32,
    began: Instant,
    ended: Instant,
    incarnation: Incarnation,
    form: Form,
    is_held: bool,
}

impl SentLately {
    /// Nothing yet; packets are kept for `window`.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, sent: VecDeque::new(), runs: VecDeque::new(), held: VecDeque::new(), held_bytes: 0, dropped: 0 }
    }

    /// `packet` goes out, with a higher number than any before. `is_alone`: nobody else has it, as rings and entries have
    /// what they give out, so it has to be held.
    pub(super) fn push(&mut self, now: Instant, packet: &Arc<Packet>, framing: &Framing, is_alone: bool) {
        let &Framing { kept, form, incarnation, sequence } = framing;
        self.forget(now);
        if self.sent.len() >= MAX_SENT {
            self.drop_oldest();
        }
        let cut = self.window / RUNS;
        let goes_on = |run: &&mut Run| {
            (run.incarnation, run.form, run.is_held) == (incarnation, form, is_alone)
                && run.offset(sequence) == run.packets
                && now.saturating_duration_since(run.began) <= cut
        };
        match self.runs.back_mut().filter(goes_on) {
            Some(run) => (run.packets, run.ended) = (run.packets.saturating_add(1), now),
            None => {
                let before = self.dropped + self.sent.len() as u64;
                let (began, ended) = (now, now);
                self.runs.push_back(Run {
                    first: sequence,
                    before,
                    packets: 1,
                    began,
                    ended,
                    incarnation,
                    form,
                    is_held: is_alone,
                });
            }
        }
        self.sent.push_back(Sent { packet: Arc::downgrade(packet), kept: kept.map_or(WHOLE, |kept| kept.bits()) });
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
        let oldest = self.runs.front()?;
        let place = oldest.offset(sequence);
        let behind = self.runs.partition_point(|run| oldest.offset(run.first) <= place);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        let offset = run.offset(sequence);
        if offset >= run.packets {
            return None;
        }
        let index = (run.before + u64::from(offset)).checked_sub(self.dropped)?;
        let sent = self.sent.get(usize::try_from(index).ok()?)?;
        let packet = sent.packet.upgrade()?;
        let kept = match sent.kept {
            WHOLE => None,
            bits => Some(Kept::from_bits(bits, packet.outline()?.parts().len())),
        };
        let Run { form, incarnation, .. } = *run;
        Frame::new(packet, &Framing { kept, form, incarnation, sequence })
    }

    /// When all will be too old that is kept now.
    pub(super) fn forgotten_at(&self) -> Option<Instant> {
        self.runs.back()?.ended.checked_add(self.window)
    }

    /// Drops what is too old.
    pub(super) fn forget(&mut self, now: Instant) {
        while self.runs.front().is_some_and(|run| now.saturating_duration_since(run.ended) >= self.window) {
            self.drop_oldest();
        }
        if self.sent.is_empty() && self.sent.capacity() > 0 {
            (self.sent, self.runs, self.held) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        }
    }

    fn drop_oldest(&mut self) {
        let Some(run) = self.runs.front_mut() else { return };
        self.sent.pop_front();
        self.dropped += 1;
        if run.is_held {
            let bytes = self.held.pop_front().map_or(0, |packet| packet.bytes.len());
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
        }
        (run.first, run.before) = (run.first.next(), run.before + 1);
        run.packets = run.packets.saturating_sub(1);
        if run.packets == 0 {
            self.runs.pop_front();
        }
    }
}

impl Run {
    /// How far `sequence` is behind the first.
    fn offset(&self, sequence: Sequence) -> u32 {
        sequence.0.wrapping_sub(self.first.0)
    }
}
