//! Data over UDP, `[MS-MMSP]` 2.1: the sockets beside the listening ones, who is sent to where, datagrams out, and those of
//! an origin in.

mod funnels;
mod port;
mod receive;
mod send;

pub(super) use self::funnels::{Claim, Funnels};
pub use self::port::Port;
pub(super) use self::receive::Receiver;
pub(super) use self::send::{Parcel, Sent, Target, send, send_parcels};
