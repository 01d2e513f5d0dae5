//! What the origin says, and what it fails to say in time, `[MS-MMSP]` 3.1.5.

use std::time::Instant;

use bytes::BytesMut;

use super::error::{accepted, ending};
use super::opening::{FUNNEL, MAX_BIT_RATE, scheme_named};
use super::state::State;
use super::{Client, ClientError, Event, Timer};
use crate::session::{AuthScheme, Credentials, End, Next};
use crate::wire::mmsp::ids::HResult;
use crate::wire::mmsp::mac_to_viewer::Message;
use crate::wire::mmsp::viewer_to_mac as out;

impl Client {
    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        message: Message,
        media: &mut Vec<Next>,
    ) -> Result<(), ClientError> {
        let state = std::mem::replace(&mut self.state, State::Closed);
        match (state, message) {
            (state, Message::Ping) => {
                self.state = state;
                self.send(out::Message::Pong);
            }
            (State::AwaitConnected, Message::ReportConnectedEx(report)) => {
                accepted("Connect", report.hr)?;
                self.server_major =
                    report.server_version_info.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                let scheme = scheme_named(&report.authen_package);
                self.scheme = scheme.unwrap_or(AuthScheme::Ntlm);
                self.timers.stop(Timer::Reply);
                self.state = State::Greeted;
                self.event(Event::Connected { scheme, version: report.server_version_info });
            }
            (State::AwaitFunnelInfo(open), Message::ReportFunnelInfo(report)) => {
                accepted("FunnelInfo", report.hr)?;
                // Three come from a server that measures; each but the last of them says 0xF0F0F0F1, but we asked for
                // none, so one is all (3.1.5.4), and the others find no arm here.
                self.send(out::ConnectFunnel { funnel_name: FUNNEL.to_owned(), max_bit_rate: MAX_BIT_RATE });
                self.await_reply(now);
                self.state = State::AwaitFunnel(open);
            }
            (State::AwaitFunnel(open), Message::ReportConnectedFunnel(report)) => {
                accepted("ConnectFunnel", report.hr)?;
                self.open_file(now, open);
            }
            (State::AwaitFunnel(_), Message::ReportDisconnectedFunnel(report)) => {
                let hr = if report.hr.is_failure() { report.hr } else { HResult::NS_E_NOFUNNEL };
                return Err(ClientError::Refused { what: "ConnectFunnel", hr });
            }
            (State::AwaitOpenFile, Message::SecurityChallenge(challenge)) => {
                self.timers.stop(Timer::Reply);
                self.was_challenged = true;
                let scheme = self.challenged_scheme(&challenge.token);
                self.scheme = scheme;
                self.state =
                    State::Challenged { play_incarnation: challenge.play_incarnation, cookie: challenge.cookie };
                self.event(Event::Challenge(Credentials { scheme, token: challenge.token }));
            }
            (State::AwaitOpenFile, Message::ReportRedirect(redirect)) => {
                self.timers.stop(Timer::Reply);
                self.event(Event::Redirect { kind: redirect.redirect_type, location: redirect.location });
            }
            (State::AwaitOpenFile, Message::ReportOpenFile(opened)) => {
                self.timers.stop(Timer::Reply);
                if opened.hr.is_failure() {
                    let refusal = ClientError::Refused { what: "OpenFile", hr: opened.hr }.refusal();
                    self.event(Event::Refused(refusal));
                } else {
                    self.read_block(now, opened);
                }
            }
            (state @ State::AwaitHeader { .. }, Message::ReportReadBlock(report)) => {
                accepted("ReadBlock", report.hr)?;
                self.await_reply(now);
                self.state = state;
            }
            (state, Message::ReportStreamSwitch(_)) => {
                self.state = state;
                self.switches_out = self.switches_out.saturating_sub(1);
                self.switch_what_waits();
            }
            (State::Starting(play), Message::ReportStartedPlaying(out)) => self.started(now, play, out.hr),
            (State::Starting(play), Message::ReportStartStriding(out)) => self.started(now, play, out.hr),
            // The answer to the StartPlaying that followed a StreamChange.
            (State::Streaming(mut play), Message::ReportStartedPlaying(report)) => {
                play.takes_unrequested = false;
                self.state = State::Streaming(play);
                if report.hr.is_failure() {
                    let refusal = ClientError::Refused { what: "StartPlaying", hr: report.hr }.refusal();
                    self.end_play(End::Failed(refusal), media);
                }
            }
            (State::Streaming(play), Message::ReportEndOfStream(end)) => self.end_of_stream(now, play, &end, media),
            (State::BetweenEntries { play, promised }, Message::ReportEndOfStream(end)) => {
                self.state = State::BetweenEntries { play, promised };
                // It thought better of it.
                if end.hr.is_failure() || end.hr == HResult::S_OK && self.server_major >= 9 {
                    self.end_play(ending(end.hr), media);
                }
            }
            (State::Stopping(play), Message::ReportEndOfStream(_)) => self.stopped(&play),
            (
                State::Streaming(play) | State::BetweenEntries { play, .. } | State::NextHeader { play, .. },
                Message::ReportStreamChange(change),
            ) => {
                accepted("StreamChange", change.hr)?;
                if change.header_size as usize > self.settings.max_header {
                    return Err(ClientError::HeaderTooLarge { limit: self.settings.max_header });
                }
                self.timers.stop(Timer::Stall);
                if !self.is_paused {
                    self.await_reply(now);
                }
                self.state = State::NextHeader { play, bytes: BytesMut::new() };
            }
            // Whatever else comes at a time of its own choosing is no reason to end a session.
            (state, _) => self.state = state,
        }
        Ok(())
    }

    pub(super) fn handle_timer(&mut self, timer: Timer, media: &mut Vec<Next>) -> Result<(), ClientError> {
        match (timer, &self.state) {
            // An origin that never answers StopPlaying is left without an answer.
            (Timer::Reply, State::Stopping(play)) => {
                let play = play.clone();
                self.stopped(&play);
                Ok(())
            }
            (Timer::Reply, state) => Err(ClientError::NoReply(state.name())),
            (Timer::Stall, State::BetweenEntries { promised: false, .. }) => {
                self.end_play(End::Complete, media);
                Ok(())
            }
            (Timer::Stall, state) if self.is_streaming() => Err(ClientError::NoReply(state.name())),
            (Timer::Stall, _) => Ok(()),
        }
    }
}
