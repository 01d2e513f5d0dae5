//! The server role toward one viewer, `[MS-MMSP]` 3.2: messages over TCP, Data packets over TCP or UDP.
//!
//! Three ways in ([`Input`]), three ways out ([`Output`]), one rule: after each input, drain the output until it says
//! `Timeout`. Media takes the wider road of [`Session::poll_media`].

mod clocks;
mod content;
mod frame;
mod funnel;
mod header;
mod media;
mod opening;
mod packet_pair;
mod playing;
mod replies;
mod resend;
mod resend_buffer;
mod selection;
mod settings;
mod state;
mod turn;

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::clocks::{TIMERS, Timer};
pub use self::funnel::Funnel;
use self::funnel::UdpFunnel;
pub use self::media::Skip;
use self::media::{Frames, Progress};
pub use self::resend::ResendRefusal;
pub use self::settings::{Settings, Udp};
use self::state::State;
use super::hresult;
use super::player::Player;
use crate::session::batch::Batch;
use crate::session::timers::Timers;
use crate::session::{AuthScheme, End, Opened, Refusal, Reply, Request};
use crate::wire::codec::DecodeError;
use crate::wire::mmsp::ids::{ClientId, Sequence};
use crate::wire::mmsp::mac_to_viewer as out;
use crate::wire::mmsp::viewer_to_mac::Message;

/// Messages that may wait while the source is asked; no player sends more than two ahead.
const MAX_BACKLOG: usize = 16;

/// What happens to a session.
#[derive(Debug)]
pub enum Input {
    /// The viewer sent a message.
    Received(Message),
    /// The source answered.
    Reply(Reply),
    /// The answer to [`Output::Funnel`] with a port.
    Funnel(Result<(), Refusal>),
    /// A deadline has come.
    Timeout,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the viewer.
    Send(Bytes),
    /// One datagram for the viewer's port; one that can't be sent now may be dropped.
    SendDatagram(Bytes),
    /// The viewer wants datagrams at this port of its own address, which nobody else may have: to be answered at once by
    /// [`Input::Funnel`]. What it had before stays until the answer is yes. `None`: no more datagrams, and no answer. The
    /// end of the session says as much.
    Funnel(Option<NonZeroU16>),
    /// A question to the source.
    Request(Request),
    /// Send what is left, then close the connection.
    Close(Closing),
    /// Nothing more until an input, or until this deadline.
    Timeout(Option<Instant>),
}

/// Why a session closes its connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Closing {
    /// CloseFile.
    #[error("closed by the player")]
    Finished,
    /// The player took too long before it had the header.
    #[error("no request in time while {0}")]
    Handshake(&'static str),
    /// No credentials came.
    #[error("no answer to the login prompt in time")]
    Login,
    /// Nothing was played for long.
    #[error("idle")]
    Idle,
    /// No word came for long from a viewer on UDP, which may be gone without a trace.
    #[error("nothing heard of the player, which gets datagrams")]
    Silent,
    /// The broadcast is over and was said to be.
    #[error("the broadcast ended")]
    BroadcastEnded,
    /// Refused; the player has the code.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The player was sent elsewhere.
    #[error("redirected to {0}")]
    Redirected(String),
}

/// What a viewer may not do. The session ends.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// A message that has no place here.
    #[error("{message} while {state} ([MS-MMSP] 3.2.5)")]
    OutOfTurn {
        /// Its name.
        message: &'static str,
        /// Where the session stands.
        state: &'static str,
    },
    /// More requests than a player has reason to send before it reads the answers.
    #[error("more than {MAX_BACKLOG} messages wait for an answer of the source")]
    Backlog,
    /// Bytes that are no message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The server role of one session.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    client_id: ClientId,
    player: Player,
    scheme: Option<AuthScheme>,
    /// A packet pair was asked for at Connect.
    wants_pair: bool,
    /// Two datagrams of one go before each header.
    wants_udp_pair: bool,
    /// The port that was asked for and is not answered for yet.
    claim: Option<NonZeroU16>,
    /// How many ports were asked for.
    funnels: u8,
    udp: Option<Box<UdpFunnel>>,
    state: State,
    timers: Timers<Timer, { TIMERS.len() }>,
    /// What is left of `settings.handshake`, and since when the viewer is letting it pass.
    handshake: (Duration, Option<Instant>),
    /// None before the first ReportStartedPlaying: a Ping in the handshake stalls VLC.
    has_started: bool,
    /// Why the last play broke.
    failure: Option<Box<Refusal>>,
    backlog: VecDeque<Message>,
    outputs: VecDeque<Output>,
    packet_seq: u16,
    sequence: Sequence,
    cookie: u32,
    /// A jump that nobody was told of yet.
    skip: Option<Skip>,
    /// Close was put out, or an error ended the session: nothing that comes after it counts.
    is_over: bool,
}

impl Session {
    /// A session that waits for Connect. `client_id` is what a resend request must name: unpredictable.
    pub fn new(now: Instant, settings: impl Into<Arc<Settings>>, client_id: ClientId) -> Self {
        let settings = settings.into();
        let mut session = Self {
            handshake: (settings.handshake, None),
            settings,
            client_id,
            player: Player::default(),
            scheme: None,
            wants_pair: false,
            wants_udp_pair: false,
            claim: None,
            funnels: 0,
            udp: None,
            state: State::AwaitConnect,
            timers: Timers::new(TIMERS),
            has_started: false,
            failure: None,
            backlog: VecDeque::new(),
            outputs: VecDeque::new(),
            packet_seq: 0,
            sequence: Sequence::ZERO,
            cookie: 0,
            skip: None,
            is_over: false,
        };
        session.viewers_turn(now);
        session
    }

