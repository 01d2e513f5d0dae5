//! A proxy for Microsoft Media Server streaming. The rooms, in the order in which they may import one another:
//!
//! - [`wire`]: bytes to values and back, no I/O
//! - [`asf`]: the file format, knows no protocol
//! - [`session`]: the rules of a conversation, no I/O and no clock
//! - [`content`]: what a URL names, and who may be asked for it
//! - [`splitter`]: one upstream broadcast, many viewers
//! - [`cache`]: on-demand content on disk
//! - [`server`]: sockets and tasks, the only asynchronous room
//! - [`config`]: proxy.yaml as a whole
//! - [`metrics`], [`telemetry`]: what Prometheus reads, and logs
//! - [`demo`]: the embedded origin and its generated content
//! - [`cli`], [`commands`]: the command line
#![forbid(unsafe_code)]

pub mod asf;
pub mod cache;
pub mod cli;
pub mod commands;
pub mod config;
pub mod content;
pub mod demo;
pub mod metrics;
pub mod server;
pub mod session;
pub mod splitter;
pub mod telemetry;
pub mod wire;
