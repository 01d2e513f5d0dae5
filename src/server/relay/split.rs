//! Drives the source of one split stream: opens the session at the origin, feeds what comes, opens it again when it is
//! lost, and leaves when nobody watches any more. One of these runs for each broadcast, however many viewers it has.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::fail_back::{self, Candidate};
use super::kinds::Kind;
use super::opening::Opener;
use super::retry::Retry;
use super::stock::{Filling, may_be_kept};
use super::{Relay, Rules};
use crate::content::Choice;
use crate::server::printable::Printable;
use crate::server::sink::Sink;
use crate::server::upstream::{UpstreamError, until};
use crate::session::mmsp::client::Event;
use crate::session::{End, Next, Opened, Play, Position, Reason, Refusal, Reply, Request};
use crate::splitter::{Feed, Finished, Media, State, Stream};

/// What became of an opening that was made in a viewer's own name, where the content turned out to be no broadcast: the
/// viewer goes on with it.
pub(super) type HandBack = (Box<Opener>, Reply);

/// The driver of one stream.
pub(super) struct Driver {
    relay: Arc<Relay>,
    rules: Arc<Rules>,
    choice: Choice,
    stream: Arc<Stream>,
    feed: Arc<Mutex<Feed>>,
    /// Packets that came in all.
    packets: Arc<AtomicU64>,
    opener: Box<Opener>,
    /// The viewer in whose name the first opening is made.
    hand_back: Option<oneshot::Sender<HandBack>>,
    /// StartPlaying is out.
    is_starting: bool,
    /// The source is lost and looked for.
    retry: Option<Retry>,
    /// The attempts that led to the session that plays.
    retry_before: Option<Retry>,
    /// When nobody has watched for long enough.
    idle: Option<Instant>,
    /// When the first origin of the route is tried again.
    fail_back: Option<Instant>,
    /// A session there that is about to take over.
    candidate: Option<Candidate>,
    /// All who wait know what became of it.
    is_over: bool,
    /// What became of content that is kept, until those who wait for it have found it.
    kept: Option<Arc<Filling>>,
    /// `packets` when the session at the origin began.
    packets_before: u64,
}

impl Driver {
    /// Drives `stream` with sessions of `opener`. Where that is a viewer's own, it is given back by `hand_back` if the
    /// content is no broadcast.
    pub(super) fn new(
        relay: Arc<Relay>,
        rules: Arc<Rules>,
        choice: Choice,
        stream: Arc<Stream>,
        opener: Box<Opener>,
        hand_back: Option<oneshot::Sender<HandBack>>,
    ) -> Self {
        let feed = Arc::new(Mutex::new(Feed::new(Arc::clone(&stream))));
        stream.change_source(|source| source.since = Some(SystemTime::now()));
        Self {
            relay,
            rules,
            choice,
            stream,
            feed,
            packets: Arc::default(),
            opener,
            hand_back,
            is_starting: false,
            retry: None,
            retry_before: None,
            idle: None,
            fail_back: None,
            candidate: None,
            is_over: false,
            kept: None,
            packets_before: 0,
        }
    }

    /// Works until the stream is gone. `first` is the answer where it was asked already: by a viewer that found a
    /// broadcast where none was expected.
    pub(super) async fn run(mut self, mut first: Option<Arc<Opened>>) {
        loop {
            let reply = match first.take() {
                Some(opened) => Ok(Reply::Opened(opened)),
                None => self.opener.open(&self.choice, None).await,
            };
            let Some(opened) = self.shareable(reply).await else { return };
            self.relay.kinds.set(&self.choice.key, Kind::Shared);
            info!(bit_rate = opened.description.bit_rate, "broadcast opened");
            self.feed.lock().opened(Instant::now(), opened);
            let counted = Counted::new(&self.relay);
            self.serve().await;
            self.opener.close().await;
            self.show();
            drop(counted);
            if self.relay.splitter.finish(&self.choice.key, &self.stream) == Finished::Gone {
                info!("broadcast closed: nobody watches");
                self.is_over = true;
                return;
            }
        }
    }

