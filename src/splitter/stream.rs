//! One broadcast on its way to many viewers: the state of its source, the ring, and who watches.
//!
//! Two sides hold it. Whoever drives the source has a [`Feed`] and says what comes: a header, packets, the next entry, a
//! loss, an end. Whoever watches has a [`Ticket`], and a [`RingCursor`] for each play. Neither knows the other, nor what
//! protocol it speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::continuity::{Continuity, Parts, Return};
use super::members::{Finished, Members};
use super::ring::{Bounds, Lead, Place, Ring};
use super::source::SourceFacts;
use crate::asf::{Header, StreamNumber};
use crate::session::bells::Bells;
use crate::session::{Cursor, End, Next, Opened, Packet, PlayerLog, Refusal};

/// A split stream.
#[derive(Debug)]
pub struct Stream {
    bounds: Bounds,
    /// What all histories hold together, bytes.
    held: Arc<AtomicI64>,
    state: watch::Sender<State>,
    ring: Mutex<Option<Ring>>,
    /// The order that the next item of the ring will have: a cursor looks here before it takes the lock.
    tail: AtomicU64,
    members: Mutex<Members>,
    /// Of viewers that came when there was nothing to give: rung at what comes next.
    hungry: Mutex<Bells>,
    /// What viewers say of their plays, on its way to the source.
    reports: Mutex<Vec<PlayerLog>>,
    source: Mutex<SourceFacts>,
    /// Rung for the one who drives the source: the last viewer went, the first came, media are asked for, or a report
    /// waits.
    demand: Notify,
}

/// Reports that may wait for the source; more are not passed on.
const MAX_REPORTS: usize = 64;

/// What a viewer finds.
#[derive(Clone, Debug, Default)]
pub enum State {
    /// Nobody knows yet what the source says.
    #[default]
    Opening,
    /// Its header is there.
    Open(Content),
    /// It can't be shared: each viewer needs a session of its own.
    Unshared,
    /// The source can't be had.
    Refused(Refusal),
}

/// What a stream carries.
#[derive(Clone, Debug)]
pub struct Content {
    /// With the header that a viewer gets who comes now.
    pub opened: Arc<Opened>,
    /// Counts the entries.
    pub entry: u64,
    /// The header of the next entry is on its way: who comes waits for it.
    pub is_changing: bool,
    /// Whether packets come.
    pub media: Media,
}

/// Whether packets come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Media {
    /// Nobody asked yet, or what was asked for is over.
    Idle,
    /// A viewer asked.
    Asked,
    /// They come, or will again.
    Running,
    /// The source gives none.
    Refused(Refusal),
}

/// A viewer's hold on a stream.
#[derive(Debug)]
pub struct Ticket {
    stream: Arc<Stream>,
    /// The entry whose header the viewer has.
    entry: Arc<AtomicU64>,
}

/// A viewer's place in the ring.
#[derive(Debug)]
pub struct RingCursor {
    stream: Arc<Stream>,
    place: Place,
    entry: Arc<AtomicU64>,
    /// Packets that were taken along at the last look into the ring, last first.
    ahead: [Option<Arc<Packet>>; AHEAD],
    /// Nothing was there before this order.
    empty_until: Option<u64>,
}

/// How many packets a cursor takes at a look into the ring beyond the one that it was asked for: what one turn of a
/// viewer sends, usually.
const AHEAD: usize = 3;

/// The driver's end: what the source says goes in here.
#[derive(Debug)]
pub struct Feed {
    stream: Arc<Stream>,
    continuity: Option<Continuity>,
    back: Option<Back>,
}

/// What an origin that was never away repeats at most, beyond one preroll.
const REPEATED: Duration = Duration::from_secs(2);
/// Longer than an origin takes to send what it kept, be it slow or at twice the pace of the content.
const BURST: Duration = Duration::from_secs(3);

/// A source is back, and what it sends first decides how it goes on.
#[derive(Debug)]
enum Back {
    /// Nothing came yet. With it, what would go on if the source had never been away.
    First(Box<Continuity>),
    /// It begins with what viewers have already, as an origin does that keeps a history of its own: so nothing is
    /// missing, and what is known is dropped. A history comes in a burst: what is still known after that is a file in a
    /// loop that was begun anew.
    Known { until: Instant },
}

