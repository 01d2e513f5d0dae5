//! Media from a cursor to a batch: selection and thinning, pace, the 8 bytes before each packet, and the messages that
//! belong between packets, `[MS-MMSP]` 3.2.5.11.1, 3.2.4.1 and 3.2.4.2.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::content::Content;
use super::header::HeaderSend;
use super::state::Start;
use super::{Player, Settings, encode, hresult};
use crate::asf::{Header, PacketNumber, padding};
use crate::session::batch::Batch;
use crate::session::pacer::Pacer;
use crate::session::{Cursor, End, Next, Packet, Playing};
use crate::wire::mmsp::data;
use crate::wire::mmsp::ids::{HResult, Incarnation, LocationId, Sequence};
use crate::wire::mmsp::mac_to_viewer as out;

/// A play.
pub(super) struct Media {
    cursor: Box<dyn Cursor>,
    pacer: Pacer,
    /// The number of the Start message, as it came.
    pub(super) play_incarnation: u32,
    incarnation: Incarnation,
    rate: f64,
    /// The packet that came last from the cursor.
    place: Option<PacketNumber>,
    /// Read from the cursor, but not due before that time.
    waiting: Option<(Arc<Packet>, Instant)>,
    /// Streams that found no key frame by then begin without.
    key_deadline: Option<Instant>,
    /// What a new entry waits for.
    entry: Entry,
}

/// A viewer was too slow, and packets were left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Skip {
    /// How many packets.
    pub packets: u64,
    /// How far behind the newest packet the viewer was.
    pub lag: Duration,
}

/// How far the player has come with a new playlist entry.
#[derive(Debug)]
enum Entry {
    /// It plays.
    Playing,
    /// The header goes out. The player's StartPlaying may have come already.
    Header(Box<HeaderSend>),
    /// Media wait for StartPlaying: 3.2.4.2 would have them follow at once, but libmms loses its place when they come
    /// before the answer to its StartPlaying, and every player sends one.
    Held { until: Instant },
    /// Media go on with incarnation 0xFF; a StartPlaying may still come.
    Unanswered,
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("incarnation", &self.incarnation)
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

/// Where a poll got to.
#[derive(Debug)]
pub(super) enum Progress {
    /// More can be sent at this time, which may be now: the batch is full.
    Due(Instant),
    /// The cursor has nothing.
    Nothing,
    /// EndOfStream is in the batch.
    Ended(End),
}

/// Where frames go, with the counters of the session.
pub(super) struct Frames<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) packet_seq: &'a mut u16,
    pub(super) sequence: &'a mut Sequence,
    pub(super) settings: &'a Settings,
    pub(super) player: &'a Player,
    pub(super) skip: &'a mut Option<Skip>,
}

impl Frames<'_> {
    fn message(&mut self, message: impl Into<out::Message>) {
        let bytes = encode(&message.into(), self.packet_seq);
        self.batch.push_message(bytes);
    }
}

impl Media {
    pub(super) fn new(playing: Playing, start: &Start, bit_rate: u32, key_deadline: Option<Instant>) -> Self {
        Self {
            cursor: playing.cursor,
            pacer: Pacer::new(playing.pace, bit_rate),
            play_incarnation: start.play_incarnation,
            incarnation: start.incarnation,
            rate: start.rate,
            place: None,
            waiting: None,
            key_deadline,
            entry: Entry::Playing,
        }
    }

    /// How fast it plays, 1.0 is normal.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether the driver is told when there is more.
    pub(super) fn is_announced(&self) -> bool {
        self.cursor.is_announced()
    }

    /// How far it came; `None` before the first packet.
    pub(super) fn place(&self) -> Option<PacketNumber> {
        self.place
    }

    /// Whether the next StartPlaying answers a StreamChange.
    pub(super) fn awaits_start(&self) -> bool {
        !matches!(self.entry, Entry::Playing)
    }

    /// A StartPlaying came that does not move the place: what follows carries its number.
    pub(super) fn restart(&mut self, play_incarnation: u32, incarnation: Incarnation) {
        self.play_incarnation = play_incarnation;
        self.incarnation = incarnation;
        // A header that is still on its way keeps its own number, and media follow it at once.
        if !matches!(self.entry, Entry::Header(_)) {
            self.entry = Entry::Playing;
        }
    }

