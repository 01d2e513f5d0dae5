//! The course of a measurement: server and load as processes, round after round, server after server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use tempfile::TempDir;

use crate::common::meter::{Meter, Usage};
use crate::common::process::{Process, cores, kernel_memory, raise_open_files};
use crate::common::table::Measured;
use crate::content::Content;
use crate::footprint::Footprint;
use crate::load::{Plan, Protocol, Report, Take};
use crate::options::{Case, Measurement, Target};
use crate::proxy::Proxy;
use crate::{nginx, pages, report};

/// Size of the file where viewers take all of it, MiB.
const SIZE: u64 = 32;

/// One server, measured once.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub server: String,
    #[serde(flatten)]
    pub usage: Usage,
    /// Of the server before the first viewer, and at the end.
    pub before: Footprint,
    pub after: Footprint,
    /// What TCP held in the kernel at the end more than before the first viewer, on both ends, bytes.
    pub kernel_bytes: u64,
    /// Of all packets that anybody had, each once.
    pub distinct_bytes: u64,
    pub report: Report,
}

impl Measured for Outcome {
    fn server(&self) -> &str {
        &self.server
    }
}

impl Outcome {
    /// Whether all viewers joined, none failed, and no packet is missing.
    fn is_good(&self, viewers: usize) -> bool {
        self.report.joined == viewers && self.report.failed == 0 && self.report.skips == 0
    }
}

/// Measures all that is asked for and prints it.
pub fn run(measurement: &Measurement) -> anyhow::Result<()> {
    // Servers inherit it; nginx, as one process, does not raise its own.
    raise_open_files()?;
    let dir = match &measurement.dir {
        Some(dir) => TempDir::new_in(dir),
        None => TempDir::new(),
    };
    let bench = Bench::prepare(measurement, dir.context("can't make a directory for the files")?)?;
    let mut outcomes = Vec::new();
    for round in 1..=measurement.rounds.max(1) {
        for case in measurement.cases() {
            if !measurement.json {
                eprintln!("round {round}: {}", case.name());
            }
            outcomes.push(bench.measure(case).with_context(|| format!("measuring {}", case.name()))?);
        }
    }
    report::print(measurement, &outcomes)?;
    let bad = outcomes.iter().filter(|outcome| !outcome.is_good(measurement.viewers())).count();
    ensure!(bad == 0, "viewers failed, never joined or missed packets in {bad} of {} measurements", outcomes.len());
    Ok(())
}

/// What all rounds share.
struct Bench<'a> {
    measurement: &'a Measurement,
    shelves: Vec<Shelf>,
    server_cores: Option<String>,
    other_cores: Option<String>,
    dir: TempDir,
}

/// A file, and the proxy's cache with it.
struct Shelf {
    times: u64,
    content: Content,
    cache: PathBuf,
    /// It sends to a proxy that fills its cache. It stays: an entry's key names it.
    origin: (Process, SocketAddr),
}

/// A server under measurement, and what goes when it goes.
struct Served {
    server: Server,
    address: SocketAddr,
    protocol: Protocol,
    _origin: Option<Process>,
    _files: Option<TempDir>,
}

enum Server {
    Proxy(Proxy),
    Other(Process),
}

impl Server {
    fn process(&self) -> &Process {
        match self {
            Self::Proxy(proxy) => &proxy.process,
            Self::Other(process) => process,
        }
    }
}

impl<'a> Bench<'a> {
    /// Writes the files and fills the proxy's cache.
    fn prepare(measurement: &'a Measurement, dir: TempDir) -> anyhow::Result<Self> {
        let (server_cores, other_cores) = cores(measurement.cores)?;
        let mut bench = Self { measurement, shelves: Vec::new(), server_cores, other_cores, dir };
        for case in measurement.cases() {
            if bench.shelves.iter().all(|shelf| shelf.times != case.times) {
                bench.shelves.push(bench.shelf(case.times)?);
            }
            if case.target == Target::Proxy && !measurement.fill {
                bench.fill(bench.shelf_of(case)?).context("filling the cache")?;
            }
        }
        Ok(bench)
    }

    fn shelf(&self, times: u64) -> anyhow::Result<Shelf> {
        let (measurement, shape) = (self.measurement, self.measurement.shape);
        let asked = measurement.size.or(measurement.takes_all().then_some(SIZE)).unwrap_or(0) << 20;
        let packets = times * (asked / shape.packet as u64).max(self.played());
        let content = Content::write(self.dir.path().join(format!("content-{times}")), shape, packets)?;
        let cache = self.dir.path().join(format!("cache-{times}"));
        std::fs::create_dir(&cache)?;
        let origin = self.floor(&content, Some(measurement.origin_rate), self.other_cores.as_deref())?;
        Ok(Shelf { times, content, cache, origin })
    }

    fn shelf_of(&self, case: Case) -> anyhow::Result<&Shelf> {
        self.shelves.iter().find(|shelf| shelf.times == case.times).context("a file was not written")
    }

    /// Packets that a viewer plays at most, where it plays at the content's pace.
    fn played(&self) -> u64 {
        let measurement = self.measurement;
        if measurement.takes_all() {
            return 1;
        }
        let longest = Plan::longest(measurement.viewers(), measurement.join, measurement.seconds);
        longest.as_nanos() as u64 / measurement.shape.offset(1) + 1
    }

