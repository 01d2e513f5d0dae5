//! The command line: what is measured, and the roles in which this program starts itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::common::shape::{Shape, parse_rate};

/// Measures on loopback what it costs to serve one file to many viewers out of the cache: the proxy, and beside it nginx and
/// the floor. Fails where a viewer does.
#[derive(Debug, Parser)]
#[command(name = "cached")]
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
    /// Viewers [default: 1000; 50 with --fast; 10 with --fill].
    #[arg(long)]
    pub viewers: Option<usize>,
    #[command(flatten)]
    pub shape: Shape,
    /// Length of the window that is measured once all viewers play.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Viewers that connect in a second.
    #[arg(long, default_value_t = 500.0)]
    pub join: f64,
    /// Each viewer takes the whole file as fast as its socket carries it, and asks for that by the accel fields; nginx has no
    /// limit_rate. Measured is all of it, not a window.
    #[arg(long)]
    pub fast: bool,
    /// Measures filling instead of hits: each viewer takes, as with --fast, a file of its own that nobody asked for before,
    /// through the proxy with its cache and through the proxy without. Measured is until the last file is complete on disk.
    #[arg(long, conflicts_with_all = ["fast", "cold", "spread"])]
    pub fill: bool,
    /// Before each round the server is started anew and no page of its files is in memory. Without it, all are.
    #[arg(long)]
    pub cold: bool,
    /// Viewers begin spread over the file, rather than all at its start; needs --size.
    #[arg(long, conflicts_with = "fast", requires = "size")]
    pub spread: bool,
    /// Measures each server with a file four times as large as well: memory must not grow with it.
    #[arg(long)]
    pub grow: bool,
    /// Size of the file in MiB [default: 32 with --fast or --fill, else as much as is played].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub size: Option<u64>,
    /// Bit rate at which the origin sends to the proxy while that fills its cache. Above what the disk takes, a fill may give
    /// up.
    #[arg(long, default_value = "400M", value_parser = parse_rate)]
    pub origin_rate: u64,
    /// A setting of the proxy's cache, as it stands below `cache:` in its config; may be given several times.
    #[arg(long, value_name = "KEY: VALUE")]
    pub cache: Vec<String>,
    /// Who is measured, in this order in each round; ratios are those of the first to each other
    /// [default: proxy,nginx,floor; proxy,relay with --fill].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub servers: Vec<Target>,
    /// The program that is started as nginx.
    #[arg(long, default_value = "nginx")]
    pub nginx: String,
    /// How often each server is measured, in turn; reported are medians.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Cores that the measured server is confined to, by taskset; the load gets the others. All share all unless given.
    #[arg(long)]
    pub cores: Option<usize>,
    /// Threads that play the viewers.
    #[arg(long, default_value_t = 1)]
    pub load_threads: usize,
    /// Where the files are put; for --cold it must be on a disk [default: the system's directory for temporary files].
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Prints JSON instead of a table, with each round.
    #[arg(long)]
    pub json: bool,
}

impl Measurement {
    pub fn viewers(&self) -> usize {
        let default = match (self.fast, self.fill) {
            (true, _) => 50,
            (_, true) => 10,
            _ => 1000,
        };
        self.viewers.unwrap_or(default).max(1)
    }

    /// Whether each viewer takes a whole file, however fast it comes.
    pub fn takes_all(&self) -> bool {
        self.fast || self.fill
    }

    /// Who is measured, in this order in each round.
    pub fn cases(&self) -> Vec<Case> {
        let default: &[Target] = match self.fill {
            true => &[Target::Proxy, Target::Relay],
            false => &[Target::Proxy, Target::Nginx, Target::Floor],
        };
        let servers = if self.servers.is_empty() { default } else { &self.servers };
        let sizes: &[u64] = if self.grow { &[1, LARGER] } else { &[1] };
        servers.iter().flat_map(|target| sizes.iter().map(|times| Case { target: *target, times: *times })).collect()
    }
}

/// Times the size of the file, with `--grow`.
const LARGER: u64 = 4;

/// A server, and what it serves.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub target: Target,
    /// Times the size of the file.
    pub times: u64,
}

impl Case {
    /// What it is called in the report.
    pub fn name(self) -> String {
        let name = match self.target {
            Target::Proxy => "proxy",
            Target::Nginx => "nginx",
            Target::Floor => "floor",
            Target::Relay => "relay",
        };
        if self.times == 1 { name.into() } else { format!("{name} {}x", self.times) }
    }
}

/// A server that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Target {
    /// `mmsproxy serve`, with a cache.
    Proxy,
    /// nginx, with the same bytes as a static file.
    Nginx,
    /// The simplest possible reading and writing.
    Floor,
    /// `mmsproxy serve` without a cache, in front of the floor: each viewer has a session of its own there.
    Relay,
}

/// A part of the measurement that runs as a process of its own.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// The floor; with --at-most, the origin of fills.
    #[command(hide = true)]
    Floor(FloorOptions),
    /// All viewers.
    #[command(hide = true)]
    Load {
        /// A [`load::Plan`](crate::load::Plan), as JSON.
        plan: String,
    },
}

#[derive(Debug, Args)]
pub struct FloorOptions {
    #[command(flatten)]
    pub shape: Shape,
    /// What is served, whatever it is asked for as.
    #[arg(long)]
    pub file: PathBuf,
    /// Everybody gets the file at this bit rate, and a player's wish counts for nothing.
    #[arg(long, value_parser = parse_rate)]
    pub at_most: Option<u64>,
}
