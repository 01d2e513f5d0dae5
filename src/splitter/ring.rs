//! The recent packets of one broadcast, held once for all who watch it, in an order of their own: 64 bits, for packet
//! numbers begin anew with each entry and wrap, and send times wrap after 49.7 days.
//!
//! What is no packet (the beginning of an entry, a source that came back, an end) is an item as well, so that everyone
//! meets it in order. Behind the last of these lies the *floor*: nobody joins before it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::continuity::Parts;
use crate::asf::{Header, Outline, StreamNumber, padding};
use crate::session::packet::{Row, Tally};
use crate::session::{End, Next, Packet};

/// How much a ring holds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long a packet is kept.
    pub history: Duration,
    /// Bytes, with what each packet costs beyond its own.
    pub bytes: usize,
}

/// How far back from the newest packet a viewer begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lead {
    /// It waits for what comes.
    None,
    /// At the last key frame that is at least so old, or the oldest there is.
    AtLeast(Duration),
}

/// A viewer that is not slow has read a packet that is so old.
const RECENT: Duration = Duration::from_secs(1);

/// Which part of a ring's bytes filtered forms may take: most viewers of a broadcast want all of it.
const FORMS_SHARE: usize = 4;

/// The history of a broadcast.
#[derive(Debug)]
pub(super) struct Ring {
    bounds: Bounds,
    items: VecDeque<Item>,
    /// The newest packets stand in it.
    row: Arc<Row>,
    /// The order of the oldest item.
    first: u64,
    /// Where key frames begin, oldest first.
    keys: VecDeque<KeyFrame>,
    bytes: usize,
    /// What filtered forms of its packets weigh beside.
    forms: Arc<Tally>,
    /// What `take_change` told last.
    told: usize,
    floor: u64,
    /// Counts entries, from 1.
    entry: u64,
    header: Arc<Header>,
    /// The last end, and where it stands.
    end: Option<(u64, End)>,
    newest_send_ms: u32,
}

#[derive(Debug)]
struct Item {
    at: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Packet(Arc<Packet>),
    /// The entry of that number begins.
    Entry(u64, Arc<Header>),
    Resumed,
    End(End),
}

#[derive(Clone, Copy, Debug)]
struct KeyFrame {
    order: u64,
    stream: StreamNumber,
    send_time_ms: u32,
}

/// A viewer's place.
#[derive(Debug)]
pub(super) struct Place {
    next: u64,
    /// The entry whose header the viewer has.
    entry: u64,
    /// It jumped, and has not been told.
    jump: Option<(u64, Duration)>,
}

impl Place {
    /// Before the item of order `next`, with the header of `entry`.
    pub(super) fn new(next: u64, entry: u64) -> Self {
        Self { next, entry, jump: None }
    }

    /// Whether what comes next has the order `tail`.
    pub(super) fn is_at(&self, tail: u64) -> bool {
        self.next == tail
    }

    /// The entry whose header the viewer has.
    pub(super) fn entry(&self) -> u64 {
        self.entry
    }
}

impl Ring {
    /// An empty one, at the beginning of an entry with `header`.
    pub(super) fn new(bounds: Bounds, header: Arc<Header>) -> Self {
        Self {
            bounds,
            items: VecDeque::new(),
            row: Arc::default(),
            first: 0,
            keys: VecDeque::new(),
            bytes: 0,
            forms: Arc::new(Tally::new((bounds.bytes / FORMS_SHARE) as u64)),
            told: 0,
            floor: 0,
            entry: 1,
            header,
            end: None,
            newest_send_ms: 0,
        }
    }

    /// The number of the entry that plays, and its header.
    pub(super) fn entry(&self) -> (u64, &Arc<Header>) {
        (self.entry, &self.header)
    }

    /// The order that the next item will have.
    pub(super) fn tail(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// What it holds in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.saturating_add(usize::try_from(self.forms.bytes()).unwrap_or(usize::MAX))
    }

    /// By how much that has changed since this was last asked.
    pub(super) fn take_change(&mut self) -> i64 {
        let bytes = self.bytes();
        bytes as i64 - std::mem::replace(&mut self.told, bytes) as i64
    }

    /// How long the packets took to come that it holds.
    pub(super) fn age(&self) -> Duration {
        match (self.items.front(), self.items.back()) {
            (Some(oldest), Some(newest)) => newest.at.saturating_duration_since(oldest.at),
            _ => Duration::ZERO,
        }
    }

