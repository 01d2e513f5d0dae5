//! `subscriberName` of Connect, [MS-MMSP] 2.2.4.17: who the client is, which server it wants, and which proxies stand between.
//!
//! Where the strings of the field end is for NULs to say and for nothing else: the field runs to the end of the message,
//! padding included, and what stands in padding may be anything.

use std::{fmt, iter};

use crate::wire::codec::put_utf16;

/// The field, taken apart. [`Display`](fmt::Display) writes the grammar, NULs included, and [`SubscriberName::parse`] reads it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SubscriberName {
    /// `client-token`, as `NSPlayer/7.0.0.1956; {GUID}`. The GUID is not looked at: VLC's is malformed.
    pub client_token: String,
    /// `host-info` of `host-param`: the server, as the player names it. The free players never give a port.
    pub host_param: Option<String>,
    /// `host-info` of `host-string`: the same, from WMP 9 on and from proxies.
    pub host_string: Option<String>,
    /// `via-info`: the proxies so far, each as `token` or `token/version`, the nearest last.
    pub via: Vec<String>,
}

impl SubscriberName {
    /// Reads the text of the field, which may be anything. What matches neither string after the first NUL is padding.
    pub fn parse(text: &str) -> Self {
        let mut elements = text.split('\0');
        let first = elements.next().unwrap_or_default();
        let (client_token, host_param) = split_at_host_param(first);
        let mut name =
            Self { client_token: client_token.to_owned(), host_param: non_empty(host_param), ..Self::default() };
        for element in elements {
            if let Some(host) = strip_prefix_any_case(element, "HOST:")
                && name.host_string.is_none()
            {
                name.host_string = non_empty(host);
            } else if let Some(via) = strip_prefix_any_case(element, "VIA:")
                && name.via.is_empty()
            {
                name.via = via.split(',').filter_map(non_empty).collect();
            } else {
                break;
            }
        }
        name
    }

    /// The bytes of the field: [`Display`](fmt::Display) in UTF-16LE.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_utf16(&mut out, &self.to_string());
        out
    }

    /// The name to forward, as 2.2.4.17 wants it from a proxy: the client's, with `host_info` wherever it names no server, and
    /// with `own_via` (`token/version`) behind the proxies so far.
    ///
    /// 2.2.4.17 wants `host-param` of a client that knows of its proxy; one that was intercepted and is as old as WMP 6 names
    /// no server at all, so the proxy does.
    #[must_use]
    pub fn forwarded(&self, host_info: &str, own_via: &str) -> Self {
        let host = |own: &Option<String>| own.clone().or_else(|| Some(host_info.to_owned()));
        Self {
            client_token: self.client_token.clone(),
            host_param: host(&self.host_param),
            host_string: host(&self.host_string),
            via: self.via.iter().cloned().chain(iter::once(own_via.to_owned())).collect(),
        }
    }

    /// The product, as `NSPlayer/7.0.0.1956`: what precedes the GUID.
    pub fn player_name(&self) -> &str {
        self.client_token.split(';').next().unwrap_or_default().trim()
    }

    /// The product's version, as (7, 0, 0, 1956); parts that are missing count as 0. `None` where no number follows a `/`.
    pub fn product_version(&self) -> Option<(u32, u32, u32, u32)> {
        let (_, version) = self.player_name().split_once('/')?;
        let mut parts = version.split('.').map_while(leading_number);
        let major = parts.next()?;
        let mut part = || parts.next().unwrap_or(0);
        Some((major, part(), part(), part()))
    }

    /// Whether the client is Windows Media Services 4 pulling from us: `Spoooon!` in the table of 2.2.4.17, with one `o` more in
    /// its grammar. It selects all streams without asking, and needs the padding of ASF data packets.
    pub fn is_wms4(&self) -> bool {
        let spoon = self.player_name().strip_prefix("Sp").and_then(|rest| rest.strip_suffix("n!"));
        spoon.is_some_and(|o| !o.is_empty() && o.bytes().all(|byte| byte == b'o'))
    }
}

