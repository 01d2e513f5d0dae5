//! Listener, limits, viewers and writers over real sockets, with a source that has all of its packets at hand.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::source::{Link, Peer, Source};
use super::testing::{Got, HEADER, House, PACKET, Player, server_settings, soon, until};
use super::{Server, Settings};
use crate::asf::{Header, PacketNumber};
use crate::session::{
    Burst, Cursor, Description, End, Next, Opened, Pace, Packet, Playing, Reason, Refusal, Reply, Request,
};
use crate::wire::mmsp::ids::{FileId, HResult};
use crate::wire::mmsp::{mac_to_viewer as down, viewer_to_mac as up};

/// Content of so many packets; `None` never ends and has none.
struct Shelf(Option<u64>);

/// What a test puts in, for one play.
#[derive(Clone, Default)]
struct Feed {
    queue: Arc<Mutex<VecDeque<Next>>>,
    /// Whether the writers are told of it.
    is_announced: bool,
}

impl Feed {
    fn puts(&self, number: u64) {
        self.puts_for(number, 0);
    }

    fn puts_for(&self, number: u64, send_time_ms: u32) {
        let bytes = Bytes::from_static(PACKET);
        let packet = Packet::new(PacketNumber(number), send_time_ms, bytes.clone(), bytes);
        self.queue.lock().push_back(Next::from(packet));
    }
}

impl Cursor for Feed {
    fn next(&mut self) -> Next {
        self.queue.lock().pop_front().unwrap_or(Next::Nothing)
    }

    fn is_announced(&self) -> bool {
        self.is_announced
    }
}

struct ShelfCursor {
    next: u64,
    packets: Option<u64>,
    bytes: Bytes,
}

impl Cursor for ShelfCursor {
    fn next(&mut self) -> Next {
        let Some(packets) = self.packets else { return Next::Nothing };
        if self.next == packets {
            return Next::Ended(End::Complete);
        }
        let number = PacketNumber(self.next);
        self.next += 1;
        Next::from(Packet::new(number, 0, self.bytes.clone(), self.bytes.clone()))
    }
}

impl Shelf {
    fn cursor(&self) -> Box<dyn Cursor> {
        Box::new(ShelfCursor { next: 0, packets: self.0, bytes: Bytes::from_static(PACKET) })
    }
}

impl Source for Shelf {
    fn serve(self: Arc<Self>, _peer: Peer, link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(serve(link, move || as_it_comes(self.cursor())))
    }
}

impl Source for Feed {
    fn serve(self: Arc<Self>, _peer: Peer, link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(serve(link, move || as_it_comes(Box::new(Feed::clone(&self)))))
    }
}

/// Gives the first play by send time, a hundred times as slow, and all others as they come.
struct Once(Feed, Feed);

impl Source for Once {
    fn serve(self: Arc<Self>, _peer: Peer, link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut has_played = false;
        let play = move || {
            if std::mem::replace(&mut has_played, true) {
                return as_it_comes(Box::new(self.1.clone()));
            }
            let burst = Burst { bits_per_second: 0, duration: Duration::ZERO };
            Playing {
                cursor: Box::new(self.0.clone()),
                pace: Pace::SendTime { rate: 0.01, burst, step: Duration::ZERO },
            }
        };
        Box::pin(serve(link, play))
    }
}

fn as_it_comes(cursor: Box<dyn Cursor>) -> Playing {
    Playing { cursor, pace: Pace::AsItComes }
}

/// Answers one viewer, whose plays are what `play` gives.
async fn serve(mut link: Link, mut play: impl FnMut() -> Playing) {
    let header = Arc::new(Header::parse(HEADER.into()).unwrap());
    while let Some(request) = link.requests.recv().await {
        let reply = match request {
            Request::Greet(_) => Reply::Greeted { scheme: None },
            Request::Open(_) => {
                let description = Description { bit_rate: 300_000, ..Description::default() };
                Reply::Opened(Arc::new(Opened { description, header: Arc::clone(&header) }))
            }
            Request::Play(_) => Reply::Playing(play()),
            Request::Close => break,
            _ => continue,
        };
        let _ = link.replies.send(reply).await;
    }
}

async fn house(settings: Settings, packets: Option<u64>) -> House {
    House::new(settings, |_| Arc::new(Shelf(packets))).await
}

async fn playing(house: &House) -> Player {
    let mut player = Player::connect(house.address).await;
    assert_eq!(player.open("talk.asf").await, HResult::S_OK);
    assert_eq!(player.play().await, HResult::S_OK);
    player
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_writer_serves_five_hundred_viewers_and_misses_none() {
    const PACKETS: u64 = 40;
    let house = house(server_settings(), Some(PACKETS)).await;
    let address = house.address;
    let viewers: Vec<_> = (0..500)
        .map(|_| {
            tokio::spawn(async move {
                let mut player = Player::connect(address).await;
                assert_eq!(player.open("talk.asf").await, HResult::S_OK);
                assert_eq!(player.play().await, HResult::S_OK);
                player.watch().await
            })
        })
        .collect();
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap(), ((0..PACKETS as u32).collect(), Some(HResult::S_OK)));
    }
    house.is_empty_soon().await;
    assert_eq!(house.sessions("ended"), 500);
    assert_eq!(house.counters.sent_packets.with_label_values(&["on_demand", "tcp"]).get(), 500 * PACKETS);
}

