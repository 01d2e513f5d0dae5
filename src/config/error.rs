//! What is wrong with a config, for whoever wrote it: where, which key, and what to write instead.
use std::fmt;
use std::path::PathBuf;

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None was named and none is where one is looked for.
    #[error(
        "no config file: neither ./proxy.yaml nor /etc/mmsproxy/proxy.yaml is there; name one (serve --config FILE, check FILE)"
    )]
    NotFound,
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// As named.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It was read and is wrong.
    #[error(transparent)]
    Invalid(#[from] Faults),
    /// A variable of ours that is not UTF-8.
    #[error("{variable}: the value is not UTF-8")]
    NotText {
        /// Its name.
        variable: String,
    },
    /// `admin.token_file` can't be read.
    #[error("admin.token_file: can't read {}: {source}", path.display())]
    Token {
        /// As configured.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// `admin.token_file` has no token.
    #[error("admin.token_file: {} is empty, want a token in it", path.display())]
    EmptyToken {
        /// As configured.
        path: PathBuf,
    },
    /// The system gives no random name.
    #[error("no random name to be had ({0}): set `name`")]
    NoRandomness(String),
    /// The settings can't be turned into a tree; no value that was read does that.
    #[error("the settings can't be written: {0}")]
    Unwritable(String),
}

/// All that is wrong at once, never empty. Several show as a line that counts them, then a line each.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub struct Faults {
    source_name: String,
    faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(source_name: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.place.order());
        Self { source_name: source_name.into(), faults }
    }

    /// In the order of the file, those of variables last.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [fault] = self.faults.as_slice() {
            return write!(f, "{fault}");
        }
        write!(f, "{}: {} faults", self.source_name, self.faults.len())?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

/// One of them: `file:line: key: reason`, or `VARIABLE: key: reason`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    place: Place,
    key: String,
    reason: String,
}

/// Where a setting comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// A file, and the line where one is known.
    File { source_name: String, line: Option<u64> },
    /// A variable of the environment.
    Variable(String),
}

impl Fault {
    pub(super) fn new(source_name: &str, line: Option<u64>, key: String, reason: String) -> Self {
        Self::at(Place::File { source_name: source_name.into(), line }, key, reason)
    }

    pub(super) fn at(place: Place, key: String, reason: String) -> Self {
        Self { place, key, reason }
    }

    /// The key with its section, `routes[0].origin`; empty where the text is no YAML.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl Place {
    fn order(&self) -> (bool, u64) {
        match self {
            Self::File { line, .. } => (false, line.unwrap_or(u64::MAX)),
            Self::Variable(_) => (true, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { source_name, line: Some(line) } => write!(f, "{source_name}:{line}"),
            Self::File { source_name, line: None } => f.write_str(source_name),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}
