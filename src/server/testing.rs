//! Both ends of a conversation for the tests of this room, over real sockets on loopback: a player, and an origin that
//! does what a test tells it to. Both speak through the project's own codecs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::relay::{self, Relay};
use super::writer::Writers;
use super::{Server, Settings};
use crate::content::{Glob, MmsUrl, Policy, Route, Rules};
use crate::metrics::Metrics;
use crate::server::counters::Counters;
use crate::server::source::Source;
use crate::splitter::Bounds;
use crate::wire::mmsp::data::{self, AF_HEADER_LAST, Data};
use crate::wire::mmsp::deframer::{Deframer, Frame};
use crate::wire::mmsp::ids::{FileAttributes, FileId, HResult, Incarnation, LocationId, PacketPairMode};
use crate::wire::mmsp::subscriber_name::SubscriberName;
use crate::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};

/// The header of a recorded clip, with one audio and one video stream.
pub(super) const HEADER: &[u8] = include_bytes!("../../tests/vectors/asf/talk-header.bin");
/// Its first data packet: each stream begins in it, with a key frame.
pub(super) const PACKET: &[u8] = include_bytes!("../../tests/vectors/asf/talk-packet-0.bin");
/// The longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bounds a wait, so that what never comes fails a test instead of stopping it.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it came in time")
}

/// Lets the others work until `is_so`.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(super) fn server_settings() -> Settings {
    Settings {
        viewers: 1000,
        viewers_per_address: 1000,
        kernel_buffer: 16 * 1024,
        flush: Duration::from_millis(20),
        flush_max: Duration::from_millis(20),
        max_skips: 8,
        writers: 1,
        transparent: false,
        session: Arc::default(),
    }
}

pub(super) fn relay_settings() -> relay::Settings {
    relay::Settings {
        connect: Duration::from_secs(5),
        reply: Duration::from_secs(5),
        stall: Duration::from_secs(10),
        down: Duration::from_secs(60),
        sessions: 500,
        follow_redirects: true,
        max_redirects: 5,
        identity: String::new(),
        buffer: 256 * 1024,
        max_header: 1024 * 1024,
        control_packet: 64 * 1024,
        receive_rate: 0,
        split: relay::SplitSettings {
            linger: Duration::ZERO,
            bounds: Bounds { history: Duration::from_secs(20), bytes: 1 << 20 },
            fast_start: None,
            give_up: Duration::from_secs(60),
            fail_back: Duration::ZERO,
            forward_logs: false,
            memory: 1 << 30,
        },
        cache: relay::CacheSettings {
            revalidate: Duration::from_secs(60),
            revalidate_wait: Duration::from_secs(2),
            stale_if_error: Some(Duration::from_secs(60)),
            negative: Duration::from_secs(10),
            fast_start: None,
            finish_fill: Some(0),
            background_fills: 4,
            max_fills_per_entry: 2,
            authenticated: false,
        },
    }
}

/// All that no host and no name keeps from `origins`, in their order.
pub(super) fn policy(origins: Vec<MmsUrl>, split: bool) -> Policy {
    let path = Route::name_at(&MmsUrl::parse("mms://any").unwrap()).unwrap();
    let route = Route { host: Glob::new("*"), path, origins, cache: true, receive_rate: 0, split, ignore_case: false };
    Policy::new(Rules {
        routes: vec![route],
        allow: vec![],
        own_name: "test".into(),
        listeners: vec![],
        is_local: |_| false,
    })
}

/// A server that takes viewers, with what it counts.
pub(super) struct House {
    pub server: Arc<Server>,
    pub writers: Arc<Writers>,
    pub counters: Arc<Counters>,
    pub address: SocketAddr,
}

