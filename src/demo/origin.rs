//! The embedded origin: answers viewers out of a library.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::library::{Content, Library};
use crate::content::Name;
use crate::server::source::{Link, Peer, Source};
use crate::session::{Open, Play, Playing, Reason, Refusal, Reply, Request};

/// Serves a library to viewers.
#[derive(Debug)]
pub struct OriginSource {
    library: Arc<Library>,
}

impl OriginSource {
    /// Serves what is in `library`.
    pub fn new(library: impl Into<Arc<Library>>) -> Self {
        Self { library: library.into() }
    }
}

impl Source for OriginSource {
    fn serve(self: Arc<Self>, peer: Peer, link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Conversation { library: Arc::clone(&self.library), content: None }.run(peer, link))
    }
}

/// One viewer and what it has open.
struct Conversation {
    library: Arc<Library>,
    content: Option<Content>,
}

impl Conversation {
    async fn run(mut self, peer: Peer, mut link: Link) {
        while let Some(request) = link.requests.recv().await {
            debug!(viewer = peer.id, ?request, "asked");
            if request == Request::Close {
                break;
            }
            let Some(reply) = self.reply(request).await else { continue };
            debug!(viewer = peer.id, ?reply, "answered");
            if link.replies.send(reply).await.is_err() {
                break;
            }
        }
    }

    async fn reply(&mut self, request: Request) -> Option<Reply> {
        match request {
            Request::Greet(_) => Some(Reply::Greeted { scheme: None }),
            Request::Open(open) => Some(self.open(open).await.unwrap_or_else(Reply::Refused)),
            Request::Play(play) => Some(self.play(play).await.map_or_else(Reply::Refused, Reply::Playing)),
            Request::Answer(_) => Some(Reply::Refused(Refusal::new(Reason::Invalid, "nobody asked for credentials"))),
            // The session filters streams and lets go of its cursor by itself.
            Request::Select(_) | Request::Stop | Request::Log(_) | Request::Close => None,
        }
    }

    async fn open(&mut self, open: Open) -> Result<Reply, Refusal> {
        self.content = None;
        let name = Name::parse(&open.name).map_err(|error| Refusal::new(Reason::InvalidName, error.to_string()))?;
        let library = Arc::clone(&self.library);
        let content = off_the_loop(move || library.find(&name)).await?;
        let opened = content.opened();
        self.content = Some(content);
        Ok(Reply::Opened(opened))
    }

    async fn play(&self, play: Play) -> Result<Playing, Refusal> {
        let content = self.content.clone();
        let content = content.ok_or_else(|| Refusal::new(Reason::Invalid, "nothing is open"))?;
        off_the_loop(move || content.play(&play, Instant::now())).await
    }
}

/// Opening and seeking read from a disk, which may be asleep.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let lost = |error| Refusal::new(Reason::Internal, format!("a read was given up: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::sync::Notify;

    use super::*;
    use crate::demo::storage::Storage;
    use crate::demo::testing::{clip_bytes, collect};
    use crate::server::mailbox::{Receiver, Sender, mailbox};
    use crate::session::{Caller, Pace, Position};

    struct Talk {
        requests: Sender<Request>,
        replies: Receiver<Reply>,
    }

    impl Talk {
        fn new() -> Self {
            let mut library = Library::new();
            library.add_file(&Name::parse("clip.asf").unwrap(), Storage::Memory(clip_bytes())).unwrap();
            library
                .add_broadcast(&Name::parse("live").unwrap(), Storage::Memory(clip_bytes()), Instant::now())
                .unwrap();
            let peer = Peer { id: 1, address: (Ipv4Addr::LOCALHOST, 1).into(), redirected_from: None };
            let (requests, request_receiver) = mailbox(8);
            let (reply_sender, replies) = mailbox(8);
            let link = Link { requests: request_receiver, replies: reply_sender, bell: Arc::new(Notify::new()) };
            tokio::spawn(Arc::new(OriginSource::new(library)).serve(peer, link));
            Self { requests, replies }
        }

        async fn ask(&mut self, request: Request) -> Reply {
            self.requests.send(request).await.unwrap();
            self.replies.recv().await.unwrap()
        }

        async fn open(&mut self, name: &str) -> Reply {
            self.ask(Request::Open(Open { name: name.into(), credentials: None })).await
        }
    }

    fn reason(reply: Reply) -> Reason {
        match reply {
            Reply::Refused(refusal) => refusal.reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_file_is_opened_and_played_to_its_end() {
        let mut talk = Talk::new();
        assert!(matches!(talk.ask(Request::Greet(Caller::default())).await, Reply::Greeted { scheme: None }));
        let Reply::Opened(opened) = talk.open("/clip.asf").await else { panic!("it is there") };
        let play = Request::Play(Play::from(Position::Default));
        let Reply::Playing(mut playing) = talk.ask(play).await else { panic!("it plays") };
        assert_eq!(collect(&mut *playing.cursor).len() as u64, opened.description.packet_count);
    }

    #[tokio::test]
    async fn what_needs_no_answer_gets_none() {
        let mut talk = Talk::new();
        talk.requests.send(Request::Select(vec![])).await.unwrap();
        talk.requests.send(Request::Stop).await.unwrap();
        assert!(matches!(talk.open("live").await, Reply::Opened(_)));
        let playing = talk.ask(Request::Play(Play::from(Position::Default))).await;
        assert!(matches!(playing, Reply::Playing(Playing { pace: Pace::Clock { .. }, .. })));
    }

    #[tokio::test]
    async fn refusals_say_why() {
        let mut talk = Talk::new();
        let play = Request::Play(Play::from(Position::Default));
        assert_eq!(reason(talk.open("nothing.asf").await), Reason::NotFound);
        assert_eq!(reason(talk.open("../clip.asf").await), Reason::InvalidName);
        assert_eq!(reason(talk.ask(play).await), Reason::Invalid);
    }

    #[tokio::test]
    async fn close_ends_the_conversation() {
        let mut talk = Talk::new();
        talk.requests.send(Request::Close).await.unwrap();
        assert!(talk.replies.recv().await.is_none());
    }
}
