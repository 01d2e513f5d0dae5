//! What fetches one entry: the sessions at its origin, who needs what of it, and what is done about it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{Instrument, info, info_span};

use super::filler::Filler;
use super::order::{Begun, Fill, Order};
use super::throttle::Throttle;
use super::{Relay, Rules};
use crate::asf::PacketNumber;
use crate::cache::{Cache, Entry, Hold};
use crate::content::Choice;
use crate::server::health::Authority;
use crate::server::printable::Printable;
use crate::server::relay::opening::Opener;
use crate::session::{Opened, Reason, Refusal};

/// What fetches one entry.
#[derive(Debug)]
pub(in crate::server::relay) struct Filling {
    pub(super) relay: Arc<Relay>,
    pub(super) rules: Arc<Rules>,
    pub(super) choice: Choice,
    cache: Arc<Cache>,
    entry: Arc<Entry>,
    pub(super) throttle: Throttle,
    /// `origin.receive_rate`, or the route's.
    pub(super) way: Throttle,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fills: Vec<Arc<Fill>>,
    /// Viewers that have it open.
    readers: usize,
    /// Somebody wants all of it, viewers or not.
    prefetches: usize,
    /// The way is too narrow for all of its streams: until then who wants less gets a session of its own.
    narrow_until: Option<Instant>,
    /// How often a packet was asked for.
    tried: HashMap<u64, u32>,
    /// There is no room on the disk: until then nothing is fetched for it.
    full_until: Option<Instant>,
    /// Why nothing came the last time.
    failed: Option<(Instant, Refusal)>,
    /// Datagrams of its origin were lost.
    has_losses: bool,
}

/// What a viewer that needs a packet does.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::server::relay) enum Answer {
    /// It waits: somebody fetches it, or it is there.
    Comes,
    /// It asks the origin itself.
    Passes,
    /// It can't be had.
    Refused(Refusal),
}

/// A viewer waits for a fill that needs no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// A fill that is so far behind the clock is too slow for who could do with less.
const TOO_SLOW: Duration = Duration::from_secs(1);
/// How long a way is taken for too narrow.
const NARROW: Duration = Duration::from_secs(60);
/// Requests for one packet; then viewers ask for it themselves.
const ATTEMPTS: u32 = 3;
/// Packets whose requests are counted.
const MAX_TRIED: usize = 1024;
/// Packets that a session is about to bring.
const SOON: u64 = 64;
/// Packets of a fraction of a second.
pub(super) const LOOK_BACK: u64 = 8;
/// How long a disk without room is not asked again.
const FULL: Duration = Duration::from_secs(5);
/// How long a failure is told to others who need the same.
const FAILED: Duration = Duration::from_secs(1);

impl Filling {
    pub(super) fn new(
        relay: Arc<Relay>,
        rules: Arc<Rules>,
        choice: Choice,
        cache: Arc<Cache>,
        entry: Arc<Entry>,
    ) -> Self {
        let way = Throttle::default();
        way.limit(rules.settings.receive_rate(&choice).unwrap_or(0).into());
        Self { relay, rules, choice, cache, entry, throttle: Throttle::default(), way, state: Mutex::default() }
    }

    pub(in crate::server::relay) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    pub(in crate::server::relay) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Keeps its files on disk, for who reads or fills it.
    pub(super) fn hold(&self) -> Hold {
        self.cache.hold(&self.entry)
    }

    /// Sessions that fetch it.
    pub(in crate::server) fn fills(&self) -> usize {
        self.state.lock().fills.len()
    }

    /// Viewers that have it open.
    pub(in crate::server) fn readers(&self) -> usize {
        self.state.lock().readers
    }

    /// A viewer needs a packet, or needed it a moment ago; `wants_all` where it plays every stream.
    pub(super) fn demand(self: &Arc<Self>, number: PacketNumber, wants_all: bool) -> Answer {
        let (entry, now) = (self.entry(), Instant::now());
        if entry.end().is_some_and(|end| number.0 >= end) {
            return Answer::Comes;
        }
        let mut state = self.state.lock();
        // Before a look at what is there: who waits for each packet finds, most of the time, that it has just come.
        let slow = state.fills.iter().filter(|_| !wants_all).find(|fill| self.has_or_brings(fill, number, now));
        if let Some(lag) = slow.map(|fill| fill.lag(now)).filter(|lag| *lag > TOO_SLOW) {
            info!(?lag, "all streams are more than the way carries: viewers get what they chose");
            state.narrow_until = now.checked_add(NARROW);
            state.fills.iter().for_each(|fill| fill.order(Order::Leave));
            return Answer::Passes;
        }
        if entry.is_at_hand(number) {
            return Answer::Comes;
        }
        if let Some(answer) = self.answer_at_once(&mut state, now, wants_all) {
            return answer;
        }
        if let Some(fill) = state.fills.iter().find(|fill| self.is_near(fill, number, now)) {
            fill.follow(now);
            return Answer::Comes;
        }
        if state.tried.len() >= MAX_TRIED {
            state.tried.clear();
        }
        let tried = state.tried.entry(number.0).or_default();
        *tried += 1;
        if *tried > ATTEMPTS {
            return Answer::Passes;
        }
        let order = Order::Packet(self.before(number));
        if self.fetch(&mut state, now, order).is_some() { Answer::Comes } else { Answer::Passes }
    }

