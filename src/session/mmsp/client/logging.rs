//! Who reports a play: the player that does so by itself, else we, and nobody twice, `[MS-MMSP]` 3.1.4.5 and 3.1.5.18.

use std::time::Instant;

use super::Client;
use super::order::Order;
use super::playing::Started;
use super::report::{self, Received};
use super::state::State;
use crate::session::PlayerLog;
use crate::wire::mmsp::ids::FileId;
use crate::wire::mmsp::viewer_to_mac as out;

impl Client {
    /// 3.1.4.5 and 3.1.5.18 want every play reported: by the player where it does so by itself, else by us. A player's
    /// Logging comes right behind its own StopPlaying or EndOfStream; whether it does shows later.
    pub(super) fn play_is_over(&mut self, now: Instant, play: &mut Started) {
        self.late_report = false;
        play.received.losses = self.order.as_ref().map(Order::losses);
        if std::mem::replace(&mut play.is_reported, true) {
            return;
        }
        if self.settings.player_reports {
            self.report_what_nobody_did();
            self.unreported = Some((now, play.received.clone()));
        } else {
            self.report(now, &play.received);
        }
    }

    /// The player had its chance to report the play before.
    pub(super) fn report_what_nobody_did(&mut self) {
        if let Some((over, received)) = self.unreported.take() {
            self.report(over, &received);
        }
    }

    /// Our StartPlaying for the next entry does not wait for the player, so the report that is due before it (3.1.5.18)
    /// is ours; the player's own comes too late and goes nowhere.
    pub(super) fn report_for_the_player(&mut self) {
        self.late_report = self.unreported.is_some();
        self.report_what_nobody_did();
    }

    pub(super) fn report(&mut self, over: Instant, received: &Received) {
        let user_agent = self.settings.name.player_name().to_owned();
        let name = &self.settings.name;
        let host = name.host_string.as_deref().or(name.host_param.as_deref()).unwrap_or_default();
        let url = format!("mms://{host}/{}", self.name);
        let client_log = received.client_log(over, &url, &user_agent, self.file_id);
        self.send(out::Logging { client_log });
    }

    /// The player's own report is passed on where the play has none yet: an origin that got two would count it twice.
    pub(super) fn players_report(&mut self, log: &PlayerLog) {
        if self.settings.relays_reports {
            if self.file_id != FileId::default() {
                self.send_report(log);
            }
            return;
        }
        if !self.settings.player_reports || std::mem::take(&mut self.late_report) {
            return;
        }
        let is_first = match &mut self.state {
            _ if self.unreported.take().is_some() => true,
            State::Streaming(play) => !std::mem::replace(&mut play.is_reported, true),
            _ => false,
        };
        if is_first {
            self.send_report(log);
        }
    }

    fn send_report(&mut self, log: &PlayerLog) {
        let PlayerLog::ClientLog(bytes) = log;
        let client_log = report::relayed(bytes, self.file_id, self.order.is_some());
        self.send(out::Logging { client_log });
    }
}