impl Stream {
    pub(super) fn new(bounds: Bounds, held: Arc<AtomicI64>) -> Self {
        Self {
            bounds,
            held,
            state: watch::Sender::new(State::Opening),
            ring: Mutex::new(None),
            tail: AtomicU64::new(0),
            members: Mutex::default(),
            hungry: Mutex::default(),
            reports: Mutex::default(),
            source: Mutex::default(),
            demand: Notify::new(),
        }
    }

    /// What a viewer would find now, and any change of it.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// How many viewers hold it.
    pub fn viewers(&self) -> usize {
        self.members.lock().viewers()
    }

    /// What a viewer would find now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Whether packets come, or will again.
    pub fn is_running(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(Content { media: Media::Running, .. }))
    }

    /// Whether a viewer waits for media.
    pub fn is_asked(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(Content { media: Media::Asked, .. }))
    }

    /// Returns when what `viewers`, `is_asked` and `take_reports` say may have changed. Cancel-safe.
    pub async fn demand(&self) {
        self.demand.notified().await;
    }

    /// Has whoever drives the source look at it again.
    pub fn ring_for_driver(&self) {
        self.demand.notify_one();
    }

    /// What viewers said of their plays since this was last asked.
    pub fn take_reports(&self) -> Vec<PlayerLog> {
        std::mem::take(&mut *self.reports.lock())
    }

    /// Bytes of history, and how long they took to come.
    pub fn history(&self) -> (usize, Duration) {
        self.ring.lock().as_ref().map_or((0, Duration::ZERO), |ring| (ring.bytes(), ring.age()))
    }

    /// Where it comes from, as whoever drives the source said last.
    pub fn source(&self) -> SourceFacts {
        self.source.lock().clone()
    }

    /// For whoever drives the source: what operators are to see of it.
    pub fn change_source(&self, change: impl FnOnce(&mut SourceFacts)) {
        change(&mut self.source.lock());
    }

    /// There is no source: who waits is told so, and nobody else enters.
    pub(super) fn abandon(&self, state: State) {
        self.members.lock().abandon();
        self.state.send_replace(state);
    }

    /// A viewer comes; `None` where the stream is gone.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Ticket> {
        let is_in = self.members.lock().enter();
        self.demand.notify_one();
        is_in.then(|| Ticket { stream: Arc::clone(self), entry: Arc::default() })
    }

    /// Nobody watches, and the source is to say farewell; `false` where somebody watches by now. Who enters from here on
    /// waits until the source is open again.
    pub fn begin_close(&self) -> bool {
        let mut members = self.members.lock();
        let begun = members.begin_close();
        if begun {
            self.state.send_replace(State::Opening);
        }
        begun
    }

    pub(super) fn finish(&self) -> Finished {
        self.members.lock().finish()
    }

    /// Gives history back.
    pub(super) fn shrink(&self, how: Shrink) {
        self.with_ring(|ring| match how {
            Shrink::ToKeyFrame => ring.shrink_to_key_frame(),
            Shrink::ToRecent => ring.shrink_to_recent(),
            Shrink::All => ring.shrink(),
        });
    }

    /// Changes the ring, where there is one, and counts what it holds.
    fn with_ring(&self, change: impl FnOnce(&mut Ring)) {
        let mut ring = self.ring.lock();
        let Some(ring) = &mut *ring else { return };
        change(ring);
        self.held.fetch_add(ring.take_change(), Ordering::Relaxed);
        self.tail.store(ring.tail(), Ordering::Release);
    }

    /// How many bells it has in mind.
    #[cfg(test)]
    pub(super) fn hungry(&self) -> usize {
        self.hungry.lock().len()
    }

    fn change_content(&self, change: impl FnOnce(&mut Content)) {
        self.state.send_if_modified(|state| match state {
            State::Open(content) => {
                change(content);
                true
            }
            _ => false,
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Cursors hold the stream: none is left, and no packet but those on their way out.
        let counted = self.ring.get_mut().as_mut().map_or(0, |ring| ring.bytes() as i64 - ring.take_change());
        self.held.fetch_sub(counted, Ordering::Relaxed);
    }
}

/// How much history is given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shrink {
    ToKeyFrame,
    ToRecent,
    All,
}

impl Ticket {
    /// What is held.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The viewer was given the header of this entry.
    pub fn has_header_of(&self, entry: u64) {
        self.entry.store(entry, Ordering::Relaxed);
    }

