//! One session at an origin: a socket around `session/mmsp/client.rs`. The proxy, `probe` and `record` all use it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::sink::Sink;
use super::sockets;
use super::udp::Receiver;
use crate::session::batch::Batch;
use crate::session::mmsp::client::{Client, ClientError, Event, Input, Output, Settings, Udp};
use crate::session::{Next, Reason, Refusal, Request};
use crate::wire::codec::DecodeError;
use crate::wire::mmsp::deframer::{Deframer, Frame, Limits};
use crate::wire::mmsp::mac_to_viewer::Message;

/// What is read at once from an origin, bytes: one lock of the viewer's queue each.
const READ_AHEAD: usize = 64 * 1024;
/// Room for the next read below which new memory is taken, bytes. A packet that waits keeps the whole piece of memory
/// that it was read into: were each read given a piece of its own, a small packet would hold 64 KiB.
const MIN_READ: usize = 8 * 1024;

/// Datagrams that are taken before media go on their way.
const DATAGRAMS_AT_ONCE: usize = 64;
/// Answers that an origin may leave unread, bytes: one that pings and reads no Pong is not read either.
const MAX_UNSENT: usize = 64 * 1024;

/// A session at an origin.
#[derive(Debug)]
pub struct Upstream {
    stream: TcpStream,
    /// Where Data come in datagrams.
    datagrams: Option<Receiver>,
    client: Client,
    deframer: Deframer,
    unsent: Batch,
    events: std::collections::VecDeque<Event>,
    /// Media of the last read, on their way to the sink.
    media: Vec<Next>,
    sink: Option<Box<dyn Sink>>,
    deadline: Option<Instant>,
    /// What ended the session; told after the events that came before it.
    fault: Option<UpstreamError>,
    counts: Counts,
}

/// What a session counts into; dropped with it.
#[derive(Debug)]
pub struct Counts {
    open: IntGauge,
    received: IntCounter,
}

impl Counts {
    /// Counts one open session in `open` from now on, and the bytes it gets in `received`.
    pub fn new(open: IntGauge, received: IntCounter) -> Self {
        open.inc();
        Self { open, received }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// What ends a session.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody there.
    #[error("can't connect to the origin at {address}: {source}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("no connection to the origin at {address} within {within:?}")]
    ConnectTimeout {
        /// Where.
        address: SocketAddr,
        /// The bound.
        within: Duration,
    },
    /// The connection broke.
    #[error("the connection to the origin is lost: {0}")]
    Lost(#[source] io::Error),
    /// The origin closed it.
    #[error("the origin closed the connection")]
    Closed,
    /// The session can't go on.
    #[error(transparent)]
    Session(#[from] ClientError),
}

impl From<DecodeError> for UpstreamError {
    fn from(error: DecodeError) -> Self {
        Self::Session(error.into())
    }
}

impl UpstreamError {
    /// What the viewer is told.
    pub fn refusal(&self) -> Refusal {
        let reason = match self {
            Self::Connect { .. } | Self::ConnectTimeout { .. } => Reason::Unreachable,
            Self::Lost(_) | Self::Closed => Reason::Lost,
            Self::Session(error) => return error.refusal(),
        };
        Refusal::new(reason, self.to_string())
    }

    /// The `reason` label of `mmsproxy_origin_errors_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect { .. } | Self::ConnectTimeout { .. } => "connect",
            Self::Lost(_) | Self::Closed => "lost",
            Self::Session(ClientError::NoReply(_) | ClientError::NoDatagrams) => "timeout",
            Self::Session(ClientError::Refused { .. }) => "refused",
            Self::Session(_) => "protocol",
        }
    }
}

impl Upstream {
    /// Connects to `address` and sends Connect. The answer comes as the first event.
    pub async fn connect(
        address: SocketAddr,
        within: Duration,
        control_limit: usize,
        settings: Settings,
        counts: Counts,
    ) -> Result<Self, UpstreamError> {
        let stream = match timeout(within, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(UpstreamError::Connect { address, source }),
            Err(_) => return Err(UpstreamError::ConnectTimeout { address, within }),
        };
        sockets::tune(&SockRef::from(&stream));
        let client = Client::new(Instant::now(), settings);
        let mut upstream = Self {
            stream,
            datagrams: None,
            client,
            deframer: Deframer::for_client().with_limits(Limits { control: control_limit }),
            unsent: Batch::new(),
            events: Default::default(),
            media: Vec::new(),
            sink: None,
            deadline: None,
            fault: None,
            counts,
        };
        upstream.drain();
        Ok(upstream)
    }