impl House {
    pub(super) async fn new(settings: Settings, source: impl FnOnce(Arc<Counters>) -> Arc<dyn Source>) -> Self {
        let counters = Metrics::new().unwrap().counters;
        let writers = Writers::new(&settings);
        let server = Server::new(settings, Arc::clone(&counters), Arc::clone(&writers)).unwrap();
        let listener = super::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Arc::clone(&server).accept(listener, source(Arc::clone(&counters))));
        Self { server, writers, counters, address }
    }

    /// A proxy in front of `origins`.
    pub(super) async fn proxy(settings: relay::Settings, origins: &[SocketAddr]) -> Self {
        let urls = origins.iter().map(|origin| MmsUrl::parse(&format!("mms://{origin}")).unwrap());
        Self::in_front_of(settings, policy(urls.collect(), true)).await
    }

    /// A proxy that gives each viewer a session of its own at `origin`.
    pub(super) async fn without_splitting(settings: relay::Settings, origin: SocketAddr) -> Self {
        Self::in_front_of(settings, policy(vec![MmsUrl::parse(&format!("mms://{origin}")).unwrap()], false)).await
    }

    pub(super) async fn in_front_of(settings: relay::Settings, policy: Policy) -> Self {
        Self::new(server_settings(), |counters| Arc::new(Relay::new(settings, policy, counters, Arc::new(|| {}), None)))
            .await
    }

    /// Waits until nobody is there any more, and nothing is held for anybody.
    pub(super) async fn is_empty_soon(&self) {
        let counters = &self.counters;
        let viewers = |content| counters.viewers.with_label_values(&[content, "tcp"]).get();
        until(|| counters.connections.get() == 0).await;
        until(|| viewers("broadcast") == 0 && viewers("on_demand") == 0).await;
        until(|| counters.origin_sessions.get() == 0).await;
        until(|| counters.held_by_sessions().get() == 0).await;
        until(|| self.writers.streaming() == 0).await;
    }

    pub(super) fn sessions(&self, result: &str) -> u64 {
        self.counters.viewer_sessions.with_label_values(&[result]).get()
    }

    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.counters.refused.with_label_values(&[reason]).get()
    }

    pub(super) fn origin_errors(&self, reason: &str) -> u64 {
        self.counters.origin_errors.with_label_values(&[reason]).get()
    }
}

/// One end of a connection, in packets.
pub(super) struct End {
    pub stream: TcpStream,
    deframer: Deframer,
    seq: u16,
}

impl End {
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.deframer.next_frame().unwrap() {
                return Some(frame);
            }
            match soon(self.stream.read_buf(self.deframer.buffer())).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Whether all of `bytes` left.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }
}

/// What a player gets.
#[derive(Debug, PartialEq)]
pub(super) enum Got {
    Message(down::Message),
    Data(Data),
    /// The end of the connection.
    Closed,
}

/// A player, as ffmpeg calls itself.
pub(super) struct Player(pub End);

