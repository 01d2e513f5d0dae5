//! The language of the exchanges with an origin, on a clock that is moved by hand. What the origin sends and gets goes
//! through real bytes and the deframer.

mod entries;
mod faults;
mod opening;
mod playing;
mod properties;
mod reports;
mod udp;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Client, ClientError, Event, Input, Output, Settings};
use crate::asf::{Header, PacketNumber, Thinning};
use crate::session::mmsp::testing::{self, PACKET_SIZE};
use crate::session::{
    AuthScheme, Burst, Credentials, Description, End, Next, Open, Play, PlayerLog, Position, Reason, Request,
    StreamChoice, Until,
};
use crate::wire::mmsp::data::encode_header;
use crate::wire::mmsp::deframer::{Deframer, Frame};
use crate::wire::mmsp::ids::{ClientId, FileAttributes, FileId, HResult, Incarnation, LocationId, PacketPairMode};
use crate::wire::mmsp::mac_to_viewer::{self as inbound, Message};
use crate::wire::mmsp::resend::RequestPacketListResend;
use crate::wire::mmsp::subscriber_name::SubscriberName;
use crate::wire::mmsp::viewer_to_mac as out;

/// Takes the next message that the origin gets, which must be of that kind.
macro_rules! gets {
    ($exchange:expr, $name:ident) => {
        match $exchange.origin_gets() {
            crate::wire::mmsp::viewer_to_mac::Message::$name(message) => message,
            other => panic!("{other:?} instead of {}", stringify!($name)),
        }
    };
}
use gets;

const FILE_ID: FileId = FileId(0x0042_0001);
const CLIENT_ID: ClientId = ClientId(7);
const WMS9: &str = "9.1.1.3841";
const WMS4: &str = "4.1.0.3930";

/// A session between somebody above and an origin.
struct Exchange {
    now: Instant,
    client: Client,
    sent: VecDeque<out::Message>,
    /// Resend requests, by what they ask for.
    asked: VecDeque<Vec<u32>>,
    events: VecDeque<Event>,
    media: Vec<Next>,
    deadline: Option<Instant>,
}

fn settings() -> Settings {
    Settings {
        name: SubscriberName::parse("NSPlayer/9.0.0.2980; {68c0a090-8797-11d2-a2b3-00a0c9b60551}; Host: o:1755\0"),
        reply: secs(5),
        stall: secs(10),
        max_header: 4096,
        player_reports: false,
        relays_reports: false,
        udp: None,
    }
}

