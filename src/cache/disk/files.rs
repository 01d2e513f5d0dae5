//! The operations on files that the store is made of: few, so that a test can fail each of them.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::direct;

/// What the store does with files.
pub(super) trait Files: Debug + Send + Sync {
    /// Makes a directory; one that is there is no error.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Creates a file that is not there yet.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` to a file that is empty.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Brings what was written to the disk.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Brings to the disk what `dir` has in it.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file, in the place of one that is there, or a directory, in the place of an empty one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// What is in a directory, in no order; names that are no UTF-8 are not ours.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Bytes of a file.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Opens a file to read, and tells how many bytes it has: it stays as it is, whatever takes its name.
    fn open(&self, path: &Path) -> io::Result<(File, u64)>;
    /// `length` bytes from `offset`; fewer where the file ends before.
    fn read(&self, file: &File, offset: u64, length: usize) -> io::Result<Bytes>;
}

/// The file system.
#[derive(Debug)]
pub(super) struct Disk;

impl Files for Disk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
            .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        direct::write(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        fs::symlink_metadata(path).map(|metadata| metadata.len())
    }

    fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn read(&self, file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(free) = bytes.get_mut(filled..).filter(|free| !free.is_empty()) {
            match file.read_at(free, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_from_any_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = Disk.create(&path).unwrap();
        let written: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        Disk.write(&mut file, &written).unwrap();
        let (file, length) = Disk.open(&path).unwrap();
        assert_eq!((length, Disk.length(&path).unwrap()), (20_000, 20_000));
        assert_eq!(Disk.read(&file, 4, 1 << 20).unwrap(), written[4..]);
        assert_eq!(Disk.read(&file, 20_000, 4).unwrap(), Bytes::new());
    }
}
