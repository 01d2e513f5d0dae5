//! A viewer's side of a split stream: it waits for the header, asks for media, and gets a cursor.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::SplitSettings;
use crate::asf::{StreamNumber, Thinning};
use crate::session::{Burst, Opened, Pace, Play, PlayerLog, Playing, Reason, Refusal, StreamChoice};
use crate::splitter::{Content, Lead, Media, State, Ticket};

/// A viewer that shares a broadcast.
#[derive(Debug)]
pub(super) struct Watching {
    ticket: Ticket,
    state: watch::Receiver<State>,
}

/// Why a stream can't be watched.
#[derive(Debug)]
pub(super) enum Denied {
    /// The viewer needs a session of its own.
    Unshared,
    /// Nobody gets it.
    Refused(Refusal),
}

impl Watching {
    pub(super) fn new(ticket: Ticket) -> Self {
        let state = ticket.stream().subscribe();
        Self { ticket, state }
    }

    /// Waits until the stream is open, and its header no old one.
    pub(super) async fn opened(&mut self) -> Result<Arc<Opened>, Denied> {
        let content = self.content(|_| true).await?;
        self.ticket.has_header_of(content.entry);
        Ok(content.opened)
    }

    /// What the viewer says of its play, for the origin to hear.
    pub(super) fn report(&self, log: PlayerLog) {
        self.ticket.report(log);
    }

    /// Asks for media and waits until they come; then a place among them. Where the first of them is still to come, `bell` is
    /// rung for it.
    pub(super) async fn play(
        &mut self,
        play: &Play,
        selection: &[StreamChoice],
        settings: &SplitSettings,
        bell: &Arc<Notify>,
    ) -> Result<Playing, Refusal> {
        if play.is_trick_mode() {
            return Err(Refusal::new(Reason::Invalid, format!("rate {} of a broadcast", play.rate)));
        }
        let gone = || Refusal::new(Reason::Lost, "the broadcast is gone");
        let mut content = self.content(|_| true).await.map_err(Denied::into_refusal)?;
        if content.media != Media::Running {
            let since = self.ticket.cursor_from_now().ok_or_else(gone)?;
            self.ticket.ask();
            content = self.content(|content| content.media != Media::Asked).await.map_err(Denied::into_refusal)?;
            match content.media {
                Media::Refused(refusal) => return Err(refusal),
                // It was short, and is over by now.
                Media::Idle => return Ok(Playing { cursor: Box::new(since), pace: Pace::AsItComes }),
                Media::Running | Media::Asked => {}
            }
        }
        let header = &content.opened.header;
        let is_wanted = |stream: StreamNumber| match selection.iter().find(|choice| choice.stream == stream) {
            Some(choice) => choice.thinning != Thinning::Off,
            // A viewer that never selected is one that gets everything.
            None => selection.is_empty(),
        };
        let streams: Vec<_> = header.streams().iter().map(|stream| stream.number).filter(|s| is_wanted(*s)).collect();
        let lead = lead(settings.fast_start.unwrap_or(header.preroll()), play.burst);
        let pace = pace(content.opened.description.bit_rate, play.burst);
        let cursor = self.ticket.cursor(&streams, lead, bell);
        let cursor = cursor.ok_or_else(gone)?;
        Ok(Playing { cursor: Box::new(cursor), pace })
    }

    /// Waits until the stream is open, no header is on its way, and `is_ready`.
    async fn content(&mut self, is_ready: impl Fn(&Content) -> bool) -> Result<Content, Denied> {
        let settled = |state: &State| match state {
            State::Opening => false,
            State::Open(content) => !content.is_changing && is_ready(content),
            State::Unshared | State::Refused(_) => true,
        };
        // The sender is part of the stream that the ticket holds.
        let gone = |_| Denied::Refused(Refusal::new(Reason::Lost, "the broadcast is gone"));
        match &*self.state.wait_for(settled).await.map_err(gone)? {
            State::Open(content) => Ok(content.clone()),
            State::Refused(refusal) => Err(Denied::Refused(refusal.clone())),
            State::Unshared | State::Opening => Err(Denied::Unshared),
        }
    }
}

impl Denied {
    fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Unshared => Refusal::new(Reason::Lost, "the broadcast can't be shared any more"),
        }
    }
}

/// How far back a viewer begins: as configured, or less where the player asks for less.
fn lead(fast_start: Duration, burst: Option<Burst>) -> Lead {
    let lead = burst.map_or(fast_start, |burst| burst.duration.min(fast_start));
    if lead.is_zero() { Lead::None } else { Lead::AtLeast(lead) }
}

/// All that is there at once, or no faster than the player asks for; a rate that never catches up is none.
fn pace(bit_rate: u32, burst: Option<Burst>) -> Pace {
    let asked = burst.map_or(0, |burst| burst.bits_per_second);
    if asked > bit_rate { Pace::AtMost { bits_per_second: asked } } else { Pace::AsItComes }
}
