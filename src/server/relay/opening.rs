//! The way to open content: which origin, the session that told its scheme, the next origin where one is lost, and where
//! redirects lead.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{Instrument, debug, info};

use super::connector::{Connecting, Connector, Session, denied};
use super::identity::Identity;
use super::{Relay, Rules};
use crate::content::{Choice, Grant, HostPort, MmsUrl, Origin, Route, Scheme};
use crate::server::printable::Printable;
use crate::server::upstream::UpstreamError;
use crate::session::mmsp::client::{ClientError, Event};
use crate::session::{AuthScheme, Credentials, End, Next, Open, Reason, Refusal, Reply, Request};

/// Opens content at origins, under one identity, and holds the session that came of it.
#[derive(Debug)]
pub(super) struct Opener {
    relay: Arc<Relay>,
    rules: Arc<Rules>,
    connector: Connector,
    /// A session that Connect asked for and that was not there in time to be waited for.
    connecting: Option<Connecting>,
    session: Option<Session>,
    /// Which of the origins of the last choice answered.
    place: usize,
    /// Data come over TCP, whatever the origin is said to send.
    is_over_tcp: bool,
}

impl Opener {
    pub(super) fn new(relay: Arc<Relay>, rules: Arc<Rules>, identity: Identity) -> Self {
        let connector = Connector::new(Arc::clone(&relay), Arc::clone(&rules), identity);
        Self { relay, rules, connector, connecting: None, session: None, place: 0, is_over_tcp: false }
    }

    /// Which of the origins of the last choice answered, counted from 0.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Has Data come over TCP from here on, where nothing is lost; whether they did not before.
    pub(super) fn insist_on_tcp(&mut self) -> bool {
        !std::mem::replace(&mut self.is_over_tcp, true)
    }

    /// The session, where there is one.
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// Asks the one origin that `host` leaves for its scheme, unless it is known; `None` where nobody can tell.
    pub(super) async fn greet(&mut self, host: Option<&HostPort>) -> Option<AuthScheme> {
        let (host, port) = self.rules.policy.origins_for_host(host)?;
        let at = (host.clone(), port);
        let known = self.relay.origins.of(&at);
        let within = self.rules.settings.connect;
        // One asks for all who come meanwhile.
        let attempt = match known.scheme() {
            None => timeout(within, known.attempt()).await.ok().and_then(Result::ok),
            Some(_) => None,
        };
        let attempt = match (known.scheme(), attempt) {
            (None, Some(attempt)) => attempt,
            (scheme, _) => return scheme.flatten(),
        };
        let grant = self.grant_for(&host, port)?;
        let origin = Origin { host, port, name: String::new(), scheme: Scheme::Mms };
        let mut connecting = Connecting::begin(self.connector.clone(), attempt, origin, grant);
        // An origin that is down never fails Connect: OpenFile decides, and goes on with what was begun here.
        match timeout(within, connecting.session()).await {
            Ok(Ok(session)) => self.session = Some(session),
            Ok(Err(refusal)) => debug!(reason = %Printable(refusal), "the origin could not be asked for its scheme"),
            Err(_) => {
                debug!("the origin did not tell its authentication scheme in time");
                self.connecting = Some(connecting);
            }
        }
        known.scheme().flatten()
    }

    /// What allows us to ask the one origin that is left: the name does not matter, so any name will do.
    fn grant_for(&self, host: &str, port: u16) -> Option<Grant> {
        let url = MmsUrl::parse(&format!("mms://{}", HostPort { host: host.to_owned(), port: Some(port) })).ok()?;
        self.rules.policy.redirect(&url).ok()
    }

