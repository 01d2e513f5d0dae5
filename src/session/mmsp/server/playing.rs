//! READY and STREAMING: selection, starts, stops and ends, `[MS-MMSP]` 3.2.4.1 and 3.2.5.10 to 3.2.5.14.

use std::time::{Duration, Instant};

use super::clocks::Timer;
use super::content::Content;
use super::funnel::in_steps;
use super::media::{self, Media};
use super::state::{Start, State};
use super::{Output, Session};
use crate::session::{End, Play, Playing, Position, Request, StreamChoice, Until};
use crate::wire::mmsp::ids::{HResult, Incarnation};
use crate::wire::mmsp::mac_to_viewer as out;
use crate::wire::mmsp::viewer_to_mac as inbound;

/// frameOffset that ffmpeg, VLC, libmms and xine put by mistake: read literally it would end every play after 4.6 hours.
const NO_END: u32 = 0x00FF_FFFF;

/// The fastest trick mode, either way, 2.2.4.26.
const MAX_RATE: f64 = 5.0;

impl Session {
    pub(super) fn streams_switched(&mut self, now: Instant, choices: Vec<StreamChoice>) {
        if !choices.is_empty() {
            self.outputs.push_back(Output::Request(Request::Select(choices)));
        }
        // Streams that do not exist are no error: xine sends entries of zeros.
        self.send(now, out::ReportStreamSwitch { hr: HResult::S_OK });
    }

    /// StartPlaying, or StartStriding where `striding`: 3.2.5.11, 3.2.5.12.
    pub(super) fn start(&mut self, now: Instant, state: State, play_incarnation: u32, mut play: Play, striding: bool) {
        let is_legal = play.rate.abs() <= MAX_RATE && play.rate != 0.0;
        let can_do = state.content().is_some_and(|content| !striding || content.opened.description.can_stride);
        let Some(incarnation) = Incarnation::from_request(play_incarnation).filter(|_| is_legal && can_do) else {
            let hr = if can_do { HResult::E_INVALIDARG } else { HResult::NS_E_INVALID_REQUEST };
            self.state = state;
            self.send_started(now, hr, play_incarnation, striding);
            return;
        };
        self.timers.stop(Timer::BroadcastEnd);
        let names_a_place = !matches!(play.from, Position::Default | Position::Time(Duration::ZERO));
        let is_streaming = matches!(state, State::Streaming(..));
        let mut content = match state {
            // 3.2.5.11 ignores the position while STREAMING. libmms seeks that way all the same, so a
            // place that is named counts unless this answers a StreamChange.
            State::Streaming(content, mut media)
                if media.awaits_start() || !names_a_place && media.rate() == play.rate =>
            {
                media.restart(play_incarnation, incarnation);
                self.sequence = self.sequence.advance_at_start();
                self.state = State::Streaming(content, media);
                self.send_started(now, HResult::S_OK, play_incarnation, striding);
                return;
            }
            State::Streaming(content, media) => {
                // Another rate, from where it is.
                if let Some(place) = media.place().filter(|_| !names_a_place) {
                    play.from = Position::Packet(place);
                }
                content
            }
            State::Ready(content) => content,
            other => {
                self.state = other;
                return;
            }
        };
        content.default_selection(self.player.is_wms4());
        if is_streaming {
            self.outputs.push_back(Output::Request(Request::Stop));
        }
        let start = Start { play_incarnation, incarnation, striding, rate: play.rate };
        self.ask(now, Request::Play(play), State::Starting(content, start));
    }

    pub(super) fn send_started(&mut self, now: Instant, hr: HResult, play_incarnation: u32, striding: bool) {
        if striding {
            self.send(now, out::ReportStartStriding { hr, play_incarnation });
        } else {
            self.send(now, out::ReportStartedPlaying { hr, play_incarnation });
        }
    }

    pub(super) fn stop_playing(&mut self, now: Instant, state: State, stop: &inbound::StopPlaying) {
        if matches!(state, State::Streaming(..)) {
            self.outputs.push_back(Output::Request(Request::Stop));
            self.timers.start(Timer::Idle, now, self.settings.idle);
        }
        if let Some(content) = state.into_content() {
            self.state = State::Ready(content);
        }
        if let Some(udp) = &mut self.udp {
            udp.pause();
            // Free players give every play one number: what comes late of this one would be taken for the next.
            if udp.puts_off(now, stop.play_incarnation) {
                return;
            }
        }
        // Answered even where nothing plays: VLC stops twice before it resumes, and waits for each EndOfStream.
        let play_incarnation = stop.play_incarnation;
        self.send(now, out::ReportEndOfStream { hr: HResult::S_OK, play_incarnation });
    }

    pub(super) fn playing(&mut self, now: Instant, mut content: Box<Content>, start: Start, playing: Playing) {
        // A stream joins once, when it is selected (3.2.5.10). A seek is no joining: the source begins at a packet with a
        // key frame, and all of it goes out. In a broadcast there is no such place, a play there begins anywhere.
        if content.opened.description.broadcast {
            content.gate.rejoin();
        }
        let Playing { cursor, mut pace } = playing;
        if let (Some(_), Some(settings)) = (&self.udp, &self.settings.udp) {
            pace = in_steps(pace, settings.flush);
        }
        let key_wait = now.checked_add(self.settings.key_wait);
        let media = Media::new(Playing { cursor, pace }, &start, content.bit_rate(), key_wait);
        self.state = State::Streaming(content, Box::new(media));
        self.begin_udp();
        self.failure = None;
        self.timers.stop(Timer::Idle);
        self.sequence = self.sequence.advance_at_start();
        self.has_started = true;
        self.restart_silence(now);
        self.send_started(now, HResult::S_OK, start.play_incarnation, start.striding);
    }

    pub(super) fn end_of_stream_sent(&mut self, now: Instant, end: End) {
        let Some(content) = std::mem::replace(&mut self.state, State::Closed).into_content() else { return };
        if end == End::Complete && media::is_told_zero_between_entries(&content, &self.player, &self.settings) {
            // A Microsoft player that was told a version below 9 takes 0 on a broadcast for "more may come" and would
            // wait for ever (3.1.5.18); the close tells it.
            self.timers.start(Timer::BroadcastEnd, now, self.settings.end_wait);
        }
        self.failure = match end {
            End::Complete => None,
            End::Failed(refusal) => Some(Box::new(refusal)),
        };
        self.state = State::Ready(content);
        if let Some(udp) = &mut self.udp {
            udp.pause();
        }
        self.timers.start(Timer::Idle, now, self.settings.idle);
        self.restart_keep_alive(now);
    }
}

/// frameOffset: 0 is the end of the content; bit 31 says that the rest counts from the start of the play, 2.2.4.25.
pub(super) fn until(frame_offset: u32) -> Option<Until> {
    const RELATIVE: u32 = 0x8000_0000;
    let ms = Duration::from_millis(u64::from(frame_offset & !RELATIVE));
    match frame_offset {
        0 | NO_END => None,
        offset if offset & RELATIVE != 0 => Some(Until::For(ms)),
        _ => Some(Until::At(ms)),
    }
}