#[tokio::test]
async fn where_media_leave_at_once_news_send_them_and_no_clock_does() {
    let settings = Settings { flush: Duration::ZERO, ..server_settings() };
    let feed = Feed { is_announced: true, ..Feed::default() };
    let source = feed.clone();
    let house = House::new(settings, |_| Arc::new(source)).await;
    let mut player = playing(&house).await;
    for number in 0..3 {
        feed.puts(number);
        house.writers.news();
        let Got::Data(data) = player.next().await else { panic!("a packet") };
        assert_eq!(u64::from(data.location_id.0), number);
    }
    drop(player);
    house.is_empty_soon().await;
}

#[tokio::test]
async fn where_media_leave_at_once_those_that_nobody_announces_are_asked_for() {
    let settings = Settings { flush: Duration::ZERO, ..server_settings() };
    let feed = Feed::default();
    let source = feed.clone();
    let house = House::new(settings, |_| Arc::new(source)).await;
    let mut player = playing(&house).await;
    for number in 0..3 {
        feed.puts(number);
        let Got::Data(data) = player.next().await else { panic!("a packet") };
        assert_eq!(u64::from(data.location_id.0), number);
    }
}

#[tokio::test]
async fn a_viewer_whose_media_are_far_ahead_is_looked_at_again_when_its_play_is_another() {
    for flush in [Duration::ZERO, server_settings().flush] {
        let (early, late) = (Feed::default(), Feed::default());
        early.puts(0);
        early.puts_for(1, 10_000);
        let source = Once(early.clone(), late.clone());
        let house = House::new(Settings { flush, ..server_settings() }, |_| Arc::new(source)).await;
        let mut player = playing(&house).await;
        assert!(matches!(player.next().await, Got::Data(data) if data.location_id.0 == 0));
        until(|| house.writers.resting(Duration::from_secs(60)) == 1).await;
        player.send(up::StopPlaying { open_file_id: FileId(1), play_incarnation: 10 }).await;
        player.start().await;
        assert!(matches!(player.answer().await, Got::Message(down::Message::ReportEndOfStream(_))));
        assert!(matches!(player.answer().await, Got::Message(down::Message::ReportStartedPlaying(_))));
        for number in 10..13 {
            late.puts(number);
            assert!(matches!(player.next().await, Got::Data(data) if u64::from(data.location_id.0) == number));
        }
    }
}

#[tokio::test]
async fn a_viewer_that_jumps_too_often_is_ended_with_a_reason() {
    let settings = Settings { max_skips: 3, ..server_settings() };
    let feed = Feed::default();
    let source = feed.clone();
    let house = House::new(settings, |_| Arc::new(source)).await;
    let mut player = playing(&house).await;
    for jumps in 1..=3 {
        feed.queue.lock().push_back(Next::Skipped { packets: 5, lag: Duration::from_secs(20) });
        until(|| house.counters.viewer_skips.get() == jumps).await;
    }
    assert_eq!(player.watch().await, (vec![], Some(HResult::NS_E_INSUFFICIENT_BANDWIDTH)));
    assert_eq!(player.next().await, Got::Closed);
    drop(player);
    house.is_empty_soon().await;
    assert_eq!(house.sessions("too_slow"), 1);
}

#[tokio::test]
async fn a_viewer_that_does_not_read_is_counted_with_what_is_kept_for_it() {
    let house = house(server_settings(), Some(u64::from(u32::MAX))).await;
    let mut player = playing(&house).await;
    until(|| house.counters.held_by_sessions().get() > 0).await;
    let held = usize::try_from(house.counters.held_by_sessions().get()).unwrap();
    assert!(held < 128 * 1024, "{held} bytes");
    assert!(matches!(player.next().await, Got::Data(_)));
    drop(player);
    house.is_empty_soon().await;
}

#[tokio::test]
async fn a_viewer_that_reads_as_fast_as_it_is_sent_to_keeps_no_other_waiting() {
    // Far more than is ever sent here: it would never come to an end by itself.
    let house = house(server_settings(), Some(u64::from(u32::MAX))).await;
    let mut greedy = playing(&house).await;
    tokio::spawn(async move { greedy.watch().await });
    let mut other = playing(&house).await;
    assert!(matches!(other.next().await, Got::Data(_)));
}

