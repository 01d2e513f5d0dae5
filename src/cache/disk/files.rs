//! The operations on files that the store is made of: few, so that a test can fail each of them.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::direct::Direct;

/// What the store does with files.
pub(super) trait Files: Debug + Send + Sync {
    /// Makes a directory; one that is there is no error.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Creates a file that is not there yet.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `pieces` to a file that is empty.
    fn write(&self, file: &mut File, pieces: &mut [IoSlice<'_>]) -> io::Result<()>;
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
#[derive(Debug, Default)]
pub(super) struct Disk {
    direct: Direct,
}

/// Bytes of a file that is worth the way past the system's pages.
const LONG: usize = 128 * 1024;

impl Files for Disk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
            .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn write(&self, file: &mut File, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() >= LONG {
            return self.direct.write(file, pieces);
        }
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            match file.write_vectored(pieces) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut pieces, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
    fn many_pieces_are_written_in_their_order() {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let path = dir.path().join("file");
        let mut file = disk.create(&path).unwrap();
        // More than one call takes.
        let pieces: Vec<_> = (0..5000u32).map(u32::to_le_bytes).collect();
        disk.write(
            &mut file,
            &mut pieces.iter().flat_map(|piece| [IoSlice::new(&[]), IoSlice::new(piece)]).collect::<Vec<_>>(),
        )
        .unwrap();
        let (file, length) = disk.open(&path).unwrap();
        assert_eq!((length, disk.length(&path).unwrap()), (20_000, 20_000));
        assert_eq!(disk.read(&file, 4, 1 << 20).unwrap(), pieces[1..].concat());
        assert_eq!(disk.read(&file, 20_000, 4).unwrap(), Bytes::new());
    }
}
