//! The client role toward one origin over TCP, `[MS-MMSP]` 3.1.
//!
//! It behaves as Windows Media Format 9 clients do, whatever the viewer behind it is: FunnelInfo is asked, streams are
//! always selected, plays are stopped before they move, and every end of a stream is reported.
//! After each input, drain the output until it says `Timeout`. Media come out beside it, in `media`, in order.

mod entries;
mod error;
mod incarnations;
mod logging;
mod messages;
mod opening;
mod playing;
mod report;
mod requests;
mod selection;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::error::ClientError;
use self::incarnations::Incarnations;
use self::opening::{HEADER_END, append};
use self::playing::Content;
use self::report::Received;
use self::state::State;
use crate::asf::{Packet as AsfPacket, PacketNumber};
use crate::session::timers::Timers;
use crate::session::{AuthScheme, Credentials, Next, Opened, Packet, Refusal, Request, StreamChoice};
use crate::wire::mmsp::data::Data;
use crate::wire::mmsp::ids::{FileId, Incarnation, PacketPairMode};
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
}

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
    timers: Timers<Timer, 2>,
    outputs: VecDeque<Output>,
    packet_seq: u16,
    is_paused: bool,
    /// A play that is over, since when, and that the player has not reported yet.
    unreported: Option<(Instant, Received)>,
    /// The name that was opened, for the report.
    name: String,
    /// We reported in the player's stead; its own report is still to come.
    late_report: bool,
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
            timers: Timers::new([Timer::Reply, Timer::Stall]),
            outputs: VecDeque::new(),
            packet_seq: 0,
            is_paused: false,
            unreported: None,
            name: String::new(),
            late_report: false,
        };
        // Packet-pair through a proxy would measure one hop only, so it is never asked for.
        client.send(out::Connect { play_incarnation: PacketPairMode::DISABLE, subscriber_name: name });
        client.await_reply(now);
        client
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
                    self.handle_timer(timer, media)?;
                }
            }
        }
        self.work_off_queue(now);
        Ok(())
    }

    /// Takes a Data packet: a piece of a header, or media, which is appended to `media` without a copy.
    pub fn handle_data(&mut self, now: Instant, data: Data, media: &mut Vec<Next>) -> Result<(), ClientError> {
        let number = data.play_incarnation.get();
        match &mut self.state {
            State::AwaitHeader { incarnation, bytes, .. } if number == *incarnation => {
                append(bytes, &data, self.settings.max_header)?;
                if data.af_flags & HEADER_END != 0 {
                    self.header_complete()?;
                    self.work_off_queue(now);
                } else {
                    self.await_more(now, &data);
                }
            }
            State::NextHeader { bytes, .. } => {
                // The number is 0xFF by the text; nothing but the header can come here, so it is not asked for.
                append(bytes, &data, self.settings.max_header)?;
                if data.af_flags & HEADER_END != 0 {
                    self.next_entry(now, media)?;
                } else {
                    self.await_more(now, &data);
                }
            }
            State::Streaming(play)
                if number == play.incarnation
                    || play.takes_unrequested && data.play_incarnation == Incarnation::UNREQUESTED =>
            {
                let limit = self.content.as_ref().map_or(0, |content| content.header.packet_size());
                if data.payload.len() > limit {
                    return Err(ClientError::OversizedPacket { size: data.payload.len(), limit });
                }
                play.received.count(data.payload.len());
                // A packet that can't be parsed still passes: protected content is none of our business.
                if let Ok(packet) = AsfPacket::parse(&data.payload) {
                    play.last_send_time = packet.send_time_ms();
                }
                media.push(Next::from(Packet::new(
                    PacketNumber(data.location_id.0.into()),
                    play.last_send_time,
                    data.payload.clone(),
                    data.payload,
                )));
                self.await_media(now);
            }
            // Data of a play that is over, packet-pair packets nobody asked for: tolerated, 3.1.5.
            _ => {}
        }
        Ok(())
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
            State::NextHeader { .. } if is_paused => self.timers.stop(Timer::Reply),
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
        matches!(self.state, State::Streaming(_) | State::BetweenEntries { .. } | State::NextHeader { .. })
    }

    fn await_reply(&mut self, now: Instant) {
        self.timers.start(Timer::Reply, now, self.settings.reply);
    }

    /// A header of several pieces may come no faster than the bit rate: each piece has the time of an answer.
    fn await_more(&mut self, now: Instant, data: &Data) {
        if !self.is_paused && !data.payload.is_empty() {
            self.await_reply(now);
        }
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
