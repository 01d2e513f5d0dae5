//! What a session over UDP is told, and what it tells: `[MS-MMSP]` 2.2.4.18 and 2.2.5.

use std::net::IpAddr;
use std::time::Duration;

use crate::wire::mmsp::funnel_name::{FunnelName, Protocol};

/// How Data packets come over UDP.
#[derive(Clone, Debug)]
pub struct Udp {
    /// Our end of the TCP connection. It stands in funnelName alone: a server sends to where it sees us.
    pub address: IpAddr,
    /// Where our socket is bound.
    pub port: u16,
    /// Packets that are held while one before them is missing.
    pub window: usize,
    /// How long a missing packet is waited for; below the preroll, or players run dry meanwhile.
    pub deadline: Duration,
}

impl Udp {
    /// The default `window`: what comes in the default `deadline` at 5 Mbit/s and 1,000 bytes each.
    pub const WINDOW: usize = 1024;
    /// The default `deadline`: six requests over a way of 20 ms, four over one of 100 ms.
    pub const DEADLINE: Duration = Duration::from_millis(1500);

    /// A socket at `port`, with the defaults.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self { address, port, window: Self::WINDOW, deadline: Self::DEADLINE }
    }

    /// funnelName, 2.2.4.18.
    pub(super) fn funnel_name(&self) -> String {
        FunnelName { address: self.address.to_string(), protocol: Protocol::Udp, port: self.port }.to_string()
    }
}

/// Data packets that did not come by themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Those that never came.
    pub lost: u64,
    /// The most of them in a row.
    pub longest: u64,
    /// Those that were asked for again.
    pub asked: u64,
    /// Those that came after they were asked for.
    pub recovered: u64,
}

impl Losses {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost.saturating_add(other.lost),
            longest: self.longest.max(other.longest),
            asked: self.asked.saturating_add(other.asked),
            recovered: self.recovered.saturating_add(other.recovered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_funnel_is_named_by_our_end() {
        assert_eq!(Udp::new(IpAddr::from([192, 0, 2, 7]), 7001).funnel_name(), r"\\192.0.2.7\UDP\7001");
        assert_eq!(Udp::new("2001:db8::7".parse().unwrap(), 7001).funnel_name(), r"\\2001:db8::7\UDP\7001");
    }
}
