//! Where a viewer's content comes from: the other end of the seam. The listener and the viewers are the same whether the
//! content is an origin's, behind the proxy, or our own files, in the embedded origin.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;

use super::mailbox::{Receiver, Sender, mailbox};
use crate::session::{Reply, Request};

/// Messages that may wait between a viewer and its source, each way. Both sides answer one another, so few ever do.
const QUEUE: usize = 64;

/// Content for viewers.
pub trait Source: Send + Sync + 'static {
    /// Serves one viewer until it is gone: `link.requests` then ends, or `Close` comes. Spawned as a task of its own.
    fn serve(self: Arc<Self>, peer: Peer, link: Link) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A connection, as the listener knows it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The viewer's number in logs and in the admin API.
    pub id: u64,
    /// Where the viewer is.
    pub address: SocketAddr,
    /// Where it wanted to go before a firewall sent it here.
    pub redirected_from: Option<SocketAddr>,
}

/// The source's end of a viewer.
#[derive(Debug)]
pub struct Link {
    /// What the viewer wants, in order. Ends when the viewer is gone.
    pub requests: Receiver<Request>,
    /// What it is told. Closed when the viewer is gone.
    pub replies: Sender<Reply>,
    /// Rung when media are there that should not wait for the viewer's next turn.
    pub bell: Arc<Notify>,
}

/// The viewer's end.
#[derive(Debug)]
pub(super) struct ViewerLink {
    pub(super) requests: Sender<Request>,
    pub(super) replies: Receiver<Reply>,
}

/// Both ends of a new link.
pub(super) fn link(bell: Arc<Notify>) -> (ViewerLink, Link) {
    let (request_sender, requests) = mailbox(QUEUE);
    let (replies, reply_receiver) = mailbox(QUEUE);
    (ViewerLink { requests: request_sender, replies: reply_receiver }, Link { requests, replies, bell })
}
