//! The Advanced Systems Format: headers, data packets, indexes and whole files. Knows no protocol.
//!
//! Source is the ASF specification, revision 01.20.03; sections are cited as `ASF 5.2.2`. All of it is pure but for
//! [`File`] and [`Writer`], which read and write through traits. Nothing here panics on, or allocates by, what a file
//! declares.

pub mod fidelity;
mod field;
pub mod file;
pub mod guid;
pub mod header;
pub mod header_builder;
pub mod index;
pub mod kept;
pub mod key_frames;
mod objects;
pub mod outline;
pub mod packet;
pub mod packetizer;
pub mod padding;
mod read;
pub mod shift;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod thin;
pub mod writer;

pub use file::{File, FileError, ReadAt};
pub use guid::Guid;
pub use header::{FileProperties, Header, HeaderError};
pub use header_builder::{HeaderBuilder, VideoFormat, WaveFormat};
pub use index::{IndexBuilder, PacketSummary, SeekIndex};
pub use kept::Kept;
pub use key_frames::{KeyFrame, KeyFrames, KeyFramesError};
pub use outline::Outline;
pub use packet::{Packet, PacketError, PacketNumber, Payload};
pub use packetizer::{MediaObject, Packetizer};
pub use shift::{Loop, Shift};
pub use stream::{Stream, StreamKind, StreamNumber};
pub use thin::{Gate, Thinning};
pub use writer::{Writer, WriterError};