    /// Takes what happened. An error ends the session, after what is left to send.
    pub fn handle_input(&mut self, now: Instant, input: Input) -> Result<(), SessionError> {
        if self.is_over {
            return Ok(());
        }
        let result = self.take_input(now, input);
        if result.is_err() {
            self.finish();
        }
        result
    }

    fn take_input(&mut self, now: Instant, input: Input) -> Result<(), SessionError> {
        match input {
            Input::Received(message) => {
                // 3.2.5.1 stops the timer here and only a message starts it again, so that at most one Ping would ever
                // go out; it is started anew by control packets of both directions.
                self.restart_keep_alive(now);
                self.restart_silence(now);
                self.handle_message(now, message)?;
            }
            Input::Reply(reply) => self.handle_reply(now, reply),
            Input::Funnel(result) => self.funnel_claimed(now, result),
            Input::Timeout => {
                while let Some(timer) = self.timers.take_due(now) {
                    self.handle_timer(now, timer);
                }
                while let Some(timer) = self.udp.as_mut().and_then(|udp| udp.timers.take_due(now)) {
                    self.handle_udp_timer(now, timer);
                }
            }
        }
        self.work_off_backlog(now)
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| {
            // An empty queue keeps no room: a session that streams puts nothing out for hours.
            self.outputs = VecDeque::new();
            let of_udp = self.udp.as_ref().and_then(|udp| udp.timers.next());
            Output::Timeout(self.timers.next().into_iter().chain(of_udp).min())
        })
    }

    /// Frames what is due at `now` until a batch holds `limit` bytes: selection, thinning, pace, 8 bytes of header each,
    /// and the messages that belong between packets, in their place. Over UDP packets go into `datagrams`, a piece each,
    /// and all else into `batch`. Returns when the next packet is due; `None` where nothing is there to be sent. What the
    /// output still holds goes before any media.
    pub fn poll_media(
        &mut self,
        now: Instant,
        limit: usize,
        batch: &mut Batch,
        datagrams: &mut Batch,
    ) -> Option<Instant> {
        if !self.outputs.is_empty() {
            return None;
        }
        let State::Streaming(content, media) = &mut self.state else { return None };
        if let (Some(udp), Some(settings)) = (&mut self.udp, &self.settings.udp) {
            udp.turn(now, settings);
        }
        let mut writer = Frames {
            batch,
            datagrams,
            funnel: self.udp.as_deref_mut(),
            packet_seq: &mut self.packet_seq,
            sequence: &mut self.sequence,
            settings: &self.settings,
            player: &self.player,
            skip: &mut self.skip,
        };
        match media.poll(now, limit, content, &mut writer) {
            Progress::Due(at) => Some(at),
            Progress::Nothing => None,
            Progress::Ended(end) => {
                self.end_of_stream_sent(now, end);
                None
            }
            Progress::Abandoned(refusal) => {
                self.outputs.push_back(Output::Request(Request::Stop));
                self.end_of_stream_sent(now, End::Failed(refusal));
                None
            }
        }
    }

    /// Takes the jump that the last [`Session::poll_media`] led to, for the viewer was too slow.
    pub fn take_skip(&mut self) -> Option<Skip> {
        self.skip.take()
    }

    /// Whether whoever drives this is told when there is more after [`Session::poll_media`] had nothing.
    pub fn is_announced(&self) -> bool {
        matches!(&self.state, State::Streaming(_, media) if media.is_announced())
    }

    /// Whether media may be asked for.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming(..))
    }

    /// The open content; `None` before the viewer was told of it.
    pub fn opened(&self) -> Option<&Arc<Opened>> {
        self.state.content().map(|content| &content.opened)
    }

    /// Why the last play broke; `None` while one is on, and where it ended well.
    pub fn failure(&self) -> Option<&Refusal> {
        self.failure.as_deref()
    }

    /// `nCubs`: what a resend request names the session by.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// Whether the player takes part as WMS 4.x does, which wants padding left in.
    pub fn wants_padding(&self) -> bool {
        self.player.is_wms4()
    }

    /// Ends the session from outside: a viewer that is streaming is told by EndOfStream, for VLC takes a bare close for
    /// a fault of the network and waits 20 s.
    pub fn end(&mut self, now: Instant, refusal: Refusal) {
        if self.is_over {
            return;
        }
        let hr = hresult(&refusal);
        match &self.state {
            State::Streaming(_, media) => {
                let play_incarnation = media.play_incarnation;
                self.send(now, out::ReportEndOfStream { hr, play_incarnation });
                self.outputs.push_back(Output::Request(Request::Stop));
            }
            State::Greeting | State::Opening { .. } | State::Starting(..) => {
                self.handle_reply(now, Reply::Refused(refusal.clone()));
            }
            _ => {}
        }
        self.close(Closing::Refused(refusal));
    }

    fn ask(&mut self, now: Instant, request: Request, state: State) {
        self.sources_turn(now);
        self.state = state;
        self.outputs.push_back(Output::Request(request));
    }

    fn send(&mut self, now: Instant, message: impl Into<out::Message>) {
        let bytes = encode(&message.into(), &mut self.packet_seq);
        self.outputs.push_back(Output::Send(bytes));
        self.restart_keep_alive(now);
    }

    fn close(&mut self, why: Closing) {
        if !self.is_over {
            self.outputs.push_back(Output::Close(why));
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.is_over = true;
        self.state = State::Closed;
        self.backlog.clear();
        self.timers = Timers::new(TIMERS);
        (self.claim, self.udp) = (None, None);
    }
}

/// One message in a packet of its own, with the next number.
fn encode(message: &out::Message, packet_seq: &mut u16) -> Bytes {
    let mut bytes = Vec::with_capacity(160);
    message.encode(*packet_seq, &mut bytes);
    *packet_seq = packet_seq.wrapping_add(1);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests;
