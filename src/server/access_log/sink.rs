//! Where lines go: a file that is appended to, or standard output. What could not be written whole leaves no half line
//! that the next would be glued to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where lines go.
pub(super) struct Sink {
    /// `None` is standard output.
    path: Option<PathBuf>,
    out: Box<dyn Write + Send>,
    /// What was written last is no whole line.
    is_torn: bool,
}

/// Some lines could not be written.
#[derive(Debug)]
pub(super) struct Lost {
    /// How many.
    pub(super) lines: u64,
    /// Why.
    pub(super) error: io::Error,
}

impl Sink {
    /// `-` is standard output; any other path a file, which is created where it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self { path: None, out: Box::new(io::stdout()), is_torn: false });
        }
        Ok(Self { path: Some(path.into()), out: Box::new(open(path)?), is_torn: false })
    }

    /// Opens the file again, for who moved it away. Returns whether that is another file now: standard output never is.
    /// Where it fails the old one stays.
    pub(super) fn reopen(&mut self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        self.out = Box::new(open(path)?);
        self.is_torn = false;
        Ok(true)
    }

    /// Writes whole lines. After an error it may be tried again with others.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let mut left = lines;
        let result = self.write_some(&mut left);
        // Standard output has a buffer of its own, which is empty after each whole line.
        let result = result.and_then(|()| self.out.flush());
        result.map_err(|error| Lost { lines: count(left), error })
    }

    fn write_some(&mut self, left: &mut &[u8]) -> io::Result<()> {
        if self.is_torn && !left.is_empty() {
            self.out.write_all(b"\n")?;
            self.is_torn = false;
        }
        while !left.is_empty() {
            match self.out.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let (done, rest) = left.split_at_checked(written).unwrap_or((left, &[]));
                    self.is_torn = done.last() != Some(&b'\n');
                    *left = rest;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// A disk that has room for so many bytes, until there is more.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (written, room) = &mut *self.0.lock();
            if *room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(*room);
            written.extend_from_slice(&bytes[..taken]);
            *room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next() {
        let disk = Disk::default();
        let mut sink = Sink { path: None, out: Box::new(disk.clone()), is_torn: false };
        disk.0.lock().1 = 5;
        let lost = sink.write(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (2, io::ErrorKind::StorageFull));
        assert_eq!(sink.write(b"four\n").unwrap_err().lines, 1);
        disk.0.lock().1 = 100;
        sink.write(b"five\n").unwrap();
        sink.write(b"").unwrap();
        assert_eq!(disk.0.lock().0, b"one\nt\nfive\n");
    }

    #[test]
    fn a_file_is_appended_to_and_opened_again_where_it_was_moved() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        std::fs::write(&path, "before\n").unwrap();
        let mut sink = Sink::open(&path).unwrap();
        sink.write(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        sink.write(b"two\n").unwrap();
        assert!(sink.reopen().unwrap());
        sink.write(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "before\none\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        // Nobody can write where a directory is: what is open stays.
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(sink.reopen().is_err());
        sink.write(b"four\n").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "three\nfour\n");
    }
}
