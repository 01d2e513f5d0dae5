//! One viewer: a socket around `session/mmsp/server.rs`.
//!
//! Its task takes messages in and carries the source's answers out; media are sent in turns that a writer gives
//! (`turn.rs`, `writer.rs`), under the same lock. Session and unsent rest stand under that one lock, never held across an
//! await, so the rest of a packet that went out in part always precedes what follows.

mod facts;
mod funnel;
mod outbox;
mod outcome;
mod plays;
mod turn;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info};

pub use self::facts::Facts;
use self::facts::{Counted, Held, Kind, Tally};
pub(super) use self::funnel::Road;
use self::funnel::UdpFunnel;
pub use self::outcome::ViewerError;
pub(super) use self::plays::Plays;
use self::plays::Shown;
use self::turn::Flushed;
pub(super) use self::turn::{Scratch, Turn};
use super::counters::Counters;
use super::printable::Printable;
use super::sockets;
use super::source::{Peer, ViewerLink};
use super::writer::Writer;
use crate::session::batch::Batch;
use crate::session::mmsp::server::{Closing, Input, Output, Session};
use crate::session::skips::Skips;
use crate::session::{Refusal, Reply, Request};
use crate::wire::mmsp::deframer::{Deframer, Frame, looks_like_http};
use crate::wire::mmsp::viewer_to_mac::Message;

/// Requests that one input may lead to: no message is taken while there is no room for so many.
const REQUESTS_AT_ONCE: usize = 40;
/// Replies that a viewer may leave unread, bytes: one that sends requests and reads no answer gets no further.
const MAX_UNREAD_REPLIES: usize = 256 * 1024;
/// What is read at once from a viewer, bytes: its requests are small.
const READ_AHEAD: usize = 4 * 1024;
/// How long a closing connection may take to get rid of what is left.
const FAREWELL: Duration = Duration::from_secs(3);

/// A viewer's connection.
#[derive(Debug)]
pub struct Viewer {
    /// Its number in logs and in the admin API.
    pub id: u64,
    /// Where it is.
    pub address: SocketAddr,
    /// When it connected.
    pub since: SystemTime,
    stream: TcpStream,
    /// Where Data may go by UDP.
    road: Option<Road>,
    inner: Mutex<Inner>,
    /// Rung when the task should look: media wait, the state changed under the writer, or the operator ends the session.
    bell: Arc<Notify>,
    /// Gives it its turns.
    writer: Arc<Writer>,
    counters: Arc<Counters>,
    /// `split.max_skips`.
    max_skips: u32,
}

/// Where a viewer's requests go, and how long its socket may take nothing.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) link: ViewerLink,
    /// `limits.idle`.
    pub(super) idle: Duration,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    /// Replies, and what a socket that would have blocked did not take.
    unsent: Batch,
    /// Where Data go, if not the way of the replies.
    funnel: Option<Box<UdpFunnel>>,
    /// A write would have blocked: writers leave the viewer alone until the socket takes more.
    is_blocked: bool,
    /// A writer has it on its list.
    is_with_writer: bool,
    /// The writer was told to look at it.
    is_stirred: bool,
    /// What it keeps in memory while it is blocked.
    held: Option<Held>,
    /// When a write last got something out, or had nothing to get out.
    progress: Instant,
    kick: Option<Box<Refusal>>,
    /// Jumps, once there was one.
    skips: Option<Box<Skips>>,
    facts: Facts,
    /// What the access log is told.
    plays: Plays,
    /// What the open content counts into.
    counted: Option<Counted>,
    /// Connect to first media packet is measured once.
    connected_at: Option<Instant>,
}

impl Viewer {
    /// A viewer that was just accepted.
    pub(super) fn new(
        peer: Peer,
        stream: TcpStream,
        session: Session,
        bell: Arc<Notify>,
        writer: Arc<Writer>,
        counters: Arc<Counters>,
        max_skips: u32,
    ) -> Self {
        Self {
            id: peer.id,
            address: peer.address,
            since: SystemTime::now(),
            stream,
            road: None,
            inner: Mutex::new(Inner {
                session,
                unsent: Batch::new(),
                funnel: None,
                is_blocked: false,
                is_with_writer: false,
                is_stirred: false,
                held: None,
                progress: Instant::now(),
                kick: None,
                skips: None,
                facts: Facts::default(),
                plays: Plays::default(),
                counted: None,
                connected_at: None,
            }),
            bell,
            writer,
            counters,
            max_skips,
        }
    }