impl Player {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that it is soon full for who does not read.
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let stream = soon(socket.connect(address)).await.unwrap();
        Self(End { stream, deframer: Deframer::for_client(), seq: 0 })
    }

    pub(super) async fn send(&mut self, message: impl Into<up::Message>) {
        let mut bytes = Vec::new();
        message.into().encode(self.0.seq, &mut bytes);
        self.0.seq += 1;
        self.0.write(&bytes).await;
    }

    pub(super) async fn next(&mut self) -> Got {
        match self.0.frame().await {
            None => Got::Closed,
            Some(Frame::Data(data)) => Got::Data(data),
            Some(Frame::Message(raw)) => Got::Message(down::Message::decode(&raw).unwrap()),
        }
    }

    /// The next that is no media and no Ping.
    pub(super) async fn answer(&mut self) -> Got {
        loop {
            match self.next().await {
                Got::Data(_) | Got::Message(down::Message::Ping) => {}
                got => return got,
            }
        }
    }

    pub(super) async fn say_hello(&mut self) -> Got {
        let client_token = "NSPlayer/7.0.0.1956; {68c0a090-8797-11d2-a2b3-00a0c9b60551}";
        let subscriber_name = SubscriberName::parse(client_token);
        self.send(up::Connect { play_incarnation: PacketPairMode::DISABLE, subscriber_name }).await;
        self.answer().await
    }

    /// The code of ReportOpenFile, or of the answer before it that was a refusal.
    pub(super) async fn open(&mut self, name: &str) -> HResult {
        self.open_with(name, Bytes::new()).await
    }

    pub(super) async fn open_with(&mut self, name: &str, token_data: Bytes) -> HResult {
        match self.say_hello().await {
            Got::Message(down::Message::ReportConnectedEx(report)) if !report.hr.is_failure() => {}
            Got::Message(down::Message::ReportConnectedEx(report)) => return report.hr,
            got => panic!("{got:?} for Connect"),
        }
        let funnel_name = r"\\127.0.0.1\TCP\1037".to_owned();
        self.send(up::ConnectFunnel { funnel_name, max_bit_rate: 10_000_000 }).await;
        assert!(matches!(self.answer().await, Got::Message(down::Message::ReportConnectedFunnel(_))));
        self.send(up::OpenFile { play_incarnation: 9, file_name: name.into(), token_data }).await;
        match self.answer().await {
            Got::Message(down::Message::ReportOpenFile(report)) => {
                assert_eq!(report.open_file_id == FileId(0), report.hr.is_failure(), "VLC looks at nothing else");
                report.hr
            }
            got => panic!("{got:?} for OpenFile"),
        }
    }

    /// The code of ReportStartedPlaying, after the header and with all streams.
    pub(super) async fn play(&mut self) -> HResult {
        self.send(up::ReadBlock { open_file_id: FileId(1), play_incarnation: 1 }).await;
        assert!(matches!(self.answer().await, Got::Message(down::Message::ReportReadBlock(_))));
        loop {
            let Got::Data(piece) = self.next().await else { panic!("a piece of the header") };
            if piece.af_flags == AF_HEADER_LAST {
                break;
            }
        }
        let entry =
            |stream| up::StreamSwitchEntry { src_stream_number: 0xFFFF, dst_stream_number: stream, thinning_level: 0 };
        self.send(up::StreamSwitch { entries: vec![entry(1), entry(2)] }).await;
        assert!(matches!(self.answer().await, Got::Message(down::Message::ReportStreamSwitch(_))));
        self.start().await;
        match self.answer().await {
            Got::Message(down::Message::ReportStartedPlaying(report)) => report.hr,
            got => panic!("{got:?} for StartPlaying"),
        }
    }

    pub(super) async fn start(&mut self) {
        self.send(up::StartPlaying {
            open_file_id: FileId(1),
            position: 0.0,
            asf_offset: 0xFFFF_FFFF,
            location_id: 0xFFFF_FFFF,
            frame_offset: 0,
            play_incarnation: 10,
            accel: None,
            link_bandwidth: None,
        })
        .await;
    }

    /// LocationIds up to the end, and the code of EndOfStream; `None` where the connection ended without one.
    pub(super) async fn watch(&mut self) -> (Vec<u32>, Option<HResult>) {
        let mut numbers = Vec::new();
        loop {
            match self.next().await {
                Got::Data(data) => numbers.push(data.location_id.0),
                Got::Message(down::Message::ReportEndOfStream(end)) => return (numbers, Some(end.hr)),
                Got::Message(_) => {}
                Got::Closed => return (numbers, None),
            }
        }
    }
}

/// What an origin does when it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Script {
    /// It closes the connection instead of answering this message.
    pub dies_at: Option<&'static str>,
    /// It says nothing any more from this message on.
    pub silent_at: Option<&'static str>,
    /// It refuses OpenFile.
    pub refuses: Option<HResult>,
    /// It redirects OpenFile there.
    pub redirects_to: Option<SocketAddr>,
    /// Its content is a broadcast.
    pub is_broadcast: bool,
    /// Packets of a play, as fast as they go.
    pub packets: u32,
    /// After the packets it says so; else it stays silent.
    pub says_end: bool,
    /// After the packets it closes the connection.
    pub dies_after_packets: bool,
}

/// An origin.
pub(super) struct Origin {
    pub address: SocketAddr,
    /// Connections that came.
    pub accepted: Arc<AtomicUsize>,
    /// Packets that left it.
    pub sent: Arc<AtomicUsize>,
    /// What it was told.
    pub heard: Arc<parking_lot::Mutex<Vec<up::Message>>>,
}

impl Origin {
    pub(super) async fn new(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            sent: Arc::default(),
            heard: Arc::default(),
        };
        let (accepted, sent, heard) =
            (Arc::clone(&origin.accepted), Arc::clone(&origin.sent), Arc::clone(&origin.heard));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                SockRef::from(&stream).set_send_buffer_size(16 * 1024).unwrap();
                let end = End { stream, deframer: Deframer::for_server(), seq: 0 };
                tokio::spawn(serve(end, script, Arc::clone(&sent), Arc::clone(&heard)));
            }
        });
        origin
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// The names by which it was asked, one for each connection.
    pub(super) fn names(&self) -> Vec<SubscriberName> {
        let heard = self.heard.lock();
        let names = heard.iter().filter_map(|message| match message {
            up::Message::Connect(connect) => Some(connect.subscriber_name.clone()),
            _ => None,
        });
        names.collect()
    }
}

