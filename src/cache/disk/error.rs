//! What can go wrong with the store, and what the metric calls it.

use std::io;
use std::path::PathBuf;

use bytes::TryGetError;
use thiserror::Error;

/// Why a directory can't be used as a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another store has it open: a proxy, or a command that works offline.
    #[error("{} is in use by another proxy", .0.display())]
    InUse(PathBuf),
    /// It can't be created, written to or locked.
    #[error("{}: {error}", dir.display())]
    Io {
        /// The directory of the store.
        dir: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// Why something of a segment can't be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no such segment, or no longer.
    #[error("segment {0} is not there")]
    Missing(u32),
    /// The file is not what was written. It is never right again: the segment is to be removed.
    #[error("{}: {what}", file.display())]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// The system failed to read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ReadError {
    /// The `reason` of `mmsproxy_cache_errors_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing(_) => "io",
            Self::Corrupt { .. } => "checksum",
            Self::Io(error) => error_label(error),
        }
    }
}

/// The `reason` of `mmsproxy_cache_errors_total` for a failed write or read.
pub fn error_label(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
        _ => "io",
    }
}

/// Bytes are not what was written: what of them does not hold.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{0}")]
pub(super) struct Corrupt(pub &'static str);

impl From<TryGetError> for Corrupt {
    fn from(_: TryGetError) -> Self {
        CUT_SHORT
    }
}

pub(super) const CUT_SHORT: Corrupt = Corrupt("it is cut short");

/// Refuses bytes unless `holds`.
pub(super) fn check(holds: bool, what: &'static str) -> Result<(), Corrupt> {
    if holds { Ok(()) } else { Err(Corrupt(what)) }
}

/// Takes the next `count` bytes.
pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Corrupt> {
    bytes.split_off(..count).ok_or(CUT_SHORT)
}

/// Takes the next `N` bytes as an array.
pub(super) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(CUT_SHORT)?;
    *bytes = rest;
    Ok(*taken)
}

/// Refuses what the caller wants written.
pub(super) fn invalid_input(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_tells_a_full_disk_from_a_wrong_byte_and_from_all_else() {
        let corrupt = ReadError::Corrupt { file: "meta".into(), what: "it is cut short" };
        assert_eq!(ReadError::from(io::Error::from_raw_os_error(28)).label(), "disk_full");
        assert_eq!(error_label(&io::Error::from_raw_os_error(122)), "disk_full");
        assert_eq!(error_label(&io::Error::from_raw_os_error(5)), "io");
        assert_eq!((corrupt.label(), corrupt.to_string()), ("checksum", "meta: it is cut short".to_owned()));
    }
}
