//! Whether what is on disk is what was written: every checksum of every file.

use std::fmt;
use std::io;
use std::str::FromStr;

use super::description;
use super::disk::{Found, ReadError, Store};

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Entries of which anything was looked at.
    pub entries: u64,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, up to [`Report::MAX_FAULTS`].
    pub faults: Vec<Fault>,
    /// Where to go on, if that was not all.
    pub next: Option<Place>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Of which entry; `None` where that can't be told any more.
    pub key: Option<String>,
    /// What.
    pub error: String,
}

/// A file of an entry, in the order of keys and files.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Of the entry.
    pub key: String,
    /// Which file.
    pub segment: u32,
}

/// A text is no [`Place`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("want a file's number and a key, with a blank between them")]
pub struct PlaceError;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.segment, self.key)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (segment, key) = text.split_once(' ').ok_or(PlaceError)?;
        Ok(Self { key: key.to_owned(), segment: segment.parse().map_err(|_| PlaceError)? })
    }
}

impl Report {
    /// Faults that are listed; what is behind them is not looked at.
    pub const MAX_FAULTS: usize = 1000;

    /// Reads all files of all entries whose key `wants`, from `from` on, as long as `goes_on` is true; one file at least.
    /// What goes while it is being read is no fault.
    ///
    /// # Errors
    /// A directory that can't be listed.
    pub fn of(
        store: &Store,
        wants: impl Fn(&str) -> bool,
        from: Option<&Place>,
        mut goes_on: impl FnMut() -> bool,
    ) -> io::Result<Self> {
        let mut report = Self::default();
        let metas_before = store.corrupt_metas();
        for key in keys(store, wants, from)? {
            let Some(found) = store.find(&key)? else { continue };
            let first = from.filter(|from| from.key == key).map_or(0, |from| from.segment);
            report.next = report.check(&found, first, &mut goes_on);
            if report.next.is_some() {
                break;
            }
        }
        for _ in metas_before..store.corrupt_metas() {
            report.fault(None, "the meta of an entry did not match its checksum: it is gone".to_owned());
        }
        Ok(report)
    }

    /// Where to go on, if that was not all.
    fn check(&mut self, found: &Found, first: u32, goes_on: &mut impl FnMut() -> bool) -> Option<Place> {
        let key = &found.meta.key;
        self.entries += 1;
        if description::decode(&found.meta.description, &found.meta.header).is_none() {
            self.fault(Some(key), "its meta makes no sense".to_owned());
        }
        for listed in found.segments.iter().filter(|listed| listed.index >= first) {
            if self.files > 0 && (!goes_on() || self.faults.len() >= Self::MAX_FAULTS) {
                return Some(Place { key: key.clone(), segment: listed.index });
            }
            match found.entry.check(listed.index) {
                // Evicted, or of an entry that was removed.
                Err(ReadError::Missing(_)) => continue,
                Err(error) => self.fault(Some(key), error.to_string()),
                Ok(_) => {}
            }
            self.files += 1;
            self.bytes = self.bytes.saturating_add(listed.bytes);
        }
        None
    }

    fn fault(&mut self, key: Option<&String>, error: String) {
        if self.faults.len() < Self::MAX_FAULTS {
            self.faults.push(Fault { key: key.cloned(), error });
        }
    }
}

/// Those to be looked at, in order.
fn keys(store: &Store, wants: impl Fn(&str) -> bool, from: Option<&Place>) -> io::Result<Vec<String>> {
    let is_due = |key: &String| wants(key) && from.is_none_or(|from| *key >= from.key);
    let all = store.entries().map(|found| found.map(|found| found.meta.key));
    let mut keys = all.filter(|key| key.as_ref().map_or(true, is_due)).collect::<io::Result<Vec<_>>>()?;
    keys.sort_unstable();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::testing::{cache, keep};
    use super::*;

    fn all(store: &Store) -> Report {
        Report::of(store, |_| true, None, || true).unwrap()
    }

    /// The files below a directory that are called so.
    fn files(dir: &std::path::Path, end: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                found.extend(files(&path, end));
            } else if path.to_str().unwrap().ends_with(end) {
                found.push(path);
            }
        }
        found
    }

    #[test]
    fn a_wrong_byte_is_found_and_named() {
        let (dir, cache) = cache();
        for name in ["a", "b", "c"] {
            keep(&cache, &format!("h:1755/{name}"), true, |_| true);
        }
        let report = all(cache.store());
        assert_eq!((report.entries, report.files, report.faults.len(), report.next), (3, 3, 0, None));
        let path = files(&dir.path().join("v1"), ".seg").remove(0);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let report = all(cache.store());
        let [Fault { key: Some(key), error }] = &report.faults[..] else { panic!("{report:?}") };
        assert!(error.contains(path.to_str().unwrap()) && error.contains("checksum"), "{error}");
        assert!(Report::of(cache.store(), |other| other != key, None, || true).unwrap().faults.is_empty());
    }

    #[test]
    fn a_meta_that_is_not_right_is_told_of() {
        let (dir, cache) = cache();
        keep(&cache, "h:1755/a", true, |_| true);
        let path = files(dir.path(), "meta").remove(0);
        fs::write(path, b"nothing").unwrap();
        let report = all(cache.store());
        assert_eq!((report.entries, report.faults.len()), (0, 1));
        assert_eq!(report.faults[0].key, None);
    }

    #[test]
    fn a_check_goes_on_where_it_stopped() {
        let (_dir, cache) = cache();
        for name in ["a", "b", "c"] {
            keep(&cache, &format!("h:1755/{name}"), true, |_| true);
        }
        let (mut from, mut seen) = (None, Vec::new());
        loop {
            let report = Report::of(cache.store(), |_| true, from.as_ref(), || false).unwrap();
            seen.push(report.files);
            from = report.next.map(|place| place.to_string().parse::<Place>().unwrap());
            if from.is_none() {
                break;
            }
        }
        assert_eq!(seen, [1, 1, 1]);
        assert_eq!("x y".parse::<Place>(), Err(PlaceError));
    }
}
