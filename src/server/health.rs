//! What is known of an origin: whether it can be reached, and by which scheme it challenges.
//!
//! An origin that just failed is not asked again for a while, and while nobody knows whether it is there, one session
//! finds out for all that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::session::{AuthScheme, Reason, Refusal};

/// How long an origin is asked for Data over TCP whose datagrams did not come through: firewalls seldom change.
const NO_DATAGRAMS: Duration = Duration::from_secs(600);

/// An origin, by host and port.
pub type Authority = (String, u16);

/// All origins that were ever asked.
#[derive(Debug)]
pub struct Origins {
    known: DashMap<Authority, Arc<Origin>>,
    down: Duration,
    sessions: usize,
}

/// One of them.
#[derive(Debug)]
pub struct Origin {
    state: Mutex<State>,
    changed: Notify,
    down: Duration,
    sessions: Arc<Semaphore>,
    limit: usize,
    scheme: Mutex<Option<Option<AuthScheme>>>,
    /// What it calls itself; empty where it was never asked.
    version: Mutex<String>,
    /// Until then nobody asks it for datagrams: none came through.
    over_tcp_until: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug)]
enum State {
    /// Nobody knows: the next to ask finds out.
    Unknown,
    /// Somebody is finding out.
    Trying,
    /// It answered, a moment ago.
    Up { until: Instant },
    /// It failed, a moment ago.
    Down { until: Instant, why: Refusal },
}

/// The permission to try an origin. What comes of it is to be told; dropped without a word, the next one tries.
#[derive(Debug)]
pub struct Attempt {
    origin: Arc<Origin>,
    /// Others wait for what comes of it.
    is_probe: bool,
    is_decided: bool,
}

/// What is known of an origin, at a moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Known {
    /// Whether it can be reached.
    pub reach: Reach,
    /// The scheme that it announced; `None` where it announced none, or was never asked.
    pub scheme: Option<AuthScheme>,
    /// Sessions that are open at it, or being opened.
    pub sessions: usize,
    /// How many may be.
    pub limit: usize,
}

/// Whether an origin can be reached: what the last attempt told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reach {
    /// No attempt has told.
    Unknown,
    /// An attempt is being made.
    Trying,
    /// It answered.
    Up {
        /// How long that is still taken as true; zero where the next to ask finds out.
        holds: Duration,
    },
    /// It failed.
    Down {
        /// How long it is still not asked; zero where the next to ask finds out.
        holds: Duration,
        /// What failed.
        why: Refusal,
    },
}

/// How many origins are remembered; players of a forward proxy may name any number.
const MAX_KNOWN: usize = 10_000;

impl Origins {
    /// `down`: how long a failed origin is not asked; `sessions`: how many may be open at one origin.
    pub fn new(down: Duration, sessions: usize) -> Self {
        Self { known: DashMap::new(), down, sessions }
    }

    /// What an origin calls itself (`ServerVersionInfo`, [MS-MMSP] 2.2.4.2); `None` where it was never asked.
    pub fn version(&self, authority: &Authority) -> Option<String> {
        let origin = self.known.get(authority)?;
        Some(origin.version.lock().clone()).filter(|version| !version.is_empty())
    }

    /// What is known of `authority`.
    pub fn of(&self, authority: &Authority) -> Arc<Origin> {
        if let Some(origin) = self.known.get(authority) {
            return Arc::clone(&origin);
        }
        if self.known.len() >= MAX_KNOWN {
            // An origin with open sessions is held by them, too.
            self.known.retain(|_, origin| Arc::strong_count(origin) > 1);
        }
        let origin = self.known.entry(authority.clone()).or_insert_with(|| {
            Arc::new(Origin {
                state: Mutex::new(State::Unknown),
                changed: Notify::new(),
                down: self.down,
                sessions: Arc::new(Semaphore::new(self.sessions)),
                limit: self.sessions,
                scheme: Mutex::new(None),
                version: Mutex::default(),
                over_tcp_until: Mutex::default(),
            })
        });
        Arc::clone(&origin)
    }

