//! One generation of one content: what of it is known, on disk or in memory, and what has to be asked for.
//!
//! A packet number is *present*, *absent at the origin*, or *unknown*. Absent is believed only after a second request for
//! just that place came to the same: an origin also skips when it is read too slowly.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::block::{Block, Slot};
use super::disk::{EntryDir, Geometry, Meta, Place};
use super::keeper::Room;
use super::segment::{OnDisk, Segment};
use super::summary;
use crate::asf::{KeyFrames, PacketNumber};
use crate::session::bells::Bells;
use crate::session::{Opened, Packet};

/// One generation of one content.
#[derive(Debug)]
pub struct Entry {
    key: String,
    opened: Arc<Opened>,
    dir: EntryDir,
    state: Mutex<State>,
    /// Set aside on disk for what is missing, while it is fetched.
    room: Mutex<Option<Room>>,
    /// Requests at the origin so far.
    requests: AtomicU64,
    /// Media that all entries hold in memory because no disk has them yet, bytes.
    unwritten: Arc<AtomicU64>,
    /// The packets that those need next who read it.
    places: Mutex<Vec<Weak<AtomicU64>>>,
}

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<u32, Segment>,
    /// Behind the last packet, once an EndOfStream has proved it.
    end: Option<u64>,
    /// Places that an origin skipped once, in order, none of them known.
    claims: Vec<Claim>,
    /// An EndOfStream before the declared end, once, and the request that it answered.
    claimed_end: Option<(u64, u64)>,
    /// Of files on disk, as far as they were needed.
    times: BTreeMap<u32, Arc<KeyFrames>>,
    /// What came where an origin may have left something out: for viewers, not to be kept.
    lent: BTreeMap<u64, Slot>,
    marks: Marks,
    /// Viewers that wait for their first packet.
    waiting: Bells,
}

/// A place that an origin skipped in answer to one request.
#[derive(Clone, Debug)]
struct Claim {
    range: Range<u64>,
    request: u64,
}

/// What is remembered of an entry beside its packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Marks {
    /// When it was made, milliseconds since the epoch.
    pub created: u64,
    /// When its origin last said that it is the same, milliseconds since the epoch.
    pub validated: u64,
    /// When it was last played, milliseconds since the epoch.
    pub last_used: u64,
    /// How often it was opened.
    pub plays: u64,
    /// Its origin began to ask for credentials.
    pub guarded: bool,
    /// Its origin said that it is gone, and the operator decides.
    pub set_aside: bool,
    /// Something could not be stored: until it is opened anew nothing more is.
    pub gave_up: bool,
    /// Another generation took its place, or it was purged.
    pub retired: bool,
}

impl Marks {
    /// As they were kept.
    pub(super) fn of(meta: &Meta) -> Self {
        let Meta { created, validated, last_used, plays, guarded, set_aside, .. } = *meta;
        Self { created, validated, last_used, plays, guarded, set_aside, ..Self::default() }
    }
}

/// What is there at a place.
#[derive(Debug)]
pub enum Look {
    /// In memory: from that place on.
    Here(Block),
    /// The same, of what is not kept. What is absent there is so for those alone who began among it.
    Lent(Block),
    /// On disk: a block to be read.
    OnDisk {
        /// The file.
        segment: u32,
        /// Within the file.
        block: u32,
    },
    /// To be asked for.
    Unknown,
    /// Behind the last packet.
    End,
}

/// What became of a packet that an origin sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// It is new.
    New,
    /// It was known.
    Known,
    /// There is no room for it in memory: the disk does not keep up.
    NoRoom,
    /// No packet of this content can have that number.
    Impossible,
}

/// Numbers beyond the declared count that are believed: headers of files that were still written when they were copied.
/// No origin leaves out more than that at once, and each one costs memory.
const MAX_BEYOND: u64 = 1 << 16;
/// What headers of files take, above a part of what is in them, bytes.
const HEADERS: u64 = 64 * 1024;
/// Packets that are lent at a time, and in one look.
const MAX_LENT: usize = 8192;
const MAX_LENT_RUN: usize = 256;
/// Places skipped at a time that are remembered. Beyond them a place that was skipped is taken for unknown.
const MAX_CLAIMS: usize = 4096;

impl Entry {
    /// An entry of which nothing is known.
    pub fn new(key: String, opened: Arc<Opened>, dir: EntryDir, marks: Marks, unwritten: Arc<AtomicU64>) -> Self {
        let state = Mutex::new(State { marks, ..State::default() });
        let (room, requests, places) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Self { key, opened, dir, state, room, requests, unwritten, places }
    }

    /// Tells what a disk has of it; at the beginning.
    pub fn has_on_disk(&self, segment: u32, file: OnDisk) {
        self.state.lock().segments.insert(segment, Segment::stored(file));
    }

    /// Tells where it ends, from an earlier proof.
    pub fn ends(&self, end: Option<u64>) {
        self.state.lock().end = end;
    }

    /// Under which it is found.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its own number among all that ever had that key.
    pub fn generation(&self) -> u64 {
        self.dir.generation()
    }

