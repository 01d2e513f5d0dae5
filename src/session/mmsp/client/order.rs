//! Packets that come over UDP, brought into the order in which they were sent: `[MS-MMSP]` 2.2.2 and 3.1.4.7.
//!
//! A Data packet carries the low byte of its Sequence. That alone can't tell 2 packets late from 254 packets lost, so
//! LocationIds have a say: in one play they rise with Sequence (or fall, where it goes backward), by one for each packet
//! at least. What comes out always rises, whatever comes in.
//! `[ gone | held | missing | held ]`: what is held goes up once nothing before it is missing, and the last is never
//! missing.

use std::collections::VecDeque;
use std::time::Instant;

use super::asking::{Asking, Hole, later};
use super::closing::Closing;
use super::count::{Count, Lead};
use super::udp::{Losses, Udp};
use crate::wire::mmsp::data::Data;
use crate::wire::mmsp::ids::Sequence;
use crate::wire::mmsp::resend::RequestPacketListResend;

/// The packets of one play, and where its Sequence stands.
#[derive(Debug)]
pub(super) struct Order {
    settings: Udp,
    asking: Asking,
    /// The number of the play; `None` before the first.
    incarnation: Option<u8>,
    /// The number of the play before.
    previous: Option<u8>,
    is_backward: bool,
    count: Count,
    slots: VecDeque<Slot>,
    /// Of these so many are missing.
    holes: usize,
    /// Where the newest packet and the last one that went up stand in the content.
    newest: Option<i64>,
    last_up: Option<i64>,
    /// Given up since the last packet went up.
    gone: u64,
    /// Packets of this play so far.
    arrivals: u64,
    closing: Option<Closing>,
    losses: Losses,
    before: Losses,
}

#[derive(Debug)]
enum Slot {
    Held(Data),
    Missing(Hole),
    /// So many that never came.
    Gone(u64),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// It goes up in its place.
    New,
    /// It is here already, or comes too late.
    Known,
    /// It belongs to no play, or to another.
    Foreign,
}

/// What goes up.
#[derive(Debug)]
pub(super) enum Item {
    /// So many packets will not come any more.
    Lost(u64),
    Packet(Data),
}

impl Order {
    pub(super) fn new(settings: Udp) -> Self {
        Self {
            settings: Udp { window: settings.window.max(1), ..settings },
            asking: Asking::default(),
            incarnation: None,
            previous: None,
            is_backward: false,
            count: Count::default(),
            slots: VecDeque::new(),
            holes: 0,
            newest: None,
            last_up: None,
            gone: 0,
            arrivals: 0,
            closing: None,
            losses: Losses::default(),
            before: Losses::default(),
        }
    }

    /// A play begins, and what is left of the one before goes nowhere.
    pub(super) fn begin(&mut self, incarnation: u8, is_backward: bool) {
        self.discard();
        self.previous = self.incarnation.replace(incarnation);
        self.is_backward = is_backward;
        (self.newest, self.last_up, self.closing) = (None, None, None);
        self.arrivals = 0;
        self.before = self.before.and(std::mem::take(&mut self.losses));
    }

    /// Nobody wants any more what is here.
    pub(super) fn discard(&mut self) {
        self.slots.clear();
        (self.holes, self.gone, self.closing) = (0, 0, None);
        self.last_up = self.newest;
    }

    /// Of this play.
    pub(super) fn losses(&self) -> Losses {
        self.losses
    }

    /// Of all plays together.
    pub(super) fn all_losses(&self) -> Losses {
        self.before.and(self.losses)
    }

    /// Takes a packet.
    pub(super) fn insert(&mut self, now: Instant, data: Data) -> Taken {
        let number = Some(data.play_incarnation.get());
        if number != self.incarnation {
            if number == self.previous {
                self.belongs_to_the_play_before(data.af_flags);
            }
            return Taken::Foreign;
        }
        // What nobody takes yet, because the answer to StartPlaying is still on its way.
        if self.slots.len() >= self.settings.window && !matches!(self.slots.front(), Some(Slot::Missing(_))) {
            return Taken::Known;
        }
        let at = self.place(&data);
        let taken = match self.newest {
            None => self.insert_first(now, data),
            Some(newest) if at > newest => self.append(now, data, at.abs_diff(newest)),
            Some(_) => self.fill(now, data, at),
        };
        if taken == Taken::New {
            self.newest = self.newest.max(Some(at));
            self.arrivals = self.arrivals.saturating_add(1);
            if let Some(closing) = &mut self.closing {
                closing.came(now);
            }
        }
        taken
    }

