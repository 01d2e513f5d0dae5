//! Both roles joined by a network that loses, delays and repeats datagrams, on a clock that is moved by hand. TCP only
//! delays. What the source has and what comes out at the other end are compared packet by packet.

mod link;
mod tests;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::link::{DELAY, Link};
use super::client::{self, Client, ClientError, Losses};
use super::server::{self, Session};
use super::testing;
use crate::asf::Header;
use crate::session::batch::Batch;
use crate::session::{
    Burst, Cursor, Description, End, Next, Open, Opened, Pace, Packet, Play, Playing, Position, Reply, Request,
};
use crate::wire::mmsp::deframer::{Deframer, Frame};
use crate::wire::mmsp::ids::ClientId;
use crate::wire::mmsp::mac_to_viewer;
use crate::wire::mmsp::resend::RequestPacketListResend;
use crate::wire::mmsp::subscriber_name::SubscriberName;
use crate::wire::mmsp::viewer_to_mac;

/// From one packet to the next, ms.
const STEP_MS: u32 = 20;
/// Where the client has its socket.
const PORT: u16 = 7001;

/// What the source has: entries, one after another.
type Film = Vec<(Arc<Header>, Vec<Arc<Packet>>)>;

/// Entries of so many packets.
fn film(entries: &[u64]) -> Film {
    let packets = |count: &u64| (0..*count).map(|n| Arc::new(testing::packet(n, n as u32 * STEP_MS))).collect();
    let header = |index| if index % 2 == 0 { testing::header() } else { testing::other_header() };
    entries.iter().enumerate().map(|(index, count)| (header(index), packets(count))).collect()
}

/// The film from somewhere in its first entry on.
struct Reel(VecDeque<Next>);

impl Reel {
    fn new(film: &Film, from: usize) -> Self {
        let mut items = VecDeque::new();
        for (index, (header, packets)) in film.iter().enumerate() {
            if index > 0 {
                items.push_back(Next::Changed(Arc::clone(header)));
            }
            let from = if index == 0 { from } else { 0 };
            items.extend(packets.iter().skip(from).map(|packet| Next::Packet(Arc::clone(packet))));
        }
        items.push_back(Next::Ended(End::Complete));
        Self(items)
    }
}

impl Cursor for Reel {
    fn next(&mut self) -> Next {
        self.0.pop_front().unwrap_or(Next::Nothing)
    }
}

/// What came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Playing,
    /// A packet, and whether it is the source's, byte for byte.
    Packet(u64, bool),
    Lost(u64),
    Changed,
    Complete,
}

/// A client, a server, and what lies between.
struct World {
    start: Instant,
    now: Instant,
    film: Film,
    client: Client,
    server: Session,
    /// UDP.
    to_client: Link,
    to_server: Link,
    /// TCP.
    client_reads: VecDeque<(Instant, Bytes)>,
    server_reads: VecDeque<(Instant, Bytes)>,
    client_deframer: Deframer,
    server_deframer: Deframer,
    client_due: Option<Instant>,
    server_due: Option<Instant>,
    media_due: Option<Instant>,
    /// The entry that comes out now.
    entry: usize,
    told: Vec<Told>,
}

impl World {
    /// The client wants all of `film`; `percent` of the datagrams of each direction are lost, as many overtaken, and as
    /// many repeated.
    fn new(seed: u64, percent: u64, film: Film) -> Self {
        let now = Instant::now();
        let client_settings = client::Settings {
            name: SubscriberName::parse("NSPlayer/9.0.0.2980; {68c0a090-8797-11d2-a2b3-00a0c9b60551}; Host: o:1755\0"),
            reply: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            max_header: 1 << 16,
            player_reports: false,
            relays_reports: false,
            udp: Some(client::Udp::new(Ipv4Addr::LOCALHOST.into(), PORT)),
        };
        let server_settings = server::Settings { udp: Some(server::Udp::default()), ..server::Settings::default() };
        let mut world = Self {
            start: now,
            now,
            film,
            client: Client::new(now, client_settings),
            server: Session::new(now, server_settings, ClientId(0x0102_0304)),
            to_client: Link::new(seed, percent),
            to_server: Link::new(!seed, percent),
            client_reads: VecDeque::new(),
            server_reads: VecDeque::new(),
            client_deframer: Deframer::for_client(),
            server_deframer: Deframer::for_server(),
            client_due: None,
            server_due: None,
            media_due: None,
            entry: 0,
            told: Vec::new(),
        };
        world.settle();
        world
    }

