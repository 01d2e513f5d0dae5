//! The store as a whole: opened, asked for a key, given a new generation.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::error::StoreError;
use super::files::{Disk, Files};
use super::name::{Digest, LOCK, Run, VERSION};
use super::tree::Tree;
use super::walk::Entries;
use super::{EntryDir, Listed, Meta};

/// A directory of cached content, ours alone as long as this or an entry out of it is held. Calls block.
#[derive(Clone, Debug)]
pub struct Store {
    tree: Arc<Tree>,
}

/// When what is written is brought to the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SyncPolicy {
    /// Before it counts: what is sealed survives the loss of power.
    #[default]
    Segment,
    /// When the system likes: faster, and a loss of power costs what it had not written. A wrong byte is noticed all the
    /// same, and the death of the proxy costs nothing.
    None,
}

/// What is kept for a key.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its newest generation.
    pub entry: EntryDir,
    /// What is known of the content.
    pub meta: Meta,
    /// What is there of it, by index.
    pub segments: Vec<Listed>,
}

impl Store {
    /// Takes a directory, which is made if it is not there. Walks through nothing: what a crash left is removed when its
    /// key is met.
    pub fn open(dir: &Path, sync: SyncPolicy) -> Result<Self, StoreError> {
        Self::open_with(Arc::new(Disk), dir, sync)
    }

    pub(super) fn open_with(files: Arc<dyn Files>, dir: &Path, sync: SyncPolicy) -> Result<Self, StoreError> {
        let io = |error| StoreError::Io { dir: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(io)?;
        let path = dir.join(LOCK);
        File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        // Open for reading alone, so that a disk can be made read-only beneath us.
        let lock = File::open(&path).map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse(dir.to_owned()),
            TryLockError::Error(error) => io(error),
        })?;
        let run = getrandom::u32().map_err(|error| io(io::Error::other(error)))?;
        let root = dir.join(VERSION);
        files.make_dir(&root).map_err(io)?;
        let tree = Tree::new(files, root, sync, Run::new(run), lock);
        tree.sync_dir(dir).map_err(io)?;
        Ok(Self { tree: Arc::new(tree) })
    }

    /// What is kept for `key`: one small read, and the names in its directory.
    pub fn find(&self, key: &str) -> io::Result<Option<Found>> {
        self.tree.load(Digest::of(key))
    }

    /// Begins a generation; the ones before it are forgotten, and removed as soon as nobody holds them. `AlreadyExists` or
    /// `DirectoryNotEmpty` for one that is there, `InvalidInput` for a meta with parts that are too long.
    pub fn create(&self, meta: &Meta) -> io::Result<EntryDir> {
        self.tree.create(meta)
    }

    /// All that is kept, in no order, each as [`Store::find`] gives it. What comes or goes meanwhile may be among them or
    /// not.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(&self.tree)
    }

    /// Bytes that are free on its disk, for a process without privileges.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.tree.root)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Generations that were given up since it was opened, because their meta did not check.
    pub fn corrupt_metas(&self) -> u64 {
        self.tree.corrupt_metas()
    }
}
