//! The fields of a data packet whose width is told by two bits elsewhere: absent, BYTE, WORD or DWORD (ASF 5.2.2).

use super::read::{byte, dword, put, word};

/// How wide a field is, by the two bits that say so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Width {
    Absent,
    Byte,
    Word,
    Dword,
}

impl Width {
    /// By the low two bits.
    pub(super) fn of(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Absent,
            1 => Self::Byte,
            2 => Self::Word,
            _ => Self::Dword,
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// The largest value that fits.
    pub(super) fn max(self) -> u32 {
        match self {
            Self::Absent => 0,
            Self::Byte => 0xFF,
            Self::Word => 0xFFFF,
            Self::Dword => u32::MAX,
        }
    }

    /// Length Type Flags that say this of the padding.
    pub(super) fn of_padding(self, flags: u8) -> u8 {
        flags & !(3 << 3) | (self as u8) << 3
    }

    /// Writes `value`, cut to this width.
    pub(super) fn put(self, bytes: &mut [u8], at: usize, value: u32) {
        let value = value.to_le_bytes();
        put(bytes, at, value.get(..self.bytes()).unwrap_or(&value));
    }
}

/// A field of one of the four widths; 0 where absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub at: usize,
    pub width: Width,
    pub value: u32,
}

impl Field {
    /// Reads a field whose type is in the low two bits.
    pub(super) fn read(bytes: &[u8], at: usize, bits: u8) -> Option<Self> {
        Self::of(bytes, at, Width::of(bits))
    }

    /// `None` where the bytes end before the field does.
    pub(super) fn of(bytes: &[u8], at: usize, width: Width) -> Option<Self> {
        let value = match width {
            Width::Absent => 0,
            Width::Byte => byte(bytes, at)?.into(),
            Width::Word => word(bytes, at)?.into(),
            Width::Dword => dword(bytes, at)?,
        };
        Some(Self { at, width, value })
    }

    /// The offset after it.
    pub(super) fn end(&self) -> usize {
        self.at + self.width.bytes()
    }

    /// Writes another value where this one was read.
    pub(super) fn put(&self, bytes: &mut [u8], value: u32) {
        self.width.put(bytes, self.at, value);
    }
}
