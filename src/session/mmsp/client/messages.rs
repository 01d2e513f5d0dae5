//! What the origin says, and what it fails to say in time, `[MS-MMSP]` 3.1.5.

use std::time::Instant;

use super::error::{accepted, ending};
use super::opening::scheme_named;
use super::reading::Reading;
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
                self.client_id = report.client_id;
                let udp = self.settings.udp.clone();
                self.connect_funnel(now, open, udp);
            }
            (State::AwaitFunnel(open), Message::ReportConnectedFunnel(report)) => {
                accepted("ConnectFunnel", report.hr)?;
                self.open_file(now, open);
            }
            // 3.1.5.5: the other way, in the same session.
            (State::AwaitFunnel(open), Message::ReportDisconnectedFunnel(_)) if self.order.is_some() => {
                self.connect_funnel(now, open, None);
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
                // Over UDP the Header timer runs.
                match self.order {
                    Some(_) => self.timers.stop(Timer::Reply),
                    None => self.await_reply(now),
                }
                self.state = state;
            }
            (state @ State::NextHeader { .. }, Message::ReportReadBlock(report)) => {
                accepted("ReadBlock", report.hr)?;
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
                if report.hr.is_failure() {
                    let refusal = ClientError::Refused { what: "StartPlaying", hr: report.hr }.refusal();
                    play.is_reported = true;
                    self.end_play(now, play, End::Failed(refusal), media);
                } else {
                    self.state = State::Streaming(play);
                }
            }
            (State::Streaming(play), Message::ReportEndOfStream(end)) => self.end_of_stream(now, play, &end, media),
            (State::BetweenEntries { play, promised }, Message::ReportEndOfStream(end)) => {
                // It thought better of it.
                if end.hr.is_failure() || end.hr == HResult::S_OK && self.server_major >= 9 {
                    self.end_play(now, play, ending(end.hr), media);
                } else {
                    self.state = State::BetweenEntries { play, promised };
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
                // Over UDP the client asks for it, 3.1.5.19.
                let reading = match &mut self.order {
                    Some(order) => {
                        order.close(now, None);
                        self.read_header(now, change.header_size, change.bit_rate)
                    }
                    // The number is 0xFF by the text; nothing but the header can come here, so it is not asked for.
                    None => Reading::over_tcp(None),
                };
                if !self.is_paused && self.order.is_none() {
                    self.await_reply(now);
                }
                self.state = State::NextHeader { play, reading };
            }
            // Whatever else comes at a time of its own choosing is no reason to end a session.
            (state, _) => self.state = state,
        }
        Ok(())
    }

    pub(super) fn handle_timer(
        &mut self,
        now: Instant,
        timer: Timer,
        media: &mut Vec<Next>,
    ) -> Result<(), ClientError> {
        match (timer, &self.state) {
            // What it was for is seen to after each input.
            (Timer::Order, _) => Ok(()),
            (Timer::Header, _) => self.header_is_late(now),
            // An origin that never answers StopPlaying is left without an answer.
            (Timer::Reply, State::Stopping(play)) => {
                let play = play.clone();
                self.stopped(&play);
                Ok(())
            }
            (Timer::Reply, state) => Err(ClientError::NoReply(state.name())),
            (Timer::Stall, State::BetweenEntries { play, promised: false }) => {
                let play = play.clone();
                self.end_play(now, play, End::Complete, media);
                Ok(())
            }
            (Timer::Stall, State::Streaming(_)) if self.order.is_some() && !self.has_media => {
                Err(ClientError::NoDatagrams)
            }
            (Timer::Stall, state) if self.is_streaming() => Err(ClientError::NoReply(state.name())),
            (Timer::Stall, _) => Ok(()),
        }
    }
}
