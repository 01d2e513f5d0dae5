//! One viewer: its connection, and what it has seen of the content.

use std::io;

use anyhow::{Context, ensure};

use super::tally::Tally;
use super::{Plan, Protocol, Take};
use crate::common::connection::Connection;
use crate::common::framer::DataHead;
use crate::common::script::Script;
use crate::common::shape::{PREROLL, Shape, now};

#[derive(Debug)]
pub struct Viewer {
    pub connection: Connection,
    script: Script,
    seen: Seen,
    /// Over HTTP: the end of the answer's head did not come yet.
    is_in_head: bool,
}

/// How far it is.
#[derive(Debug)]
struct Seen {
    shape: Shape,
    first: u64,
    /// The packet that comes next.
    next: u64,
    /// The packet behind the last that is wanted.
    end: u64,
    /// When the first packet came, in nanoseconds of the wall clock.
    began: Option<u64>,
    /// A packet came a preroll too late: no player would have had it.
    stood_still: bool,
}

/// What is measured now, in nanoseconds of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub begin: u64,
    pub end: u64,
}

impl Viewer {
    /// Begins to connect.
    pub fn connect(plan: &Plan, index: usize) -> io::Result<Self> {
        let first = plan.first(index);
        let end = match plan.take {
            Take::Window(_) => u64::MAX,
            Take::Packets(count) => first + count,
        };
        Ok(Self {
            connection: Connection::begin(plan.server, index)?,
            script: plan.script(index),
            seen: Seen { shape: plan.shape, first, next: first, end, began: None, stood_still: false },
            is_in_head: plan.protocol == Protocol::Http,
        })
    }

    /// The first packet came.
    pub fn has_joined(&self) -> bool {
        self.seen.began.is_some()
    }

    /// It has all it wants.
    pub fn is_done(&self) -> bool {
        self.seen.next >= self.seen.end
    }

    pub fn writable(&mut self) -> anyhow::Result<()> {
        self.connection.writable(&self.script)
    }

    /// Reads what is there.
    pub fn readable(&mut self, window: Window, buffer: &mut [u8], tally: &mut Tally) -> anyhow::Result<()> {
        while let Some(read) = self.connection.read(buffer)? {
            tally.bytes += read as u64;
            self.take(&buffer[..read], window, tally)?;
            // Edge-triggered, but epoll tells again once more comes: a short read has taken all there was.
            if self.is_done() || read < buffer.len() {
                break;
            }
        }
        Ok(())
    }

    /// It leaves, and tells which packets it had; whether it was short of any at `now`.
    pub fn leave(self, now: u64, tally: &mut Tally) -> bool {
        tally.first = tally.first.min(self.seen.first);
        tally.end = tally.end.max(self.seen.next);
        let is_short = self.seen.stood_still || (!self.is_done() && self.seen.late(self.seen.next, now) > STALL);
        self.connection.close(&self.script);
        is_short
    }

    fn take(&mut self, input: &[u8], window: Window, tally: &mut Tally) -> anyhow::Result<()> {
        if std::mem::take(&mut self.is_in_head) {
            let head = input.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("the head comes in pieces")?;
            let status = input.get(9..12).unwrap_or_default();
            ensure!(matches!(status, b"200" | b"206"), "HTTP status {}", String::from_utf8_lossy(status));
            self.connection.framer.leave_out(head + 4);
        }
        let (now, seen) = (now(), &mut self.seen);
        let result = self.connection.take(&self.script, input, |data| seen.packet(data, now, window, tally));
        // Behind the last packet comes the end of the stream, which is no answer to anything.
        if self.is_done() { Ok(()) } else { result }
    }
}

impl Seen {
    fn packet(&mut self, data: &DataHead<'_>, now: u64, window: Window, tally: &mut Tally) -> anyhow::Result<()> {
        let number = u64::from(data.location);
        ensure!(data.stamp()? == number, "packet {number} is another one");
        ensure!(number >= self.next, "packet {number} came instead of {}", self.next);
        tally.skips += u64::from(number > self.next);
        tally.packets += 1;
        self.next = number + 1;
        self.began.get_or_insert(now);
        if (window.begin..window.end).contains(&now) {
            let late = self.late(number, now);
            self.stood_still |= late > STALL;
            tally.late(late);
        }
        Ok(())
    }

    /// How long packet `number` is late at `now`, if it has not come before: nanoseconds.
    fn late(&self, number: u64, now: u64) -> u64 {
        let due = self.began.unwrap_or(now) + self.shape.offset(number) - self.shape.offset(self.first);
        now.saturating_sub(due)
    }
}

/// What a player has in its buffer, nanoseconds.
const STALL: u64 = PREROLL.as_nanos() as u64;