    /// Its description and header, as the origin gave them.
    pub fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }

    /// How its packets are divided.
    pub fn geometry(&self) -> Geometry {
        self.dir.geometry()
    }

    /// Where its files are.
    pub fn dir(&self) -> &EntryDir {
        &self.dir
    }

    /// What is remembered beside the packets.
    pub fn marks(&self) -> Marks {
        self.state.lock().marks
    }

    /// Changes what is remembered.
    pub fn mark(&self, change: impl FnOnce(&mut Marks)) {
        change(&mut self.state.lock().marks);
    }

    /// Behind the last packet; `None` until it is proved.
    pub fn end(&self) -> Option<u64> {
        self.state.lock().end
    }

    /// How many packet numbers it has: as the origin said, or more where more came.
    pub fn count(&self) -> u64 {
        self.end().unwrap_or(0).max(self.opened.description.packet_count)
    }

    /// What is there at `number` and behind it.
    pub fn look(&self, number: PacketNumber) -> Look {
        let state = self.state.lock();
        if state.end.is_some_and(|end| number.0 >= end) {
            return Look::End;
        }
        let geometry = self.geometry();
        let Some(Place { segment, slot }) = geometry.place(number.0) else { return Look::End };
        let block = geometry.block_of(slot);
        if let Some(known) = state.segments.get(&segment) {
            let slots = known.fresh_run(slot..geometry.first_slot(block.saturating_add(1)));
            if !slots.is_empty() {
                return Look::Here(Block::new(number, slots));
            }
            if known.is_on_disk(slot) {
                return Look::OnDisk { segment, block };
            }
        }
        let lent = state.lent.range(number.0..).zip(number.0..).take_while(|((at, _), number)| *at == number);
        let slots: Vec<Slot> = lent.take(MAX_LENT_RUN).map(|((_, slot), _)| slot.clone()).collect();
        if slots.is_empty() { Look::Unknown } else { Look::Lent(Block::new(number, slots)) }
    }

    /// A place in it, for somebody who reads: the number of the packet that is needed next.
    pub(super) fn place(&self) -> Arc<AtomicU64> {
        let place = Arc::new(AtomicU64::new(u64::MAX));
        let mut places = self.places.lock();
        // Not at each: thousands may read it.
        if places.len() == places.capacity() {
            places.retain(|place| place.strong_count() > 0);
        }
        places.push(Arc::downgrade(&place));
        place
    }

    /// What nobody is past who reads it.
    pub(super) fn first_place(&self) -> Option<u64> {
        let places = self.places.lock();
        places.iter().filter_map(Weak::upgrade).map(|place| place.load(Ordering::Relaxed)).min()
    }

    /// Whether viewers can have it now.
    pub fn is_at_hand(&self, number: PacketNumber) -> bool {
        let state = self.state.lock();
        let is_lent = || state.lent.get(&number.0).is_some_and(|slot| slot.packet().is_some());
        state.is_known(self.geometry(), number.0) || is_lent()
    }

    /// Whether the origin need not be asked for it.
    pub fn is_known(&self, number: PacketNumber) -> bool {
        self.state.lock().is_known(self.geometry(), number.0)
    }

    /// The first place from `from` on that is unknown, and where what is known begins again; `None` where all is known up
    /// to the end. The end is taken for unknown until it is proved.
    pub fn gap(&self, from: PacketNumber) -> Option<Range<u64>> {
        let state = self.state.lock();
        let start = state.next(self.geometry(), from.0, false)?;
        Some(start..state.next(self.geometry(), start, true).unwrap_or(u64::MAX))
    }

    /// Whether nothing is unknown.
    pub fn is_complete(&self) -> bool {
        self.end().is_some() && self.gap(PacketNumber(0)).is_none()
    }

    /// Packets that are present and that are absent.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        let end = state.end.unwrap_or(u64::MAX);
        // What the header counts behind the end was never there.
        let behind = self.opened.description.packet_count.saturating_sub(end);
        state.segments.iter().fold((0, behind), |(present, absent), (segment, known)| {
            let left = end.saturating_sub(self.geometry().first_packet(*segment));
            let (is, is_not) =
                known.counts(u32::try_from(left).unwrap_or(u32::MAX).min(self.geometry().packets_per_segment()));
            (present + is, absent + is_not)
        })
    }

    /// Files that are on disk.
    pub fn files(&self) -> Vec<u32> {
        let state = self.state.lock();
        state.segments.iter().filter(|(_, known)| known.has_file()).map(|(segment, _)| *segment).collect()
    }

    /// A packet came from an origin. `limit` is what all entries may hold in memory together, bytes.
    pub fn take(&self, packet: &Arc<Packet>, limit: u64) -> Taken {
        let number = packet.number.0;
        let declared = self.opened.description.packet_count;
        let mut state = self.state.lock();
        if number >= declared.saturating_mul(2).max(declared.saturating_add(MAX_BEYOND)) {
            return Taken::Impossible;
        }
        if state.is_known(self.geometry(), number) || state.end.is_some_and(|end| number >= end) {
            return Taken::Known;
        }
        let weight = packet.bytes.len() as u64;
        if self.unwritten.load(Ordering::Relaxed).saturating_add(weight) > limit {
            return Taken::NoRoom;
        }
        state.unclaim(number..number.saturating_add(1));
        self.put(&mut state, number, Slot::Present(Arc::clone(packet)));
        Taken::New
    }

    /// A packet came of which an origin may have left something out: viewers get it, and it is not kept.
    pub fn lend(&self, packet: &Arc<Packet>, limit: u64) {
        let weight = packet.bytes.len() as u64;
        let mut state = self.state.lock();
        let number = packet.number.0;
        let is_lent = state.lent.get(&number).is_some_and(|slot| slot.packet().is_some());
        if is_lent
            || state.is_known(self.geometry(), number)
            || state.lent.len() >= MAX_LENT
            || self.unwritten.load(Ordering::Relaxed).saturating_add(weight) > limit
        {
            return;
        }
        state.lent.insert(number, Slot::Present(Arc::clone(packet)));
        self.unwritten.fetch_add(weight, Ordering::Relaxed);
    }

    /// An origin began behind the place that it was asked for: who begins there begins with what came.
    pub fn lend_nothing(&self, range: Range<u64>) {
        let mut state = self.state.lock();
        for number in range.take(MAX_LENT) {
            if !state.is_known(self.geometry(), number) && state.lent.len() < MAX_LENT {
                state.lent.entry(number).or_insert(Slot::Absent);
            }
        }
    }

    /// Nobody fetches any more: what was lent goes.
    pub fn take_back(&self) {
        let lent = std::mem::take(&mut self.state.lock().lent);
        self.unwritten.fetch_sub(weight(lent.values()), Ordering::Relaxed);
    }

    /// A number for one more request at the origin: two answers to one are one proof.
    pub fn new_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// An origin left out these numbers in the middle of what it sent in answer to that request. Returns whether they are
    /// known to be absent now: after a second request came to the same.
    pub fn skipped(&self, range: Range<u64>, request: u64) -> bool {
        if range.end.saturating_sub(range.start) > MAX_BEYOND {
            return false;
        }
        let mut state = self.state.lock();
        let geometry = self.geometry();
        let range = range.start..range.end.min(state.end.unwrap_or(u64::MAX));
        let mut at = range.start;
        let mut is_settled = true;
        while let Some(start) = state.next(geometry, at, false).filter(|start| *start < range.end) {
            let end = state.next(geometry, start, true).unwrap_or(u64::MAX).min(range.end);
            let is_same =
                |claim: &Claim| claim.range.start <= start && end <= claim.range.end && claim.request != request;
            if state.claims.iter().any(is_same) {
                for number in start..end {
                    self.put(&mut state, number, Slot::Absent);
                }
                state.unclaim(start..end);
            } else {
                is_settled = false;
                state.claim(start..end, request);
            }
            at = end;
        }
        is_settled
    }

    /// An origin said in answer to that request that the content ends behind `number` packets. Returns whether that is
    /// believed: at once where the header says so, too, else after a second request.
    pub fn ended(&self, number: u64, request: u64) -> bool {
        let mut state = self.state.lock();
        if let Some(end) = state.end {
            return end == number;
        }
        if let Some(known) = state.next(self.geometry(), number, true) {
            // There is more behind it: what the origin left out lies before that.
            drop(state);
            self.skipped(number..known, request);
            return false;
        }
        let is_believed = number >= self.opened.description.packet_count
            || state.claimed_end.is_some_and(|(end, by)| end == number && by != request);
        if is_believed {
            state.end = Some(number);
            state.unclaim(number..u64::MAX);
            std::mem::take(&mut state.waiting).ring();
        } else {
            state.claimed_end = Some((number, request));
        }
        is_believed
    }

    /// Rings `bell` once when more is known.
    pub fn ring_when_more(&self, bell: &Arc<Notify>) {
        self.state.lock().waiting.add(bell);
    }

    /// Rings those who wait: more is known, or nothing more will be.
    pub fn ring(&self) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        waiting.ring();
    }

    /// Files of which something is in memory that no disk has: those that are whole now, or all of them.
    pub fn unsealed(&self, all: bool) -> Vec<u32> {
        let state = self.state.lock();
        let is_due = |known: &Segment, segment: u32| {
            known.has_fresh() && (all || known.is_whole(self.slots_of(segment, state.end)))
        };
        state.segments.iter().filter(|(segment, known)| is_due(known, **segment)).map(|(segment, _)| *segment).collect()
    }

    /// What is in memory of a file, to be written, and its times if they were kept; empty where nothing is.
    pub fn fresh(&self, segment: u32) -> (Vec<Slot>, Option<KeyFrames>) {
        let state = self.state.lock();
        let known = state.segments.get(&segment);
        known.map_or_else(Default::default, |known| (known.fresh_slots(), known.fresh_times().cloned()))
    }

    /// How many slots a file has, as far as that is known.
    pub fn slots(&self, segment: u32) -> u32 {
        let end = self.state.lock().end;
        self.slots_of(segment, end)
    }

    /// A file was written, with what memory had of it (`written`): that is given back.
    pub fn sealed(&self, segment: u32, file: OnDisk, times: KeyFrames, written: &[Slot]) {
        let mut state = self.state.lock();
        state.times.insert(segment, Arc::new(times));
        let known = state.segments.entry(segment).or_default();
        let freed = known.seal(file, written);
        self.unwritten.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Files of which it is not known yet what is kept of their times.
    pub fn unread_times(&self) -> Vec<u32> {
        let state = self.state.lock();
        let is_unread = |segment: &u32, known: &Segment| known.has_file() && !state.times.contains_key(segment);
        state
            .segments
            .iter()
            .filter(|(segment, known)| is_unread(segment, known))
            .map(|(segment, _)| *segment)
            .collect()
    }

    /// What is kept of the times of a file.
    pub fn has_times(&self, segment: u32, times: KeyFrames) {
        self.state.lock().times.insert(segment, Arc::new(times));
    }

    /// The times of all that is known, by file.
    pub fn times(&self) -> BTreeMap<u32, Arc<KeyFrames>> {
        let (mut times, fresh) = {
            let state = self.state.lock();
            let fresh = state.segments.iter().filter(|(_, known)| known.has_fresh());
            let fresh: Vec<_> = fresh.map(|(segment, known)| (*segment, known.fresh_slots())).collect();
            (state.times.clone(), fresh)
        };
        for (segment, slots) in fresh {
            let first = self.geometry().first_packet(segment);
            let of_memory = summary::of_memory(&self.opened.header, first, &slots, times.get(&segment));
            times.insert(segment, Arc::new(of_memory));
        }
        times
    }

    /// The first key frame behind a packet, and its time (without the preroll), as far as memory knows.
    pub fn key_frame_behind(&self, number: PacketNumber) -> Option<(PacketNumber, Duration)> {
        let behind = |times: &KeyFrames| times.list().iter().find(|key_frame| key_frame.packet > number).copied();
        let found = self.times().values().find_map(|times| behind(times))?;
        let time = Duration::from_millis(found.presentation_ms.into());
        Some((found.packet, time.saturating_sub(self.opened.header.preroll())))
    }

    /// The packet of the last key frame before a packet, as far as memory knows.
    pub fn key_frame_before(&self, number: PacketNumber) -> Option<PacketNumber> {
        let key_frames =
            |times: &KeyFrames| times.list().iter().rev().map(|key_frame| key_frame.packet).find(|at| *at < number);
        self.times().values().rev().find_map(|times| key_frames(times))
    }

    /// A file is gone from the disk, or can't be read.
    pub fn lost_file(&self, segment: u32) {
        let mut state = self.state.lock();
        if let Some(known) = state.segments.get_mut(&segment) {
            known.lose_file();
        }
        state.times.remove(&segment);
    }

    /// The room that is set aside for it, and how much is missing, bytes.
    pub(super) fn with_room<T>(&self, act: impl FnOnce(&mut Option<Room>, u64) -> T) -> T {
        let (present, absent) = self.counts();
        let missing = self.count().saturating_sub(present).saturating_sub(absent);
        let packet_size = u64::from(self.geometry().packet_size());
        let bytes = missing.saturating_mul(packet_size);
        // Files have headers.
        act(&mut self.room.lock(), bytes.saturating_add(bytes / 64).saturating_add(HEADERS))
    }

    /// So much of it is on disk now, bytes.
    pub(super) fn uses_room(&self, bytes: u64) {
        if let Some(room) = &mut *self.room.lock() {
            room.use_up(bytes);
        }
    }

    /// Nobody fetches any more: what room is left is given back.
    pub fn leaves_room(&self) {
        drop(self.room.lock().take());
    }

    /// Nothing more can be stored: what memory has is let go.
    pub fn give_up(&self) {
        let mut state = self.state.lock();
        state.marks.gave_up = true;
        let freed: u64 = state.segments.values_mut().map(Segment::drop_fresh).sum();
        self.unwritten.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Packets that are present and that are absent in memory alone: no disk has them yet.
    pub fn unsealed_counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        let fresh = state.segments.values().map(|known| known.fresh_counts(u32::MAX));
        fresh.fold((0, 0), |(present, absent), (is, is_not)| (present + is, absent + is_not))
    }

    fn slots_of(&self, segment: u32, end: Option<u64>) -> u32 {
        let first = self.geometry().first_packet(segment);
        let left = end.unwrap_or(u64::MAX).saturating_sub(first);
        u32::try_from(left).unwrap_or(u32::MAX).min(self.geometry().packets_per_segment())
    }

    fn put(&self, state: &mut State, number: u64, slot: Slot) {
        let Some(Place { segment, slot: at }) = self.geometry().place(number) else { return };
        let weight = slot.packet().map_or(0, |packet| packet.bytes.len() as u64);
        if let Some(lent) = state.lent.remove(&number) {
            let lent = lent.packet().map_or(0, |packet| packet.bytes.len() as u64);
            self.unwritten.fetch_sub(lent, Ordering::Relaxed);
        }
        let known = state.segments.entry(segment).or_default();
        if known.put(at, self.geometry().packets_per_segment(), slot, &self.opened.header) {
            self.unwritten.fetch_add(weight, Ordering::Relaxed);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let freed: u64 = state.segments.values_mut().map(Segment::drop_fresh).sum();
        self.unwritten.fetch_sub(freed + weight(state.lent.values()), Ordering::Relaxed);
    }
}

/// Bytes of media.
fn weight<'a>(slots: impl Iterator<Item = &'a Slot>) -> u64 {
    slots.filter_map(Slot::packet).map(|packet| packet.bytes.len() as u64).sum()
}

