//! The seam between a session and its content: one and the same server session over three cursors. The first reads a 1:1
//! upstream (a client session fed with what an origin sends), the second a vector, the third leaves packets out and changes
//! the header, as the ring of a broadcast does. What is checked is what leaves on the wire.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mmsproxy::asf::{
    Header, HeaderBuilder, MediaObject, PacketNumber, Packetizer, StreamNumber, VideoFormat, WaveFormat, padding,
};
use mmsproxy::session::batch::Batch;
use mmsproxy::session::mmsp::{client, server};
use mmsproxy::session::{
    Cursor, Description, End, Next, Open, Opened, Pace, Packet, Play, Playing, Position, Reply, Request,
};
use mmsproxy::wire::mmsp::data::{Data, encode_header};
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::ids::{ClientId, FileAttributes, FileId, HResult, Incarnation, LocationId, PacketPairMode};
use mmsproxy::wire::mmsp::mac_to_viewer as report;
use mmsproxy::wire::mmsp::subscriber_name::SubscriberName;
use mmsproxy::wire::mmsp::viewer_to_mac as ask;

/// A cursor over what stands in a queue; whoever fills it is its own affair.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<Next>>>);

impl Cursor for Queue {
    fn next(&mut self) -> Next {
        self.0.lock().unwrap().pop_front().unwrap_or(Next::Nothing)
    }
}

/// A cursor over a vector: content at rest.
struct Listed(std::vec::IntoIter<Packet>);

impl Cursor for Listed {
    fn next(&mut self) -> Next {
        self.0.next().map_or(Next::Ended(End::Complete), Next::from)
    }
}

/// A cursor of a viewer that fell behind by seven packets, and then meets the next entry.
struct Jumping {
    packets: std::vec::IntoIter<Packet>,
    read: usize,
}

impl Cursor for Jumping {
    fn next(&mut self) -> Next {
        self.read += 1;
        match self.read {
            3 => Next::Skipped { packets: self.packets.by_ref().take(7).count() as u64, lag: Duration::ZERO },
            5 => Next::Changed(header(300)),
            6.. => Next::Ended(End::Complete),
            _ => self.packets.next().map_or(Next::Nothing, Next::from),
        }
    }
}

fn stream(number: u16) -> StreamNumber {
    StreamNumber::new(number).unwrap()
}

fn header(packet_size: u32) -> Arc<Header> {
    let builder = HeaderBuilder::new(packet_size)
        .video(stream(1), 300_000, &VideoFormat::motion_jpeg(16, 16))
        .audio(stream(2), &WaveFormat::pcm(1, 8000, 8));
    Arc::new(builder.build().unwrap())
}

/// A second of real packets, with a key frame and a piece of audio in each.
fn packets() -> Vec<Packet> {
    let mut packetizer = Packetizer::new(&header(400));
    let packet = |number: u32| {
        for of in [1, 2] {
            let object = MediaObject {
                stream: stream(of),
                key_frame: true,
                content_ms: number * 100,
                data: &[number as u8; 60],
            };
            packetizer.push(&object, &mut Vec::new());
        }
        let bytes = packetizer.flush().unwrap();
        let number = u64::from(number);
        Packet::new(PacketNumber(number), number as u32 * 100, bytes.clone(), padding::strip(bytes))
    };
    (0..10).map(packet).collect()
}

fn packet_of(message: impl Into<report::Message>) -> Vec<u8> {
    let mut out = Vec::new();
    message.into().encode(0, &mut out);
    out
}

