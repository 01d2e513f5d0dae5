//! How long files are written: past the pages that the system keeps of files. What was just written is in memory already
//! for whoever plays it, and to have the system find room for a second copy costs more than the disk itself.
//!
//! What goes past them has to lie in memory as on the disk, in whole sectors, so it is gathered in one piece of memory
//! that is used again and again. The last bytes of a file, and file systems that want it otherwise, take the usual way.

use std::fs::File;
use std::io::{self, IoSlice, Write};

use parking_lot::Mutex;

/// The memory in which files are gathered; who writes meanwhile waits.
#[derive(Debug, Default)]
pub(super) struct Direct {
    memory: Mutex<Vec<u8>>,
}

impl Direct {
    /// Appends all of `pieces` to a file that is empty.
    pub(super) fn write(&self, file: &mut File, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let mut memory = self.memory.lock();
        memory.resize(GATHERED + SECTOR, 0);
        let begin = memory.as_ptr().align_offset(SECTOR);
        // Nothing but alignment depends on where it begins.
        let gathered =
            memory.get_mut(begin.min(SECTOR)..).and_then(|from| from.get_mut(..GATHERED)).unwrap_or_default();
        let mut way = Way { is_direct: set_direct(file, true).is_ok(), file };
        let mut filled = 0;
        for piece in pieces {
            let mut piece: &[u8] = piece;
            while !piece.is_empty() {
                let mut free = gathered.get_mut(filled..).unwrap_or_default();
                let taken = free.write(piece)?;
                filled += taken;
                piece = piece.get(taken..).unwrap_or_default();
                if filled == gathered.len() {
                    way.write(gathered)?;
                    filled = 0;
                }
            }
        }
        let gathered = gathered.get(..filled).unwrap_or_default();
        let (sectors, rest) = gathered.split_at(filled - filled % SECTOR);
        way.write(sectors)?;
        way.leave()?;
        way.write(rest)
    }
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

/// What leaves in one call, bytes: enough that waiting for the disk costs little.
const GATHERED: usize = 1024 * 1024;
/// Bytes of the largest sector that disks commonly have.
const SECTOR: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_of_any_length_has_all_that_was_given_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let direct = Direct::default();
        for length in [0, 1, SECTOR, GATHERED - 1, GATHERED, GATHERED + 1, 2 * GATHERED + SECTOR + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 251 + at) as u8).collect();
            for piece in [1450, GATHERED + 3] {
                let path = dir.path().join(format!("{length} in {piece}"));
                let pieces: Vec<IoSlice<'_>> = bytes.chunks(piece).map(IoSlice::new).collect();
                direct.write(&mut File::create_new(&path).unwrap(), &pieces).unwrap();
                assert!(fs::read(&path).unwrap() == bytes, "{path:?}");
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
        let mut file = File::open(&path).unwrap();
        let error = Direct::default().write(&mut file, &[IoSlice::new(&[7; 2 * SECTOR])]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EBADF as i32));
    }
}
