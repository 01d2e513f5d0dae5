//! The beginning of a run that does not begin at the beginning.
//!
//! A server may leave out what belongs to objects that began before its first packet, and says nothing of it: such a packet
//! looks like any other. So what comes is kept only from where every stream has begun. Viewers get it all the same, and
//! what is left out is fetched by a run that comes from before it. A server that sends such a rest shows that it leaves out
//! nothing.

use std::sync::Arc;

use crate::asf::{Header, StreamKind, StreamNumber};
use crate::session::Packet;

/// The streams of a run that have not begun.
#[derive(Debug)]
pub(super) struct Joining {
    pending: Vec<(StreamNumber, bool)>,
    /// What came meanwhile.
    held: Vec<Arc<Packet>>,
    first_ms: Option<u32>,
    /// Packets of this run were lost on the way.
    is_torn: bool,
}

/// What is to be done with a packet.
#[derive(Debug)]
pub(super) enum Joined {
    /// It may lack something.
    NotYet,
    /// Nothing was left out: these are whole, the last among them.
    Whole(Vec<Arc<Packet>>),
    /// It may lack something; those behind it don't.
    FromNext,
}

/// A stream that has not begun after so much of the content has none there.
const LONGEST_MS: u32 = 30_000;
/// Packets that are held meanwhile.
const MOST: usize = 4096;

impl Joining {
    pub(super) fn new(header: &Header) -> Self {
        let is_media = |kind: &StreamKind| matches!(kind, StreamKind::Audio | StreamKind::Video);
        let media = header.streams().iter().filter(|stream| is_media(&stream.kind));
        Self {
            pending: media.map(|stream| (stream.number, stream.has_key_frames)).collect(),
            held: Vec::new(),
            first_ms: None,
            is_torn: false,
        }
    }

    /// Packets were lost on the way before the next one. An object that goes on there may have begun in one of them, so it
    /// proves nothing any more.
    pub(super) fn lost(&mut self) {
        self.is_torn = true;
        self.held.clear();
    }

    /// Takes the next packet of the run.
    pub(super) fn push(&mut self, packet: &Arc<Packet>) -> Joined {
        if !self.is_torn {
            self.held.push(Arc::clone(packet));
        }
        let first_ms = *self.first_ms.get_or_insert(packet.send_time_ms);
        let Some(outline) = packet.outline() else { return Joined::NotYet };
        for part in outline.parts() {
            let Some(at) = self.pending.iter().position(|(stream, _)| *stream == part.stream) else { continue };
            let (stream, has_key_frames) = self.pending.swap_remove(at);
            if !part.starts_object || has_key_frames && !part.key_frame {
                if !self.is_torn {
                    return Joined::Whole(std::mem::take(&mut self.held));
                }
                self.pending.push((stream, has_key_frames));
            }
        }
        let is_long = packet.send_time_ms.saturating_sub(first_ms) > LONGEST_MS || self.held.len() >= MOST;
        if self.pending.is_empty() || is_long { Joined::FromNext } else { Joined::NotYet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asf::testing::{Plan, PlannedPayload};
    use crate::asf::{Header, PacketNumber};

    const CLIP: &[u8] = include_bytes!("../../../../tests/vectors/asf/ffmpeg-clip.asf");

    fn header() -> Header {
        Header::parse(CLIP.into()).unwrap()
    }

    /// A packet with a payload of each stream: the stream, whether it is of a key frame, and where in its object.
    fn packet(number: u64, send_time_ms: u32, payloads: &[(u8, bool, u32)]) -> Arc<Packet> {
        let payload = |&(stream, key_frame, offset): &(u8, bool, u32)| PlannedPayload {
            stream,
            key_frame,
            number: 1,
            offset,
            replicated: 8,
            presentation_ms: send_time_ms,
            data: vec![0; 4],
        };
        let plan = Plan::usual(send_time_ms, payloads.iter().map(payload).collect());
        let bytes = bytes::Bytes::from(plan.bytes());
        Arc::new(Packet::new(PacketNumber(number), send_time_ms, bytes.clone(), bytes))
    }

    fn streams() -> (u8, u8) {
        let header = header();
        let number =
            |video| header.streams().iter().find(|stream| stream.has_key_frames == video).unwrap().number.get();
        (number(true), number(false))
    }

    #[test]
    fn what_comes_before_every_stream_has_begun_may_lack_something() {
        let (video, audio) = streams();
        let mut joining = Joining::new(&header());
        assert!(matches!(joining.push(&packet(5, 0, &[(audio, false, 0)])), Joined::NotYet));
        assert!(matches!(joining.push(&packet(6, 100, &[(audio, false, 9)])), Joined::NotYet));
        assert!(matches!(joining.push(&packet(7, 200, &[(video, true, 0)])), Joined::FromNext));
    }

    #[test]
    fn a_server_that_sends_the_rest_of_an_object_leaves_out_nothing() {
        let (video, audio) = streams();
        for first in [(audio, false, 9), (video, true, 9), (video, false, 0)] {
            let mut joining = Joining::new(&header());
            let Joined::Whole(packets) = joining.push(&packet(5, 0, &[first])) else { panic!("{first:?}") };
            assert_eq!(packets.len(), 1);
        }
        let mut joining = Joining::new(&header());
        assert!(matches!(joining.push(&packet(5, 0, &[(audio, false, 0)])), Joined::NotYet));
        let Joined::Whole(packets) = joining.push(&packet(6, 0, &[(video, true, 9)])) else { panic!() };
        assert_eq!(packets.iter().map(|packet| packet.number.0).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn behind_a_loss_the_rest_of_an_object_proves_nothing() {
        let (video, audio) = streams();
        let mut joining = Joining::new(&header());
        assert!(matches!(joining.push(&packet(5, 0, &[(audio, false, 0)])), Joined::NotYet));
        joining.lost();
        for rest in [(video, true, 9), (video, false, 0), (audio, false, 9)] {
            assert!(matches!(joining.push(&packet(7, 0, &[rest])), Joined::NotYet));
        }
        assert!(matches!(joining.push(&packet(8, 100, &[(video, true, 0)])), Joined::FromNext));
    }

    #[test]
    fn a_stream_that_never_begins_is_not_waited_for_without_end() {
        let (_, audio) = streams();
        let mut joining = Joining::new(&header());
        assert!(matches!(joining.push(&packet(5, 1000, &[(audio, false, 0)])), Joined::NotYet));
        assert!(matches!(joining.push(&packet(6, 31_001, &[(audio, false, 0)])), Joined::FromNext));
    }
}
