//! A valid file out of a header and packets as they were received (ASF 2, 6.1): padding is put back, times begin at 0,
//! counts and durations are filled in, key frames are indexed.
//!
//! Order on disk: 1. the header of a broadcast, which needs no counts; 2. packets; 3. at each checkpoint the header, with
//! the counts of the packets before it; 4. at the end the indexes, then the header. A file that breaks off between two
//! checkpoints plays up to the earlier one.

use std::io::{self, SeekFrom};

use super::padding::{RestoreError, restore};
use super::{Header, IndexBuilder, Loop, Packet, PacketError, PacketNumber, Shift, StreamKind};

/// Writes one file. Drop it without [`Writer::finish`] and what the last checkpoint covered can be read.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    header: Header,
    packets: u64,
    /// Known once there is a first packet.
    shift: Option<Shift>,
    round: Loop,
    /// One for each video stream that is not hidden, by number.
    indexes: Vec<IndexBuilder>,
}

/// Why a packet or a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing was written; the next packet may be.
    #[error(transparent)]
    Packet(#[from] RestoreError),
}

impl From<PacketError> for WriterError {
    fn from(error: PacketError) -> Self {
        Self::Packet(error.into())
    }
}

impl<W: io::Write + io::Seek> Writer<W> {
    /// Begins a file at the start of `out`, which is empty, for packets that `header` describes.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        out.seek(SeekFrom::Start(0))?;
        out.write_all(header.as_broadcast().bytes())?;
        let visible = header.streams().iter().filter(|stream| stream.kind == StreamKind::Video && !stream.hidden);
        let indexes = visible.map(|stream| IndexBuilder::new(stream.number)).collect();
        Ok(Self { out, header: header.clone(), packets: 0, shift: None, round: Loop::new(), indexes })
    }

    /// Appends a packet, with or without its padding. Gaps in the packets' numbers are of no account: those of the file
    /// are dense. An error about the packet leaves the file as it was.
    pub fn push(&mut self, packet: &[u8]) -> Result<(), WriterError> {
        let mut bytes = restore(packet, self.header.packet_size())?;
        let preroll_ms = self.header.file().preroll_ms;
        let shift = match &mut self.shift {
            Some(shift) => shift,
            none => none.insert(Shift::to_start(&Packet::parse(&bytes)?, preroll_ms)),
        };
        if !shift.is_zero() {
            bytes = shift.apply(&bytes)?;
        }
        self.out.write_all(&bytes)?;
        let packet = Packet::parse(&bytes)?;
        for index in &mut self.indexes {
            index.push(PacketNumber(self.packets), &packet);
        }
        self.round.push(&packet);
        self.packets += 1;
        Ok(())
    }

    /// How many packets were written.
    pub fn packet_count(&self) -> u64 {
        self.packets
    }

    /// Makes what was written a valid file and hands it to the system. Without video it is seekable; video has no index
    /// yet.
    pub fn checkpoint(&mut self) -> io::Result<()> {
        let end = self.out.stream_position()?;
        self.write_header(end, self.indexes.is_empty())?;
        self.out.seek(SeekFrom::Start(end))?;
        self.out.flush()
    }

    /// Ends the file: an index of each video stream, and the header as it should be.
    pub fn finish(mut self) -> Result<W, WriterError> {
        for index in &self.indexes {
            self.out.write_all(&index.simple_index(self.header.file().file_id))?;
        }
        let end = self.out.stream_position()?;
        self.write_header(end, true)?;
        self.out.seek(SeekFrom::Start(end))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write_header(&mut self, file_size: u64, seekable: bool) -> io::Result<()> {
        let play_duration = u64::from(self.round.presentation_end_ms()) * 10_000;
        let send_duration = u64::from(self.round.send_end_ms()) * 10_000;
        let header = self.header.with_counts(self.packets, file_size, play_duration, send_duration, false, seekable);
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(header.bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::{File, padding};
    use super::*;

    /// Recorded: tests/vectors/asf/README.md.
    const CLIP: &[u8] = include_bytes!("../../tests/vectors/asf/ffmpeg-clip.asf");

    fn clip() -> (Header, Vec<Bytes>) {
        let file = File::open(Bytes::from_static(CLIP)).unwrap();
        let packets = (0..file.packet_count()).map(|at| file.packet(PacketNumber(at)).unwrap()).collect();
        (file.header().clone(), packets)
    }

    fn written(header: &Header, packets: impl IntoIterator<Item = Bytes>) -> Vec<u8> {
        let mut writer = Writer::new(Cursor::new(Vec::new()), header).unwrap();
        packets.into_iter().for_each(|packet| writer.push(&packet).unwrap());
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_file_that_lost_its_padding_comes_back() {
        let (header, packets) = clip();
        let copy = written(&header.as_broadcast(), packets.iter().cloned().map(padding::strip));
        assert_eq!(CLIP.len() - copy.len(), 6); // ffmpeg's index has an entry more at the end
        let data = header.bytes().len();
        let index = data + packets.len() * header.packet_size();
        assert_eq!(copy[data..index], CLIP[data..index]);
        let (ours, theirs) = (File::open(copy.clone()).unwrap(), File::open(CLIP.to_vec()).unwrap());
        for ms in (0..5000).step_by(100) {
            let time = Duration::from_millis(ms);
            assert_eq!(ours.packet_at(time).unwrap(), theirs.packet_at(time).unwrap());
        }
        let (ours, theirs) = (ours.header(), theirs.header());
        assert_eq!(ours.file().file_size, copy.len() as u64);
        assert!(ours.duration().abs_diff(theirs.duration()) < Duration::from_millis(200));
        assert!(ours.file().seekable && !ours.file().broadcast);
        assert_eq!(written(ours, packets), copy);
    }

    #[test]
    fn a_recording_of_a_broadcast_begins_at_zero() {
        let (header, packets) = clip();
        let later = Shift { send_ms: u32::MAX - 1000, presentation_ms: u32::MAX - 1000, object_numbers: vec![] };
        let live = packets.iter().map(|packet| later.apply(packet).unwrap().into());
        assert_eq!(written(&header.as_broadcast(), live), written(&header, packets));
    }

    #[test]
    fn after_a_checkpoint_the_file_can_be_read() {
        let (header, packets) = clip();
        let mut disk = Cursor::new(Vec::new());
        let mut writer = Writer::new(&mut disk, &header).unwrap();
        packets[..5].iter().for_each(|packet| writer.push(packet).unwrap());
        writer.checkpoint().unwrap();
        packets[5..7].iter().for_each(|packet| writer.push(packet).unwrap());
        drop(writer);
        let file = File::open(disk.into_inner()).unwrap();
        assert_eq!(file.packet_count(), 5);
        assert!(!file.header().is_live() && !file.header().file().seekable);
        assert_eq!(file.packet(PacketNumber(4)).unwrap(), packets[4]);
    }

    #[test]
    fn a_broken_packet_is_refused_and_leaves_the_file_as_it_was() {
        let (header, packets) = clip();
        let mut writer = Writer::new(Cursor::new(Vec::new()), &header).unwrap();
        let refusal = writer.push(&[0x90]).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "error correction flags are 0x90, want a length of their own and no opaque data (ASF 5.2.1)"
        );
        packets.iter().for_each(|packet| writer.push(packet).unwrap());
        assert_eq!(writer.packet_count(), packets.len() as u64);
        assert_eq!(writer.finish().unwrap().into_inner(), written(&header, packets));
    }
}