impl Exchange {
    fn begin() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let now = Instant::now();
        let (sent, events) = (VecDeque::new(), VecDeque::new());
        let client = Client::new(now, settings);
        let mut exchange =
            Self { now, client, sent, asked: VecDeque::new(), events, media: Vec::new(), deadline: None };
        exchange.drain();
        exchange
    }

    /// Connected to a server of that version.
    fn greeted(settings: Settings, version: &str) -> Self {
        let mut x = Self::with(settings);
        gets!(x, Connect);
        x.origin_sends(connected(version, "NTLM"));
        assert!(matches!(x.event(), Event::Connected { .. }));
        x
    }

    /// Up to OpenFile.
    fn opening(settings: Settings, version: &str) -> Self {
        let mut x = Self::greeted(settings, version);
        x.asks(Request::Open(open(None)));
        gets!(x, FunnelInfo);
        x.origin_sends(funnel_info());
        gets!(x, ConnectFunnel);
        x.origin_sends(inbound::ReportConnectedFunnel { hr: HResult::S_OK });
        gets!(x, OpenFile);
        x
    }

    /// The header is there.
    fn ready(settings: Settings, version: &str, attributes: FileAttributes) -> Self {
        let mut x = Self::opening(settings, version);
        x.origin_sends(report_open_file(attributes));
        let incarnation = gets!(x, ReadBlock).play_incarnation;
        x.origin_sends(inbound::ReportReadBlock { hr: HResult::S_OK, play_incarnation: incarnation });
        x.origin_sends_header(&testing::header(), incarnation as u8);
        assert!(matches!(x.event(), Event::Opened(_)));
        x
    }

    /// Media may come, with the incarnation that is returned.
    fn streaming(settings: Settings, version: &str, attributes: FileAttributes) -> (Self, u8) {
        let mut x = Self::ready(settings, version, attributes);
        let incarnation = x.plays();
        (x, incarnation)
    }

    fn plays(&mut self) -> u8 {
        self.asks(Request::Play(Play::from(Position::Default)));
        gets!(self, StreamSwitch);
        let play_incarnation = gets!(self, StartPlaying).play_incarnation;
        self.origin_sends(inbound::ReportStreamSwitch { hr: HResult::S_OK });
        self.origin_sends(inbound::ReportStartedPlaying { hr: HResult::S_OK, play_incarnation });
        assert!(matches!(self.event(), Event::Playing));
        play_incarnation as u8
    }

    fn origin_sends(&mut self, message: impl Into<Message>) {
        let message = message.into();
        if let Err(error) = self.origin_says(message.clone()) {
            panic!("{message:?}: {error}");
        }
    }

    fn origin_says(&mut self, message: impl Into<Message>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        message.into().encode(0, &mut bytes);
        self.receives(&bytes)
    }

    fn origin_sends_data(
        &mut self,
        location: u32,
        incarnation: u8,
        flags: u8,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let incarnation = Incarnation::from_wire(incarnation);
        let header = encode_header(LocationId(location), incarnation, flags, payload.len());
        self.receives(&[&header, payload].concat())
    }

    fn origin_sends_header(&mut self, header: &Header, incarnation: u8) {
        let pieces: Vec<&[u8]> = header.bytes().chunks(PACKET_SIZE).collect();
        for (piece, at) in pieces.iter().zip(1..) {
            // As Windows Media Services would by [MS-WMSP]: nothing in the middle, and 0x08 at the end.
            let flags = if at == 1 {
                0x04
            } else if at == pieces.len() {
                0x08
            } else {
                0x00
            };
            self.origin_sends_data(at as u32 - 1, incarnation, flags, piece).unwrap();
        }
    }

    fn origin_sends_packet(&mut self, number: u64, incarnation: u8) {
        let bytes = testing::packet(number, number as u32 * 100).bytes;
        self.origin_sends_data(number as u32, incarnation, 0, &bytes).unwrap();
    }

    fn receives(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let mut deframer = Deframer::for_client();
        deframer.buffer().extend_from_slice(bytes);
        while let Some(frame) = deframer.next_frame()? {
            let result = match frame {
                Frame::Message(raw) => {
                    let message = Message::decode(&raw)?;
                    self.client.handle_input(self.now, Input::Received(message), &mut self.media)
                }
                Frame::Data(data) => self.client.handle_data(self.now, data, &mut self.media),
            };
            self.drain();
            result?;
        }
        Ok(())
    }

    /// Somebody above wants something.
    fn asks(&mut self, request: Request) {
        self.client.handle_input(self.now, Input::Request(request), &mut self.media).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.client.poll_output() {
                Output::Send(bytes) => {
                    let sent = testing::recorded(&bytes);
                    assert_eq!(sent.len(), 1, "every message has a packet of its own, 3.1.5.1");
                    self.sent.extend(sent);
                }
                Output::SendDatagram(bytes) => {
                    let request = RequestPacketListResend::decode(&bytes).unwrap();
                    assert_eq!(request.client_id, CLIENT_ID);
                    assert!(request.is_for(FILE_ID));
                    self.asked.push_back(request.begin_packet_list.iter().map(|n| n.0).collect());
                }
                Output::Event(event) => self.events.push_back(event),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return;
                }
            }
        }
    }

    fn advance(&mut self, by: Duration) -> Result<(), ClientError> {
        let until = self.now + by;
        while let Some(at) = self.deadline.filter(|at| *at <= until) {
            self.now = at;
            self.client.handle_input(self.now, Input::Timeout, &mut self.media)?;
            self.drain();
        }
        self.now = until;
        Ok(())
    }

    fn origin_gets(&mut self) -> out::Message {
        self.sent.pop_front().expect("the origin gets nothing")
    }

    fn origin_gets_nothing(&self) {
        assert!(self.sent.is_empty(), "{:?}", self.sent);
    }

    fn event(&mut self) -> Event {
        self.events.pop_front().expect("nothing happened")
    }

    fn nothing_happened(&self) {
        assert!(self.events.is_empty(), "{:?}", self.events);
    }

    /// What came out beside the events: packet numbers, `changed`, and how it ended.
    fn media(&mut self) -> Vec<String> {
        let text = |next| match next {
            Next::Packet(packet) => packet.number.0.to_string(),
            Next::Changed(_) => "changed".to_owned(),
            Next::Lost { packets } => format!("lost {packets}"),
            Next::Ended(End::Complete) => "complete".to_owned(),
            Next::Ended(End::Failed(refusal)) => refusal.to_string(),
            other => panic!("{other:?}"),
        };
        self.media.drain(..).map(text).collect()
    }
}

fn connected(version: &str, authen_package: &str) -> inbound::ReportConnectedEx {
    inbound::ReportConnectedEx {
        hr: HResult::S_OK,
        play_incarnation: PacketPairMode::DISABLE,
        server_version_info: version.to_owned(),
        version_info: String::new(),
        version_url: String::new(),
        authen_package: authen_package.to_owned(),
    }
}

fn funnel_info() -> inbound::ReportFunnelInfo {
    inbound::ReportFunnelInfo {
        hr: HResult::S_OK,
        play_incarnation: PacketPairMode::DISABLE,
        client_id: CLIENT_ID,
        cubdd_datagram_size: 0,
        packet_pair: Bytes::new(),
    }
}

fn report_open_file(file_attributes: FileAttributes) -> inbound::ReportOpenFile {
    inbound::ReportOpenFile {
        hr: HResult::S_OK,
        play_incarnation: 9,
        open_file_id: FILE_ID,
        file_attributes,
        file_duration: 8.0,
        file_blocks: 8,
        file_packet_size: PACKET_SIZE as u32,
        file_packet_count: 49,
        file_bit_rate: 100_000,
        file_header_size: testing::header().bytes().len() as u32,
    }
}

fn open(credentials: Option<Credentials>) -> Open {
    Open { name: "clip.asf".to_owned(), credentials }
}

fn end_of_stream(hr: HResult, incarnation: u8) -> inbound::ReportEndOfStream {
    inbound::ReportEndOfStream { hr, play_incarnation: incarnation.into() }
}

fn stream_change(header: &Header) -> inbound::ReportStreamChange {
    inbound::ReportStreamChange {
        hr: HResult::S_OK,
        packet_size: PACKET_SIZE as u32,
        header_size: header.bytes().len() as u32,
        bit_rate: header.bit_rate(),
    }
}

fn choice(stream: u16, thinning: Thinning) -> StreamChoice {
    StreamChoice { replaces: None, stream: testing::stream(stream), thinning }
}

/// Source, destination, level.
fn entries(switch: &out::StreamSwitch) -> Vec<(u16, u16, u16)> {
    switch.entries.iter().map(|e| (e.src_stream_number, e.dst_stream_number, e.thinning_level)).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const FILE: FileAttributes = FileAttributes::CAN_SEEK;
const BROADCAST: FileAttributes = FileAttributes::BROADCAST;