impl fmt::Display for SubscriberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.client_token)?;
        if let Some(host) = &self.host_param {
            write!(f, "; Host: {host}")?;
        }
        f.write_str("\0")?;
        if let Some(host) = &self.host_string {
            write!(f, "HOST: {host}\0")?;
        }
        if !self.via.is_empty() {
            write!(f, "VIA: {}\0", self.via.join(", "))?;
        }
        Ok(())
    }
}

/// `client-token`, and the `host-info` of `host-param` or nothing.
fn split_at_host_param(first: &str) -> (&str, &str) {
    let start = "; host: ";
    let at = first.to_ascii_lowercase().find(start).unwrap_or(first.len());
    let (client_token, host_param) = first.split_at_checked(at).unwrap_or((first, ""));
    (client_token, host_param.get(start.len()..).unwrap_or_default())
}

fn strip_prefix_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn leading_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::mmsp::{
        ids::PacketPairMode,
        testing::hex,
        viewer_to_mac::{Connect, Message},
    };

    const GUID: &str = "{68c0a090-8797-11d2-a2b3-00a0c9b60551}";
    const SERVER: &str = "ms.example.net:1755";
    const OWN: &str = "mmsproxy/1.0";

    fn packet(subscriber_name: SubscriberName) -> Vec<u8> {
        let mut out = Vec::new();
        Message::from(Connect { play_incarnation: PacketPairMode::USE, subscriber_name }).encode(0, &mut out);
        out
    }

    /// Characters and bytes of the field; chunkLen, chunkCount, messageLength and bytes of the packet.
    fn sizes(name: &SubscriberName) -> [u32; 6] {
        let packet = packet(name.clone());
        let field = |offset: usize| u32::from_le_bytes(*packet[offset..].first_chunk().unwrap());
        let (chars, bytes) = (name.to_string().chars().count(), name.to_wire().len());
        [chars as u32, bytes as u32, field(32), field(16), field(8), packet.len() as u32]
    }

    #[test]
    fn a_proxy_rewrites_each_generation_of_clients() {
        // What comes from each, and what goes on; the sizes are worked out by hand.
        let wmp6 = format!("NSPlayer/4.1.0.3928; {GUID}\0");
        let wmp7 = format!("NSPlayer/7.1.0.3055; {GUID}; Host: {SERVER}\0");
        let wmp9 = format!("NSPlayer/9.0.0.2980; {GUID}; Host: {SERVER}\0HOST: {SERVER}\0");
        let proxied = format!("{wmp9}VIA: WMS/9.0\0");
        let tail = format!("; {GUID}; Host: {SERVER}\0HOST: {SERVER}\0VIA: ");
        let table = [
            (
                wmp6,
                [60, 120, 18, 20, 160, 176],
                format!("NSPlayer/4.1.0.3928{tail}mmsproxy/1.0\0"),
                [131, 262, 36, 38, 304, 320],
            ),
            (
                wmp7,
                [87, 174, 25, 27, 216, 232],
                format!("NSPlayer/7.1.0.3055{tail}mmsproxy/1.0\0"),
                [131, 262, 36, 38, 304, 320],
            ),
            (
                wmp9,
                [113, 226, 31, 33, 264, 280],
                format!("NSPlayer/9.0.0.2980{tail}mmsproxy/1.0\0"),
                [131, 262, 36, 38, 304, 320],
            ),
            (
                proxied,
                [126, 252, 34, 36, 288, 304],
                format!("NSPlayer/9.0.0.2980{tail}WMS/9.0, mmsproxy/1.0\0"),
                [140, 280, 38, 40, 320, 336],
            ),
        ];
        for (incoming, incoming_sizes, outgoing, outgoing_sizes) in table {
            let name = SubscriberName::parse(&incoming);
            assert_eq!(name.to_string(), incoming);
            assert_eq!(sizes(&name), incoming_sizes, "{incoming:?}");
            let forwarded = name.forwarded(SERVER, OWN);
            assert_eq!(forwarded.to_string(), outgoing);
            assert_eq!(sizes(&forwarded), outgoing_sizes, "{outgoing:?}");
            assert_eq!(SubscriberName::parse(&outgoing), forwarded);
        }
    }

    #[test]
    fn the_connect_of_wmp_6_byte_by_byte() {
        // Hand-written.
        let expected = hex("01000000 cefa0bb0 a0000000 4d4d5320 14000000 0000 0000 0000000000000000 \
             12000000 01000300 f0f0f0f0 0b000400 1c000300 \
             4e0053005000 6c0061007900 650072002f00 340 02e00 31002e0030002e00 3300390032003800 3b002000 \
             7b0036003800630030006100300039003000 2d0038003700390037002d00 31003100640032002d00 6100320062003300 2d00 \
             3000300061003000 6300390062003600 3000350035003100 7d00 0000 00000000");
        assert_eq!(packet(SubscriberName::parse(&format!("NSPlayer/4.1.0.3928; {GUID}"))), expected);
    }

    #[test]
    fn what_the_client_says_of_its_server_is_kept() {
        let name = SubscriberName::parse("NSPlayer/7.0.0.1956; {x}; Host: radio\0");
        let forwarded = name.forwarded("radio:1756", OWN);
        assert_eq!(forwarded.host_param.as_deref(), Some("radio"));
        assert_eq!(forwarded.host_string.as_deref(), Some("radio:1756"));
    }

    #[test]
    fn prefixes_are_read_in_any_case_and_without_a_last_nul() {
        let name = SubscriberName::parse("NSPlayer/9.0; {x}; HOST: a\0host: b:1755\0Via:a/1,b,, c/2 ");
        assert_eq!(name.host_param.as_deref(), Some("a"));
        assert_eq!(name.host_string.as_deref(), Some("b:1755"));
        assert_eq!(name.via, ["a/1", "b", "c/2"]);
    }

    #[test]
    fn padding_is_not_read() {
        // A probe built from a capture of WMP 9 ends in junk where zeros would do.
        let name = SubscriberName::parse("NSPlayer/9.0.0.2800; {x}; Host: a\0\u{3C}\u{FFFD}\0HOST: b\0");
        assert_eq!(name.host_string, None);
        let name = SubscriberName::parse("NSPlayer/9.0; {x}\0HOST: a\0HOST: b\0VIA: c\0");
        assert_eq!((name.host_string.as_deref(), name.via.len()), (Some("a"), 0));
    }

    #[test]
    fn a_version_may_be_short_or_absent() {
        let version = |token: &str| SubscriberName::parse(token).product_version();
        assert_eq!(version("NSPlayer/7.0.0.1956; {x}; Host: 127.0.0.1"), Some((7, 0, 0, 1956)));
        assert_eq!(version("NSPlayer/4.1"), Some((4, 1, 0, 0)));
        assert_eq!(version("NSPlayer/10.0.0.3646b; {x}"), Some((10, 0, 0, 3646)));
        assert_eq!(version("NSPlayer/; {x}"), None);
        assert_eq!(version("Spooooon!"), None);
        assert_eq!(version(""), None);
        assert_eq!(SubscriberName::parse("NSPlayer/7.0.0.1956; {x}").player_name(), "NSPlayer/7.0.0.1956");
    }

    #[test]
    fn wms_4_spells_itself_with_any_number_of_o() {
        let is_wms4 = |token: &str| SubscriberName::parse(token).is_wms4();
        assert!(is_wms4("Spoooon!\0"));
        assert!(is_wms4("Spooooon!; Host: a\0"));
        assert!(is_wms4("Spon!"));
        assert!(!is_wms4("Spn!"));
        assert!(!is_wms4("spoon!"));
        assert!(!is_wms4("NSPlayer/4.1"));
    }

    proptest! {
        #[test]
        fn any_text_parses_and_comes_back(text in "(?s).{0,60}") {
            let name = SubscriberName::parse(&text);
            prop_assert_eq!(SubscriberName::parse(&name.to_string()), name);
        }

        #[test]
        fn any_elements_parse_and_come_back(
            text in "(NSPlayer/9|Spoon!)?(; Host: |; HOST: )?[a :;]{0,3}\0(HOST: |VIA:|host:)?[a,: ]{0,4}\0?(VIA: )?[a,]{0,3}"
        ) {
            let name = SubscriberName::parse(&text);
            prop_assert_eq!(SubscriberName::parse(&name.to_string()), name);
        }
    }
}
