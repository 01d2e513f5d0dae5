//! A viewer's turn: what is unsent leaves, then the media that are due, in one write and under one lock.
//!
//! A viewer has no queue. Whoever gives it a turn, its writer or its own task, brings the batch that media are framed
//! into; only what the socket does not take is the viewer's to keep.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, warn};

use super::facts::{Held, Tally};
use super::outbox::Outbox;
use super::{Inner, Viewer};
use crate::server::counters::Counters;
use crate::server::sockets;
use crate::session::batch::Batch;
use crate::session::mmsp::server::Skip;
use crate::session::skips::Skips;
use crate::session::{Reason, Refusal};

/// Media that leave in one turn at most, bytes: then it is the others' turn.
const BATCH: usize = 64 * 1024;
/// The same, of content that nobody joins in the middle: fewer calls, and nobody waits for a picture.
const STORED: usize = 2 * BATCH;

/// Replies that leave in one call with media at most, bytes.
const REPLIES: usize = 1024;

/// What whoever gives turns brings along.
#[derive(Debug, Default)]
pub(in crate::server) struct Scratch {
    batch: Batch,
    pub(super) datagrams: Batch,
    /// What leaves when the turns of some viewers are over.
    pub(super) outbox: Outbox,
    pub(super) tally: Tally,
}

impl Scratch {
    /// Between two turns: sends datagrams that wait for each other, once they are many.
    pub(in crate::server) fn between(&mut self) {
        if self.outbox.is_full() {
            self.outbox.send(&mut self.tally);
        }
    }

    /// After the last turn: sends what is still here, and counts what was sent since it was last done.
    pub(in crate::server) fn finish(&mut self, counters: &Counters) {
        self.outbox.send(&mut self.tally);
        self.tally.count(counters);
    }
}

/// How a turn went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flushed {
    /// All that is due has left; more is due then.
    All(Option<Instant>),
    /// More is due, and the socket takes it: after the others had their turn.
    More,
    /// The socket takes no more for now.
    Blocked,
}

/// What a writer does with a viewer after its turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::server) enum Turn {
    /// Keeps it, and looks again by then, or when it is stirred; `None` is at the next turn, and no sooner than it is told to.
    Stays(Option<Instant>),
    /// Lets go of it: it does not stream any more.
    Leaves,
}

impl Inner {
    /// Whether what is unsent are replies that media may follow in the same call.
    fn goes_before_media(&self) -> bool {
        !self.is_blocked && self.funnel.is_none() && self.session.is_streaming() && self.unsent.bytes() <= REPLIES
    }
}

impl Viewer {
    /// A writer's turn: sends what is due. The task is told when it has to do something about it.
    pub(in crate::server) fn turn(self: &Arc<Self>, now: Instant, scratch: &mut Scratch) -> Turn {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.is_stirred = false;
        // What nobody announces has to be asked for.
        let look_again = (!inner.session.is_announced()).then_some(now);
        // The task waits for a blocked socket; a broken one shows there, too.
        let flushed = if inner.is_blocked {
            Flushed::All(None)
        } else {
            self.flush(inner, now, scratch).unwrap_or(Flushed::Blocked)
        };
        let turn = match flushed {
            // New deadlines run, and a play may begin anew: that is the task's to see.
            _ if !inner.session.is_streaming() => {
                inner.is_with_writer = false;
                Turn::Leaves
            }
            Flushed::All(due) => return Turn::Stays(due.or(look_again)),
            Flushed::More | Flushed::Blocked => Turn::Stays(look_again),
        };
        drop(guard);
        self.bell.notify_one();
        turn
    }

