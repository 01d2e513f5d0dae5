//! One viewer: its connection, and what it has counted.

use std::io;

use super::tally::Tally;
use super::{Plan, Protocol};
use crate::common::connection::Connection;
use crate::common::framer::DataHead;
use crate::common::script::Script;
use crate::common::shape::{MARK, MARK_AT, Shape, now};

#[derive(Debug)]
pub struct Viewer {
    pub connection: Connection,
    counts: Counts,
    /// Over HTTP: it does not know yet where packets begin.
    is_lost: bool,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Counts {
    /// The LocationId that came last.
    last: Option<u32>,
    /// Packets of the window.
    counted: u64,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// No media yet.
    Joining,
    /// The first packet came.
    Joined,
    /// More of them.
    Playing,
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
        let mut connection = Connection::begin(plan.server, index)?;
        if plan.udp {
            connection.take_datagrams()?;
        }
        Ok(Self { connection, counts: Counts::default(), is_lost: plan.protocol == Protocol::Http })
    }

    /// Packets of the window that came.
    pub fn counted(&self) -> u64 {
        self.counts.counted
    }

    /// Reads what is there.
    pub fn readable(
        &mut self,
        script: &Script,
        shape: Shape,
        window: Window,
        buffer: &mut [u8],
        tally: &mut Tally,
    ) -> anyhow::Result<Progress> {
        let had_media = self.counts.last.is_some();
        while let Some(length) = self.connection.receive(buffer)? {
            tally.bytes += length as u64;
            let (now, counts) = (now(), &mut self.counts);
            let datagram = &buffer[..length];
            self.connection.take_datagram(script, datagram, |data| counts.count(data, now, window, tally))?;
        }
        while let Some(read) = self.connection.read(buffer)? {
            tally.bytes += read as u64;
            self.take(script, shape, window, &buffer[..read], tally)?;
            // Edge-triggered, but epoll tells again once more comes: a short read has taken all there was.
            if read < buffer.len() {
                break;
            }
        }
        Ok(match (had_media, self.counts.last.is_some()) {
            (true, _) => Progress::Playing,
            (false, true) => Progress::Joined,
            (false, false) => Progress::Joining,
        })
    }

    fn take(
        &mut self,
        script: &Script,
        shape: Shape,
        window: Window,
        mut input: &[u8],
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let now = now();
        if self.is_lost {
            // icecast2 begins anywhere: the next mark tells where the packet around it ends.
            let Some(mark) = input.windows(MARK.len()).position(|bytes| bytes == MARK) else { return Ok(()) };
            self.is_lost = false;
            self.connection.framer.leave_out(shape.packet - MARK_AT);
            input = &input[mark..];
        }
        let counts = &mut self.counts;
        self.connection.take(script, input, |data| counts.count(data, now, window, tally))
    }
}

impl Counts {
    fn count(&mut self, data: &DataHead<'_>, now: u64, window: Window, tally: &mut Tally) -> anyhow::Result<()> {
        if let Some(last) = self.last {
            let missing = data.location.wrapping_sub(last).wrapping_sub(1);
            tally.skips += u64::from(missing > 0);
            tally.skipped += u64::from(missing);
        }
        self.last = Some(data.location);
        let stamp = data.stamp()?;
        if (window.begin..window.end).contains(&stamp) {
            self.counted += 1;
            tally.latency(now.saturating_sub(stamp));
        }
        Ok(())
    }
}
