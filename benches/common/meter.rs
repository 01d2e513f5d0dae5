//! CPU time between two moments: of the server, of the load, and of all others.

use std::time::Duration;

use serde::Serialize;

use super::process::{Process, machine_cpu};

/// The first of the moments.
#[derive(Debug)]
pub struct Meter {
    server: Duration,
    load: Duration,
    machine: Duration,
}

/// Of one server, CPU seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub load_cpu_seconds: f64,
    /// Those of all others on the machine, of the origin too: what makes the figures of one run differ.
    pub other_cpu_seconds: f64,
}

impl Meter {
    /// A load that is yet to be started has used nothing.
    pub fn start(server: &Process, load: Option<&Process>) -> anyhow::Result<Self> {
        let load = load.map(Process::cpu).transpose()?.unwrap_or_default();
        Ok(Self { server: server.cpu()?, load, machine: machine_cpu()? })
    }

    /// What was used since.
    pub fn stop(self, server: &Process, load: &Process) -> anyhow::Result<Usage> {
        let (server, load) = (server.cpu()? - self.server, load.cpu()?.saturating_sub(self.load));
        let others = (machine_cpu()? - self.machine).saturating_sub(server + load);
        Ok(Usage {
            cpu_seconds: server.as_secs_f64(),
            load_cpu_seconds: load.as_secs_f64(),
            other_cpu_seconds: others.as_secs_f64(),
        })
    }
}
