//! A thread of the load: connects its viewers on schedule and reads whatever comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::tally::Tally;
use super::viewer::{Viewer, Window};
use super::{Plan, Shared};
use crate::common::shape::now;

/// What one read takes at most, bytes.
const READ: usize = 256 * 1024;
/// How often the schedule of joins is looked at.
const TICK: Duration = Duration::from_millis(1);
/// How often the end is looked for, when nothing comes.
const IDLE: Duration = Duration::from_millis(100);

/// The viewers of one thread.
#[derive(Debug)]
pub struct Player {
    plan: Plan,
    shared: Arc<Shared>,
    poll: Poll,
    /// Who is still to connect, the next one last.
    waiting: Vec<usize>,
    /// `None` once it failed, or has all.
    viewers: Vec<Option<Viewer>>,
    tally: Tally,
}

impl Player {
    pub fn new(plan: Plan, indices: impl Iterator<Item = usize>, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let mut waiting: Vec<usize> = indices.collect();
        waiting.reverse();
        let viewers = Vec::with_capacity(waiting.len());
        Ok(Self { plan, shared, poll: Poll::new()?, waiting, viewers, tally: Tally::new()? })
    }

    /// Plays until it is told that all is over.
    pub fn run(mut self) -> anyhow::Result<Tally> {
        let began = Instant::now();
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ];
        while !self.shared.is_over.load(Ordering::Acquire) {
            self.connect_due(began.elapsed())?;
            let patience = if self.waiting.is_empty() { IDLE } else { TICK };
            self.poll.poll(&mut events, Some(patience))?;
            let window = Window {
                begin: self.shared.begin.load(Ordering::Acquire),
                end: self.shared.end.load(Ordering::Acquire),
            };
            for event in &events {
                let Token(seat) = event.token();
                self.turn(seat, event.is_writable(), event.is_readable(), window, &mut buffer);
            }
        }
        let (Self { viewers, mut tally, .. }, now) = (self, now());
        for viewer in viewers.into_iter().flatten() {
            tally.short += usize::from(viewer.leave(now, &mut tally));
        }
        Ok(tally)
    }

    fn connect_due(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let due = elapsed.as_secs_f64() * self.plan.join;
        while let Some(index) = self.waiting.pop_if(|index| *index as f64 <= due) {
            let token = Token(self.viewers.len());
            match Viewer::connect(&self.plan, index) {
                Ok(mut viewer) => {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut viewer.connection.stream, token, interest)?;
                    self.viewers.push(Some(viewer));
                }
                Err(error) => {
                    self.tally.failed(&anyhow::Error::from(error).context("can't connect"));
                    self.shared.settled.fetch_add(1, Ordering::AcqRel);
                    self.shared.done.fetch_add(1, Ordering::AcqRel);
                    self.viewers.push(None);
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self, seat: usize, can_write: bool, can_read: bool, window: Window, buffer: &mut [u8]) {
        let Some(seat) = self.viewers.get_mut(seat) else { return };
        let Some(viewer) = seat else { return };
        let had_joined = viewer.has_joined();
        let mut result = if can_write { viewer.writable() } else { Ok(()) };
        if can_read && result.is_ok() {
            result = viewer.readable(window, buffer, &mut self.tally);
        }
        let has_joined = viewer.has_joined();
        if has_joined && !had_joined {
            self.tally.join(viewer.connection.join_time(now()));
        }
        let is_gone = result.is_err() || viewer.is_done();
        if let Err(error) = result {
            self.tally.failed(&error);
        }
        // Who waits for all to be done finds their bytes there.
        self.shared.bytes.fetch_add(std::mem::take(&mut self.tally.bytes), Ordering::AcqRel);
        if !had_joined && (has_joined || is_gone) {
            self.shared.settled.fetch_add(1, Ordering::AcqRel);
        }
        if is_gone {
            if let Some(viewer) = seat.take() {
                self.tally.short += usize::from(viewer.leave(now(), &mut self.tally));
            }
            self.shared.done.fetch_add(1, Ordering::AcqRel);
        }
    }
}
