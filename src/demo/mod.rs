//! The embedded origin and the content it generates: what `mmsproxy demo` and `mmsproxy origin` serve. It sits behind the
//! same seam as the proxy's upstream side, so a viewer meets the same sessions either way; sockets are not its business.
//!
//! - [`content`]: a file made on the spot, with its picture and its sound
//! - [`library`]: what is served, by name
//! - [`on_demand`], [`broadcast`]: the two kinds of content
//! - [`origin`]: answers a viewer out of a library

pub mod broadcast;
pub mod content;
pub mod library;
pub mod on_demand;
pub mod origin;
mod picture;
mod sound;
pub mod storage;
#[cfg(test)]
mod testing;

use std::time::{Duration, Instant};

pub use content::demo_file;
pub use library::Library;
pub use origin::OriginSource;
pub use storage::Storage;

use crate::content::Name;

/// The on-demand clip of [`demo_library`].
pub const DEMO_FILE: &str = "demo.asf";
/// The broadcast of [`demo_library`].
pub const DEMO_BROADCAST: &str = "live";

/// What `mmsproxy demo` serves: a clip of 8 s, short enough to be seen to its end, and a loop of
/// 16 s that goes on the air at `now`. Takes a moment: the
/// content is generated.
///
/// # Errors
/// None that are known; they are those of [`demo_file`].
pub fn demo_library(now: Instant) -> anyhow::Result<Library> {
    let generated = |seconds| anyhow::Ok(Storage::Memory(demo_file(Duration::from_secs(seconds))?.into()));
    let mut library = Library::new();
    library.add_file(&Name::parse(DEMO_FILE)?, generated(8)?)?;
    library.add_broadcast(&Name::parse(DEMO_BROADCAST)?, generated(16)?, now)?;
    Ok(library)
}
