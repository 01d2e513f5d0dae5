//! A generation of a key, as its directory: written to by whoever fills it, read by any number, all by name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::error::{CUT_SHORT, Corrupt, ReadError, check, invalid_input};
use super::name::{self, Digest, META};
use super::registry::Id;
use super::segment::Owner;
use super::tree::{Tree, or_gone};
use super::{Geometry, Meta, SegmentData, SegmentHeader, Slot};

/// A handle on a generation. While one is held, a newer generation doesn't take the files away. Calls block.
#[derive(Clone, Debug)]
pub struct EntryDir {
    held: Arc<Generation>,
    owner: Owner,
}

/// A segment that was sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Which segment.
    pub index: u32,
    /// No packet of it is unknown.
    pub is_full: bool,
    /// Bytes of its file.
    pub bytes: u64,
}

impl EntryDir {
    pub(super) fn new(held: Arc<Generation>, owner: Owner) -> Self {
        Self { held, owner }
    }

    /// Which generation of its key it is.
    pub fn generation(&self) -> u64 {
        self.owner.generation
    }

    /// How its packets are laid into segments.
    pub fn geometry(&self) -> Geometry {
        self.owner.geometry
    }

    /// Replaces what is known of the content. `InvalidInput` for another key, generation or geometry, and for parts that
    /// are too long; `NotFound` once it is forgotten.
    pub fn write_meta(&self, meta: &Meta) -> io::Result<()> {
        if !self.held.is_of(meta) || meta.geometry != self.owner.geometry {
            return Err(invalid_input("the meta of another entry"));
        }
        let file = meta.encode().ok_or_else(|| invalid_input("a header or description that is too long"))?;
        let is_forgotten = self.held.is_forgotten.lock();
        if *is_forgotten {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.held.tree.publish(&self.held.path, META, &file)
    }

    /// Seals a segment, in the place of one with fewer packets, and tells how many bytes its file has. A segment that is full
    /// stays so. `InvalidInput` for one that the geometry has no room for. After an error the old one is still there, if
    /// there was one, or the new one is.
    pub fn write_segment(&self, data: &SegmentData) -> io::Result<u64> {
        let is_full = data.is_full();
        let bytes = {
            let mut sheet = self.held.tree.sheet.lock();
            data.encode(&self.owner, sheet.clear(data.file_length(&self.owner))).map_err(invalid_input)?;
            self.held.tree.publish(&self.held.path, &name::segment(data.index, is_full), sheet.file())?;
            sheet.file().len() as u64
        };
        if is_full {
            self.remove_partial(data.index);
        }
        Ok(bytes)
    }

    /// The segments that are there, by index. Reads names and lengths, no file.
    pub fn segments(&self) -> io::Result<Vec<Listed>> {
        let tree = &self.held.tree;
        let names = tree.files.names(&self.held.path)?;
        let mut found: Vec<_> = names.iter().filter_map(|name| name::parse_segment(name)).collect();
        // The full one first, which leaves no place for the other.
        found.sort_unstable_by_key(|&(index, is_full)| (index, !is_full));
        let mut listed: Vec<Listed> = Vec::with_capacity(found.len());
        for (index, is_full) in found {
            if listed.last().is_some_and(|last| last.index == index) {
                self.remove_partial(index);
            } else if let Some(segment) = self.listed(index, is_full)? {
                listed.push(segment);
            }
        }
        for leftover in names.iter().filter(|name| tree.is_leftover(name)) {
            tree.files.remove_file(&self.held.path.join(leftover)).ok();
        }
        Ok(listed)
    }

    /// `None` where it has gone since; a partial one may have become full.
    fn listed(&self, index: u32, is_full: bool) -> io::Result<Option<Listed>> {
        for is_full in [is_full, true] {
            if let Some(bytes) = or_gone(self.held.tree.files.length(&self.file(index, is_full)))? {
                return Ok(Some(Listed { index, is_full, bytes }));
            }
        }
        Ok(None)
    }

    /// Reads and checks the header of a segment.
    pub fn read_header(&self, index: u32) -> Result<SegmentHeader, ReadError> {
        self.open(index)?.header()
    }

    /// Reads and checks block `block` of the segment that `header` was read of: each slot of it, in order. Where a fuller
    /// segment has taken its place since, the block may be of that one.
    pub fn read_block(&self, block: u32, header: &SegmentHeader) -> Result<Vec<Slot<Bytes>>, ReadError> {
        let read = match self.open_as(header.index(), header.is_full())? {
            Some(segment) => segment.block(block, header),
            None => Err(ReadError::Missing(header.index())),
        };
        match read {
            Err(ReadError::Missing(_) | ReadError::Corrupt { .. }) => {
                let segment = self.open(header.index())?;
                segment.block(block, &segment.header()?)
            }
            read => read,
        }
    }

    /// Reads all of a segment and checks it.
    pub fn check(&self, index: u32) -> Result<SegmentHeader, ReadError> {
        let segment = self.open(index)?;
        let header = segment.header()?;
        for block in 0..header.blocks() {
            segment.block(block, &header)?;
        }
        check(segment.length == header.file_length(), "it has bytes after its end")
            .map_err(|error| segment.corrupt(error))?;
        Ok(header)
    }

    /// Removes a segment; one that is not there is no error.
    pub fn remove_segment(&self, index: u32) -> io::Result<()> {
        let _guard = self.held.unlinking.lock();
        self.held.tree.remove_file(&self.file(index, false))?;
        self.held.tree.remove_file(&self.file(index, true))
    }

    /// Unlinks what a full segment has taken the place of. If it stays, it is passed over.
    fn remove_partial(&self, index: u32) {
        let _guard = self.held.unlinking.lock();
        // Without the full one it would be the segment: sealed since, after the full one was removed.
        if self.held.tree.files.length(&self.file(index, true)).is_ok() {
            self.held.tree.files.remove_file(&self.file(index, false)).ok();
        }
    }

    /// After this no start finds it again, whatever happens; its segments can still be read.
    pub fn forget(&self) -> io::Result<()> {
        self.held.forget()
    }

    /// Removes it. Who still reads it finds nothing more.
    pub fn remove(&self) -> io::Result<()> {
        self.forget()?;
        self.held.tree.remove_generation(&self.held.path)?;
        if let Some(key_dir) = self.held.path.parent() {
            self.held.tree.remove_key_dir(key_dir);
        }
        Ok(())
    }

    fn file(&self, index: u32, is_full: bool) -> PathBuf {
        self.held.path.join(name::segment(index, is_full))
    }

    fn open(&self, index: u32) -> Result<Segment<'_>, ReadError> {
        // The full one is published before the other goes, so who missed it at first and then finds none finds it now.
        for is_full in [true, false, true] {
            if let Some(segment) = self.open_as(index, is_full)? {
                return Ok(segment);
            }
        }
        Err(ReadError::Missing(index))
    }