    /// Asks for Data in datagrams when content is opened next, if there is a port for them.
    pub async fn take_datagrams(&mut self) {
        match self.bind_receiver().await {
            Ok((receiver, udp)) => {
                self.client.set_udp(Some(udp));
                self.datagrams = Some(receiver);
            }
            Err(error) => tracing::debug!(%error, "no port for datagrams: Data come over TCP"),
        }
    }

    async fn bind_receiver(&self) -> io::Result<(Receiver, Udp)> {
        let (local, origin) = (self.stream.local_addr()?.ip(), self.stream.peer_addr()?);
        let receiver = Receiver::bind(local, origin).await?;
        let udp = Udp::new(local, receiver.port()?);
        Ok((receiver, udp))
    }

    /// Asks for something; the answer comes as an event.
    pub fn request(&mut self, request: Request) -> Result<(), UpstreamError> {
        self.client.handle_input(Instant::now(), Input::Request(request), &mut self.media)?;
        self.settle();
        Ok(())
    }

    /// Where media go from now on; what came for the sink before goes nowhere.
    pub fn feed(&mut self, sink: impl Sink + 'static) {
        self.feed_to(Box::new(sink));
    }

    /// The same, to one that another session fed.
    pub fn feed_to(&mut self, sink: Box<dyn Sink>) {
        self.sink = Some(sink);
    }

    /// Where media went; from here on they go nowhere.
    pub fn take_sink(&mut self) -> Option<Box<dyn Sink>> {
        self.sink.take()
    }

    /// Media end for the viewer as they would if the origin had said so.
    pub fn end_media(&mut self, last: Next) {
        self.media.push(last);
        self.settle();
    }

    /// Whether the origin waits for the first request.
    pub fn is_greeted(&self) -> bool {
        self.client.is_greeted()
    }

