//! Media out. A few writers, one for each worker thread, walk their streaming viewers: frame what is due, one vectored
//! write, next. No packet wakes anybody. The turns of a writer's viewers are spread over the interval, and a turn that
//! comes late finds more packets for its call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::viewer::{StillStreaming, Viewer};

/// Into how many parts the interval is cut.
const SLOTS: usize = 10;
/// The shortest interval; a configured 0 becomes this.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// One writer.
#[derive(Debug)]
pub struct Writer {
    slots: [Mutex<Vec<Arc<Viewer>>>; SLOTS],
    streaming: AtomicUsize,
    /// Rung when the first viewer comes.
    work: Notify,
    interval: Duration,
}

impl Writer {
    /// A writer that gives each viewer a turn every `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            slots: Default::default(),
            streaming: AtomicUsize::new(0),
            work: Notify::new(),
            interval: interval.max(MIN_INTERVAL),
        }
    }

    /// Takes a viewer that streams and is on no list.
    pub(super) fn add(&self, viewer: &Arc<Viewer>) {
        let slot = usize::try_from(viewer.id).unwrap_or(0) % SLOTS;
        let Some(slot) = self.slots.get(slot) else { return };
        // Counted before it is listed: else a turn in between could take it off a count that it is not in yet.
        let before = self.streaming.fetch_add(1, Ordering::AcqRel);
        slot.lock().push(Arc::clone(viewer));
        if before == 0 {
            self.work.notify_one();
        }
    }

    /// How many viewers it serves.
    #[cfg(test)]
    pub(super) fn streaming(&self) -> usize {
        self.streaming.load(Ordering::Acquire)
    }

    /// Works until its task is dropped.
    pub async fn run(self: Arc<Self>) {
        let slots = u32::try_from(SLOTS).unwrap_or(1);
        let mut turn = tokio::time::interval(self.interval / slots);
        turn.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            for slot in &self.slots {
                if self.streaming.load(Ordering::Acquire) == 0 {
                    self.work.notified().await;
                }
                turn.tick().await;
                self.work_off(slot);
            }
        }
    }

    fn work_off(&self, slot: &Mutex<Vec<Arc<Viewer>>>) {
        let now = Instant::now();
        // The list is taken out, so that a viewer can be added meanwhile without waiting.
        let mut viewers = std::mem::take(&mut *slot.lock());
        let before = viewers.len();
        viewers.retain(|viewer| viewer.flush_media(now) == StillStreaming(true));
        self.streaming.fetch_sub(before - viewers.len(), Ordering::AcqRel);
        let mut slot = slot.lock();
        viewers.append(&mut slot);
        *slot = viewers;
    }
}
