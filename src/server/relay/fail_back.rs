//! Back to the first origin of a route, while another one serves the broadcast: a second session is opened there, and takes
//! over when its first key frame is there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::opening::Opener;
use crate::asf::Outline;
use crate::server::sink::Sink;
use crate::server::upstream::UpstreamError;
use crate::session::mmsp::client::Event;
use crate::session::{Next, Opened};

/// A session at the first origin that is about to take over.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) opener: Box<Opener>,
    pub(super) opened: Arc<Opened>,
    held: Arc<Held>,
}

/// What it sent, from its first key frame on.
#[derive(Debug, Default)]
struct Held {
    items: Mutex<Vec<Next>>,
    /// Rung at the key frame.
    ready: Notify,
}

impl Candidate {
    /// Media of `opener`'s session are held here from now on.
    pub(super) fn new(mut opener: Box<Opener>, opened: Arc<Opened>) -> Self {
        let held = Arc::<Held>::default();
        if let Some(session) = opener.session() {
            session.upstream.feed(HeldSink(Arc::clone(&held)));
        }
        Self { opener, opened, held }
    }

    /// `Ok` when it can take over; what ends the session otherwise. Cancel-safe.
    pub(super) async fn ready(&mut self) -> Result<(), Option<UpstreamError>> {
        loop {
            tokio::select! {
                () = self.held.ready.notified() => return Ok(()),
                event = self.opener.next_event() => match event {
                    Ok(Event::Refused(_)) => return Err(None),
                    Ok(_) => {}
                    Err(error) => return Err(Some(error)),
                },
            }
        }
    }

    /// What it sent.
    pub(super) fn take(&self) -> Vec<Next> {
        std::mem::take(&mut *self.held.items.lock())
    }
}

/// Waits for a candidate, if there is one.
pub(super) async fn ready(candidate: &mut Option<Candidate>) -> Result<(), Option<UpstreamError>> {
    match candidate {
        Some(candidate) => Box::pin(candidate.ready()).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug)]
struct HeldSink(Arc<Held>);

impl Sink for HeldSink {
    fn push_all(&mut self, items: &mut Vec<Next>) {
        let mut held = self.0.items.lock();
        for item in items.drain(..) {
            // What comes before the key frame nobody could use: the other origin has sent it already.
            if !held.is_empty() || begins_key_frame(&item) {
                held.push(item);
            }
        }
        if !held.is_empty() {
            self.0.ready.notify_one();
        }
    }

    fn set_changing(&mut self, _is_changing: bool) {}

    /// It takes over at once, so nothing piles up.
    fn is_full(&self) -> bool {
        !self.0.items.lock().is_empty()
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn begins_key_frame(item: &Next) -> bool {
    let Next::Packet(packet) = item else { return false };
    packet.outline().is_some_and(|outline: &Outline| outline.key_frames().next().is_some())
}
