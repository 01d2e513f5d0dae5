//! What every codec of this crate reads with: a cursor that cannot run past its bytes, the errors it gives, and the
//! UTF-16LE strings and 8-byte paddings of [MS-MMSP] 2.2.4. All integers are little-endian.

use std::fmt;

use thiserror::Error;

/// Why bytes could not be decoded.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DecodeError {
    /// The bytes end before the field does.
    #[error("{what} is cut short: {needed} bytes wanted, {left} left")]
    Truncated {
        /// The structure that was being read.
        what: &'static str,
        /// Bytes the next field takes.
        needed: usize,
        /// Bytes that were left.
        left: usize,
    },
    /// A field has a value after which the rest makes no sense.
    #[error("{field} is {value:#x}, want {want} ({})", Citation(section))]
    WrongValue {
        /// The field as its specification spells it.
        field: &'static str,
        /// What it held.
        value: u64,
        /// What it may hold.
        want: &'static str,
        /// Where that is said; see [`check`].
        section: &'static str,
    },
    /// A declared length goes beyond what we are willing to hold.
    #[error("{what} of {length} bytes, the limit is {limit}")]
    TooLong {
        /// What declares the length.
        what: &'static str,
        /// The declared length in bytes.
        length: u64,
        /// Our own limit in bytes.
        limit: u64,
    },
    /// Something well-formed that may not come from this peer.
    #[error("{what} from a {from} ({})", Citation(section))]
    WrongDirection {
        /// What came.
        what: &'static str,
        /// The role of the peer.
        from: &'static str,
        /// Where its direction is said; see [`check`].
        section: &'static str,
    },
}

/// A bare section is one of [MS-MMSP]; anything else names its document itself.
struct Citation<'a>(&'a str);

impl fmt::Display for Citation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with(|first: char| first.is_ascii_digit()) {
            f.write_str("[MS-MMSP] ")?;
        }
        f.write_str(self.0)
    }
}

/// Refuses `field`, which holds `value`, unless `holds`. `section` is a bare section of [MS-MMSP] (`"2.2.5"`) or names its
/// document (`"ASF 5.2.2"`).
pub fn check(
    holds: bool,
    field: &'static str,
    value: impl Into<u64>,
    want: &'static str,
    section: &'static str,
) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::WrongValue { field, value: value.into(), want, section }) }
}

/// A place in bytes. A read past the end is a [`DecodeError::Truncated`] and moves nothing.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`; `what` is the structure that errors will name.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, left: bytes }
    }

    /// Takes the next byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    /// Takes a 16-bit integer.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a 64-bit integer.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a `DOUBLE` (IEEE 754 binary64), NaN and infinities included.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.array().map(f64::from_le_bytes)
    }

    /// Takes the next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self.left.split_at_checked(n).ok_or_else(|| self.truncated(n))?;
        self.left = left;
        Ok(taken)
    }

    /// Takes the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, left) = self.left.split_first_chunk().ok_or_else(|| self.truncated(N))?;
        self.left = left;
        Ok(*taken)
    }

    /// Passes over `n` bytes.
    pub fn skip(&mut self, n: usize) -> Result<(), DecodeError> {
        self.bytes(n).map(drop)
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// The bytes not yet taken; they stay.
    pub fn rest(&self) -> &'a [u8] {
        self.left
    }

    /// Bytes taken so far.
    pub fn position(&self) -> usize {
        self.bytes.len().saturating_sub(self.left.len())
    }

    fn truncated(&self, needed: usize) -> DecodeError {
        DecodeError::Truncated { what: self.what, needed, left: self.left.len() }
    }
}

/// UTF-16LE up to the first NUL or the end. A lone surrogate becomes U+FFFD, an odd last byte is dropped.
///
/// Players put up to three NULs and more behind a string, VLC a `0` behind the NUL: a length says nothing.
pub fn utf16_until_nul(bytes: &[u8]) -> String {
    lossy(units(bytes).take_while(|&unit| unit != 0))
}

/// UTF-16LE as it stands, NULs included, for fields that hold several strings.
pub fn utf16_with_nuls(bytes: &[u8]) -> String {
    lossy(units(bytes))
}

/// Appends `text` in UTF-16LE, without a NUL.
pub fn put_utf16(out: &mut Vec<u8>, text: &str) {
    text.encode_utf16().for_each(|unit| out.extend(unit.to_le_bytes()));
}