    /// The content, if it may be shared; else all who wait learn that it may not.
    async fn shareable(&mut self, reply: Result<Reply, Refusal>) -> Option<Arc<Opened>> {
        let state = match reply {
            Ok(Reply::Opened(opened)) if is_broadcast(&opened) && self.choice.split => return Some(opened),
            Ok(Reply::Opened(opened)) if self.is_kept(&opened) => {
                self.keep(&opened).await;
                State::Unshared
            }
            Ok(reply) => {
                self.relay.kinds.set(&self.choice.key, Kind::Own);
                self.hand_back(reply);
                State::Unshared
            }
            Err(refusal) => {
                if let Some(stock) = self.relay.stock() {
                    stock.note_refusal(&self.choice.key.to_string(), &refusal);
                }
                State::Refused(refusal)
            }
        };
        self.abandon(state);
        None
    }

    /// Whether it is for the cache.
    fn is_kept(&self, opened: &Opened) -> bool {
        // A session in a viewer's own name is the viewer's.
        self.choice.cache && self.relay.stock().is_some() && self.hand_back.is_none() && may_be_kept(opened)
    }

    /// Whoever waits finds it in the cache, and the session that opened it there.
    async fn keep(&mut self, opened: &Arc<Opened>) {
        let Some(stock) = self.relay.stock().cloned() else { return };
        let spare = self.relay.shared_opener(&self.rules);
        let opener = std::mem::replace(&mut self.opener, spare);
        let kept = stock.adopt(&self.relay, &self.rules, &self.choice, opened, opener).await;
        let kind = if kept.is_ok() { Kind::Stored } else { Kind::Own };
        self.relay.kinds.set(&self.choice.key, kind);
        match kept {
            Ok(filling) => self.kept = Some(filling),
            Err(mut opener) => opener.leave(),
        }
    }

    fn abandon(&mut self, state: State) {
        self.is_over = true;
        self.relay.splitter.abandon(&self.choice.key, &self.stream, state);
    }

    fn hand_back(&mut self, reply: Reply) {
        let spare = self.relay.shared_opener(&self.rules);
        let mut opener = std::mem::replace(&mut self.opener, spare);
        match self.hand_back.take() {
            None => opener.leave(),
            Some(viewer) => {
                // It may be gone by now.
                if let Err((mut opener, _)) = viewer.send((opener, reply)) {
                    opener.leave();
                }
            }
        }
    }

    /// Until nobody has watched for `split.linger`.
    async fn serve(&mut self) {
        self.hand_back = None;
        self.watch_session();
        loop {
            self.tend();
            let retry_at = self.retry.as_ref().and_then(Retry::at);
            tokio::select! {
                event = self.opener.next_event() => self.handle(event),
                () = self.stream.demand() => {}
                () = until(retry_at), if retry_at.is_some() => self.try_again().await,
                () = until(self.fail_back), if self.fail_back.is_some() => self.try_first_origin().await,
                ready = fail_back::ready(&mut self.candidate) => self.fail_back(ready),
                () = until(self.idle), if self.idle.is_some() => {
                    if self.stream.begin_close() {
                        (self.retry, self.idle, self.fail_back) = (None, None, None);
                        self.drop_candidate();
                        return;
                    }
                }
            }
        }
    }

    /// What the state of things asks for: media that a viewer waits for, and an end where nobody watches.
    fn tend(&mut self) {
        if self.stream.viewers() > 0 {
            self.idle = None;
        } else if self.relay.is_closing.load(Ordering::Acquire) {
            self.idle = Some(Instant::now());
        } else if self.idle.is_none() {
            self.idle = Instant::now().checked_add(self.rules.settings.split.linger);
        }
        if self.opener.place() == 0 || self.candidate.is_some() || !self.stream.is_running() {
            self.fail_back = None;
        } else if self.fail_back.is_none() && !self.rules.settings.split.fail_back.is_zero() {
            self.fail_back = Instant::now().checked_add(self.rules.settings.split.fail_back);
        }
        for report in self.stream.take_reports() {
            self.tell(Request::Log(report));
        }
        if self.stream.is_asked() && !self.is_starting && self.retry.is_none() {
            if self.opener.session().is_some() {
                self.start();
            } else {
                // It was lost while nobody wanted anything of it.
                self.retry = Some(Retry::now(Instant::now()));
            }
        }
        self.show();
    }

