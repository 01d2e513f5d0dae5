//! The client role toward one origin, `[MS-MMSP]` 3.1, with Data over TCP or UDP.
//!
//! It behaves as Windows Media Format 9 clients do, whatever the viewer behind it is: FunnelInfo is asked, streams are
//! always selected, plays are stopped before they move, and every end of a stream is reported.
//! After each input, drain the output until it says `Timeout`. Media come out beside it, in `media`, in order.

mod asking;
mod closing;
mod count;
mod data;
mod entries;
mod error;
mod incarnations;
mod logging;
mod messages;
mod opening;
mod order;
mod playing;
mod reading;
mod report;
mod requests;
mod selection;
mod state;
mod udp;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::error::ClientError;
use self::incarnations::Incarnations;
use self::order::Order;
use self::playing::Content;
use self::report::Received;
use self::state::State;
pub use self::udp::{Losses, Udp};
use crate::session::timers::Timers;
use crate::session::{AuthScheme, Credentials, Next, Opened, Refusal, Request, StreamChoice};
use crate::wire::mmsp::ids::{ClientId, FileId, PacketPairMode};
use crate::wire::mmsp::mac_to_viewer::Message;
use crate::wire::mmsp::subscriber_name::SubscriberName;
use crate::wire::mmsp::viewer_to_mac as out;

/// Requests that may wait for the origin; a server session never asks for more than two ahead.
const MAX_QUEUE: usize = 32;

/// How a client session behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we say we are.
    pub name: SubscriberName,
    /// Time for each answer.
    pub reply: Duration,
    /// Time without media while streaming.
    pub stall: Duration,
    /// The largest ASF file header that is taken, bytes.
    pub max_header: usize,
    /// The player reports by itself, so we report only what it leaves out.
    pub player_reports: bool,
    /// Reports come from many players, and all of them go on as they are, beside our own.
    pub relays_reports: bool,
    /// Data packets are wanted over UDP; where the origin says no, they come over TCP.
    pub udp: Option<Udp>,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Input {
    /// The origin sent a message.
    Received(Message),
    /// Somebody above wants something.
    Request(Request),
    /// A deadline has come.
    Timeout,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the origin.
    Send(Bytes),
    /// A datagram for the origin's UDP port, which has the number of its TCP port.
    SendDatagram(Bytes),
    /// Something to be told above.
    Event(Event),
    /// Nothing more until an input, or until this deadline.
    Timeout(Option<Instant>),
}

/// What the origin answered.
#[derive(Clone, Debug)]
pub enum Event {
    /// It speaks the protocol.
    Connected {
        /// The scheme that it would challenge with; `None` where it will not.
        scheme: Option<AuthScheme>,
        /// Its version.
        version: String,
    },
    /// The content is open and its header is here.
    Opened(Arc<Opened>),
    /// Credentials, please; the connection stays.
    Challenge(Credentials),
    /// It is elsewhere. The session is over.
    Redirect {
        /// Another server (1) or another proxy (2).
        kind: u16,
        /// A URL; empty means "without a proxy".
        location: String,
    },
    /// Media begin.
    Playing,
    /// The request fails; the origin said so.
    Refused(Refusal),
    /// All is said; the connection can be closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Timer {
    Reply,
    Stall,
    /// The header did not come over UDP, 3.1.2.
    Header,
    /// A packet over UDP is to be asked for or given up.
    Order,
}

const TIMERS: [Timer; 4] = [Timer::Reply, Timer::Stall, Timer::Header, Timer::Order];

/// The client role of one session.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    state: State,
    content: Option<Content>,
    server_major: u32,
    scheme: AuthScheme,
    file_id: FileId,
    was_challenged: bool,
    incarnations: Incarnations,
    /// Requests that wait for their turn.
    queue: VecDeque<Request>,
    /// StreamSwitch without an answer: choices wait while there is one.
    switches_out: u32,
    choices: Vec<StreamChoice>,
    /// The play that Stop just ended: a late EndOfStream for it says nothing about the next.
    last_incarnation: u8,
    timers: Timers<Timer, { TIMERS.len() }>,
    outputs: VecDeque<Output>,
    packet_seq: u16,
    is_paused: bool,
    /// A play that is over, since when, and that the player has not reported yet.
    unreported: Option<(Instant, Received)>,
    /// The name that was opened, for the report.
    name: String,
    /// We reported in the player's stead; its own report is still to come.
    late_report: bool,
    /// What a resend request must show, 2.2.5.
    client_id: ClientId,
    /// Packets over UDP; `None` where Data come over TCP.
    order: Option<Order>,
    /// Media have come over UDP: it works.
    has_media: bool,
    dropped: u64,
}