    /// The viewer wants media: the driver is to see that they come.
    pub fn ask(&self) {
        self.stream.change_content(|content| {
            if !matches!(content.media, Media::Running) {
                content.media = Media::Asked;
            }
        });
        self.stream.demand.notify_one();
    }

    /// A place to read from what comes after this.
    pub fn cursor_from_now(&self) -> Option<RingCursor> {
        let next = self.stream.ring.lock().as_ref()?.tail();
        Some(self.cursor_at(Place::new(next, self.entry.load(Ordering::Relaxed))))
    }

    /// What the viewer says of its play, for the source to hear.
    pub fn report(&self, log: PlayerLog) {
        let mut reports = self.stream.reports.lock();
        if reports.len() < MAX_REPORTS {
            reports.push(log);
            drop(reports);
            self.stream.demand.notify_one();
        }
    }

    /// A place to read from for a viewer that has selected `streams`. Where nothing is there for it yet, `bell` is rung
    /// once something comes.
    pub fn cursor(&self, streams: &[StreamNumber], lead: Lead, bell: &Arc<Notify>) -> Option<RingCursor> {
        let entry = self.entry.load(Ordering::Relaxed);
        let ring = self.stream.ring.lock();
        let ring = ring.as_ref()?;
        let place = ring.join(streams, lead, entry);
        if place.is_at(ring.tail()) {
            // Under the lock, or what comes at this moment would ring for nobody.
            self.stream.hungry.lock().add(bell);
        }
        Some(self.cursor_at(place))
    }

    fn cursor_at(&self, place: Place) -> RingCursor {
        RingCursor {
            stream: Arc::clone(&self.stream),
            place,
            entry: Arc::clone(&self.entry),
            ahead: Default::default(),
            empty_until: None,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let was_last = self.stream.members.lock().leave();
        if was_last {
            self.stream.demand.notify_one();
        }
    }
}

impl Cursor for RingCursor {
    fn next(&mut self) -> Next {
        if let Some(packet) = self.ahead.iter_mut().rev().find_map(Option::take) {
            return Next::Packet(packet);
        }
        // A turn of most viewers ends where nothing is left: that is not worth a lock that others want.
        if self.empty_until == Some(self.stream.tail.load(Ordering::Acquire)) {
            return Next::Nothing;
        }
        let ring = self.stream.ring.lock();
        let Some(ring) = &*ring else { return Next::Nothing };
        let next = ring.read(&mut self.place);
        match next {
            Next::Nothing => self.empty_until = Some(ring.tail()),
            Next::Packet(_) => {
                for ahead in self.ahead.iter_mut().rev() {
                    *ahead = ring.read_packet(&mut self.place);
                }
                if self.place.is_at(ring.tail()) {
                    self.empty_until = Some(ring.tail());
                }
            }
            Next::Changed(_) => self.entry.store(self.place.entry(), Ordering::Relaxed),
            _ => {}
        }
        next
    }

    /// Whoever drives the source tells all writers at once.
    fn is_announced(&self) -> bool {
        true
    }

    fn is_history(&self) -> bool {
        true
    }
}

impl Feed {
    /// The only one of a stream.
    pub fn new(stream: Arc<Stream>) -> Self {
        Self { stream, continuity: None, back: None }
    }

    /// The source is open, for the first time or after a farewell: what was before is gone.
    pub fn opened(&mut self, now: Instant, opened: Arc<Opened>) {
        let header = Arc::clone(&opened.header);
        self.continuity = Some(Continuity::new(Arc::clone(&header)));
        let mut is_first = false;
        self.stream.ring.lock().get_or_insert_with(|| {
            is_first = true;
            Ring::new(self.stream.bounds, Arc::clone(&header))
        });
        if !is_first {
            self.stream.with_ring(|ring| {
                ring.shrink();
                ring.push_entry(now, header);
            });
        }
        let content = Content { opened, entry: self.entry(), is_changing: false, media: Media::Idle };
        self.stream.state.send_replace(State::Open(content));
    }

    /// The source was lost and is open again. Where it is the same broadcast, viewers go on with the header they have.
    pub fn reopened(&mut self, now: Instant, opened: Arc<Opened>) -> Return {
        let Some(continuity) = &mut self.continuity else {
            self.opened(now, opened);
            return Return::Other;
        };
        let before = Box::new(continuity.clone());
        let is = continuity.resumed(&opened.header);
        match is {
            Return::Same => self.back = Some(Back::First(before)),
            Return::Other => self.begin_entry(now, opened),
        }
        is
    }

