//! One viewer's requests, put to the origin that its policy chose, and the answers.

use std::sync::Arc;

use tracing::{Instrument, debug};

use super::connector::{Connecting, Connector, Session};
use super::identity::Identity;
use super::{Relay, Rules};
use crate::asf::Thinning;
use crate::content::HostPort;
use crate::server::pipe::{Overflow, PipeCursor, pipe};
use crate::server::printable::Printable;
use crate::server::source::{Link, Peer};
use crate::server::upstream::UpstreamError;
use crate::session::mmsp::client::Event;
use crate::session::{
    Caller, End, Next, Open, Opened, Pace, Play, Playing, Reason, Refusal, Reply, Request, StreamChoice,
};

/// One viewer's way to its origin.
pub(super) struct Task {
    pub(super) relay: Arc<Relay>,
    pub(super) rules: Arc<Rules>,
    pub(super) peer: Peer,
    link: Link,
    pub(super) connector: Connector,
    pub(super) host: Option<HostPort>,
    /// A session that Connect asked for and that was not there in time to be waited for.
    pub(super) connecting: Option<Connecting>,
    pub(super) upstream: Option<Session>,
    /// What is open, so that a viewer that paused past the origin's patience can go on.
    opened: Option<(Open, Arc<Opened>)>,
    /// The reading end for the play that was asked for.
    cursor: Option<PipeCursor>,
    /// The state of each stream that was named; what it replaces is named as off before it.
    selection: Vec<StreamChoice>,
}

/// What a request or an event leads to.
enum Step {
    /// Go on.
    Continue,
    /// The viewer is gone or done.
    Done,
}

impl Task {
    pub(super) fn new(relay: Arc<Relay>, rules: Arc<Rules>, peer: Peer, link: Link) -> Self {
        let identity = Identity::new(Caller::default());
        let connector = Connector::new(Arc::clone(&relay), Arc::clone(&rules), identity);
        Self {
            relay,
            rules,
            peer,
            link,
            connector,
            host: None,
            connecting: None,
            upstream: None,
            opened: None,
            cursor: None,
            selection: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let step = tokio::select! {
                request = self.link.requests.recv() => match request {
                    None | Some(Request::Close) => Step::Done,
                    Some(request) => self.unless_gone(request).await,
                },
                event = next_event(&mut self.upstream) => {
                    self.handle_event(event).await;
                    Step::Continue
                }
            };
            if matches!(step, Step::Done) {
                break;
            }
        }
        self.leave();
    }

