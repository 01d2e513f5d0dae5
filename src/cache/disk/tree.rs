//! The tree below `v1/`: how files come into it, and how generations come, are found and go.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::direct::Sheet;
use super::entry::{EntryDir, Generation};
use super::error::invalid_input;
use super::files::Files;
use super::name::{self, Digest, META, Run};
use super::registry::{Claim, Id, Registry};
use super::segment::Owner;
use super::{Found, Meta, SyncPolicy};

#[derive(Debug)]
pub(super) struct Tree {
    pub files: Arc<dyn Files>,
    pub root: PathBuf,
    pub registry: Registry<Generation>,
    sync: SyncPolicy,
    run: Run,
    /// Unpublished files so far.
    temporaries: AtomicU64,
    /// Held while an empty directory of a key is removed, or one is made and something put into it.
    key_dirs: Mutex<()>,
    /// Where a segment is put together; the next one waits.
    pub sheet: Mutex<Sheet>,
    /// Files called `meta` that did not check.
    corrupt_metas: AtomicU64,
    _lock: File,
}

impl Tree {
    pub(super) fn new(files: Arc<dyn Files>, root: PathBuf, sync: SyncPolicy, run: Run, lock: File) -> Self {
        Self {
            files,
            root,
            sync,
            run,
            registry: Registry::default(),
            temporaries: AtomicU64::new(0),
            key_dirs: Mutex::new(()),
            sheet: Mutex::default(),
            corrupt_metas: AtomicU64::new(0),
            _lock: lock,
        }
    }

    pub(super) fn corrupt_metas(&self) -> u64 {
        self.corrupt_metas.load(Ordering::Relaxed)
    }

    pub(super) fn path(&self, id: Id) -> PathBuf {
        self.key_dir(&id.digest).join(name::generation(id.generation))
    }

