//! What is wanted above, and when its time has come, `[MS-MMSP]` 3.1.4.

use std::time::Instant;

use super::state::State;
use super::{Client, Event, TIMERS};
use crate::session::Request;
use crate::session::timers::Timers;
use crate::wire::mmsp::ids::{FileId, PacketPairMode};
use crate::wire::mmsp::viewer_to_mac as out;

impl Client {
    /// Takes requests from the queue as long as the state has a place for them.
    pub(super) fn work_off_queue(&mut self, now: Instant) {
        while let Some(request) = self.queue.pop_front() {
            if let Some(request) = self.try_request(now, request) {
                self.queue.push_front(request);
                return;
            }
        }
    }

    /// Acts on a request; gives it back where its time has not come.
    pub(super) fn try_request(&mut self, now: Instant, request: Request) -> Option<Request> {
        let state = std::mem::replace(&mut self.state, State::Closed);
        match (state, request) {
            (State::Closed, _) | (_, Request::Greet(_)) => {}
            (State::Greeted, Request::Open(open)) => {
                self.send(out::FunnelInfo { play_incarnation: PacketPairMode::DISABLE });
                self.await_reply(now);
                self.state = State::AwaitFunnelInfo(open);
            }
            (State::Challenged { play_incarnation, cookie }, Request::Answer(credentials)) => {
                self.send(out::SecurityResponse { play_incarnation, cookie, token: credentials.token });
                self.await_reply(now);
                self.state = State::AwaitOpenFile;
            }
            (state, Request::Select(choices)) => {
                self.state = state;
                self.select(&choices);
            }
            (State::Ready, Request::Play(play)) => self.start(now, &play),
            // 3.1.4.6: a play that moves is stopped first; the request stays in the queue until it is.
            (State::Streaming(play) | State::BetweenEntries { play, .. } | State::NextHeader { play, .. }, request)
                if matches!(request, Request::Play(_) | Request::Stop | Request::Close) =>
            {
                let goes_on = !matches!(request, Request::Stop);
                self.stop(now, play);
                return goes_on.then_some(request);
            }
            // What is still on its way is of no use any more.
            (State::Settling { mut play, .. }, request)
                if matches!(request, Request::Play(_) | Request::Stop | Request::Close) =>
            {
                self.play_is_over(now, &mut play);
                if let Some(order) = &mut self.order {
                    order.discard();
                }
                self.state = State::Ready;
                return self.try_request(now, request);
            }
            (state, Request::Log(log)) => {
                self.state = state;
                self.players_report(&log);
            }
            (state @ (State::Starting(_) | State::Stopping(_)), request) => {
                self.state = state;
                return Some(request);
            }
            (state, Request::Stop) => self.state = state,
            (_, Request::Close) => self.close(),
            // Asked before its time, such as a play before the header: it waits.
            (state, request) => {
                self.state = state;
                return Some(request);
            }
        }
        None
    }

    pub(super) fn close(&mut self) {
        self.report_what_nobody_did();
        if self.file_id != FileId::default() {
            self.send(out::CloseFile { open_file_id: self.file_id });
        }
        self.timers = Timers::new(TIMERS);
        self.event(Event::Closed);
    }
}
