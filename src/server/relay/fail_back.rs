//! Back to the first origin of a route, while another one serves the broadcast: a second session is opened there, and takes
//! over when its first key frame is there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::opening::Opener;
use crate::asf::Header;
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
#[derive(Debug)]
struct Held {
    header: Arc<Header>,
    items: Mutex<Vec<Next>>,
    /// Rung at the key frame.
    ready: Notify,
}

impl Candidate {
    /// Media of `opener`'s session are held here from now on.
    pub(super) fn new(mut opener: Box<Opener>, opened: Arc<Opened>) -> Self {
        let held = Arc::new(Held::new(&opened));
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

impl Held {
    fn new(opened: &Opened) -> Self {
        Self { header: Arc::clone(&opened.header), items: Mutex::default(), ready: Notify::new() }
    }

    /// Whether viewers can begin at `item`: at a key frame, or anywhere where no stream has any.
    fn is_beginning(&self, item: &Next) -> bool {
        let Next::Packet(packet) = item else { return false };
        let begins = || packet.outline().is_some_and(|outline| self.header.key_frames(outline).next().is_some());
        self.header.streams().iter().all(|stream| !stream.has_key_frames) || begins()
    }
}

#[derive(Debug)]
struct HeldSink(Arc<Held>);

impl Sink for HeldSink {
    fn push_all(&mut self, items: &mut Vec<Next>) {
        let mut held = self.0.items.lock();
        for item in items.drain(..) {
            // What comes before the key frame nobody could use: the other origin has sent it already.
            if !held.is_empty() || self.0.is_beginning(&item) {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::asf::testing::{Plan, PlannedPayload};
    use crate::asf::{HeaderBuilder, PacketNumber, StreamNumber, WaveFormat};
    use crate::session::{Description, Packet};

    /// Recorded: tests/vectors/asf/README.md. Stream 1 is video, 2 is audio.
    const TALK: &[u8] = include_bytes!("../../../tests/vectors/asf/talk-header.bin");

    /// A packet with an object of a stream that is marked as a key frame.
    fn marked(stream: u8) -> Next {
        let object = PlannedPayload {
            stream,
            key_frame: true,
            number: 0,
            offset: 0,
            replicated: 8,
            presentation_ms: 0,
            data: vec![1; 4],
        };
        let bytes = Bytes::from(Plan::usual(0, vec![object]).bytes());
        Packet::new(PacketNumber(0), 0, bytes.clone(), bytes).into()
    }

    fn sink(header: Header) -> HeldSink {
        let opened = Opened { description: Description::default(), header: Arc::new(header) };
        HeldSink(Arc::new(Held::new(&opened)))
    }

    #[test]
    fn a_marked_sound_is_no_key_frame_of_a_picture() {
        let mut sink = sink(Header::parse(TALK.into()).unwrap());
        sink.push_all(&mut vec![marked(2)]);
        assert!(!sink.is_full());
        sink.push_all(&mut vec![marked(1), marked(2)]);
        assert_eq!(sink.0.items.lock().len(), 2);
    }

    #[test]
    fn sound_alone_has_no_key_frame_to_wait_for() {
        let audio = HeaderBuilder::new(1400).audio(StreamNumber::new(2).unwrap(), &WaveFormat::pcm(1, 8000, 16));
        let mut sink = sink(audio.build().unwrap());
        sink.push_all(&mut vec![marked(2)]);
        assert!(sink.is_full());
    }
}
