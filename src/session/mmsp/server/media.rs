//! Media from a cursor to a batch: selection and thinning, pace, the 8 bytes before each packet, and the messages that
//! belong between packets, `[MS-MMSP]` 3.2.5.11.1, 3.2.4.1 and 3.2.4.2.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::content::Content;
use super::frame::{Form, Frame, Framing};
use super::funnel::{MAX_DATAGRAM, UdpFunnel};
use super::header::HeaderSend;
use super::state::Start;
use super::{Player, Settings, encode, hresult};
use crate::asf::{Header, PacketNumber};
use crate::session::batch::Batch;
use crate::session::pacer::Pacer;
use crate::session::{Cursor, End, Next, Packet, Playing, Reason, Refusal};
use crate::wire::mmsp::ids::{HResult, Incarnation, Sequence};
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
    /// The change or the end that came from the cursor, while the last datagram before it is on its way.
    behind: Option<Box<Next>>,
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
    /// Over UDP the player asks for the header.
    AwaitReadBlock { until: Instant },
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
    /// The same, and the source has more that nobody asks for.
    Abandoned(Refusal),
}

/// Where frames go, with the counters of the session.
pub(super) struct Frames<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) datagrams: &'a mut Batch,
    /// Where packets go as datagrams.
    pub(super) funnel: Option<&'a mut UdpFunnel>,
    pub(super) packet_seq: &'a mut u16,
    pub(super) sequence: &'a mut Sequence,
    pub(super) settings: &'a Settings,
    pub(super) player: &'a Player,
    pub(super) skip: &'a mut Option<Skip>,
}