    /// A viewer wants to begin at a time whose place is not known. The receiver tells where the origin begins.
    pub(super) fn demand_time(
        self: &Arc<Self>,
        time: Duration,
        wants_all: bool,
    ) -> Result<watch::Receiver<Begun>, Answer> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(answer) = self.answer_at_once(&mut state, now, wants_all) {
            return Err(answer);
        }
        if let Some(fill) = state.fills.iter().find(|fill| fill.is_sought(time)) {
            return Ok(fill.begun());
        }
        let fill = self.fetch(&mut state, now, Order::Time(time)).ok_or(Answer::Passes)?;
        Ok(fill.begun())
    }

    /// Where to ask for a packet: a little before it, where what is before it is there, so that a server that leaves out the
    /// rests of objects leaves out none of those that go on in it.
    fn before(&self, number: PacketNumber) -> PacketNumber {
        self.before_by(number, LOOK_BACK)
    }

    /// The same, by so many packets.
    pub(super) fn before_by(&self, number: PacketNumber, packets: u64) -> PacketNumber {
        match number.0.checked_sub(1) {
            Some(last) if self.entry().is_known(PacketNumber(last)) => PacketNumber(number.0.saturating_sub(packets)),
            _ => number,
        }
    }

    /// How many packets before a packet the last key frame begins, where that is known without a look at the disk.
    pub(super) fn to_key_frame(&self, number: PacketNumber) -> Option<u64> {
        let before = self.entry().key_frame_before(number)?;
        Some(number.0.saturating_sub(before.0).max(LOOK_BACK))
    }

    /// What is clear without a look at who fetches.
    fn answer_at_once(&self, state: &mut State, now: Instant, wants_all: bool) -> Option<Answer> {
        let marks = self.entry().marks();
        // A session of the viewer's own goes on with this very content, or not at all.
        if marks.gave_up || marks.retired || state.full_until.is_some_and(|until| now < until) {
            return Some(Answer::Passes);
        }
        if let Some((since, refusal)) = &state.failed
            && now.saturating_duration_since(*since) < FAILED
        {
            return Some(Answer::Refused(refusal.clone()));
        }
        let is_narrow = state.narrow_until.is_some_and(|until| now < until) || self.passes_the_limit();
        (is_narrow && !wants_all).then_some(Answer::Passes)
    }

    /// All streams are more than may be asked of an origin.
    fn passes_the_limit(&self) -> bool {
        let limit = self.rules.settings.receive_rate(&self.choice);
        limit.is_some_and(|limit| self.entry().opened().description.bit_rate > limit)
    }

    /// Whether a fill has just brought a packet, or brings it soon.
    fn has_or_brings(&self, fill: &Fill, number: PacketNumber, now: Instant) -> bool {
        let has_brought = fill.at().is_some_and(|at| number < at && at.0 - number.0 <= SOON);
        has_brought && !fill.is_leaving() || self.is_near(fill, number, now)
    }

    /// Whether a fill brings a packet soon.
    fn is_near(&self, fill: &Fill, number: PacketNumber, now: Instant) -> bool {
        if fill.is_leaving() {
            return false;
        }
        let Some(at) = fill.at().filter(|at| *at <= number) else { return false };
        let entry = self.entry();
        // It stops where it comes to what is known.
        let is_on_the_way = entry.gap(at).is_some_and(|gap| gap.start <= number.0 && number.0 < gap.end);
        let description = &entry.opened().description;
        let nominal = description.packet_count as f64 / description.duration_seconds.max(1.0);
        let speed = fill.packets_per_second(now).unwrap_or(0.0).max(nominal).max(1.0);
        let left = (number.0 - at.0) as f64 / speed;
        is_on_the_way && left <= PATIENCE.as_secs_f64()
    }

    /// Has somebody fetch it: one that has nothing to do, a new one, or one that nobody follows.
    fn fetch(self: &Arc<Self>, state: &mut State, now: Instant, order: Order) -> Option<Arc<Fill>> {
        let is_staying = |fill: &&Arc<Fill>| !fill.is_leaving();
        let settings = &self.rules.settings.cache;
        let fill = if let Some(idle) = state.fills.iter().filter(is_staying).find(|fill| fill.is_idle()) {
            Arc::clone(idle)
        } else if state.fills.len() < settings.max_fills_per_entry {
            let opener = self.relay.shared_opener(&self.rules);
            let fill = self.begin(state, opener, Some(order));
            fill.follow(now);
            return Some(fill);
        } else {
            Arc::clone(state.fills.iter().filter(is_staying).find(|fill| fill.is_free(now))?)
        };
        fill.follow(now);
        fill.order(order);
        Some(fill)
    }

    fn begin(self: &Arc<Self>, state: &mut State, opener: Box<Opener>, order: Option<Order>) -> Arc<Fill> {
        let fill = Arc::new(Fill::new(Instant::now(), order));
        state.fills.push(Arc::clone(&fill));
        let span = info_span!(parent: None, "fill", key = %Printable(self.entry().key()));
        let filler = Filler::new(Arc::clone(self), Arc::clone(&fill), opener);
        tokio::spawn(filler.run().instrument(span));
        fill
    }

    /// A session at the origin that was just opened, and that has nothing to do.
    pub(super) fn take_session(self: &Arc<Self>, mut opener: Box<Opener>) {
        let mut state = self.state.lock();
        if state.fills.len() < self.rules.settings.cache.max_fills_per_entry
            && self.entry().gap(PacketNumber(0)).is_some()
        {
            self.begin(&mut state, opener, None);
        } else {
            opener.leave();
        }
    }

    /// Has all of it fetched, viewers or not, until the guard is dropped.
    pub(super) fn prefetch(self: &Arc<Self>) -> Prefetching {
        let mut state = self.state.lock();
        state.prefetches += 1;
        if state.fills.is_empty() && self.entry().gap(PacketNumber(0)).is_some() {
            let opener = self.relay.shared_opener(&self.rules);
            self.begin(&mut state, opener, None);
        } else {
            state.fills.iter().for_each(|fill| fill.bell.notify_one());
        }
        Prefetching(Arc::clone(self))
    }

    /// Whether more than is asked for is fetched: because somebody watches or wants all of it, or in the background.
    pub(super) fn may_go_on(&self, background: &mut Option<OwnedSemaphorePermit>) -> bool {
        let (readers, prefetches) = {
            let state = self.state.lock();
            (state.readers, state.prefetches)
        };
        let marks = self.entry().marks();
        if marks.retired || marks.gave_up {
            return false;
        }
        let (present, absent) = self.entry().counts();
        // Who opens something and leaves has asked for nothing.
        if prefetches == 0 && present + absent == 0 {
            return false;
        }
        if readers > 0 || prefetches > 0 {
            *background = None;
            let is_narrow = self.state.lock().narrow_until.is_some_and(|until| Instant::now() < until);
            return prefetches > 0 || !is_narrow && !self.passes_the_limit();
        }
        let Some(percent) = self.rules.settings.cache.finish_fill else { return false };
        let is_worth_it = (present + absent).saturating_mul(100) >= self.entry().count().saturating_mul(percent.into());
        if !is_worth_it || self.passes_the_limit() {
            return false;
        }
        if background.is_none() {
            *background = self.relay.background_fill();
        }
        background.is_some()
    }

    /// The next place that is unknown and that no other session is on its way to, from `from` on and then from the
    /// beginning.
    pub(super) fn next_gap(&self, fill: &Arc<Fill>, from: PacketNumber) -> Option<PacketNumber> {
        let others: Vec<PacketNumber> = {
            let state = self.state.lock();
            state.fills.iter().filter(|other| !Arc::ptr_eq(other, fill)).filter_map(|other| other.at()).collect()
        };
        [from, PacketNumber(0)].into_iter().find_map(|start| {
            let mut at = start;
            loop {
                let gap = self.entry().gap(at)?;
                let first = PacketNumber(gap.start);
                // Whoever is there has it a moment later.
                let is_taken = others.iter().any(|at| *at <= first && first.0 - at.0 <= SOON);
                if !is_taken {
                    return Some(first);
                }
                if gap.end == u64::MAX {
                    return None;
                }
                at = PacketNumber(gap.end);
            }
        })
    }

    /// A viewer has it open until the guard is dropped.
    pub(super) fn read(self: &Arc<Self>) -> Reading {
        self.state.lock().readers += 1;
        Reading { filling: Arc::clone(self), _hold: self.hold() }
    }

    /// Nothing came of what a session was asked for.
    pub(super) fn failed(&self, refusal: &Refusal) {
        self.state.lock().failed = Some((Instant::now(), refusal.clone()));
        self.entry().ring();
    }

    /// Datagrams of its origin were lost: what is missing is asked for over TCP from here on.
    pub(super) fn lost(&self) {
        self.state.lock().has_losses = true;
    }

    pub(super) fn has_losses(&self) -> bool {
        self.state.lock().has_losses
    }

    /// Why nothing came the last time, if nothing came.
    pub(super) fn failure(&self) -> Option<Refusal> {
        self.state.lock().failed.as_ref().map(|(_, refusal)| refusal.clone())
    }

    /// How long no more is to be read: viewers wait for what their origin may send, and for no prefetch.
    pub(super) fn throttled(&self, now: Instant) -> Option<Duration> {
        let wanted = self.throttle.wait(now).filter(|_| self.readers() == 0);
        wanted.max(self.way.wait(now))
    }

    /// There is no room for what is missing.
    pub(super) fn is_full(&self) {
        {
            let mut state = self.state.lock();
            state.full_until = Instant::now().checked_add(FULL);
        }
        self.failed(&Refusal::new(Reason::Busy, "there is no room for it (cache.max_size, cache.min_free)"));
    }

    /// A session that fetched is over.
    pub(super) fn fill_is_over(&self, fill: &Arc<Fill>) {
        let is_last = {
            let mut state = self.state.lock();
            state.fills.retain(|known| !Arc::ptr_eq(known, fill));
            state.fills.is_empty()
        };
        if is_last {
            self.entry().take_back();
            self.entry().leaves_room();
        }
        self.relay.counters.cache_fills.dec();
        self.cache().seal(self.entry(), true);
        self.cache().save(self.entry());
        self.entry().ring();
    }

    /// The origin has another content under that name now: whoever comes next gets that.
    pub(super) async fn changed(self: &Arc<Self>, opened: &Arc<Opened>, mut opener: Box<Opener>) {
        info!("the content at the origin is another now");
        let Some(stock) = self.relay.stock() else { return opener.leave() };
        self.state.lock().fills.iter().for_each(|fill| fill.order(Order::Leave));
        if super::may_be_kept(opened) {
            if let Err(mut opener) = stock.adopt(&self.relay, &self.rules, &self.choice, opened, opener).await {
                opener.leave();
            }
        } else {
            opener.leave();
        }
        // Where nothing took its place.
        if !self.entry().marks().retired {
            self.cache().retire(self.entry());
        }
    }

    /// We are going down.
    pub(super) fn leave(&self) {
        self.state.lock().fills.iter().for_each(|fill| fill.order(Order::Leave));
    }

    /// Whether its origin is that one.
    pub(super) fn is_at(&self, at: &Authority) -> bool {
        self.choice.origins.iter().any(|origin| (&origin.host, origin.port) == (&at.0, at.1))
    }

    /// Ends a session that fetches for nobody, to make room at the origin.
    pub(super) fn yield_place(&self) -> bool {
        let state = self.state.lock();
        if state.readers > 0 {
            return false;
        }
        let Some(fill) = state.fills.iter().find(|fill| !fill.is_leaving()) else { return false };
        fill.order(Order::Leave);
        true
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // How often it was opened, and when.
        self.cache.save(&self.entry);
        if let Some(stock) = self.relay.stock() {
            stock.dropped(self.entry().generation());
        }
    }
}

/// A viewer that has an entry open.
#[derive(Debug)]
pub(super) struct Reading {
    filling: Arc<Filling>,
    _hold: Hold,
}

impl Reading {
    pub(super) fn filling(&self) -> &Arc<Filling> {
        &self.filling
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.filling.state.lock();
        state.readers -= 1;
        if state.readers == 0 {
            // Whether they go on without anybody is theirs to find out.
            state.fills.iter().for_each(|fill| fill.bell.notify_one());
        }
    }
}

/// All of an entry is wanted.
#[derive(Debug)]
pub(in crate::server) struct Prefetching(pub(super) Arc<Filling>);

impl Drop for Prefetching {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.prefetches -= 1;
        if state.prefetches == 0 {
            self.0.throttle.limit(0);
        }
        state.fills.iter().for_each(|fill| fill.bell.notify_one());
    }
}
