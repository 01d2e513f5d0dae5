//! Who may let how much time pass: the timers of a server session, `[MS-MMSP]` 3.2.2, and the clock of the handshake.

use std::time::Instant;

use super::{Closing, Session};
use crate::wire::mmsp::mac_to_viewer as out;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Timer {
    Handshake,
    Login,
    Idle,
    KeepAlive,
    HeaderPiece,
    BroadcastEnd,
}

pub(super) const TIMERS: [Timer; 6] =
    [Timer::Handshake, Timer::Login, Timer::Idle, Timer::KeepAlive, Timer::HeaderPiece, Timer::BroadcastEnd];

impl Session {
    pub(super) fn handle_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Handshake => {
                let waiting = self.state.name();
                self.close(Closing::Handshake(waiting));
            }
            Timer::Login => self.close(Closing::Login),
            Timer::Idle => self.close(Closing::Idle),
            Timer::BroadcastEnd => self.close(Closing::BroadcastEnded),
            Timer::KeepAlive => self.send(now, out::Message::Ping),
            Timer::HeaderPiece => self.send_header_pieces(now),
        }
    }

    /// The clock of the handshake runs while the viewer lets time pass, not while the source does.
    pub(super) fn viewers_turn(&mut self, now: Instant) {
        self.sources_turn(now);
        let (left, since) = &mut self.handshake;
        *since = Some(now);
        self.timers.start(Timer::Handshake, now, *left);
    }

    pub(super) fn sources_turn(&mut self, now: Instant) {
        let (left, since) = &mut self.handshake;
        if let Some(since) = since.take() {
            *left = left.saturating_sub(now.saturating_duration_since(since));
        }
        self.timers.stop(Timer::Handshake);
    }

    /// The viewer has the header: from here on it may take its time, up to Idle-Timeout.
    pub(super) fn handshake_done(&mut self, now: Instant) {
        self.sources_turn(now);
        self.timers.start_if_stopped(Timer::Idle, now, self.settings.idle);
    }

    pub(super) fn restart_keep_alive(&mut self, now: Instant) {
        if self.has_started {
            let keep_alive = self.settings.keep_alive(self.udp.is_some());
            self.timers.start(Timer::KeepAlive, now, keep_alive);
        }
    }
}