    /// Serves a request; gives up when the viewer goes away meanwhile.
    async fn unless_gone(&mut self, request: Request) -> Step {
        let gone = self.link.replies.clone();
        tokio::select! {
            () = self.handle(request) => Step::Continue,
            () = gone.closed() => Step::Done,
        }
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Greet(caller) => {
                let reply = self.greet(caller).await;
                self.reply(reply).await;
            }
            Request::Open(open) => {
                self.selection.clear();
                self.cursor = None;
                self.opened = None;
                let reply = self.open(&open).await.unwrap_or_else(Reply::Refused);
                self.reply_opening(open, reply).await;
            }
            Request::Answer(credentials) => {
                let answer = self.ask(Request::Answer(credentials)).await;
                let reply = self.follow(answer).await.unwrap_or_else(Reply::Refused);
                // What was opened by a login can't be opened again without one: the name does not matter.
                self.reply_opening(Open::default(), reply).await;
            }
            Request::Play(play) => {
                if let Err(refusal) = self.play(play).await {
                    self.reply(Reply::Refused(refusal)).await;
                }
            }
            Request::Select(choices) => {
                choices.iter().for_each(|choice| self.remember(*choice));
                self.tell(Request::Select(choices)).await;
            }
            Request::Stop | Request::Log(_) => self.tell(request).await,
            Request::Close => {}
        }
    }

    async fn play(&mut self, mut play: Play) -> Result<(), Refusal> {
        if self.upstream.is_none() {
            self.open_again().await?;
        }
        let (Some(session), Some((_, opened))) = (&mut self.upstream, &self.opened) else {
            return Err(Refusal::new(Reason::Invalid, "nothing is open"));
        };
        if play.burst.is_none() && !play.is_trick_mode() {
            play.burst = Some(self.rules.settings.burst(opened));
        }
        let overflow = if opened.description.broadcast { Overflow::Skip } else { Overflow::Wait };
        self.cursor = None;
        let held = self.relay.counters.held_by_sessions();
        let (feeder, cursor) = pipe(self.rules.settings.buffer, overflow, Arc::clone(&self.link.bell), held);
        session.upstream.feed(feeder);
        session.upstream.request(Request::Play(play)).map_err(|error| self.fail(&error))?;
        self.cursor = Some(cursor);
        Ok(())
    }

    /// The origin lost patience, or was lost, while the viewer did not play: the same content is opened anew.
    async fn open_again(&mut self) -> Result<(), Refusal> {
        let lost = || Refusal::new(Reason::Lost, "the origin is gone, and the content can't be opened again");
        let (open, before) =
            self.opened.clone().filter(|(_, opened)| !opened.description.authenticated).ok_or_else(lost)?;
        let is_same = matches!(
            self.open(&open).await?,
            Reply::Opened(now) if now.header.bytes() == before.header.bytes()
        );
        if !is_same {
            // Else the next play would go on with another content, or wait for a login.
            self.leave();
            return Err(Refusal::new(Reason::Lost, "the content at the origin is another now"));
        }
        let selection = self.selection.clone();
        self.tell(Request::Select(selection)).await;
        Ok(())
    }

    fn remember(&mut self, choice: StreamChoice) {
        let replaced = choice.replaces.map(|stream| StreamChoice { replaces: None, stream, thinning: Thinning::Off });
        for choice in replaced.into_iter().chain([StreamChoice { replaces: None, ..choice }]) {
            self.selection.retain(|known| known.stream != choice.stream);
            self.selection.push(choice);
        }
    }

    async fn handle_event(&mut self, event: Result<Event, UpstreamError>) {
        let reply = match event {
            Ok(Event::Playing) => self
                .cursor
                .take()
                .map(|cursor| Reply::Playing(Playing { cursor: Box::new(cursor), pace: Pace::AsItComes })),
            Ok(Event::Refused(refusal)) => {
                self.relay.counters.origin_errors.with_label_values(&["refused"]).inc();
                self.cursor.take().map(|_| Reply::Refused(refusal))
            }
            Ok(_) => None,
            Err(error) => {
                self.lost(&error).await;
                None
            }
        };
        if let Some(reply) = reply {
            self.reply(reply).await;
        }
    }

    /// The session at the origin is over while nothing is asked; who waits for a play to begin is told.
    async fn lost(&mut self, error: &UpstreamError) {
        let refusal = self.fail(error);
        if self.cursor.take().is_some() {
            self.reply(Reply::Refused(refusal)).await;
        }
    }

    async fn reply_opening(&mut self, open: Open, reply: Reply) {
        self.opened = match &reply {
            Reply::Opened(opened) => Some((open, Arc::clone(opened))),
            _ => None,
        };
        self.reply(reply).await;
    }

    /// A request without an answer. Where there is no session, nobody is there to be told.
    async fn tell(&mut self, request: Request) {
        if let Some(session) = &mut self.upstream
            && let Err(error) = session.upstream.request(request)
        {
            self.lost(&error).await;
        }
    }

    /// The session at the origin is over, by its own fault: whoever plays is told.
    pub(super) fn fail(&mut self, error: &UpstreamError) -> Refusal {
        let Some(mut session) = self.upstream.take() else { return error.refusal() };
        if session.upstream.is_greeted() && matches!(error, UpstreamError::Closed | UpstreamError::Lost(_)) {
            // It was asked for nothing yet, and has no reason to wait for a viewer that takes its time.
            debug!(reason = %Printable(error), "the origin left before it was asked");
            return error.refusal();
        }
        let refusal = session.span.in_scope(|| self.relay.origin_failed(error));
        session.upstream.end_media(Next::Ended(End::Failed(refusal.clone())));
        session.outcome.is_failure = true;
        refusal
    }

    /// Leaves the session at the origin as a client should, without waiting for it.
    pub(super) fn leave(&mut self) {
        if let Some(session) = self.upstream.take() {
            let within = self.rules.settings.reply;
            let span = session.span.clone();
            tokio::spawn(session.close(within).instrument(span));
        }
    }

    async fn reply(&self, reply: Reply) {
        debug!(reply = %Printable(format_args!("{reply:?}")), "to the viewer");
        // A viewer that is gone needs no answer.
        let _ = self.link.replies.send(reply).await;
    }
}

/// The next event of a session; never, where there is none.
async fn next_event(session: &mut Option<Session>) -> Result<Event, UpstreamError> {
    match session {
        Some(session) => session.upstream.next().await,
        None => std::future::pending().await,
    }
}