/// What an origin says until its stream has ended, in the order of the requests of a client session.
fn origin(packets: &[Packet]) -> Vec<Vec<u8>> {
    let hr = HResult::S_OK;
    let header = header(400);
    let mut said = vec![
        packet_of(report::ReportConnectedEx {
            hr,
            play_incarnation: PacketPairMode::DISABLE,
            server_version_info: "9.1.1.3841".to_owned(),
            version_info: String::new(),
            version_url: String::new(),
            authen_package: String::new(),
        }),
        packet_of(report::ReportFunnelInfo {
            hr,
            play_incarnation: PacketPairMode::DISABLE,
            client_id: ClientId(1),
            cubdd_datagram_size: 0,
            packet_pair: Bytes::new(),
        }),
        packet_of(report::ReportConnectedFunnel { hr }),
        packet_of(report::ReportOpenFile {
            hr,
            play_incarnation: 9,
            open_file_id: FileId(77),
            file_attributes: FileAttributes::CAN_SEEK,
            file_duration: 1.0,
            file_blocks: 1,
            file_packet_size: 400,
            file_packet_count: 10,
            file_bit_rate: 364_000,
            file_header_size: header.bytes().len() as u32,
        }),
        packet_of(report::ReportReadBlock { hr, play_incarnation: 1 }),
        data(0, 1, 0x04, &header.bytes()[..400]),
        data(1, 1, 0x0C, &header.bytes()[400..]),
        packet_of(report::ReportStreamSwitch { hr }),
        packet_of(report::ReportStartedPlaying { hr, play_incarnation: 10 }),
    ];
    said.extend(packets.iter().map(|packet| data(packet.number.0 as u32, 10, packet.number.0 as u8, &packet.bytes)));
    said.push(packet_of(report::ReportEndOfStream { hr, play_incarnation: 10 }));
    said
}

fn data(location: u32, incarnation: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let head = encode_header(LocationId(location), Incarnation::from_wire(incarnation), flags, payload.len());
    [&head, payload].concat()
}

/// What a client session makes of such an origin.
fn upstream(packets: &[Packet]) -> Queue {
    let now = Instant::now();
    let settings = client::Settings {
        name: SubscriberName::parse("NSPlayer/9.0.0.2980"),
        reply: Duration::from_secs(5),
        stall: Duration::from_secs(10),
        max_header: 65_536,
        player_reports: false,
        relays_reports: false,
        udp: None,
    };
    let mut session = client::Client::new(now, settings);
    let mut media = Vec::new();
    let open = Open { name: "clip.asf".to_owned(), credentials: None };
    for request in [Request::Open(open), Request::Play(Play::from(Position::Default))] {
        session.handle_input(now, client::Input::Request(request), &mut media).unwrap();
    }
    let mut deframer = Deframer::for_client();
    for said in origin(packets) {
        deframer.buffer().extend_from_slice(&said);
        while let Some(frame) = deframer.next_frame().unwrap() {
            match frame {
                Frame::Data(data) => session.handle_data(now, data, &mut media).unwrap(),
                Frame::Message(raw) => {
                    let message = report::Message::decode(&raw).unwrap();
                    session.handle_input(now, client::Input::Received(message), &mut media).unwrap();
                }
            }
        }
    }
    // A 1:1 upstream shares what it received with the viewer; what its player would pad again is left out.
    let strip = |next| match next {
        Next::Packet(packet) => {
            let stripped = padding::strip(packet.bytes.clone());
            Next::from(Packet::new(packet.number, packet.send_time_ms, packet.bytes.clone(), stripped))
        }
        next => next,
    };
    Queue(Arc::new(Mutex::new(media.into_iter().map(strip).collect())))
}