    /// Opens at the origins of `choice`, each in its turn, from the one on that answered last.
    pub(super) async fn open(&mut self, choice: &Choice, credentials: Option<Credentials>) -> Result<Reply, Refusal> {
        let mut last = Refusal::new(Reason::Internal, "the route names no origin");
        let count = choice.origins.len();
        let places = (0..count).map(|step| (self.place + step) % count);
        for place in places.collect::<Vec<_>>() {
            let Some(origin) = choice.origins.get(place) else { continue };
            let answer = self.open_at(origin, &choice.grant, credentials.clone()).await;
            match self.follow(answer).await {
                Err(refusal) if refusal.reason.is_worth_another_origin() => {
                    debug!(origin = %Printable(origin), reason = %Printable(&refusal), "asking the next origin, if any");
                    last = refusal;
                }
                answer => {
                    self.place = place;
                    return answer;
                }
            }
        }
        Err(last)
    }

    /// Answers the origin's challenge.
    pub(super) async fn answer(&mut self, credentials: Credentials) -> Result<Reply, Refusal> {
        let answer = self.ask(Request::Answer(credentials)).await;
        self.follow(answer).await
    }

    /// Opens at one origin; over TCP, where it turns out that its datagrams don't come through.
    async fn open_at(
        &mut self,
        origin: &Origin,
        grant: &Grant,
        credentials: Option<Credentials>,
    ) -> Result<Reply, Refusal> {
        let known = self.relay.origins.of(&(origin.host.clone(), origin.port));
        let by_datagrams = origin.scheme == Scheme::Mmsu && !self.is_over_tcp && known.may_send_datagrams();
        let answer = self.open_by(origin, grant, credentials.clone(), by_datagrams).await;
        if answer.is_err() && by_datagrams && !known.may_send_datagrams() {
            info!(origin = %Printable(origin), "no datagrams come through: asking for Data over TCP");
            return self.open_by(origin, grant, credentials, false).await;
        }
        answer
    }

    /// In the session that asked for the origin's scheme, if that still waits.
    async fn open_by(
        &mut self,
        origin: &Origin,
        grant: &Grant,
        credentials: Option<Credentials>,
        by_datagrams: bool,
    ) -> Result<Reply, Refusal> {
        let at = (origin.host.clone(), origin.port);
        let request = Request::Open(Open { name: origin.name.clone(), credentials });
        let waits = self.session.as_ref().is_some_and(|session| session.at == at && session.upstream.is_greeted());
        if waits {
            self.take_datagrams(by_datagrams).await;
            let answer = self.ask(request.clone()).await;
            match answer {
                // The origin did not wait for the viewer as long as we did; a new session will do.
                Err(refusal) if refusal.reason == Reason::Lost => {}
                answer => return answer,
            }
        }
        self.leave();
        let session = match self.connecting.take().filter(|connecting| connecting.at == at) {
            Some(mut connecting) => connecting.session().await?,
            None => self.connector.connect(origin, grant).await?,
        };
        self.session = Some(session);
        self.take_datagrams(by_datagrams).await;
        self.ask(request).await
    }

    async fn take_datagrams(&mut self, is_wanted: bool) {
        if let Some(session) = self.session.as_mut().filter(|_| is_wanted) {
            session.upstream.take_datagrams().await;
        }
    }

    /// Goes where an answer sends us, within the limit, to hosts that the policy allows.
    async fn follow(&mut self, mut answer: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
        let limit = self.rules.settings.max_redirects;
        for _hop in 0..=limit {
            let location = match answer {
                Ok(Reply::Redirect(location)) if self.rules.settings.follow_redirects => location,
                answer => return answer,
            };
            let unusable = |error: &dyn Display| {
                Refusal::new(Reason::Denied, format!("the origin redirects to `{location}`: {error}"))
            };
            let url = MmsUrl::parse(&location).map_err(|error| unusable(&error))?;
            let name = Route::name_at(&url).map_err(|error| unusable(&error))?;
            let grant = self.rules.policy.redirect(&url).map_err(denied)?;
            debug!(location = %Printable(&location), "following a redirect");
            let name = name.as_str().to_owned();
            let origin = Origin { host: url.host.clone(), port: url.port(), name, scheme: url.scheme };
            answer = self.open_at(&origin, &grant, None).await;
        }
        Err(Refusal::new(Reason::Denied, format!("the origin redirects more than {limit} times")))
    }

