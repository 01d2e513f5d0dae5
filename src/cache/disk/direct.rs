//! How long files are written: put together in memory that is used again and again, and from there past the pages that the
//! system keeps of files. Who is about to play what was just written has it in memory already, and to have the system find
//! room for another copy costs more than the disk itself.
//!
//! What goes past those pages has to lie in memory as on the disk, in whole sectors. The last bytes of a file take the usual
//! way, and so does all of it on file systems that know no other.

use std::fs::File;
use std::io::{self, Write};

/// Memory in which a file is put together.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    memory: Vec<u8>,
    /// Where a sector begins.
    begin: usize,
}

impl Sheet {
    /// Where the next file is to be appended, of so many bytes.
    pub(super) fn clear(&mut self, length: usize) -> &mut Vec<u8> {
        self.memory.clear();
        self.memory.reserve(length.saturating_add(SECTOR));
        self.begin = self.memory.as_ptr().align_offset(SECTOR).min(SECTOR);
        self.memory.resize(self.begin, 0);
        &mut self.memory
    }

    /// The file that was appended.
    pub(super) fn file(&self) -> &[u8] {
        self.memory.get(self.begin..).unwrap_or_default()
    }
}

/// Writes all of `bytes` to a file that is empty.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let is_long = bytes.len() >= LONG && bytes.as_ptr().align_offset(SECTOR) == 0;
    let mut way = Way { is_direct: is_long && set_direct(file, true).is_ok(), file };
    let (sectors, rest) = bytes.split_at(bytes.len() - bytes.len() % SECTOR);
    way.write(sectors)?;
    way.leave()?;
    way.write(rest)
}

/// The way of one file.
struct Way<'a> {
    file: &'a mut File,
    is_direct: bool,
}

impl Way<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Larger sectors, or a file system that takes the flag and not the write.
                Err(error) if self.is_direct && error.kind() == io::ErrorKind::InvalidInput => self.leave()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the usual way from here on.
    fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_direct) { set_direct(self.file, false) } else { Ok(()) }
    }
}

/// Sets or clears `O_DIRECT`. An error is a file system that knows no such thing.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    let flags = if is_direct { flags | OFlag::O_DIRECT } else { flags - OFlag::O_DIRECT };
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_file: &File, _is_direct: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes of a file that is worth it.
const LONG: usize = 128 * 1024;
/// Bytes of the largest sector that disks commonly have.
const SECTOR: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_of_any_length_has_all_that_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let mut sheet = Sheet::default();
        for length in [0, 1, SECTOR, LONG - 1, LONG, LONG + 1, 40 * LONG + SECTOR + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 251 + at) as u8).collect();
            sheet.clear(length).extend_from_slice(&bytes);
            assert!(sheet.file() == bytes && sheet.file().as_ptr().align_offset(SECTOR) == 0);
            // Where it lies is of no account but for the cost.
            let elsewhere = [&[0], &bytes[..]].concat();
            for bytes in [sheet.file(), &elsewhere[1..]] {
                let path = dir.path().join("file");
                write(&mut File::create(&path).unwrap(), bytes).unwrap();
                assert!(fs::read(&path).unwrap() == bytes, "{length} bytes");
            }
        }
    }

    #[test]
    fn what_a_file_system_takes_in_no_other_way_goes_the_usual_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = File::create_new(&path).unwrap();
        let is_direct = set_direct(&file, true).is_ok();
        // Half a sector is refused.
        Way { file: &mut file, is_direct }.write(&[7; SECTOR / 2 + 1]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [7; SECTOR / 2 + 1]);
    }

    #[test]
    fn a_file_that_can_not_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        for length in [1, LONG] {
            let mut sheet = Sheet::default();
            sheet.clear(length).resize(length + SECTOR, 7);
            assert!(write(&mut File::open(&path).unwrap(), sheet.file()).is_err());
        }
    }
}