    /// Fills `frames` with what is due.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        limit: usize,
        content: &mut Content,
        frames: &mut Frames<'_>,
    ) -> Progress {
        if self.key_deadline.is_some_and(|deadline| deadline <= now) {
            self.key_deadline = None;
            content.gate.begin_anyway();
        }
        while frames.batch.bytes() < limit {
            if let Some(due) = self.poll_entry(now, frames) {
                return Progress::Due(due);
            }
            let (packet, due) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => match self.cursor.next() {
                    Next::Packet(packet) => {
                        self.place = Some(packet.number);
                        let due = self.pacer.due(now, packet.send_time_ms, packet.bytes.len());
                        (packet, due)
                    }
                    Next::Skipped { packets, lag } => {
                        // Two in one poll are one jump: the viewer saw nothing in between.
                        let before = frames.skip.map_or(0, |skip| skip.packets);
                        *frames.skip = Some(Skip { packets: before.saturating_add(packets), lag });
                        self.rejoin(now, content, frames.settings);
                        continue;
                    }
                    Next::Resumed => {
                        self.rejoin(now, content, frames.settings);
                        continue;
                    }
                    Next::Changed(header) => {
                        self.change_entry(header, content, frames);
                        continue;
                    }
                    Next::Ended(end) => return self.end(end, frames),
                    Next::Nothing => return Progress::Nothing,
                },
            };
            if due > now {
                self.waiting = Some((packet, due));
                return Progress::Due(due);
            }
            self.frame(packet, content, frames);
        }
        Progress::Due(now)
    }

    /// After a gap each stream goes on at a key frame, or without when none comes for long.
    fn rejoin(&mut self, now: Instant, content: &mut Content, settings: &Settings) {
        content.gate.rejoin();
        self.await_key_frames(now, settings);
    }

    /// Streams that begin from here on have all of the time there is to find a key frame.
    pub(super) fn await_key_frames(&mut self, now: Instant, settings: &Settings) {
        self.key_deadline = now.checked_add(settings.key_wait);
    }

    fn end(&mut self, end: End, frames: &mut Frames<'_>) -> Progress {
        let hr = match &end {
            End::Complete => HResult::S_OK,
            End::Failed(refusal) => hresult(refusal),
        };
        frames.message(out::ReportEndOfStream { hr, play_incarnation: self.play_incarnation });
        Progress::Ended(end)
    }

    fn frame(&mut self, packet: Arc<Packet>, content: &mut Content, frames: &mut Frames<'_>) {
        let packet_size = content.header.packet_size();
        let padded = frames.player.is_wms4();
        let mut form = None;
        if !content.gate.is_transparent() {
            if !content.gate.is_any_on() {
                return;
            }
            // What can't be parsed can't be filtered, and nobody could play it.
            let Some(outline) = packet.outline() else { return };
            let kept = content.gate.pass(outline);
            if !kept.is_all() {
                let Some(thin) = packet.form(kept, padded) else { return };
                form = Some(thin);
            }
        }
        // WMS 4.x wants the padding that the origin leaves out for us, and the gate where it drops payloads, 2.2.4.17.
        let payload = form.as_ref().unwrap_or(packet.whole(padded));
        if padded
            && payload.len() < packet_size
            && let Ok(restored) = padding::restore(payload, packet_size)
        {
            form = Some(restored.into());
        }
        let length = form.as_ref().unwrap_or(packet.whole(padded)).len();
        if length > data::MAX_PAYLOAD || length > packet_size {
            return;
        }
        let flags = frames.sequence.low_byte();
        *frames.sequence = frames.sequence.next();
        let header = data::encode_header(location(packet.number), self.incarnation, flags, length);
        match form {
            Some(form) => frames.batch.push_packet(header, form),
            None => frames.batch.push_whole(header, packet, padded),
        }
    }

    /// EndOfStream, StreamChange, and the header on its way, 3.2.4.1 and 3.2.4.2.
    fn change_entry(&mut self, header: Arc<Header>, content: &mut Content, frames: &mut Frames<'_>) {
        let is_told_zero = is_told_zero_between_entries(content, frames.player, frames.settings);
        let hr = if is_told_zero { HResult::S_OK } else { HResult::S_FALSE };
        frames.message(out::ReportEndOfStream { hr, play_incarnation: self.play_incarnation });
        let bit_rate = header.bit_rate();
        frames.message(out::ReportStreamChange {
            hr: HResult::S_OK,
            packet_size: size(header.packet_size()),
            header_size: size(header.bytes().len()),
            bit_rate,
        });
        self.incarnation = Incarnation::UNREQUESTED;
        self.pacer.new_entry(bit_rate);
        self.entry = Entry::Header(Box::new(HeaderSend::new(&header, Incarnation::UNREQUESTED, bit_rate)));
        content.gate.new_header(&header);
        content.header = header;
        content.default_selection(frames.player.is_wms4());
    }

    /// Moves a new entry on; returns when to look again where media must wait.
    fn poll_entry(&mut self, now: Instant, frames: &mut Frames<'_>) -> Option<Instant> {
        loop {
            match &mut self.entry {
                Entry::Playing | Entry::Unanswered => return None,
                Entry::Header(header) => {
                    while let Some((due, piece)) = header.next_due(now) {
                        match piece {
                            Some(piece) => frames.batch.push_message(piece),
                            None => return Some(due),
                        }
                    }
                    if self.incarnation == Incarnation::UNREQUESTED {
                        let until = now.checked_add(frames.settings.entry_wait).unwrap_or(now);
                        self.entry = Entry::Held { until };
                        continue;
                    }
                    self.entry = Entry::Playing;
                }
                Entry::Held { until } if *until > now => return Some(*until),
                Entry::Held { .. } => self.entry = Entry::Unanswered,
            }
        }
    }
}

/// Sizes of headers and packets are bounded far below 4 GiB when they are parsed.
pub(super) fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn location(number: PacketNumber) -> LocationId {
    // LocationIds of a broadcast wrap after 2^32 packets.
    LocationId(number.0 as u32)
}

/// Microsoft players that were told a version below 9 read the 1 between entries as the end of the session, and go on
/// only after 0 on content with the BROADCAST attribute (3.1.5.18, note 47). libmms and xine need the 1, and they all call
/// themselves by one version.
pub(super) fn is_told_zero_between_entries(content: &Content, player: &Player, settings: &Settings) -> bool {
    content.opened.description.broadcast && !player.is_free() && settings.version_major() < 9
}
