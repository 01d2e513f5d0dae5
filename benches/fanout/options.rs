//! The command line: what is measured, and the roles in which this program starts itself.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::common::shape::Shape;

/// Measures the fan-out of one broadcast to many viewers on loopback: the proxy, and beside it the floor. Fails where a
/// viewer does.
#[derive(Debug, Parser)]
#[command(name = "fanout")]
pub struct Options {
    #[command(flatten)]
    pub measurement: Measurement,
    #[command(subcommand)]
    pub role: Option<Role>,
    /// What `cargo bench` adds.
    #[arg(long, global = true, hide = true)]
    pub bench: bool,
}

/// What is measured.
#[derive(Clone, Debug, Args)]
pub struct Measurement {
    /// Viewers of the broadcast.
    #[arg(long, default_value_t = 1000)]
    pub viewers: usize,
    #[command(flatten)]
    pub shape: Shape,
    /// Length of the window that is measured once all viewers have joined.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Viewers that connect in a second [default: 500].
    #[arg(long)]
    pub join: Option<f64>,
    /// How long packets are gathered for one write to a viewer, by proxy and floor alike; 0 is not at all.
    #[arg(long, default_value = "100ms", value_parser = parse_flush)]
    pub flush: Duration,
    /// Viewers take Data over UDP. The floor sends each packet when it is due, by itself, to many viewers in one call.
    #[arg(long)]
    pub udp: bool,
    /// Percentage of viewers that stop reading once they have joined. The proxy is measured without them, too; all figures
    /// are those of the others.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..100))]
    pub stalled: u32,
    /// How often each server is measured, in turn; reported are medians.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Measures this server alone, with and without --stalled.
    #[arg(long, value_enum)]
    pub only: Option<Target>,
    /// Measures icecast2 as well, if it is installed.
    #[arg(long)]
    pub icecast: bool,
    /// Measures viewers connected to the origin as well: what a server adds to the latency is then told.
    #[arg(long)]
    pub direct: bool,
    /// All viewers connect within one second: it is the joins that count.
    #[arg(long)]
    pub storm: bool,
    /// One more viewer after another joins, and leaves, while the others stream.
    #[arg(long)]
    pub hot_join: bool,
    /// As many viewers as one core carries: --cores 1 --join 1000 --only proxy --rounds 1, and says whether these do pass.
    #[arg(long)]
    pub sustain: bool,
    /// Cores that the measured server is confined to, by taskset; the load gets the others. All share all unless given.
    #[arg(long)]
    pub cores: Option<usize>,
    /// Threads that play the viewers.
    #[arg(long, default_value_t = 1)]
    pub load_threads: usize,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl Measurement {
    /// With what --storm and --sustain imply.
    pub fn settled(&self) -> Self {
        let mut settled = self.clone();
        if self.storm {
            settled.join = self.join.or(Some(self.viewers as f64));
        }
        if self.sustain {
            settled.cores = self.cores.or(Some(1));
            settled.join = self.join.or(Some(1000.0));
            settled.only = self.only.or(Some(Target::Proxy));
            settled.rounds = 1;
        }
        settled
    }

    /// Who is measured, in this order in each round.
    pub fn cases(&self) -> Vec<Case> {
        let case = |target| Case { target, stalled: 0 };
        let stalled = (self.stalled > 0).then_some(self.stalled);
        if let Some(only) = self.only {
            return std::iter::once(case(only)).chain(stalled.map(|stalled| Case { target: only, stalled })).collect();
        }
        let mut cases = vec![case(Target::Proxy)];
        cases.extend(stalled.map(|stalled| Case { target: Target::Proxy, stalled }));
        cases.push(case(Target::Floor));
        cases.extend(self.icecast.then_some(case(Target::Icecast)));
        cases.extend(self.direct.then_some(case(Target::Direct)));
        cases
    }
}

/// A server, and how its viewers behave.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub target: Target,
    /// Percentage of viewers that stop reading.
    pub stalled: u32,
}

impl Case {
    /// What it is called in the report.
    pub fn name(self) -> String {
        match self.stalled {
            0 => self.target.name().into(),
            stalled => format!("{} {stalled}%", self.target.name()),
        }
    }
}

/// A server that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Target {
    /// `mmsproxy serve`, in front of the origin.
    Proxy,
    /// The simplest possible fan-out.
    Floor,
    /// icecast2, fed with the same bytes.
    Icecast,
    /// The origin itself.
    Direct,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Floor => "floor",
            Self::Icecast => "icecast2",
            Self::Direct => "direct",
        }
    }
}

/// A part of the measurement that runs as a process of its own.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// The floor; with a flush of 0, the origin.
    #[command(hide = true)]
    Floor(FloorOptions),
    /// All viewers.
    #[command(hide = true)]
    Load {
        /// A [`load::Plan`](crate::load::Plan), as JSON.
        plan: String,
    },
    /// The source of icecast2.
    #[command(hide = true)]
    Source(SourceOptions),
}

#[derive(Debug, Args)]
pub struct FloorOptions {
    #[command(flatten)]
    pub shape: Shape,
    #[arg(long, value_parser = parse_flush)]
    pub flush: Duration,
    /// Data go over UDP.
    #[arg(long)]
    pub udp: bool,
    /// Threads that write; one for each core unless given.
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Debug, Args)]
pub struct SourceOptions {
    #[command(flatten)]
    pub shape: Shape,
    #[arg(long)]
    pub server: SocketAddr,
}

fn parse_flush(text: &str) -> anyhow::Result<Duration> {
    if text == "0" { Ok(Duration::ZERO) } else { Ok(humantime::parse_duration(text)?) }
}
