//! What is known of a player by the name it gives, and what that changes in how it is served.

use crate::session::Caller;
use crate::wire::mmsp::subscriber_name::SubscriberName;

/// The version that every free player gives: ffmpeg, VLC, MPlayer, xine and libmms say `NSPlayer/7.0.0.1956`.
const FREE_PLAYERS: (u32, u32, u32, u32) = (7, 0, 0, 1956);

/// A player, by its client-token.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Player {
    /// `None` where the token gives none, as WMS 4.x does as a client.
    version: Option<(u32, u32, u32, u32)>,
    is_wms4: bool,
}

impl Player {
    /// Reads the name.
    pub(super) fn new(name: &SubscriberName) -> Self {
        Self { version: name.product_version(), is_wms4: name.is_wms4() }
    }

    /// WMS 4.x pulling content: it never selects streams and wants them all, and padding must stay in, 2.2.4.17.
    pub(super) fn is_wms4(&self) -> bool {
        self.is_wms4
    }

    /// One of the players that are not Microsoft's.
    pub(super) fn is_free(&self) -> bool {
        self.version == Some(FREE_PLAYERS)
    }

    /// Whether it reports what it played. WMS 4.x and Windows Media Player 6 do not (notes 35 and 46), nor do the free.
    pub(super) fn sends_logs(&self) -> bool {
        !self.is_wms4 && !self.is_free() && self.major() >= 7
    }

    /// Whether it follows ReportRedirect: Microsoft's from version 7 on do (note 41).
    pub(super) fn follows_redirects(&self) -> bool {
        self.sends_logs()
    }

    fn major(&self) -> u32 {
        self.version.map_or(0, |version| version.0)
    }
}

/// Who calls, in words that every protocol knows.
pub(super) fn caller(name: &SubscriberName) -> Caller {
    Caller {
        user_agent: name.player_name().to_owned(),
        guid: guid(&name.client_token),
        // 7.1: `HOST:` is what a proxy on the way wrote, so it knows better than the player's own `; Host:`.
        host: name.host_string.clone().or_else(|| name.host_param.clone()),
        via: name.via.clone(),
        sends_logs: Player::new(name).sends_logs(),
    }
}

/// The client-guid of a client-token, where it is well-formed: VLC's is not.
fn guid(client_token: &str) -> Option<String> {
    let (_, rest) = client_token.split_once('{')?;
    let (guid, _) = rest.split_once('}')?;
    let groups: Vec<&str> = guid.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_hex = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (lengths == [8, 4, 4, 4, 12] && is_hex).then(|| guid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Player, Caller) {
        let name = SubscriberName::parse(text);
        (Player::new(&name), caller(&name))
    }

    #[test]
    fn vlc_is_free_and_its_guid_is_not_passed_on() {
        let (player, caller) =
            of("NSPlayer/7.0.0.1956; {0xbabac001-0x1b9c-0x0049-0x0285fc7a97b49fdf}; Host: 127.0.0.1\0");
        assert!(player.is_free() && !player.sends_logs() && !player.is_wms4());
        assert_eq!(caller.user_agent, "NSPlayer/7.0.0.1956");
        assert_eq!((caller.guid, caller.host.as_deref()), (None, Some("127.0.0.1")));
    }

    #[test]
    fn the_proxys_host_string_wins_over_the_players_host_param() {
        let (player, caller) = of(
            "NSPlayer/9.0.0.2980; {68c0a090-8797-11d2-a2b3-00a0c9b60551}; Host: a.example\0HOST: b.example:1755\0VIA: x/1, y/2\0",
        );
        assert!(player.sends_logs() && player.follows_redirects());
        assert_eq!(caller.guid.as_deref(), Some("68c0a090-8797-11d2-a2b3-00a0c9b60551"));
        assert_eq!(caller.host.as_deref(), Some("b.example:1755"));
        assert_eq!(caller.via, ["x/1", "y/2"]);
    }

    #[test]
    fn wms4_is_known_however_many_os_it_spells() {
        assert!(of("Spooooon!\0").0.is_wms4());
        assert!(of("Spoooon!\0").0.is_wms4());
        assert!(!of("NSPlayer/4.1.0.3928; {68c0a090-8797-11d2-a2b3-00a0c9b60551}\0").0.sends_logs());
    }
}
