//! The way to an origin: its addresses, those that the policy permits, one attempt for all who wait, a place among its
//! sessions, and the session itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::net::lookup_host;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{Instrument, Span, debug, info_span, warn};

use super::identity::Identity;
use super::{Relay, Rules};
use crate::content::{Grant, Origin, Refusal as PolicyRefusal};
use crate::server::health::{self, Attempt, Authority};
use crate::server::printable::Printable;
use crate::server::upstream::{Counts, Upstream, UpstreamError};
use crate::session::mmsp::client::Event;
use crate::session::{AuthScheme, Reason, Refusal};

/// Addresses of one name that are tried: each costs a viewer `origin.connect` where nobody answers.
const MAX_ADDRESSES: usize = 4;

/// An open session at an origin.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) upstream: Upstream,
    pub(super) at: Authority,
    pub(super) span: Span,
    pub(super) outcome: Outcome,
    _place: OwnedSemaphorePermit,
    /// Keeps what is known of the origin, its limit above all.
    _origin: Arc<health::Origin>,
}

impl Session {
    /// Ends it as a client should; `within` bounds how long that takes.
    pub(super) async fn close(self, within: Duration) {
        self.upstream.close(within).await;
    }
}

/// Counts a session into `mmsproxy_origin_sessions_total` when it is over, however that comes about.
#[derive(Debug)]
pub(super) struct Outcome {
    total: IntCounterVec,
    /// The origin's fault.
    pub(super) is_failure: bool,
}

impl Drop for Outcome {
    fn drop(&mut self) {
        let result = if self.is_failure { "failed" } else { "ended" };
        self.total.with_label_values(&[result]).inc();
    }
}

/// Connects on behalf of one viewer.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    relay: Arc<Relay>,
    rules: Arc<Rules>,
    identity: Identity,
}

impl Connector {
    pub(super) fn new(relay: Arc<Relay>, rules: Arc<Rules>, identity: Identity) -> Self {
        Self { relay, rules, identity }
    }

    /// Connects, to an address that the policy permits, and waits until the origin has said who it is.
    pub(super) async fn connect(&self, origin: &Origin, grant: &Grant) -> Result<Session, Refusal> {
        let attempt = self.relay.origins.of(&(origin.host.clone(), origin.port)).attempt().await?;
        self.connect_by(attempt, origin, grant).await
    }

    async fn connect_by(&self, attempt: Attempt, origin: &Origin, grant: &Grant) -> Result<Session, Refusal> {
        let at: Authority = (origin.host.clone(), origin.port);
        let known = self.relay.origins.of(&at);
        // After the wait for the attempt: those who only wait take nobody's place.
        let place = match known.session() {
            // A fill that nobody watches gives way to whoever is here to watch; what a viewer needed for its greeting is
            // on its way out when the session for all comes.
            Err(refusal) if self.makes_room(&at) || self.identity.is_shared() => {
                timeout(self.rules.settings.reply, known.wait_for_session()).await.map_err(|_| refusal)??
            }
            place => place?,
        };
        let span = info_span!("origin", host = %Printable(&at.0), port = at.1);
        match self.connect_to(origin, grant).instrument(span.clone()).await {
            Ok((upstream, scheme, version)) => {
                known.set_version(&version);
                // In this order: who waits for the attempt may wait for nothing but the scheme.
                known.set_scheme(scheme);
                attempt.succeeded();
                let total = self.relay.counters.origin_sessions_total.clone();
                let outcome = Outcome { total, is_failure: false };
                Ok(Session { upstream, at, span, outcome, _place: place, _origin: known })
            }
            Err(refusal) => {
                match refusal.reason {
                    reason if reason.is_worth_another_origin() => attempt.failed(refusal.clone()),
                    // It is there and says no, to us or to all: the others need not wait for one another to hear that.
                    Reason::Origin => attempt.succeeded(),
                    // It was not asked.
                    _ => drop(attempt),
                }
                Err(refusal)
            }
        }
    }