    /// What came, in its order.
    pub fn push(&mut self, now: Instant, items: &mut Vec<Next>) {
        for item in items.drain(..) {
            match item {
                Next::Packet(packet) => {
                    let Packet { number, send_time_ms, ref bytes, .. } = *packet;
                    self.push_packet(now, Parts { number, send_time_ms, bytes: bytes.clone() });
                }
                Next::Changed(header) => {
                    self.back = None;
                    if let Some(continuity) = &mut self.continuity {
                        continuity.new_entry(Arc::clone(&header));
                    }
                    let Some(opened) = self.described_by(header) else { continue };
                    self.begin_entry(now, opened);
                }
                Next::Ended(end) => self.end(now, end),
                // A source that is read in full skips nothing, and what is lost of it shows in the numbers.
                Next::Skipped { .. } | Next::Resumed | Next::Lost { .. } | Next::Nothing => {}
            }
        }
        let hungry = std::mem::take(&mut *self.stream.hungry.lock());
        hungry.ring();
    }

    fn push_packet(&mut self, now: Instant, parts: Parts) {
        match self.back.take() {
            None => {}
            Some(Back::First(before)) => {
                let unbroken = before.clone().pass(now, parts.clone());
                // One that was started anew may repeat what it sent once, but hardly what it sent last.
                let most = before.header().preroll().saturating_add(REPEATED);
                if self.age_of_known(&unbroken).is_some_and(|age| age <= most) {
                    self.continuity = Some(*before);
                    self.back = Some(Back::Known { until: now + BURST });
                    return;
                }
                self.stream.with_ring(|ring| ring.push_resumed(now));
            }
            Some(Back::Known { until }) => {
                let unbroken = self.continuity.clone().map(|mut continuity| continuity.pass(now, parts.clone()));
                let is_known = unbroken.is_some_and(|unbroken| self.age_of_known(&unbroken).is_some());
                if is_known && now < until {
                    self.back = Some(Back::Known { until });
                    return;
                }
                if is_known && let Some(continuity) = &mut self.continuity {
                    let header = Arc::clone(continuity.header());
                    continuity.resumed(&header);
                    self.stream.with_ring(|ring| ring.push_resumed(now));
                }
            }
        }
        let Some(continuity) = &mut self.continuity else { return };
        let parts = continuity.pass(now, parts);
        self.stream.with_ring(|ring| ring.push_packet(now, parts));
    }

    /// How old this very packet is, if the history has it.
    fn age_of_known(&self, parts: &Parts) -> Option<Duration> {
        self.stream.ring.lock().as_ref()?.age_of_known(parts)
    }

    /// The header of the next entry is on its way, or is not any more.
    pub fn set_changing(&mut self, is_changing: bool) {
        self.stream.state.send_if_modified(|state| match state {
            State::Open(content) => std::mem::replace(&mut content.is_changing, is_changing) != is_changing,
            _ => false,
        });
    }

    /// Media come, or were refused.
    pub fn set_media(&mut self, media: Media) {
        self.stream.change_content(|content| content.media = media);
    }

    /// The play of all who watch is over.
    pub fn end(&mut self, now: Instant, end: End) {
        self.stream.with_ring(|ring| ring.push_end(now, end));
        self.set_media(Media::Idle);
    }

    fn begin_entry(&mut self, now: Instant, opened: Arc<Opened>) {
        let header = Arc::clone(&opened.header);
        self.stream.with_ring(|ring| ring.push_entry(now, header));
        let entry = self.entry();
        self.stream.change_content(|content| {
            content.opened = opened;
            content.entry = entry;
            content.is_changing = false;
        });
    }

    /// What is open, with the header of another entry.
    fn described_by(&self, header: Arc<Header>) -> Option<Arc<Opened>> {
        let State::Open(content) = &*self.stream.state.borrow() else { return None };
        let mut description = content.opened.description.clone();
        description.bit_rate = header.bit_rate();
        Some(Arc::new(Opened { description, header }))
    }

    fn entry(&self) -> u64 {
        self.stream.ring.lock().as_ref().map_or(0, |ring| ring.entry().0)
    }
}