    /// Somebody above the client wants something.
    fn asks(&mut self, request: Request) {
        self.client_takes(client::Input::Request(request)).unwrap();
        self.settle();
    }

    /// Goes on until the play is over, or for so long.
    fn run(&mut self, most: Duration) -> Result<(), ClientError> {
        let until = self.now + most;
        while !matches!(self.told.last(), Some(Told::Complete)) {
            let reads = [self.client_reads.front(), self.server_reads.front()].map(|read| read.map(|(at, _)| *at));
            let dues = [self.client_due, self.server_due, self.media_due, self.to_client.next(), self.to_server.next()];
            let Some(next) = reads.into_iter().chain(dues).flatten().min().filter(|at| *at <= until) else { break };
            assert!(next > self.now || self.now == self.start, "time stands still");
            self.now = next.max(self.now);
            self.arrives()?;
            self.settle();
        }
        Ok(())
    }

    /// All whose time has come.
    fn arrives(&mut self) -> Result<(), ClientError> {
        let now = self.now;
        while let Some((_, bytes)) = self.server_reads.pop_front_if(|(at, _)| *at <= now) {
            self.server_deframer.buffer().extend_from_slice(&bytes);
            while let Some(Frame::Message(raw)) = self.server_deframer.next_frame().unwrap() {
                let message = viewer_to_mac::Message::decode(&raw).unwrap();
                self.server.handle_input(now, server::Input::Received(message)).unwrap();
                self.server_says();
            }
        }
        while let Some(datagram) = self.to_server.arrived(now) {
            let request = RequestPacketListResend::decode(&datagram).unwrap();
            let mut datagrams = Batch::new();
            // What it refuses, it refuses in silence.
            let _ = self.server.resend(now, &request, &mut datagrams);
            self.leave(&datagrams);
        }
        while let Some((_, bytes)) = self.client_reads.pop_front_if(|(at, _)| *at <= now) {
            self.client_deframer.buffer().extend_from_slice(&bytes);
            while let Some(frame) = self.client_deframer.next_frame().unwrap() {
                let Frame::Message(raw) = frame else { panic!("{frame:?} over TCP") };
                let message = mac_to_viewer::Message::decode(&raw).unwrap();
                self.client_takes(client::Input::Received(message))?;
            }
        }
        while let Some(datagram) = self.to_client.arrived(now) {
            let mut media = Vec::new();
            self.client.handle_datagram(now, datagram, &mut media)?;
            self.client_says(media);
        }
        if self.client_due.is_some_and(|at| at <= now) {
            self.client_takes(client::Input::Timeout)?;
        }
        if self.server_due.is_some_and(|at| at <= now) {
            self.server.handle_input(now, server::Input::Timeout).unwrap();
        }
        Ok(())
    }

    fn client_takes(&mut self, input: client::Input) -> Result<(), ClientError> {
        let mut media = Vec::new();
        self.client.handle_input(self.now, input, &mut media)?;
        self.client_says(media);
        Ok(())
    }

    fn client_says(&mut self, media: Vec<Next>) {
        self.client_outputs();
        for next in media {
            self.told.push(match next {
                Next::Packet(packet) => {
                    let source = self.film[self.entry].1.get(packet.number.0 as usize);
                    Told::Packet(packet.number.0, source.is_some_and(|source| source.bytes == packet.bytes))
                }
                Next::Lost { packets } => Told::Lost(packets),
                Next::Changed(header) => {
                    self.entry += 1;
                    assert_eq!(header.bytes(), self.film[self.entry].0.bytes());
                    Told::Changed
                }
                Next::Ended(End::Complete) => Told::Complete,
                other => panic!("{other:?}"),
            });
        }
    }

