//! From FunnelInfo to the header, `[MS-MMSP]` 3.1.4.1 to 3.1.5.12.

use std::sync::Arc;
use std::time::Instant;

use super::order::Order;
use super::playing::Content;
use super::reading::Reading;
use super::state::State;
use super::{Client, ClientError, Event, Timer, Udp};
use crate::asf::{Header, Thinning};
use crate::session::{AuthScheme, Description, Open, Opened};
use crate::wire::mmsp::ids::FileAttributes;
use crate::wire::mmsp::mac_to_viewer as inbound;
use crate::wire::mmsp::viewer_to_mac as out;

/// funnelName of a client on TCP: the address counts for nothing there, but the form must be right, 2.2.4.18.
const FUNNEL: &str = r"\\127.0.0.1\TCP\1037";

/// maxBitRate of ConnectFunnel, 2.2.4.18.
const MAX_BIT_RATE: u32 = 0x0098_9680;

impl Client {
    pub(super) fn open_file(&mut self, now: Instant, open: Open) {
        // Credentials of another scheme than the origin's would be read as something else: it asks for what it wants.
        let token_data = open.credentials.filter(|c| c.scheme == self.scheme).map(|c| c.token).unwrap_or_default();
        self.was_challenged = !token_data.is_empty();
        let play_incarnation = u32::from(self.incarnations.next_play());
        self.name.clone_from(&open.name);
        self.send(out::OpenFile { play_incarnation, file_name: open.name, token_data });
        self.await_reply(now);
        self.state = State::AwaitOpenFile;
    }

    /// Which scheme a challenge belongs to, 3.1.5.8.
    pub(super) fn challenged_scheme(&self, token: &[u8]) -> AuthScheme {
        match (token.first_chunk::<2>(), self.server_major) {
            (Some([0, 0]) | None, 9..) => AuthScheme::Ntlm,
            // Below 9 a Basic challenge without a realm looks like this, too: what was announced counts.
            (Some([0, 0]) | None, _) => self.scheme,
            (Some(_), _) => AuthScheme::Basic,
        }
    }

    /// ConnectFunnel: the way that Data packets shall take, 2.2.4.18.
    pub(super) fn connect_funnel(&mut self, now: Instant, open: Open, udp: Option<Udp>) {
        let funnel_name = udp.as_ref().map_or_else(|| FUNNEL.to_owned(), Udp::funnel_name);
        self.order = udp.map(Order::new);
        self.send(out::ConnectFunnel { funnel_name, max_bit_rate: MAX_BIT_RATE });
        self.await_reply(now);
        self.state = State::AwaitFunnel(open);
    }

    pub(super) fn read_block(&mut self, now: Instant, opened: inbound::ReportOpenFile) {
        self.file_id = opened.open_file_id;
        let reading = self.read_header(now, opened.file_header_size, opened.file_bit_rate);
        self.await_reply(now);
        self.state = State::AwaitHeader { opened, reading };
    }

    /// ReadBlock, and what it will bring.
    pub(super) fn read_header(&mut self, now: Instant, header_size: u32, bit_rate: u32) -> Reading {
        let incarnation = self.incarnations.next_header();
        self.send(out::ReadBlock { open_file_id: self.file_id, play_incarnation: u32::from(incarnation) });
        if self.order.is_none() {
            return Reading::over_tcp(Some(incarnation));
        }
        let reading = Reading::over_udp(incarnation, header_size, bit_rate);
        if !self.is_paused {
            self.timers.start(Timer::Header, now, reading.period());
        }
        reading
    }

    /// Pieces of the header were lost, 3.1.6.1: it is asked for again, but not for ever.
    pub(super) fn header_is_late(&mut self, now: Instant) -> Result<(), ClientError> {
        let (State::AwaitHeader { reading, .. } | State::NextHeader { reading, .. }) = &mut self.state else {
            return Ok(());
        };
        let incarnation = self.incarnations.next_header();
        let Some(before) = reading.retry(incarnation) else { return Err(ClientError::NoDatagrams) };
        self.timers.start(Timer::Header, now, reading.period());
        self.send(out::CancelReadBlock { play_incarnation: before.into() });
        self.send(out::ReadBlock { open_file_id: self.file_id, play_incarnation: incarnation.into() });
        Ok(())
    }

    pub(super) fn header_complete(
        &mut self,
        opened: inbound::ReportOpenFile,
        reading: Reading,
    ) -> Result<(), ClientError> {
        self.timers.stop(Timer::Reply);
        let header = Arc::new(Header::parse(reading.into_bytes())?);
        let has = |flag| opened.file_attributes.contains(flag);
        let description = Description {
            broadcast: has(FileAttributes::BROADCAST),
            live: has(FileAttributes::LIVE),
            playlist: has(FileAttributes::PLAYLIST),
            can_seek: has(FileAttributes::CAN_SEEK),
            can_stride: has(FileAttributes::CAN_STRIDE),
            duration_seconds: if opened.file_duration.is_finite() { opened.file_duration.max(0.0) } else { 0.0 },
            packet_count: opened.file_packet_count,
            bit_rate: if opened.file_bit_rate == 0 { header.bit_rate() } else { opened.file_bit_rate },
            authenticated: self.was_challenged,
        };
        let opened = Arc::new(Opened { description, header: Arc::clone(&header) });
        let selection = header.streams().iter().map(|stream| (stream.number, Thinning::All)).collect();
        self.content = Some(Content { opened: Arc::clone(&opened), header, selection, is_selected: false });
        self.event(Event::Opened(opened));
        Ok(())
    }
}

pub(super) fn scheme_named(authen_package: &str) -> Option<AuthScheme> {
    match authen_package.to_ascii_uppercase().as_str() {
        "BASIC" => Some(AuthScheme::Basic),
        "NTLM" => Some(AuthScheme::Ntlm),
        _ => None,
    }
}