    /// Puts a request of the opening to the origin and waits for the answer.
    async fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let gone = || Refusal::new(Reason::Lost, "the origin is gone");
        self.request(request).map_err(|error| self.fail(&error))?;
        loop {
            let session = self.session.as_mut().ok_or_else(gone)?;
            match session.upstream.next().await {
                Ok(Event::Opened(opened)) => return Ok(Reply::Opened(opened)),
                Ok(Event::Challenge(credentials)) => return Ok(Reply::Challenge(credentials)),
                Ok(Event::Redirect { kind: 1, location }) => {
                    self.leave();
                    return Ok(Reply::Redirect(location));
                }
                Ok(Event::Redirect { .. }) => {
                    // Type 2 would move us to another proxy, or away from one; it is never relayed.
                    self.leave();
                    return Err(Refusal::new(Reason::Unreachable, "the origin wants to be asked by another proxy"));
                }
                Ok(Event::Refused(refusal)) => {
                    self.relay.counters.origin_errors.with_label_values(&["refused"]).inc();
                    self.leave();
                    return Err(refusal);
                }
                Ok(Event::Connected { .. } | Event::Playing | Event::Closed) => {}
                Err(error) => return Err(self.fail(&error)),
            }
        }
    }

    /// A request to the session, if there is one; the answer, if there is any, comes as an event.
    pub(super) fn request(&mut self, request: Request) -> Result<(), UpstreamError> {
        self.session.as_mut().map_or(Ok(()), |session| session.upstream.request(request))
    }

    /// The next event of the session; never, where there is none.
    pub(super) async fn next_event(&mut self) -> Result<Event, UpstreamError> {
        match &mut self.session {
            Some(session) => session.upstream.next().await,
            None => std::future::pending().await,
        }
    }

    /// The session at the origin is over, by its own fault: whoever reads from it is told.
    pub(super) fn fail(&mut self, error: &UpstreamError) -> Refusal {
        if let Some(session) = &mut self.session {
            session.upstream.end_media(Next::Ended(End::Failed(error.refusal())));
        }
        self.lost(error)
    }

    /// The session at the origin is over, by its own fault.
    pub(super) fn lost(&mut self, error: &UpstreamError) -> Refusal {
        let Some(mut session) = self.session.take() else { return error.refusal() };
        if session.upstream.is_greeted() && matches!(error, UpstreamError::Closed | UpstreamError::Lost(_)) {
            // It was asked for nothing yet, and has no reason to wait for a viewer that takes its time.
            debug!(reason = %Printable(error), "the origin left before it was asked");
            return error.refusal();
        }
        let refusal = session.span.in_scope(|| self.relay.origin_failed(error));
        session.outcome.is_failure = true;
        if is_without_datagrams(error) {
            self.relay.origins.of(&session.at).sends_no_datagrams();
            // Its connection is well, so it is left as a client should.
            let span = session.span.clone();
            tokio::spawn(session.close(self.rules.settings.reply).instrument(span));
        }
        refusal
    }

    /// Leaves the session at the origin as a client should, without waiting for it.
    pub(super) fn leave(&mut self) {
        if let Some((session, within)) = self.take() {
            let span = session.span.clone();
            tokio::spawn(session.close(within).instrument(span));
        }
    }

    /// Leaves the session at the origin as a client should.
    pub(super) async fn close(&mut self) {
        if let Some((session, within)) = self.take() {
            let span = session.span.clone();
            session.close(within).instrument(span).await;
        }
    }

    fn take(&mut self) -> Option<(Session, Duration)> {
        let within = self.rules.settings.reply;
        self.session.take().map(|session| (session, within))
    }
}

/// Whether the origin answered, and its datagrams did not come through.
pub(super) fn is_without_datagrams(error: &UpstreamError) -> bool {
    matches!(error, UpstreamError::Session(ClientError::NoDatagrams))
}
