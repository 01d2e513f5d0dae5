//! A file system for tests: it counts what is asked of it, fails at a given operation, and forgets, as a disk does that loses
//! its power, what was not synced.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;

use super::files::{Disk, Files};

#[derive(Debug, Default)]
pub(super) struct Faulty {
    fault: Option<Fault>,
    state: Mutex<State>,
}

/// At which operation something happens, from 1.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It fails, and all goes on.
    Once(u64, io::ErrorKind),
    /// It is the last one.
    Death(u64),
}

/// What a loss of power does to changes in directories that were not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lost {
    None,
    Newer,
    All,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    by_name: HashMap<&'static str, u64>,
    is_dead: bool,
    /// Inodes of files with bytes that were not synced.
    unsynced: HashSet<u64>,
    /// How to undo what was not synced, oldest first.
    undo: Vec<Undo>,
}

#[derive(Debug)]
enum Undo {
    Made(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed { path: PathBuf, file: Option<Vec<u8>> },
}

impl Faulty {
    pub(super) fn with(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    pub(super) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        self.state.lock().by_name.get(name).copied().unwrap_or_default()
    }

    /// Half the bytes of each file that was not synced are lost, and changes in directories.
    pub(super) fn lose_power(&self, root: &Path, lost: Lost) {
        let mut state = self.state.lock();
        state.cut_unsynced(root);
        let lost = match lost {
            Lost::None => 0,
            Lost::Newer => state.undo.len() / 2,
            Lost::All => state.undo.len(),
        };
        state.undo.drain(..).rev().take(lost).for_each(Undo::apply);
    }

    fn step(&self, name: &'static str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operations += 1;
        *state.by_name.entry(name).or_default() += 1;
        match self.fault {
            Some(Fault::Once(at, kind)) if state.operations == at => return Err(kind.into()),
            Some(Fault::Death(at)) if state.operations == at => state.is_dead = true,
            _ => {}
        }
        if state.is_dead { Err(io::Error::other("the machine is dead")) } else { Ok(()) }
    }

    fn remember(&self, undo: Undo) {
        self.state.lock().undo.push(undo);
    }
}

impl State {
    fn cut_unsynced(&self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                self.cut_unsynced(&entry.path());
            } else if self.unsynced.contains(&metadata.ino()) {
                File::options().write(true).open(entry.path()).unwrap().set_len(metadata.len() / 2).unwrap();
            }
        }
    }
}

impl Undo {
    /// The directory whose sync makes it final.
    fn dir(&self) -> &Path {
        let (Self::Made(path) | Self::Renamed { to: path, .. } | Self::Removed { path, .. }) = self;
        path.parent().unwrap()
    }

    /// What it was done below has another name for good.
    fn moved(&mut self, from: &Path, to: &Path) {
        let paths = match self {
            Self::Made(path) | Self::Removed { path, .. } => vec![path],
            Self::Renamed { from, to, .. } => vec![from, to],
        };
        for path in paths {
            if let Ok(below) = path.strip_prefix(from) {
                *path = to.join(below);
            }
        }
    }

    /// Fails where what it was done in is gone for good; then so is this.
    fn apply(self) {
        match self {
            Self::Made(path) if path.is_dir() => fs::remove_dir_all(path).unwrap(),
            Self::Made(path) => fs::remove_file(path).unwrap_or_default(),
            Self::Removed { path, file: Some(bytes) } => fs::write(path, bytes).unwrap_or_default(),
            Self::Removed { path, file: None } => fs::create_dir(path).unwrap_or_default(),
            Self::Renamed { from, to, replaced } => {
                fs::rename(&to, from).unwrap_or_default();
                if let Some(bytes) = replaced {
                    fs::write(to, bytes).unwrap();
                }
            }
        }
    }
}

impl Files for Faulty {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.step("make_dir")?;
        if !dir.exists() {
            self.remember(Undo::Made(dir.to_owned()));
        }
        Disk.make_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.step("create")?;
        let file = Disk.create(path)?;
        self.remember(Undo::Made(path.to_owned()));
        self.state.lock().unsynced.insert(file.metadata()?.ino());
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.step("write").inspect_err(|_| {
            // A failing write may have written something.
            Disk.write(file, &bytes[..bytes.len().div_ceil(2)]).unwrap();
        })?;
        Disk.write(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step("sync")?;
        self.state.lock().unsynced.remove(&file.metadata()?.ino());
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step("sync_dir")?;
        fs::metadata(dir)?;
        let mut state = self.state.lock();
        let (done, mut left): (Vec<_>, Vec<_>) = state.undo.drain(..).partition(|undo| undo.dir() == dir);
        for done in &done {
            if let Undo::Renamed { from, to, .. } = done {
                left.iter_mut().for_each(|undo| undo.moved(from, to));
            }
        }
        state.undo = left;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename")?;
        let replaced = fs::read(to).ok();
        Disk.rename(from, to)?;
        self.remember(Undo::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step("remove_file")?;
        let file = fs::read(path).ok();
        Disk.remove_file(path)?;
        self.remember(Undo::Removed { path: path.to_owned(), file });
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.step("remove_dir")?;
        Disk.remove_dir(dir)?;
        self.remember(Undo::Removed { path: dir.to_owned(), file: None });
        Ok(())
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.step("names")?;
        Disk.names(dir)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.step("length")?;
        Disk.length(path)
    }

    fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        self.step("open")?;
        Disk.open(path)
    }

    fn read(&self, file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
        self.step("read")?;
        Disk.read(file, offset, length)
    }
}
