//! The names of files and directories. A name has one spelling: what would be written otherwise is not ours.

use std::fmt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

/// The first 128 bits of the SHA-256 of a key: the name of its directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Digest(pub [u8; 16]);

impl Digest {
    pub(super) fn of(key: &str) -> Self {
        let mut digest = [0; 16];
        digest.iter_mut().zip(Sha256::digest(key)).for_each(|(byte, of_key)| *byte = of_key);
        Self(digest)
    }

    /// Out of the names of a shard and of a directory in it.
    pub(super) fn parse(shard: &str, rest: &str) -> Option<Self> {
        let digest = u128::from_str_radix(&format!("{shard}{rest}"), 16).ok()?;
        let digest = Self(digest.to_be_bytes());
        (digest.shard() == shard && digest.rest() == rest).then_some(digest)
    }

    /// The first two digits: the directory that holds those of all keys that begin so.
    pub(super) fn shard(&self) -> String {
        self.to_string().chars().take(SHARD_DIGITS).collect()
    }

    fn rest(&self) -> String {
        self.to_string().chars().skip(SHARD_DIGITS).collect()
    }

    /// The directory of the key, below that of the version.
    pub(super) fn path(&self) -> PathBuf {
        [self.shard(), self.rest()].iter().collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The directory of a generation.
pub(super) fn generation(generation: u64) -> String {
    format!("{generation:016x}")
}

/// What [`generation`] wrote.
pub(super) fn parse_generation(name: &str) -> Option<u64> {
    u64::from_str_radix(name, 16).ok().filter(|&number| generation(number) == name)
}

/// The file of a segment: one that is full, or one of which packets are unknown.
pub(super) fn segment(index: u32, is_full: bool) -> String {
    format!("{index:06}.{}", if is_full { "seg" } else { "some" })
}

/// What [`segment`] wrote.
pub(super) fn parse_segment(name: &str) -> Option<(u32, bool)> {
    let (index, kind) = name.split_once('.')?;
    let (index, is_full) = (index.parse().ok()?, kind == "seg");
    (segment(index, is_full) == name).then_some((index, is_full))
}

/// Names for what is not published yet. Those of another run are what a crash left: only one store is open at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run(u32);

impl Run {
    pub(super) fn new(number: u32) -> Self {
        Self(number)
    }

    /// For the `count`th unpublished file of this run.
    pub(super) fn temporary(&self, name: &str, count: u64) -> String {
        format!("{name}.{:08x}.{count:x}{TEMPORARY}", self.0)
    }

    /// A crash left this.
    pub(super) fn is_leftover(&self, name: &str) -> bool {
        name.ends_with(TEMPORARY) && !name.contains(&format!(".{:08x}.", self.0))
    }
}

pub(super) const META: &str = "meta";
pub(super) const LOCK: &str = "lock";
/// The version of the layout: another one begins another tree.
pub(super) const VERSION: &str = "v1";

const TEMPORARY: &str = ".tmp";
const SHARD_DIGITS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_directory_of_its_sha_256() {
        // SHA-256 of "abc", FIPS 180-4.
        let digest = Digest::of("abc");
        assert_eq!(digest.path(), PathBuf::from("ba/7816bf8f01cfea414140de5dae2223"));
        assert_eq!(Digest::parse("ba", "7816bf8f01cfea414140de5dae2223"), Some(digest));
        for (shard, rest) in
            [("ba", "7816"), ("BA", "7816BF8F01CFEA414140DE5DAE2223"), ("b", "a7816bf8f01cfea414140de5dae2223")]
        {
            assert_eq!(Digest::parse(shard, rest), None, "{shard}/{rest}");
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        for (index, is_full) in [(0, true), (12, false), (u32::MAX, true)] {
            assert_eq!(parse_segment(&segment(index, is_full)), Some((index, is_full)));
        }
        for name in ["12.seg", "000012.sego", "+00012.seg", "000012", "000012.seg.00000001.1.tmp", "99999999999.seg"] {
            assert_eq!(parse_segment(name), None, "{name}");
        }
        assert_eq!(parse_generation(&generation(0xA7)), Some(0xA7));
        assert_eq!((parse_generation("a7"), parse_generation("00000000000000A7")), (None, None));
    }

    #[test]
    fn only_what_another_run_left_is_a_leftover() {
        let (ours, theirs) = (Run::new(1), Run::new(2));
        let name = ours.temporary(META, 7);
        assert!(theirs.is_leftover(&name) && !ours.is_leftover(&name) && !theirs.is_leftover(META));
    }
}
