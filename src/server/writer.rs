//! Media out. A few writers, as many as there are cores, walk their streaming viewers: frame what is due, one vectored
//! write, next. No packet wakes a viewer, nothing is timed or queued for one.
//!
//! A writer is a thread of its own and no task: what a walk touches of a viewer, here and in the kernel, stays near one
//! core, and a walk over ten thousand viewers holds up no handshake and no origin, for the system divides the cores.
//!
//! With `split.flush` the turns of a writer's viewers are spread over the interval, and a turn that comes late finds more
//! packets for its call. Where that is 0, news of a source wake each writer once, however many viewers it has.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Settings;
use super::cadence::Cadence;
use super::counters::Counters;
use super::viewer::{Scratch, Turn, Viewer};

/// Into how many parts the interval is cut.
const SLOTS: usize = 10;
/// The shortest interval but "at once", and how often viewers are looked after whose media nobody announces.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Viewers that are served between two looks at the clock.
const VIEWERS_PER_LOOK: usize = 16;

/// All writers of a server.
#[derive(Debug)]
pub struct Writers(Vec<Arc<Writer>>);

impl Writers {
    /// Writers that don't work yet: they are made before the server, for the sources of its content to know them.
    pub fn new(settings: &Settings) -> Arc<Self> {
        let writer = |_| Arc::new(Writer::new(settings.flush, settings.flush_max));
        Arc::new(Self((0..settings.writers.max(1)).map(writer).collect()))
    }

    /// There are more media for some viewers: to be called after they were appended. Costs next to nothing unless media
    /// leave at once.
    pub fn news(&self) {
        self.0.iter().for_each(|writer| writer.look());
    }

    /// Sets them to work, until this is dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(&self, counters: &Arc<Counters>) -> io::Result<()> {
        for writer in &self.0 {
            let (works, counters) = (Arc::clone(writer), Arc::clone(counters));
            let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || works.run(&counters))?;
            // Started once: a second thread for the same writer would be no harm, and is not woken.
            let _ = writer.thread.set(thread.thread().clone());
            writer.wake();
        }
        Ok(())
    }

    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The one that serves the viewer of that number.
    pub(super) fn of(&self, id: u64) -> Option<&Arc<Writer>> {
        self.0.get(usize::try_from(id).unwrap_or(0) % self.0.len().max(1))
    }

    /// How many viewers they serve.
    #[cfg(test)]
    pub(super) fn streaming(&self) -> usize {
        self.0.iter().map(|writer| writer.streaming.load(Ordering::Acquire)).sum()
    }
}

type Slot = Mutex<Vec<Arc<Viewer>>>;

/// One writer.
#[derive(Debug)]
pub(super) struct Writer {
    slots: [Slot; SLOTS],
    /// The slot of the viewer that comes next.
    next_slot: AtomicUsize,
    streaming: AtomicUsize,
    /// Woken when the first viewer comes; where media leave at once, by all that is new.
    thread: OnceLock<Thread>,
    is_over: AtomicBool,
    /// 0 is at once.
    flush: Duration,
    flush_max: Duration,
}

impl Writer {
    fn new(flush: Duration, flush_max: Duration) -> Self {
        let flush = if flush.is_zero() { flush } else { flush.max(MIN_INTERVAL) };
        Self {
            slots: Default::default(),
            next_slot: AtomicUsize::new(0),
            streaming: AtomicUsize::new(0),
            thread: OnceLock::new(),
            is_over: AtomicBool::new(false),
            flush,
            flush_max,
        }
    }

    fn is_at_once(&self) -> bool {
        self.flush.is_zero()
    }

    /// Takes a viewer that streams and is on no list.
    pub(super) fn add(&self, viewer: &Arc<Viewer>) {
        let slot = self.next_slot.fetch_add(1, Ordering::Relaxed) % SLOTS;
        let Some(slot) = self.slots.get(slot) else { return };
        // Counted before it is listed: else a turn in between could take it off a count that it is not in yet.
        let before = self.streaming.fetch_add(1, Ordering::AcqRel);
        slot.lock().push(Arc::clone(viewer));
        if before == 0 || self.is_at_once() {
            self.wake();
        }
    }

    /// A viewer it has on its list began or ended something. Without ticks nothing else would make it look.
    pub(super) fn look(&self) {
        if self.is_at_once() {
            self.wake();
        }
    }

    /// Works until the writers are dropped.
    fn run(&self, counters: &Counters) {
        let scratch = Scratch::default();
        if self.is_at_once() {
            self.run_at_once(scratch, counters);
        } else {
            self.run_in_turns(scratch, counters);
        }
    }

    fn run_in_turns(&self, mut scratch: Scratch, counters: &Counters) {
        let turns = u32::try_from(SLOTS).unwrap_or(1);
        let mut cadence = Cadence::new(Instant::now(), self.flush, self.flush_max, turns);
        loop {
            for slot in &self.slots {
                while self.streaming.load(Ordering::Acquire) == 0 {
                    if self.is_over() {
                        return;
                    }
                    thread::park();
                    cadence.resume(Instant::now());
                }
                thread::sleep(cadence.next().saturating_duration_since(Instant::now()));
                let began = Instant::now();
                self.walk(slot, &mut scratch, counters);
                cadence.turn(began, Instant::now());
            }
            if self.is_over() {
                return;
            }
        }
    }

    fn run_at_once(&self, mut scratch: Scratch, counters: &Counters) {
        while !self.is_over() {
            let mut look_again: Option<Instant> = None;
            for slot in &self.slots {
                let next = self.walk(slot, &mut scratch, counters);
                look_again = look_again.into_iter().chain(next).min();
            }
            match look_again {
                // News and time both lead to a walk.
                Some(at) => {
                    let at = at.max(Instant::now() + MIN_INTERVAL);
                    thread::park_timeout(at.saturating_duration_since(Instant::now()));
                }
                None => thread::park(),
            }
        }
    }

    /// Gives each viewer of a slot its turn; returns when the first of them wants another, where media are announced to
    /// nobody.
    fn walk(&self, slot: &Slot, scratch: &mut Scratch, counters: &Counters) -> Option<Instant> {
        // The list is taken out, so that a viewer can be added meanwhile without waiting.
        let mut viewers = std::mem::take(&mut *slot.lock());
        let before = viewers.len();
        let mut look_again: Option<Instant> = None;
        let mut now = Instant::now();
        let (mut index, mut served) = (0, 0);
        while let Some(viewer) = viewers.get(index) {
            match viewer.turn(now, scratch) {
                Turn::Stays(next) => {
                    look_again = look_again.into_iter().chain(next).min();
                    index += 1;
                }
                Turn::Leaves => drop(viewers.swap_remove(index)),
            }
            served += 1;
            if served % VIEWERS_PER_LOOK == 0 {
                now = Instant::now();
            }
        }
        scratch.count(counters);
        self.streaming.fetch_sub(before - viewers.len(), Ordering::AcqRel);
        let mut slot = slot.lock();
        viewers.append(&mut slot);
        *slot = viewers;
        look_again
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Ends a wait, or the next one. Costs next to nothing where the thread works.
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for writer in &self.0 {
            writer.is_over.store(true, Ordering::Release);
            writer.wake();
        }
    }
}
