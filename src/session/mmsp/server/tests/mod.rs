//! The language of the conversations with a viewer, on a clock that is moved by hand. What the viewer sends and gets goes
//! through real bytes and the deframer.

mod datagrams;
mod entries;
mod funnel;
mod limits;
mod opening;
mod packet_pair;
mod players;
mod playing;
mod properties;
mod refusals;
mod resend;

use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use parking_lot::Mutex;

use super::opening::FILE_ID;
use super::{Closing, Funnel, Input, Output, ResendRefusal, Session, SessionError, Settings, Skip, Udp};
use crate::asf::PacketNumber;
use crate::session::batch::Batch;
use crate::session::mmsp::testing::{self, PACKET_SIZE};
use crate::session::{
    AuthScheme, Burst, Credentials, Cursor, End, Next, Open, Opened, Pace, Packet, Play, PlayerLog, Playing, Position,
    Refusal, Reply, Request, Until,
};
use crate::wire::mmsp::data::Data;
use crate::wire::mmsp::deframer::{Deframer, Frame};
use crate::wire::mmsp::ids::{ClientId, FileAttributes, FileId, HResult, Incarnation, PacketPairMode};
use crate::wire::mmsp::mac_to_viewer as out;
use crate::wire::mmsp::subscriber_name::SubscriberName;
use crate::wire::mmsp::viewer_to_mac::{self as inbound, Message, StreamSwitch, StreamSwitchEntry};

/// Takes the next message that the viewer gets, which must be of that kind.
macro_rules! gets {
    ($conversation:expr, $name:ident) => {
        match $conversation.viewer_gets() {
            crate::wire::mmsp::mac_to_viewer::Message::$name(message) => message,
            other => panic!("{other:?} instead of {}", stringify!($name)),
        }
    };
}
use gets;

/// A cursor that says what a test wrote down, and then that nothing is there.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<VecDeque<Next>>>);

impl Script {
    pub(super) fn of(what: impl IntoIterator<Item = Next>) -> Self {
        Self(Arc::new(Mutex::new(what.into_iter().collect())))
    }

    fn packets(packets: impl IntoIterator<Item = Packet>) -> Self {
        Self::of(packets.into_iter().map(Next::from))
    }

    fn goes_on(&self, next: Next) {
        self.0.lock().push_back(next);
    }
}

impl Cursor for Script {
    fn next(&mut self) -> Next {
        self.0.lock().pop_front().unwrap_or(Next::Nothing)
    }

    /// What a test shares it keeps, as a ring does.
    fn is_history(&self) -> bool {
        true
    }
}

/// A session between a viewer and a source.
struct Conversation {
    now: Instant,
    session: Session,
    deframer: Deframer,
    arrived: VecDeque<(Instant, Frame)>,
    asked: VecDeque<Request>,
    /// Datagrams, each as it came.
    datagrams: VecDeque<(Instant, Bytes)>,
    /// What was asked of the driver.
    claims: VecDeque<Option<NonZeroU16>>,
    closing: Option<Closing>,
    deadline: Option<Instant>,
    media_due: Option<Instant>,
}

const CLIENT_ID: ClientId = ClientId(0x1234_5678);
const WMP9: &str = "NSPlayer/9.0.0.2980; {68c0a090-8797-11d2-a2b3-00a0c9b60551}; Host: a.example\0";
const WMS4: &str = "Spooooon!\0";
const FREE: &str = "NSPlayer/7.0.0.1956; {7E667F5D-A661-495E-A512-F55686DDA178}; Host: 127.0.0.1\0";