#[tokio::test]
async fn beyond_the_limit_a_viewer_is_told_so_whatever_it_still_says() {
    for settings in
        [Settings { viewers: 1, ..server_settings() }, Settings { viewers_per_address: 1, ..server_settings() }]
    {
        let house = house(settings, None).await;
        let first = playing(&house).await;
        let mut second = Player::connect(house.address).await;
        // What nobody reads any more would turn our close into a reset that takes the answer away.
        let chatter = vec![up::Message::Pong; 2000];
        let Got::Message(down::Message::ReportConnectedEx(report)) = second.say_hello().await else {
            panic!("an answer")
        };
        assert_eq!(report.hr, HResult::NS_E_TOO_MANY_SESS);
        for message in chatter {
            second.send(message).await;
        }
        assert_eq!(second.next().await, Got::Closed);
        drop((first, second));
        house.is_empty_soon().await;
        assert_eq!((house.sessions("refused"), house.refused("limit")), (1, 1));
        playing(&house).await;
    }
}

#[tokio::test]
async fn a_kicked_viewer_gets_the_end_of_its_stream() {
    let house = house(server_settings(), None).await;
    let mut player = playing(&house).await;
    let viewer = house.server.viewers().pop().unwrap();
    assert!(viewer.has_content() && viewer.facts().is_streaming);
    house.server.viewer(viewer.id).unwrap().end(Refusal::new(Reason::Kicked, "by hand"));
    drop(viewer);
    assert_eq!(player.watch().await, (vec![], Some(HResult::NS_E_NOCONNECTION)));
    assert_eq!(player.next().await, Got::Closed);
    drop(player);
    house.is_empty_soon().await;
    assert_eq!(house.sessions("kicked"), 1);
}

#[tokio::test]
async fn a_drain_refuses_who_comes_and_lets_the_others_go_on_until_its_time_is_over() {
    let house = house(server_settings(), None).await;
    let mut player = playing(&house).await;
    house.server.drain();
    let mut late = Player::connect(house.address).await;
    assert_eq!(late.open("talk.asf").await, HResult::NS_E_NOCONNECTION);
    drop(late);
    let server = Arc::clone(&house.server);
    let finish = tokio::spawn(async move { server.finish(Duration::ZERO).await });
    assert_eq!(player.watch().await, (vec![], Some(HResult::NS_E_NOCONNECTION)));
    drop(player);
    soon(finish).await.unwrap();
    house.is_empty_soon().await;
    assert_eq!(house.refused("draining"), 2);
}

#[tokio::test]
async fn a_drain_is_over_when_the_last_viewer_leaves() {
    let house = house(server_settings(), None).await;
    let player = playing(&house).await;
    house.server.drain();
    let server: Arc<Server> = Arc::clone(&house.server);
    let finish = tokio::spawn(async move { server.finish(Duration::from_secs(3600)).await });
    drop(player);
    soon(finish).await.unwrap();
}

#[tokio::test]
async fn http_on_the_port_is_closed_at_once() {
    let house = house(server_settings(), None).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(b"GET /talk.asf HTTP/1.0\r\nAccept: */*\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
    drop(stream);
    house.is_empty_soon().await;
    assert_eq!((house.sessions("refused"), house.refused("http")), (1, 1));
}

#[tokio::test]
async fn a_malformed_viewer_ends_alone_and_is_counted() {
    let house = house(server_settings(), None).await;
    let mut other = playing(&house).await;
    let mut player = playing(&house).await;
    player.0.write(&[0xFF; 64]).await;
    let (_, end) = player.watch().await;
    assert_eq!(end, Some(HResult::NS_E_INVALID_REQUEST));
    assert_eq!(player.next().await, Got::Closed);
    other.send(up::StopPlaying { open_file_id: FileId(1), play_incarnation: 10 }).await;
    assert_eq!(other.watch().await, (vec![], Some(HResult::S_OK)));
    drop((player, other));
    house.is_empty_soon().await;
    assert_eq!((house.sessions("failed"), house.refused("malformed")), (1, 1));
}

#[tokio::test]
async fn many_requests_in_one_write_are_served_one_after_another() {
    let house = house(server_settings(), None).await;
    let mut player = playing(&house).await;
    let mut bytes = Vec::new();
    for _ in 0..500 {
        up::Message::from(up::Logging { client_log: Bytes::from_static(&[0; 64]) }).encode(0, &mut bytes);
    }
    up::Message::from(up::CloseFile { open_file_id: FileId(1) }).encode(0, &mut bytes);
    assert!(player.0.write(&bytes).await);
    assert_eq!(player.answer().await, Got::Closed);
    drop(player);
    house.is_empty_soon().await;
    assert_eq!((house.sessions("ended"), house.sessions("failed")), (1, 0));
}

#[tokio::test]
async fn a_viewer_that_reads_no_answer_is_read_no_further() {
    let house = house(server_settings(), None).await;
    let mut player = playing(&house).await;
    let mut bytes = Vec::new();
    up::Message::from(up::FunnelInfo { play_incarnation: crate::wire::mmsp::ids::PacketPairMode::DISABLE })
        .encode(0, &mut bytes);
    // Each asks for an answer; at last neither we nor the kernels take any more.
    let mut written = 0;
    let flood = async {
        while player.0.write(&bytes).await {
            written += bytes.len();
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), flood).await.is_err(), "the connection broke");
    assert!(written < 32 * 1024 * 1024, "{written} bytes of requests were taken");
    drop(player);
    house.is_empty_soon().await;
}