    fn makes_room(&self, at: &Authority) -> bool {
        self.relay.stock().is_some_and(|stock| stock.yield_place(at))
    }

    async fn connect_to(
        &self,
        origin: &Origin,
        grant: &Grant,
    ) -> Result<(Upstream, Option<AuthScheme>, String), Refusal> {
        let settings = &self.rules.settings;
        let counters = &self.relay.counters;
        let mut permitted = Vec::new();
        let mut denied_why = None;
        for address in self.resolve(origin).await? {
            match self.rules.policy.permit(grant, address) {
                Ok(()) => permitted.push(address),
                Err(refusal) => denied_why = Some(denied(refusal)),
            }
        }
        let mut failure = None;
        for address in permitted.into_iter().take(MAX_ADDRESSES) {
            let counts = Counts::new(counters.origin_sessions.clone(), counters.origin_received_bytes.clone());
            let client = self.identity.client_settings(&self.rules, origin);
            let connected = Upstream::connect(address, settings.connect, settings.control_packet, client, counts).await;
            let error = match connected {
                Ok(mut upstream) => match greeting(&mut upstream).await {
                    Ok((scheme, version)) => {
                        debug!(%address, version = %Printable(&version), "connected");
                        return Ok((upstream, scheme, version));
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if let Some(before) = failure.replace(error) {
                debug!(reason = %Printable(before), "the origin failed at one of its addresses");
            }
        }
        match (failure, denied_why) {
            (Some(error), _) => Err(self.relay.origin_failed(&error)),
            (None, Some(refusal)) => Err(refusal),
            (None, None) => Err(self.unresolved(origin, "it has none")),
        }
    }

    async fn resolve(&self, origin: &Origin) -> Result<Vec<SocketAddr>, Refusal> {
        let lookup = lookup_host((origin.host.as_str(), origin.port));
        match timeout(self.rules.settings.connect, lookup).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(error)) => Err(self.unresolved(origin, &error.to_string())),
            Err(_) => Err(self.unresolved(origin, "the name service did not answer in time")),
        }
    }

    fn unresolved(&self, origin: &Origin, why: &str) -> Refusal {
        let refusal = Refusal::new(Reason::UnknownHost, format!("no address of `{}`: {why}", origin.host));
        self.relay.counters.origin_errors.with_label_values(&["connect"]).inc();
        warn!(reason = %Printable(&refusal), "the origin failed");
        refusal
    }
}

impl Relay {
    /// Counts and logs a failure of an origin; to be called once for each, in the origin's span.
    pub(super) fn origin_failed(&self, error: &UpstreamError) -> Refusal {
        self.counters.origin_errors.with_label_values(&[error.label()]).inc();
        let refusal = error.refusal();
        warn!(reason = %Printable(&refusal), "the origin failed");
        refusal
    }
}

async fn greeting(upstream: &mut Upstream) -> Result<(Option<AuthScheme>, String), UpstreamError> {
    loop {
        if let Event::Connected { scheme, version } = upstream.next().await? {
            return Ok((scheme, version));
        }
    }
}

pub(super) fn denied(refusal: PolicyRefusal) -> Refusal {
    Refusal::new(Reason::Denied, refusal.to_string())
}

/// A session that is being made while the viewer is told something already; given up when dropped.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) at: Authority,
    task: JoinHandle<Result<Session, Refusal>>,
}

impl Connecting {
    pub(super) fn begin(connector: Connector, attempt: Attempt, origin: Origin, grant: Grant) -> Self {
        let at = (origin.host.clone(), origin.port);
        let task = async move { connector.connect_by(attempt, &origin, &grant).await };
        Self { at, task: tokio::spawn(task.in_current_span()) }
    }

    /// The session, or why there is none. Cancel-safe.
    pub(super) async fn session(&mut self) -> Result<Session, Refusal> {
        let lost = |error| Err(Refusal::new(Reason::Internal, format!("a connection was given up: {error}")));
        (&mut self.task).await.unwrap_or_else(lost)
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.task.abort();
    }
}
