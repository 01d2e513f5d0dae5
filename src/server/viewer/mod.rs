//! One viewer: a socket around `session/mmsp/server.rs`.
//!
//! Its task takes messages in and carries the source's answers out; media are sent by a writer (`writer.rs`), under the
//! same lock. Session and unsent rest stand under that one lock, never held across an await, so the rest of a packet that
//! went out in part always precedes what follows.

mod facts;
mod outcome;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{debug, info};

use self::facts::Counted;
pub use self::facts::Facts;
pub use self::outcome::ViewerError;
use super::counters::Counters;
use super::printable::Printable;
use super::sockets;
use super::source::ViewerLink;
use super::upstream::until;
use super::writer::Writer;
use crate::session::batch::Batch;
use crate::session::mmsp::server::{Closing, Input, Output, Session};
use crate::session::{Refusal, Request};
use crate::wire::mmsp::deframer::{Deframer, Frame, looks_like_http};
use crate::wire::mmsp::viewer_to_mac::Message;

/// Media that a batch holds at most, bytes.
const BATCH: usize = 64 * 1024;
/// Batches that a viewer gets in one turn, so that one that reads as fast as it is sent to does not keep its writer.
const BATCHES_PER_TURN: usize = 4;
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
    inner: Mutex<Inner>,
    /// Rung when the task should look: media wait, the state changed under the writer, or the operator ends the session.
    bell: Arc<Notify>,
    /// A write would have blocked: writers leave the viewer alone until the socket takes more.
    is_blocked: AtomicBool,
    /// A writer has it on its list.
    is_with_writer: AtomicBool,
    sent_bytes: AtomicU64,
    sent_packets: AtomicU64,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    unsent: Batch,
    /// When a write last got something out, or had nothing to get out.
    progress: Instant,
    kick: Option<Refusal>,
    facts: Facts,
    /// What the open content counts into.
    counted: Option<Counted>,
    /// Connect to first media packet is measured once.
    connected_at: Option<Instant>,
}

/// How a write went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flushed {
    /// All that is due has left.
    All,
    /// More is due, and the socket takes it: after the others had their turn.
    More,
    /// The socket takes no more for now.
    Blocked,
}