    /// What is known at `now` of each, ordered by host and port.
    pub fn known(&self, now: Instant) -> Vec<(Authority, Known)> {
        let mut known: Vec<_> = self.known.iter().map(|entry| (entry.key().clone(), entry.known(now))).collect();
        known.sort_by(|(a, _), (b, _)| a.cmp(b));
        known
    }
}

impl Origin {
    fn known(&self, now: Instant) -> Known {
        let reach = match &*self.state.lock() {
            State::Unknown => Reach::Unknown,
            State::Trying => Reach::Trying,
            State::Up { until } => Reach::Up { holds: until.saturating_duration_since(now) },
            State::Down { until, why } => Reach::Down { holds: until.saturating_duration_since(now), why: why.clone() },
        };
        let sessions = self.limit.saturating_sub(self.sessions.available_permits());
        Known { reach, scheme: self.scheme().flatten(), sessions, limit: self.limit }
    }

    /// A place among its sessions.
    pub fn session(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.sessions).try_acquire_owned().map_err(|_| {
            Refusal::new(Reason::Busy, format!("{} sessions are open at the origin (origin.sessions)", self.limit))
        })
    }

    /// Waits for a place among its sessions.
    pub async fn wait_for_session(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let closed = |_| Refusal::new(Reason::Internal, "the origin's places are gone");
        Arc::clone(&self.sessions).acquire_owned().await.map_err(closed)
    }

    /// The scheme it announced; the outer `None` where it was never asked.
    pub fn scheme(&self) -> Option<Option<AuthScheme>> {
        *self.scheme.lock()
    }

    /// Remembers what it calls itself, as much of it as a version can have.
    pub fn set_version(&self, version: &str) {
        const LONGEST: usize = 64;
        *self.version.lock() = version.chars().take(LONGEST).collect();
    }

    /// Whether its datagrams may come through, as far as anybody knows.
    pub fn may_send_datagrams(&self) -> bool {
        self.over_tcp_until.lock().is_none_or(|until| until <= Instant::now())
    }

    /// Remembers that its datagrams don't come through.
    pub fn sends_no_datagrams(&self) {
        *self.over_tcp_until.lock() = Instant::now().checked_add(NO_DATAGRAMS);
    }

    /// Remembers the scheme it announced.
    pub fn set_scheme(&self, scheme: Option<AuthScheme>) {
        *self.scheme.lock() = Some(scheme);
    }

    /// Waits for the turn to try it; fails at once while it is known to be down.
    pub async fn attempt(self: &Arc<Self>) -> Result<Attempt, Refusal> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the state is read, so that no change is missed.
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                let now = Instant::now();
                match &*state {
                    State::Up { until } if now < *until => {
                        return Ok(Attempt { origin: Arc::clone(self), is_probe: false, is_decided: false });
                    }
                    State::Down { until, why } if now < *until => return Err(why.clone()),
                    State::Trying => {}
                    State::Unknown | State::Up { .. } | State::Down { .. } => {
                        *state = State::Trying;
                        return Ok(Attempt { origin: Arc::clone(self), is_probe: true, is_decided: false });
                    }
                }
            }
            changed.await;
        }
    }

    fn set(&self, state: State) {
        *self.state.lock() = state;
        self.changed.notify_waiters();
    }
}

impl Attempt {
    /// It answered.
    pub fn succeeded(mut self) {
        self.is_decided = true;
        self.origin.set(State::Up { until: Instant::now() + self.origin.down });
    }

