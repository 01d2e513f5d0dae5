//! The packets of a file, read and framed.

use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use mmsproxy::asf::{self, Header};
use mmsproxy::wire::mmsp::data::{HEADER_LEN, encode_header};
use mmsproxy::wire::mmsp::ids::{Incarnation, LocationId};

use crate::common::shape::Shape;

/// An open file.
#[derive(Debug)]
pub struct Packets {
    pub shape: Shape,
    file: File,
    header: Header,
    count: u64,
}

/// Some of them in a row, as they go out: the heads, and the packets.
#[derive(Debug, Default)]
pub struct Run {
    heads: Vec<[u8; HEADER_LEN]>,
    bytes: Vec<u8>,
}

impl Packets {
    pub fn open(path: &Path, shape: Shape) -> anyhow::Result<Self> {
        let open = || File::open(path).with_context(|| format!("can't open {}", path.display()));
        let asf = asf::File::open(open()?)?;
        Ok(Self { shape, header: asf.header().clone(), count: asf.packet_count(), file: open()? })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The packet that is sent `seconds` after the beginning.
    pub fn at(&self, seconds: f64) -> u64 {
        (seconds * self.shape.rate as f64 / 8.0 / self.shape.packet as f64) as u64
    }

    /// Reads `count` packets from `first` on, in one call.
    pub fn read(&self, first: u64, count: usize, incarnation: Incarnation, run: &mut Run) -> anyhow::Result<()> {
        let size = self.shape.packet;
        run.bytes.resize(count * size, 0);
        self.file.read_exact_at(&mut run.bytes, self.header.bytes().len() as u64 + first * size as u64)?;
        run.heads.clear();
        let numbers = first..first + count as u64;
        run.heads
            .extend(numbers.map(|number| encode_header(LocationId(number as u32), incarnation, number as u8, size)));
        Ok(())
    }
}

impl Run {
    /// For one vectored write.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        let size = self.bytes.len() / self.heads.len().max(1);
        let packets = self.bytes.chunks_exact(size.max(1));
        self.heads.iter().zip(packets).flat_map(|(head, packet)| [IoSlice::new(head), IoSlice::new(packet)]).collect()
    }
}