    /// The next that goes up.
    pub(super) fn pop(&mut self) -> Option<Item> {
        loop {
            match self.slots.pop_front()? {
                Slot::Gone(packets) => self.gone = self.gone.saturating_add(packets),
                Slot::Held(data) if self.gone > 0 => {
                    self.slots.push_front(Slot::Held(data));
                    let packets = std::mem::take(&mut self.gone);
                    self.losses.longest = self.losses.longest.max(packets);
                    return Some(Item::Lost(packets));
                }
                Slot::Held(data) => {
                    self.last_up = Some(self.place(&data));
                    return Some(Item::Packet(data));
                }
                Slot::Missing(hole) => {
                    self.slots.push_front(Slot::Missing(hole));
                    return None;
                }
            }
        }
    }

    /// Gives up what is overdue, and returns what is to be asked for now: up to 32 numbers. Asked again until there are
    /// none.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Sequence> {
        let mut numbers = Vec::new();
        let may_ask = self.asking.earliest(now) <= now;
        let until = self.closing.as_ref().map(Closing::until);
        if self.holes > 0 {
            let back = (1..=self.slots.len()).rev();
            for (slot, back) in self.slots.iter_mut().zip(back) {
                let Slot::Missing(hole) = slot else { continue };
                let end = hole.end(self.settings.deadline);
                if now >= until.map_or(end, |until| until.min(end)) {
                    *slot = Slot::Gone(1);
                    self.holes = self.holes.saturating_sub(1);
                    self.losses.lost = self.losses.lost.saturating_add(1);
                } else if may_ask
                    && now >= hole.due(self.arrivals)
                    && numbers.len() < RequestPacketListResend::MAX_PACKETS
                {
                    if !hole.is_asked_for() {
                        self.losses.asked = self.losses.asked.saturating_add(1);
                    }
                    self.asking.asks_for(now, hole);
                    numbers.push(self.count.before(back));
                }
            }
        }
        if may_ask && let Some(closing) = &mut self.closing {
            let room = RequestPacketListResend::MAX_PACKETS.saturating_sub(numbers.len());
            let wait = self.asking.wait();
            numbers.extend(closing.probe(now, wait, self.newest).take(room).map(|n| self.count.behind(n)));
        }
        if !numbers.is_empty() {
            self.asking.sent(now);
        }
        numbers
    }

    /// When [`poll`](Self::poll) has something to do next, after `now`.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let earliest = self.asking.earliest(now);
        let holes = self.slots.iter().filter(|_| self.holes > 0).filter_map(|slot| match slot {
            Slot::Missing(hole) => Some(hole.due(self.arrivals).max(earliest).min(hole.end(self.settings.deadline))),
            _ => None,
        });
        let closing = self.closing.as_ref().and_then(|closing| closing.next_due(now, earliest, self.newest));
        holes.chain(closing).filter(|at| *at > now).min()
    }

    /// The origin said that no more is sent; `last` is where the content ends, if that is known.
    pub(super) fn close(&mut self, now: Instant, last: Option<u32>) {
        if self.closing.is_none() {
            let last = last.filter(|_| !self.is_backward).map(i64::from);
            self.closing = Some(Closing::new(now, later(now, self.settings.deadline), last));
        }
    }

    /// Whether all that was sent before [`close`](Self::close) has come, as far as anybody can know.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.slots.is_empty() && self.closing.as_ref().is_some_and(|closing| closing.is_over(now, self.newest))
    }

    /// What goes up before what: LocationIds, in the direction of the play.
    fn place(&self, data: &Data) -> i64 {
        let at = i64::from(data.location_id.0);
        if self.is_backward { -at } else { at }
    }

    fn insert_first(&mut self, now: Instant, data: Data) -> Taken {
        match self.count.begin(data.af_flags) {
            Lead::Missing(packets) => self.push(now, data, packets),
            Lead::Unknown(packets) => self.jump(now, data, packets),
        }
        Taken::New
    }

    /// One that is further in the content than all before.
    fn append(&mut self, now: Instant, data: Data, further: u64) -> Taken {
        // 0 to 255 are missing before it, if not more.
        let missing = self.count.missing(data.af_flags);
        let between = further.saturating_sub(1);
        match between.checked_sub(missing) {
            // The numbers contradict each other: who counts like this is not asked for anything.
            None => {
                self.give_up_holes();
                self.count.advance(missing);
                self.push(now, data, 0);
            }
            // An outage: where LocationIds have no gaps of their own, they tell how often the byte went round.
            Some(rest) if rest > 0 && rest % 256 == 0 && between >= self.settings.window as u64 => {
                self.give_up_holes();
                self.jump(now, data, between);
            }
            Some(rest) if rest % 256 == 0 => self.push(now, data, between),
            Some(_) => self.push(now, data, missing),
        }
        Taken::New
    }

    /// One of those that were missing, or one that is known.
    fn fill(&mut self, now: Instant, data: Data, at: i64) -> Taken {
        let Some(index) = self.slots.len().checked_sub(self.count.back(data.af_flags)) else { return Taken::Known };
        let place_of = |slot: &Slot| if let Slot::Held(data) = slot { Some(self.place(data)) } else { None };
        let before = self.slots.range(..index).rev().find_map(place_of).or(self.last_up);
        let behind = self.slots.range(index..).find_map(place_of);
        if before.is_some_and(|before| at <= before) || behind.is_some_and(|behind| at >= behind) {
            return Taken::Known;
        }
        let Some(slot) = self.slots.get_mut(index) else { return Taken::Known };
        let Slot::Missing(hole) = slot else { return Taken::Known };
        if hole.is_asked_for() {
            self.losses.recovered = self.losses.recovered.saturating_add(1);
        }
        self.asking.filled(now, hole);
        self.holes = self.holes.saturating_sub(1);
        *slot = Slot::Held(data);
        Taken::New
    }

    /// Behind the newest, with so many missing in between; those too far back for the window are given up.
    fn push(&mut self, now: Instant, data: Data, missing: u64) {
        for _ in 0..missing {
            self.slots.push_back(Slot::Missing(Hole::new(now, self.arrivals)));
        }
        self.holes = self.holes.saturating_add(usize::try_from(missing).unwrap_or(usize::MAX));
        self.count.advance(missing.saturating_add(1));
        self.slots.push_back(Slot::Held(data));
        let too_many = self.slots.len().saturating_sub(self.settings.window);
        self.give_up(too_many);
    }

    /// Behind the newest, with so many in between of which none is asked for.
    fn jump(&mut self, now: Instant, data: Data, packets: u64) {
        self.slots.push_back(Slot::Gone(packets));
        self.losses.lost = self.losses.lost.saturating_add(packets);
        self.count.advance(packets);
        self.push(now, data, 0);
    }

    /// Nothing more comes: what is missing is lost.
    pub(super) fn give_up_holes(&mut self) {
        self.give_up(self.slots.len());
    }

    /// What is missing among the oldest `count`.
    fn give_up(&mut self, count: usize) {
        for slot in self.slots.iter_mut().take(count).filter(|slot| matches!(slot, Slot::Missing(_))) {
            *slot = Slot::Gone(1);
            self.holes = self.holes.saturating_sub(1);
            self.losses.lost = self.losses.lost.saturating_add(1);
        }
    }

    /// A late packet of the play before: what was sent before it is not missing here.
    fn belongs_to_the_play_before(&mut self, low: u8) {
        if self.newest.is_none() {
            self.count.late(low);
            return;
        }
        let Some(index) = self.slots.len().checked_sub(self.count.back(low)) else { return };
        let is_lead = self.last_up.is_none() && self.slots.range(..=index).all(|slot| matches!(slot, Slot::Missing(_)));
        if is_lead {
            self.slots.drain(..=index);
            self.holes = self.holes.saturating_sub(index.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests;
