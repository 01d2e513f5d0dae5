//! Who we say we are at an origin: the viewer, with ours in VIA and the origin's own name in both Host strings,
//! `[MS-MMSP]` 2.2.4.17.

use super::Rules;
use crate::content::{HostPort, Origin};
use crate::session::Caller;
use crate::session::mmsp::client::Settings as ClientSettings;
use crate::wire::mmsp::subscriber_name::SubscriberName;

/// What we call ourselves where no viewer's own name will do, unless the config says otherwise.
pub const OWN_IDENTITY: &str = "NSPlayer/9.0.0.2980";

/// A viewer, as its origin sessions tell of it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    caller: Caller,
    /// Ours, where the viewer's own is malformed; constant for its sessions.
    guid: String,
    /// It is no single viewer's.
    is_shared: bool,
}

impl Identity {
    pub(super) fn new(caller: Caller) -> Self {
        let guid = caller.guid.clone().unwrap_or_else(own_guid);
        Self { caller, guid, is_shared: false }
    }

    /// Ours, for sessions that viewers share; each with an identifier of its own.
    pub(super) fn shared() -> Self {
        Self { is_shared: true, ..Self::new(Caller::default()) }
    }

    /// Whether it is no single viewer's.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// How a session at `origin` goes.
    pub(super) fn client_settings(&self, rules: &Rules, origin: &Origin) -> ClientSettings {
        let settings = &rules.settings;
        let host = HostPort { host: origin.host.clone(), port: Some(origin.port) }.to_string();
        let mut via = self.caller.via.clone();
        via.push(rules.policy.own_via().to_owned());
        ClientSettings {
            name: SubscriberName {
                client_token: self.client_token(&settings.identity),
                host_param: Some(host.clone()),
                host_string: Some(host),
                via,
            },
            reply: settings.reply,
            stall: settings.stall,
            max_header: settings.max_header,
            player_reports: self.caller.sends_logs,
            relays_reports: self.is_shared && settings.split.forward_logs,
            udp: None,
        }
    }

    fn client_token(&self, configured: &str) -> String {
        let product = match self.caller.user_agent.as_str() {
            // WMS 4.x gives no identifier.
            agent if is_wms4(agent) => return agent.to_owned(),
            agent if is_product(agent) => agent,
            _ if configured.is_empty() => OWN_IDENTITY,
            _ => configured,
        };
        format!("{product}; {{{}}}", self.guid)
    }
}

/// `NSPlayer/` and a version: the only client-token that the grammar knows beside that of WMS 4.x.
fn is_product(agent: &str) -> bool {
    let version = agent.strip_prefix("NSPlayer/").unwrap_or_default();
    !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn is_wms4(agent: &str) -> bool {
    SubscriberName::parse(agent).is_wms4()
}

/// A client-guid of our own: random, in the form of 2.2.4.17 without the braces.
pub fn own_guid() -> String {
    let [a, b] = [getrandom::u64().unwrap_or_default(), getrandom::u64().unwrap_or_default()];
    let (a1, a2, a3) = (a >> 32, a >> 16 & 0xFFFF, a & 0xFFFF);
    let (b1, b2) = (b >> 48, b & 0xFFFF_FFFF_FFFF);
    format!("{a1:08X}-{a2:04X}-{a3:04X}-{b1:04X}-{b2:012X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "68c0a090-8797-11d2-a2b3-00a0c9b60551";

    fn token(user_agent: &str, guid: Option<&str>, configured: &str) -> String {
        let caller = Caller { user_agent: user_agent.into(), guid: guid.map(Into::into), ..Caller::default() };
        Identity::new(caller).client_token(configured)
    }

    #[test]
    fn a_viewer_keeps_its_name_where_an_origin_understands_it() {
        assert_eq!(token("NSPlayer/7.0.0.1956", Some(GUID), ""), format!("NSPlayer/7.0.0.1956; {{{GUID}}}"));
        assert_eq!(token("NSServer/9.0.0.1", Some(GUID), ""), format!("{OWN_IDENTITY}; {{{GUID}}}"));
        assert_eq!(token("Spooooon!", None, ""), "Spooooon!");
        assert_eq!(token("Spain!", Some(GUID), ""), format!("{OWN_IDENTITY}; {{{GUID}}}"));
        assert_eq!(token("NSPlayer/7.0", Some(GUID), "NSPlayer/11.0"), format!("NSPlayer/7.0; {{{GUID}}}"));
        assert_eq!(token("WebTV", Some(GUID), "NSPlayer/11.0"), format!("NSPlayer/11.0; {{{GUID}}}"));
    }

    #[test]
    fn a_malformed_guid_becomes_one_of_ours_in_the_right_form() {
        let token = token("NSPlayer/7.0.0.1956", None, "");
        let guid = token.strip_prefix("NSPlayer/7.0.0.1956; {").and_then(|rest| rest.strip_suffix('}')).unwrap();
        let lengths: Vec<_> = guid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(guid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
        let identity = Identity::new(Caller::default());
        assert_eq!(identity.client_token(""), identity.clone().client_token(""));
    }
}
