//! Where the media of an origin session go: to one viewer, or to all who watch a broadcast.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::session::Next;

/// The end that an origin session fills.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Takes all of `items`, in their order.
    fn push_all(&mut self, items: &mut Vec<Next>);

    /// The header of the next entry is on its way, or is not any more.
    fn set_changing(&mut self, is_changing: bool);

    /// Whether the origin should wait.
    fn is_full(&self) -> bool;

    /// Returns once there is room.
    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
