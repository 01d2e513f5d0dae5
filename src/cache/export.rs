//! An entry as an ASF file (ASF 2): the header, the packets byte for byte as they are kept, an index of each video stream.
//! Numbers that the origin has no packet for are left out, so those of the file are dense, and its index counts them so.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::disk::{Found, ReadError};
use super::keeper::{Cache, Hold};
use super::packets::{Packets, PacketsError};
use crate::asf::{Guid, Header, HeaderError, IndexBuilder, Loop, Packet, PacketNumber, StreamKind};

/// A file that can be written front to back.
#[derive(Debug)]
pub struct Export {
    header: Header,
    packets: Packets,
    count: u64,
    index: Index,
}

/// Why an entry can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Something of it is unknown.
    #[error("{known} of {count} packets are there")]
    Incomplete {
        /// Packets that are present or absent.
        known: u64,
        /// Of so many.
        count: u64,
    },
    /// Nothing of it is there.
    #[error("no packet is there")]
    Empty,
    /// Its header is none.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be written to its end.
    #[error(transparent)]
    Packets(#[from] PacketsError),
}

/// Key frames of each video stream that is not hidden.
#[derive(Clone, Debug)]
struct Index {
    file_id: Guid,
    builders: Vec<IndexBuilder>,
    count: u64,
}

impl Index {
    fn new(header: &Header) -> Self {
        let visible = header.streams().iter().filter(|stream| stream.kind == StreamKind::Video && !stream.hidden);
        let builders = visible.map(|stream| IndexBuilder::new(stream.number)).collect();
        Self { file_id: header.file().file_id, builders, count: 0 }
    }

    fn push(&mut self, packet: Option<&Packet<'_>>) {
        if let Some(packet) = packet {
            self.builders.iter_mut().for_each(|builder| builder.push(PacketNumber(self.count), packet));
        }
        self.count += 1;
    }

    fn bytes(&self) -> Vec<u8> {
        self.builders.iter().flat_map(|builder| builder.simple_index(self.file_id)).collect()
    }
}

impl Export {
    /// Looks at what is there; with `partial` what is unknown is left out, too. The header stays as it came where its
    /// counts are those of the file; else all packets are read for the right ones.
    ///
    /// # Errors
    /// What is not complete, not there, or can't be read.
    pub fn new(found: &Found, partial: bool) -> Result<Self, ExportError> {
        let header = Header::parse(found.meta.header.clone())?;
        let packets = Packets::of(found)?;
        let (count, absent) = packets.counts();
        let known = count + absent;
        if !partial && found.meta.end.is_none_or(|end| known < end) {
            return Err(ExportError::Incomplete { known, count: found.meta.end.unwrap_or(found.meta.packet_count) });
        }
        if count == 0 {
            return Err(ExportError::Empty);
        }
        let index = Index::new(&header);
        let file = header.file();
        let (size, play, send) = (file.file_size, file.play_duration_100ns, file.send_duration_100ns);
        let is_right = header.with_counts(count, size, play, send, false, file.seekable) == header;
        let header = if is_right { header } else { counted(&header, &packets, count, index.clone())? };
        Ok(Self { header, packets, count, index })
    }

    /// Packets of the file.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Hands the file on, piece by piece.
    ///
    /// # Errors
    /// What can't be read or taken: then it is no file.
    pub fn write(mut self, mut take: impl FnMut(Bytes) -> io::Result<()>) -> Result<(), ExportError> {
        let mut piece = BytesMut::with_capacity(PIECE);
        piece.extend_from_slice(self.header.bytes());
        self.packets.each(|_, packet| {
            let Some(packet) = packet else { return Ok(()) };
            self.index.push(Packet::parse(&packet).ok().as_ref());
            if !piece.is_empty() && piece.len() + packet.len() > PIECE {
                take(std::mem::replace(&mut piece, BytesMut::with_capacity(PIECE)).freeze())?;
            }
            piece.extend_from_slice(&packet);
            Ok(())
        })?;
        piece.extend_from_slice(&self.index.bytes());
        take(piece.freeze()).map_err(PacketsError::from)?;
        Ok(())
    }
}

/// Little enough to wait in memory for a slow reader.
const PIECE: usize = 256 * 1024;

/// The header for the packets that there are.
fn counted(header: &Header, packets: &Packets, count: u64, mut index: Index) -> Result<Header, ExportError> {
    let mut round = Loop::new();
    packets.each(|_, packet| {
        if let Some(packet) = packet {
            let packet = Packet::parse(&packet).ok();
            index.push(packet.as_ref());
            packet.iter().for_each(|packet| round.push(packet));
        }
        Ok(())
    })?;
    let (header_size, index_size) = (header.bytes().len() as u64, index.bytes().len() as u64);
    let media = count.saturating_mul(header.packet_size() as u64);
    let size = header_size.saturating_add(media).saturating_add(index_size);
    let play = u64::from(round.presentation_end_ms()) * 10_000;
    let send = u64::from(round.send_end_ms()) * 10_000;
    Ok(header.with_counts(count, size, play, send, false, true))
}

