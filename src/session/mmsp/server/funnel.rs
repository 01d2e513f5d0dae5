//! The way of Data packets: over the connection, or as datagrams to a port that the viewer named, `[MS-MMSP]` 3.2.5.5; and
//! what is kept of a viewer on UDP alone.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use super::resend_buffer::ResendBuffer;
use super::settings::Udp;
use super::state::State;
use super::{Closing, Output, Session};
use crate::session::bucket::Bucket;
use crate::session::timers::Timers;
use crate::session::{Pace, Refusal};
use crate::wire::mmsp::data::HEADER_LEN;
use crate::wire::mmsp::funnel_name::{FunnelName, Protocol};
use crate::wire::mmsp::ids::HResult;
use crate::wire::mmsp::mac_to_viewer as out;
use crate::wire::mmsp::viewer_to_mac::ConnectFunnel;

/// The longest payload of a datagram over IPv4, bytes.
pub(super) const MAX_DATAGRAM: usize = 65_507;
/// No port below is a player's, and what listens there may answer.
const FIRST_PORT: u16 = 1024;
/// Ports that a session may ask for one after the other: each begins with a bucket of its own, and must not be a way
/// around what the one before allowed.
const MAX_FUNNELS: u8 = 8;
/// What a datagram may take longer than a message that follows it on TCP.
const SETTLES: Duration = Duration::from_millis(200);

/// Where Data packets go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Funnel {
    /// Over the connection.
    Tcp,
    /// To this port of the connection's other end.
    Udp(NonZeroU16),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Timer {
    /// The viewer was silent for long.
    Silence,
    /// The last datagram has arrived, and StopPlaying can be answered.
    Settled,
    /// What was sent last is too old to be sent again.
    Forget,
}

const TIMERS: [Timer; 3] = [Timer::Silence, Timer::Settled, Timer::Forget];

/// What a viewer on UDP has, and others have not.
#[derive(Debug)]
pub(super) struct UdpFunnel {
    pub(super) port: NonZeroU16,
    pub(super) timers: Timers<Timer, { TIMERS.len() }>,
    pub(super) sent: ResendBuffer,
    /// What media may leave now.
    media: Bucket,
    /// What media leave at most, bytes a second, and at once.
    most: f64,
    at_once: f64,
    /// When it had its last turn.
    turn: Option<Instant>,
    /// What may go out again.
    pub(super) budget: Bucket,
    /// When the last datagram of media left.
    last: Option<Instant>,
    /// When the headers that went out have been paid for.
    pub(super) header_free: Option<Instant>,
    /// A StopPlaying that is answered when the last datagram has arrived: its number.
    stopping: Option<u32>,
}

impl UdpFunnel {
    fn new(port: NonZeroU16, settings: &Udp) -> Self {
        Self {
            port,
            timers: Timers::new(TIMERS),
            sent: ResendBuffer::new(settings.resend_window),
            media: Bucket::new(0.0, 0.0),
            most: 0.0,
            at_once: 0.0,
            turn: None,
            budget: Bucket::new(0.0, 0.0),
            last: None,
            header_free: None,
            stopping: None,
        }
    }

    /// A play or an entry begins: content of `bit_rate` bit/s, played at `rate`.
    ///
    /// Twice its bit rate is the most that leaves, whatever its source says, so that a burst does not run over the small
    /// buffers of players; what leaves at once is what that carries in the time from one turn to the next.
    pub(super) fn begin(&mut self, settings: &Udp, bit_rate: u32, rate: f64, packet_size: usize) {
        let largest = packet_size.saturating_add(HEADER_LEN);
        let real_time = f64::from(bit_rate.max(1)) / 8.0;
        let most = real_time * 2.0 * rate.abs().max(1.0);
        let at_once = settings.max_burst.saturating_sub(largest) as f64;
        (self.most, self.at_once) = (most, at_once);
        self.media.resize(most, self.in_turn(settings.flush));
        let again = real_time * f64::from(settings.resend_budget.min(100)) / 100.0;
        self.budget.resize(again, again.max(largest as f64));
    }

    /// The viewer has a turn. One that comes late under load sends what the time since the last one carries, or the viewer
    /// would fall behind.
    pub(super) fn turn(&mut self, now: Instant, settings: &Udp) {
        let since = self.turn.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let turn = since.min(settings.flush_max).max(settings.flush);
        self.media.resize(self.most, self.in_turn(turn));
    }

    fn in_turn(&self, turn: Duration) -> f64 {
        let bytes = self.most * turn.as_secs_f64();
        // Content whose turns carry more than is to leave at once has no other time for it.
        bytes.min(self.at_once.max(bytes * 0.6))
    }

