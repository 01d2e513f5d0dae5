//! Content that is read at random, a file or a cache entry, and the two ways in which a viewer goes through it: packet by
//! packet ([`Linear`]) and from key frame to key frame ([`Stride`]). Where a play begins and how fast it leaves is decided
//! here as well ([`Start`], [`FastStart`]), so that it is the same for all such content.

pub mod fast_start;
mod key_frame;
pub mod linear;
pub mod start;
pub mod stride;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

pub use fast_start::FastStart;
pub use linear::Linear;
pub use start::{Place, Start};
pub use stride::Stride;

use super::{End, Next, Packet, Refusal};
use crate::asf::PacketNumber;

/// Content that is read at random. Never waits: what is not there yet is asked for, and the driver of the cursor is told
/// when to ask again. Each cursor has one of its own, which may keep what it read last.
pub trait Archive: Send {
    /// The packet of that number. None is absent for lying far ahead, unless it is known where the content ends.
    fn packet(&mut self, number: PacketNumber) -> Access<Arc<Packet>>;

    /// The last key frame that begins at `time` (of the content, without the preroll) or before it: its packet. Content
    /// without key frames gives the last packet that is due by then; what begins later than `time` has none.
    fn key_frame_at(&mut self, time: Duration) -> Access<PacketNumber>;

    /// The number behind the last packet; `None` while it is not known where the content ends.
    fn end(&self) -> Option<PacketNumber>;
}

/// What an archive says when it is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Access<T> {
    /// Here it is.
    There(T),
    /// It never existed, or it is damaged: who reads goes on behind it.
    Absent,
    /// It is being fetched.
    NotYet,
    /// Nothing more can be read.
    Failed(Refusal),
}

impl<T> Access<T> {
    /// `None` where it is absent.
    ///
    /// # Errors
    /// What a cursor says that can't go on now, or not at all.
    fn found(self) -> Result<Option<T>, Next> {
        match self {
            Self::There(found) => Ok(Some(found)),
            Self::Absent => Ok(None),
            Self::NotYet => Err(Next::Nothing),
            Self::Failed(refusal) => Err(Next::Ended(End::Failed(refusal))),
        }
    }
}

/// Packets in a row that are absent; then the content is taken for lost.
const MAX_ABSENT: usize = 1000;
