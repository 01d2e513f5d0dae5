//! Drives one session that fetches: opens it, asks for what is missing, goes on where it is lost, and leaves when nobody
//! needs more of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::filling::{Filling, LOOK_BACK};
use super::intake::{Intake, Way};
use super::order::{Fill, Order, Turn};
use crate::asf::PacketNumber;
use crate::cache::Hold;
use crate::server::printable::Printable;
use crate::server::relay::opening::Opener;
use crate::session::mmsp::client::Event;
use crate::session::{Burst, Opened, Play, Position, Reason, Refusal, Reply, Request, Until};

/// The driver of one session.
pub(super) struct Filler {
    filling: Arc<Filling>,
    fill: Arc<Fill>,
    opener: Box<Opener>,
    intake: Arc<Mutex<Intake>>,
    /// Where it goes on if nobody says otherwise.
    next: PacketNumber,
    /// Its files stay meanwhile.
    _hold: Hold,
    background: Option<OwnedSemaphorePermit>,
    /// The gap that was asked for last, and from how many packets before it.
    gap: Option<PacketNumber>,
    look_back: u64,
    /// The run is for that gap, and not for a viewer.
    is_for_gap: bool,
    /// The origin sends what nobody needs any more.
    is_sending: bool,
    /// It had something to do.
    has_worked: bool,
    /// Attempts in a row that brought nothing.
    failures: u32,
}

/// What is to be done after a run.
enum After {
    /// The next order.
    Next,
    /// The same place once more, in a new session.
    Again,
    /// Nothing more.
    Stop,
}

/// How long a session waits for somebody to need it.
const IDLE: Duration = Duration::from_secs(10);
/// How often what came is brought to the disk, whole file or not: a crash costs no more.
const SEAL: Duration = Duration::from_secs(10);
/// Packets before a gap from which on it is asked for without a guess at its end.
const FAR_BACK: u64 = 512;
/// The same, from which on it is not asked for any more: the origin has had many chances.
const GIVE_UP: u64 = 1 << 18;
/// Attempts in a row before a place is given up.
const ATTEMPTS: u32 = 4;
/// The first wait between two attempts; each is twice the one before.
const WAIT: Duration = Duration::from_millis(250);

impl Filler {
    pub(super) fn new(filling: Arc<Filling>, fill: Arc<Fill>, opener: Box<Opener>) -> Self {
        filling.relay.counters.cache_fills.inc();
        filling.relay.drivers.send_modify(|drivers| *drivers += 1);
        let entry = Arc::clone(filling.entry());
        let intake = Intake::new(Arc::clone(filling.cache()), entry, Arc::clone(&fill));
        let intake = Arc::new(Mutex::new(intake));
        Self {
            _hold: filling.hold(),
            filling,
            fill,
            opener,
            intake,
            next: PacketNumber(0),
            background: None,
            gap: None,
            look_back: LOOK_BACK,
            is_for_gap: false,
            is_sending: false,
            has_worked: false,
            failures: 0,
        }
    }

    pub(super) async fn run(mut self) {
        // It may have a session already.
        self.feed();
        if !self.make_room().await {
            self.opener.close().await;
            return;
        }
        while let Some(order) = self.next_order().await {
            if order == Order::Leave {
                break;
            }
            match self.serve(order).await {
                After::Next => {}
                After::Again => {
                    if !self.fill.has_order() {
                        self.fill.order(order);
                    }
                }
                After::Stop => break,
            }
        }
        self.opener.close().await;
    }

    /// Room for all that is missing; where there is none nothing is stored.
    async fn make_room(&self) -> bool {
        let filling = Arc::clone(&self.filling);
        let made = tokio::task::spawn_blocking(move || filling.cache().make_room(filling.entry())).await;
        let is_made = made.unwrap_or(false);
        if !is_made {
            warn!("there is no room for it (cache.max_size, cache.min_free): passed through");
            self.filling.relay.counters.cache_errors.with_label_values(&["disk_full"]).inc();
            self.filling.is_full();
        }
        is_made
    }