async fn serve(
    mut end: End,
    script: Script,
    sent: Arc<AtomicUsize>,
    heard: Arc<parking_lot::Mutex<Vec<up::Message>>>,
) -> Option<()> {
    const OK: HResult = HResult::S_OK;
    loop {
        // Longer than any test: an idle viewer is no reason to fail here.
        let raw = loop {
            match end.deframer.next_frame().unwrap() {
                Some(Frame::Message(raw)) => break raw,
                Some(Frame::Data(_)) => panic!("no client sends Data"),
                None if end.stream.read_buf(end.deframer.buffer()).await.ok()? == 0 => return None,
                None => {}
            }
        };
        let message = up::Message::decode(&raw).unwrap();
        heard.lock().push(message.clone());
        if script.dies_at == Some(message.name()) {
            return None;
        }
        if script.silent_at == Some(message.name()) {
            std::future::pending::<()>().await;
        }
        let mut say = async |answer: down::Message| {
            let mut bytes = Vec::new();
            answer.encode(end.seq, &mut bytes);
            end.seq += 1;
            end.write(&bytes).await.then_some(())
        };
        match message {
            up::Message::Connect(_) => {
                let report = down::ReportConnectedEx {
                    hr: OK,
                    play_incarnation: PacketPairMode::DISABLE,
                    server_version_info: "9.01.01.3862".into(),
                    version_info: String::new(),
                    version_url: String::new(),
                    authen_package: "BASIC".into(),
                };
                say(report.into()).await?;
            }
            up::Message::FunnelInfo(_) => {
                let report = down::ReportFunnelInfo {
                    hr: OK,
                    play_incarnation: PacketPairMode::DISABLE,
                    client_id: crate::wire::mmsp::ids::ClientId(7),
                    cubdd_datagram_size: 0,
                    packet_pair: Bytes::new(),
                };
                say(report.into()).await?;
            }
            up::Message::ConnectFunnel(_) => say(down::ReportConnectedFunnel { hr: OK }.into()).await?,
            up::Message::OpenFile(open) => match script.redirects_to {
                Some(address) => {
                    let location = format!("mms://{address}/{}", open.file_name);
                    say(down::ReportRedirect { hr: OK, redirect_type: 1, location }.into()).await?;
                }
                None => say(opened(script, open.play_incarnation).into()).await?,
            },
            up::Message::ReadBlock(read) => {
                let play_incarnation = read.play_incarnation;
                say(down::ReportReadBlock { hr: OK, play_incarnation }.into()).await?;
                let incarnation = Incarnation::from_request(play_incarnation).unwrap();
                let head = data::encode_header(LocationId(0), incarnation, AF_HEADER_LAST, HEADER.len());
                end.write(&[&head, HEADER].concat()).await.then_some(())?;
            }
            up::Message::StreamSwitch(_) => say(down::ReportStreamSwitch { hr: OK }.into()).await?,
            up::Message::StartPlaying(start) => {
                let play_incarnation = start.play_incarnation;
                say(down::ReportStartedPlaying { hr: OK, play_incarnation }.into()).await?;
                let incarnation = Incarnation::from_request(play_incarnation).unwrap();
                for number in 0..script.packets {
                    let head = data::encode_header(LocationId(number), incarnation, number as u8, PACKET.len());
                    end.write(&[&head, PACKET].concat()).await.then_some(())?;
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                if script.dies_after_packets {
                    return None;
                }
                if script.says_end {
                    let mut bytes = Vec::new();
                    down::Message::from(down::ReportEndOfStream { hr: OK, play_incarnation }).encode(99, &mut bytes);
                    end.write(&bytes).await.then_some(())?;
                }
            }
            up::Message::StopPlaying(stop) => {
                let play_incarnation = stop.play_incarnation;
                say(down::ReportEndOfStream { hr: OK, play_incarnation }.into()).await?;
            }
            up::Message::CloseFile(_) => return None,
            _ => {}
        }
    }
}

fn opened(script: Script, play_incarnation: u32) -> down::ReportOpenFile {
    let kind = if script.is_broadcast { FileAttributes::BROADCAST } else { FileAttributes::CAN_SEEK };
    down::ReportOpenFile {
        hr: script.refuses.unwrap_or(HResult::S_OK),
        play_incarnation,
        open_file_id: FileId(if script.refuses.is_some() { 0 } else { 5 }),
        file_attributes: kind,
        file_duration: 10.0,
        file_blocks: 10,
        file_packet_size: PACKET.len() as u32,
        file_packet_count: script.packets.into(),
        file_bit_rate: 300_000,
        file_header_size: HEADER.len() as u32,
    }
}