impl Conversation {
    fn begin() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let now = Instant::now();
        let mut conversation = Self {
            now,
            session: Session::new(now, settings, CLIENT_ID),
            deframer: Deframer::for_client(),
            arrived: VecDeque::new(),
            asked: VecDeque::new(),
            datagrams: VecDeque::new(),
            claims: VecDeque::new(),
            closing: None,
            deadline: None,
            media_due: None,
        };
        conversation.settle();
        conversation
    }

    /// A player of that name has content open and its header.
    fn ready(name: &str, opened: Opened) -> Self {
        Self::ready_with(Settings::default(), name, opened)
    }

    fn ready_with(settings: Settings, name: &str, opened: Opened) -> Self {
        let mut c = Self::with(settings);
        c.opens(name);
        c.source_answers(Reply::Opened(Arc::new(opened)));
        gets!(c, ReportOpenFile);
        c.viewer_sends(read_block(2));
        gets!(c, ReportReadBlock);
        c.viewer_gets_header();
        c
    }

    /// A player of that name plays all streams of `opened`.
    fn streaming(name: &str, opened: Opened, script: &Script) -> Self {
        let mut c = Self::ready(name, opened);
        c.plays(script);
        c
    }

    /// Up to OpenFile.
    fn opens(&mut self, name: &str) {
        self.viewer_sends(connect(name));
        self.source_greets();
        gets!(self, ReportConnectedEx);
        if self.session.settings.udp.is_some() {
            self.viewer_sends(connect_funnel("UDP"));
            self.driver_claims(1037);
        } else {
            self.viewer_sends(connect_funnel("TCP"));
        }
        gets!(self, ReportConnectedFunnel);
        self.viewer_sends(open_file("clip.asf"));
        assert!(matches!(self.source_is_asked(), Request::Open(_)));
    }

    fn plays(&mut self, script: &Script) {
        self.viewer_sends(switch(&[(1, 0), (2, 0)]));
        gets!(self, ReportStreamSwitch);
        self.source_is_asked();
        self.viewer_sends(start(4));
        self.source_plays(script, Pace::AsItComes);
        gets!(self, ReportStartedPlaying);
    }

    fn viewer_sends(&mut self, message: impl Into<Message>) {
        let message = message.into();
        if let Err(error) = self.viewer_says(message.clone()) {
            panic!("{message:?}: {error}");
        }
    }

    /// The same, through real bytes, where it may end the session.
    fn viewer_says(&mut self, message: impl Into<Message>) -> Result<(), SessionError> {
        let mut bytes = Vec::new();
        message.into().encode(0, &mut bytes);
        let mut deframer = Deframer::for_server();
        deframer.buffer().extend_from_slice(&bytes);
        let Some(Frame::Message(raw)) = deframer.next_frame()? else { panic!("no message") };
        self.input(Input::Received(Message::decode(&raw)?))
    }

    fn source_answers(&mut self, reply: Reply) {
        self.input(Input::Reply(reply)).unwrap();
    }

    fn source_greets(&mut self) {
        assert!(matches!(self.source_is_asked(), Request::Greet(_)));
        self.source_answers(Reply::Greeted { scheme: Some(AuthScheme::Ntlm) });
    }

    /// Skips Stop, which comes before a play that moves.
    fn source_plays(&mut self, script: &Script, pace: Pace) -> Play {
        let mut request = self.source_is_asked();
        if request == Request::Stop {
            request = self.source_is_asked();
        }
        let Request::Play(play) = request else { panic!("{request:?}") };
        self.source_answers(Reply::Playing(Playing { cursor: Box::new(script.clone()), pace }));
        play
    }

    fn source_is_asked(&mut self) -> Request {
        self.asked.pop_front().expect("the source is not asked")
    }

    fn source_is_not_asked(&self) {
        assert!(self.asked.is_empty(), "{:?}", self.asked);
    }

    /// More has come to the cursor.
    fn media_come(&mut self) {
        self.settle();
    }

    fn input(&mut self, input: Input) -> Result<(), SessionError> {
        let result = self.session.handle_input(self.now, input);
        self.settle();
        result
    }

    /// What a driver does: the messages, then the media that are due.
    fn settle(&mut self) {
        loop {
            self.drain();
            self.media_due = None;
            if !self.session.is_streaming() {
                return;
            }
            let (mut batch, mut datagrams) = (Batch::new(), Batch::new());
            let due = self.session.poll_media(self.now, 64 * 1024, &mut batch, &mut datagrams);
            let bytes = batch.to_vec();
            self.datagrams_arrive(&datagrams);
            self.arrive(&bytes);
            if due.is_none_or(|due| due > self.now) {
                self.drain();
                self.media_due = due;
                return;
            }
            assert!(!bytes.is_empty() || !datagrams.is_empty(), "a full batch that is empty");
        }
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Send(bytes) => self.arrive(&bytes),
                Output::Request(request) => self.asked.push_back(request),
                Output::SendDatagram(bytes) => self.datagrams.push_back((self.now, bytes)),
                Output::Funnel(claim) => self.claims.push_back(claim),
                Output::Close(why) => assert!(self.closing.replace(why).is_none(), "closed twice"),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return;
                }
            }
        }
    }

    fn datagrams_arrive(&mut self, batch: &Batch) {
        let datagrams = batch.pieces().map(|(head, body)| (self.now, [head, body].concat().into()));
        self.datagrams.extend(datagrams);
    }

    fn arrive(&mut self, bytes: &[u8]) {
        self.deframer.buffer().extend_from_slice(bytes);
        while let Some(frame) = self.deframer.next_frame().unwrap() {
            if let Frame::Data(data) = &frame {
                assert!(data.payload.len() <= PACKET_SIZE, "a Data packet larger than the packet size");
                assert_ne!(data.play_incarnation.get(), 0);
            }
            self.arrived.push_back((self.now, frame));
        }
        assert!(self.deframer.buffer().is_empty(), "half a packet");
    }

    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        for _ in 0..100_000 {
            let next = self.deadline.into_iter().chain(self.media_due).min().filter(|at| *at <= until);
            let Some(at) = next else {
                self.now = until;
                return;
            };
            self.now = self.now.max(at);
            if self.deadline.is_some_and(|deadline| deadline <= self.now) {
                self.input(Input::Timeout).unwrap();
            } else {
                self.settle();
            }
        }
        panic!("time stands still");
    }

    fn next_frame(&mut self) -> (Instant, Frame) {
        self.arrived.pop_front().expect("the viewer gets nothing")
    }

    fn viewer_gets(&mut self) -> out::Message {
        match self.next_frame() {
            (_, Frame::Message(raw)) => out::Message::decode(&raw).unwrap(),
            (_, Frame::Data(data)) => panic!("{data:?}"),
        }
    }

    fn viewer_gets_data(&mut self) -> Data {
        match self.next_frame() {
            (_, Frame::Data(data)) => data,
            (_, Frame::Message(raw)) => panic!("{:?}", out::Message::decode(&raw)),
        }
    }

    /// The pieces up to the one that ends it; time goes on meanwhile.
    fn viewer_gets_header(&mut self) -> Vec<Data> {
        let is_udp = self.session.funnel() != Funnel::Tcp;
        let mut pieces: Vec<Data> = Vec::new();
        while pieces.last().is_none_or(|last| last.af_flags & 0x08 == 0) {
            if is_udp && !self.datagrams.is_empty() {
                pieces.push(self.viewer_gets_datagram());
            } else if !is_udp && !self.arrived.is_empty() {
                pieces.push(self.viewer_gets_data());
            } else {
                self.advance(Duration::from_millis(1));
            }
        }
        pieces
    }

    /// The driver is asked for a port, and has it.
    fn driver_claims(&mut self, port: u16) {
        assert_eq!(self.claims.pop_front(), Some(NonZeroU16::new(port)));
        self.input(Input::Funnel(Ok(()))).unwrap();
    }

    fn viewer_gets_datagram(&mut self) -> Data {
        let (_, datagram) = self.datagrams.pop_front().expect("no datagram");
        let data = Data::decode(&datagram).unwrap();
        assert_eq!(datagram.len(), 8 + data.payload.len());
        data
    }

    /// What `viewer_gets_media` tells, of the datagrams.
    fn viewer_gets_datagrams(&mut self) -> Vec<(u32, u8, u8)> {
        let mut media = Vec::new();
        while !self.datagrams.is_empty() {
            let data = self.viewer_gets_datagram();
            media.push((data.location_id.0, data.play_incarnation.get(), data.af_flags));
        }
        media
    }

    /// LocationId, incarnation and AFFlags of the Data packets that came.
    fn viewer_gets_media(&mut self) -> Vec<(u32, u8, u8)> {
        let mut media = Vec::new();
        while let Some((_, Frame::Data(_))) = self.arrived.front() {
            let data = self.viewer_gets_data();
            media.push((data.location_id.0, data.play_incarnation.get(), data.af_flags));
        }
        media
    }

    fn viewer_gets_nothing(&self) {
        assert!(self.arrived.is_empty(), "{:?}", self.arrived);
    }

    fn viewer_gets_nothing_for(&mut self, time: Duration) {
        self.viewer_gets_nothing();
        self.advance(time);
        self.viewer_gets_nothing();
    }
}

