//! What is known of a generation as a whole: the file `meta`.
//!
//! ```text
//! offset  size
//!      0     8  "MMSmeta" and the version
//!      8     4  flags
//!     12     8  generation
//!     20     4  packet size             24  4  slots of a block
//!     28     8  packets declared        36  8  end, where known
//!     44     8  created                 52  8  validated
//!     60     8  last used               68  8  plays
//!     76     4  length of the key       then the key
//!      …     4  length of the header    then the header
//!      …     4  length of the description, then the description
//!      …     4  CRC32 of all before
//! ```
//! Integers are little-endian.

use bytes::{Buf, BufMut, Bytes};

use super::Geometry;
use super::error::{CUT_SHORT, Corrupt, check, take, take_array};

/// What is kept beside the packets of a generation. Times are milliseconds since the beginning of 1970, UTC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// What names the content; at most [`Meta::MAX_KEY`] bytes.
    pub key: String,
    /// Which of the contents that had this key, one after the other; a later one has a higher number.
    pub generation: u64,
    /// How its packets are laid into segments.
    pub geometry: Geometry,
    /// The ASF header as it was received; at most [`Meta::MAX_HEADER`] bytes.
    pub header: Bytes,
    /// What the origin said of it, in a form of the caller's; at most [`Meta::MAX_DESCRIPTION`] bytes.
    pub description: Bytes,
    /// Packets that the header declares.
    pub packet_count: u64,
    /// The number after that of the last packet, where the origin proved it by ending there.
    pub end: Option<u64>,
    /// When it was first stored.
    pub created: u64,
    /// When the origin last said that it is still the same.
    pub validated: u64,
    /// When it was last played.
    pub last_used: u64,
    /// How often it was played.
    pub plays: u64,
    /// Its origin has begun to ask for credentials.
    pub guarded: bool,
    /// Its origin has said that it is gone.
    pub set_aside: bool,
}

impl Meta {
    /// Bytes of the longest key.
    pub const MAX_KEY: usize = 64 * 1024;
    /// Bytes of the longest header.
    pub const MAX_HEADER: usize = 16 * 1024 * 1024;
    /// Bytes of the longest description.
    pub const MAX_DESCRIPTION: usize = 64 * 1024;
    /// Bytes of the longest file.
    pub(super) const MAX_ENCODED: usize = 1024 + Self::MAX_KEY + Self::MAX_HEADER + Self::MAX_DESCRIPTION;

    /// The file; `None` where a part is longer than it may be.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let parts: [(&[u8], usize); 3] = [
            (self.key.as_bytes(), Self::MAX_KEY),
            (&self.header, Self::MAX_HEADER),
            (&self.description, Self::MAX_DESCRIPTION),
        ];
        if parts.iter().any(|(part, limit)| part.len() > *limit) {
            return None;
        }
        let flags = [(self.guarded, GUARDED), (self.set_aside, SET_ASIDE), (self.end.is_some(), END_KNOWN)];
        let mut out = Vec::with_capacity(256 + self.key.len() + self.header.len() + self.description.len());
        out.put_slice(MAGIC);
        out.put_u32_le(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
        out.put_u64_le(self.generation);
        out.put_u32_le(self.geometry.packet_size());
        out.put_u32_le(self.geometry.packets_per_block());
        out.put_u64_le(self.packet_count);
        out.put_u64_le(self.end.unwrap_or_default());
        out.put_u64_le(self.created);
        out.put_u64_le(self.validated);
        out.put_u64_le(self.last_used);
        out.put_u64_le(self.plays);
        for (part, _) in parts {
            out.put_u32_le(part.len() as u32);
            out.put_slice(part);
        }
        out.put_u32_le(crc32fast::hash(&out));
        Some(out)
    }

    pub(super) fn decode(file: &[u8]) -> Result<Self, Corrupt> {
        let (body, crc) = file.split_last_chunk().ok_or(CUT_SHORT)?;
        let mut bytes = body;
        check(take_array(&mut bytes)? == *MAGIC, "meta is not of this version")?;
        check(crc32fast::hash(body) == u32::from_le_bytes(*crc), "meta does not match its checksum")?;
        let flags = bytes.try_get_u32_le()?;
        check(flags & !(GUARDED | SET_ASIDE | END_KNOWN) == 0, "meta has flags without a meaning")?;
        let generation = bytes.try_get_u64_le()?;
        let (packet_size, packets_per_block) = (bytes.try_get_u32_le()?, bytes.try_get_u32_le()?);
        let packet_count = bytes.try_get_u64_le()?;
        let end = bytes.try_get_u64_le()?;
        let created = bytes.try_get_u64_le()?;
        let validated = bytes.try_get_u64_le()?;
        let last_used = bytes.try_get_u64_le()?;
        let plays = bytes.try_get_u64_le()?;
        let mut part = |limit| {
            let length = bytes.try_get_u32_le()? as usize;
            check(length <= limit, "meta has a part that is too long")?;
            take(&mut bytes, length)
        };
        let key = part(Self::MAX_KEY)?;
        let header = part(Self::MAX_HEADER)?;
        let description = part(Self::MAX_DESCRIPTION)?;
        check(bytes.is_empty(), "meta has bytes after its end")?;
        Ok(Self {
            key: str::from_utf8(key).map_err(|_| Corrupt("meta has a key that is no UTF-8"))?.to_owned(),
            generation,
            geometry: Geometry::of(packet_size, packets_per_block).ok_or(Corrupt("meta has impossible packets"))?,
            header: Bytes::copy_from_slice(header),
            description: Bytes::copy_from_slice(description),
            packet_count,
            end: (flags & END_KNOWN != 0).then_some(end),
            created,
            validated,
            last_used,
            plays,
            guarded: flags & GUARDED != 0,
            set_aside: flags & SET_ASIDE != 0,
        })
    }
}