    fn client_outputs(&mut self) {
        loop {
            match self.client.poll_output() {
                client::Output::Send(bytes) => self.server_reads.push_back((self.now + DELAY, bytes)),
                client::Output::SendDatagram(datagram) => self.to_server.send(self.now, datagram),
                client::Output::Event(event) => {
                    let request = match event {
                        client::Event::Connected { .. } => Request::Open(Open::default()),
                        client::Event::Opened(opened) => {
                            assert_eq!(opened.header.bytes(), self.film[0].0.bytes());
                            Request::Play(Play::from(Position::Default))
                        }
                        client::Event::Playing => {
                            self.told.push(Told::Playing);
                            continue;
                        }
                        other => panic!("{other:?}"),
                    };
                    self.client.handle_input(self.now, client::Input::Request(request), &mut Vec::new()).unwrap();
                }
                client::Output::Timeout(due) => {
                    self.client_due = due;
                    return;
                }
            }
        }
    }

    /// What both have to say, and the media that are due.
    fn settle(&mut self) {
        self.client_outputs();
        loop {
            self.server_says();
            self.media_due = None;
            if !self.server.is_streaming() {
                return;
            }
            let (mut batch, mut datagrams) = (Batch::new(), Batch::new());
            let due = self.server.poll_media(self.now, 64 * 1024, &mut batch, &mut datagrams);
            self.leave(&datagrams);
            if !batch.is_empty() {
                self.client_reads.push_back((self.now + DELAY, batch.to_vec().into()));
            }
            if due.is_none_or(|due| due > self.now) {
                self.server_says();
                self.media_due = due;
                return;
            }
        }
    }

    fn leave(&mut self, datagrams: &Batch) {
        for (head, body) in datagrams.pieces() {
            self.to_client.send(self.now, [head, body].concat().into());
        }
    }

    fn server_says(&mut self) {
        loop {
            let input = match self.server.poll_output() {
                server::Output::Send(bytes) => {
                    self.client_reads.push_back((self.now + DELAY, bytes));
                    continue;
                }
                server::Output::SendDatagram(datagram) => {
                    self.to_client.send(self.now, datagram);
                    continue;
                }
                server::Output::Funnel(Some(port)) => {
                    assert_eq!(port.get(), PORT);
                    server::Input::Funnel(Ok(()))
                }
                server::Output::Request(Request::Greet(_)) => server::Input::Reply(Reply::Greeted { scheme: None }),
                server::Output::Request(Request::Open(_)) => server::Input::Reply(Reply::Opened(self.opened())),
                server::Output::Request(Request::Play(play)) => {
                    server::Input::Reply(Reply::Playing(self.playing(&play)))
                }
                server::Output::Request(_) => continue,
                server::Output::Timeout(due) => {
                    self.server_due = due;
                    return;
                }
                other => panic!("{other:?}"),
            };
            self.server.handle_input(self.now, input).unwrap();
        }
    }

    fn opened(&self) -> Arc<Opened> {
        let broadcast = self.film.len() > 1;
        let description = Description {
            broadcast,
            can_seek: !broadcast,
            packet_count: if broadcast { 0 } else { self.film[0].1.len() as u64 },
            bit_rate: 100_000,
            ..Description::default()
        };
        Arc::new(Opened { description, header: Arc::clone(&self.film[0].0) })
    }

    fn playing(&self, play: &Play) -> Playing {
        let from = if let Position::Packet(number) = play.from { number.0 as usize } else { 0 };
        let burst = Burst { bits_per_second: 0, duration: Duration::ZERO };
        let pace = Pace::SendTime { rate: 1.0, burst, step: Duration::ZERO };
        Playing { cursor: Box::new(Reel::new(&self.film, from)), pace }
    }

    fn losses(&self) -> Losses {
        self.client.losses()
    }
}
