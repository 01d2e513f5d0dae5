//! From OpenFile to the last piece of the header, `[MS-MMSP]` 3.2.5.6 to 3.2.5.9.

use std::time::{Duration, Instant};

use super::clocks::Timer;
use super::content::Content;
use super::header::HeaderSend;
use super::media::{self, Media};
use super::state::State;
use super::{Output, Session};
use crate::session::mmsp::player::Player;
use crate::session::{AuthScheme, Credentials, Open, Opened, Request};
use crate::wire::mmsp::ids::{FileAttributes, FileId, HResult, Incarnation, PacketPairMode};
use crate::wire::mmsp::mac_to_viewer as out;
use crate::wire::mmsp::viewer_to_mac as inbound;

/// File-ID of every session: VLC dies on others and all free players send 1 back, so nCubs alone keeps the secret.
pub(super) const FILE_ID: FileId = FileId(1);

impl Session {
    pub(super) fn open_file(&mut self, now: Instant, open: inbound::OpenFile) {
        self.timers.stop(Timer::Login);
        self.timers.stop(Timer::HeaderPiece);
        let scheme = self.scheme.unwrap_or(AuthScheme::Ntlm);
        let credentials = (!open.token_data.is_empty()).then_some(Credentials { scheme, token: open.token_data });
        let request = Request::Open(Open { name: open.file_name, credentials });
        self.ask(now, request, State::Opening { incarnation: open.play_incarnation });
    }

    pub(super) fn read_block(&mut self, now: Instant, state: State, read: &inbound::ReadBlock) {
        let Some(content) = state.into_content() else { return };
        let Some(header) = self.begin_header(now, &content, read) else {
            self.state = State::AwaitReadBlock(content);
            return;
        };
        self.sources_turn(now);
        self.state = State::SendingHeader(content, Box::new(header));
        self.send_header_pieces(now);
    }

    /// Answers a ReadBlock; returns the header to be sent for it.
    pub(super) fn begin_header(
        &mut self,
        now: Instant,
        content: &Content,
        read: &inbound::ReadBlock,
    ) -> Option<HeaderSend> {
        let play_incarnation = read.play_incarnation;
        let Some(incarnation) = Incarnation::from_request(play_incarnation) else {
            self.send(now, out::ReportReadBlock { hr: HResult::E_INVALIDARG, play_incarnation });
            return None;
        };
        let mut header = HeaderSend::new(&content.header, incarnation, content.bit_rate());
        if let Some(udp) = &self.udp {
            let free = udp.header_free.filter(|free| *free > now);
            let is_with_pair = self.wants_udp_pair && free.is_none();
            let pair = if is_with_pair { self.send_pair() } else { 0 };
            header = header.after(free.unwrap_or(now), pair);
        }
        self.send(now, out::ReportReadBlock { hr: HResult::S_OK, play_incarnation });
        Some(header)
    }

    /// ReadBlock for the next entry of a playlist, as players on UDP ask for it: 3.2.4.2.
    pub(super) fn read_entry(
        &mut self,
        now: Instant,
        content: Box<Content>,
        mut media: Box<Media>,
        read: &inbound::ReadBlock,
    ) {
        if let Some(header) = self.begin_header(now, &content, read) {
            media.send_header(header);
        }
        self.state = State::Streaming(content, media);
    }

    pub(super) fn send_header_pieces(&mut self, now: Instant) {
        let State::SendingHeader(_, header) = &mut self.state else { return };
        while let Some((due, piece)) = header.next_due(now) {
            match piece {
                Some(piece) => match &mut self.udp {
                    Some(udp) => {
                        udp.header_free = header.free();
                        self.outputs.push_back(Output::SendDatagram(piece));
                    }
                    None => self.outputs.push_back(Output::Send(piece)),
                },
                None => {
                    self.timers.start(Timer::HeaderPiece, due, Duration::ZERO);
                    return;
                }
            }
        }
        if let Some(content) = std::mem::replace(&mut self.state, State::Closed).into_content() {
            self.state = State::Ready(content);
            self.handshake_done(now);
        }
    }

    pub(super) fn send_connected(&mut self, now: Instant, hr: HResult) {
        let has_pair = self.wants_pair && self.settings.packet_pair && !hr.is_failure();
        self.send(
            now,
            out::ReportConnectedEx {
                hr,
                play_incarnation: if has_pair { PacketPairMode::USE } else { PacketPairMode::DISABLE },
                server_version_info: self.settings.server_version.clone(),
                version_info: String::new(),
                version_url: String::new(),
                authen_package: self.scheme.map(|scheme| scheme.to_string()).unwrap_or_default(),
            },
        );
    }
}

pub(super) fn report_open_file(opened: &Opened, player: &Player, play_incarnation: u32) -> out::ReportOpenFile {
    let Opened { description, header } = opened;
    let mut attributes = FileAttributes::default();
    let flags = [
        (description.can_stride, FileAttributes::CAN_STRIDE),
        (description.can_seek, FileAttributes::CAN_SEEK),
        (description.broadcast, FileAttributes::BROADCAST),
        // VLC, libmms and xine take BROADCAST with LIVE for a file and seek in it.
        (description.live && !player.is_free(), FileAttributes::LIVE),
        (description.playlist, FileAttributes::PLAYLIST),
    ];
    for (is_set, flag) in flags {
        if is_set {
            attributes = attributes.with(flag);
        }
    }
    out::ReportOpenFile {
        hr: HResult::S_OK,
        play_incarnation,
        open_file_id: FILE_ID,
        file_attributes: attributes,
        file_duration: description.duration_seconds,
        file_blocks: description.duration_seconds.ceil().clamp(0.0, f64::from(u32::MAX)) as u32,
        file_packet_size: media::size(header.packet_size()),
        file_packet_count: description.packet_count,
        file_bit_rate: description.bit_rate,
        // What is about to be sent, to the byte: VLC waits 50 s for what is missing.
        file_header_size: media::size(header.bytes().len()),
    }
}

/// A full-size answer with openFileId 0: VLC looks at nothing else.
pub(super) fn refused_open_file(hr: HResult, play_incarnation: u32) -> out::ReportOpenFile {
    out::ReportOpenFile {
        hr,
        play_incarnation,
        open_file_id: FileId(0),
        file_attributes: FileAttributes::default(),
        file_duration: 0.0,
        file_blocks: 0,
        file_packet_size: 0,
        file_packet_count: 0,
        file_bit_rate: 0,
        file_header_size: 0,
    }
}
