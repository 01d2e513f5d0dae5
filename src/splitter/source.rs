//! What whoever drives the source of a stream says of it, for operators to see. Nothing in this room goes by it.

use std::time::SystemTime;

/// Where the media of a stream come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceFacts {
    /// When it was first asked for; `None` before anybody drives it.
    pub since: Option<SystemTime>,
    /// Host and port of the origin that serves it now; `None` where none does.
    pub origin: Option<(String, u16)>,
    /// It was lost, and is looked for.
    pub is_lost: bool,
    /// How often it was lost and came back.
    pub reconnects: u64,
}
