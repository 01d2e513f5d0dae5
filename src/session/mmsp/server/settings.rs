//! What of the config changes how a server session behaves.

use std::time::Duration;

/// How a server session behaves; all of it comes from the config.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `ServerVersionInfo` told to players.
    pub server_version: String,
    /// Time that a viewer may let pass before it has the header, in all.
    pub handshake: Duration,
    /// Time for a login prompt.
    pub login: Duration,
    /// Time without a play, 8.1 Idle-Timeout.
    pub idle: Duration,
    /// Silence after which a Ping goes out, 8.1 KeepAlive.
    pub keep_alive: Duration,
    /// How long a joining viewer waits for a key frame.
    pub key_wait: Duration,
    /// How long media of a new playlist entry waits for the player's StartPlaying.
    pub entry_wait: Duration,
    /// How long a connection stays after a broadcast ended for players that are told 0 between entries too.
    pub end_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_version: "4.1.0.3930".to_owned(),
            handshake: Duration::from_secs(10),
            login: Duration::from_secs(120),
            idle: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(30),
            key_wait: Duration::from_secs(10),
            entry_wait: Duration::from_secs(5),
            end_wait: Duration::from_secs(30),
        }
    }
}

impl Settings {
    pub(super) fn version_major(&self) -> u32 {
        self.server_version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}
