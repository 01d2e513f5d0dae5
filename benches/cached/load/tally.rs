//! What the viewers of a thread have counted, and what becomes of it in the report.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::common::failures::Failures;
use crate::common::quantiles::{Quantiles, histogram};

/// Counters of one thread. Times are in nanoseconds.
#[derive(Debug)]
pub struct Tally {
    joins: Histogram<u64>,
    late: Histogram<u64>,
    /// Bytes that came since they were last asked for.
    pub bytes: u64,
    /// Packets that came, of the content.
    pub packets: u64,
    /// Places where packets are missing.
    pub skips: u64,
    /// Viewers whose picture stood still, or that had not all.
    pub short: usize,
    /// The first packet that anybody wanted, and the one behind the last that anybody had.
    pub first: u64,
    pub end: u64,
    failures: Failures,
}

impl Tally {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            joins: histogram()?,
            late: histogram()?,
            bytes: 0,
            packets: 0,
            skips: 0,
            short: 0,
            first: u64::MAX,
            end: 0,
            failures: Failures::default(),
        })
    }

    /// A viewer had its first packet so long after it connected.
    pub fn join(&mut self, nanoseconds: u64) {
        self.joins.saturating_record(nanoseconds);
    }

    /// A packet came so long after its send time; 0 if before.
    pub fn late(&mut self, nanoseconds: u64) {
        self.late.saturating_record(nanoseconds);
    }

    /// A viewer is gone.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.failures.put(error);
    }

    /// Takes another thread's.
    pub fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.joins.add(&other.joins)?;
        self.late.add(&other.late)?;
        self.packets += other.packets;
        self.skips += other.skips;
        self.short += other.short;
        self.first = self.first.min(other.first);
        self.end = self.end.max(other.end);
        self.failures.add(&other.failures);
        Ok(())
    }

    /// Of so many seconds in which `bytes` came.
    pub fn report(&self, bytes: u64, seconds: f64) -> Report {
        Report {
            gigabits: bytes as f64 * 8.0 / 1e9,
            seconds,
            joined: self.joins.len() as usize,
            join: Quantiles::of(&self.joins),
            packets: self.packets,
            distinct: self.end.saturating_sub(self.first),
            late: Quantiles::of(&self.late),
            skips: self.skips,
            short: self.short,
            failed: self.failures.count,
            failures: self.failures.texts.clone(),
        }
    }
}

/// What the load saw.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// What came in the time that is measured.
    pub gigabits: f64,
    pub seconds: f64,
    pub joined: usize,
    pub join: Quantiles,
    /// Packets that came from the beginning on, at all viewers together.
    pub packets: u64,
    /// Packets of the file that anybody had.
    pub distinct: u64,
    pub late: Quantiles,
    pub skips: u64,
    pub short: usize,
    pub failed: usize,
    pub failures: Vec<String>,
}
