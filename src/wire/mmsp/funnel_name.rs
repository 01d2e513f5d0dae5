//! `funnelName` of ConnectFunnel, [MS-MMSP] 2.2.4.18: `\\address\protocol\port`, where the client wants its Data packets.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The field, taken apart; [`Display`](fmt::Display) writes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FunnelName {
    /// Where the client believes it is. Never where Data packets go: that is the address it reached us from.
    pub address: String,
    /// The way of the Data packets.
    pub protocol: Protocol,
    /// 1 to 65535 for UDP. Means nothing for TCP, where the free players make it up, and may be 0 there.
    pub port: u16,
}

/// `proto` of a funnel name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Over the connection the message came on.
    Tcp,
    /// To the port the name gives.
    Udp,
    /// Something else, as WebTV's `CUBDD`: the answer is ReportDisconnectedFunnel.
    Other(String),
}

/// Why a funnel name names no funnel.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FunnelNameError {
    /// Not of three parts.
    #[error(r"funnelName is {0:?}, want \\address\protocol\port ([MS-MMSP] 2.2.4.18)")]
    Syntax(String),
    /// A port for UDP that can't be one.
    #[error("port of funnelName is {0:?}, want 1 to 65535 ([MS-MMSP] 2.2.4.18)")]
    Port(String),
}

impl FunnelName {
    /// Reads what ConnectFunnel carries.
    pub fn parse(name: &str) -> Result<Self, FunnelNameError> {
        let syntax = || FunnelNameError::Syntax(name.to_owned());
        // The last part as a whole: WebTV names several ports.
        let mut parts = name.strip_prefix(r"\\").ok_or_else(syntax)?.splitn(3, '\\');
        let (Some(address), Some(protocol), Some(port)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(syntax());
        };
        let protocol = Protocol::parse(protocol);
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            _ if protocol == Protocol::Udp => return Err(FunnelNameError::Port(port.to_owned())),
            _ => 0,
        };
        Ok(Self { address: address.to_owned(), protocol, port })
    }
}

impl Protocol {
    fn parse(token: &str) -> Self {
        match token {
            _ if token.eq_ignore_ascii_case("TCP") => Self::Tcp,
            _ if token.eq_ignore_ascii_case("UDP") => Self::Udp,
            _ => Self::Other(token.to_owned()),
        }
    }
}

impl FromStr for FunnelName {
    type Err = FunnelNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl fmt::Display for FunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r"\\{}\{}\{}", self.address, self.protocol, self.port)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Other(token) => token,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn funnel(address: &str, protocol: Protocol, port: u16) -> Result<FunnelName, FunnelNameError> {
        Ok(FunnelName { address: address.into(), protocol, port })
    }

    #[test]
    fn a_name_is_address_protocol_and_port() {
        // What VLC sends for UDP.
        let name = r"\\127.0.0.1\UDP\7000";
        assert_eq!(FunnelName::parse(name), funnel("127.0.0.1", Protocol::Udp, 7000));
        assert_eq!(FunnelName::parse(name).unwrap().to_string(), name);
        assert_eq!(r"\\2001:db8::7\udp\65535".parse(), funnel("2001:db8::7", Protocol::Udp, 65535));
    }

    #[test]
    fn for_tcp_neither_address_nor_port_is_judged() {
        assert_eq!(FunnelName::parse(r"\\192.168.0.1\TCP\1037"), funnel("192.168.0.1", Protocol::Tcp, 1037));
        assert_eq!(FunnelName::parse(r"\\\tcp\"), funnel("", Protocol::Tcp, 0));
        assert_eq!(FunnelName::parse(r"\\x\TCP\99999"), funnel("x", Protocol::Tcp, 0));
    }

    #[test]
    fn a_port_that_udp_cannot_have_is_refused() {
        let refusal = |name| FunnelName::parse(name).unwrap_err().to_string();
        assert_eq!(refusal(r"\\127.0.0.1\UDP\0"), r#"port of funnelName is "0", want 1 to 65535 ([MS-MMSP] 2.2.4.18)"#);
        assert_eq!(
            refusal(r"\\127.0.0.1\UDP\65536"),
            r#"port of funnelName is "65536", want 1 to 65535 ([MS-MMSP] 2.2.4.18)"#
        );
    }

    #[test]
    fn another_protocol_is_named() {
        let webtv = FunnelName::parse(r"\\10.0.0.7\CUBDD\1100\1200");
        assert_eq!(webtv, funnel("10.0.0.7", Protocol::Other("CUBDD".into()), 0));
    }

    #[test]
    fn a_name_without_three_parts_is_refused() {
        for name in ["", r"\\", r"\\127.0.0.1\UDP", r"127.0.0.1\UDP\7000"] {
            assert_eq!(FunnelName::parse(name), Err(FunnelNameError::Syntax(name.into())));
        }
        assert_eq!(
            FunnelName::parse("UDP").unwrap_err().to_string(),
            r#"funnelName is "UDP", want \\address\protocol\port ([MS-MMSP] 2.2.4.18)"#
        );
    }

    proptest! {
        #[test]
        fn any_name_parses_or_errs_and_comes_back(name in r"(\\\\)?[a\\]{0,3}\\(TCP|udp|x)?\\[0-9]{0,6}") {
            if let Ok(funnel) = FunnelName::parse(&name) {
                prop_assert_eq!(FunnelName::parse(&funnel.to_string()), Ok(funnel));
            }
        }
    }
}