    /// What it is told, or else the next place that nobody knows.
    async fn next_order(&mut self) -> Option<Order> {
        loop {
            self.is_for_gap = false;
            if let Some(order) = self.fill.take_order() {
                return Some(order);
            }
            if self.filling.may_go_on(&mut self.background)
                && let Some(gap) = self.filling.next_gap(&self.fill, self.next)
            {
                self.is_for_gap = true;
                let begin = self.begin_of(gap);
                if self.look_back > GIVE_UP {
                    info!(gap = gap.0, "the origin does not give what is missing there");
                    return None;
                }
                return Some(Order::Packet(begin));
            }
            self.fill.rest();
            if std::mem::take(&mut self.is_sending)
                && let Err(error) = self.opener.request(Request::Stop)
            {
                self.opener.lost(&error);
            }
            if self.filling.entry().is_complete() {
                info!("all of it is there");
                return None;
            }
            if self.filling.readers() == 0 && (self.has_worked || self.opener.session().is_none()) {
                return None;
            }
            // The session has to be read meanwhile, or it would not notice that it is lost.
            let idle = timeout(IDLE, async {
                tokio::select! {
                    () = self.fill.bell.notified() => Ok(()),
                    event = self.opener.next_event() => event.map(drop),
                }
            });
            match idle.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => drop(self.opener.lost(&error)),
                Err(_) => return None,
            }
        }
    }

    /// Where to ask for a gap. One that an earlier run has not closed is asked for from further back: what it left out
    /// there it leaves out again.
    fn begin_of(&mut self, gap: PacketNumber) -> PacketNumber {
        self.look_back = match self.gap {
            Some(before) if before == gap => self.look_back.saturating_mul(8),
            _ => self.filling.to_key_frame(gap).filter(|packets| *packets <= FAR_BACK).unwrap_or(LOOK_BACK),
        };
        self.gap = Some(gap);
        self.filling.before_by(gap, self.look_back)
    }

    /// Where a run may end whose gap does: at the first key frame behind it, so that what is known there does not come again.
    fn cut(&self, order: Order) -> Option<(PacketNumber, Duration)> {
        let Order::Packet(from) = order else { return None };
        let entry = self.filling.entry();
        let end = entry.gap(from).map(|gap| gap.end).filter(|end| *end < u64::MAX)?;
        entry.key_frame_behind(PacketNumber(end)).filter(|_| self.look_back <= FAR_BACK)
    }

    /// One run, from its request to its end.
    async fn serve(&mut self, order: Order) -> After {
        if self.filling.has_losses() && self.opener.insist_on_tcp() {
            self.opener.leave();
        }
        if self.opener.session().is_none() {
            match self.open().await {
                Ok(None) => {}
                Ok(Some((opened, opener))) => {
                    self.fill.failed(&Refusal::new(Reason::Lost, "the content at the origin is another now"));
                    self.filling.changed(&opened, opener).await;
                    return After::Stop;
                }
                Err(refusal) => return self.failed(&refusal).await,
            }
        }
        let goal = match order {
            Order::Packet(_) if self.is_for_gap => self.gap,
            Order::Packet(number) => Some(PacketNumber(number.0.saturating_add(LOOK_BACK))),
            Order::Time(_) | Order::Leave => None,
        };
        let from = match order {
            Order::Packet(number) => Position::Packet(number),
            Order::Time(time) => Position::Time(time),
            Order::Leave => return After::Stop,
        };
        let cut = self.cut(order);
        self.intake.lock().begin(order, goal, cut.map(|(at, _)| at));
        let until = cut.map(|(_, time)| Until::At(time));
        let play = Play { until, burst: Some(self.burst()), ..Play::from(from) };
        if let Err(error) = self.opener.request(Request::Play(play)) {
            let refusal = self.opener.lost(&error);
            return self.failed(&refusal).await;
        }
        (self.has_worked, self.is_sending) = (true, true);
        debug!(?order, "fetching");
        let mut seal_at = Instant::now() + SEAL;
        loop {
            let event = tokio::select! {
                event = self.opener.next_event() => Some(event),
                () = self.fill.bell.notified() => None,
                () = sleep(seal_at.saturating_duration_since(Instant::now())) => {
                    seal_at = Instant::now() + SEAL;
                    self.filling.cache().seal(self.filling.entry(), true);
                    None
                }
            };
            if let Some(turn) = self.fill.take_turn() {
                return self.turn(turn).await;
            }
            match event {
                Some(Ok(Event::Refused(refusal))) => {
                    self.filling.relay.counters.origin_errors.with_label_values(&["refused"]).inc();
                    self.opener.leave();
                    return self.failed(&refusal).await;
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let refusal = self.opener.lost(&error);
                    return self.lost(&refusal).await;
                }
                None if self.fill.has_order() => {
                    self.remember_place();
                    return After::Next;
                }
                None if !self.is_needed() => {
                    debug!("nobody needs more of it");
                    return After::Stop;
                }
                None => {}
            }
        }
    }

    /// Somebody waits for what this run brings, or more than is asked for may be fetched.
    fn is_needed(&mut self) -> bool {
        self.filling.readers() > 0 || self.filling.may_go_on(&mut self.background)
    }

    fn remember_place(&mut self) {
        if let Some(at) = self.fill.at() {
            self.next = at;
        }
    }

    async fn turn(&mut self, turn: Turn) -> After {
        debug!(?turn, "the run is over");
        self.remember_place();
        match turn {
            Turn::Known | Turn::Ended => {
                self.is_sending = turn == Turn::Known;
                self.failures = 0;
                self.filling.cache().seal(self.filling.entry(), false);
                self.filling.entry().ring();
                After::Next
            }
            Turn::Failed(refusal) => self.lost(&refusal).await,
            Turn::NoRoom => {
                let marks = self.filling.entry().marks();
                if !marks.gave_up && !marks.retired {
                    warn!("the disk does not keep up: passed through from here on");
                    self.filling.relay.counters.cache_errors.with_label_values(&["io"]).inc();
                    self.filling.entry().give_up();
                }
                self.filling.entry().ring();
                After::Stop
            }
            Turn::Impossible => {
                warn!("the origin sends what can't be of this content");
                self.opener.leave();
                let refusal = Refusal::new(Reason::Protocol, "the origin sends what can't be of this content");
                self.failed(&refusal).await
            }
        }
    }

    /// The session is gone in the middle of a run: the rest is asked for in another.
    async fn lost(&mut self, refusal: &Refusal) -> After {
        let before = self.next;
        self.remember_place();
        if self.next != before {
            self.failures = 0;
        }
        self.opener.leave();
        match self.failed(refusal).await {
            After::Again => {
                let at = self.next;
                if !self.fill.has_order() && !self.filling.entry().is_known(at) {
                    self.fill.order(Order::Packet(at));
                }
                After::Next
            }
            after => after,
        }
    }

    /// An attempt brought nothing: the next one, after a while, or the last.
    async fn failed(&mut self, refusal: &Refusal) -> After {
        self.failures += 1;
        if !self.is_needed() {
            return After::Stop;
        }
        if self.failures >= ATTEMPTS || !refusal.reason.is_worth_another_origin() {
            info!(reason = %Printable(refusal), "given up");
            self.fill.failed(refusal);
            self.filling.failed(refusal);
            return After::Stop;
        }
        debug!(reason = %Printable(refusal), "trying again");
        if self.failures > 1 {
            sleep(WAIT * (1 << self.failures.min(8))).await;
        }
        After::Again
    }

    /// A session at the origin. What is not this entry's content comes back.
    async fn open(&mut self) -> Result<Option<(Arc<Opened>, Box<Opener>)>, Refusal> {
        match self.opener.open(&self.filling.choice, None).await? {
            Reply::Opened(opened) if is_same(&opened, self.filling.entry().opened()) => {
                self.feed();
                Ok(None)
            }
            Reply::Opened(opened) => {
                let spare = self.filling.relay.shared_opener(&self.filling.rules);
                Ok(Some((opened, std::mem::replace(&mut self.opener, spare))))
            }
            Reply::Challenge(_) => {
                self.opener.leave();
                self.filling.entry().mark(|marks| marks.guarded = true);
                Err(Refusal::new(Reason::Origin, "the origin asks for credentials now"))
            }
            _ => {
                self.opener.leave();
                Err(Refusal::new(Reason::Lost, "the origin does not open it any more"))
            }
        }
    }

    fn feed(&mut self) {
        if let Some(session) = self.opener.session() {
            let way = Way { intake: Arc::clone(&self.intake), filling: Arc::clone(&self.filling) };
            session.upstream.feed(way);
        }
    }

    /// As fast as it gives, to its end; only origins of version 9 and later hear of it.
    fn burst(&self) -> Burst {
        const FAST: u32 = 1_000_000_000;
        let throttle = u32::try_from(self.filling.throttle.rate()).ok().filter(|rate| *rate > 0);
        let limit = self.filling.rules.settings.receive_rate(&self.filling.choice);
        let bits_per_second = limit.into_iter().chain(throttle).min().unwrap_or(FAST);
        Burst { bits_per_second, duration: Duration::from_millis(u32::MAX.into()) }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.filling.fill_is_over(&self.fill);
        self.filling.relay.drivers.send_modify(|drivers| *drivers -= 1);
    }
}

/// Whether two openings are of one content: header, attributes and packet count.
pub(super) fn is_same(now: &Opened, before: &Opened) -> bool {
    let said = |opened: &Opened| crate::session::Description { authenticated: false, ..opened.description.clone() };
    now.header.bytes() == before.header.bytes() && said(now) == said(before)
}
