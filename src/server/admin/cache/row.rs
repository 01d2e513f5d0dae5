//! An entry as the API tells it. The commands read it back, and make it themselves where no proxy runs.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::cache::{Facts, Marks};
use crate::server::admin::api::rfc3339;

/// One entry. Field names are the project's outside.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EntryRow {
    /// `mms://` and its key: the first origin of its route, and the name there.
    pub url: String,
    /// Of its files.
    pub bytes: u64,
    /// Packet numbers, by proof or as the header says.
    pub packets: u64,
    /// Packets that are there.
    pub packets_present: u64,
    /// Numbers that the origin has no packet for.
    pub packets_absent: u64,
    /// Nothing is unknown.
    pub is_complete: bool,
    /// Sessions that fetch it.
    pub fills: usize,
    /// Viewers that have it open.
    pub readers: usize,
    /// When its origin last said that it is the same, RFC 3339.
    pub validated_at: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub last_used_at: String,
    /// How often it was opened.
    pub plays: u64,
    /// How it is served.
    pub state: EntryState,
    /// Its own number among all that ever had that URL.
    pub generation: u64,
    /// How long it plays, seconds.
    pub duration_seconds: f64,
    /// As the origin said, bit/s.
    pub bit_rate: u32,
    /// What the origin calls itself; null where it was not asked since the start.
    pub origin_version: Option<String>,
    /// An operator had it fetched, and that goes on.
    #[serde(rename = "prefetching")]
    pub is_prefetching: bool,
    /// Why the last prefetch ended early; null where none did.
    pub error: Option<String>,
}

/// How an entry is served.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Without a question.
    Fresh,
    /// The next who asks has its origin asked.
    Stale,
    /// Only to whom its origin lets in.
    Guarded,
    /// Its origin says that it is gone: the operator decides.
    SetAside,
}

impl EntryState {
    fn of(marks: &Marks, now: SystemTime, revalidate: Duration) -> Self {
        let age = now.duration_since(at(marks.validated)).unwrap_or_default();
        match marks {
            Marks { guarded: true, .. } => Self::Guarded,
            Marks { set_aside: true, .. } => Self::SetAside,
            _ if age < revalidate => Self::Fresh,
            _ => Self::Stale,
        }
    }
}

impl fmt::Display for EntryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Guarded => "guarded",
            Self::SetAside => "set_aside",
        })
    }
}

impl EntryRow {
    /// What is known of it without a proxy; `revalidate` is how long it counts as fresh.
    pub fn of(facts: &Facts, now: SystemTime, revalidate: Duration) -> Self {
        let marks = &facts.marks;
        Self {
            url: format!("mms://{}", facts.key),
            bytes: facts.bytes,
            packets: facts.packets,
            packets_present: facts.present,
            packets_absent: facts.absent,
            is_complete: facts.is_complete,
            fills: 0,
            readers: 0,
            validated_at: rfc3339(at(marks.validated)),
            created_at: rfc3339(at(marks.created)),
            last_used_at: rfc3339(at(marks.last_used)),
            plays: marks.plays,
            state: EntryState::of(marks, now, revalidate),
            generation: facts.generation,
            // JSON has no others.
            duration_seconds: if facts.duration_seconds.is_finite() { facts.duration_seconds } else { 0.0 },
            bit_rate: facts.bit_rate,
            origin_version: None,
            is_prefetching: false,
            error: None,
        }
    }

    /// The part of its packets that is known, in percent; 100 only where nothing is unknown.
    pub fn percent(&self) -> u64 {
        if self.is_complete {
            return 100;
        }
        let known = self.packets_present.saturating_add(self.packets_absent);
        known.saturating_mul(100).checked_div(self.packets).unwrap_or(0).min(99)
    }
}

fn at(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(marks: Marks) -> Facts {
        Facts {
            key: "ms.example:1755/talk.asf".to_owned(),
            generation: 7000,
            bytes: 1500,
            packets: 10,
            present: 4,
            absent: 1,
            is_complete: false,
            duration_seconds: 12.5,
            bit_rate: 300_000,
            marks,
        }
    }

    const MARKS: Marks = Marks {
        created: 10_000,
        validated: 20_000,
        last_used: 30_000,
        plays: 3,
        guarded: false,
        set_aside: false,
        gave_up: false,
        retired: false,
    };

    #[test]
    fn the_fields_are_those_that_scripts_know() {
        let row = EntryRow::of(&facts(MARKS), at(25_000), Duration::from_secs(10));
        let want = json!({
            "url": "mms://ms.example:1755/talk.asf", "bytes": 1500, "packets": 10, "packets_present": 4,
            "packets_absent": 1, "is_complete": false, "fills": 0, "readers": 0,
            "validated_at": "1970-01-01T00:00:20.000Z", "created_at": "1970-01-01T00:00:10.000Z",
            "last_used_at": "1970-01-01T00:00:30.000Z", "plays": 3, "state": "fresh", "generation": 7000,
            "duration_seconds": 12.5, "bit_rate": 300_000, "origin_version": null, "prefetching": false, "error": null
        });
        assert_eq!(serde_json::to_value(&row).unwrap(), want);
        assert_eq!(serde_json::from_value::<EntryRow>(want).unwrap(), row);
        assert_eq!(row.percent(), 50);
    }

    #[test]
    fn the_state_says_how_it_is_served() {
        let state = |marks, now: u64| EntryRow::of(&facts(marks), at(now * 1000), Duration::from_secs(10)).state;
        assert_eq!(state(MARKS, 29), EntryState::Fresh);
        assert_eq!(state(MARKS, 30), EntryState::Stale);
        // A clock that was set back makes nothing old.
        assert_eq!(state(MARKS, 1), EntryState::Fresh);
        assert_eq!(state(Marks { set_aside: true, ..MARKS }, 21), EntryState::SetAside);
        assert_eq!(state(Marks { set_aside: true, guarded: true, ..MARKS }, 21), EntryState::Guarded);
        assert_eq!(serde_json::to_value(EntryState::SetAside).unwrap(), EntryState::SetAside.to_string());
    }

    #[test]
    fn all_is_said_only_of_what_is_complete() {
        let row = |present, packets, is_complete| {
            let facts = Facts { present, packets, is_complete, absent: 0, ..facts(MARKS) };
            EntryRow::of(&facts, at(0), Duration::ZERO).percent()
        };
        assert_eq!((row(1000, 1000, false), row(1000, 1000, true), row(0, 0, false)), (99, 100, 0));
    }
}
