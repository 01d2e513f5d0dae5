//! Data over UDP, `[MS-MMSP]` 2.1: the sockets beside the listening ones, who is sent to where, and datagrams out.

mod funnels;
mod port;
mod send;

pub(super) use self::funnels::{Claim, Funnels};
pub use self::port::Port;
pub(super) use self::send::{Target, send};
