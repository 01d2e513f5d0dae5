//! Entries for people.

use std::fmt::Write;

use crate::config::units::display_duration;
use crate::server::admin::cache::{CacheList, EntryRow};

/// A line for each, and one for all.
pub(super) fn list(list: &CacheList) -> String {
    let mut text = String::new();
    // Writing to a String never fails.
    let _ = writeln!(text, "{:<9} {:>10} {:>6} {:>6}  {:<20}  URL", "STATE", "SIZE", "THERE", "PLAYS", "LAST USED");
    for entry in &list.entries {
        let (size, there) = (size(entry.bytes), format!("{} %", entry.percent()));
        let (plays, used) = (entry.plays, seconds_of(&entry.last_used_at));
        let _ =
            writeln!(text, "{:<9} {size:>10} {there:>6} {plays:>6}  {used:<20}  {}", entry.state, shown(&entry.url));
    }
    let _ = writeln!(text, "{} entries, {}", list.entries.len(), size(list.bytes));
    text
}

/// All about one.
pub(super) fn entry(entry: &EntryRow) -> String {
    let duration = std::time::Duration::try_from_secs_f64(entry.duration_seconds).unwrap_or_default();
    let absent = match entry.packets_absent {
        0 => String::new(),
        absent => format!(", {absent} absent at the origin"),
    };
    let packets = format!("{} of {} ({} %){absent}", entry.packets_present, entry.packets, entry.percent());
    let lines = [
        ("state", entry.state.to_string()),
        ("packets", packets),
        ("size", size(entry.bytes)),
        ("plays for", display_duration(&duration)),
        ("bit rate", format!("{} kb/s", entry.bit_rate / 1000)),
        ("viewers", entry.readers.to_string()),
        ("fills", entry.fills.to_string()),
        ("plays", entry.plays.to_string()),
        ("created", seconds_of(&entry.created_at)),
        ("validated", seconds_of(&entry.validated_at)),
        ("last used", seconds_of(&entry.last_used_at)),
        ("generation", entry.generation.to_string()),
        ("origin", entry.origin_version.clone().unwrap_or_default()),
        ("failed", entry.error.clone().unwrap_or_default()),
    ];
    let mut text = format!("{}\n", shown(&entry.url));
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {name:<11} {}", shown(value));
    }
    text
}

/// RFC 3339 without its fraction.
fn seconds_of(time: &str) -> String {
    time.split_once('.').map_or(time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

/// As a player or an origin named it, but for what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).collect()
}

pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::cache::{Facts, Marks};

    fn row() -> EntryRow {
        let facts = Facts {
            key: "ms.example:1755/a\u{1b}[2J.asf".to_owned(),
            generation: 7,
            bytes: 3 << 20,
            packets: 200,
            present: 99,
            absent: 1,
            is_complete: false,
            duration_seconds: 90.0,
            bit_rate: 300_000,
            marks: Marks { plays: 2, ..Marks::default() },
        };
        EntryRow::of(&facts, SystemTime::UNIX_EPOCH, Duration::from_secs(1))
    }

    #[test]
    fn a_list_has_a_line_for_each_and_obeys_nobody() {
        let text = list(&CacheList { bytes: 3 << 20, entries: vec![row()], ..CacheList::default() });
        let want = "STATE           SIZE  THERE  PLAYS  LAST USED             URL\n\
                    fresh        3.0 MiB   50 %      2  1970-01-01T00:00:00Z  mms://ms.example:1755/a\u{FFFD}[2J.asf\n\
                    1 entries, 3.0 MiB\n";
        assert_eq!(text, want);
    }

    #[test]
    fn one_entry_is_told_line_by_line() {
        let text = entry(&row());
        assert!(text.contains("  packets     99 of 200 (50 %), 1 absent at the origin\n"), "{text}");
        assert!(text.contains("  plays for   90s\n") && !text.contains("failed"), "{text}");
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!([size(0), size(1023), size(1 << 10), size(5 << 39)], ["0 B", "1023 B", "1.0 KiB", "2.5 TiB"]);
    }
}
