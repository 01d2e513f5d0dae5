//! What is known of contents from the last time: whether viewers share a session at the origin or need one each. It only
//! saves a wait; where it is wrong, the next answer of the origin puts it right.

use dashmap::DashMap;

use crate::content::{Key, Name};

/// How many contents are remembered; players may name any number.
const MAX_KNOWN: usize = 10_000;

/// The endings of files that Windows Media servers hold: what has one is on-demand content, more often than not.
const FILES: [&str; 6] = [".asf", ".wma", ".wmv", ".wm", ".mp3", ".wsx"];

/// How viewers get a content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A broadcast that opens without credentials: one session for all.
    Shared,
    /// On-demand content that the cache keeps, or kept.
    Stored,
    /// On-demand content, or one whose origin asks for credentials: a session for each.
    Own,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Kinds(DashMap<Key, Kind>);

impl Kinds {
    /// What was found the last time.
    pub(super) fn of(&self, key: &Key) -> Option<Kind> {
        self.0.get(key).map(|kind| *kind)
    }

    /// It was found to be of this kind.
    pub(super) fn set(&self, key: &Key, kind: Kind) {
        if self.0.len() >= MAX_KNOWN {
            self.0.clear();
        }
        self.0.insert(key.clone(), kind);
    }
}

/// Whether a name looks like that of a file, before anybody knows.
pub(super) fn looks_like_a_file(name: &Name) -> bool {
    let path = name.as_str().split('?').next().unwrap_or_default().to_ascii_lowercase();
    FILES.iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("origin.example", 1755, &Name::parse(name).unwrap(), false)
    }

    #[test]
    fn the_last_finding_counts_and_made_up_names_do_not_pile_up() {
        let kinds = Kinds::default();
        kinds.set(&key("live"), Kind::Own);
        kinds.set(&key("live"), Kind::Shared);
        assert_eq!((kinds.of(&key("live")), kinds.of(&key("other"))), (Some(Kind::Shared), None));
        for n in 0..2 * MAX_KNOWN {
            kinds.set(&key(&n.to_string()), Kind::Own);
        }
        assert!(kinds.0.len() <= MAX_KNOWN);
    }

    #[test]
    fn files_have_an_ending_and_publishing_points_have_none() {
        let of = |name: &str| looks_like_a_file(&Name::parse(name).unwrap());
        assert!(of("talks/talk.ASF?WMCache=0") && of("a.wma"));
        assert!(!of("live") && !of("radio/128.kbit") && !of("list?of=talk.asf"));
    }
}
