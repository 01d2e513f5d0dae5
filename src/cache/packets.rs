//! All packets of an entry, in order, out of its files: for an export, and for the proof that they are the origin's.

use std::io;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::disk::{EntryDir, Found, ReadError, SegmentHeader, Slot};
use crate::asf::fidelity;

/// What is known of the packets, at the moment when the headers were read.
#[derive(Debug)]
pub struct Packets {
    dir: EntryDir,
    headers: Vec<SegmentHeader>,
}

/// Why not all packets could be handed on.
#[derive(Debug, thiserror::Error)]
pub enum PacketsError {
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A packet that was there is not any more.
    #[error("packet {0} went away meanwhile")]
    Gone(u64),
    /// Whoever takes them takes no more.
    #[error(transparent)]
    Taker(#[from] io::Error),
}

impl Packets {
    /// Reads the header of each file.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn of(found: &Found) -> Result<Self, ReadError> {
        let headers = found.segments.iter().map(|listed| found.entry.read_header(listed.index));
        Ok(Self { dir: found.entry.clone(), headers: headers.collect::<Result<_, _>>()? })
    }

    /// How many are present, and how many are absent at the origin.
    pub fn counts(&self) -> (u64, u64) {
        let counts = self.headers.iter().map(SegmentHeader::counts);
        counts.fold((0, 0), |(present, absent), (is, is_not)| (present + is, absent + is_not))
    }

    /// Hands on each number of which something is known, in order.
    ///
    /// # Errors
    /// What can't be read or taken; what was handed on until then is right.
    pub fn each(
        &self,
        mut take: impl FnMut(u64, Option<Bytes>) -> Result<(), PacketsError>,
    ) -> Result<(), PacketsError> {
        let geometry = self.dir.geometry();
        for header in &self.headers {
            for block in 0..header.blocks() {
                let first = geometry.first_of_block(header.index(), block);
                let slots = geometry.first_slot(block)..;
                for ((number, slot), packet) in (first..).zip(slots).zip(self.dir.read_block(block, header)?) {
                    // The file may be a fuller one by now: what was not known at first is left out.
                    match (header.slot(slot), packet) {
                        (Slot::Present(()), Slot::Present(packet)) => take(number, Some(packet))?,
                        (Slot::Absent, Slot::Absent) => take(number, None)?,
                        (Slot::Unknown, _) => {}
                        _ => return Err(PacketsError::Gone(number)),
                    }
                }
            }
        }
        Ok(())
    }
}

/// What tells a packet from others, padding left out: the same for what an origin sent and for what is kept of it.
pub fn digest(packet: &[u8]) -> [u8; 32] {
    // Nobody can read it; then every byte counts but the zeros that it was filled up with.
    fidelity::digest(packet).unwrap_or_else(|| {
        let length = packet.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Sha256::digest(packet.get(..length).unwrap_or_default()).into()
    })
}
