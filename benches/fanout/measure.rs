//! The course of a measurement: origin, server and load as processes, round after round, server after server.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde::Serialize;
use tempfile::TempDir;

use crate::common::meter::{Meter, Usage};
use crate::common::process::{Process, cores, free_address, kernel_memory};
use crate::common::table::Measured;
use crate::icecast;
use crate::load::{Plan, Protocol, Report};
use crate::options::{Case, Measurement, Target};
use crate::report;

/// Viewers that connect in a second, unless told otherwise.
const JOIN: f64 = 500.0;

/// One server, measured once.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub server: String,
    /// Within the window.
    #[serde(flatten)]
    pub usage: Usage,
    /// Resident memory of the server before the first viewer, and at both ends of the window, bytes.
    pub resident_before: u64,
    pub resident_begin: u64,
    pub resident_end: u64,
    /// What TCP held in the kernel at the end of the window more than before the first viewer, on both ends, bytes.
    pub kernel_bytes: u64,
    pub report: Report,
}

impl Measured for Outcome {
    fn server(&self) -> &str {
        &self.server
    }
}

impl Outcome {
    /// Whether all viewers joined and none failed.
    pub fn has_all(&self, viewers: usize) -> bool {
        self.report.joined == viewers && self.report.failed == 0
    }
}

/// Measures all that is asked for and prints it.
pub fn run(measurement: &Measurement) -> anyhow::Result<()> {
    let measurement = measurement.settled();
    let mut outcomes = Vec::new();
    for round in 1..=measurement.rounds.max(1) {
        for case in measurement.cases() {
            if !measurement.json {
                eprintln!("round {round}: {}", case.name());
            }
            outcomes.push(measure(&measurement, case).with_context(|| format!("measuring {}", case.name()))?);
        }
    }
    report::print(&measurement, &outcomes)?;
    let failed = outcomes.iter().filter(|outcome| !outcome.has_all(measurement.viewers)).count();
    ensure!(failed == 0, "viewers failed or never joined in {failed} of {} measurements", outcomes.len());
    Ok(())
}

/// A server under measurement, and what goes when it goes.
pub struct Served {
    pub server: Process,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// Who feeds it.
    pub _source: Option<Process>,
    /// Its configuration.
    pub _files: Option<TempDir>,
}

fn measure(measurement: &Measurement, case: Case) -> anyhow::Result<Outcome> {
    let (server_cores, other_cores) = cores(measurement.cores)?;
    let (server_cores, other_cores) = (server_cores.as_deref(), other_cores.as_deref());
    let served = match case.target {
        Target::Proxy => proxy(measurement, server_cores, other_cores)?,
        Target::Floor => floor(measurement, server_cores)?,
        Target::Direct => {
            let (server, address) = origin(measurement, server_cores)?;
            Served { server, address, protocol: Protocol::Mms, _source: None, _files: None }
        }
        Target::Icecast => icecast::serve(measurement, server_cores, other_cores)?,
    };
    let plan = Plan {
        server: served.address,
        protocol: served.protocol,
        udp: measurement.udp,
        shape: measurement.shape,
        viewers: measurement.viewers,
        join: measurement.join.unwrap_or(JOIN),
        seconds: measurement.seconds,
        stalled: case.stalled,
        hot_join: measurement.hot_join,
        threads: measurement.load_threads,
    };
    let (resident_before, kernel_before) = (served.server.resident()?, kernel_memory()?);
    let mut load = Process::start_role(&["load".into(), serde_json::to_string(&plan)?], other_cores)?;
    load.line()?;
    let meter = Meter::start(&served.server, Some(&load))?;
    let resident_begin = served.server.resident()?;
    load.line()?;
    let usage = meter.stop(&served.server, &load)?;
    let (resident_end, kernel_after) = (served.server.resident()?, kernel_memory()?);
    let report = load.line()?;
    Ok(Outcome {
        server: case.name(),
        usage,
        resident_before,
        resident_begin,
        resident_end,
        kernel_bytes: kernel_after.saturating_sub(kernel_before),
        report: serde_json::from_str(&report)?,
    })
}

fn proxy(measurement: &Measurement, cores: Option<&str>, other_cores: Option<&str>) -> anyhow::Result<Served> {
    let (origin, origin_address) = origin(measurement, other_cores)?;
    let address = free_address()?;
    // One more for whoever joins while all others stream, and some for those that are just leaving.
    let viewers = measurement.viewers + 100;
    // Sessions of viewers that left are a moment longer there than they.
    let sessions = 2 * viewers;
    let config = format!(
        "listen: {{ mms: [\"{address}\"], admin: \"\" }}\n\
         routes: [{{ origin: \"mms://{origin_address}\" }}]\n\
         origin: {{ sessions: {sessions} }}\n\
         split: {{ flush: {}ms }}\n\
         limits: {{ viewers: {viewers}, viewers_per_address: {viewers} }}\n",
        measurement.flush.as_millis()
    );
    let files = tempfile::tempdir()?;
    let path = files.path().join("proxy.yaml");
    std::fs::write(&path, config)?;
    let arguments = ["serve".into(), "--config".into(), path.to_string_lossy().into_owned()];
    let mut server = Process::start(env!("CARGO_BIN_EXE_mmsproxy"), &arguments, cores)?;
    server.await_listener(address)?;
    Ok(Served { server, address, protocol: Protocol::Mms, _source: Some(origin), _files: Some(files) })
}

fn floor(measurement: &Measurement, cores: Option<&str>) -> anyhow::Result<Served> {
    let mut arguments = vec!["floor".into(), "--flush".into(), format!("{}us", measurement.flush.as_micros())];
    arguments.extend(measurement.shape.arguments());
    arguments.extend(measurement.udp.then(|| "--udp".into()));
    let mut server = Process::start_role(&arguments, cores)?;
    let address = server.line()?.parse()?;
    Ok(Served { server, address, protocol: Protocol::Mms, _source: None, _files: None })
}

/// The floor that sends each packet when it is due, on one thread.
fn origin(measurement: &Measurement, cores: Option<&str>) -> anyhow::Result<(Process, SocketAddr)> {
    let mut arguments: Vec<String> = ["floor", "--flush", "0", "--threads", "1"].map(String::from).into();
    arguments.extend(measurement.shape.arguments());
    let mut origin = Process::start_role(&arguments, cores)?;
    let address = origin.line()?.parse()?;
    Ok((origin, address))
}
