//! The way to open content: which origin, the session that told its scheme, the next origin where one is lost, and where
//! redirects lead.

use std::fmt::Display;
use std::sync::Arc;

use tokio::time::timeout;
use tracing::debug;

use super::connector::{Connecting, Connector, denied};
use super::identity::Identity;
use super::task::Task;
use crate::content::{Grant, HostPort, MmsUrl, Name, Origin, Route, Scheme};
use crate::server::printable::Printable;
use crate::session::mmsp::client::Event;
use crate::session::{AuthScheme, Caller, Credentials, Open, Reason, Refusal, Reply, Request};

impl Task {
    /// `AuthenPackage` is told before a name is: where host and routes leave one origin, it is asked, once.
    pub(super) async fn greet(&mut self, caller: Caller) -> Reply {
        let relay = Arc::clone(&self.relay);
        if let Err(refusal) = self.rules.policy.loop_check(&caller.via) {
            return Reply::Refused(Refusal::new(Reason::Loop, refusal.to_string()));
        }
        self.host = match self.peer.redirected_from {
            // Whatever the player claims: else it could fill another host's place with what its own server says.
            Some(address) => HostPort::parse(&address.to_string()).ok(),
            None => caller.host.as_deref().and_then(|host| HostPort::parse(host).ok()),
        };
        self.connector = Connector::new(Arc::clone(&relay), Arc::clone(&self.rules), Identity::new(caller));
        let unknown = Reply::Greeted { scheme: Some(AuthScheme::Ntlm) };
        let Some((host, port)) = self.rules.policy.origins_for_host(self.host.as_ref()) else { return unknown };
        let at = (host.clone(), port);
        let scheme = match relay.origins.of(&at).scheme() {
            Some(scheme) => scheme,
            None => {
                let Some(grant) = self.grant_for(&host, port) else { return unknown };
                let origin = Origin { host, port, name: String::new(), scheme: Scheme::Mms };
                let mut connecting = Connecting::begin(self.connector.clone(), origin, grant);
                // An origin that is down never fails Connect: OpenFile decides, and goes on with what was begun here.
                match timeout(self.rules.settings.connect, connecting.session()).await {
                    Ok(Ok(session)) => self.upstream = Some(session),
                    Ok(Err(refusal)) => {
                        debug!(reason = %Printable(refusal), "the origin could not be asked for its scheme");
                    }
                    Err(_) => {
                        debug!("the origin did not tell its authentication scheme in time");
                        self.connecting = Some(connecting);
                    }
                }
                relay.origins.of(&at).scheme().flatten()
            }
        };
        // Never empty, for an empty one forbids a later challenge (2.2.4.2).
        Reply::Greeted { scheme: Some(scheme.unwrap_or(AuthScheme::Ntlm)) }
    }

    /// What allows us to ask the one origin that is left: the name does not matter, so any name will do.
    fn grant_for(&self, host: &str, port: u16) -> Option<Grant> {
        let url = MmsUrl::parse(&format!("mms://{}", HostPort { host: host.to_owned(), port: Some(port) })).ok()?;
        self.rules.policy.redirect(&url).ok()
    }

    pub(super) async fn open(&mut self, open: &Open) -> Result<Reply, Refusal> {
        let name = Name::parse(&open.name).map_err(|error| Refusal::new(Reason::InvalidName, error.to_string()))?;
        let choice = self.rules.policy.choose(self.host.as_ref(), &name).map_err(denied)?;
        let mut last = Refusal::new(Reason::Internal, "the route names no origin");
        for origin in &choice.origins {
            let answer = self.open_at(origin, &choice.grant, open.credentials.clone()).await;
            match self.follow(answer).await {
                Err(refusal) if refusal.reason.is_worth_another_origin() => {
                    debug!(origin = %Printable(origin), reason = %Printable(&refusal), "asking the next origin, if any");
                    last = refusal;
                }
                answer => return answer,
            }
        }
        Err(last)
    }

    /// Opens at one origin: in the session that asked for its scheme, if that still waits.
    async fn open_at(
        &mut self,
        origin: &Origin,
        grant: &Grant,
        credentials: Option<Credentials>,
    ) -> Result<Reply, Refusal> {
        let at = (origin.host.clone(), origin.port);
        let request = Request::Open(Open { name: origin.name.clone(), credentials });
        let waits = self.upstream.as_ref().is_some_and(|session| session.at == at && session.upstream.is_greeted());
        if waits {
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
        self.upstream = Some(session);
        self.ask(request).await
    }

    /// Goes where an answer sends us, within the limit, to hosts that the policy allows.
    pub(super) async fn follow(&mut self, mut answer: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
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
    pub(super) async fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let Some(session) = &mut self.upstream else {
            return Err(Refusal::new(Reason::Lost, "the origin is gone"));
        };
        if let Err(error) = session.upstream.request(request) {
            return Err(self.fail(&error));
        }
        loop {
            let Some(session) = &mut self.upstream else {
                return Err(Refusal::new(Reason::Lost, "the origin is gone"));
            };
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
}