/// One server session for a player of two streams; all that it sends while `cursor` has something, for a while.
fn wire(cursor: Box<dyn Cursor>) -> Vec<Frame> {
    let mut now = Instant::now();
    let mut session = server::Session::new(now, server::Settings::default(), ClientId(1));
    let description = Description { bit_rate: 364_000, packet_count: 10, ..Description::default() };
    let mut replies = VecDeque::from([
        Reply::Greeted { scheme: None },
        Reply::Opened(Arc::new(Opened { description, header: header(400) })),
        Reply::Playing(Playing { cursor, pace: Pace::AsItComes }),
    ]);
    let name = "NSPlayer/7.0.0.1956; {7E667F5D-A661-495E-A512-F55686DDA178}; Host: proxy.example\0";
    let entry =
        |dst_stream_number| ask::StreamSwitchEntry { src_stream_number: 0xFFFF, dst_stream_number, thinning_level: 0 };
    let asked: [ask::Message; 6] = [
        ask::Connect { play_incarnation: PacketPairMode(0), subscriber_name: SubscriberName::parse(name) }.into(),
        ask::ConnectFunnel { funnel_name: r"\\192.168.0.129\TCP\1037".to_owned(), max_bit_rate: 0 }.into(),
        ask::OpenFile { play_incarnation: 1, file_name: "clip.asf".to_owned(), token_data: Bytes::new() }.into(),
        ask::ReadBlock { open_file_id: FileId(1), play_incarnation: 2 }.into(),
        ask::StreamSwitch { entries: vec![entry(1), entry(2)] }.into(),
        ask::StartPlaying {
            open_file_id: FileId(1),
            position: 0.0,
            asf_offset: u32::MAX,
            location_id: u32::MAX,
            frame_offset: 0x00FF_FFFF,
            play_incarnation: 4,
            accel: None,
            link_bandwidth: None,
        }
        .into(),
    ];
    let mut batch = Batch::new();
    let mut asked = asked.into_iter();
    for _ in 0..400 {
        let input = asked.next().map_or(server::Input::Timeout, server::Input::Received);
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            session.handle_input(now, input).unwrap();
            loop {
                match session.poll_output() {
                    server::Output::Send(bytes) => batch.push_message(bytes),
                    server::Output::Request(Request::Greet(_) | Request::Open(_) | Request::Play(_)) => {
                        inputs.extend(replies.pop_front().map(server::Input::Reply));
                    }
                    server::Output::Request(_) | server::Output::Funnel(_) | server::Output::SendDatagram(_) => {}
                    server::Output::Close(why) => panic!("{why}"),
                    server::Output::Timeout(_) => break,
                }
            }
        }
        session.poll_media(now, 1 << 20, &mut batch, &mut Batch::new());
        now += Duration::from_millis(25);
    }
    let mut deframer = Deframer::for_client();
    deframer.buffer().extend_from_slice(&batch.to_vec());
    std::iter::from_fn(|| deframer.next_frame().unwrap()).collect()
}

fn media(frames: &[Frame], incarnation: u8) -> Vec<&Data> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Data(data) if data.play_incarnation.get() == incarnation => Some(data),
            _ => None,
        })
        .collect()
}

fn places(media: &[&Data]) -> Vec<(u32, u8)> {
    media.iter().map(|data| (data.location_id.0, data.af_flags)).collect()
}

#[test]
fn an_upstream_and_a_vector_of_the_same_packets_look_the_same_on_the_wire() {
    let one_to_one = wire(Box::new(upstream(&packets())));
    let listed = wire(Box::new(Listed(packets().into_iter())));
    assert_eq!(one_to_one, listed);

    let media = media(&listed, 4);
    assert_eq!(places(&media), (0..10).map(|n| (n, n as u8)).collect::<Vec<_>>());
    for (data, packet) in media.iter().zip(packets()) {
        assert_eq!(data.payload, packet.stripped);
    }
    let Some(Frame::Message(raw)) = listed.iter().rev().find(|frame| !is_ping(frame)) else {
        panic!("no last message")
    };
    let end = report::ReportEndOfStream { hr: HResult::S_OK, play_incarnation: 4 };
    assert_eq!(report::Message::decode(raw).unwrap(), end.into());
}

#[test]
fn a_cursor_that_jumps_and_changes_its_header_needs_no_other_session() {
    let frames = wire(Box::new(Jumping { packets: packets().into_iter(), read: 0 }));
    // A gap in LocationId, none in the sequence.
    assert_eq!(places(&media(&frames, 4)), [(0, 0), (1, 1), (9, 2)]);
    let header_of_next = header(300);
    let pieces = media(&frames, 0xFF);
    assert_eq!(places(&pieces), [(0, 0x04), (1, 0x0C)]);
    let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.payload.to_vec()).collect();
    assert_eq!(joined, header_of_next.bytes()[..]);
    let names: Vec<&str> = frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Message(raw) => Some(report::Message::decode(raw).unwrap().name()),
            Frame::Data(_) => None,
        })
        .filter(|name| *name != "Ping")
        .skip_while(|name| *name != "ReportStartedPlaying")
        .collect();
    assert_eq!(names, ["ReportStartedPlaying", "ReportEndOfStream", "ReportStreamChange", "ReportEndOfStream"]);
}

fn is_ping(frame: &Frame) -> bool {
    matches!(frame, Frame::Message(raw) if report::Message::decode(raw) == Ok(report::Message::Ping))
}
