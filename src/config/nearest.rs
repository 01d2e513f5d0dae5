//! The key that was probably meant.

/// The known key nearest to an unknown one, if it is near enough to be meant.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let unknown = unknown.to_lowercase().replace('-', "_");
    let near_enough = unknown.chars().count().max(3) / 3;
    known
        .map(|key| (distance(&unknown, key.rsplit('.').next().unwrap_or(key)), key))
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// Edits from one text to the other (Levenshtein): the last row of the table is all that is kept.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, c) in from.chars().enumerate() {
        let mut next = vec![line + 1];
        for (&d, pair) in to.iter().zip(row.windows(2)) {
            let [replaced, deleted] = pair else { break };
            let inserted = next.last().copied().unwrap_or(usize::MAX - 1);
            next.push((replaced + usize::from(c != d)).min(deleted + 1).min(inserted + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn only_a_near_key_is_proposed() {
        let known = ["origin", "origins", "path", "ignore_case"];
        let of = |unknown| nearest(unknown, known.into_iter());
        assert_eq!(of("orgin"), Some("origin"));
        assert_eq!(of("ignore-case"), Some("ignore_case"));
        assert_eq!(of("Path"), Some("path"));
        assert_eq!(of("zebra"), None);
    }
}
