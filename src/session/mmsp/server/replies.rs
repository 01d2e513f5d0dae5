//! What the source answers, in the words of `[MS-MMSP]`.

use std::time::Instant;

use super::clocks::Timer;
use super::content::Content;
use super::opening::{refused_open_file, report_open_file};
use super::state::State;
use super::{Closing, Session};
use crate::session::mmsp::hresult;
use crate::session::{Credentials, Reply};
use crate::wire::mmsp::ids::HResult;
use crate::wire::mmsp::mac_to_viewer as out;

impl Session {
    pub(super) fn handle_reply(&mut self, now: Instant, reply: Reply) {
        match (std::mem::replace(&mut self.state, State::Closed), reply) {
            (State::Greeting, Reply::Greeted { scheme }) => {
                self.scheme = scheme;
                self.state = State::AwaitConnectFunnel;
                self.viewers_turn(now);
                self.send_connected(now, HResult::S_OK);
            }
            (State::Greeting, Reply::Refused(refusal)) => {
                self.send_connected(now, hresult(&refusal));
                self.close(Closing::Refused(refusal));
            }
            (State::Opening { incarnation }, Reply::Opened(opened)) => {
                let report = report_open_file(&opened, &self.player, incarnation);
                self.state = State::AwaitReadBlock(Box::new(Content::new(opened)));
                self.viewers_turn(now);
                self.send(now, report);
            }
            (State::Opening { incarnation }, Reply::Challenge(credentials)) => {
                self.cookie = self.cookie.wrapping_add(1);
                let Credentials { scheme, token } = credentials;
                self.state = State::AwaitSecurityResponse { incarnation, cookie: self.cookie, scheme };
                self.timers.start(Timer::Login, now, self.settings.login);
                self.send(now, out::SecurityChallenge { play_incarnation: incarnation, cookie: self.cookie, token });
            }
            (State::Opening { incarnation }, Reply::Redirect(location)) => {
                if self.player.follows_redirects() {
                    self.send(
                        now,
                        out::ReportRedirect { hr: HResult::S_OK, redirect_type: 1, location: location.clone() },
                    );
                } else {
                    // No other player can: VLC stalls for 50 s, ffmpeg and libmms break.
                    self.send(now, refused_open_file(HResult::NS_E_REDIRECT, incarnation));
                }
                self.close(Closing::Redirected(location));
            }
            (State::Opening { incarnation }, Reply::Refused(refusal)) => {
                self.send(now, refused_open_file(hresult(&refusal), incarnation));
                // MPlayer looks at no code at all and VLC at openFileId alone, but both see a close.
                self.close(Closing::Refused(refusal));
            }
            (State::Starting(content, start), Reply::Playing(playing)) => self.playing(now, content, start, playing),
            (State::Starting(content, start), Reply::Refused(refusal)) => {
                self.state = State::Ready(content);
                self.timers.start_if_stopped(Timer::Idle, now, self.settings.idle);
                self.send_started(now, hresult(&refusal), start.play_incarnation, start.striding);
            }
            // The answer to a request that was overtaken: by Stop, by CloseFile, by the end of the session.
            (state, _) => self.state = state,
        }
    }
}
