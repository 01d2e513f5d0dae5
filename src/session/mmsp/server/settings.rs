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
    /// Data over UDP; `None` where there is no socket for it, and players are told to take TCP.
    pub udp: Option<Udp>,
    /// Packet-pair is served to players that ask for it.
    pub packet_pair: bool,
    /// Fills with random bytes: what a packet pair carries must not be compressible.
    pub random: fn(&mut [u8]),
}

/// How Data packets go over UDP.
#[derive(Clone, Debug)]
pub struct Udp {
    /// How long a packet can be asked for again.
    pub resend_window: Duration,
    /// What may be sent again, in percent of the content's bit rate; more than 100 is 100.
    pub resend_budget: u32,
    /// From one turn of a viewer to its next: what leaves at once is what that time carries.
    pub flush: Duration,
    /// What that grows to under load: a turn that comes late may send as much more.
    pub flush_max: Duration,
    /// Bytes that leave at once at most.
    pub max_burst: usize,
    /// A viewer that answers no Ping for so long is gone; a Ping goes out after each quarter of it.
    pub silence: Duration,
}

impl Default for Udp {
    fn default() -> Self {
        Self {
            resend_window: Duration::from_secs(5),
            resend_budget: 25,
            flush: Duration::from_millis(100),
            flush_max: Duration::from_millis(100),
            max_burst: 64 * 1024,
            silence: Duration::from_secs(120),
        }
    }
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
            udp: None,
            packet_pair: false,
            random: |_| {},
        }
    }
}

impl Settings {
    /// How long it may be quiet before a Ping.
    pub(super) fn keep_alive(&self, is_udp: bool) -> Duration {
        match &self.udp {
            Some(udp) if is_udp => self.keep_alive.min(udp.silence / 4),
            _ => self.keep_alive,
        }
    }

    pub(super) fn version_major(&self) -> u32 {
        self.server_version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}