/// Appends `text`, cut at a NUL of its own if it has one, and a NUL.
pub fn put_utf16_nul(out: &mut Vec<u8>, text: &str) {
    put_utf16(out, text.split('\0').next().unwrap_or_default());
    out.extend([0, 0]);
}

/// How many bytes bring `len` to a multiple of 8, the chunk in which [MS-MMSP] counts.
pub fn padding_to_8(len: usize) -> usize {
    len.wrapping_neg() % 8
}

/// A length for a 32-bit field. None of ours comes near the limit; one that did would not wrap to a small number.
pub fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.as_chunks::<2>().0.iter().map(|&unit| u16::from_le_bytes(unit))
}

fn lossy(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_are_little_endian() {
        let mut r = Reader::new("Numbers", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(r.u8(), Ok(0x01));
        assert_eq!(r.u16(), Ok(0x0302));
        assert_eq!(r.u32(), Ok(0x0706_0504));
        assert_eq!(r.position(), 7);
        assert_eq!(r.u64(), Ok(0x0F0E_0D0C_0B0A_0908));
        assert_eq!(r.remaining(), 1);
        assert_eq!(r.rest(), [16]);
        let hour = Reader::new("tDeadline", &[0, 0, 0, 0, 0, 0x20, 0xAC, 0x40]).f64();
        assert_eq!(hour, Ok(3600.0));
    }

    #[test]
    fn a_read_past_the_end_is_refused_and_moves_nothing() {
        let mut r = Reader::new("Ping", &[1, 2, 3]);
        assert_eq!(r.u32().unwrap_err().to_string(), "Ping is cut short: 4 bytes wanted, 3 left");
        assert_eq!(
            r.skip(usize::MAX).unwrap_err().to_string(),
            format!("Ping is cut short: {} bytes wanted, 3 left", usize::MAX)
        );
        assert_eq!(r.array(), Ok([1, 2, 3]));
    }

    #[test]
    fn a_refusal_names_field_value_and_section() {
        let refused = check(false, "wNumPackets", 0u16, "1 to 32", "2.2.5").unwrap_err();
        assert_eq!(refused.to_string(), "wNumPackets is 0x0, want 1 to 32 ([MS-MMSP] 2.2.5)");
        let refused = check(false, "Error Correction Type", 3u8, "0", "ASF 5.2.1").unwrap_err();
        assert_eq!(refused.to_string(), "Error Correction Type is 0x3, want 0 (ASF 5.2.1)");
        assert_eq!(check(true, "wNumPackets", 1u16, "1 to 32", "2.2.5"), Ok(()));
    }

    #[test]
    fn a_string_ends_at_its_first_nul() {
        // Hand-written: VLC's habit, a '0' behind the NUL.
        assert_eq!(utf16_until_nul(b"a\0b\0\0\x000\0\0\0"), "ab");
        assert_eq!(utf16_until_nul(b"a\0b\0c"), "ab");
        assert_eq!(utf16_with_nuls(b"a\0\0\0b\0"), "a\0b");
        assert_eq!(utf16_until_nul(&[0x00, 0xD8, 0x41, 0x00]), "\u{FFFD}A");
    }

    #[test]
    fn a_string_is_written_with_one_nul() {
        let mut out = Vec::new();
        put_utf16_nul(&mut out, "a\u{1F600}\0lost");
        assert_eq!(out, [0x61, 0, 0x3D, 0xD8, 0x00, 0xDE, 0, 0]);
    }

    #[test]
    fn padding_fills_the_last_chunk_and_no_other() {
        assert_eq!([0, 1, 7, 8, 58].map(padding_to_8), [0, 7, 1, 0, 6]);
    }

    proptest! {
        #[test]
        fn a_string_comes_back(text in "[^\0]{0,40}") {
            let mut out = Vec::new();
            put_utf16_nul(&mut out, &text);
            prop_assert_eq!(utf16_until_nul(&out), text);
        }

        #[test]
        fn any_bytes_are_some_string(bytes: Vec<u8>) {
            let text = utf16_with_nuls(&bytes);
            let mut out = Vec::new();
            put_utf16(&mut out, &text);
            prop_assert_eq!(utf16_with_nuls(&out), text);
        }
    }
}
