//! Any messages, Data packets, datagrams, requests and times: a client session never panics, ends each play once, and never asks to be
//! called again for a time that is over.
#![no_main]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mmsproxy::asf::{PacketNumber, StreamNumber, Thinning};
use mmsproxy::session::mmsp::client::{Client, Input, Output, Settings, Udp};
use mmsproxy::session::{AuthScheme, Credentials, Next, Open, Play, PlayerLog, Position, Request, StreamChoice};
use mmsproxy::wire::mmsp::data::Data;
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::ids::{Incarnation, LocationId};
use mmsproxy::wire::mmsp::mac_to_viewer::Message;
use mmsproxy::wire::mmsp::raw_message::RawMessage;
use mmsproxy::wire::mmsp::resend::RequestPacketListResend;
use mmsproxy::wire::mmsp::subscriber_name::SubscriberName;
use mmsproxy::wire::mmsp::viewer_to_mac;

const HEADER: &[u8] = include_bytes!("../../tests/vectors/asf/talk-header.bin");

#[derive(Arbitrary, Debug)]
enum Step {
    Message { low: u8, body: Vec<u8> },
    Data { number: u8, flags: u8, payload: Vec<u8> },
    Header { number: u8 },
    Datagram(Vec<u8>),
    Packet { number: u8, at: u16, flags: u8, payload: Vec<u8> },
    Open,
    Answer,
    Select { stream: u8, off: bool },
    Play { packet: u32, rate: i8 },
    Stop,
    Log,
    Close,
    Later { ms: u16 },
    Pause(bool),
}

fn request(step: Step) -> Option<Request> {
    Some(match step {
        Step::Open => Request::Open(Open { name: "clip.asf".to_owned(), credentials: None }),
        Step::Answer => Request::Answer(Credentials { scheme: AuthScheme::Ntlm, token: Bytes::new() }),
        Step::Select { stream, off } => Request::Select(vec![StreamChoice {
            replaces: None,
            stream: StreamNumber::new(stream.into())?,
            thinning: if off { Thinning::Off } else { Thinning::All },
        }]),
        Step::Play { packet, rate } => {
            Request::Play(Play { rate: rate.into(), ..Play::from(Position::Packet(PacketNumber(packet.into()))) })
        }
        Step::Stop => Request::Stop,
        Step::Log => Request::Log(PlayerLog::ClientLog(Bytes::from_static(&[0; 1490]))),
        Step::Close => Request::Close,
        _ => return None,
    })
}

fuzz_target!(|input: (bool, bool, Vec<Step>)| {
    let (player_reports, over_udp, steps) = input;
    let mut now = Instant::now();
    let settings = Settings {
        name: SubscriberName::parse("NSPlayer/9.0.0.2980"),
        reply: Duration::from_secs(5),
        stall: Duration::from_secs(10),
        max_header: 4096,
        player_reports,
        relays_reports: false,
        udp: over_udp.then(|| Udp::new(Ipv4Addr::LOCALHOST.into(), 7001)),
    };
    let mut client = Client::new(now, settings);
    let mut wire = Deframer::for_server();
    let (mut starts, mut ends) = (0, 0);
    for step in steps {
        let mut media = Vec::new();
        let is_timeout = matches!(step, Step::Later { .. });
        let result = match step {
            Step::Message { low, body } => {
                let raw = RawMessage { mid: 0x0004_0000 | u32::from(low), body: body.into() };
                let Ok(message) = Message::decode(&raw) else {
                    continue;
                };
                client.handle_input(now, Input::Received(message), &mut media)
            }
            Step::Data { number, flags, payload } => {
                client.handle_data(now, data(number, flags, payload.into()), &mut media)
            }
            Step::Header { number } => {
                client.handle_data(now, data(number, 0x0C, Bytes::from_static(HEADER)), &mut media)
            }
            Step::Datagram(bytes) => client.handle_datagram(now, bytes.into(), &mut media),
            Step::Packet { number, at, flags, payload } => {
                let packet = Data { location_id: LocationId(at.into()), ..data(number, flags, payload.into()) };
                let datagram = [&packet.header(), &packet.payload[..]].concat();
                client.handle_datagram(now, datagram.into(), &mut media)
            }
            Step::Later { ms } => {
                now += Duration::from_millis(ms.into());
                client.handle_input(now, Input::Timeout, &mut media)
            }
            Step::Pause(is_paused) => {
                client.set_paused(now, is_paused);
                Ok(())
            }
            step => match request(step) {
                Some(request) => client.handle_input(now, Input::Request(request), &mut media),
                None => Ok(()),
            },
        };
        ends += media.iter().filter(|next| matches!(next, Next::Ended(_))).count();
        let deadline = loop {
            match client.poll_output() {
                Output::Send(bytes) => wire.buffer().extend_from_slice(&bytes),
                Output::SendDatagram(bytes) => {
                    RequestPacketListResend::decode(&bytes).expect("what is sent can be read");
                }
                Output::Event(_) => {}
                Output::Timeout(deadline) => break deadline,
            }
        };
        while let Some(frame) = wire.next_frame().expect("what is sent can be read") {
            let Frame::Message(raw) = frame else {
                panic!("clients send no Data");
            };
            match viewer_to_mac::Message::decode(&raw).expect("what is sent can be read") {
                viewer_to_mac::Message::StartPlaying(_) | viewer_to_mac::Message::StartStriding(_) => starts += 1,
                _ => {}
            }
        }
        assert!(wire.buffer().is_empty(), "half a message");
        assert!(ends <= starts, "a play ends once");
        if result.is_err() {
            return;
        }
        assert!(!is_timeout || deadline.is_none_or(|at| at > now));
    }
});

fn data(number: u8, flags: u8, payload: Bytes) -> Data {
    Data { location_id: LocationId(3), play_incarnation: Incarnation::from_wire(number), af_flags: flags, payload }
}
