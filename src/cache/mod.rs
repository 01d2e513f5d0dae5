//! On-demand content on disk: what is there, what is on its way, and what has to be asked for.
//!
//! - [`Cache`]: the entries by their keys, and the room that all may take
//! - [`Entry`]: one generation of one content, packet by packet known or unknown
//! - [`Reader`]: a viewer's way through an entry; what it can't go on without is a [`Want`]
//! - [`disk`]: files and their checksums
//! - [`Facts`], [`Report`], [`Export`]: what operators are told of entries, whether the files are right, an entry as a file
//! - `ledger`: what goes when room is needed; `blocks`: what viewers share in memory; `writer`: the thread that seals

mod block;
mod blocks;
mod description;
pub mod disk;
mod entry;
mod export;
mod facts;
mod keeper;
mod ledger;
mod packets;
mod reader;
mod segment;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
mod verify;
mod writer;

#[cfg(test)]
mod film;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Marks, Taken};
pub use export::{Export, ExportError};
pub use facts::Facts;
pub use keeper::{Cache, Hold, Observer, Room, Settings};
pub use packets::{Packets, PacketsError, digest};
pub use reader::{Reader, Want};
pub use summary::Located;
pub use verify::{Fault, Place, PlaceError, Report};