impl State {
    fn is_known(&self, geometry: Geometry, number: u64) -> bool {
        let Some(Place { segment, slot }) = geometry.place(number) else { return false };
        self.segments.get(&segment).is_some_and(|known| known.is_known(slot))
    }

    /// The first number from `from` on that is known, or that is not; `None` where there is none before the end.
    fn next(&self, geometry: Geometry, from: u64, is_known: bool) -> Option<u64> {
        let end = self.end.unwrap_or(u64::MAX);
        let mut at = from;
        while at < end {
            let Place { segment, slot } = geometry.place(at)?;
            let found = match self.segments.get(&segment) {
                Some(known) => known.next(slot, geometry.packets_per_segment(), is_known),
                None if is_known => {
                    // Nothing in between: on to the next file that has anything.
                    let next = self.segments.range(segment..).next()?.0;
                    at = geometry.first_packet(*next);
                    continue;
                }
                None => Some(slot),
            };
            let first = geometry.first_packet(segment);
            match found {
                Some(slot) => return Some(first.saturating_add(u64::from(slot))).filter(|found| *found < end),
                None => at = first.saturating_add(u64::from(geometry.packets_per_segment())),
            }
        }
        None
    }

    fn claim(&mut self, range: Range<u64>, request: u64) {
        self.unclaim(range.clone());
        if self.claims.len() < MAX_CLAIMS {
            let at = self.claims.partition_point(|claim| claim.range.start < range.start);
            self.claims.insert(at, Claim { range, request });
        }
    }

