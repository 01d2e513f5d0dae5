//! One key frame out of an archive: the packets it is spread over, and nothing else of them.

use std::sync::Arc;

use bytes::Bytes;

use super::Archive;
use crate::asf::{Gate, Header, Kept, Packet as AsfPacket, PacketNumber, StreamNumber, Thinning, padding};
use crate::session::{Next, Packet};

/// A key frame that is being read. What was read stays when a packet is not there yet.
#[derive(Debug)]
pub(super) struct KeyFrame {
    video: StreamNumber,
    gate: Gate,
    /// Of a packet in full.
    packet_size: usize,
    next: PacketNumber,
    /// The packet behind the last that is read.
    end: PacketNumber,
    /// The number of the object that is the key frame; `None` until it has begun.
    object: Option<u32>,
    /// Bytes of the object that have not been seen.
    missing: u64,
    packets: Vec<Arc<Packet>>,
}

impl KeyFrame {
    /// The key frame of stream `video` that begins in packet `first`.
    pub(super) fn new(header: &Header, video: StreamNumber, first: PacketNumber) -> Self {
        let mut gate = Gate::new(header);
        gate.select(video, Thinning::KeyFrames);
        let packet_size = header.packet_size();
        let most = (MAX_KEY_FRAME / packet_size.max(1)) as u64;
        Self {
            video,
            gate,
            packet_size,
            next: first,
            end: PacketNumber(first.0.saturating_add(most)),
            object: None,
            missing: 0,
            packets: Vec::new(),
        }
    }

    /// Reads on to its end, or to where it breaks off: a packet that is absent, the end of the content.
    ///
    /// # Errors
    /// What a cursor says where the archive can't be read on; asked again, it goes on from there.
    pub(super) fn read(&mut self, archive: &mut impl Archive) -> Result<(), Next> {
        let end = archive.end().map_or(self.end, |end| end.min(self.end));
        while self.next < end {
            let Some(packet) = archive.packet(self.next).found()? else { break };
            self.next = PacketNumber(self.next.0.saturating_add(1));
            self.push(packet);
            if self.object.is_none() || self.missing == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The packets that were read, in their order; none where no key frame begins.
    pub(super) fn into_packets(self) -> Vec<Arc<Packet>> {
        self.packets
    }

    fn push(&mut self, packet: Arc<Packet>) {
        let Ok(parsed) = AsfPacket::parse(&packet.stripped) else { return };
        for payload in parsed.payloads().filter(|payload| payload.stream == self.video) {
            if self.object.is_none() && payload.starts_key_frame() {
                self.object = Some(payload.object_number);
                self.missing = payload.object_size.unwrap_or(0).into();
            }
            if self.object == Some(payload.object_number) {
                self.missing = self.missing.saturating_sub(payload.data.len() as u64);
            }
        }
        let Some(outline) = packet.outline().filter(|_| self.object.is_some()) else { return };
        let kept = self.gate.pass(outline);
        self.packets.extend(self.reduced(packet, kept));
    }

    /// The packet with what was kept of it, in full size and without padding.
    fn reduced(&self, packet: Arc<Packet>, kept: Kept) -> Option<Arc<Packet>> {
        if kept.is_all() {
            return Some(packet);
        }
        let stripped = kept.apply(&packet.stripped).ok().filter(|stripped| !stripped.is_empty())?;
        let padded = padding::restore(&stripped, self.packet_size);
        let bytes = padded.map_or_else(|_| stripped.clone(), Bytes::from);
        Some(Arc::new(Packet::new(packet.number, packet.send_time_ms, bytes, stripped)))
    }
}

/// Bytes of packets that one key frame may be spread over; of a larger one only the beginning is sent.
const MAX_KEY_FRAME: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::archive::testing::{Memory, VIDEO, clip, numbers};

    /// Of the key frame at 1.5 s.
    fn frame(archive: &mut Memory, first: PacketNumber) -> (Result<(), Next>, Vec<u64>) {
        let mut frame = KeyFrame::new(clip(5).file.header(), VIDEO, first);
        let read = frame.read(archive);
        (read, numbers(&frame.into_packets()))
    }

    fn first() -> PacketNumber {
        clip(5).key_frames().nth(3).unwrap().0
    }

    #[test]
    fn it_is_read_to_its_end_and_no_further() {
        let (read, numbers) = frame(&mut clip(5), first());
        assert!(read.is_ok());
        // 1155 bytes, the first of them behind sound.
        assert_eq!(numbers, (first().0..first().0 + numbers.len() as u64).collect::<Vec<_>>());
        assert!((3..=4).contains(&numbers.len()), "{numbers:?}");
    }

    #[test]
    fn it_breaks_off_where_a_packet_is_absent() {
        let (read, numbers) = frame(&mut clip(5).absent([first().0 + 2]), first());
        assert!(read.is_ok());
        assert_eq!(numbers, [first().0, first().0 + 1]);
    }

    #[test]
    fn what_was_read_stays_while_the_rest_is_waited_for() {
        let mut archive = clip(5).not_yet([false, false, true, true]);
        let mut frame = KeyFrame::new(clip(5).file.header(), VIDEO, first());
        assert!(matches!(frame.read(&mut archive), Err(Next::Nothing)));
        assert_eq!(frame.packets.len(), 2);
        assert!(matches!(frame.read(&mut archive), Err(Next::Nothing)));
        assert!(frame.read(&mut archive).is_ok());
        assert_eq!(numbers(&frame.into_packets()), self::frame(&mut clip(5), first()).1);
    }

    #[test]
    fn a_packet_in_which_no_key_frame_begins_gives_none() {
        let (read, numbers) = frame(&mut clip(5), PacketNumber(first().0 + 1));
        assert!(read.is_ok());
        assert!(numbers.is_empty());
    }
}
