//! What holds whatever a viewer says and a source answers, in whatever order and at whatever time.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::session::Reason;
use crate::wire::mmsp::ids::Sequence;
use crate::wire::mmsp::raw_message::RawMessage;
use crate::wire::mmsp::resend::RequestPacketListResend;

#[derive(Clone, Debug)]
enum Step {
    Says(Message),
    /// Any MID with any body.
    SaysAnything(u32, Vec<u8>),
    Answer(Answer),
    /// These packets again, asked for by the viewer or by somebody else.
    Again {
        back: Vec<u32>,
        is_viewer: bool,
    },
    /// The driver says something that nobody asked.
    Funnel(bool),
    Later(u64),
    End,
}

/// What the source answers, whether it was asked or not.
#[derive(Clone, Debug)]
enum Answer {
    Greeted,
    Opened { broadcast: bool },
    Challenge,
    Redirect,
    Playing(Vec<Item>),
    Refused,
}

/// What a cursor has.
#[derive(Clone, Debug)]
enum Item {
    Packet { number: u64, key_frame: bool },
    Bytes(Vec<u8>),
    Skipped,
    Changed,
    Ended,
    Nothing,
}

impl Item {
    fn next(&self) -> Next {
        match self {
            Self::Packet { number, key_frame } => {
                Next::from(testing::packet_of(*number, *number as u32 * 50, *key_frame))
            }
            Self::Bytes(bytes) => {
                let bytes = Bytes::from(bytes.clone());
                Next::from(Packet::new(PacketNumber(1), 50, bytes.clone(), bytes))
            }
            Self::Skipped => Next::Skipped { packets: 3, lag: Duration::from_secs(1) },
            Self::Changed => Next::Changed(testing::other_header()),
            Self::Ended => Next::Ended(End::Complete),
            Self::Nothing => Next::Nothing,
        }
    }
}

impl Answer {
    fn reply(&self) -> Reply {
        match self {
            Self::Greeted => Reply::Greeted { scheme: None },
            Self::Opened { broadcast } => {
                let mut opened = if *broadcast { testing::broadcast() } else { testing::file() };
                opened.description.can_stride = true;
                Reply::Opened(Arc::new(opened))
            }
            Self::Challenge => Reply::Challenge(Credentials { scheme: AuthScheme::Ntlm, token: Bytes::new() }),
            Self::Redirect => Reply::Redirect("mms://elsewhere.example/".to_owned()),
            Self::Playing(items) => {
                let burst = Burst { bits_per_second: 0, duration: secs(1) };
                let paced = Pace::SendTime { rate: 1.0, burst, step: secs(items.len() as u64 % 3) };
                let pace = if items.len() % 2 == 0 { Pace::AsItComes } else { paced };
                Reply::Playing(Playing { cursor: Box::new(Script::of(items.iter().map(Item::next))), pace })
            }
            Self::Refused => Reply::Refused(Refusal::new(Reason::Internal, "for a reason")),
        }
    }
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        8 => (0..300u64, any::<bool>()).prop_map(|(number, key_frame)| Item::Packet { number, key_frame }),
        2 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Item::Bytes),
        1 => Just(Item::Skipped),
        1 => Just(Item::Changed),
        1 => Just(Item::Ended),
        1 => Just(Item::Nothing),
    ]
}

fn says() -> impl Strategy<Value = Message> {
    let number = prop_oneof![4 => 1..6u32, 1 => any::<u32>()];
    let names = prop_oneof![Just(FREE), Just(WMP9), Just(WMS4)];
    let entries = prop::collection::vec((0..5u16, 0..4u16, 0..4u16), 0..4);
    let entries = entries.prop_map(|entries| StreamSwitch {
        entries: entries
            .into_iter()
            .map(|(src, dst_stream_number, thinning_level)| StreamSwitchEntry {
                src_stream_number: if src == 0 { 0xFFFF } else { src },
                dst_stream_number,
                thinning_level,
            })
            .collect(),
    });
    prop_oneof![
        1 => names.prop_map(|name| connect(name).into()),
        2 => prop_oneof![Just("TCP"), Just("UDP")].prop_map(|protocol| connect_funnel(protocol).into()),
        1 => Just(open_file("clip.asf").into()),
        1 => number.clone().prop_map(|number| read_block(number).into()),
        1 => number.clone().prop_map(|play_incarnation| inbound::CancelReadBlock { play_incarnation }.into()),
        4 => entries.prop_map(Into::into),
        4 => number.clone().prop_map(|number| start(number).into()),
        2 => (number.clone(), any::<u32>()).prop_map(|(number, packet)| start_at_packet(number, packet).into()),
        1 => (number.clone(), any::<f64>()).prop_map(|(number, rate)| stride(number, rate).into()),
        1 => (number.clone(), -5.0..5.0).prop_map(|(number, rate)| stride(number, rate).into()),
        2 => number.prop_map(|number| stop(number).into()),
        1 => Just(logging().into()),
        1 => Just(inbound::SecurityResponse { play_incarnation: 1, cookie: 1, token: Bytes::new() }.into()),
        1 => prop_oneof![Just(PacketPairMode::USE), Just(PacketPairMode::UDP_HIGH_ENTROPY)]
            .prop_map(|play_incarnation| inbound::FunnelInfo { play_incarnation }.into()),
        1 => Just(Message::Pong),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        1 => Just(Answer::Greeted),
        1 => any::<bool>().prop_map(|broadcast| Answer::Opened { broadcast }),
        1 => Just(Answer::Challenge),
        1 => Just(Answer::Redirect),
        6 => prop::collection::vec(item(), 0..30).prop_map(Answer::Playing),
        1 => Just(Answer::Refused),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let body = prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..64);
    prop_oneof![
        8 => says().prop_map(Step::Says),
        1 => (0..0x40u32, body).prop_map(|(low, body)| Step::SaysAnything(low, body)),
        6 => answer().prop_map(Step::Answer),
        4 => (prop::collection::vec(0..400u32, 0..32), prop::bool::weighted(0.9))
            .prop_map(|(back, is_viewer)| Step::Again { back, is_viewer }),
        1 => any::<bool>().prop_map(Step::Funnel),
        3 => (0..300u64).prop_map(Step::Later),
        6 => (0..10_000u64).prop_map(Step::Later),
        1 => Just(Step::End),
    ]
}