    fn key_dir(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.path())
    }

    /// Publishes a file, in the place of one that has its name. A failure leaves nothing behind, unless it is that of the
    /// last step: then the file is there, and may be lost with the power.
    pub(super) fn publish(&self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = dir.join(self.temporary(name));
        let published = self.write(&temporary, bytes).and_then(|()| self.files.rename(&temporary, &dir.join(name)));
        if published.is_err() {
            // What can't be removed now is a leftover for the next run.
            self.files.remove_file(&temporary).ok();
        }
        published?;
        self.sync_dir(dir)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.files.create(path)?;
        self.files.write(&mut file, bytes)?;
        match self.sync {
            SyncPolicy::Segment => self.files.sync(&file),
            SyncPolicy::None => Ok(()),
        }
    }

    fn temporary(&self, name: &str) -> String {
        self.run.temporary(name, self.temporaries.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.sync {
            SyncPolicy::Segment => self.files.sync_dir(dir),
            SyncPolicy::None => Ok(()),
        }
    }

    pub(super) fn is_leftover(&self, name: &str) -> bool {
        self.run.is_leftover(name)
    }

    /// Begins a generation, and forgets those before it.
    pub(super) fn create(self: &Arc<Self>, meta: &Meta) -> io::Result<EntryDir> {
        let digest = Digest::of(&meta.key);
        let id = Id { digest, generation: meta.generation };
        let file = meta.encode().ok_or_else(|| invalid_input("a key, header or description that is too long"))?;
        let held = self.registry.hold_new(id, || Generation::new(self.clone(), id));
        let held = held.ok_or(io::ErrorKind::AlreadyExists)?;

        let dir = self.key_dir(&digest);
        let temporary = dir.join(self.temporary(&name::generation(id.generation)));
        let published = self
            .make_dirs(&digest, &temporary)
            .and_then(|()| self.publish(&temporary, META, &file))
            .and_then(|()| self.files.rename(&temporary, &self.path(id)));
        if published.is_err() {
            self.remove_generation(&temporary).ok();
            self.remove_key_dir(&dir);
        }
        published?;
        // All above it, for another may have made them and not have come so far.
        for above in dir.ancestors().take(ABOVE_A_GENERATION) {
            self.sync_dir(above)?;
        }
        let names = self.files.names(&dir)?;
        let before =
            names.iter().filter_map(|name| name::parse_generation(name)).filter(|&other| other < id.generation);
        self.discard(digest, before);
        Ok(EntryDir::new(held, Owner { digest, generation: id.generation, geometry: meta.geometry }))
    }

    fn make_dirs(&self, digest: &Digest, temporary: &Path) -> io::Result<()> {
        let _guard = self.key_dirs.lock();
        self.files.make_dir(&self.root.join(digest.shard()))?;
        self.files.make_dir(&self.key_dir(digest))?;
        self.files.make_dir(temporary)
    }

    /// The newest generation of a key whose `meta` checks. All else that lies there and is not held goes.
    pub(super) fn load(self: &Arc<Self>, digest: Digest) -> io::Result<Option<Found>> {
        let dir = self.key_dir(&digest);
        for _ in 0..LISTINGS {
            let Some(names) = or_gone(self.files.names(&dir))? else { return Ok(None) };
            let mut generations: Vec<u64> = names.iter().filter_map(|name| name::parse_generation(name)).collect();
            generations.sort_unstable();
            let newest = self.newest(digest, &generations)?;
            for leftover in names.iter().filter(|name| self.is_leftover(name)) {
                self.remove_generation(&dir.join(leftover)).ok();
            }
            if let Some((entry, meta)) = newest {
                self.discard(digest, generations.into_iter().filter(|&other| other != meta.generation));
                // Gone where it was removed since its meta was read.
                let segments = or_gone(entry.segments())?;
                return Ok(segments.map(|segments| Found { entry, meta, segments }));
            }
            if generations.is_empty() {
                break;
            }
            // They are no longer what they were when they were listed, and then a newer one may be there; or no good.
            self.discard(digest, generations.into_iter());
        }
        self.remove_key_dir(&dir);
        Ok(None)
    }

    /// The last of `generations`, which are in order, that has a `meta` that checks.
    fn newest(self: &Arc<Self>, digest: Digest, generations: &[u64]) -> io::Result<Option<(EntryDir, Meta)>> {
        for &generation in generations.iter().rev() {
            let Some(held) = self.hold(Id { digest, generation }) else { continue };
            if let Some(meta) = self.read_meta(&held)? {
                let owner = Owner { digest, generation, geometry: meta.geometry };
                return Ok(Some((EntryDir::new(held, owner), meta)));
            }
        }
        Ok(None)
    }

    fn hold(self: &Arc<Self>, id: Id) -> Option<Arc<Generation>> {
        self.registry.hold(id, || Generation::new(self.clone(), id))
    }

    /// `None` where there is none, or one that is not right.
    fn read_meta(&self, held: &Generation) -> io::Result<Option<Meta>> {
        let Some((file, length)) = or_gone(self.files.open(&held.path().join(META)))? else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(Meta::MAX_ENCODED);
        let file = self.files.read(&file, 0, length)?;
        let meta = Meta::decode(&file).ok().filter(|meta| held.is_of(meta));
        if meta.is_none() {
            self.corrupt_metas.fetch_add(1, Ordering::Relaxed);
        }
        Ok(meta)
    }

    /// Removes generations that no longer count; those that are held are forgotten, and removed when they are met again.
    /// What fails here is done then, too.
    fn discard(&self, digest: Digest, generations: impl Iterator<Item = u64>) {
        for id in generations.map(|generation| Id { digest, generation }) {
            match self.registry.claim(id) {
                Claim::Held(held) => {
                    held.forget().ok();
                }
                Claim::Granted => {
                    self.remove_generation(&self.path(id)).ok();
                    self.registry.release(id);
                }
                Claim::Removing => {}
            }
        }
    }

    /// Unlinks `meta`, so that the generation does not come back. Brings that to the disk even if it was done before, for
    /// then it may have failed halfway.
    pub(super) fn forget(&self, generation: &Path) -> io::Result<()> {
        self.remove_file(&generation.join(META))?;
        or_gone(self.sync_dir(generation)).map(|_| ())
    }

    /// Removes a generation, published or not.
    pub(super) fn remove_generation(&self, generation: &Path) -> io::Result<()> {
        self.forget(generation)?;
        let Some(names) = or_gone(self.files.names(generation))? else { return Ok(()) };
        for name in names {
            self.remove_file(&generation.join(name))?;
        }
        or_gone(self.files.remove_dir(generation)).map(|_| ())
    }

    /// Removes the directory of a key, if nothing is in it.
    pub(super) fn remove_key_dir(&self, dir: &Path) {
        let _guard = self.key_dirs.lock();
        self.files.remove_dir(dir).ok();
    }

    /// Unlinks a file; one that is not there is no error.
    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        or_gone(self.files.remove_file(path)).map(|_| ())
    }
}

/// `None` where what was asked for is not there.
pub(super) fn or_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// How often a key is looked for while its generations change; in practice, once.
const LISTINGS: u32 = 3;

/// The directories of its key, of the shard and of the version.
const ABOVE_A_GENERATION: usize = 3;