impl Cache {
    /// An entry as its files have it, once all that memory knows of it is written; its files stay while the hold is there.
    /// Waits for the disk.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn settled(self: &Arc<Self>, key: &str) -> io::Result<Option<(Hold, Found)>> {
        let Some(entry) = self.find(key)? else { return Ok(None) };
        let hold = self.hold(&entry);
        self.seal(&entry, true);
        self.save(&entry);
        self.flush();
        let found = self.store().find(key)?.filter(|found| found.meta.generation == entry.generation());
        Ok(found.map(|found| (hold, found)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{CLIP, cache, keep, packets};
    use super::*;
    use crate::asf::File;

    fn exported(cache: &Arc<Cache>, key: &str, partial: bool) -> Result<Bytes, ExportError> {
        let (_hold, found) = cache.settled(key).unwrap().unwrap();
        let export = Export::new(&found, partial)?;
        let mut file = Vec::new();
        export.write(|piece| {
            file.extend_from_slice(&piece);
            Ok(())
        })?;
        Ok(file.into())
    }

    fn read(file: &Bytes) -> (File<Bytes>, Vec<Bytes>) {
        let file = File::open(file.clone()).unwrap();
        let packets = (0..file.packet_count()).map(|number| file.packet(PacketNumber(number)).unwrap()).collect();
        (file, packets)
    }

    #[test]
    fn all_of_a_file_comes_out_as_it_went_in() {
        let (_dir, cache) = cache();
        keep(&cache, "k", true, |_| true);
        let file = exported(&cache, "k", false).unwrap();
        let (read, kept) = read(&file);
        let media = read.header().bytes().len() + packets().len() * read.header().packet_size();
        assert_eq!(file[..media], CLIP[..media]);
        assert_eq!(kept, packets());
        assert!(read.has_video_index());
    }

    #[test]
    fn what_the_origin_does_not_have_is_left_out_and_the_counts_say_so() {
        let (_dir, cache) = cache();
        let is_there = |number| number != 2 && number != 7;
        keep(&cache, "k", true, is_there);
        let file = exported(&cache, "k", false).unwrap();
        let (read, kept) = read(&file);
        let want: Vec<_> =
            (0..).zip(packets()).filter(|(number, _)| is_there(*number)).map(|(_, packet)| packet).collect();
        assert_eq!(kept, want);
        assert_eq!(
            (read.header().file().file_size, read.header().file().packet_count),
            (file.len() as u64, want.len() as u64)
        );
        // The index counts as the file does.
        let end = read.packet_at(Duration::from_secs(3600)).unwrap();
        let is_key_frame = read.header().streams().iter().filter(|stream| stream.has_key_frames).any(|stream| {
            let bytes = read.packet(end).unwrap();
            Packet::parse(&bytes).unwrap().payloads().any(|p| p.stream == stream.number && p.starts_key_frame())
        });
        assert!(read.has_video_index() && is_key_frame, "{end:?}");
    }

    #[test]
    fn a_part_is_exported_only_where_that_is_wanted() {
        let (_dir, cache) = cache();
        keep(&cache, "part", false, |number| number < 4);
        keep(&cache, "nothing", false, |_| false);
        let count = packets().len() as u64;
        let refused = exported(&cache, "part", false).unwrap_err();
        assert_eq!(refused.to_string(), format!("4 of {count} packets are there"));
        assert_eq!(read(&exported(&cache, "part", true).unwrap()).1, packets()[..4]);
        assert!(matches!(exported(&cache, "nothing", true), Err(ExportError::Empty)));
    }

    #[test]
    fn what_is_only_in_memory_is_written_first() {
        let (_dir, cache) = cache();
        let entry = keep(&cache, "k", false, |number| number < 1);
        let packet = packets().swap_remove(1);
        entry.take(&Arc::new(crate::session::Packet::new(PacketNumber(1), 0, packet.clone(), packet)), u64::MAX);
        assert_eq!(read(&exported(&cache, "k", true).unwrap()).1.len(), 2);
        assert!(cache.settled("none").unwrap().is_none());
    }

    #[test]
    fn who_takes_no_more_ends_it() {
        let (_dir, cache) = cache();
        keep(&cache, "k", true, |_| true);
        let (_hold, found) = cache.settled("k").unwrap().unwrap();
        let ended = Export::new(&found, false).unwrap().write(|_| Err(io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(ended, Err(ExportError::Packets(PacketsError::Taker(_)))));
    }
}
