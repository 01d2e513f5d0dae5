//! The store: what is kept of on-demand content, as files. It knows packets of one size by number and opaque bytes beside
//! them; what is in them, and what is to be kept or dropped, is decided above. Calls block, so they belong on threads of
//! their own.
//!
//! ```text
//! <cache>/lock                        held while a store is open: one proxy a directory
//! <cache>/v1/ab/cdef…/                a key: the first 32 hex digits of its SHA-256
//!     00000000000000a7/               a generation: 16 hex digits; the newest with a valid meta counts
//!         meta                        what is known of the content, with its ASF header
//!         000012.seg                  a segment of which each packet is known: present, or absent at the origin
//!         000013.some                 a segment that was sealed with a part of its packets
//! ```
//!
//! To publish a file: 1. write `<name>.<run>.tmp` beside it; 2. fdatasync it; 3. rename it to `<name>`; 4. fsync the
//! directory. A `.seg` that takes the place of a `.some` is published first, then the `.some` is unlinked: of two, `.seg`
//! counts.
//! To create a generation: 1. make `<generation>.<run>.tmp/`; 2. write its `meta`, fdatasync both; 3. rename the directory;
//! 4. fsync all above it; 5. forget the generations before it.
//! To forget a generation: 1. unlink `meta`; 2. fsync the directory. To remove it: forget it, then unlink the rest.
//!
//! So a crash costs what was not sealed yet, never a sealed segment, and what was forgotten stays so. What a crash leaves is
//! cleared away when its key is met again; nothing is walked at start.

mod direct;
mod entry;
mod error;
mod files;
mod geometry;
mod meta;
mod name;
mod registry;
mod segment;
mod store;
mod tree;
mod walk;

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod tests;

pub use entry::{EntryDir, Listed};
pub use error::{ReadError, StoreError, error_label};
pub use geometry::{Geometry, Place};
pub use meta::Meta;
pub use segment::{SegmentData, SegmentHeader, Slot};
pub use store::{Found, Store, SyncPolicy};
pub use walk::Entries;
