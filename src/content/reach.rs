//! Where an address reaches: into this machine or its network, where a name from outside has no business, or out into
//! the world. Follows the registries of RFC 6890.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of inner address this is; `None` for one that anyone may reach. An IPv4 address mapped into IPv6 must have
/// been turned back into itself.
pub(super) fn inner_kind(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => inner_kind_v4(ip),
        IpAddr::V6(ip) => inner_kind_v6(ip),
    }
}

fn inner_kind_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [first, second, ..] = ip.octets();
    Some(match () {
        // All of 0.0.0.0/8 is "this host", 100.64.0.0/10 the inside of a carrier's network.
        () if first == 0 => "unspecified",
        () if ip.is_loopback() => "loopback",
        () if ip.is_private() || (first == 100 && second & 0xC0 == 64) => "private",
        () if ip.is_link_local() => "link-local",
        () if ip.is_multicast() || ip.is_broadcast() => "multicast",
        () => return None,
    })
}

fn inner_kind_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    Some(match () {
        () if ip.is_unspecified() => "unspecified",
        () if ip.is_loopback() => "loopback",
        // fec0::/10 was site-local.
        () if ip.is_unique_local() || a & 0xFFC0 == 0xFEC0 => "private",
        () if ip.is_unicast_link_local() => "link-local",
        () if ip.is_multicast() => "multicast",
        // An IPv4 address behind a translator (RFC 6052), or in the old compatible form, is judged as itself.
        () if [a, b, c, d, e, f] == [0x64, 0xFF9B, 0, 0, 0, 0] || [a, b, c, d, e, f] == [0; 6] => {
            return inner_kind_v4(Ipv4Addr::from((u32::from(g) << 16) | u32::from(h)));
        }
        () => return None,
    })
}