    /// The next event. Media go to the sink meanwhile, and when it is full, the origin waits. Cancel-safe: what was
    /// read or is unsent stays here.
    pub async fn next(&mut self) -> Result<Event, UpstreamError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if let Err(error) = self.write() {
                // An origin that refused and closed takes no more; its last words are there to be read.
                while matches!(self.read(), Ok(true)) {}
                self.fault = Some(error);
                continue;
            }
            let is_full = self.sink.as_ref().is_some_and(|sink| sink.is_full());
            self.client.set_paused(Instant::now(), is_full);
            self.drain();
            let deadline = self.deadline;
            let may_read = !is_full && self.unsent.bytes() < MAX_UNSENT;
            tokio::select! {
                ready = self.stream.readable(), if may_read => {
                    ready.map_err(UpstreamError::Lost)?;
                    if let Err(error) = self.read() {
                        self.fault = Some(error);
                    }
                }
                ready = readable(self.datagrams.as_ref()), if may_read => {
                    ready.map_err(UpstreamError::Lost)?;
                    self.read_datagrams()?;
                }
                ready = self.stream.writable(), if !self.unsent.is_empty() => ready.map_err(UpstreamError::Lost)?,
                () = room(self.sink.as_deref()), if is_full => {}
                () = until(deadline), if deadline.is_some() => {
                    // What is there by now has come in time, however long we stood still.
                    if may_read {
                        if let Err(error) = self.read() {
                            self.fault = Some(error);
                            continue;
                        }
                        self.read_datagrams()?;
                    }
                    self.client.handle_input(Instant::now(), Input::Timeout, &mut self.media)?;
                    self.settle();
                }
            }
        }
    }

    /// Ends the session as a client should: the play is stopped and reported, the file closed. Takes `within` at most.
    pub async fn close(mut self, within: Duration) {
        self.sink = None;
        let farewell = async {
            self.request(Request::Close)?;
            while !matches!(self.next().await?, Event::Closed) {}
            while !self.unsent.is_empty() {
                self.write()?;
                self.stream.writable().await.map_err(UpstreamError::Lost)?;
            }
            Ok::<(), UpstreamError>(())
        };
        // Whatever goes wrong here is wrong with a session that nobody needs any more.
        let _ = timeout(within, farewell).await;
    }

    /// Takes what has come; `false` where nothing has.
    fn read(&mut self) -> Result<bool, UpstreamError> {
        let buffer = self.deframer.buffer();
        if buffer.capacity() - buffer.len() < MIN_READ {
            buffer.reserve(READ_AHEAD);
        }
        let read = match self.stream.try_read_buf(self.deframer.buffer()) {
            Ok(0) => {
                self.disconnected();
                return Err(UpstreamError::Closed);
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(UpstreamError::Lost(error)),
        };
        self.counts.received.inc_by(read as u64);
        let result = self.handle_frames();
        // What came before a fault still counts.
        self.settle();
        result.map(|()| true)
    }

    /// An origin may close right behind the end of a play: what it sent over UDP is of that play still.
    fn disconnected(&mut self) {
        // A fault among the last datagrams is none any more.
        let _ = self.read_datagrams();
        if self.client.handle_disconnect(&mut self.media) {
            self.settle();
        }
    }

    /// Takes the datagrams that have come.
    fn read_datagrams(&mut self) -> Result<(), UpstreamError> {
        let now = Instant::now();
        for _ in 0..DATAGRAMS_AT_ONCE {
            let Some(datagram) = self.datagrams.as_mut().and_then(Receiver::next) else { break };
            self.counts.received.inc_by(datagram.len() as u64);
            self.client.handle_datagram(now, datagram, &mut self.media)?;
        }
        self.settle();
        Ok(())
    }

    fn handle_frames(&mut self) -> Result<(), UpstreamError> {
        let now = Instant::now();
        while let Some(frame) = self.deframer.next_frame()? {
            match frame {
                Frame::Data(data) => self.client.handle_data(now, data, &mut self.media)?,
                Frame::Message(raw) => {
                    let message = Message::decode(&raw)?;
                    tracing::debug!(message = message.name(), "from the origin");
                    self.client.handle_input(now, Input::Received(message), &mut self.media)?;
                }
            }
        }
        Ok(())
    }

    /// After each input: outputs out, media on their way.
    fn settle(&mut self) {
        self.drain();
        let Some(sink) = &mut self.sink else { return self.media.clear() };
        if !self.media.is_empty() {
            sink.push_all(&mut self.media);
        }
        sink.set_changing(self.client.is_between_entries());
    }

    fn drain(&mut self) {
        loop {
            match self.client.poll_output() {
                Output::Send(bytes) => self.unsent.push_message(bytes),
                Output::SendDatagram(bytes) => {
                    if let Some(receiver) = &self.datagrams {
                        receiver.send(&bytes);
                    }
                }
                Output::Event(event) => self.events.push_back(event),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return;
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), UpstreamError> {
        match sockets::write(&self.stream, &mut self.unsent) {
            Ok(_) => Ok(()),
            Err(error) => Err(UpstreamError::Lost(error)),
        }
    }
}

/// Returns once there may be a datagram; never, where there is no socket for them.
async fn readable(receiver: Option<&Receiver>) -> io::Result<()> {
    match receiver {
        Some(receiver) => receiver.readable().await,
        None => std::future::pending().await,
    }
}

async fn room(sink: Option<&dyn Sink>) {
    if let Some(sink) = sink {
        sink.room().await;
    }
}

/// Sleeps until `deadline`, or for ever where there is none.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::server::pipe::{Overflow, pipe};
    use crate::server::testing::{Origin, Script, soon};
    use crate::session::{Cursor, Open, Play, Position};
    use crate::wire::mmsp::data::HEADER_LEN;
    use crate::wire::mmsp::subscriber_name::SubscriberName;

    const PACKETS: usize = 60;
    const LONG: Duration = Duration::from_secs(10);

    /// A session that may open a file.
    async fn connected(address: SocketAddr, reply: Duration) -> Upstream {
        let settings = Settings {
            name: SubscriberName::parse("NSPlayer/9.0.0.2980; {68c0a090-8797-11d2-a2b3-00a0c9b60551}"),
            reply,
            stall: LONG,
            max_header: 1 << 20,
            player_reports: false,
            relays_reports: false,
            udp: None,
        };
        let counts = Counts::new(IntGauge::new("open", "open").unwrap(), IntCounter::new("bytes", "bytes").unwrap());
        let mut upstream = Upstream::connect(address, LONG, 1 << 16, settings, counts).await.unwrap();
        assert!(matches!(soon(upstream.next()).await, Ok(Event::Connected { .. })));
        upstream
    }

    #[test]
    fn what_came_while_we_stood_still_came_in_time() {
        const REPLY: Duration = Duration::from_millis(500);
        // The origin has a thread of its own: it goes on while we stand still.
        let far = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let origin = far.block_on(Origin::new(Script::default()));
        // Which of a deadline and of what has come is seen first is left to chance.
        for _ in 0..4 {
            here.block_on(async {
                let mut upstream = connected(origin.address, REPLY).await;
                upstream.request(Request::Open(Open { name: "talk.asf".into(), credentials: None })).unwrap();
                let stands_still = async { std::thread::sleep(REPLY + REPLY / 5) };
                let (event, ()) = tokio::join!(biased; upstream.next(), stands_still);
                assert!(matches!(event, Ok(Event::Opened(_))), "{event:?}");
            });
        }
    }

    #[tokio::test]
    async fn packets_that_wait_share_the_memory_they_were_read_into() {
        let script = Script { packets: PACKETS as u32, says_end: true, ..Script::default() };
        let origin = Origin::new(script).await;
        let mut upstream = connected(origin.address, LONG).await;
        upstream.request(Request::Open(Open { name: "talk.asf".into(), credentials: None })).unwrap();
        assert!(matches!(soon(upstream.next()).await, Ok(Event::Opened(_))));
        let held = IntGauge::new("held", "held").unwrap();
        let (feeder, mut cursor) = pipe(1 << 20, Overflow::Wait, Arc::default(), held);
        upstream.feed(feeder);
        upstream.request(Request::Play(Play::from(Position::Default))).unwrap();
        let mut packets = Vec::new();
        soon(async {
            while packets.len() < PACKETS {
                // Nothing else is to be told; the origin's pieces arrive one by one.
                let _ = timeout(Duration::from_millis(1), upstream.next()).await;
                while let Next::Packet(packet) = cursor.next() {
                    packets.push(packet.bytes.clone());
                }
            }
        })
        .await;
        let follows = |pair: &&[bytes::Bytes]| {
            let [before, after] = pair else { return false };
            before.as_ptr() as usize + before.len() + HEADER_LEN == after.as_ptr() as usize
        };
        let pieces = 1 + packets.windows(2).filter(|pair| !follows(pair)).count();
        let bytes: usize = packets.iter().map(bytes::Bytes::len).sum();
        assert!(pieces <= 1 + bytes / (READ_AHEAD - 2 * MIN_READ), "{pieces} pieces for {bytes} bytes");
    }
}
