//! What ends a client session, and what the viewer is told of it.

use crate::asf::HeaderError;
use crate::session::{End, Reason, Refusal};
use crate::wire::codec::DecodeError;
use crate::wire::mmsp::ids::HResult;

/// What ends a client session.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// Bytes that are no message.
    #[error("the origin sent a malformed message: {0}")]
    Decode(#[from] DecodeError),
    /// A header that can't be understood.
    #[error("the origin's ASF header is broken: {0}")]
    Header(#[from] HeaderError),
    /// A header without an end.
    #[error("the origin's ASF header is larger than {limit} bytes")]
    HeaderTooLarge {
        /// The bound.
        limit: usize,
    },
    /// Nothing comes.
    #[error("the origin did not answer in time while {0}")]
    NoReply(&'static str),
    /// Nothing comes over UDP, though the origin agreed to it: firewalls let TCP pass. Another session over TCP may do.
    #[error("the origin's Data packets do not arrive over UDP")]
    NoDatagrams,
    /// It refused to go on with the session.
    #[error("the origin refused {what}: {hr}")]
    Refused {
        /// The message.
        what: &'static str,
        /// Its code.
        hr: HResult,
    },
    /// A data packet larger than the header allows.
    #[error("the origin sent a data packet of {size} bytes, more than its header's {limit}")]
    OversizedPacket {
        /// Bytes that came.
        size: usize,
        /// The packet size of the header.
        limit: usize,
    },
}

impl ClientError {
    /// What the viewer and the metrics are told.
    pub fn refusal(&self) -> Refusal {
        let reason = match self {
            Self::Decode(_) | Self::OversizedPacket { .. } => Reason::Protocol,
            Self::Header(_) | Self::HeaderTooLarge { .. } => Reason::BadContent,
            Self::NoReply(_) | Self::NoDatagrams => Reason::Timeout,
            Self::Refused { what: "OpenFile", hr: HResult::NS_E_FILE_NOT_FOUND } => Reason::NotFound,
            Self::Refused { what: "OpenFile", hr: HResult::E_ACCESSDENIED } => Reason::Forbidden,
            Self::Refused { .. } => Reason::Origin,
        };
        let origin_code = if let Self::Refused { hr, .. } = self { Some(hr.0) } else { None };
        Refusal { reason, origin_code, detail: self.to_string() }
    }
}

pub(super) fn accepted(what: &'static str, hr: HResult) -> Result<(), ClientError> {
    if hr.is_failure() { Err(ClientError::Refused { what, hr }) } else { Ok(()) }
}

pub(super) fn ending(hr: HResult) -> End {
    match accepted("to go on", hr) {
        Ok(()) => End::Complete,
        Err(error) => End::Failed(error.refusal()),
    }
}
