//! What the viewers of a thread have counted, and what becomes of it in the report.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::common::failures::Failures;
use crate::common::quantiles::{Quantiles, histogram};

/// Counters of one thread. Times are in nanoseconds.
#[derive(Debug)]
pub struct Tally {
    joins: Histogram<u64>,
    hot_joins: Histogram<u64>,
    latencies: Histogram<u64>,
    /// Bytes that came since they were last asked for.
    pub bytes: u64,
    /// Places where LocationIds are missing, and how many are.
    pub skips: u64,
    pub skipped: u64,
    /// Viewers that got less than they should.
    pub short: usize,
    failures: Failures,
}

impl Tally {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            joins: histogram()?,
            hot_joins: histogram()?,
            latencies: histogram()?,
            bytes: 0,
            skips: 0,
            skipped: 0,
            short: 0,
            failures: Failures::default(),
        })
    }

    /// A viewer had its first packet so long after it connected.
    pub fn join(&mut self, nanoseconds: u64) {
        self.joins.saturating_record(nanoseconds);
    }

    /// The same of one that joined while the others streamed.
    pub fn hot_join(&mut self, nanoseconds: u64) {
        self.hot_joins.saturating_record(nanoseconds);
    }

    /// A packet came so long after it was due.
    pub fn latency(&mut self, nanoseconds: u64) {
        self.latencies.saturating_record(nanoseconds);
    }

    /// A viewer is gone.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.failures.put(error);
    }

    /// Takes another thread's.
    pub fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.joins.add(&other.joins)?;
        self.hot_joins.add(&other.hot_joins)?;
        self.latencies.add(&other.latencies)?;
        self.skips += other.skips;
        self.skipped += other.skipped;
        self.short += other.short;
        self.failures.add(&other.failures);
        Ok(())
    }

    /// Of a window in which `bytes` came.
    pub fn report(&self, plan: &Plan, bytes: u64) -> Report {
        Report {
            gigabits: bytes as f64 * 8.0 / 1e9,
            seconds: plan.seconds as f64,
            joined: self.joins.len() as usize,
            join: Quantiles::of(&self.joins),
            hot_joined: self.hot_joins.len() as usize,
            hot_join: Quantiles::of(&self.hot_joins),
            packets: self.latencies.len(),
            latency: Quantiles::of(&self.latencies),
            skips: self.skips,
            skipped: self.skipped,
            short: self.short,
            failed: self.failures.count,
            failures: self.failures.texts.clone(),
        }
    }
}

/// What the load saw.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// What came within the window.
    pub gigabits: f64,
    /// The window.
    pub seconds: f64,
    pub joined: usize,
    pub join: Quantiles,
    pub hot_joined: usize,
    pub hot_join: Quantiles,
    /// Packets that were due in the window and came, at all viewers together.
    pub packets: u64,
    pub latency: Quantiles,
    pub skips: u64,
    pub skipped: u64,
    pub short: usize,
    pub failed: usize,
    pub failures: Vec<String>,
}