impl Viewer {
    /// A viewer that was just accepted.
    pub(super) fn new(
        id: u64,
        address: SocketAddr,
        stream: TcpStream,
        session: Session,
        bell: Arc<Notify>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            id,
            address,
            since: SystemTime::now(),
            stream,
            inner: Mutex::new(Inner {
                session,
                unsent: Batch::new(),
                progress: Instant::now(),
                kick: None,
                facts: Facts::default(),
                counted: None,
                connected_at: None,
            }),
            bell,
            is_blocked: AtomicBool::new(false),
            is_with_writer: AtomicBool::new(false),
            sent_bytes: AtomicU64::new(0),
            sent_packets: AtomicU64::new(0),
            counters,
        }
    }

    /// What the admin API tells.
    pub fn facts(&self) -> Facts {
        let inner = self.inner.lock();
        Facts {
            is_streaming: inner.session.is_streaming(),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            sent_packets: self.sent_packets.load(Ordering::Relaxed),
            ..inner.facts.clone()
        }
    }

    /// Whether content is open, so that it counts as a viewer and not just as a connection.
    pub fn has_content(&self) -> bool {
        self.inner.lock().counted.is_some()
    }

    /// Ends the session: the player is told.
    pub fn end(&self, refusal: Refusal) {
        self.inner.lock().kick = Some(refusal);
        self.bell.notify_one();
    }

    /// Serves the viewer until its session ends.
    pub(super) async fn serve(self: Arc<Self>, mut link: ViewerLink, writer: Arc<Writer>, idle: Duration) {
        sockets::tune(&SockRef::from(&self.stream));
        let result = self.converse(&mut link, &writer, idle).await;
        // Whoever gives the content learns first that it is over.
        let _ = link.requests.try_send(Request::Close);
        drop(link);
        if let Err(error) = &result {
            // A session that did not end by itself lets go of its media here, and its writer of the viewer.
            self.inner.lock().session.end(Instant::now(), Refusal::new(error.reason(), error.to_string()));
        }
        if !matches!(result, Err(ViewerError::Lost(_) | ViewerError::Closed | ViewerError::Stalled(_))) {
            let _ = timeout(FAREWELL, self.say_farewell()).await;
        }
        self.inner.lock().unsent = Batch::new();
        self.log_end(&result);
    }

    async fn converse(
        self: &Arc<Self>,
        link: &mut ViewerLink,
        writer: &Arc<Writer>,
        idle: Duration,
    ) -> Result<Closing, ViewerError> {
        let mut deframer = Deframer::for_server();
        let mut is_first_read = true;
        loop {
            // One message at a time, each answered before the next is looked at: a read may hold a hundred of them.
            let (deadline, flushed, has_room, has_requests) = loop {
                let deadline = match self.drain(link, writer)? {
                    Drained::Closing(closing) => return Ok(closing),
                    Drained::Until(deadline) => deadline,
                };
                let flushed = self.flush(Instant::now())?;
                let has_room = self.inner.lock().unsent.bytes() < MAX_UNREAD_REPLIES;
                let has_requests = link.requests.capacity() >= REQUESTS_AT_ONCE;
                if !has_room || !has_requests || !self.take_message(&mut deframer)? {
                    break (deadline, flushed, has_room, has_requests);
                }
            };
            let stall = (flushed == Flushed::Blocked).then(|| self.inner.lock().progress + idle);
            let input = tokio::select! {
                ready = self.stream.readable(), if has_room && has_requests => {
                    ready?;
                    self.read(&mut deframer, &mut is_first_read)?;
                    None
                }
                room = link.requests.reserve_many(REQUESTS_AT_ONCE), if !has_requests => {
                    drop(room.map_err(|_| ViewerError::SourceGone)?);
                    None
                }
                reply = link.replies.recv() => Some(Input::Reply(reply.ok_or(ViewerError::SourceGone)?)),
                () = until(deadline), if deadline.is_some() => Some(Input::Timeout),
                ready = self.stream.writable(), if flushed == Flushed::Blocked => {
                    ready?;
                    None
                }
                () = tokio::task::yield_now(), if flushed == Flushed::More => None,
                () = until(stall), if stall.is_some() => return Err(ViewerError::Stalled(idle)),
                () = self.bell.notified() => None,
            };
            if let Some(input) = input {
                self.handle(input)?;
            }
        }
    }

    fn read(&self, deframer: &mut Deframer, is_first: &mut bool) -> Result<(), ViewerError> {
        deframer.buffer().reserve(READ_AHEAD);
        match self.stream.try_read_buf(deframer.buffer()) {
            Ok(0) => return Err(ViewerError::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
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
        let mut inner = self.inner.lock();
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
        Ok(self.inner.lock().session.handle_input(Instant::now(), input)?)
    }

    /// Carries out what the session wants.
    fn drain(self: &Arc<Self>, link: &ViewerLink, writer: &Arc<Writer>) -> Result<Drained, ViewerError> {
        let mut inner = self.inner.lock();
        if let Some(refusal) = inner.kick.take() {
            inner.session.end(Instant::now(), refusal);
        }
        let deadline = loop {
            match inner.session.poll_output() {
                Output::Send(bytes) => inner.unsent.push_message(bytes),
                Output::Request(request) => {
                    link.requests.try_send(request).map_err(|_| ViewerError::SourceGone)?;
                }
                Output::Close(closing) => return Ok(Drained::Closing(closing)),
                Output::Timeout(deadline) => break deadline,
            }
        };
        self.count_content(&mut inner);
        let is_streaming = inner.session.is_streaming();
        drop(inner);
        if is_streaming && !self.is_with_writer.swap(true, Ordering::AcqRel) {
            writer.add(self);
        }
        Ok(Drained::Until(deadline))
    }

    /// A session counts as a viewer from the moment its content is open.
    fn count_content(&self, inner: &mut Inner) {
        let Some(opened) = inner.session.opened() else { return };
        let kind = if opened.description.broadcast { "broadcast" } else { "on_demand" };
        // A player may open another content later.
        if inner.counted.as_ref().is_none_or(|counted| counted.kind != kind) {
            inner.facts.kind = Some(kind);
            inner.counted = Some(Counted::new(&self.counters, kind));
        }
    }

    /// A writer's turn: sends what is due. The task is told when it has to do something about it.
    pub(super) fn flush_media(&self, now: Instant) -> StillStreaming {
        if self.is_blocked.load(Ordering::Acquire) {
            return self.still_streaming();
        }
        match self.flush(now) {
            Ok(Flushed::All) => {}
            // The task waits for the socket; a broken one shows there, too.
            Ok(Flushed::Blocked | Flushed::More) | Err(_) => self.bell.notify_one(),
        }
        self.still_streaming()
    }

    /// Whether the writer keeps it. A play may begin while the list is left, so the task and the writer agree by a flag.
    fn still_streaming(&self) -> StillStreaming {
        if self.inner.lock().session.is_streaming() {
            return StillStreaming(true);
        }
        // It ended on the way: new deadlines run.
        self.bell.notify_one();
        self.is_with_writer.store(false, Ordering::Release);
        let began_anew = self.inner.lock().session.is_streaming();
        StillStreaming(began_anew && !self.is_with_writer.swap(true, Ordering::AcqRel))
    }

    /// Writes what is unsent, and media as long as some are due and the socket takes them.
    fn flush(&self, now: Instant) -> Result<Flushed, io::Error> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        for _batch in 0..BATCHES_PER_TURN {
            if !inner.unsent.is_empty() {
                let packets = inner.unsent.take_packets();
                let written = sockets::write(&self.stream, &mut inner.unsent)?;
                self.count(inner, written as u64, packets);
                if written > 0 {
                    inner.progress = now;
                }
                if !inner.unsent.is_empty() {
                    self.is_blocked.store(true, Ordering::Release);
                    return Ok(Flushed::Blocked);
                }
            }
            // Whoever of task and writer finds the socket free again says so: nobody else would.
            self.is_blocked.store(false, Ordering::Release);
            inner.progress = now;
            inner.session.poll_media(now, BATCH, &mut inner.unsent);
            if inner.unsent.is_empty() {
                return Ok(Flushed::All);
            }
        }
        Ok(Flushed::More)
    }

    fn count(&self, inner: &mut Inner, bytes: u64, packets: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sent_packets.fetch_add(packets, Ordering::Relaxed);
        let Some(counted) = &inner.counted else { return };
        counted.bytes.inc_by(bytes);
        counted.packets.inc_by(packets);
        if packets > 0
            && let Some(connected_at) = inner.connected_at.take()
        {
            let seconds = connected_at.elapsed().as_secs_f64();
            self.counters.join_seconds.with_label_values(&[counted.kind]).observe(seconds);
        }
    }

    /// Gets out what is left, then waits for the player's own close: a connection that is cut while something unread is
    /// in it takes our last words with it.
    async fn say_farewell(&self) -> io::Result<()> {
        loop {
            {
                let mut guard = self.inner.lock();
                let inner = &mut *guard;
                loop {
                    match inner.session.poll_output() {
                        Output::Send(bytes) => inner.unsent.push_message(bytes),
                        // Nobody is there any more to be asked.
                        Output::Request(_) | Output::Close(_) => {}
                        Output::Timeout(_) => break,
                    }
                }
                let written = sockets::write(&self.stream, &mut inner.unsent)?;
                self.count(inner, written as u64, 0);
                if inner.unsent.is_empty() {
                    break;
                }
            }
            self.stream.writable().await?;
        }
        SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
        let mut scrap = BytesMut::with_capacity(READ_AHEAD);
        loop {
            self.stream.readable().await?;
            scrap.clear();
            match self.stream.try_read_buf(&mut scrap) {
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
        self.inner.lock().counted = None;
        let reason: &dyn std::fmt::Display = match result {
            Ok(closing) => closing,
            Err(error) => error,
        };
        let content = facts.content.as_deref().unwrap_or_default();
        info!(content, bytes = facts.sent_bytes, packets = facts.sent_packets, reason = %Printable(reason), "session ended");
    }
}

/// What is left to do after the session said what it wants.
enum Drained {
    Until(Option<Instant>),
    Closing(Closing),
}

/// Whether a viewer stays with its writer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct StillStreaming(pub(super) bool);
