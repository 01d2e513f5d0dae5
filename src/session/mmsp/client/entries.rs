//! Playlists: an EndOfStream that may end nothing, and the header of the next entry, `[MS-MMSP]` 3.1.4.4, 3.1.5.18 and
//! 3.1.5.19.

use std::sync::Arc;
use std::time::Instant;

use super::error::ending;
use super::playing::Started;
use super::reading::Reading;
use super::report::Received;
use super::state::State;
use super::{Client, ClientError, Timer};
use crate::asf::{Header, Thinning};
use crate::session::{Next, Play, Position};
use crate::wire::mmsp::ids::HResult;
use crate::wire::mmsp::mac_to_viewer as inbound;

impl Client {
    pub(super) fn end_of_stream(
        &mut self,
        now: Instant,
        mut play: Started,
        end: &inbound::ReportEndOfStream,
        media: &mut Vec<Next>,
    ) {
        let number = end.play_incarnation as u8;
        if number == self.last_incarnation && number != play.incarnation {
            self.state = State::Streaming(play);
            return;
        }
        let is_broadcast = self.content.as_ref().is_some_and(|content| content.opened.description.broadcast);
        // 3.1.5.18. A server below 9 says 0 between entries of a broadcast, too, so there it is held back until
        // StreamChange comes or too long nothing does; free servers say 1 whatever version they claim.
        let promised = end.hr == HResult::S_FALSE;
        if promised || end.hr == HResult::S_OK && is_broadcast && self.server_major < 9 {
            self.play_is_over(now, &mut play);
            self.await_media(now);
            if let Some(order) = &mut self.order {
                order.close(now, None);
            }
            self.state = State::BetweenEntries { play, promised: promised && self.server_major >= 9 };
            return;
        }
        self.end_play(now, play, ending(end.hr), media);
    }

    /// The header of the next entry is complete: select and start again, 3.1.4.4.
    pub(super) fn next_entry(
        &mut self,
        now: Instant,
        mut play: Started,
        reading: Reading,
        media: &mut Vec<Next>,
    ) -> Result<(), ClientError> {
        let header = Arc::new(Header::parse(reading.into_bytes())?);
        if let Some(content) = &mut self.content {
            // Streams that were off stay off; what is new is on until the viewer says what it wants.
            let state_of = |stream| content.selection.get(&stream).copied().unwrap_or(Thinning::All);
            content.selection = header.streams().iter().map(|s| (s.number, state_of(s.number))).collect();
            content.header = Arc::clone(&header);
        }
        media.push(Next::Changed(header));
        self.timers.stop(Timer::Reply);
        self.report_for_the_player();
        play.incarnation = self.send_start(&Play::from(Position::Default));
        play.takes_unrequested = true;
        play.is_reported = false;
        play.received = Received::new(now);
        self.await_media(now);
        self.state = State::Streaming(play);
        Ok(())
    }
}