    /// Appends a packet.
    pub(super) fn push_packet(&mut self, now: Instant, Parts { number, send_time_ms, bytes }: Parts) {
        // In memory of its own: what is read from a source lies in pieces that many packets and messages share, and one
        // small packet would keep all of such a piece.
        let bytes = Bytes::copy_from_slice(&bytes);
        let stripped = padding::strip(bytes.clone());
        let packet = Packet::new(number, send_time_ms, bytes, stripped).weighed(Arc::clone(&self.forms));
        self.newest_send_ms = send_time_ms;
        let order = self.tail();
        let begun = packet.outline().into_iter().flat_map(|outline| self.header.key_frames(outline));
        self.keys.extend(begun.map(|stream| KeyFrame { order, stream, send_time_ms }));
        let packet = packet.seated(&mut self.row);
        self.push(now, What::Packet(packet));
    }

    /// How much older than the newest packet this very one is, if it is there and of the entry that plays.
    pub(super) fn age_of_known(&self, parts: &Parts) -> Option<Duration> {
        let since = usize::try_from(self.floor.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let is_known = self.items.iter().skip(since).rev().any(|item| match &item.what {
            What::Packet(packet) => packet.number == parts.number && packet.bytes == parts.bytes,
            _ => false,
        });
        is_known.then(|| self.age_of(parts.send_time_ms))
    }

    /// The next entry begins.
    pub(super) fn push_entry(&mut self, now: Instant, header: Arc<Header>) {
        self.entry += 1;
        self.header = Arc::clone(&header);
        self.push_mark(now, What::Entry(self.entry, header));
    }

    /// The source is back.
    pub(super) fn push_resumed(&mut self, now: Instant) {
        self.push_mark(now, What::Resumed);
    }

    /// The broadcast is over, for those who watch now.
    pub(super) fn push_end(&mut self, now: Instant, end: End) {
        self.end = Some((self.tail(), end.clone()));
        self.push_mark(now, What::End(end));
    }

    fn push_mark(&mut self, now: Instant, mark: What) {
        self.push(now, mark);
        self.floor = self.tail();
    }

    fn push(&mut self, now: Instant, what: What) {
        self.bytes += size(&what);
        self.items.push_back(Item { at: now, what });
        while self.is_over(now) {
            self.drop_oldest();
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let Some(oldest) = self.items.front().filter(|_| self.items.len() > 1) else { return false };
        self.bytes() > self.bounds.bytes || now.saturating_duration_since(oldest.at) > self.bounds.history
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.items.pop_front() else { return };
        self.bytes -= size(&oldest.what);
        self.first += 1;
        while self.keys.front().is_some_and(|key| key.order < self.first) {
            self.keys.pop_front();
        }
    }

    /// Drops what is older than the newest key frame and not too recent.
    pub(super) fn shrink_to_key_frame(&mut self) {
        self.shrink_to(self.keys.back().map_or(self.tail(), |key| key.order).min(self.recent()));
    }

    /// Drops what is not too recent for viewers that keep up to have read it.
    pub(super) fn shrink_to_recent(&mut self) {
        self.shrink_to(self.recent());
    }

    /// The order of the first item that a viewer may still be about to get that is not slow.
    fn recent(&self) -> u64 {
        let Some(newest) = self.items.back() else { return self.tail() };
        let old = self.items.partition_point(|item| newest.at.saturating_duration_since(item.at) > RECENT);
        self.first + old as u64
    }

    /// Drops all but the newest item.
    pub(super) fn shrink(&mut self) {
        self.shrink_to(self.tail());
    }

    fn shrink_to(&mut self, order: u64) {
        while self.first < order && self.items.len() > 1 {
            self.drop_oldest();
        }
        // The places of what is gone are memory, too.
        self.items.shrink_to(self.items.len() * 2);
        self.keys.shrink_to(self.keys.len() * 2);
    }

    /// Where a viewer begins that has selected `streams` and knows the header of `entry`: so that each stream with key
    /// frames finds one, and none is younger than the lead where an older one is there.
    pub(super) fn join(&self, streams: &[StreamNumber], lead: Lead, entry: u64) -> Place {
        let floor = self.floor.max(self.first);
        let next = match lead {
            Lead::None => self.tail(),
            Lead::AtLeast(lead) => {
                let keyed = self.header.streams().iter().filter(|stream| stream.has_key_frames);
                let wanted = keyed.filter(|stream| streams.contains(&stream.number));
                let starts = wanted.filter_map(|stream| self.key_frame(stream.number, floor, lead));
                starts.min().unwrap_or_else(|| self.packet_before(floor, lead))
            }
        };
        Place::new(next, entry)
    }

    /// The last key frame of a stream that is at least `lead` old, else the oldest there is.
    fn key_frame(&self, stream: StreamNumber, floor: u64, lead: Duration) -> Option<u64> {
        let mut oldest = None;
        for key in self.keys.iter().rev().filter(|key| key.stream == stream).take_while(|key| key.order >= floor) {
            oldest = Some(key.order);
            if self.age_of(key.send_time_ms) >= lead {
                break;
            }
        }
        oldest
    }

    /// The newest packet that is at least `lead` old, else the oldest there is.
    fn packet_before(&self, floor: u64, lead: Duration) -> u64 {
        let mut order = self.tail();
        for item in self.items.iter().rev() {
            if order <= floor {
                break;
            }
            order -= 1;
            if matches!(&item.what, What::Packet(packet) if self.age_of(packet.send_time_ms) >= lead) {
                break;
            }
        }
        order
    }

    /// How much earlier than the newest packet one was to be sent.
    fn age_of(&self, send_time_ms: u32) -> Duration {
        let ms = self.newest_send_ms.wrapping_sub(send_time_ms) as i32;
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// What comes next for a viewer.
    pub(super) fn read(&self, place: &mut Place) -> Next {
        if place.next < self.first {
            let landing = self.landing();
            // A jump over an end still ends the play: whoever plays on has begun anew.
            if let Some((order, end)) = &self.end
                && (place.next..landing).contains(order)
            {
                place.next = order + 1;
                return Next::Ended(end.clone());
            }
            let before = place.jump.map_or(0, |(packets, _)| packets);
            place.jump = Some((before + landing - place.next, self.age()));
            place.next = landing;
        }
        if place.next >= self.floor && place.entry != self.entry {
            place.entry = self.entry;
            return Next::Changed(Arc::clone(&self.header));
        }
        if let Some((packets, lag)) = place.jump.take() {
            return Next::Skipped { packets, lag };
        }
        let Some(what) = self.at(place.next) else { return Next::Nothing };
        place.next += 1;
        match what {
            What::Packet(packet) => Next::Packet(Arc::clone(packet)),
            What::Entry(entry, header) => {
                place.entry = *entry;
                Next::Changed(Arc::clone(header))
            }
            What::Resumed => Next::Resumed,
            What::End(end) => Next::Ended(end.clone()),
        }
    }

    /// The next item, if it is a packet that comes right after the one before.
    pub(super) fn read_packet(&self, place: &mut Place) -> Option<Arc<Packet>> {
        let What::Packet(packet) = self.at(place.next)? else { return None };
        place.next += 1;
        Some(Arc::clone(packet))
    }

    /// The item of that order.
    fn at(&self, order: u64) -> Option<&What> {
        let index = usize::try_from(order.checked_sub(self.first)?).ok()?;
        self.items.get(index).map(|item| &item.what)
    }

    /// Where a viewer goes on that fell off: at the newest key frame, or where something begins that needs none.
    fn landing(&self) -> u64 {
        let key = self.keys.back().map(|key| key.order).filter(|order| *order >= self.floor);
        let mark = self.floor.checked_sub(1).filter(|mark| *mark >= self.first);
        key.or(mark).unwrap_or(self.tail())
    }
}

fn size(what: &What) -> usize {
    size_of::<Item>()
        + match what {
            What::Packet(packet) => {
                let is_shared = packet.bytes.as_ptr() == packet.stripped.as_ptr();
                let stripped = if is_shared { 0 } else { packet.stripped.len() };
                let outline = packet.outline().map_or(0, Outline::heap_bytes);
                size_of::<Packet>() + size_of::<Weak<Packet>>() + packet.bytes.len() + stripped + outline
            }
            What::Entry(_, header) => header.bytes().len(),
            What::Resumed | What::End(_) => 0,
        }
}