    /// Writes what is unsent, then media that are due, as far as the socket takes them. Of that only datagrams stay in
    /// `scratch`, until it is finished.
    pub(super) fn flush(
        self: &Arc<Self>,
        inner: &mut Inner,
        now: Instant,
        scratch: &mut Scratch,
    ) -> io::Result<Flushed> {
        if !inner.unsent.is_empty() {
            if inner.goes_before_media() {
                // One call, and one wake-up of the player, for the word that media come and the first of them.
                inner.unsent.move_pieces(usize::MAX, &mut scratch.batch);
            } else {
                let packets = inner.unsent.take_packets();
                let written = sockets::write(&self.stream, &mut inner.unsent)?;
                self.note_sent(inner, written, packets, &mut scratch.tally);
                if written > 0 {
                    inner.progress = now;
                }
                if !inner.unsent.is_empty() {
                    return Ok(self.blocked(inner));
                }
            }
            // An empty queue keeps no room.
            inner.unsent = Batch::new();
        }
        // Whoever of task and writer finds the socket free again says so: nobody else would.
        inner.is_blocked = false;
        inner.held = None;
        inner.progress = now;
        if let Some(later) = self.flush_datagrams(inner, now, &mut scratch.tally) {
            return Ok(Flushed::All(Some(later)));
        }
        let most = if inner.session.is_announced() { BATCH } else { STORED };
        let due = inner.session.poll_media(now, most, &mut scratch.batch, &mut scratch.datagrams);
        if let Some(skip) = inner.session.take_skip() {
            self.skipped(inner, now, skip);
        }
        if !scratch.batch.is_empty() {
            let packets = scratch.batch.take_packets();
            let written = sockets::write(&self.stream, &mut scratch.batch).inspect_err(|_| scratch.batch.clear())?;
            self.note_sent(inner, written, packets, &mut scratch.tally);
            if !scratch.batch.is_empty() {
                inner.unsent = scratch.batch.take_rest();
                return Ok(self.blocked(inner));
            }
        }
        if !scratch.datagrams.is_empty()
            && let Some(later) = self.post_datagrams(inner, now, scratch)
        {
            return Ok(Flushed::All(Some(later)));
        }
        Ok(if due.is_some_and(|due| due <= now) { Flushed::More } else { Flushed::All(due) })
    }

    /// Writers leave the viewer alone from here on, until its socket takes more.
    fn blocked(&self, inner: &mut Inner) -> Flushed {
        inner.is_blocked = true;
        // The count before is given back first, or the gauge would show both for a moment.
        inner.held = None;
        inner.held = Some(Held::new(&self.counters, inner.unsent.held()));
        Flushed::Blocked
    }

    /// The viewer could not keep up. That is told once for a session, and one that never can is ended.
    fn skipped(&self, inner: &mut Inner, now: Instant, skip: Skip) {
        self.counters.viewer_skips.inc();
        let most = self.max_skips;
        let skips = inner.skips.get_or_insert_with(|| Box::new(Skips::new(most)));
        let is_too_many = skips.add(now);
        let (id, Skip { packets, lag }) = (self.id, skip);
        if skips.total() == 1 {
            warn!(viewer = id, packets, ?lag, "the viewer is too slow and jumped to a key frame");
        } else {
            debug!(viewer = id, packets, ?lag, jumps = skips.total(), "another jump");
        }
        if is_too_many && inner.kick.is_none() {
            let detail = format!("{most} jumps in a minute (split.max_skips)");
            inner.kick = Some(Box::new(Refusal::new(Reason::TooSlow, detail)));
            self.bell.notify_one();
        }
    }

    pub(super) fn note_sent(&self, inner: &mut Inner, bytes: usize, packets: u64, tally: &mut Tally) {
        let bytes = bytes as u64;
        inner.facts.sent_bytes += bytes;
        inner.facts.sent_packets += packets;
        let Some(counted) = &inner.counted else { return };
        tally.add(counted, bytes, packets);
        if packets > 0
            && let Some(connected_at) = inner.connected_at.take()
        {
            let seconds = connected_at.elapsed().as_secs_f64();
            self.counters.join_seconds.with_label_values(&[counted.kind.label()]).observe(seconds);
        }
    }
}