impl Client {
    /// A session on a connection that was just made: Connect goes out first.
    pub fn new(now: Instant, settings: Settings) -> Self {
        let name = settings.name.clone();
        let mut client = Self {
            settings,
            state: State::AwaitConnected,
            content: None,
            server_major: 0,
            scheme: AuthScheme::Ntlm,
            file_id: FileId(0),
            was_challenged: false,
            incarnations: Incarnations::new(),
            queue: VecDeque::new(),
            switches_out: 0,
            choices: Vec::new(),
            last_incarnation: 0,
            timers: Timers::new(TIMERS),
            outputs: VecDeque::new(),
            packet_seq: 0,
            is_paused: false,
            unreported: None,
            name: String::new(),
            late_report: false,
            client_id: ClientId::default(),
            order: None,
            has_media: false,
            dropped: 0,
        };
        // Packet-pair through a proxy would measure one hop only, so it is never asked for.
        client.send(out::Connect { play_incarnation: PacketPairMode::DISABLE, subscriber_name: name });
        client.await_reply(now);
        client
    }

    /// Data are asked for over UDP when content is opened next; `None` is TCP.
    pub fn set_udp(&mut self, udp: Option<Udp>) {
        self.settings.udp = udp;
    }

    /// Takes what happened. Media that it ends or moves are appended to `media`.
    pub fn handle_input(&mut self, now: Instant, input: Input, media: &mut Vec<Next>) -> Result<(), ClientError> {
        if matches!(self.state, State::Closed) {
            if matches!(input, Input::Request(Request::Close)) {
                self.event(Event::Closed);
            }
            return Ok(());
        }
        match input {
            Input::Received(message) => self.handle_message(now, message, media)?,
            Input::Request(Request::Close) => {
                // Nothing is asked of an origin that nobody waits for any more.
                self.queue.retain(|request| matches!(request, Request::Log(_)));
                self.queue.push_back(Request::Close);
            }
            Input::Request(request) => {
                if self.queue.len() < MAX_QUEUE {
                    self.queue.push_back(request);
                }
            }
            Input::Timeout => {
                while let Some(timer) = self.timers.take_due(now) {
                    self.handle_timer(now, timer, media)?;
                }
            }
        }
        self.work_off_queue(now);
        self.order_moved(now, media)
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.timers.next()))
    }

    /// The driver stopped reading because nobody takes the media, or reads again: silence is no stall then.
    pub fn set_paused(&mut self, now: Instant, is_paused: bool) {
        if self.is_paused == is_paused {
            return;
        }
        self.is_paused = is_paused;
        match self.state {
            State::Streaming(_) | State::BetweenEntries { .. } if is_paused => self.timers.stop(Timer::Stall),
            State::Streaming(_) | State::BetweenEntries { .. } => self.await_media(now),
            State::NextHeader { .. } if is_paused => {
                self.timers.stop(Timer::Reply);
                self.timers.stop(Timer::Header);
            }
            State::NextHeader { ref reading, .. } if self.order.is_some() && !reading.is_whole() => {
                self.timers.start(Timer::Header, now, reading.period());
            }
            State::NextHeader { .. } if self.order.is_some() => {}
            State::NextHeader { .. } => self.await_reply(now),
            _ => {}
        }
    }

    /// Whether the header of the next entry is on its way.
    pub fn is_between_entries(&self) -> bool {
        matches!(self.state, State::BetweenEntries { .. } | State::NextHeader { .. })
    }

    /// Whether the session waits for nothing but the next request.
    pub fn is_greeted(&self) -> bool {
        matches!(self.state, State::Greeted)
    }

    /// Whether media may come.
    pub fn is_streaming(&self) -> bool {
        matches!(
            self.state,
            State::Streaming(_) | State::BetweenEntries { .. } | State::NextHeader { .. } | State::Settling { .. }
        )
    }

    fn await_reply(&mut self, now: Instant) {
        self.timers.start(Timer::Reply, now, self.settings.reply);
    }

    fn await_media(&mut self, now: Instant) {
        if !self.is_paused {
            self.timers.start(Timer::Stall, now, self.settings.stall);
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Every message in a packet of its own, 3.1.5.1.
    fn send(&mut self, message: impl Into<out::Message>) {
        let mut bytes = Vec::with_capacity(128);
        message.into().encode(self.packet_seq, &mut bytes);
        self.packet_seq = self.packet_seq.wrapping_add(1);
        self.outputs.push_back(Output::Send(bytes.into()));
    }
}

#[cfg(test)]
mod tests;