    /// When a packet of `bytes` bytes may leave that is due at `due`. Asked once for each packet, in order.
    pub(super) fn due(&mut self, now: Instant, due: Instant, bytes: usize) -> Instant {
        self.media.due(due.max(now), bytes.saturating_add(HEADER_LEN))
    }

    /// A datagram of media leaves.
    pub(super) fn leaves(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// When all that left will have arrived; `None` where it has.
    pub(super) fn settled_at(&self, now: Instant) -> Option<Instant> {
        self.last?.checked_add(SETTLES).filter(|at| *at > now)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Puts the answer to a StopPlaying off until all has arrived; `false` where it has.
    pub(super) fn puts_off(&mut self, now: Instant, play_incarnation: u32) -> bool {
        let Some(at) = self.settled_at(now) else { return false };
        self.stopping = Some(play_incarnation);
        self.timers.start(Timer::Settled, at, Duration::ZERO);
        true
    }

    /// Nothing more is sent for now: what was sent is kept for its time, and no longer.
    pub(super) fn pause(&mut self) {
        if let Some(at) = self.sent.forgotten_at() {
            self.timers.start(Timer::Forget, at, Duration::ZERO);
        }
    }
}

/// Media by send time leave over UDP in steps of a turn: those of a second are a lump.
pub(super) fn in_steps(pace: Pace, most: Duration) -> Pace {
    match pace {
        Pace::SendTime { rate, burst, step } => Pace::SendTime { rate, burst, step: step.min(most) },
        pace => pace,
    }
}

impl Session {
    /// Where Data packets go now.
    pub fn funnel(&self) -> Funnel {
        self.udp.as_ref().map_or(Funnel::Tcp, |udp| Funnel::Udp(udp.port))
    }

    pub(super) fn connect_funnel(&mut self, now: Instant, funnel: &ConnectFunnel) {
        // The address in the name is a constant lie of every free player: only protocol and port matter.
        match funnel.funnel_name.parse::<FunnelName>() {
            Ok(FunnelName { protocol: Protocol::Tcp, .. }) => {
                if self.udp.take().is_some() {
                    self.outputs.push_back(Output::Funnel(None));
                }
                self.funnel_connected(now);
            }
            Ok(FunnelName { protocol: Protocol::Udp, port, .. })
                if self.settings.udp.is_some() && port >= FIRST_PORT && self.funnels < MAX_FUNNELS =>
            {
                self.funnels += 1;
                self.claim = NonZeroU16::new(port);
                self.outputs.push_back(Output::Funnel(self.claim));
            }
            _ => self.funnel_refused(now),
        }
    }

    /// The driver has the port for us, or has not.
    pub(super) fn funnel_claimed(&mut self, now: Instant, result: Result<(), Refusal>) {
        let (Some(port), Some(settings)) = (self.claim.take(), &self.settings.udp) else { return };
        if result.is_err() {
            self.funnel_refused(now);
            return;
        }
        match &mut self.udp {
            Some(udp) => udp.port = port,
            None => self.udp = Some(Box::new(UdpFunnel::new(port, settings))),
        }
        self.begin_udp();
        self.restart_silence(now);
        self.funnel_connected(now);
    }

    fn funnel_connected(&mut self, now: Instant) {
        if matches!(self.state, State::AwaitConnectFunnel) {
            self.state = State::AwaitOpenFile;
        }
        self.send(now, out::ReportConnectedFunnel { hr: HResult::S_OK });
    }

    /// The player may ask for the other way now. What was there before stays.
    fn funnel_refused(&mut self, now: Instant) {
        if matches!(self.state, State::AwaitOpenFile) {
            self.state = State::AwaitConnectFunnel;
        }
        self.send(now, out::ReportDisconnectedFunnel { hr: HResult::NS_E_NOFUNNEL });
    }

    /// How fast datagrams may leave is set by what plays.
    pub(super) fn begin_udp(&mut self) {
        if let (State::Streaming(content, media), Some(udp), Some(settings)) =
            (&self.state, &mut self.udp, &self.settings.udp)
        {
            udp.begin(settings, content.bit_rate(), media.rate(), content.header.packet_size());
        }
    }

    pub(super) fn restart_silence(&mut self, now: Instant) {
        if let (true, Some(udp), Some(settings)) = (self.has_started, &mut self.udp, &self.settings.udp) {
            udp.timers.start(Timer::Silence, now, settings.silence);
        }
    }

    pub(super) fn handle_udp_timer(&mut self, now: Instant, timer: Timer) {
        let Some(udp) = &mut self.udp else { return };
        match timer {
            Timer::Silence => self.close(Closing::Silent),
            Timer::Settled => {
                if let Some(play_incarnation) = udp.stopping.take() {
                    self.send(now, out::ReportEndOfStream { hr: HResult::S_OK, play_incarnation });
                }
            }
            Timer::Forget => udp.sent.forget(now),
        }
    }
}