    /// Lets operators see where the media come from now.
    fn show(&mut self) {
        let at = self.opener.session().map(|session| &session.at);
        let is_lost = self.retry.is_some();
        self.stream.change_source(|source| {
            source.is_lost = is_lost;
            if source.origin.as_ref() != at {
                source.origin = at.cloned();
            }
        });
    }

    fn start(&mut self) {
        self.is_starting = true;
        let settings = &self.rules.settings;
        let limit = settings.receive_rate(&self.choice);
        let burst = self.opened().map(|opened| settings.burst(&opened, limit));
        self.tell(Request::Play(Play { burst, ..Play::from(Position::Default) }));
    }

    fn opened(&self) -> Option<Arc<Opened>> {
        match self.stream.state() {
            State::Open(content) => Some(content.opened),
            _ => None,
        }
    }

    /// A request without an answer, or one whose answer is an event.
    fn tell(&mut self, request: Request) {
        if let Err(error) = self.opener.request(request) {
            self.lost(&error);
        }
    }

    /// Media of the session that was opened last go into the stream from now on.
    fn watch_session(&mut self) {
        self.packets_before = self.packets.load(Ordering::Relaxed);
        if let Some(session) = self.opener.session() {
            session.upstream.feed(StreamSink {
                feed: Arc::clone(&self.feed),
                packets: Arc::clone(&self.packets),
                relay: Arc::clone(&self.relay),
                memory: self.rules.settings.split.memory,
            });
        }
    }

    fn handle(&mut self, event: Result<Event, UpstreamError>) {
        match event {
            Ok(Event::Playing) => {
                self.is_starting = false;
                self.retry_before = self.retry.take();
                self.feed.lock().set_media(Media::Running);
            }
            Ok(Event::Refused(refusal)) => {
                self.relay.counters.origin_errors.with_label_values(&["refused"]).inc();
                self.is_starting = false;
                match &self.retry {
                    // Viewers wait for media that they had: it may be that the origin has not got its own source yet.
                    Some(_) => self.failed(refusal),
                    None => self.feed.lock().set_media(Media::Refused(refusal)),
                }
            }
            Ok(_) => {}
            Err(error) => self.lost(&error),
        }
    }

    /// The session at the origin is gone. Who watches is kept, and hears nothing of it yet.
    fn lost(&mut self, error: &UpstreamError) {
        let now = Instant::now();
        let refusal = self.opener.lost(error);
        let was_starting = std::mem::take(&mut self.is_starting);
        self.feed.lock().set_changing(false);
        if self.stream.is_running() {
            // A session that gave nothing was no way out of the loss before it.
            let has_given = self.packets.load(Ordering::Relaxed) > self.packets_before;
            let before = self.retry.take().or(self.retry_before.take()).filter(|_| !has_given);
            let give_up = self.rules.settings.split.give_up;
            self.retry = Some(before.unwrap_or_else(|| Retry::after_loss(now, give_up)));
            self.failed(refusal);
        } else if was_starting || self.stream.is_asked() {
            self.retry = None;
            self.feed.lock().set_media(Media::Refused(refusal));
        }
    }

    /// An attempt failed: the next one follows, or it was the last.
    fn failed(&mut self, refusal: Refusal) {
        let now = Instant::now();
        let is_running = self.stream.is_running();
        self.opener.leave();
        if is_running && self.retry.as_mut().is_some_and(|retry| retry.again(now)) {
            return;
        }
        self.retry = None;
        if is_running {
            warn!(reason = %Printable(&refusal), "the broadcast is given up");
            self.count_reconnect("gave_up");
            self.feed.lock().end(now, End::Failed(refusal));
            (self.relay.news)();
        } else {
            self.feed.lock().set_media(Media::Refused(refusal));
        }
    }