/// The beginning of a conversation that goes well: most steps have a place only after it.
fn beginning(name: &'static str, protocol: &str) -> Vec<Step> {
    let opened = Answer::Opened { broadcast: name == WMP9 };
    let said = |message: Message| Step::Says(message);
    vec![
        said(connect(name).into()),
        Step::Answer(Answer::Greeted),
        said(connect_funnel(protocol).into()),
        said(open_file("clip.asf").into()),
        Step::Answer(opened),
        said(read_block(2).into()),
        Step::Later(1000),
        said(switch(&[(1, 0), (2, 0)]).into()),
        said(start(4).into()),
        Step::Answer(Answer::Playing((0..5).map(|number| Item::Packet { number, key_frame: true }).collect())),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let names = prop_oneof![Just(FREE), Just(WMP9), Just(WMS4)];
    let protocols = prop_oneof![Just("TCP"), Just("UDP")];
    (names, protocols, 0..=10usize, prop::collection::vec(step(), 0..60)).prop_map(|(name, protocol, length, steps)| {
        beginning(name, protocol).into_iter().take(length).chain(steps).collect()
    })
}

struct Watched {
    now: Instant,
    session: Session,
    is_over: bool,
    deadline: Option<Instant>,
    /// What the driver is asked for, and whether it can.
    claim: Option<NonZeroU16>,
    has_port: bool,
    /// It has a port for the viewer.
    is_udp: bool,
    began: Instant,
    /// Datagrams of media, by sequence number.
    sent: HashMap<u32, Vec<u8>>,
    again: usize,
}

/// What leaves of all content here at real time, bytes in a second; and what a budget of 50 % lets go at once.
const REAL_TIME: usize = 25_000;

impl Watched {
    fn takes(&mut self, step: &Step) {
        let result = match step {
            Step::Says(message) => self.session.handle_input(self.now, Input::Received(message.clone())),
            Step::SaysAnything(low, body) => {
                let raw = RawMessage { mid: 0x0003_0000 | low, body: Bytes::from(body.clone()) };
                match Message::decode(&raw) {
                    Ok(message) => self.session.handle_input(self.now, Input::Received(message)),
                    Err(_) => Ok(()),
                }
            }
            Step::Answer(answer) => self.session.handle_input(self.now, Input::Reply(answer.reply())),
            Step::Later(ms) => {
                self.now += Duration::from_millis(*ms);
                let result = self.session.handle_input(self.now, Input::Timeout);
                self.drained();
                assert!(self.deadline.is_none_or(|at| at > self.now), "a deadline that is due is due again");
                result
            }
            Step::Again { back, is_viewer } => {
                self.asks_again(back, *is_viewer);
                Ok(())
            }
            Step::Funnel(is_there) => {
                self.has_port = *is_there;
                self.session.handle_input(self.now, Input::Funnel(Ok(())))
            }
            Step::End => {
                self.session.end(self.now, Refusal::new(Reason::Kicked, "by the operator"));
                Ok(())
            }
        };
        assert!(!self.is_over || result.is_ok(), "an error after the end");
        self.is_over |= result.is_err();
        self.drained();
        // More may wait for the answer, another question too.
        while self.claim.take().is_some() {
            let refusal = || Refusal::new(Reason::Busy, "another viewer has the port");
            self.is_udp |= self.has_port;
            let result = if self.has_port { Ok(()) } else { Err(refusal()) };
            self.is_over |= self.session.handle_input(self.now, Input::Funnel(result)).is_err();
            self.drained();
        }
        self.media();
        assert!(self.session.backlog.len() <= 16);
    }

    fn drained(&mut self) {
        let mut bytes = Vec::new();
        // One input is answered by a few messages and what is due of a header, never more than all of it.
        for _ in 0..100 {
            match self.session.poll_output() {
                Output::Send(sent) => bytes.extend_from_slice(&sent),
                Output::Request(_) => {}
                Output::SendDatagram(datagram) => {
                    assert!(datagram.len() <= (PACKET_SIZE + 8).max(1472));
                    assert!(self.is_udp, "a datagram for nobody");
                }
                Output::Funnel(claim) => {
                    assert!(self.claim.is_none(), "another question before the answer");
                    self.claim = claim;
                    self.is_udp &= claim.is_some();
                }
                Output::Close(_) => {
                    assert!(!self.is_over, "closed after the end");
                    self.is_over = true;
                }
                Output::Timeout(deadline) => {
                    assert!(!self.is_over || deadline.is_none(), "a deadline after the end");
                    self.deadline = deadline;
                    arrives(&bytes);
                    return;
                }
            }
        }
        panic!("output without end");
    }

    fn media(&mut self) {
        for _ in 0..1000 {
            let is_any_on = self.session.state.content().is_some_and(|content| content.gate.is_any_on());
            let changes = self.session.is_streaming();
            let (mut batch, mut datagrams) = (Batch::new(), Batch::new());
            let (first, funnel) = (self.session.sequence, self.session.funnel());
            let due = self.session.poll_media(self.now, 1000, &mut batch, &mut datagrams);
            assert!(changes || batch.is_empty() && datagrams.is_empty(), "media out of turn");
            let packets = batch.take_packets();
            // WMS 4.x has everything selected by its StartPlaying, and the next entry selects for others.
            assert!(is_any_on || packets + datagrams.take_packets() == 0, "media while nothing is selected");
            assert!(packets == 0 || funnel == Funnel::Tcp, "media over TCP");
            assert!(datagrams.is_empty() || funnel != Funnel::Tcp, "media over UDP");
            assert!(datagrams.bytes() < 1000 + PACKET_SIZE + 8, "datagrams without end");
            let media = datagrams.pieces().filter(|(head, _)| !head.is_empty());
            for (sequence, (head, body)) in (first.0..).zip(media) {
                assert_eq!(head[5], sequence as u8);
                self.sent.insert(sequence, [head, body].concat());
            }
            assert!(batch.bytes() < 1000 + 3 * (PACKET_SIZE + 8) + 200, "a batch without end");
            arrives(&batch.to_vec());
            self.drained();
            if due.is_none_or(|due| due > self.now) {
                return;
            }
        }
        panic!("media without end");
    }
}

impl Watched {
    fn asks_again(&mut self, back: &[u32], is_viewer: bool) {
        let newest = self.session.sequence.0;
        let request = RequestPacketListResend {
            client_id: if is_viewer { CLIENT_ID } else { ClientId(1) },
            source_id: 1,
            begin_packet_list: back.iter().map(|back| Sequence(newest.wrapping_sub(*back))).collect(),
        };
        let mut datagrams = Batch::new();
        let result = self.session.resend(self.now, &request, &mut datagrams);
        let again: Vec<Vec<u8>> = datagrams.pieces().map(|(head, body)| [head, body].concat()).collect();
        assert_eq!(result.unwrap_or(0) as usize, again.len());
        assert!(is_viewer || again.is_empty(), "a stranger got {result:?}");
        for datagram in again {
            let asked = request.begin_packet_list.iter().filter_map(|sequence| self.sent.get(&sequence.0));
            assert!(asked.into_iter().any(|sent| *sent == datagram), "what was never sent");
            self.again += datagram.len();
        }
        // Each funnel begins with a full bucket.
        let seconds = (self.now - self.began).as_secs_f64();
        let budget = 8 * REAL_TIME / 2 + (seconds * REAL_TIME as f64 / 2.0) as usize;
        assert!(self.again <= budget, "{} bytes of {budget}", self.again);
    }
}

/// Whole packets, and none larger than it may be.
fn arrives(bytes: &[u8]) {
    let mut deframer = Deframer::for_client();
    deframer.buffer().extend_from_slice(bytes);
    while let Some(frame) = deframer.next_frame().unwrap() {
        match frame {
            Frame::Data(data) => assert!(data.payload.len() <= PACKET_SIZE),
            Frame::Message(raw) => assert!(out::Message::decode(&raw).is_ok()),
        }
    }
    assert!(deframer.buffer().is_empty());
}

proptest! {
    #[test]
    fn whatever_comes_a_session_stays_within_its_bounds(steps in steps()) {
        let now = Instant::now();
        let udp = Udp { resend_budget: 50, ..Udp::default() };
        let session = Session::new(now, Settings { udp: Some(udp), ..with_udp() }, CLIENT_ID);
        let (claim, has_port, is_udp, sent) = (None, true, false, HashMap::new());
        let mut watched =
            Watched { now, session, is_over: false, deadline: None, claim, has_port, is_udp, began: now, sent, again: 0 };
        assert!(testing::other_header().bit_rate() as usize <= REAL_TIME * 8);
        for step in &steps {
            watched.takes(step);
        }
    }
}
