//! Whose turn it is: which message has a place in which state, which waits, and which ends the session, `[MS-MMSP]`
//! 3.2.5.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clocks::Timer;
use super::opening::refused_open_file;
use super::playing::until;
use super::state::State;
use super::{Closing, MAX_BACKLOG, Output, Session, SessionError};
use crate::session::mmsp::PositionFields;
use crate::session::mmsp::player::{self, Player};
use crate::session::{Burst, Credentials, Play, PlayerLog, Request};
use crate::wire::mmsp::ids::{HResult, PacketPairMode};
use crate::wire::mmsp::mac_to_viewer as out;
use crate::wire::mmsp::viewer_to_mac::Message;

impl Session {
    pub(super) fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), SessionError> {
        match message {
            Message::Pong | Message::Unknown { .. } => {}
            Message::CloseFile(_) => {
                self.outputs.push_back(Output::Request(Request::Close));
                self.close(Closing::Finished);
            }
            message
                if !self.backlog.is_empty() && matches!(message, Message::Logging(_)) || self.must_wait(&message) =>
            {
                if self.backlog.len() >= MAX_BACKLOG {
                    return Err(SessionError::Backlog);
                }
                self.backlog.push_back(message);
            }
            message => self.handle_request(now, message)?,
        }
        Ok(())
    }

    /// While the source is asked, further requests wait, so that each is answered in its turn. READY begins with the last
    /// header packet; a fast player may ask for more before (3.2.5.8.1), and waits as well.
    pub(super) fn must_wait(&self, message: &Message) -> bool {
        match &self.state {
            // A report belongs to the play before it, so it only keeps its place behind what waits already.
            _ if matches!(message, Message::Logging(_)) => false,
            State::Greeting | State::Opening { .. } | State::Starting(..) => true,
            // Each is answered in its turn: the funnel first, and an EndOfStream that lets datagrams go ahead.
            _ if self.claim.is_some() || self.udp.as_ref().is_some_and(|udp| udp.is_stopping()) => true,
            State::SendingHeader(..) => belongs_to_ready(message),
            _ => false,
        }
    }

    pub(super) fn work_off_backlog(&mut self, now: Instant) -> Result<(), SessionError> {
        while let Some(message) = self.backlog.pop_front() {
            if self.must_wait(&message) {
                self.backlog.push_front(message);
                break;
            }
            self.handle_request(now, message)?;
        }
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        Ok(())
    }

    pub(super) fn handle_request(&mut self, now: Instant, message: Message) -> Result<(), SessionError> {
        let state = std::mem::replace(&mut self.state, State::Closed);
        match (state, message) {
            (State::Closed, _) => {}
            (State::AwaitConnect, Message::Connect(connect)) => {
                self.player = Player::new(&connect.subscriber_name);
                self.wants_pair = connect.play_incarnation == PacketPairMode::USE;
                self.ask(now, Request::Greet(player::caller(&connect.subscriber_name)), State::Greeting);
            }
            (state @ State::AwaitConnect, message) => return Err(self.out_of_turn(now, state, &message)),
            (state, message @ Message::Connect(_)) => return Err(self.out_of_turn(now, state, &message)),
            // Before anything is open there is nothing to report.
            (state, Message::Logging(log)) => {
                if state.content().is_some() {
                    self.outputs.push_back(Output::Request(Request::Log(PlayerLog::ClientLog(log.client_log))));
                }
                self.state = state;
            }
            // FunnelInfo and ConnectFunnel may come again at any time: WMP does so after a lost header over UDP.
            (state, Message::FunnelInfo(info)) => {
                self.state = state;
                self.funnel_info(now, &info);
            }
            (state, Message::ConnectFunnel(funnel)) => {
                self.state = state;
                self.connect_funnel(now, &funnel);
            }
            (
                State::AwaitOpenFile
                | State::AwaitSecurityResponse { .. }
                | State::AwaitReadBlock(_)
                | State::SendingHeader(..)
                | State::Ready(_),
                Message::OpenFile(open),
            ) => self.open_file(now, open),
            (State::AwaitSecurityResponse { incarnation, cookie, scheme }, Message::SecurityResponse(response))
                if response.cookie == cookie =>
            {
                let credentials = Credentials { scheme, token: response.token };
                self.timers.stop(Timer::Login);
                self.ask(now, Request::Answer(credentials), State::Opening { incarnation });
            }
            (
                state @ (State::AwaitReadBlock(_) | State::SendingHeader(..) | State::Ready(_)),
                Message::ReadBlock(read),
            ) => {
                self.read_block(now, state, &read);
            }
            (State::SendingHeader(content, _), Message::CancelReadBlock(_)) => {
                self.timers.stop(Timer::HeaderPiece);
                // What was asked ahead belongs to the header that nobody wants any more.
                self.backlog.clear();
                self.state = State::AwaitReadBlock(content);
                self.viewers_turn(now);
            }
            (State::Streaming(content, media), Message::ReadBlock(read))
                if self.udp.is_some() && media.awaits_start() =>
            {
                self.read_entry(now, content, media, &read);
            }
            (State::Streaming(content, mut media), Message::CancelReadBlock(_)) => {
                media.cancel_header(now, &self.settings);
                self.state = State::Streaming(content, media);
            }
            (state, Message::CancelReadBlock(_)) => self.state = state,
            (State::Ready(mut content), Message::StreamSwitch(switch)) => {
                let choices = content.switch(&switch);
                self.state = State::Ready(content);
                self.streams_switched(now, choices);
            }
            (State::Streaming(mut content, mut media), Message::StreamSwitch(switch)) => {
                let choices = content.switch(&switch);
                media.await_key_frames(now, &self.settings);
                self.state = State::Streaming(content, media);
                self.streams_switched(now, choices);
            }
            (state @ (State::Ready(_) | State::Streaming(..)), Message::StartPlaying(start)) => {
                let fields = PositionFields {
                    position: start.position,
                    asf_offset: start.asf_offset,
                    location_id: start.location_id,
                };
                let play = Play {
                    from: fields.meaning(),
                    until: until(start.frame_offset),
                    rate: 1.0,
                    burst: start.accel.map(|accel| Burst {
                        bits_per_second: accel.bandwidth,
                        duration: Duration::from_millis(u64::from(accel.duration_ms)),
                    }),
                };
                self.start(now, state, start.play_incarnation, play, false);
            }
            (state @ (State::Ready(_) | State::Streaming(..)), Message::StartStriding(start)) => {
                let fields = PositionFields {
                    position: start.position,
                    asf_offset: start.asf_offset,
                    location_id: start.location_id,
                };
                let play = Play { rate: start.rate, ..Play::from(fields.meaning()) };
                self.start(now, state, start.play_incarnation, play, true);
            }
            (state @ (State::Ready(_) | State::Streaming(..)), Message::StopPlaying(stop)) => {
                self.stop_playing(now, state, &stop);
            }
            (state, message) => return Err(self.out_of_turn(now, state, &message)),
        }
        Ok(())
    }

    /// Answers a message that has no place here with the report it waits for, and the code; the caller ends the session.
    pub(super) fn out_of_turn(&mut self, now: Instant, state: State, message: &Message) -> SessionError {
        let hr = HResult::NS_E_INVALID_REQUEST;
        match message {
            Message::Connect(_) => self.send_connected(now, hr),
            Message::OpenFile(open) => self.send(now, refused_open_file(hr, open.play_incarnation)),
            Message::SecurityResponse(response) => self.send(now, refused_open_file(hr, response.play_incarnation)),
            Message::ReadBlock(read) => {
                self.send(now, out::ReportReadBlock { hr, play_incarnation: read.play_incarnation });
            }
            Message::StreamSwitch(_) => self.send(now, out::ReportStreamSwitch { hr }),
            Message::StartPlaying(start) => self.send_started(now, hr, start.play_incarnation, false),
            Message::StartStriding(start) => self.send_started(now, hr, start.play_incarnation, true),
            Message::StopPlaying(stop) => {
                self.send(now, out::ReportEndOfStream { hr, play_incarnation: stop.play_incarnation });
            }
            _ => {}
        }
        SessionError::OutOfTurn { message: message.name(), state: state.name() }
    }
}

/// The requests that READY serves: they wait for it while the header is being sent.
fn belongs_to_ready(message: &Message) -> bool {
    matches!(
        message,
        Message::StreamSwitch(_) | Message::StartPlaying(_) | Message::StartStriding(_) | Message::StopPlaying(_)
    )
}
