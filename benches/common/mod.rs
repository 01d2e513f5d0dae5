//! What the benchmarks share: processes and what the kernel says of them, the shape of their content, both ends of a
//! handshake, and the table. Each benchmark is a program of its own and takes this folder in as a module, so what only one
//! of them needs stands there.

pub mod connection;
pub mod failures;
pub mod framer;
pub mod handshake;
pub mod meter;
pub mod process;
pub mod quantiles;
pub mod script;
pub mod shape;
pub mod table;
