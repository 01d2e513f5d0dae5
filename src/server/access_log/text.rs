//! Text of others in the access log: whatever a player says stays within its field and its line.

use std::fmt::Write;

use crate::server::printable::breaks_lines;

/// Characters of one value; the longest that a report can hold is 259, a URL may become longer.
const MAX_VALUE: usize = 256;
/// Characters of a URL, encoded.
const MAX_URL: usize = 2048;

/// A value of a W3C line: spaces become `_`, what breaks lines `?`, nothing is `-`. Nor does a quote begin a string.
pub(super) fn field(text: &str) -> String {
    let clean = text.trim().chars().take(MAX_VALUE).map(|c| match c {
        '\t' => '_',
        c if breaks_lines(c) => '?',
        c if c.is_whitespace() => '_',
        '"' => '\'',
        c => c,
    });
    or_dash(clean.collect())
}

/// A value for JSON, which can tell spaces; `None` for the `-` and the nothing of those that have nothing to say.
pub(super) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let clean = text.chars().take(MAX_VALUE).map(|c| if breaks_lines(c) { '?' } else { c });
    (!matches!(text, "" | "-")).then(|| clean.collect())
}

/// A URL or a part of one, percent-encoded where it has to be. What is encoded already stays as it is.
pub(super) fn url(text: &str) -> String {
    let mut encoded = String::new();
    for (at, byte) in text.bytes().enumerate() {
        if encoded.len() >= MAX_URL {
            break;
        }
        let is_encoded = || {
            let digits = text.as_bytes().get(at.saturating_add(1)..at.saturating_add(3));
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let stays = match byte {
            b'%' => is_encoded(),
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            byte => byte.is_ascii_graphic(),
        };
        if stays {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String never fails.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Nothing, as W3C lines say it.
pub(super) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_stays_within_its_field() {
        assert_eq!(field("Windows Media\tAudio V2"), "Windows_Media_Audio_V2");
        assert_eq!(field("a\r\n192.0.2.9 - -\u{9b}31m\u{2028}\"x\""), "a??192.0.2.9_-_-?31m?'x'");
        assert_eq!((field(""), field("  "), field("-")), ("-".into(), "-".into(), "-".into()));
        assert_eq!(field(&"x".repeat(9_999)).len(), MAX_VALUE);
    }

    #[test]
    fn nothing_to_say_is_no_value_in_json() {
        assert_eq!((plain("-"), plain(" "), plain("")), (None, None, None));
        assert_eq!(plain("Windows 2000\u{7f}\u{202e}"), Some("Windows 2000??".into()));
    }

    #[test]
    fn urls_are_encoded_once() {
        assert_eq!(url("clips/a talk.asf"), "clips/a%20talk.asf");
        assert_eq!(url("a%20b/100%/ä\n#"), "a%20b/100%25/%C3%A4%0A%23");
        assert!(url(&"ä".repeat(9_999)).len() < MAX_URL + 3);
    }

    proptest! {
        #[test]
        fn nobody_forges_a_line_or_a_field(text in any::<String>()) {
            for value in [field(&text), url(&text)] {
                prop_assert!(!value.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"'), "{}", value);
            }
            prop_assert!(!plain(&text).unwrap_or_default().chars().any(char::is_control));
        }
    }
}
