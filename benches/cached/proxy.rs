//! `mmsproxy serve` with a config of the benchmark, and what its metrics say of its cache.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::process::{Process, free_address};
use crate::options::Measurement;

/// How long a fill, or an end, may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is asked.
const POLL: Duration = Duration::from_millis(20);

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    pub process: Process,
    pub address: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    /// One in front of `origin`, with its cache in `cache`, or without.
    pub fn start(
        measurement: &Measurement,
        origin: SocketAddr,
        cache: Option<&Path>,
        cores: Option<&str>,
    ) -> anyhow::Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let files = tempfile::tempdir()?;
        let path = files.path().join("proxy.yaml");
        std::fs::write(&path, config(measurement, origin, cache, address, admin))?;
        let arguments = ["serve".into(), "--config".into(), path.to_string_lossy().into_owned()];
        let mut process = Process::start(env!("CARGO_BIN_EXE_mmsproxy"), &arguments, cores)?;
        process.await_listener(address)?;
        Ok(Self { process, address, admin })
    }

    /// Waits until nothing is filled any more and so many entries are complete, of so many bytes together.
    pub fn await_filled(&mut self, entries: usize, bytes: u64) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let metrics = self.metrics()?;
            let value = |name| value(&metrics, name).with_context(|| format!("this proxy has no metric {name}"));
            let fills = value("mmsproxy_cache_fills")?;
            let (there, held) = (value("mmsproxy_cache_entries")?, value("mmsproxy_cache_bytes")?);
            if fills == 0.0 && there >= entries as f64 && held >= bytes as f64 {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "the cache does not fill: {fills} fills go on, {there} of {entries} entries, {held} of {bytes} bytes"
            );
            ensure!(self.process.child.try_wait()?.is_none(), "the proxy ended while it filled its cache");
            thread::sleep(POLL);
        }
    }

    /// Lets it end by itself, so that what it has is on disk.
    pub fn end(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.process.child.id())?), Signal::SIGTERM)?;
        let begin = Instant::now();
        while self.process.child.try_wait()?.is_none() {
            ensure!(begin.elapsed() < PATIENCE, "the proxy does not end");
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn metrics(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.admin).context("the admin endpoint is gone")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200") {
            bail!("/metrics says {}", answer.lines().next().unwrap_or_default());
        }
        Ok(answer)
    }
}

/// Of a metric without labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn config(
    measurement: &Measurement,
    origin: SocketAddr,
    cache: Option<&Path>,
    address: SocketAddr,
    admin: SocketAddr,
) -> String {
    let viewers = measurement.viewers() + 100;
    let sessions = 2 * viewers;
    let is_cached = cache.is_some();
    let dir = cache.map(|dir| dir.display().to_string()).unwrap_or_default();
    // A viewer that only begins a fill leaves at once.
    let settings: String = ["finish_fill: always".to_owned()]
        .iter()
        .chain(&measurement.cache)
        .map(|setting| format!(", {setting}"))
        .collect();
    format!(
        "listen: {{ mms: [\"{address}\"], admin: \"{admin}\" }}\n\
         routes: [{{ origin: \"mms://{origin}\", cache: {is_cached} }}]\n\
         origin: {{ sessions: {sessions} }}\n\
         cache: {{ dir: \"{dir}\"{settings} }}\n\
         limits: {{ viewers: {viewers}, viewers_per_address: {viewers} }}\n"
    )
}