    /// The same, and Data may go by UDP.
    pub(super) fn with_road(self, road: Option<Road>) -> Self {
        Self { road, ..self }
    }

    /// The same, and the access log is told.
    pub(super) fn with_plays(mut self, plays: Plays) -> Self {
        self.inner.get_mut().plays = plays;
        self
    }

    /// The task's lock: whatever it does, a writer has to look again.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock();
        if inner.is_with_writer && !std::mem::replace(&mut inner.is_stirred, true) {
            self.writer.stir(self.id);
        }
        inner
    }

    /// What the admin API tells.
    pub fn facts(&self) -> Facts {
        let inner = self.inner.lock();
        let is_streaming = inner.session.is_streaming();
        Facts { is_streaming, funnel: inner.way().label(), ..inner.facts.clone() }
    }

    /// Whether content is open, so that it counts as a viewer and not just as a connection.
    pub fn has_content(&self) -> bool {
        self.inner.lock().counted.is_some()
    }

    /// Ends the session: the player is told.
    pub fn end(&self, refusal: Refusal) {
        self.inner.lock().kick = Some(Box::new(refusal));
        self.bell.notify_one();
    }

    /// Serves the viewer until its session ends.
    pub(super) async fn serve(self: &Arc<Self>, ways: &mut Ways) {
        sockets::tune(&SockRef::from(&self.stream));
        let result = self.converse(ways).await;
        // On the heap: until then a viewer would carry the room of it along.
        Box::pin(self.finish(ways, result)).await;
    }

    async fn finish(&self, ways: &Ways, result: Result<Closing, ViewerError>) {
        // Whoever gives the content learns first that it is over.
        let _ = ways.link.requests.try_send(Request::Close);
        {
            let mut guard = self.lock();
            let inner = &mut *guard;
            inner.plays.finish(&result, Shown::of(&inner.session, inner.facts.sent()));
            if let Err(error) = &result {
                // A session that did not end by itself lets go of its media here, and its writer of the viewer.
                inner.session.end(Instant::now(), Refusal::new(error.reason(), error.to_string()));
            }
        }
        if !matches!(result, Err(ViewerError::Lost(_) | ViewerError::Closed | ViewerError::Stalled(_))) {
            let _ = timeout(FAREWELL, self.say_farewell()).await;
        }
        let mut inner = self.lock();
        (inner.unsent, inner.held, inner.funnel) = (Batch::new(), None, None);
        drop(inner);
        self.writer.look();
        self.log_end(&result);
    }

    async fn converse(self: &Arc<Self>, ways: &mut Ways) -> Result<Closing, ViewerError> {
        let mut deframer = Deframer::for_server();
        let mut is_first_read = true;
        loop {
            // One message at a time, each answered before the next is looked at: a read may hold a hundred of them.
            let wait = loop {
                let deadline = match self.drain(ways)? {
                    Drained::Closing(closing) => return Ok(closing),
                    Drained::Until(deadline) => deadline,
                };
                let flushed = self.flush_now()?;
                let has_room = self.lock().unsent.bytes() < MAX_UNREAD_REPLIES;
                let has_requests = ways.link.requests.room() >= REQUESTS_AT_ONCE;
                if !has_room || !has_requests || !self.take_message(&mut deframer)? {
                    let is_blocked = flushed == Flushed::Blocked;
                    let stall = is_blocked.then(|| self.lock().progress + ways.idle);
                    break Wait {
                        alarm: [deadline, stall].into_iter().flatten().min(),
                        reads: has_room && has_requests,
                        for_requests: !has_requests,
                        is_blocked,
                        has_more: flushed == Flushed::More,
                    };
                }
            };
            deframer.release();
            let input = match self.event(&mut ways.link, wait).await? {
                Event::Look => continue,
                Event::Readable => {
                    self.read(&mut deframer, &mut is_first_read)?;
                    continue;
                }
                Event::Alarm if self.has_stalled(ways.idle) => return Err(ViewerError::Stalled(ways.idle)),
                Event::Alarm => Input::Timeout,
                Event::Reply(reply) => Input::Reply(reply),
            };
            self.handle(input)?;
        }
    }

    /// Waits for what the task has to act upon. One future for all of it: a task that sleeps for hours is as large as
    /// what it waits for.
    async fn event(&self, link: &mut ViewerLink, wait: Wait) -> Result<Event, ViewerError> {
        if wait.has_more {
            tokio::task::yield_now().await;
        }
        let mut bell = pin!(self.bell.notified());
        let mut alarm = pin!(wait.alarm.map(|at| sleep_until(at.into())));
        poll_fn(|context| {
            if alarm.as_mut().as_pin_mut().is_some_and(|alarm| alarm.poll(context).is_ready()) {
                return Poll::Ready(Ok(Event::Alarm));
            }
            if let Poll::Ready(reply) = link.replies.poll_recv(context) {
                return Poll::Ready(reply.map(Event::Reply).ok_or(ViewerError::SourceGone));
            }
            if wait.reads
                && let Poll::Ready(ready) = self.stream.poll_read_ready(context)
            {
                return Poll::Ready(ready.map(|()| Event::Readable).map_err(ViewerError::from));
            }
            if wait.for_requests
                && let Poll::Ready(is_there) = link.requests.poll_room(REQUESTS_AT_ONCE, context)
            {
                return Poll::Ready(if is_there { Ok(Event::Look) } else { Err(ViewerError::SourceGone) });
            }
            if wait.is_blocked
                && let Poll::Ready(ready) = self.stream.poll_write_ready(context)
            {
                return Poll::Ready(ready.map(|()| Event::Look).map_err(ViewerError::from));
            }
            if bell.as_mut().poll(context).is_ready() || wait.has_more {
                return Poll::Ready(Ok(Event::Look));
            }
            Poll::Pending
        })
        .await
    }

    /// Whether a socket that takes nothing has done so for too long.
    fn has_stalled(&self, idle: Duration) -> bool {
        let inner = self.lock();
        inner.is_blocked && inner.progress + idle <= Instant::now()
    }

    fn read(&self, deframer: &mut Deframer, is_first: &mut bool) -> Result<(), ViewerError> {
        let mut buffer = [0; READ_AHEAD];
        let read = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(ViewerError::Closed),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        deframer.buffer().extend_from_slice(read);
        if std::mem::take(is_first) && looks_like_http(deframer.buffer()) {
            // libmms asks for a page first and VLC last: a close at once makes both go on.
            return Err(ViewerError::Http);
        }
        Ok(())
    }

    /// Acts on the next message that has come; `false` where there is none.
    fn take_message(&self, deframer: &mut Deframer) -> Result<bool, ViewerError> {
        match deframer.next_frame()? {
            None => return Ok(false),
            // No viewer has Data to send.
            Some(Frame::Data(_)) => {}
            Some(Frame::Message(raw)) => {
                let message = Message::decode(&raw)?;
                debug!(message = message.name(), "from the viewer");
                self.note(&message);
                self.handle(Input::Received(message))?;
            }
        }
        Ok(true)
    }

    /// What the admin API and the log tell of a viewer comes from its own messages.
    fn note(&self, message: &Message) {
        let mut inner = self.lock();
        match message {
            Message::Connect(connect) => {
                inner.connected_at = Some(Instant::now());
                let player = connect.subscriber_name.player_name().to_owned();
                info!(player = %Printable(&player), "session begins");
                inner.facts.player = Some(player);
            }
            Message::OpenFile(open) => inner.facts.content = Some(open.file_name.clone()),
            _ => {}
        }
    }

    fn handle(&self, input: Input) -> Result<(), ViewerError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if let Input::Reply(Reply::Refused(refusal)) = &input {
            inner.plays.refused(refusal, Shown::of(&inner.session, inner.facts.sent()));
        }
        Ok(inner.session.handle_input(Instant::now(), input)?)
    }

    /// Carries out what the session wants.
    fn drain(self: &Arc<Self>, ways: &Ways) -> Result<Drained, ViewerError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if let Some(refusal) = inner.kick.take() {
            inner.plays.kicked(&refusal, inner.facts.sent());
            inner.session.end(Instant::now(), *refusal);
        }
        let (mut is_news, mut tally) = (false, Tally::default());
        let deadline = loop {
            let output = inner.session.poll_output();
            is_news |= !matches!(output, Output::Timeout(_));
            match output {
                Output::Send(bytes) => {
                    // A packet pair goes before the report behind it, 3.2.5.8.
                    self.flush_datagrams(inner, Instant::now(), &mut tally);
                    inner.unsent.push_message(bytes);
                }
                Output::SendDatagram(bytes) => inner.push_datagram(bytes),
                Output::Funnel(port) => {
                    let connected = self.connect_funnel(inner, port);
                    inner.session.handle_input(Instant::now(), Input::Funnel(connected))?;
                }
                Output::Request(request) => {
                    inner.plays.request(&request, Shown::of(&inner.session, inner.facts.sent()));
                    if matches!(request, Request::Log(_)) {
                        self.counters.viewer_logs.inc();
                    }
                    ways.link.requests.try_send(request).map_err(|_| ViewerError::SourceGone)?;
                }
                Output::Close(closing) => return Ok(Drained::Closing(closing)),
                Output::Timeout(deadline) => break deadline,
            }
        };
        tally.count(&self.counters);
        inner.plays.settle(Shown::of(&inner.session, inner.facts.sent()));
        self.count_content(inner);
        let joins_writer = inner.session.is_streaming() && !std::mem::replace(&mut inner.is_with_writer, true);
        drop(guard);
        if joins_writer {
            self.writer.add(self);
        } else if is_news {
            self.writer.look();
        }
        Ok(Drained::Until(deadline))
    }

    /// A session counts as a viewer from the moment its content is open.
    fn count_content(&self, inner: &mut Inner) {
        let Some(opened) = inner.session.opened() else { return };
        let kind = if opened.description.broadcast { Kind::Broadcast } else { Kind::OnDemand };
        // A player may open another content later.
        let way = inner.way();
        if inner.counted.as_ref().is_none_or(|counted| (counted.kind, counted.way) != (kind, way)) {
            inner.facts.kind = Some(kind.label());
            // The count before is given back first, or the gauges would show both for a moment.
            inner.counted = None;
            inner.counted = Some(Counted::new(&self.counters, kind, way));
        }
    }

    /// The task's own turn: a reply, a burst and what a blocked socket left behind wait for no writer.
    fn flush_now(self: &Arc<Self>) -> io::Result<Flushed> {
        let mut scratch = Scratch::default();
        let flushed = self.flush(&mut self.lock(), Instant::now(), &mut scratch);
        scratch.finish(&self.counters);
        flushed
    }

    /// Gets out what is left, then waits for the player's own close: a connection that is cut while something unread is
    /// in it takes our last words with it.
    async fn say_farewell(&self) -> io::Result<()> {
        loop {
            let mut tally = Tally::default();
            {
                let mut guard = self.lock();
                let inner = &mut *guard;
                loop {
                    match inner.session.poll_output() {
                        Output::Send(bytes) => inner.unsent.push_message(bytes),
                        // Nobody is there any more to be asked.
                        Output::SendDatagram(_) | Output::Request(_) | Output::Funnel(_) | Output::Close(_) => {}
                        Output::Timeout(_) => break,
                    }
                }
                let written = sockets::write(&self.stream, &mut inner.unsent)?;
                self.note_sent(inner, written, 0, &mut tally);
                tally.count(&self.counters);
                if inner.unsent.is_empty() {
                    break;
                }
            }
            self.stream.writable().await?;
        }
        SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut [0; READ_AHEAD]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn log_end(&self, result: &Result<Closing, ViewerError>) {
        let facts = self.facts();
        let (result_label, refused) = outcome::labels(result);
        self.counters.viewer_sessions.with_label_values(&[result_label]).inc();
        if let Some(reason) = refused {
            self.counters.refused.with_label_values(&[reason]).inc();
        }
        self.lock().counted = None;
        let reason: &dyn std::fmt::Display = match result {
            Ok(closing) => closing,
            Err(error) => error,
        };
        let content = facts.content.as_deref().unwrap_or_default();
        info!(content, bytes = facts.sent_bytes, packets = facts.sent_packets, reason = %Printable(reason), "session ended");
    }
}

/// What the task waits for, beside a reply and its bell.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// The nearest deadline.
    alarm: Option<Instant>,
    /// Messages: there is room for what may come of another one.
    reads: bool,
    /// The source: it must take as many requests as one input may lead to.
    for_requests: bool,
    /// The socket: something is unsent.
    is_blocked: bool,
    /// Nothing but the others' turn.
    has_more: bool,
}

/// What the task acts upon.
enum Event {
    /// The socket has something to read, or is closed.
    Readable,
    Reply(Reply),
    Alarm,
    /// The state is another, or the socket takes more.
    Look,
}

/// What is left to do after the session said what it wants.
enum Drained {
    Until(Option<Instant>),
    Closing(Closing),
}
