//! What holds whatever an origin says and somebody above wants, in whatever order and at whatever time.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::session::mmsp::client::Udp;
use crate::wire::mmsp::data::Data;
use crate::wire::mmsp::raw_message::RawMessage;

#[derive(Clone, Debug)]
enum Step {
    Says(Message),
    /// Any MID with any body.
    SaysAnything(u32, Vec<u8>),
    Data {
        incarnation: u8,
        flags: u8,
        payload: Vec<u8>,
    },
    Header {
        incarnation: u8,
    },
    Packet {
        incarnation: u8,
    },
    /// Over UDP: any bytes behind a header.
    Datagram {
        incarnation: u8,
        location: u32,
        flags: u8,
        payload: Vec<u8>,
    },
    /// Over UDP: a packet of the content.
    PacketByUdp {
        incarnation: u8,
        number: u8,
    },
    Asks(Request),
    Later(u64),
    Pause(bool),
}

fn hr() -> impl Strategy<Value = HResult> {
    prop_oneof![6 => Just(HResult::S_OK), 2 => Just(HResult::S_FALSE), 1 => any::<u32>().prop_map(HResult)]
}

/// Mostly the numbers that our requests have.
fn number() -> impl Strategy<Value = u8> {
    prop_oneof![4 => 9..14u8, 2 => Just(1), 2 => Just(0xFF), 1 => any::<u8>()]
}