const MAGIC: &[u8; 8] = b"MMSmeta\x01";

const GUARDED: u32 = 1;
const SET_ASIDE: u32 = 2;
const END_KNOWN: u32 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_meta() -> impl Strategy<Value = Meta> {
        let parts =
            (".{0,40}", proptest::collection::vec(any::<u8>(), 0..300), proptest::collection::vec(any::<u8>(), 0..40));
        let numbers = (any::<u64>(), 1u32..2_000_000, any::<u64>(), any::<Option<u64>>());
        let uses = (any::<[u64; 4]>(), any::<bool>(), any::<bool>());
        (parts, numbers, uses).prop_filter_map("packets that can't be kept", |(parts, numbers, uses)| {
            let (key, header, description) = parts;
            let (generation, packet_size, packet_count, end) = numbers;
            let ([created, validated, last_used, plays], guarded, set_aside) = uses;
            Some(Meta {
                key,
                generation,
                geometry: Geometry::for_packets_of(packet_size)?,
                header: header.into(),
                description: description.into(),
                packet_count,
                end,
                created,
                validated,
                last_used,
                plays,
                guarded,
                set_aside,
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(meta in any_meta()) {
            let file = meta.encode().unwrap();
            prop_assert_eq!(Meta::decode(&file), Ok(meta));
        }

        #[test]
        fn any_bytes_decode_or_err(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), sound in any::<bool>()) {
            // Most of the decoder stands behind the checksum.
            if sound {
                bytes.splice(0..8.min(bytes.len()), *MAGIC);
                bytes.put_u32_le(crc32fast::hash(&bytes));
            }
            if let Ok(meta) = Meta::decode(&bytes) {
                prop_assert_eq!(Meta::decode(&meta.encode().unwrap()), Ok(meta));
            }
        }

        #[test]
        fn a_changed_or_missing_byte_is_noticed(meta in any_meta(), at in any::<prop::sample::Index>(), change in 1u8..) {
            let mut file = meta.encode().unwrap();
            let at = at.index(file.len());
            prop_assert!(Meta::decode(&file[..at]).is_err());
            file[at] ^= change;
            prop_assert!(Meta::decode(&file).is_err());
        }
    }

    #[test]
    fn what_would_not_be_read_is_not_written() {
        let meta = Meta {
            key: "k".into(),
            generation: 1,
            geometry: Geometry::for_packets_of(1450).unwrap(),
            header: Bytes::from(vec![0; Meta::MAX_HEADER]),
            description: Bytes::new(),
            packet_count: 0,
            end: None,
            created: 0,
            validated: 0,
            last_used: 0,
            plays: 0,
            guarded: false,
            set_aside: false,
        };
        assert_eq!(Meta::decode(&meta.encode().unwrap()), Ok(meta.clone()));
        assert_eq!(Meta { header: Bytes::from(vec![0; Meta::MAX_HEADER + 1]), ..meta.clone() }.encode(), None);
        assert_eq!(Meta { key: "k".repeat(Meta::MAX_KEY + 1), ..meta }.encode(), None);
    }
}
