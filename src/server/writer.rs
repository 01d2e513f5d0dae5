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

/// Into how many turns the interval is cut at most, and how long a turn is at least: where few watch, to wake up costs more
/// than to write to some of them.
const MAX_SLOTS: usize = 10;
const SLOT: Duration = Duration::from_millis(25);
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
        let count = settings.writers.max(1);
        let now = Instant::now();
        let writer = |index| Arc::new(Writer::new(settings.flush, settings.flush_max, (index, count), now));
        Arc::new(Self((0..count).map(writer).collect()))
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

    /// How many of them have nothing to get for the next `time`.
    #[cfg(test)]
    pub(super) fn resting(&self, time: Duration) -> usize {
        let later = Instant::now() + time;
        let rests = |seat: &Seat| seat.rests_until.is_some_and(|until| until > later);
        let slots = self.0.iter().flat_map(|writer| &writer.slots);
        slots.map(|slot| slot.seats.lock().iter().filter(|seat| rests(seat)).count()).sum()
    }
}

/// Viewers that have their turns together.
#[derive(Debug, Default)]
struct Slot {
    seats: Mutex<Vec<Seat>>,
    /// The numbers of viewers that are to be looked at in the next turn, at rest or not.
    stirred: Mutex<Vec<u64>>,
}

/// A viewer's place in a slot. Most turns of one whose media leave by send time are none, and a look at its own lines of
/// memory costs more than all else of such a turn: what tells that it rests stands here, beside the next one's.
#[derive(Debug)]
struct Seat {
    viewer: Arc<Viewer>,
    id: u64,
    /// There is nothing to do for it until then, unless it is stirred.
    rests_until: Option<Instant>,
}

/// One writer.
#[derive(Debug)]
pub(super) struct Writer {
    slots: Vec<Slot>,
    /// How many writers share the viewers.
    writers: usize,
    streaming: AtomicUsize,
    /// Woken when the first viewer comes; where media leave at once, by all that is new.
    thread: OnceLock<Thread>,
    is_over: AtomicBool,
    /// 0 is at once.
    flush: Duration,
    flush_max: Duration,
    /// Its turns begin at whole steps from here.
    origin: Instant,
}

impl Writer {
    /// The writer of that `index`, of so many, all of which are made `now`.
    fn new(flush: Duration, flush_max: Duration, (index, writers): (usize, usize), now: Instant) -> Self {
        let flush = if flush.is_zero() { flush } else { flush.max(MIN_INTERVAL) };
        let slots = usize::try_from(flush.as_millis() / SLOT.as_millis()).unwrap_or(MAX_SLOTS).clamp(1, MAX_SLOTS);
        let after_first = flush.mul_f64(index as f64 / (slots * writers.max(1)) as f64);
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            writers,
            streaming: AtomicUsize::new(0),
            thread: OnceLock::new(),
            is_over: AtomicBool::new(false),
            flush,
            flush_max,
            origin: now + after_first,
        }
    }

    fn is_at_once(&self) -> bool {
        self.flush.is_zero()
    }

    /// Takes a viewer that streams and is on no list.
    pub(super) fn add(&self, viewer: &Arc<Viewer>) {
        let Some(slot) = self.slot(viewer.id) else { return };
        // Counted before it is listed: else a turn in between could take it off a count that it is not in yet.
        let before = self.streaming.fetch_add(1, Ordering::AcqRel);
        slot.seats.lock().push(Seat { viewer: Arc::clone(viewer), id: viewer.id, rests_until: None });
        if before == 0 || self.is_at_once() {
            self.wake();
        }
    }

    /// The viewer of that number, which is on its list, is another than it was: its rest is over.
    pub(super) fn stir(&self, id: u64) {
        if let Some(slot) = self.slot(id) {
            slot.stirred.lock().push(id);
        }
    }

    /// Where the viewer of that number has its seat.
    fn slot(&self, id: u64) -> Option<&Slot> {
        let of_writer = usize::try_from(id).unwrap_or(0) / self.writers.max(1);
        self.slots.get(of_writer % self.slots.len().max(1))
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
        let turns = u32::try_from(self.slots.len()).unwrap_or(1);
        let mut cadence = Cadence::new(self.origin, self.flush, self.flush_max, turns);
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
        let mut stirred = std::mem::take(&mut *slot.stirred.lock());
        stirred.sort_unstable();
        // The list is taken out, so that a viewer can be added meanwhile without waiting.
        let mut seats = std::mem::take(&mut *slot.seats.lock());
        let before = seats.len();
        let mut look_again: Option<Instant> = None;
        let mut now = Instant::now();
        let (mut index, mut served) = (0, 0);
        while let Some(seat) = seats.get_mut(index) {
            let rests = seat.rests_until.is_some_and(|until| until > now) && stirred.binary_search(&seat.id).is_err();
            if !rests {
                match seat.viewer.turn(now, scratch) {
                    Turn::Stays(next) => seat.rests_until = next,
                    Turn::Leaves => {
                        seats.swap_remove(index);
                        continue;
                    }
                }
            }
            look_again = look_again.into_iter().chain(seat.rests_until).min();
            scratch.between();
            index += 1;
            served += 1;
            if served % VIEWERS_PER_LOOK == 0 {
                now = Instant::now();
            }
        }
        scratch.finish(counters);
        self.streaming.fetch_sub(before - seats.len(), Ordering::AcqRel);
        let mut added = slot.seats.lock();
        seats.append(&mut added);
        *added = seats;
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
