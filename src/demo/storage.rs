//! Where the bytes of a served file are: generated, in memory, or on disk.

use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::asf::ReadAt;

/// The bytes of a file.
#[derive(Debug)]
pub enum Storage {
    /// In memory.
    Memory(Bytes),
    /// Read as they are needed.
    Disk(std::fs::File),
}

impl Storage {
    /// Opens a file on disk.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::File::open(path).map(Self::Disk)
    }
}

impl ReadAt for Storage {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => bytes.read_exact_at(buf, offset),
            Self::Disk(file) => file.read_exact_at(buf, offset),
        }
    }

    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => ReadAt::len(bytes),
            Self::Disk(file) => ReadAt::len(file),
        }
    }
}