    /// It can't be reached, or says nothing.
    pub fn failed(mut self, why: Refusal) {
        self.is_decided = true;
        self.origin.set(State::Down { until: Instant::now() + self.origin.down, why });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_probe && !self.is_decided {
            self.origin.set(State::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(down: Duration) -> Arc<Origin> {
        Origins::new(down, 2).of(&("origin.example".to_owned(), 1755))
    }

    fn refusal() -> Refusal {
        Refusal::new(Reason::Unreachable, "nobody there")
    }

    #[tokio::test]
    async fn all_who_wait_share_one_attempt_and_its_failure() {
        let origin = origin(Duration::from_secs(60));
        let probe = origin.attempt().await.unwrap();
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let origin = Arc::clone(&origin);
                tokio::spawn(async move { origin.attempt().await.map(|_| ()) })
            })
            .collect();
        tokio::task::yield_now().await;
        probe.failed(refusal());
        for task in waiting {
            assert_eq!(task.await.unwrap(), Err(refusal()));
        }
        assert_eq!(origin.attempt().await.map(|_| ()), Err(refusal()));
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_leaves_the_next_its_turn() {
        let origin = origin(Duration::from_secs(60));
        drop(origin.attempt().await.unwrap());
        let next = origin.attempt().await.unwrap();
        assert!(next.is_probe);
        next.succeeded();
        assert!(!origin.attempt().await.unwrap().is_probe);
    }

    #[tokio::test]
    async fn once_its_time_is_over_one_finds_out_for_all() {
        let origin = origin(Duration::ZERO);
        origin.attempt().await.unwrap().failed(refusal());
        let probe = origin.attempt().await.unwrap();
        assert!(probe.is_probe);
        let other = tokio::spawn({
            let origin = Arc::clone(&origin);
            async move { origin.attempt().await.map(|attempt| attempt.is_probe) }
        });
        tokio::task::yield_now().await;
        assert!(!other.is_finished());
        probe.succeeded();
        assert!(other.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn what_is_known_is_what_the_last_attempt_told() {
        let down = Duration::from_secs(60);
        let origins = Origins::new(down, 2);
        let other = origins.of(&("a.example".to_owned(), 80));
        let origin = origins.of(&("a.example".to_owned(), 1755));
        let known = |now| origins.known(now).into_iter().map(|(_, known)| known.reach).collect::<Vec<_>>();
        let begun = Instant::now();
        assert_eq!(known(begun), [Reach::Unknown, Reach::Unknown]);
        let attempt = origin.attempt().await.unwrap();
        assert_eq!(known(begun), [Reach::Unknown, Reach::Trying]);
        attempt.failed(refusal());
        assert!(matches!(&known(begun)[1], Reach::Down { holds, why } if *holds >= down && *why == refusal()));
        other.attempt().await.unwrap().succeeded();
        let later = Instant::now() + down;
        assert_eq!(
            known(later),
            [Reach::Up { holds: Duration::ZERO }, Reach::Down { holds: Duration::ZERO, why: refusal() }]
        );
        let _session = other.session().unwrap();
        other.set_scheme(Some(AuthScheme::Basic));
        let (at, known) = origins.known(later).swap_remove(0);
        assert_eq!(at, ("a.example".to_owned(), 80));
        assert_eq!((known.sessions, known.limit, known.scheme), (1, 2, Some(AuthScheme::Basic)));
    }

    #[test]
    fn made_up_origins_are_forgotten_and_those_in_use_are_not() {
        let origins = Origins::new(Duration::ZERO, 1);
        let used = origins.of(&("used.example".to_owned(), 1755));
        used.set_scheme(Some(AuthScheme::Basic));
        for n in 0..2 * MAX_KNOWN {
            origins.of(&(format!("{n}.example"), 1755));
        }
        assert!(origins.known.len() <= MAX_KNOWN);
        assert_eq!(origins.of(&("used.example".to_owned(), 1755)).scheme(), Some(Some(AuthScheme::Basic)));
    }

    #[test]
    fn an_origin_whose_datagrams_did_not_come_through_is_asked_over_tcp() {
        let origin = origin(Duration::ZERO);
        assert!(origin.may_send_datagrams());
        origin.sends_no_datagrams();
        assert!(!origin.may_send_datagrams());
    }

    #[tokio::test]
    async fn sessions_at_one_origin_are_bounded() {
        let origin = origin(Duration::ZERO);
        let _first = origin.session().unwrap();
        let second = origin.session().unwrap();
        assert_eq!(origin.session().unwrap_err().reason, Reason::Busy);
        drop(second);
        assert!(origin.session().is_ok());
    }
}