    fn unclaim(&mut self, range: Range<u64>) {
        let is_apart = |Claim { range: claim, .. }: &Claim| claim.end <= range.start || range.end <= claim.start;
        if self.claims.iter().all(is_apart) {
            return;
        }
        let claims = std::mem::take(&mut self.claims);
        let rest = |Claim { range: claim, request }: Claim| {
            let before = claim.start..claim.end.min(range.start);
            let behind = claim.start.max(range.end)..claim.end;
            let rests = [before, behind].into_iter().filter(|rest| rest.start < rest.end);
            rests.map(move |range| Claim { range, request })
        };
        self.claims = claims.into_iter().flat_map(rest).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::Cache;
    use super::super::film::{Film, Home, KEY, LIMIT};
    use super::*;

    /// Sixteen packets a file, one a block.
    const HUGE: u32 = 131_073;
    const PER_SEGMENT: u64 = 16;
    const DECLARED: u64 = 36;
    /// Beyond all that a test asks for.
    const ALL: u64 = 48;

    fn film() -> Film {
        let mut film = Film::new(500, ALL);
        let mut opened = Opened::clone(&film.opened);
        opened.description.packet_count = DECLARED;
        film.opened = Arc::new(opened);
        film
    }

    fn entry(home: &Home) -> (Arc<Entry>, Film) {
        let film = film();
        (home.open().create(KEY, &film.opened, 1).unwrap(), film)
    }

    fn gap(entry: &Entry, from: u64) -> Option<Range<u64>> {
        entry.gap(PacketNumber(from))
    }

    #[test]
    fn a_place_that_one_request_skips_is_not_absent_however_often_it_is_told() {
        let (entry, film) = entry(&Home::new());
        film.fill(&entry, (0..5).chain(8..12));
        for _ in 0..10 {
            assert!(!entry.skipped(5..8, 1));
        }
        assert_eq!((gap(&entry, 0), entry.counts()), (Some(5..8), (9, 0)));
        assert!(entry.skipped(5..8, 2));
        assert_eq!((gap(&entry, 0), entry.counts()), (Some(12..u64::MAX), (9, 3)));
    }

    #[test]
    fn a_second_request_proves_no_more_than_what_the_first_left_out_as_well() {
        let (entry, film) = entry(&Home::new());
        film.fill(&entry, 9..12);
        assert!(!entry.skipped(5..9, 1));
        assert!(!entry.skipped(4..9, 2));
        assert_eq!(gap(&entry, 0), Some(0..9));
        film.fill(&entry, [8]);
        assert!(entry.skipped(5..8, 3));
        assert_eq!([4, 5].map(|from| gap(&entry, from)), [Some(4..5), Some(12..u64::MAX)]);
        assert_eq!(entry.counts(), (4, 3));
    }

    #[test]
    fn of_a_place_with_known_packets_in_it_each_gap_is_proved_for_itself() {
        let (entry, film) = entry(&Home::new());
        assert!(!entry.skipped(5..7, 1));
        assert!(!entry.skipped(10..12, 1));
        film.fill(&entry, [7, 9]);
        assert!(!entry.skipped(5..12, 2));
        assert_eq!([5, 9].map(|from| gap(&entry, from)), [Some(8..9), Some(12..u64::MAX)]);
    }

    #[test]
    fn a_packet_that_comes_wins_over_a_claim() {
        let (entry, film) = entry(&Home::new());
        film.fill(&entry, [9]);
        assert!(!entry.skipped(5..9, 1));
        film.fill(&entry, [6]);
        assert_eq!(gap(&entry, 5), Some(5..6));
        assert!(entry.skipped(5..9, 2));
        assert_eq!((gap(&entry, 5), entry.counts()), (Some(10..u64::MAX), (2, 3)));
        // And what is known to be absent stays so.
        assert_eq!(entry.take(&film.stripped(5), LIMIT), Taken::Known);
    }

    #[test]
    fn an_end_before_the_declared_one_is_believed_only_when_a_second_request_comes_to_it() {
        let (entry, film) = entry(&Home::new());
        film.fill(&entry, 0..30);
        assert!(!entry.ended(32, 1), "another place");
        assert!(!entry.ended(30, 2) && !entry.ended(30, 2));
        assert_eq!((entry.end(), gap(&entry, 0)), (None, Some(30..u64::MAX)));
        assert!(entry.ended(30, 3));
        assert_eq!((entry.end(), entry.is_complete()), (Some(30), true));
        assert_eq!((entry.ended(30, 4), entry.ended(40, 5)), (true, false));
        assert_eq!(entry.take(&film.stripped(31), LIMIT), Taken::Known);
        assert!(matches!(entry.look(PacketNumber(30)), Look::End));
    }

    #[test]
    fn an_end_where_the_header_says_or_behind_it_is_believed_at_once() {
        for end in [DECLARED, DECLARED + 4] {
            let (entry, film) = entry(&Home::new());
            film.fill(&entry, 0..end);
            assert_eq!(gap(&entry, 0), Some(end..u64::MAX));
            assert!(entry.ended(end, 1));
            assert_eq!((entry.end(), gap(&entry, 0)), (Some(end), None));
        }
    }

    #[test]
    fn no_end_is_believed_before_a_packet_that_came() {
        let (entry, film) = entry(&Home::new());
        film.fill(&entry, (0..DECLARED).chain([40]));
        assert!(!entry.ended(DECLARED, 1));
        assert_eq!((entry.end(), gap(&entry, 0)), (None, Some(DECLARED..40)));
        // What was said is that the place is empty.
        assert!(!entry.ended(DECLARED, 2));
        assert_eq!(gap(&entry, 0), Some(41..u64::MAX));
        assert!(entry.ended(41, 3));
        assert_eq!((entry.is_complete(), entry.counts()), (true, (37, 4)));
    }

    #[test]
    fn an_origin_that_skips_very_far_is_not_believed_and_costs_nothing() {
        let (entry, _) = entry(&Home::new());
        for far in [DECLARED + MAX_BEYOND, u32::MAX.into(), u64::MAX] {
            for request in 1..4 {
                assert!(!entry.skipped(3..far, request));
            }
        }
        assert_eq!((gap(&entry, 0), entry.counts()), (Some(0..u64::MAX), (0, 0)));
    }

    #[test]
    fn what_is_lent_is_at_hand_and_not_known_until_it_comes_to_stay() {
        let (entry, film) = entry(&Home::new());
        (3..6).for_each(|number| entry.lend(&film.stripped(number), LIMIT));
        entry.lend(&film.stripped(6), 0);
        let unwritten = || entry.unwritten.load(Ordering::Relaxed);
        let weight = |numbers: Range<u64>| numbers.map(|number| film.stripped(number).bytes.len() as u64).sum::<u64>();
        assert_eq!((unwritten(), entry.counts(), gap(&entry, 3)), (weight(3..6), (0, 0), Some(3..u64::MAX)));
        assert_eq!([3, 5, 6].map(|number| entry.is_at_hand(PacketNumber(number))), [true, true, false]);
        assert!(!entry.is_known(PacketNumber(4)));
        let Look::Lent(block) = entry.look(PacketNumber(4)) else { panic!("it is not here") };
        assert_eq!((block.first(), block.slots().len()), (PacketNumber(4), 2));
        // In another form, as another origin sends it.
        entry.lend(&film.whole(3), LIMIT);
        assert_eq!(unwritten(), weight(3..6));
        // Neither twice in memory nor sealed.
        film.fill(&entry, [4]);
        entry.lend(&film.stripped(4), LIMIT);
        assert_eq!((unwritten(), entry.counts()), (weight(3..6), (1, 0)));
        entry.take_back();
        assert_eq!((unwritten(), entry.is_at_hand(PacketNumber(3))), (weight(4..5), false));
        assert!(entry.is_at_hand(PacketNumber(4)));
    }

    #[test]
    fn a_number_that_no_packet_can_have_is_refused() {
        let (entry, film) = entry(&Home::new());
        let number = |number| {
            let packet = film.stripped(0);
            Arc::new(Packet::new(PacketNumber(number), 0, packet.bytes.clone(), packet.stripped.clone()))
        };
        assert_eq!(entry.take(&number(DECLARED + MAX_BEYOND - 1), LIMIT), Taken::New);
        for far in [DECLARED + MAX_BEYOND, u32::MAX.into(), u64::MAX] {
            assert_eq!(entry.take(&number(far), LIMIT), Taken::Impossible);
            assert!(!entry.is_known(PacketNumber(far)));
        }
    }

    #[test]
    fn bells_ring_once_when_more_is_known_or_the_end() {
        let (entry, film) = entry(&Home::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let bell = Arc::new(Notify::new());
        let is_rung = || {
            let now = std::time::Duration::ZERO;
            runtime.block_on(async { tokio::time::timeout(now, bell.notified()).await.is_ok() })
        };
        entry.ring_when_more(&bell);
        entry.ring_when_more(&bell);
        assert!(!is_rung());
        film.fill(&entry, [0]);
        entry.ring();
        assert!(is_rung());
        entry.ring();
        assert!(!is_rung());
        entry.ring_when_more(&bell);
        assert!(entry.ended(DECLARED, 0));
        assert!(is_rung());
    }

    /// What is done to an entry.
    #[derive(Clone, Debug)]
    enum Step {
        Take(Range<u64>),
        Skip { range: Range<u64>, request: u64 },
        End { number: u64, request: u64 },
        Lend(Range<u64>),
        LendNothing(Range<u64>),
        TakeBack,
        Seal { all: bool },
        Lose { segment: u32 },
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let range = || {
            let length = prop_oneof![6 => 1..6_u64, 1 => 16..40_u64];
            // Ends that are met again and again.
            (prop_oneof![0..ALL, (0..6_u64).prop_map(|n| n * 8)], length)
                .prop_map(|(at, length)| at..(at + length).min(ALL))
        };
        let end = prop_oneof![Just(30_u64), Just(DECLARED), Just(DECLARED + 5), 0..ALL];
        prop_oneof![
            6 => range().prop_map(Step::Take),
            6 => (range(), 0..3_u64).prop_map(|(range, request)| Step::Skip { range, request }),
            2 => (end, 0..3_u64).prop_map(|(number, request)| Step::End { number, request }),
            2 => range().prop_map(Step::Lend),
            1 => range().prop_map(Step::LendNothing),
            1 => Just(Step::TakeBack),
            2 => any::<bool>().prop_map(|all| Step::Seal { all }),
            1 => (0..3_u32).prop_map(|segment| Step::Lose { segment }),
            1 => Just(Step::Restart),
        ]
    }

    /// What an entry should know, number by number.
    #[derive(Debug, Default)]
    struct Model {
        known: BTreeMap<u64, Known>,
        /// By number: which skip said it last, and the request that it answered.
        claims: BTreeMap<u64, (usize, u64)>,
        skips: usize,
        end: Option<u64>,
        claimed_end: Option<(u64, u64)>,
        /// And whether as a packet.
        lent: BTreeMap<u64, bool>,
        /// How many are absent is counted again only when files are read.
        is_restarted: bool,
    }

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct Known {
        is_present: bool,
        is_stored: bool,
    }

    impl Model {
        fn is_unknown(&self, number: u64) -> bool {
            !self.known.contains_key(&number) && self.end.is_none_or(|end| number < end)
        }

        fn learn(&mut self, number: u64, is_present: bool) {
            self.claims.remove(&number);
            self.lent.remove(&number);
            self.known.insert(number, Known { is_present, is_stored: false });
        }

        fn take(&mut self, number: u64) -> Taken {
            if !self.is_unknown(number) {
                return Taken::Known;
            }
            self.learn(number, true);
            Taken::New
        }

        fn skip(&mut self, range: Range<u64>, request: u64) -> bool {
            let mut unknown: Vec<u64> = range.clone().filter(|number| self.is_unknown(*number)).collect();
            let mut is_settled = true;
            while let Some(first) = unknown.first().copied() {
                let run: Vec<u64> = (first..).zip(&unknown).take_while(|(n, m)| n == *m).map(|(n, _)| n).collect();
                unknown.drain(..run.len());
                let claims: BTreeSet<_> = run.iter().map(|number| self.claims.get(number)).collect();
                let is_same = |claim: &Option<&(usize, u64)>| claim.is_some_and(|(_, by)| *by != request);
                if claims.len() == 1 && claims.iter().all(is_same) {
                    run.iter().for_each(|number| self.learn(*number, false));
                } else {
                    is_settled = false;
                    self.skips += 1;
                    self.claims.extend(run.iter().map(|number| (*number, (self.skips, request))));
                }
            }
            is_settled
        }

        fn ended(&mut self, number: u64, request: u64) -> bool {
            if let Some(end) = self.end {
                return end == number;
            }
            if let Some((behind, _)) = self.known.range(number..).next().map(|(n, k)| (*n, *k)) {
                self.skip(number..behind, request);
                return false;
            }
            let is_second = self.claimed_end.is_some_and(|(end, by)| end == number && by != request);
            let is_believed = number >= DECLARED || is_second;
            if is_believed {
                self.end = Some(number);
                self.claims.retain(|at, _| *at < number);
            } else {
                self.claimed_end = Some((number, request));
            }
            is_believed
        }

        fn numbers(&self, segment: u32) -> Range<u64> {
            let first = u64::from(segment) * PER_SEGMENT;
            first..(first + PER_SEGMENT)
        }

        fn unsealed(&self, all: bool) -> Vec<u32> {
            let is_fresh = |number: u64| self.known.get(&number).is_some_and(|known| !known.is_stored);
            let is_due = |segment: &u32| {
                self.numbers(*segment).any(is_fresh) && (all || !self.numbers(*segment).any(|n| self.is_unknown(n)))
            };
            (0..3).filter(is_due).collect()
        }

        fn sealed(&mut self, segment: u32) {
            let numbers = self.numbers(segment);
            self.known.range_mut(numbers).for_each(|(_, known)| known.is_stored = true);
        }

        fn lost(&mut self, segment: u32) {
            let numbers = self.numbers(segment);
            self.known.retain(|number, known| !numbers.contains(number) || !known.is_stored);
        }

        fn restarted(&mut self) {
            self.known.retain(|_, known| known.is_stored);
            self.claims.clear();
            self.lent.clear();
            self.claimed_end = None;
            self.is_restarted = true;
        }

        fn gap(&self, from: u64) -> Option<Range<u64>> {
            // Beyond all that is asked for one number is like the other.
            let first = (from..).take(ALL as usize + 1).find(|number| self.is_unknown(*number))?;
            let behind = self.known.range(first..).next().map_or(u64::MAX, |(number, _)| *number);
            Some(first..behind)
        }
    }

    /// An entry as it is, and as it should be.
    struct Both {
        home: Home,
        film: Film,
        cache: Arc<Cache>,
        entry: Arc<Entry>,
        model: Model,
    }

    impl Both {
        fn new() -> Self {
            let (home, film) = (Home::new(), film());
            let (cache, entry) = home.with_blocks_for(HUGE, &film);
            Self { home, film, cache, entry, model: Model::default() }
        }

        fn step(mut self, step: Step) -> Result<Self, TestCaseError> {
            let Self { film, cache, entry, model, .. } = &mut self;
            match step {
                Step::Take(range) => {
                    for number in range {
                        prop_assert_eq!(entry.take(&film.stripped(number), LIMIT), model.take(number));
                    }
                }
                Step::Skip { range, request } => {
                    prop_assert_eq!(entry.skipped(range.clone(), request), model.skip(range, request));
                }
                Step::End { number, request } => {
                    prop_assert_eq!(entry.ended(number, request), model.ended(number, request));
                }
                Step::Lend(range) => {
                    for number in range.filter(|number| model.is_unknown(*number)).collect::<Vec<_>>() {
                        entry.lend(&film.stripped(number), LIMIT);
                        model.lent.insert(number, true);
                    }
                }
                Step::LendNothing(range) => {
                    let range = range.start..range.end.min(model.end.unwrap_or(ALL));
                    entry.lend_nothing(range.clone());
                    for number in range.filter(|number| model.is_unknown(*number)).collect::<Vec<_>>() {
                        model.lent.entry(number).or_insert(false);
                    }
                }
                Step::TakeBack => {
                    entry.take_back();
                    model.lent.clear();
                }
                Step::Seal { all } => {
                    model.unsealed(all).into_iter().for_each(|segment| model.sealed(segment));
                    cache.seal(entry, all);
                    cache.flush();
                }
                Step::Lose { segment } => {
                    cache.drop_file(entry, segment);
                    model.lost(segment);
                }
                Step::Restart => return Ok(self.restart()),
            }
            Ok(self)
        }

        fn restart(self) -> Self {
            let Self { home, film, cache, entry, mut model } = self;
            cache.save(&entry);
            cache.flush();
            drop((cache, entry));
            model.restarted();
            let cache = home.open();
            let entry = cache.find(KEY).unwrap().unwrap();
            Self { home, film, cache, entry, model }
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let Self { film, entry, model, .. } = self;
            for number in 0..ALL + 2 {
                let at = PacketNumber(number);
                let known = model.known.get(&number);
                if model.end.is_none_or(|end| number < end) {
                    prop_assert_eq!(entry.is_known(at), known.is_some(), "{}", number);
                }
                prop_assert_eq!(entry.gap(at), model.gap(number), "from {}", number);
                match (entry.look(at), known) {
                    (Look::End, _) => prop_assert!(model.end.is_some_and(|end| end <= number)),
                    (Look::Unknown, None) => prop_assert!(!model.lent.contains_key(&number)),
                    (Look::Lent(block), None) => {
                        let lent = (number..).map_while(|number| model.lent.get(&number));
                        let slots = block.slots().iter().map(|slot| slot.packet().is_some());
                        prop_assert_eq!(block.first(), at);
                        prop_assert!(slots.eq(lent.copied()), "{} is {:?}", number, block);
                        let packets = (number..).zip(block.slots()).filter_map(|(n, slot)| Some((n, slot.packet()?)));
                        prop_assert!(packets.into_iter().all(|(number, packet)| film.is_at(number, packet)));
                    }
                    (Look::OnDisk { segment, block }, Some(Known { is_stored: true, .. })) => {
                        prop_assert_eq!(u64::from(segment) * PER_SEGMENT + u64::from(block), number);
                    }
                    (Look::Here(block), Some(Known { is_stored: false, is_present })) => {
                        prop_assert_eq!((block.first(), block.slots().len()), (at, 1));
                        match block.slot(at) {
                            Some(Slot::Present(packet)) => prop_assert!(*is_present && film.is_at(number, packet)),
                            slot => prop_assert!(!is_present && matches!(slot, Some(Slot::Absent))),
                        }
                    }
                    (look, known) => prop_assert!(false, "{number} is {look:?}, and should be {known:?}"),
                }
            }
            prop_assert_eq!(entry.end(), model.end);
            prop_assert_eq!(entry.is_complete(), model.end.is_some() && model.gap(0).is_none());
            for all in [false, true] {
                prop_assert_eq!(entry.unsealed(all), model.unsealed(all));
            }
            let present = model.known.values().filter(|known| known.is_present).count() as u64;
            let behind = DECLARED.saturating_sub(model.end.unwrap_or(DECLARED));
            let counts = (present, model.known.len() as u64 - present + behind);
            let (is_present, is_absent) = entry.counts();
            if model.is_restarted {
                prop_assert_eq!(is_present + is_absent, counts.0 + counts.1);
            } else {
                prop_assert_eq!((is_present, is_absent), counts);
            }
            let stored = model.known.iter().filter(|(_, known)| known.is_stored);
            let files: BTreeSet<u32> = stored.map(|(number, _)| (number / PER_SEGMENT) as u32).collect();
            prop_assert_eq!(entry.files(), files.into_iter().collect::<Vec<_>>());
            let fresh = model.known.iter().filter(|(_, known)| known.is_present && !known.is_stored);
            let lent = model.lent.iter().filter(|(_, is_present)| **is_present).map(|(number, _)| number);
            let in_memory = fresh.map(|(number, _)| number).chain(lent);
            let unwritten: u64 = in_memory.map(|number| film.stripped(*number).bytes.len() as u64).sum();
            prop_assert_eq!(entry.unwritten.load(Ordering::Relaxed), unwritten);
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn an_entry_knows_what_was_told_of_it(steps in proptest::collection::vec(step(), 1..24)) {
            let mut both = Both::new();
            for step in steps {
                both = both.step(step)?;
                both.check()?;
            }
            prop_assert_eq!(both.home.said.errors(), [""; 0]);
        }
    }
}
