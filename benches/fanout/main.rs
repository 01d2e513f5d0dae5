//! One broadcast, many viewers, over real sockets on loopback: what the proxy needs for it, and what the simplest possible
//! fan-out of the same bytes to the same sockets needs (the floor), measured in turn and in one run.
//!
//! `cargo bench --bench fanout` measures 1,000 viewers at 300 kbit/s; `-- --help` lists the rest, BENCHMARKS.md tells what
//! the figures mean. Each part is a process of its own, started from this one: the proxy, the floor or icecast2, whose CPU
//! time and memory are read from `/proc`; an origin with a synthetic broadcast; and the load, which plays all viewers.

mod broadcast;
#[path = "../common/mod.rs"]
mod common;
mod floor;
mod icecast;
mod load;
mod measure;
mod options;
mod report;

use clap::Parser;

use crate::options::{Options, Role};

fn main() -> anyhow::Result<()> {
    // `cargo test --all-targets` runs this, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let options = Options::parse();
    match options.role {
        None => measure::run(&options.measurement),
        Some(Role::Floor(floor)) => floor::run(&floor),
        Some(Role::Load { plan }) => load::run(&serde_json::from_str(&plan)?),
        Some(Role::Source(source)) => icecast::feed(&source),
    }
}
