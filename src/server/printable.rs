//! Text of others in our log: names, reasons and locations come from players and origins, and none of them may begin a
//! line of its own or colour a terminal.

use std::fmt::{self, Display, Write};

/// Characters that are shown; a name may be 32 KiB long.
const MAX_SHOWN: usize = 1024;

/// Shows a value with its control characters escaped, and cut where it is endless.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaped = Escaped { out: f, left: MAX_SHOWN };
        match write!(escaped, "{}", self.0) {
            Err(_) if escaped.left == 0 => f.write_char('…'),
            result => result,
        }
    }
}

struct Escaped<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
}

/// Characters that begin a line or colour a terminal. The separators of lines and the marks that turn the direction of
/// writing are no control characters to Unicode, but they are to a terminal.
pub(super) fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            if breaks_lines(c) {
                write!(self.out, "{}", c.escape_unicode())?;
            } else {
                self.out.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_begins_a_line_of_its_own() {
        let name = "NSPlayer/7\r\n2026 WARN all is lost\u{1b}[31m\u{202e}é";
        let shown = r"NSPlayer/7\u{d}\u{a}2026 WARN all is lost\u{1b}[31m\u{202e}é";
        assert_eq!(Printable(name).to_string(), shown);
    }

    #[test]
    fn an_endless_name_is_cut() {
        let shown = Printable("n".repeat(40_000)).to_string();
        assert_eq!(shown.chars().count(), MAX_SHOWN + 1);
        assert!(shown.ends_with("n…"));
        assert_eq!(Printable("n".repeat(MAX_SHOWN)).to_string().len(), MAX_SHOWN);
    }
}