fn says() -> impl Strategy<Value = Message> {
    let attributes = prop_oneof![Just(FILE), Just(BROADCAST)];
    let version = prop_oneof![Just(WMS9), Just(WMS4), Just("")];
    prop_oneof![
        1 => (version, hr()).prop_map(|(version, hr)| inbound::ReportConnectedEx { hr, ..connected(version, "NTLM") }.into()),
        1 => Just(funnel_info().into()),
        1 => hr().prop_map(|hr| inbound::ReportConnectedFunnel { hr }.into()),
        1 => (attributes, hr()).prop_map(|(attributes, hr)| inbound::ReportOpenFile { hr, ..report_open_file(attributes) }.into()),
        1 => hr().prop_map(|hr| inbound::ReportReadBlock { hr, play_incarnation: 1 }.into()),
        1 => hr().prop_map(|hr| inbound::ReportStreamSwitch { hr }.into()),
        2 => (hr(), number()).prop_map(|(hr, n)| {
            inbound::ReportStartedPlaying { hr, play_incarnation: n.into() }.into()
        }),
        3 => (hr(), number()).prop_map(|(hr, n)| end_of_stream(hr, n).into()),
        2 => Just(stream_change(&testing::other_header()).into()),
        1 => Just(inbound::SecurityChallenge { play_incarnation: 9, cookie: 1, token: Bytes::new() }.into()),
        1 => Just(Message::Ping),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let thinning = prop_oneof![Just(Thinning::All), Just(Thinning::KeyFrames), Just(Thinning::Off)];
    prop_oneof![
        1 => Just(Request::Open(open(None))),
        1 => Just(Request::Answer(Credentials { scheme: AuthScheme::Ntlm, token: Bytes::new() })),
        3 => (1..5u16, thinning).prop_map(|(stream, thinning)| Request::Select(vec![choice(stream, thinning)])),
        4 => any::<u64>().prop_map(|n| Request::Play(Play::from(Position::Packet(PacketNumber(n))))),
        1 => any::<f64>().prop_map(|rate| Request::Play(Play { rate, ..Play::from(Position::Default) })),
        3 => Just(Request::Stop),
        2 => Just(Request::Log(PlayerLog::ClientLog(Bytes::from_static(&[0; 1490])))),
        1 => Just(Request::Close),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let body = prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..64);
    let payload = || prop::collection::vec(any::<u8>(), 0..250);
    prop_oneof![
        8 => says().prop_map(Step::Says),
        1 => (0..0x40u32, body).prop_map(|(low, body)| Step::SaysAnything(low, body)),
        1 => (number(), any::<u32>(), any::<u8>(), payload()).prop_map(|(incarnation, location, flags, payload)| {
            Step::Datagram { incarnation, location, flags, payload }
        }),
        12 => (number(), any::<u8>()).prop_map(|(incarnation, number)| Step::PacketByUdp { incarnation, number }),
        1 => (number(), any::<u8>(), payload())
            .prop_map(|(incarnation, flags, payload)| Step::Data { incarnation, flags, payload }),
        3 => number().prop_map(|incarnation| Step::Header { incarnation }),
        5 => number().prop_map(|incarnation| Step::Packet { incarnation }),
        6 => request().prop_map(Step::Asks),
        4 => (0..6_000u64).prop_map(Step::Later),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

/// The beginning of an exchange that goes well: most steps have a place only after it.
fn beginning(version: &str, attributes: FileAttributes) -> Vec<Step> {
    let hr = HResult::S_OK;
    vec![
        Step::Says(connected(version, "NTLM").into()),
        Step::Asks(Request::Open(open(None))),
        Step::Says(funnel_info().into()),
        Step::Says(inbound::ReportConnectedFunnel { hr }.into()),
        Step::Says(report_open_file(attributes).into()),
        Step::Header { incarnation: 1 },
        Step::Asks(Request::Play(Play::from(Position::Default))),
        Step::Says(inbound::ReportStreamSwitch { hr }.into()),
        Step::Says(inbound::ReportStartedPlaying { hr, play_incarnation: 10 }.into()),
        Step::Packet { incarnation: 10 },
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let origins = prop_oneof![Just((WMS9, FILE)), Just((WMS9, BROADCAST)), Just((WMS4, BROADCAST))];
    (origins, 0..=10usize, prop::collection::vec(step(), 0..60)).prop_map(|((version, attributes), length, steps)| {
        beginning(version, attributes).into_iter().take(length).chain(steps).collect()
    })
}

struct Watched {
    now: Instant,
    client: Client,
    over_udp: bool,
    starts: usize,
    ends: usize,
}

impl Watched {
    fn takes(&mut self, step: &Step) -> Result<(), ClientError> {
        let mut media = Vec::new();
        let now = self.now;
        let data = |incarnation: u8, flags: u8, payload: Bytes| Data {
            location_id: LocationId(3),
            play_incarnation: Incarnation::from_wire(incarnation),
            af_flags: flags,
            payload,
        };
        let result = match step {
            Step::Says(message) => self.client.handle_input(now, Input::Received(message.clone()), &mut media),
            Step::SaysAnything(low, body) => {
                let raw = RawMessage { mid: 0x0004_0000 | low, body: Bytes::from(body.clone()) };
                match Message::decode(&raw) {
                    Ok(message) => self.client.handle_input(now, Input::Received(message), &mut media),
                    Err(error) => Err(error.into()),
                }
            }
            Step::Data { incarnation, flags, payload } => {
                self.client.handle_data(now, data(*incarnation, *flags, payload.clone().into()), &mut media)
            }
            Step::Header { incarnation } => {
                let bytes = testing::header().bytes().clone();
                self.client.handle_data(now, data(*incarnation, 0x0C, bytes), &mut media)
            }
            Step::Packet { incarnation } => {
                let bytes = testing::packet(3, 300).bytes;
                self.client.handle_data(now, data(*incarnation, 0, bytes), &mut media)
            }
            Step::Datagram { incarnation, location, flags, payload } => {
                let data =
                    Data { location_id: LocationId(*location), ..data(*incarnation, *flags, payload.clone().into()) };
                let datagram: Bytes = [&data.header(), &data.payload[..]].concat().into();
                self.client.handle_datagram(now, datagram.slice(..datagram.len() - payload.len() % 2), &mut media)
            }
            Step::PacketByUdp { incarnation, number } => {
                let payload = testing::packet((*number).into(), 300).bytes;
                let location_id = LocationId((*number).into());
                let data = Data { location_id, ..data(*incarnation, *number, payload) };
                let datagram: Bytes = [&data.header(), &data.payload[..]].concat().into();
                self.client.handle_datagram(now, datagram, &mut media)
            }
            Step::Asks(request) => self.client.handle_input(now, Input::Request(request.clone()), &mut media),
            Step::Later(ms) => {
                self.now += Duration::from_millis(*ms);
                self.client.handle_input(self.now, Input::Timeout, &mut media)
            }
            Step::Pause(is_paused) => {
                self.client.set_paused(now, *is_paused);
                Ok(())
            }
        };
        if self.over_udp {
            assert!(media.len() <= 2 * Udp::WINDOW);
        } else {
            assert!(media.len() <= 2, "one input gives a packet, or a header, or an end: {media:?}");
        }
        self.ends += media.iter().filter(|next| matches!(next, Next::Ended(_))).count();
        let due = self.drained();
        assert!(result.is_err() || due.is_none_or(|due| due > self.now), "called again for nothing");
        assert!(self.ends <= self.starts, "a play ends once");
        assert!(self.client.queue.len() <= 40 && self.client.choices.len() <= 4);
        result
    }

    fn drained(&mut self) -> Option<Instant> {
        for _ in 0..100 {
            match self.client.poll_output() {
                Output::Send(bytes) => {
                    let sent = testing::recorded(&bytes);
                    let is_start = |message: &&out::Message| {
                        matches!(message, out::Message::StartPlaying(_) | out::Message::StartStriding(_))
                    };
                    self.starts += sent.iter().filter(is_start).count();
                }
                Output::Event(_) | Output::SendDatagram(_) => {}
                Output::Timeout(due) => {
                    return due;
                }
            }
        }
        panic!("output without end");
    }
}

proptest! {
    #[test]
    fn whatever_comes_a_session_stays_within_its_bounds(steps in steps(), player_reports: bool, over_udp: bool) {
        let now = Instant::now();
        let udp = over_udp.then(|| Udp::new(Ipv4Addr::LOCALHOST.into(), 7001));
        let client = Client::new(now, Settings { player_reports, udp, ..settings() });
        let mut watched = Watched { now, client, over_udp, starts: 0, ends: 0 };
        for step in &steps {
            if watched.takes(step).is_err() {
                break;
            }
        }
    }
}
