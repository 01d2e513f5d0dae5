//! What a server holds and what it has read.

use anyhow::Context;
use serde::Serialize;

use crate::common::process::Process;

/// Of one process, so far; bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Footprint {
    pub resident: u64,
    /// The most that was resident.
    pub peak: u64,
    /// Asked of files, wherever they were; sendfile counts.
    pub read: u64,
    /// That had to come from a disk.
    pub read_from_disk: u64,
}

impl Footprint {
    /// Fields of `/proc/…/status` and `/proc/…/io`.
    pub fn of(process: &Process) -> anyhow::Result<Self> {
        let io = process.proc("io")?;
        Ok(Self {
            resident: process.resident()?,
            peak: 1024 * field(&process.proc("status")?, "VmHWM:")?,
            read: field(&io, "rchar:")?,
            read_from_disk: field(&io, "read_bytes:")?,
        })
    }
}

fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    line.split_whitespace().next().and_then(|value| value.parse().ok()).with_context(|| format!("{name} is no number"))
}
