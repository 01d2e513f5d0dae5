//! Any messages, answers and times: a server session never panics, sends whole packets only, none larger than the packet
//! size, and never asks to be called again for a time that is over.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mmsproxy::asf::{Header, HeaderBuilder, PacketNumber, StreamNumber, VideoFormat, WaveFormat};
use mmsproxy::session::batch::Batch;
use mmsproxy::session::mmsp::server::{Input, Output, Session, Settings, Udp};
use mmsproxy::session::{
    AuthScheme, Burst, Credentials, Cursor, Description, End, Next, Opened, Pace, Packet, Playing, Reason, Refusal,
    Reply,
};
use mmsproxy::wire::mmsp::deframer::{Deframer, Frame};
use mmsproxy::wire::mmsp::ids::{ClientId, Sequence};
use mmsproxy::wire::mmsp::raw_message::RawMessage;
use mmsproxy::wire::mmsp::resend::RequestPacketListResend;
use mmsproxy::wire::mmsp::viewer_to_mac::Message;

const PACKET_SIZE: usize = 200;

#[derive(Arbitrary, Debug)]
enum Step {
    Message { low: u8, body: Vec<u8> },
    Stream(Vec<u8>),
    Greeted,
    Opened { broadcast: bool, bit_rate: u32 },
    Challenge,
    Redirect,
    Playing { items: Vec<Item>, paced: bool },
    Refused,
    Later { ms: u16 },
    End,
    Resend { client_id: u8, numbers: Vec<u8> },
}

#[derive(Arbitrary, Debug)]
enum Item {
    Packet { number: u32, ms: u32, bytes: Vec<u8> },
    Skipped,
    Changed,
    Ended,
    Nothing,
}

struct Items(std::vec::IntoIter<Item>);

impl Cursor for Items {
    fn next(&mut self) -> Next {
        match self.0.next() {
            Some(Item::Packet { number, ms, bytes }) => {
                let bytes = Bytes::from(bytes);
                Next::from(Packet::new(PacketNumber(number.into()), ms, bytes.clone(), bytes))
            }
            Some(Item::Skipped) => Next::Skipped { packets: 1, lag: Duration::ZERO },
            Some(Item::Changed) => Next::Changed(header()),
            Some(Item::Ended) => Next::Ended(End::Complete),
            Some(Item::Nothing) | None => Next::Nothing,
        }
    }
}

fn header() -> Arc<Header> {
    let number = |n| StreamNumber::new(n).expect("a stream number");
    let builder = HeaderBuilder::new(PACKET_SIZE as u32)
        .video(number(1), 100_000, &VideoFormat::motion_jpeg(16, 16))
        .audio(number(2), &WaveFormat::pcm(1, 8000, 8));
    Arc::new(builder.build().expect("a header"))
}

fn reply(step: Step) -> Option<Reply> {
    Some(match step {
        Step::Greeted => Reply::Greeted { scheme: Some(AuthScheme::Ntlm) },
        Step::Opened { broadcast, bit_rate } => Reply::Opened(Arc::new(Opened {
            description: Description { broadcast, can_stride: true, bit_rate, ..Description::default() },
            header: header(),
        })),
        Step::Challenge => Reply::Challenge(Credentials { scheme: AuthScheme::Ntlm, token: Bytes::new() }),
        Step::Redirect => Reply::Redirect("mms://elsewhere.example/".to_owned()),
        Step::Playing { items, paced } => {
            let burst = Burst { bits_per_second: 0, duration: Duration::from_secs(1) };
            let paced = paced.then_some(Pace::SendTime { rate: 1.0, burst, step: Duration::from_secs(1) });
            let pace = paced.unwrap_or(Pace::AsItComes);
            Reply::Playing(Playing { cursor: Box::new(Items(items.into_iter())), pace })
        }
        Step::Refused => Reply::Refused(Refusal::new(Reason::Internal, "for a reason")),
        _ => return None,
    })
}

fuzz_target!(|steps: Vec<Step>| {
    let mut now = Instant::now();
    let settings = Settings { udp: Some(Udp::default()), packet_pair: true, ..Settings::default() };
    let mut session = Session::new(now, settings, ClientId(1));
    let mut wire = Deframer::for_client();
    let mut viewer = Deframer::for_server();
    for step in steps {
        let mut inputs = Vec::new();
        match step {
            Step::Message { low, body } => {
                let raw = RawMessage { mid: 0x0003_0000 | u32::from(low), body: body.into() };
                inputs.extend(Message::decode(&raw).ok().map(Input::Received));
            }
            Step::Stream(bytes) => {
                viewer.buffer().extend_from_slice(&bytes);
                while let Ok(Some(Frame::Message(raw))) = viewer.next_frame() {
                    inputs.extend(Message::decode(&raw).ok().map(Input::Received));
                }
            }
            Step::Later { ms } => {
                now += Duration::from_millis(ms.into());
                inputs.push(Input::Timeout);
            }
            Step::Resend { client_id, numbers } => {
                let begin_packet_list = numbers.into_iter().map(|number| Sequence(number.into())).collect();
                let client_id = ClientId(client_id.into());
                let request = RequestPacketListResend { client_id, source_id: 1, begin_packet_list };
                let mut datagrams = Batch::new();
                let packets = session.resend(now, &request, &mut datagrams).unwrap_or(0);
                assert_eq!(u64::from(packets), datagrams.take_packets());
            }
            Step::End => session.end(now, Refusal::new(Reason::Kicked, "by the operator")),
            step => inputs.extend(reply(step).map(Input::Reply)),
        }
        for input in inputs {
            let is_timeout = matches!(input, Input::Timeout);
            let result = session.handle_input(now, input);
            let deadline = drain(now, &mut session, &mut wire);
            assert!(!is_timeout || deadline.is_none_or(|at| at > now));
            if result.is_err() {
                return;
            }
        }
        loop {
            let (mut batch, mut datagrams) = (Batch::new(), Batch::new());
            let due = session.poll_media(now, 4096, &mut batch, &mut datagrams);
            wire.buffer().extend_from_slice(&batch.to_vec());
            drain(now, &mut session, &mut wire);
            if due.is_none_or(|at| at > now) {
                break;
            }
            assert!(!batch.is_empty() || !datagrams.is_empty(), "due, and nothing came");
        }
    }
});

/// Takes all output; what is sent is whole, and no packet larger than it may be.
fn drain(now: Instant, session: &mut Session, wire: &mut Deframer) -> Option<Instant> {
    let deadline = loop {
        match session.poll_output() {
            Output::Send(bytes) => wire.buffer().extend_from_slice(&bytes),
            Output::SendDatagram(datagram) => assert!(datagram.len() <= (PACKET_SIZE + 8).max(1472)),
            // What waits behind it may be an error: that ends the session, and later inputs count for nothing.
            Output::Funnel(Some(_)) => drop(session.handle_input(now, Input::Funnel(Ok(())))),
            Output::Request(_) | Output::Close(_) | Output::Funnel(None) => {}
            Output::Timeout(deadline) => break deadline,
        }
    };
    while let Some(frame) = wire.next_frame().expect("what is sent can be read") {
        if let Frame::Data(data) = frame {
            assert!(data.payload.len() <= PACKET_SIZE);
        }
    }
    assert!(wire.buffer().is_empty(), "half a packet");
    deadline
}
