//! The states of a client session and what each owns, `[MS-MMSP]` 3.1.1.

use super::playing::Started;
use super::reading::Reading;
use crate::session::{End, Open};
use crate::wire::mmsp::mac_to_viewer as inbound;

/// Where a session stands, 3.1.1.
#[derive(Debug)]
pub(super) enum State {
    AwaitConnected,
    /// Connected, and nobody has asked for content yet.
    Greeted,
    AwaitFunnelInfo(Open),
    AwaitFunnel(Open),
    /// OpenFile or SecurityResponse is out.
    AwaitOpenFile,
    /// The challenge is above.
    Challenged {
        play_incarnation: u32,
        cookie: u32,
    },
    AwaitHeader {
        opened: inbound::ReportOpenFile,
        reading: Reading,
    },
    Ready,
    Starting(Started),
    Streaming(Started),
    /// EndOfStream came, and whether that was the end is not known yet.
    BetweenEntries {
        play: Started,
        promised: bool,
    },
    /// StreamChange came: the header of the next entry.
    NextHeader {
        play: Started,
        reading: Reading,
    },
    /// The play is over; its last datagrams may still be on their way.
    Settling {
        play: Started,
        end: End,
    },
    /// StopPlaying is out.
    Stopping(Started),
    Closed,
}

impl State {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AwaitConnected => "connecting",
            Self::Greeted => "waiting for a request",
            Self::AwaitFunnelInfo(_) => "asking for FunnelInfo",
            Self::AwaitFunnel(_) => "connecting the funnel",
            Self::AwaitOpenFile => "opening",
            Self::Challenged { .. } => "waiting for credentials",
            Self::AwaitHeader { .. } => "reading the header",
            Self::Ready => "ready",
            Self::Starting(_) => "starting",
            Self::Streaming(_) => "streaming",
            Self::BetweenEntries { .. } => "waiting for the next entry",
            Self::NextHeader { .. } => "reading the header of the next entry",
            Self::Settling { .. } => "waiting for the last datagrams",
            Self::Stopping(_) => "stopping",
            Self::Closed => "closed",
        }
    }

    /// The play whose media go up.
    pub(super) fn play_mut(&mut self) -> Option<&mut Started> {
        match self {
            Self::Streaming(play)
            | Self::BetweenEntries { play, .. }
            | Self::NextHeader { play, .. }
            | Self::Settling { play, .. } => Some(play),
            _ => None,
        }
    }
}
