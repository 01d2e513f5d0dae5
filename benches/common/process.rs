//! A process of the measurement, and what the kernel says about it.

use std::io::{BufRead, BufReader, Lines};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mmsproxy::commands::limits::make_room;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The longest time that a process may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends with this value.
#[derive(Debug)]
pub struct Process {
    pub child: Child,
    /// What it prints; `None` if nobody listens.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts a program, confined to `cores` (a list as taskset takes it).
    pub fn start(program: &str, arguments: &[String], cores: Option<&str>) -> anyhow::Result<Self> {
        Self::spawn(program, arguments, cores, Stdio::null())
    }

    /// Starts this program in another role.
    pub fn start_role(arguments: &[String], cores: Option<&str>) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let arguments: Vec<_> = std::iter::once("--bench".to_owned()).chain(arguments.iter().cloned()).collect();
        Self::spawn(&program.to_string_lossy(), &arguments, cores, Stdio::piped())
    }

    fn spawn(program: &str, arguments: &[String], cores: Option<&str>, output: Stdio) -> anyhow::Result<Self> {
        let mut command = match cores {
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", cores, program]);
                command
            }
            None => Command::new(program),
        };
        let mut child = command
            .args(arguments)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        let lines = child.stdout.take().map(|output| BufReader::new(output).lines());
        Ok(Self { child, lines })
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let next = self.lines.as_mut().and_then(Iterator::next);
        Ok(next.context("a process of the measurement ended early")??)
    }

    /// Waits until it listens there.
    pub fn await_listener(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(begin.elapsed() < PATIENCE, "nobody listens on {address}");
            ensure!(self.child.try_wait()?.is_none(), "a server of the measurement ended at once");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// User and system time so far: fields 14 and 15 of `/proc/…/stat`, in ticks of 10 ms.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = self.proc("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
    }

    /// Resident memory, bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")?;
        Ok(kib * 1024)
    }

    /// What the kernel tells of it under `/proc/…/name`.
    pub fn proc(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id()))?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about one that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on loopback where nobody listens.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// CPU time of all that runs on this machine, so far.
pub fn machine_cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no cpu in stat")?;
    let ticks = line.split_whitespace().map(str::parse::<u64>).collect::<Result<Vec<_>, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in them already.
    let busy: u64 =
        ticks.iter().take(8).enumerate().filter(|(at, _)| !(3..5).contains(at)).map(|(_, ticks)| ticks).sum();
    Ok(Duration::from_millis(10 * busy))
}

/// Memory that all TCP sockets of the machine hold in the kernel, bytes.
pub fn kernel_memory() -> anyhow::Result<u64> {
    const PAGE: u64 = 4096;
    let sockets = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = sockets.lines().find(|line| line.starts_with("TCP:")).context("no TCP in sockstat")?;
    let pages: u64 = line.split_whitespace().last().context("no mem in sockstat")?.parse()?;
    Ok(pages * PAGE)
}

/// Raises the soft limit of open files to the hard one, and makes room for them as the proxy does.
pub fn raise_open_files() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(make_room(hard)?)
}

/// The cores of the measured server and those of the others, as taskset names them.
pub fn cores(of_server: Option<usize>) -> anyhow::Result<(Option<String>, Option<String>)> {
    let all = thread::available_parallelism()?.get();
    Ok(match of_server {
        None => (None, None),
        Some(count) if count >= all => (Some(format!("0-{}", all - 1)), None),
        Some(count) => (Some(format!("0-{}", count.max(1) - 1)), Some(format!("{}-{}", count.max(1), all - 1))),
    })
}