    async fn try_again(&mut self) {
        if let Some(retry) = &mut self.retry {
            retry.begin();
        }
        let reply = self.opener.open(&self.choice, None).await;
        let opened = match reply {
            Ok(Reply::Opened(opened)) if is_broadcast(&opened) => opened,
            Ok(_) => {
                self.opener.leave();
                return self.failed(Refusal::new(Reason::Lost, "what the origin has there now is no open broadcast"));
            }
            Err(refusal) => return self.failed(refusal),
        };
        let is_running = self.stream.is_running();
        let result = self.feed.lock().reopened(Instant::now(), opened).label();
        (self.relay.news)();
        self.watch_session();
        if is_running {
            info!(result, "the broadcast is back");
            self.count_reconnect(result);
            self.stream.change_source(|source| source.reconnects += 1);
            self.start();
        } else {
            // A viewer asked for it, and is served as one who finds it open.
            self.retry = None;
        }
    }

    /// Another origin serves, and the first may be there again.
    async fn try_first_origin(&mut self) {
        self.fail_back = None;
        let first = self.choice.origins.iter().take(1).cloned().collect();
        let choice = Choice { origins: first, ..self.choice.clone() };
        let mut opener = self.relay.shared_opener(&self.rules);
        match opener.open(&choice, None).await {
            Ok(Reply::Opened(opened)) if is_broadcast(&opened) => {
                let mut candidate = Candidate::new(opener, opened);
                if candidate.opener.request(Request::Play(Play::from(Position::Default))).is_ok() {
                    self.candidate = Some(candidate);
                }
            }
            Ok(_) => opener.leave(),
            Err(refusal) => debug!(reason = %Printable(&refusal), "the first origin is not back"),
        }
    }

    /// The session at the first origin takes over, or was nothing.
    fn fail_back(&mut self, ready: Result<(), Option<UpstreamError>>) {
        let Some(mut candidate) = self.candidate.take() else { return };
        if let Err(Some(error)) = &ready {
            candidate.opener.lost(error);
        }
        if ready.is_err() || !self.stream.is_running() {
            return candidate.opener.leave();
        }
        let mut items = candidate.take();
        std::mem::replace(&mut self.opener, candidate.opener).leave();
        (self.retry, self.retry_before, self.is_starting) = (None, None, false);
        let result = {
            let mut feed = self.feed.lock();
            let is = feed.reopened(Instant::now(), candidate.opened);
            feed.push(Instant::now(), &mut items);
            is
        };
        self.watch_session();
        (self.relay.news)();
        let result = result.label();
        info!(result, "the first origin serves again");
        self.count_reconnect(result);
    }

    fn drop_candidate(&mut self) {
        if let Some(mut candidate) = self.candidate.take() {
            candidate.opener.leave();
        }
    }

    fn count_reconnect(&self, result: &str) {
        self.relay.counters.split_reconnects.with_label_values(&[result]).inc();
    }
}

/// A driver that comes to grief leaves nobody waiting, and the next viewer begins anew.
impl Drop for Driver {
    fn drop(&mut self) {
        if !self.is_over {
            self.abandon(State::Refused(Refusal::new(Reason::Internal, "a fault of ours ended the broadcast")));
        }
    }
}

/// Whether viewers may share it.
pub(super) fn is_broadcast(opened: &Opened) -> bool {
    let description = &opened.description;
    (description.broadcast || description.live) && !description.authenticated
}

/// Counts a stream as open for as long as it has a source.
struct Counted(Arc<Relay>);

impl Counted {
    fn new(relay: &Arc<Relay>) -> Self {
        relay.counters.broadcasts.inc();
        relay.drivers.send_modify(|drivers| *drivers += 1);
        Self(Arc::clone(relay))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.broadcasts.dec();
        self.0.drivers.send_modify(|drivers| *drivers -= 1);
    }
}

/// The way from the session at the origin into the stream.
#[derive(Debug)]
struct StreamSink {
    feed: Arc<Mutex<Feed>>,
    packets: Arc<AtomicU64>,
    relay: Arc<Relay>,
    memory: u64,
}

impl Sink for StreamSink {
    fn push_all(&mut self, items: &mut Vec<Next>) {
        let packets = items.iter().filter(|item| matches!(item, Next::Packet(_))).count();
        self.packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.feed.lock().push(Instant::now(), items);
        self.relay.relieve(self.memory);
        (self.relay.news)();
    }

    fn set_changing(&mut self, is_changing: bool) {
        self.feed.lock().set_changing(is_changing);
    }

    /// A broadcast does not wait for its viewers.
    fn is_full(&self) -> bool {
        false
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}
