//! A thread of the load: connects its viewers on schedule and reads whatever comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use mio::{Events, Interest, Poll, Token};

use super::tally::Tally;
use super::viewer::{Progress, Viewer, Window};
use super::{Plan, Shared};
use crate::common::script::Script;
use crate::common::shape::now;

/// What one read takes at most, bytes: more than ever waits, so that one read takes all.
const READ: usize = 256 * 1024;
/// How often the schedule of joins is looked at.
const TICK: Duration = Duration::from_millis(1);
/// How often the end is looked for, when nothing comes.
const IDLE: Duration = Duration::from_millis(100);
/// Between a joiner that left and the next one.
const BETWEEN_JOINERS: Duration = Duration::from_millis(10);
/// What one joiner may take.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// The viewers of one thread.
#[derive(Debug)]
pub struct Player {
    plan: Plan,
    shared: Arc<Shared>,
    script: Script,
    poll: Poll,
    /// Who is still to connect, the next one last.
    waiting: Vec<usize>,
    viewers: Vec<Seat>,
    tally: Tally,
}

#[derive(Debug)]
struct Seat {
    /// `None` once it failed.
    viewer: Option<Viewer>,
    stalls: bool,
    has_joined: bool,
}

impl Player {
    pub fn new(plan: Plan, indices: impl Iterator<Item = usize>, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let mut waiting: Vec<usize> = indices.collect();
        waiting.reverse();
        let viewers = Vec::with_capacity(waiting.len());
        let (script, poll, tally) = (plan.protocol.script(), Poll::new()?, Tally::new()?);
        Ok(Self { plan, shared, script, poll, waiting, viewers, tally })
    }

    /// Plays until it is told that all is over.
    pub fn run(mut self) -> anyhow::Result<Tally> {
        let began = Instant::now();
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ];
        while !self.shared.is_over.load(Ordering::Relaxed) {
            self.connect_due(began.elapsed())?;
            let patience = if self.waiting.is_empty() { IDLE } else { TICK };
            self.poll.poll(&mut events, Some(patience))?;
            let window = Window {
                begin: self.shared.begin.load(Ordering::Acquire),
                end: self.shared.end.load(Ordering::Acquire),
            };
            for event in &events {
                // The even one is its connection, the odd one where its datagrams come.
                let Token(token) = event.token();
                let seat = token / 2;
                self.turn(seat, event.is_writable(), event.is_readable(), window, &mut buffer);
            }
            self.shared.bytes.fetch_add(std::mem::take(&mut self.tally.bytes), Ordering::AcqRel);
        }
        let Self { viewers, mut tally, plan, shared, .. } = self;
        let window = shared.end.load(Ordering::Acquire) - shared.begin.load(Ordering::Acquire);
        let expected = window as f64 / plan.shape.offset(1) as f64;
        for seat in viewers.iter().filter(|seat| !seat.stalls && seat.has_joined) {
            let counted = seat.viewer.as_ref().map_or(0, Viewer::counted);
            tally.short += usize::from((counted as f64) < expected * SHORT - 1.0);
        }
        Ok(tally)
    }

    fn connect_due(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let due = elapsed.as_secs_f64() * self.plan.join;
        while let Some(index) = self.waiting.pop_if(|index| *index as f64 <= due) {
            let token = 2 * self.viewers.len();
            let mut seat = Seat { viewer: None, stalls: self.plan.stalls(index), has_joined: false };
            match Viewer::connect(&self.plan, index) {
                Ok(mut viewer) => {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut viewer.connection.stream, Token(token), interest)?;
                    if let Some(socket) = &mut viewer.connection.datagrams {
                        self.poll.registry().register(socket, Token(token + 1), Interest::READABLE)?;
                    }
                    seat.viewer = Some(viewer);
                }
                Err(error) => {
                    self.tally.failed(&anyhow::Error::from(error).context("can't connect"));
                    self.shared.settled.fetch_add(1, Ordering::AcqRel);
                }
            }
            self.viewers.push(seat);
        }
        Ok(())
    }

    fn turn(&mut self, seat: usize, can_write: bool, can_read: bool, window: Window, buffer: &mut [u8]) {
        let Some(seat) = self.viewers.get_mut(seat) else { return };
        let Some(viewer) = &mut seat.viewer else { return };
        if seat.stalls && seat.has_joined {
            return;
        }
        let mut result = Ok(Progress::Joining);
        if can_write {
            result = viewer.connection.writable(&self.script).map(|()| Progress::Joining);
        }
        if can_read && result.is_ok() {
            result = viewer.readable(&self.script, self.plan.shape, window, buffer, &mut self.tally);
        }
        match result {
            Ok(Progress::Joined) => {
                self.tally.join(viewer.connection.join_time(now()));
                seat.has_joined = true;
                self.shared.settled.fetch_add(1, Ordering::AcqRel);
            }
            Ok(Progress::Joining | Progress::Playing) => {}
            Err(error) => {
                self.tally.failed(&error);
                seat.viewer = None;
                if !seat.has_joined {
                    self.shared.settled.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }
}

/// Joins and leaves until the window is over. A thread of its own, so that what it waits for is the server alone.
pub fn join_one_after_another(plan: &Plan, shared: &Shared) -> anyhow::Result<Tally> {
    let (script, mut tally) = (plan.protocol.script(), Tally::new()?);
    let mut buffer = vec![0; READ];
    let end = shared.end.load(Ordering::Acquire);
    while now() < end {
        match join_once(plan, &script, &mut buffer) {
            Ok(join) => tally.hot_join(join),
            Err(error) => tally.failed(&error.context("a joiner")),
        }
        std::thread::sleep(BETWEEN_JOINERS);
    }
    Ok(tally)
}

fn join_once(plan: &Plan, script: &Script, buffer: &mut [u8]) -> anyhow::Result<u64> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(4));
    // What it counts is not of the window.
    let (window, mut ignored) = (Window { begin: u64::MAX, end: u64::MAX }, Tally::new()?);
    let mut viewer = Viewer::connect(plan, 0)?;
    poll.registry().register(&mut viewer.connection.stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
    if let Some(socket) = &mut viewer.connection.datagrams {
        poll.registry().register(socket, Token(1), Interest::READABLE)?;
    }
    let began = Instant::now();
    loop {
        let patience = JOIN_PATIENCE.checked_sub(began.elapsed()).context("no media for 10 s")?;
        poll.poll(&mut events, Some(patience))?;
        for event in &events {
            if event.is_writable() {
                viewer.connection.writable(script)?;
            }
            if event.is_readable()
                && viewer.readable(script, plan.shape, window, buffer, &mut ignored)? == Progress::Joined
            {
                let join = viewer.connection.join_time(now());
                viewer.connection.close(script);
                return Ok(join);
            }
        }
    }
}

/// Who got less than this share of the packets is short.
const SHORT: f64 = 0.97;
