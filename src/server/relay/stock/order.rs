//! What a session that fetches is told to fetch, and how far it has come.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::asf::PacketNumber;
use crate::session::Refusal;

/// What is to be fetched next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// From this packet on.
    Packet(PacketNumber),
    /// From where the origin begins for this time, without the preroll.
    Time(Duration),
    /// Nothing any more.
    Leave,
}

/// One session that fetches, as others see it.
#[derive(Debug)]
pub(super) struct Fill {
    state: Mutex<State>,
    /// Rung for the session's driver.
    pub(super) bell: Notify,
    begun: watch::Sender<Begun>,
}

/// How a run from a time began.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Begun {
    /// Not yet.
    No,
    /// With this packet.
    At(PacketNumber),
    /// Not at all.
    Failed(Refusal),
}

#[derive(Debug)]
struct State {
    /// What the driver has not taken up yet.
    order: Option<Order>,
    /// What it works on.
    current: Option<Order>,
    /// The next packet that is expected.
    at: Option<PacketNumber>,
    /// The first packet of the run: when it came, and its send time.
    first: Option<(Instant, u32)>,
    last_ms: u32,
    packets: u64,
    /// When a viewer last waited for what comes next.
    followed: Instant,
    /// What the driver has to do.
    turn: Option<Turn>,
}

/// Why a run is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Turn {
    /// What follows is known.
    Known,
    /// The origin ended it.
    Ended,
    /// The origin broke it off.
    Failed(Refusal),
    /// Nothing can be stored.
    NoRoom,
    /// The origin sends what can't be of this content.
    Impossible,
}

impl Fill {
    pub(super) fn new(now: Instant, order: Option<Order>) -> Self {
        let state =
            State { order, current: None, at: None, first: None, last_ms: 0, packets: 0, followed: now, turn: None };
        Self { state: Mutex::new(state), bell: Notify::new(), begun: watch::Sender::new(Begun::No) }
    }

    /// Tells it what to fetch next, whatever it does now.
    pub(super) fn order(&self, order: Order) {
        let mut state = self.state.lock();
        // Nothing comes after a farewell.
        if state.order != Some(Order::Leave) {
            state.order = Some(order);
        }
        self.begun.send_replace(Begun::No);
        drop(state);
        self.bell.notify_one();
    }

    /// Takes up what it was told.
    pub(super) fn take_order(&self) -> Option<Order> {
        let mut state = self.state.lock();
        let order = state.order.take();
        if order.is_some() {
            state.current = order;
            state.at = if let Some(Order::Packet(number)) = order { Some(number) } else { None };
        }
        order
    }

    /// Whether it was told something that it has not taken up.
    pub(super) fn has_order(&self) -> bool {
        self.state.lock().order.is_some()
    }

    /// A run begins.
    pub(super) fn begin(&self, order: Order) {
        let mut state = self.state.lock();
        state.current = Some(order);
        state.at = if let Order::Packet(number) = order { Some(number) } else { None };
        (state.first, state.packets, state.turn) = (None, 0, None);
    }

    /// The run is over.
    pub(super) fn rest(&self) {
        let mut state = self.state.lock();
        (state.current, state.at) = (None, None);
    }

    /// A packet came.
    pub(super) fn came(&self, now: Instant, number: PacketNumber, send_time_ms: u32) {
        let mut state = self.state.lock();
        if state.packets == 0 {
            state.first = Some((now, send_time_ms));
            self.begun.send_if_modified(|begun| {
                *begun = Begun::At(number);
                true
            });
        }
        state.packets += 1;
        state.last_ms = send_time_ms;
        state.at = Some(PacketNumber(number.0.saturating_add(1)));
    }

    /// Nothing comes of what it was told.
    pub(super) fn failed(&self, refusal: &Refusal) {
        self.begun.send_replace(Begun::Failed(refusal.clone()));
    }

    /// How the last order began.
    pub(super) fn begun(&self) -> watch::Receiver<Begun> {
        self.begun.subscribe()
    }

    /// Tells the driver why the run is over.
    pub(super) fn turn(&self, turn: Turn) {
        let mut state = self.state.lock();
        state.turn.get_or_insert(turn);
        drop(state);
        self.bell.notify_one();
    }

    pub(super) fn take_turn(&self) -> Option<Turn> {
        self.state.lock().turn.take()
    }

    /// Where it will go on, or is.
    pub(super) fn at(&self) -> Option<PacketNumber> {
        let state = self.state.lock();
        match state.order {
            Some(Order::Packet(number)) => Some(number),
            Some(Order::Time(_) | Order::Leave) => None,
            None => state.at,
        }
    }

    /// Whether it is on its way to the place of that very time.
    pub(super) fn is_sought(&self, time: Duration) -> bool {
        let state = self.state.lock();
        let sought = Some(Order::Time(time));
        state.order == sought || state.order.is_none() && state.current == sought && state.packets == 0
    }

    /// Whether it has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.order.is_none() && state.current.is_none()
    }

    /// Whether it was told to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.state.lock().order == Some(Order::Leave)
    }

    /// A viewer waits for what comes next.
    pub(super) fn follow(&self, now: Instant) {
        self.state.lock().followed = now;
    }

    /// Whether no viewer has waited for it for a while.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        const WHILE: Duration = Duration::from_secs(2);
        now.saturating_duration_since(self.state.lock().followed) > WHILE
    }

    /// Packets that come in a second, as far as this run has shown.
    pub(super) fn packets_per_second(&self, now: Instant) -> Option<f64> {
        let state = self.state.lock();
        let (since, _) = state.first?;
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        (seconds > 0.2).then(|| state.packets as f64 / seconds)
    }

    /// How far it is behind a player that plays what it fetches.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        let state = self.state.lock();
        let Some((since, first_ms)) = state.first else { return Duration::ZERO };
        let content = Duration::from_millis(state.last_ms.saturating_sub(first_ms).into());
        now.saturating_duration_since(since).saturating_sub(content)
    }
}
