//! One file, many viewers, over real sockets on loopback: what the proxy needs to serve it out of its cache, beside nginx with
//! the same bytes as a static file and the simplest possible reading and writing of them (the floor), measured in turn and in
//! one run. And what it costs to fill the cache, beside relaying the same.
//!
//! `cargo bench --bench cached` measures 1,000 viewers at 300 kbit/s; `-- --help` lists the rest, BENCHMARKS.md tells what the
//! figures mean. Each part is a process of its own, started from this one.

#[path = "../common/mod.rs"]
mod common;
mod content;
mod floor;
mod footprint;
mod load;
mod measure;
mod nginx;
mod options;
mod pages;
mod proxy;
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
    }
}
