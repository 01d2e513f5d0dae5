//! How a viewer's session ends: what the player is told, what the operator reads, and what is counted.

use std::io;
use std::time::Duration;

use crate::session::Reason;
use crate::session::mmsp::server::{Closing, SessionError};
use crate::wire::codec::DecodeError;

/// What ends a viewer's session.
#[derive(Debug, thiserror::Error)]
pub enum ViewerError {
    /// It said what it may not say.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The connection broke.
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    /// It closed the connection.
    #[error("the player closed the connection")]
    Closed,
    /// It asks for a page.
    #[error("an HTTP request on the MMS port")]
    Http,
    /// It reads nothing any more.
    #[error("nothing was read for {0:?}")]
    Stalled(Duration),
    /// The source is gone; a fault of ours.
    #[error("the source of the content is gone")]
    SourceGone,
}

impl ViewerError {
    /// What a player that still listens is told.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Session(_) | Self::Http => Reason::Invalid,
            Self::Lost(_) | Self::Closed => Reason::Lost,
            Self::Stalled(_) => Reason::Timeout,
            Self::SourceGone => Reason::Internal,
        }
    }
}

impl From<DecodeError> for ViewerError {
    fn from(error: DecodeError) -> Self {
        Self::Session(error.into())
    }
}

/// The labels of `mmsproxy_viewer_sessions_total` and, where something was refused, of `mmsproxy_refused_total`.
pub(super) fn labels(result: &Result<Closing, ViewerError>) -> (&'static str, Option<&'static str>) {
    match result {
        Ok(Closing::Finished | Closing::Idle | Closing::BroadcastEnded) | Err(ViewerError::Closed) => ("ended", None),
        // MPlayer leaves by cutting its connection.
        Err(ViewerError::Lost(error))
            if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) =>
        {
            ("ended", None)
        }
        Ok(Closing::Redirected(_)) => ("redirected", None),
        Ok(Closing::Handshake(_) | Closing::Login | Closing::Silent) => ("failed", Some("timeout")),
        Ok(Closing::Refused(refusal)) if refusal.reason == Reason::Kicked => ("kicked", None),
        Ok(Closing::Refused(refusal)) if refusal.reason == Reason::TooSlow => ("too_slow", None),
        Ok(Closing::Refused(refusal)) => ("refused", Some(refusal.reason.label())),
        Err(ViewerError::Session(_)) => ("failed", Some("malformed")),
        Err(ViewerError::Http) => ("refused", Some("http")),
        Err(ViewerError::Stalled(_)) => ("failed", Some("timeout")),
        Err(ViewerError::Lost(_) | ViewerError::SourceGone) => ("failed", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Refusal;

    fn refused(reason: Reason) -> Result<Closing, ViewerError> {
        Ok(Closing::Refused(Refusal::new(reason, "why")))
    }

    #[test]
    fn each_end_is_counted_as_what_it_is() {
        for (result, expected) in [
            (Ok(Closing::Finished), ("ended", None)),
            (Err(ViewerError::Closed), ("ended", None)),
            (Err(ViewerError::Lost(io::ErrorKind::ConnectionReset.into())), ("ended", None)),
            (Err(ViewerError::Lost(io::ErrorKind::TimedOut.into())), ("failed", None)),
            (Ok(Closing::Redirected("mms://there".into())), ("redirected", None)),
            (Ok(Closing::Handshake("greeting")), ("failed", Some("timeout"))),
            (refused(Reason::Kicked), ("kicked", None)),
            (refused(Reason::TooSlow), ("too_slow", None)),
            (refused(Reason::Busy), ("refused", Some("limit"))),
            (refused(Reason::Loop), ("refused", Some("loop"))),
            (refused(Reason::Denied), ("refused", Some("policy"))),
            (Err(ViewerError::Http), ("refused", Some("http"))),
            (Err(ViewerError::Session(SessionError::Backlog)), ("failed", Some("malformed"))),
            (Err(ViewerError::Stalled(Duration::from_secs(1))), ("failed", Some("timeout"))),
            (Err(ViewerError::SourceGone), ("failed", None)),
        ] {
            assert_eq!(labels(&result), expected, "{result:?}");
        }
    }
}