    /// A viewer begins the fill and leaves.
    fn fill(&self, shelf: &Shelf) -> anyhow::Result<()> {
        let mut proxy = Proxy::start(self.measurement, shelf.origin.1, Some(&shelf.cache), None)?;
        let plan = self.plan(shelf, proxy.address, Protocol::Mms);
        let plan = Plan { viewers: 1, take: Take::Packets(1), spread: 0, threads: 1, ..plan };
        let mut load = self.load(&plan)?;
        load.line()?;
        let report: Report = serde_json::from_str(&load.line()?)?;
        ensure!(report.failed == 0, "the viewer that begins it failed: {}", report.failures.join(", "));
        proxy.await_filled(1, shelf.content.bytes())?;
        proxy.end()
    }

    fn measure(&self, case: Case) -> anyhow::Result<Outcome> {
        let (measurement, shelf) = (self.measurement, self.shelf_of(case)?);
        match measurement.cold {
            true => pages::drop_all(self.dir.path())?,
            false => pages::load(self.dir.path())?,
        }
        // Entries of this round's fill are new to the cache.
        let cache = tempfile::tempdir_in(self.dir.path())?;
        let mut served = self.serve(case, shelf, if measurement.fill { cache.path() } else { &shelf.cache })?;
        let plan = self.plan(shelf, served.address, served.protocol);
        let (before, kernel_before) = (Footprint::of(served.server.process())?, kernel_memory()?);
        let mut meter = Meter::start(served.server.process(), None)?;
        let mut load = self.load(&plan)?;
        if let Take::Window(_) = plan.take {
            load.line()?;
            meter = Meter::start(served.server.process(), Some(&load))?;
        }
        load.line()?;
        if measurement.fill
            && let Server::Proxy(proxy) = &mut served.server
            && case.target == Target::Proxy
        {
            proxy.await_filled(plan.viewers, plan.viewers as u64 * shelf.content.bytes())?;
        }
        let usage = meter.stop(served.server.process(), &load)?;
        let (after, kernel_after) = (Footprint::of(served.server.process())?, kernel_memory()?);
        let report: Report = serde_json::from_str(&load.line()?)?;
        Ok(Outcome {
            server: case.name(),
            usage,
            before,
            after,
            kernel_bytes: kernel_after.saturating_sub(kernel_before),
            distinct_bytes: report.distinct * measurement.shape.packet as u64,
            report,
        })
    }

    fn plan(&self, shelf: &Shelf, server: SocketAddr, protocol: Protocol) -> Plan {
        let measurement = self.measurement;
        let spread = if measurement.spread { shelf.content.packets.saturating_sub(self.played()) } else { 0 };
        Plan {
            server,
            protocol,
            shape: measurement.shape,
            viewers: measurement.viewers(),
            join: measurement.join,
            take: match measurement.takes_all() {
                true => Take::Packets(shelf.content.packets),
                false => Take::Window(measurement.seconds),
            },
            spread,
            own_names: measurement.fill,
            threads: measurement.load_threads,
        }
    }

    fn load(&self, plan: &Plan) -> anyhow::Result<Process> {
        Process::start_role(&["load".into(), serde_json::to_string(plan)?], self.other_cores.as_deref())
    }

    fn serve(&self, case: Case, shelf: &Shelf, cache: &Path) -> anyhow::Result<Served> {
        let (measurement, content, cores) = (self.measurement, &shelf.content, self.server_cores.as_deref());
        let served = |server, address| Served { server, address, protocol: Protocol::Mms, _origin: None, _files: None };
        Ok(match case.target {
            Target::Proxy => {
                let proxy = Proxy::start(measurement, shelf.origin.1, Some(cache), cores)?;
                let address = proxy.address;
                served(Server::Proxy(proxy), address)
            }
            Target::Relay if measurement.fill => {
                let proxy = Proxy::start(measurement, shelf.origin.1, None, cores)?;
                let address = proxy.address;
                served(Server::Proxy(proxy), address)
            }
            Target::Relay => {
                // It minds the players' pace, as the proxy has nothing to mind it with.
                let (origin, origin_address) = self.floor(content, None, self.other_cores.as_deref())?;
                let proxy = Proxy::start(measurement, origin_address, None, cores)?;
                let address = proxy.address;
                Served { _origin: Some(origin), ..served(Server::Proxy(proxy), address) }
            }
            Target::Floor => {
                let (process, address) = self.floor(content, None, cores)?;
                served(Server::Other(process), address)
            }
            Target::Nginx => {
                let files = tempfile::tempdir()?;
                let (process, address) = nginx::serve(measurement, content, files.path(), cores)?;
                Served { protocol: Protocol::Http, _files: Some(files), ..served(Server::Other(process), address) }
            }
        })
    }

    fn floor(
        &self,
        content: &Content,
        at_most: Option<u64>,
        cores: Option<&str>,
    ) -> anyhow::Result<(Process, SocketAddr)> {
        let mut arguments = vec!["floor".into(), "--file".into(), content.asf().to_string_lossy().into_owned()];
        arguments.extend(at_most.into_iter().flat_map(|rate| ["--at-most".into(), rate.to_string()]));
        arguments.extend(content.shape.arguments());
        let mut floor = Process::start_role(&arguments, cores)?;
        let address = floor.line()?.parse()?;
        Ok((floor, address))
    }
}
