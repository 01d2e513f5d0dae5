//! A play, from its Start message to its end, `[MS-MMSP]` 3.1.4.2 to 3.1.4.6.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::Received;
use super::state::State;
use super::{Client, ClientError, Event, Timer};
use crate::asf::{Header, StreamNumber, Thinning};
use crate::session::mmsp::PositionFields;
use crate::session::{End, Next, Opened, Play, Until};
use crate::wire::mmsp::ids::HResult;
use crate::wire::mmsp::viewer_to_mac as out;

/// A play, from its Start message on.
#[derive(Clone, Debug)]
pub(super) struct Started {
    /// The number of the Start message; Data of another number belong to another play.
    pub(super) incarnation: u8,
    /// Data of a new entry may carry 0xFF until our StartPlaying is answered.
    pub(super) takes_unrequested: bool,
    pub(super) received: Received,
    /// Somebody reported it, or is expected to.
    pub(super) is_reported: bool,
    pub(super) last_send_time: u32,
}

/// Content that is open.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) opened: Arc<Opened>,
    pub(super) header: Arc<Header>,
    /// The state of every stream.
    pub(super) selection: BTreeMap<StreamNumber, Thinning>,
    /// Somebody selected; before that everything is.
    pub(super) is_selected: bool,
}

impl Content {
    /// The number of the last packet, where the origin said it of what plays now.
    fn last_packet(&self) -> Option<u32> {
        let is_first_entry = Arc::ptr_eq(&self.header, &self.opened.header);
        let count = Some(self.opened.description.packet_count).filter(|_| is_first_entry);
        count.and_then(|count| count.checked_sub(1)?.try_into().ok())
    }
}

impl Client {
    /// Begins a play; the answer comes later.
    pub(super) fn start(&mut self, now: Instant, play: &Play) {
        self.report_what_nobody_did();
        self.choices.clear();
        let incarnation = self.send_start(play);
        self.await_reply(now);
        self.state = State::Starting(Started {
            incarnation,
            takes_unrequested: false,
            received: Received::new(now),
            is_reported: false,
            last_send_time: 0,
        });
    }

    /// StreamSwitch with the state of every stream, and the Start message right behind it, 3.1.4.2. Returns the number of
    /// the Start message.
    pub(super) fn send_start(&mut self, play: &Play) -> u8 {
        self.send_selection();
        let incarnation = self.incarnations.next_play();
        let fields = PositionFields::naming(play.from);
        let play_incarnation = u32::from(incarnation);
        if let Some(order) = &mut self.order {
            order.begin(incarnation, play.rate < 0.0);
        }
        if play.is_trick_mode() {
            self.send(out::StartStriding {
                open_file_id: self.file_id,
                position: fields.position,
                asf_offset: fields.asf_offset,
                location_id: fields.location_id,
                play_incarnation,
                rate: play.rate,
            });
        } else {
            let burst = play.burst.filter(|_| self.server_major >= 9);
            self.send(out::StartPlaying {
                open_file_id: self.file_id,
                position: fields.position,
                asf_offset: fields.asf_offset,
                location_id: fields.location_id,
                frame_offset: play.until.map_or(0, frame_offset),
                play_incarnation,
                accel: burst.map(|burst| out::Accel {
                    bandwidth: burst.bits_per_second,
                    duration_ms: u32::try_from(burst.duration.as_millis()).unwrap_or(u32::MAX),
                }),
                link_bandwidth: burst.map(|burst| burst.bits_per_second),
            });
        }
        incarnation
    }

    pub(super) fn started(&mut self, now: Instant, play: Started, hr: HResult) {
        self.timers.stop(Timer::Reply);
        if hr.is_failure() {
            self.state = State::Ready;
            self.event(Event::Refused(ClientError::Refused { what: "StartPlaying", hr }.refusal()));
            return;
        }
        self.await_media(now);
        if self.order.is_some() && !self.has_media && !self.is_paused {
            // A firewall that lets no datagram through is found out before a player gives up.
            self.timers.start(Timer::Stall, now, self.settings.stall.min(self.settings.reply));
        }
        self.state = State::Streaming(play);
        self.event(Event::Playing);
        self.switch_what_waits();
    }

    /// StopPlaying and the report, 3.1.4.5.
    pub(super) fn stop(&mut self, now: Instant, mut play: Started) {
        self.timers.stop(Timer::Stall);
        self.timers.stop(Timer::Header);
        self.choices.clear();
        self.send(out::StopPlaying { open_file_id: self.file_id, play_incarnation: u32::from(play.incarnation) });
        self.play_is_over(now, &mut play);
        if let Some(order) = &mut self.order {
            order.discard();
        }
        self.await_reply(now);
        self.state = State::Stopping(play);
    }

    pub(super) fn stopped(&mut self, play: &Started) {
        self.timers.stop(Timer::Reply);
        self.last_incarnation = play.incarnation;
        self.state = State::Ready;
    }

    /// The origin sends no more. What it sent over UDP may still be on its way, so the end goes up behind that.
    pub(super) fn end_play(&mut self, now: Instant, mut play: Started, end: End, media: &mut Vec<Next>) {
        self.timers.stop(Timer::Stall);
        self.timers.stop(Timer::Reply);
        if let Some(order) = &mut self.order {
            order.close(now, self.content.as_ref().and_then(Content::last_packet));
            self.state = State::Settling { play, end };
            return;
        }
        self.play_is_over(now, &mut play);
        self.state = State::Ready;
        media.push(Next::Ended(end));
    }
}

/// frameOffset, 2.2.4.25: absolute, or with bit 31 relative to the start.
fn frame_offset(until: Until) -> u32 {
    const LARGEST: u128 = 0x7FFF_FFFF;
    let ms = |duration: Duration| duration.as_millis().clamp(1, LARGEST) as u32;
    match until {
        Until::At(at) => ms(at),
        Until::For(length) => ms(length) | 0x8000_0000,
    }
}
