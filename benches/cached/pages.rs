//! The kernel's pages of files: all in memory, or none.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Reads every file below `dir`.
pub fn load(dir: &Path) -> anyhow::Result<()> {
    each_file(dir, &|file| {
        io::copy(file, &mut io::sink())?;
        Ok(())
    })
}

/// Forgets every file below `dir`. Pages that are not on disk yet could not be forgotten, so they are written first.
pub fn drop_all(dir: &Path) -> anyhow::Result<()> {
    each_file(dir, &|file| {
        file.sync_all()?;
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    })
}

fn each_file(dir: &Path, visit: &impl Fn(&mut File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("can't list {}", dir.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            each_file(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&mut File::open(entry.path())?).with_context(|| format!("{}", entry.path().display()))?;
        }
    }
    Ok(())
}