    fn open_as(&self, index: u32, is_full: bool) -> io::Result<Option<Segment<'_>>> {
        let opened = or_gone(self.held.tree.files.open(&self.file(index, is_full)))?;
        Ok(opened.map(|(file, length)| Segment { entry: self, index, is_full, file, length }))
    }
}

/// A segment that is open: it stays what it is when another takes its place.
struct Segment<'a> {
    entry: &'a EntryDir,
    index: u32,
    is_full: bool,
    file: File,
    /// In bytes.
    length: u64,
}

impl Segment<'_> {
    fn header(&self) -> Result<SegmentHeader, ReadError> {
        let start = self.read(0, HEADER_READ)?;
        let length =
            SegmentHeader::length(&start, self.index, &self.entry.owner).map_err(|error| self.corrupt(error))?;
        let header = if length > start.len() { self.read(0, length)? } else { start };
        self.decode(header.get(..length)).map_err(|error| self.corrupt(error))
    }

    fn decode(&self, header: Option<&[u8]>) -> Result<SegmentHeader, Corrupt> {
        let header = SegmentHeader::decode(header.ok_or(CUT_SHORT)?, self.index, &self.entry.owner)?;
        check(header.is_full() == self.is_full, "its name tells otherwise what is known")?;
        Ok(header)
    }

    fn block(&self, block: u32, header: &SegmentHeader) -> Result<Vec<Slot<Bytes>>, ReadError> {
        let range = header.bytes_of(block).ok_or_else(|| invalid_input("a block beyond the last"))?;
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        let bytes = self.read(range.start, length)?;
        header.decode_block(block, bytes).map_err(|error| self.corrupt(error))
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.entry.held.tree.files.read(&self.file, offset, length)
    }

    fn corrupt(&self, Corrupt(what): Corrupt) -> ReadError {
        ReadError::Corrupt { file: self.entry.file(self.index, self.is_full), what }
    }
}

/// What all handles on a generation share.
#[derive(Debug)]
pub(super) struct Generation {
    tree: Arc<Tree>,
    id: Id,
    path: PathBuf,
    /// Taken by who writes or unlinks `meta`, so that none comes after it was unlinked.
    is_forgotten: Mutex<bool>,
    /// Taken by who unlinks a segment.
    unlinking: Mutex<()>,
}

impl Generation {
    pub(super) fn new(tree: Arc<Tree>, id: Id) -> Self {
        Self { path: tree.path(id), tree, id, is_forgotten: Mutex::new(false), unlinking: Mutex::new(()) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `meta` may stand in this directory.
    pub(super) fn is_of(&self, meta: &Meta) -> bool {
        self.id == Id { digest: Digest::of(&meta.key), generation: meta.generation }
    }

    pub(super) fn forget(&self) -> io::Result<()> {
        let mut is_forgotten = self.is_forgotten.lock();
        *is_forgotten = true;
        self.tree.forget(&self.path)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.tree.registry.dropped(self.id);
    }
}

/// Covers the header of most segments at once.
const HEADER_READ: usize = 32 * 1024;
