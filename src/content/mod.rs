//! What a URL names: its parts, the canonical name of a content, the key under which it is split and cached, and the
//! policy that says which origin is asked for it. Values only: no I/O, no clock, and no word of any protocol's messages.
//!
//! - [`url`]: `mms://` URLs, [`host`]: `host[:port]` and host globs
//! - [`name`]: a player's name for a content in its one canonical form; no name climbs out of its route
//! - [`key`]: what the splitter and the cache count as one content
//! - [`allow`]: entries of `forward.allow`
//! - [`route`]: which names a reverse route takes, and what its origins call them
//! - [`policy`]: whom to ask, addresses that may be connected to, loops; [`refusal`]: why not
pub mod allow;
pub mod host;
pub mod key;
pub mod name;
pub mod policy;
mod reach;
pub mod refusal;
pub mod route;
pub mod url;

pub use allow::AllowEntry;
pub use host::{Glob, HostPort};
pub use key::Key;
pub use name::{Name, NameError};
pub use policy::{Choice, Grant, Policy, Rules};
pub use refusal::Refusal;
pub use route::{Origin, Route};
pub use url::{MmsUrl, Scheme};

/// The port of [MS-MMSP] 2.1 for TCP and UDP, meant wherever none is given.
pub const DEFAULT_PORT: u16 = 1755;
