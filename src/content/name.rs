//! The name of a content in its one canonical form: what routes match and keys hold.
//!
//! Players send the same URL in different forms ([MS-MMSP] 2.2.4.25 leaves it open): ffmpeg and VLC keep the
//! percent-encoding, libmms, xine and MPlayer undo it, some keep a second leading slash, MPlayer keeps the first.
use std::borrow::Cow;
use std::fmt;

/// A name that stays below where it is put: no leading slash, no `\`, no segment `.` or `..`, no control character. The
/// empty name is one too.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

/// Why a name is refused; players are told NS_E_INVALID_NAME.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Would climb, here or after further decoding behind us.
    #[error("`{}` has a segment `.` or `..`", .0.escape_debug())]
    Climbs(String),
    /// In clear or percent-encoded.
    #[error("`{}` has a control character", .0.escape_debug())]
    Control(String),
}

/// An origin, or a chain of proxies before it, may undo the percent-encoding again; each of ours does so once, and a
/// request passes 8 of them at most.
const DECODINGS: usize = 8;

impl Name {
    /// Reads a `fileName` of OpenFile or the path of a URL: cut at NUL, percent-encoding undone once where it decodes as
    /// UTF-8, `\` read as `/`, leading slashes dropped; case, empty segments and the query are kept.
    pub fn parse(file_name: &str) -> Result<Self, NameError> {
        let cut = file_name.split('\0').next().unwrap_or_default();
        let name = canonical(cut);
        let name = name.trim_start_matches('/');
        if name.chars().any(char::is_control) {
            return Err(NameError::Control(name.into()));
        }
        let mut form = Cow::Borrowed(name);
        for _ in 0..DECODINGS {
            if climbs(&form) {
                return Err(NameError::Climbs(name.into()));
            }
            match canonical(&form) {
                next if next == form => break,
                next => form = Cow::Owned(next),
            }
        }
        Ok(Self(name.into()))
    }

    /// The canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name and, after the first `?`, its query.
    pub(super) fn split_query(&self) -> (&str, Option<&str>) {
        match self.0.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.0, None),
        }
    }

    /// For names put together of parts that were canonical, so that nothing in them climbs.
    pub(super) fn joined(parts: &str) -> Self {
        Self(parts.trim_start_matches('/').into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn canonical(text: &str) -> String {
    percent_decoded(text).replace('\\', "/")
}

/// Windows drops spaces at the end of a segment, so `.. ` climbs there as well; a query may follow the last segment.
fn climbs(name: &str) -> bool {
    name.split(['/', '?']).any(|segment| matches!(segment.trim_end(), "." | ".."))
}

/// Undoes `%XX` once. Bytes that are no UTF-8 stay encoded, as written.
fn percent_decoded(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, encoded) = rest.split_at(at);
        decoded.push_str(before);
        let (bytes, after) = encoded_run(encoded);
        if bytes.is_empty() {
            decoded.push('%');
            rest = encoded.strip_prefix('%').unwrap_or_default();
            continue;
        }
        let mut written = encoded;
        for chunk in bytes.utf8_chunks() {
            decoded.push_str(chunk.valid());
            let (_, tail) = written.split_at_checked(chunk.valid().len() * 3).unwrap_or_default();
            let (invalid, tail) = tail.split_at_checked(chunk.invalid().len() * 3).unwrap_or_default();
            decoded.push_str(invalid);
            written = tail;
        }
        rest = after;
    }
    decoded.push_str(rest);
    decoded
}

/// The bytes that a run of `%XX` stands for, and the text after the run.
fn encoded_run(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((triplet, after)) = rest.split_at_checked(3) {
        let Some(digits) = triplet.strip_prefix('%').filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())) else {
            break;
        };
        let Ok(byte) = u8::from_str_radix(digits, 16) else {
            break;
        };
        bytes.push(byte);
        rest = after;
    }
    (bytes, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> String {
        Name::parse(text).unwrap().as_str().to_string()
    }

    /// What six players send for one URL (recorded names).
    #[test]
    fn all_players_mean_the_same_content() {
        for sent in ["/dir//a%C3%A9.asf", "dir//aé.asf", "/dir//aé.asf", "//dir//aé.asf", "\\dir\\/aé.asf\0\u{30}"]
        {
            assert_eq!(name(sent), "dir//aé.asf", "{sent}");
        }
        for sent in ["dir/te%20st.asf?x=1", "dir/te st.asf?x=1"] {
            assert_eq!(name(sent), "dir/te st.asf?x=1", "{sent}");
        }
    }

    #[test]
    fn an_empty_name_is_a_name() {
        for sent in ["", "/", "//", "\0x", "%2F"] {
            assert_eq!(name(sent), "", "{sent}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_once_and_stays_where_it_is_no_utf8() {
        assert_eq!(name("a%2520b"), "a%20b");
        assert_eq!(name("100%"), "100%");
        assert_eq!(name("%4"), "%4");
        assert_eq!(name("%zz%41"), "%zzA");
        assert_eq!(name("%41%ff%C3%a9%c3"), "A%ffé%c3");
        assert_eq!(name("%é41"), "%é41");
    }

    #[test]
    fn a_name_that_climbs_is_refused() {
        for sent in [
            "..",
            ".",
            "../x",
            "a/../b",
            "a/./b",
            "a\\..\\b",
            "%2e%2e/x",
            "a%2f..%5Cb",
            "a/%2E%2e",
            "a/..?x=1",
            "a/.. /b",
            "a/%252e%252e/b",
            "a%25252f..%25252fb",
        ] {
            assert!(matches!(Name::parse(sent), Err(NameError::Climbs(_))), "{sent}");
        }
        assert_eq!(Name::parse("/a/%2e./b").unwrap_err().to_string(), "`a/../b` has a segment `.` or `..`");
        for sent in ["...", "a..b", "..a", "a/.hidden"] {
            assert_eq!(name(sent), sent);
        }
    }

    #[test]
    fn a_control_character_is_refused() {
        for sent in ["a\nb", "a%0Ab", "a%00b", "a\u{7f}", "a\u{85}"] {
            assert!(matches!(Name::parse(sent), Err(NameError::Control(_))), "{sent:?}");
        }
        assert_eq!(Name::parse("a%00b").unwrap_err().to_string(), "`a\\0b` has a control character");
    }

    proptest! {
        #[test]
        fn no_name_that_parses_climbs(text in "([a.%/\\\\? 025eEfFcC\\x00]|%2[eE]|%5[cC]|%2[fF]|%25|\\PC){0,24}") {
            if let Ok(parsed) = Name::parse(&text) {
                let mut form = parsed.as_str().to_string();
                prop_assert!(!form.starts_with('/') && !form.contains('\\') && !form.contains(char::is_control));
                for _ in 0..4 {
                    prop_assert!(!form.split(['/', '\\']).any(|segment| segment == ".." || segment == "."), "{}", form);
                    form = percent_decoded(&form);
                }
            }
        }
    }
}
