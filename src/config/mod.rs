//! proxy.yaml as a whole: read, laid over with the environment, checked, printed.
//!
//! File and environment take one way: each is a tree of settings that is laid over the defaults, setting by setting, so
//! that every fault is found in one run and names the line or the variable it comes from.
//!
//! - [`sections`]: the structs; [`units`]: what `10s` and `20GiB` are
//! - `tree`: YAML with its line numbers; `lay`: settings over defaults; `check`: what each value alone can't tell
//! - `print`: the effective config as YAML
mod check;
mod error;
mod lay;
mod nearest;
mod print;
pub mod sections;
mod tree;
pub mod units;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::content::{Policy, Rules};
pub use error::{ConfigError, Fault, Faults};
pub use sections::{
    AccessLog, AccessLogFormat, Admin, Cache, Forward, Limits, Listen, Origin, Redirects, Route, Split, Transport, Udp,
};
pub use units::{BitsPerSecond, ByteSize, FastStart, FinishFill, Percent, StaleIfError};

/// Every key of proxy.yaml.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Ours in VIA; empty is a random one per start, see [`Config::own_name`].
    pub name: String,
    /// Where players and operators find us.
    pub listen: Listen,
    /// Who may use the admin endpoint.
    pub admin: Admin,
    /// Reverse proxy: the first match wins.
    pub routes: Vec<Route>,
    /// Forward proxy, for hosts that no route matched.
    pub forward: Forward,
    /// `ServerVersionInfo` told to players ([MS-MMSP] 2.2.4.2).
    pub server_version: String,
    /// Are players that ask for a bandwidth measurement answered?
    pub packet_pair: bool,
    /// Is the original destination of a redirected connection the host?
    pub transparent: bool,
    /// Toward origins.
    pub origin: Origin,
    /// Split streams.
    pub split: Split,
    /// On-demand content on disk.
    pub cache: Cache,
    /// Data over UDP.
    pub udp: Udp,
    /// Bounds.
    pub limits: Limits,
    /// How long SIGTERM lets viewers go on.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// A line for each session.
    pub access_log: AccessLog,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: Listen::default(),
            admin: Admin::default(),
            routes: Vec::new(),
            forward: Forward::default(),
            server_version: "4.1.0.3930".into(),
            packet_pair: true,
            transparent: false,
            origin: Origin::default(),
            split: Split::default(),
            cache: Cache::default(),
            udp: Udp::default(),
            limits: Limits::default(),
            drain: Duration::from_secs(30),
            access_log: AccessLog::default(),
        }
    }
}

/// Where a config is looked for when none is named.
const DEFAULT_FILES: [&str; 2] = ["proxy.yaml", "/etc/mmsproxy/proxy.yaml"];

impl Config {
    /// The file named, else the first of `./proxy.yaml` and `/etc/mmsproxy/proxy.yaml` that is there.
    pub fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
        match named {
            Some(path) => Ok(path.into()),
            None => DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or(ConfigError::NotFound),
        }
    }

    /// Reads a file and the process's environment (`MMSPROXY__SECTION__KEY`).
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, &environment()?)
    }

    /// Reads a file and these variables; those without the prefix `MMSPROXY__` are not ours.
    pub fn load_with(path: &Path, variables: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.into(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::read(&text, &path.display().to_string(), variables)
    }

    /// Reads a text alone; `source_name` stands in errors.
    pub fn parse(text: &str, source_name: &str) -> Result<Self, ConfigError> {
        Self::read(text, source_name, &BTreeMap::new())
    }

    fn read(text: &str, source_name: &str, variables: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut settings = lay::Settings::new(source_name)?;
        settings.lay_file(text);
        for (variable, value) in variables {
            settings.lay_variable(variable, value);
        }
        settings.finish()
    }

    /// The config as YAML, every key, that reads as this config again.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        Ok(print::yaml(&lay::tree_of(self)?))
    }

    /// Our name in VIA: the configured one, else a random one, to be kept until the process ends.
    pub fn own_name(&self) -> Result<String, ConfigError> {
        if !self.name.is_empty() {
            return Ok(self.name.clone());
        }
        getrandom::u32().map(|random| format!("{random:08x}")).map_err(|e| ConfigError::NoRandomness(e.to_string()))
    }

    /// The policy of routes and `forward.allow`. `listeners` are the addresses bound, the admin endpoint's too;
    /// `is_local` tells whether an address is one of this machine's.
    pub fn policy(
        &self,
        own_name: String,
        listeners: Vec<SocketAddr>,
        is_local: fn(IpAddr) -> bool,
    ) -> Result<Policy, ConfigError> {
        let (routes, allow) = check::routes_and_allow(self).map_err(|faults| {
            let of_no_file = |(key, reason)| Fault::new("config", None, key, reason);
            ConfigError::Invalid(Faults::new("config", faults.into_iter().map(of_no_file).collect()))
        })?;
        Ok(Policy::new(Rules { routes, allow, own_name, listeners, is_local }))
    }

    /// The bearer token of the admin endpoint, `None` where none is asked for.
    pub fn admin_token(&self) -> Result<Option<String>, ConfigError> {
        let path = &self.admin.token_file;
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Token { path: path.clone(), source })?;
        match text.trim() {
            "" => Err(ConfigError::EmptyToken { path: path.clone() }),
            token => Ok(Some(token.into())),
        }
    }
}

/// Prefix of the variables that are ours.
const PREFIX: &str = "MMSPROXY__";

fn environment() -> Result<BTreeMap<String, String>, ConfigError> {
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(PREFIX));
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.to_string_lossy().into_owned();
        value.into_string().map(|value| (name.clone(), value)).map_err(|_| ConfigError::NotText { variable: name })
    };
    ours.map(text).collect()
}

#[cfg(test)]
mod tests;
