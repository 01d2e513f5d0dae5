//! The states of a server session and what each owns, `[MS-MMSP]` 3.2.1.

use super::content::Content;
use super::header::HeaderSend;
use super::media::Media;
use crate::session::AuthScheme;
use crate::wire::mmsp::ids::Incarnation;

/// Where a session stands (3.2.1; 4.2 draws it). The specification's INIT is several waits: each is a variant that owns
/// what is known by then, so a message out of turn finds no arm and no field is read too early.
#[derive(Debug)]
pub(super) enum State {
    AwaitConnect,
    Greeting,
    AwaitConnectFunnel,
    AwaitOpenFile,
    Opening { incarnation: u32 },
    AwaitSecurityResponse { incarnation: u32, cookie: u32, scheme: AuthScheme },
    AwaitReadBlock(Box<Content>),
    SendingHeader(Box<Content>, Box<HeaderSend>),
    Ready(Box<Content>),
    Starting(Box<Content>, Start),
    Streaming(Box<Content>, Box<Media>),
    Closed,
}

impl State {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AwaitConnect => "waiting for Connect",
            Self::Greeting => "reaching the origin",
            Self::AwaitConnectFunnel => "waiting for ConnectFunnel",
            Self::AwaitOpenFile => "waiting for OpenFile",
            Self::Opening { .. } => "opening",
            Self::AwaitSecurityResponse { .. } => "waiting for SecurityResponse",
            Self::AwaitReadBlock(_) => "waiting for ReadBlock",
            Self::SendingHeader(..) => "sending the header",
            Self::Ready(_) => "ready",
            Self::Starting(..) => "starting",
            Self::Streaming(..) => "streaming",
            Self::Closed => "closed",
        }
    }

    pub(super) fn content(&self) -> Option<&Content> {
        match self {
            Self::AwaitReadBlock(content)
            | Self::SendingHeader(content, _)
            | Self::Ready(content)
            | Self::Starting(content, _)
            | Self::Streaming(content, _) => Some(content),
            _ => None,
        }
    }

    /// Takes the content out; what else the state held ends here.
    pub(super) fn into_content(self) -> Option<Box<Content>> {
        match self {
            Self::AwaitReadBlock(content)
            | Self::SendingHeader(content, _)
            | Self::Ready(content)
            | Self::Starting(content, _)
            | Self::Streaming(content, _) => Some(content),
            _ => None,
        }
    }
}

/// A StartPlaying or StartStriding that the source has not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) play_incarnation: u32,
    pub(super) incarnation: Incarnation,
    /// StartStriding: the report is another.
    pub(super) striding: bool,
    pub(super) rate: f64,
}