/// With Data over UDP and packet pairs; random bytes count up.
fn with_udp() -> Settings {
    fn random(bytes: &mut [u8]) {
        thread_local!(static NEXT: Cell<u8> = const { Cell::new(0) });
        bytes.iter_mut().for_each(|byte| *byte = NEXT.replace(NEXT.get().wrapping_add(1)));
    }
    Settings { udp: Some(Udp::default()), packet_pair: true, random, ..Settings::default() }
}

fn connect(name: &str) -> inbound::Connect {
    inbound::Connect { play_incarnation: PacketPairMode::DISABLE, subscriber_name: SubscriberName::parse(name) }
}

fn connect_funnel(protocol: &str) -> inbound::ConnectFunnel {
    inbound::ConnectFunnel { funnel_name: format!(r"\\192.168.0.129\{protocol}\1037"), max_bit_rate: 0 }
}

fn open_file(name: &str) -> inbound::OpenFile {
    inbound::OpenFile { play_incarnation: 1, file_name: name.to_owned(), token_data: Bytes::new() }
}

fn read_block(play_incarnation: u32) -> inbound::ReadBlock {
    inbound::ReadBlock { open_file_id: FILE_ID, play_incarnation }
}

/// Stream and thinning level.
fn switch(entries: &[(u16, u16)]) -> StreamSwitch {
    let entry = |&(dst_stream_number, thinning_level)| StreamSwitchEntry {
        src_stream_number: 0xFFFF,
        dst_stream_number,
        thinning_level,
    };
    StreamSwitch { entries: entries.iter().map(entry).collect() }
}

/// From the beginning.
fn start(play_incarnation: u32) -> inbound::StartPlaying {
    inbound::StartPlaying {
        open_file_id: FILE_ID,
        position: 0.0,
        asf_offset: u32::MAX,
        location_id: u32::MAX,
        frame_offset: 0,
        play_incarnation,
        accel: None,
        link_bandwidth: None,
    }
}

fn start_at_packet(play_incarnation: u32, location_id: u32) -> inbound::StartPlaying {
    inbound::StartPlaying { location_id, ..start(play_incarnation) }
}

fn stride(play_incarnation: u32, rate: f64) -> inbound::StartStriding {
    inbound::StartStriding {
        open_file_id: FILE_ID,
        position: 0.0,
        asf_offset: u32::MAX,
        location_id: u32::MAX,
        play_incarnation,
        rate,
    }
}

fn stop(play_incarnation: u32) -> inbound::StopPlaying {
    inbound::StopPlaying { open_file_id: FILE_ID, play_incarnation }
}

fn close_file() -> inbound::CloseFile {
    inbound::CloseFile { open_file_id: FILE_ID }
}

fn logging() -> inbound::Logging {
    inbound::Logging { client_log: Bytes::from_static(&[7; 1490]) }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