impl Frames<'_> {
    /// When all datagrams will have arrived; `None` where they have.
    fn settled_at(&self, now: Instant) -> Option<Instant> {
        self.funnel.as_ref()?.settled_at(now)
    }

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
            behind: None,
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

    /// The header that a ReadBlock asked for.
    pub(super) fn send_header(&mut self, header: HeaderSend) {
        self.entry = Entry::Header(Box::new(header));
    }

    /// The player of a header over UDP wants no more of it, and will ask again.
    pub(super) fn cancel_header(&mut self, now: Instant, settings: &Settings) {
        if matches!(self.entry, Entry::Header(_)) && self.incarnation == Incarnation::UNREQUESTED {
            self.entry = Entry::AwaitReadBlock { until: deadline(now, settings) };
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
        while frames.batch.bytes().max(frames.datagrams.bytes()) < limit {
            if let Some(progress) = self.poll_entry(now, frames) {
                return progress;
            }
            let (packet, due) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => match self.behind.take().map_or_else(|| self.cursor.next(), |next| *next) {
                    Next::Packet(packet) => {
                        self.place = Some(packet.number);
                        let due = self.pacer.due(now, packet.send_time_ms, packet.bytes.len());
                        let due = match &mut frames.funnel {
                            Some(funnel) => funnel.due(now, due, packet.bytes.len()),
                            None => due,
                        };
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
                    // The numbers of the packets tell.
                    Next::Lost { .. } => continue,
                    next @ (Next::Changed(_) | Next::Ended(_)) if let Some(at) = frames.settled_at(now) => {
                        self.behind = Some(Box::new(next));
                        return Progress::Due(at);
                    }
                    Next::Changed(header) => {
                        self.change_entry(now, header, content, frames);
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
            self.frame(now, packet, content, frames);
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

    fn frame(&mut self, now: Instant, packet: Arc<Packet>, content: &mut Content, frames: &mut Frames<'_>) {
        let mut kept = None;
        if !content.gate.is_transparent() {
            if !content.gate.is_any_on() {
                return;
            }
            // What can't be parsed can't be filtered, and nobody could play it.
            let Some(outline) = packet.outline() else { return };
            kept = Some(content.gate.pass(outline)).filter(|kept| !kept.is_all());
        }
        // WMS 4.x wants the padding that the origin leaves out for us, and the gate where it drops payloads, 2.2.4.17.
        // Datagrams of one size can leave together: whoever gets all of the content gets its padding over UDP.
        let is_wms4 = frames.player.is_wms4();
        let form = Form {
            packet_size: content.header.packet_size(),
            is_padded: is_wms4 || frames.funnel.is_some() && kept.is_none() && content.gate.is_whole(),
            is_restored: is_wms4,
        };
        let framing = Framing { kept, form, incarnation: self.incarnation, sequence: *frames.sequence };
        match &mut frames.funnel {
            None => {
                let Some(frame) = Frame::new(packet, &framing) else { return };
                frame.push(frames.batch);
            }
            Some(funnel) => {
                // Blocks of an entry are read anew, and then their packets are others.
                let is_alone = !self.cursor.is_history() || Arc::strong_count(&packet) == 1;
                let Some(frame) = Frame::new(Arc::clone(&packet), &framing) else { return };
                if frame.len() > MAX_DATAGRAM {
                    return;
                }
                frame.push(frames.datagrams);
                funnel.leaves(now);
                funnel.sent.push(now, &packet, &framing, is_alone);
            }
        }
        *frames.sequence = framing.sequence.next();
    }

    /// EndOfStream, StreamChange, and the header on its way, 3.2.4.1 and 3.2.4.2.
    fn change_entry(&mut self, now: Instant, header: Arc<Header>, content: &mut Content, frames: &mut Frames<'_>) {
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
        self.entry = match &mut frames.funnel {
            None => Entry::Header(Box::new(HeaderSend::new(&header, Incarnation::UNREQUESTED, bit_rate))),
            Some(funnel) => {
                if let Some(settings) = &frames.settings.udp {
                    funnel.begin(settings, bit_rate, self.rate, header.packet_size());
                }
                Entry::AwaitReadBlock { until: deadline(now, frames.settings) }
            }
        };
        content.gate.new_header(&header);
        content.header = header;
        content.default_selection(frames.player.is_wms4());
    }

    /// Moves a new entry on; returns when to look again where media must wait, or that they wait no longer.
    fn poll_entry(&mut self, now: Instant, frames: &mut Frames<'_>) -> Option<Progress> {
        loop {
            match &mut self.entry {
                Entry::Playing | Entry::Unanswered => return None,
                Entry::Header(header) => {
                    while let Some((due, piece)) = header.next_due(now) {
                        match (piece, &mut frames.funnel) {
                            (None, _) => return Some(Progress::Due(due)),
                            (Some(piece), None) => frames.batch.push_message(piece),
                            (Some(piece), Some(funnel)) => {
                                funnel.header_free = header.free();
                                frames.datagrams.push_message(piece);
                            }
                        }
                    }
                    if self.incarnation == Incarnation::UNREQUESTED {
                        self.entry = Entry::Held { until: deadline(now, frames.settings) };
                        continue;
                    }
                    self.entry = Entry::Playing;
                }
                Entry::AwaitReadBlock { until } | Entry::Held { until } if *until > now => {
                    return Some(Progress::Due(*until));
                }
                Entry::Held { .. } if frames.funnel.is_none() => self.entry = Entry::Unanswered,
                // Without the header or a number for its packets a player on UDP can't have the entry. It is told of an end,
                // which it understands, rather than left with a play that never goes on.
                Entry::AwaitReadBlock { .. } | Entry::Held { .. } => {
                    let refusal = Refusal::new(Reason::Timeout, "the player did not ask for the next entry in time");
                    let hr = hresult(&refusal);
                    frames.message(out::ReportEndOfStream { hr, play_incarnation: self.play_incarnation });
                    return Some(Progress::Abandoned(refusal));
                }
            }
        }
    }
}

/// Sizes of headers and packets are bounded far below 4 GiB when they are parsed.
pub(super) fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn deadline(now: Instant, settings: &Settings) -> Instant {
    now.checked_add(settings.entry_wait).unwrap_or(now)
}

/// Microsoft players that were told a version below 9 read the 1 between entries as the end of the session, and go on
/// only after 0 on content with the BROADCAST attribute (3.1.5.18, note 47). libmms and xine need the 1, and they all call
/// themselves by one version.
pub(super) fn is_told_zero_between_entries(content: &Content, player: &Player, settings: &Settings) -> bool {
    content.opened.description.broadcast && !player.is_free() && settings.version_major() < 9
}
