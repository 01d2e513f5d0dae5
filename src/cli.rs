//! The command line: what each command takes, and `check`, which needs nothing else.
//!
//! Exit codes are the same for all: 0 done, 1 failed, 2 wrong usage or config.

mod cache;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::units::parse_duration;
use crate::config::{Config, ConfigError};
use crate::content::{HostPort, MmsUrl, Name};

pub use self::cache::{
    AdminArgs, AdminUrl, CacheArgs, CacheCommand, ExportArgs, LsArgs, PlaceArgs, PrefetchArgs, PurgeArgs, ShowArgs,
    VerifyArgs,
};

/// A caching and splitting proxy for Microsoft Media Server streaming (MMS, port 1755).
#[derive(Debug, Parser)]
#[command(name = "mmsproxy", version, arg_required_else_help = true, after_help = ENVIRONMENT)]
pub struct Cli {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const ENVIRONMENT: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage or config.
RUST_LOG says how much is logged: info (the default), debug, mmsproxy=trace.";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line, for machines.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy.
    #[command(after_long_help = "Example:\n  mmsproxy serve --config /etc/mmsproxy/proxy.yaml\n\n\
        SIGTERM lets viewers go on for a while (drain), a second one ends at once; SIGHUP reads the config again.")]
    Serve(ServeArgs),
    /// Show the proxy at work: an embedded origin with generated content, and the proxy in front of it, on loopback.
    #[command(after_long_help = "Example:\n  mmsproxy demo --for 20s\n\n\
        Prints the URLs to play and to open. Ends by Ctrl-C.")]
    Demo(DemoArgs),
    /// Validate a config.
    #[command(after_long_help = "Examples:\n  mmsproxy check\n  mmsproxy check staging.yaml --print")]
    Check(CheckArgs),
    /// Run the embedded origin alone.
    #[command(
        after_long_help = "Example:\n  mmsproxy origin --root /srv/media --broadcast live=/srv/media/loop.asf\n\n\
        Every .asf, .wmv and .wma below the directory is on-demand content under its path."
    )]
    Origin(OriginArgs),
    /// Ask an origin what it offers: version, header, streams, seeking, authentication.
    #[command(after_long_help = "Examples:\n  mmsproxy probe mms://media.example.net/talk.wmv\n  \
        mmsproxy probe mms://media.example.net/talk.wmv --via 127.0.0.1:1755")]
    Probe(ProbeArgs),
    /// Play a content at full fidelity into a valid, seekable .asf file.
    #[command(after_long_help = "Examples:\n  mmsproxy record mms://media.example.net/talk.wmv -o talk.wmv\n  \
        mmsproxy record mms://media.example.net/live -o live.asf --for 10m")]
    Record(RecordArgs),
    /// See, check, fill and empty the cache, of a running proxy or of a directory.
    #[command(after_long_help = "Examples:\n  mmsproxy cache ls\n  \
        mmsproxy cache prefetch mms://media.example.net/talk.wmv\n  \
        mmsproxy cache verify --dir /var/cache/mmsproxy")]
    Cache(CacheArgs),
}

/// `serve`
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The config file [default: ./proxy.yaml, then /etc/mmsproxy/proxy.yaml].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `demo`
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Where the proxy listens for players [default: a free port of 127.0.0.1].
    #[arg(long, value_name = "ADDR")]
    pub mms: Option<SocketAddr>,
    /// Where its admin endpoint listens [default: a free port of 127.0.0.1].
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// End after such a time, as in 20s [default: until Ctrl-C].
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
}

/// `check`
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The config file [default: ./proxy.yaml, then /etc/mmsproxy/proxy.yaml].
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print the config that is in effect, every key, as YAML.
    #[arg(long)]
    pub print: bool,
}

/// `origin`
#[derive(Args, Clone, Debug)]
pub struct OriginArgs {
    /// The directory with the content.
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Where it listens for players.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1755")]
    pub listen: SocketAddr,
    /// A file that is played in a loop as a live publishing point; may be given several times.
    #[arg(long, value_name = "NAME=FILE")]
    pub broadcast: Vec<Broadcast>,
}

/// `--broadcast NAME=FILE`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broadcast {
    /// Of the publishing point.
    pub name: Name,
    /// What is looped.
    pub file: PathBuf,
}

/// `probe`
#[derive(Args, Clone, Debug)]
pub struct ProbeArgs {
    /// What to ask for: `mms://host[:port]/name`.
    #[arg(value_name = "URL", value_parser = MmsUrl::parse)]
    pub url: MmsUrl,
    /// Ask through this proxy, `host[:port]`.
    #[arg(long, value_name = "PROXY", value_parser = HostPort::parse)]
    pub via: Option<HostPort>,
}

/// `record`
#[derive(Args, Clone, Debug)]
pub struct RecordArgs {
    /// What to play: `mms://host[:port]/name`.
    #[arg(value_name = "URL", value_parser = MmsUrl::parse)]
    pub url: MmsUrl,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Play through this proxy, `host[:port]`.
    #[arg(long, value_name = "PROXY", value_parser = HostPort::parse)]
    pub via: Option<HostPort>,
    /// Stop after such a time, as in 10m [default: at the end, or by Ctrl-C].
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
}

impl FromStr for Broadcast {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("want NAME=FILE")?;
        let name = Name::parse(name).map_err(|error| error.to_string())?;
        if name.as_str().is_empty() || file.is_empty() {
            return Err("want NAME=FILE, neither of them empty".into());
        }
        Ok(Self { name, file: file.into() })
    }
}

/// Why `check` did not say "ok".
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The config is wrong or not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Standard output is gone.
    #[error("can't write: {0}")]
    Output(#[from] io::Error),
}

impl CheckError {
    /// 2 for a wrong config, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Output(_) => 1,
        }
    }
}

impl CheckArgs {
    /// Reads the config as `serve` would, with the environment and the token file, and says on `out` that it is good, or
    /// what it is.
    pub fn run(&self, out: &mut impl Write) -> Result<(), CheckError> {
        let path = Config::find(self.file.as_deref())?;
        let config = Config::load(&path)?;
        config.admin_token()?;
        if self.print {
            out.write_all(config.to_yaml()?.as_bytes())?;
        } else {
            writeln!(out, "{}: ok", path.display())?;
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let arguments = std::iter::once("mmsproxy").chain(line.split_whitespace());
        Cli::try_parse_from(arguments).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_sound_and_each_command_shows_an_example() {
        Cli::command().debug_assert();
        let mut cli = Cli::command();
        let of_cache: Vec<_> = cli.find_subcommand("cache").unwrap().get_subcommands().cloned().collect();
        assert_eq!(of_cache.len(), 6);
        for mut command in cli.get_subcommands_mut().map(|command| command.clone()).chain(of_cache) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example") && help.contains("  mmsproxy "), "{help}");
        }
    }

    #[test]
    fn arguments_are_read_into_values() {
        let Ok(Command::Record(record)) = parse("record mmst://H:99/a%20b -o x.asf --for 10m --via [::1]") else {
            panic!()
        };
        assert_eq!((record.url.host.as_str(), record.url.port()), ("h", 99));
        assert_eq!((record.duration, record.via.unwrap().port()), (Some(Duration::from_secs(600)), 1755));
        let Ok(Command::Origin(origin)) = parse("origin --root . --broadcast a=b.asf --broadcast /c/d=e=f") else {
            panic!()
        };
        let broadcasts: Vec<_> = origin.broadcast.iter().map(|b| (b.name.as_str(), b.file.to_str().unwrap())).collect();
        assert_eq!(broadcasts, [("a", "b.asf"), ("c/d", "e=f")]);
        let Ok(Command::Cache(cache)) = parse("cache prefetch mms://h/a --rate 1.5Mbps --admin http://[::1]:99/")
        else {
            panic!()
        };
        let CacheCommand::Prefetch(prefetch) = cache.command else { panic!() };
        assert_eq!((prefetch.rate.unwrap().0, prefetch.jobs, prefetch.proxy.admin.port()), (1_500_000, 2, 99));
        let Ok(Command::Demo(demo)) = parse("--log-format json demo --for 20s --mms 127.0.0.1:0") else { panic!() };
        assert_eq!((demo.duration, demo.mms.unwrap().port()), (Some(Duration::from_secs(20)), 0));
    }

    #[test]
    fn a_wrong_argument_says_what_to_write() {
        assert!(parse("demo --for 20").unwrap_err().contains("want a number and its unit, as in 10s"));
        assert!(parse("probe http://h/x").unwrap_err().contains("scheme `http` is not one of mms, mmst, mmsu"));
        assert!(parse("origin --root . --broadcast x").unwrap_err().contains("want NAME=FILE"));
        assert!(parse("origin --root . --broadcast ../x=y").unwrap_err().contains("has a segment `.` or `..`"));
        assert!(parse("cache ls --admin 127.0.0.1:9180").unwrap_err().contains("want http://host[:port]"));
        assert!(parse("cache ls --dir . --admin http://h").unwrap_err().contains("cannot be used with"));
        assert!(parse("cache prefetch").unwrap_err().contains("required"));
        assert!(parse("cache export mms://h/a").unwrap_err().contains("--output"));
        assert!(parse("serv").unwrap_err().contains("'serve'"));
    }

    #[test]
    fn check_says_ok_or_prints_what_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.yaml");
        std::fs::write(&path, "name: edge1\n").unwrap();
        let mut out = Vec::new();
        CheckArgs { file: Some(path.clone()), print: false }.run(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{}: ok\n", path.display()));
        let mut out = Vec::new();
        CheckArgs { file: Some(path.clone()), print: true }.run(&mut out).unwrap();
        let printed = Config::parse(std::str::from_utf8(&out).unwrap(), "printed").unwrap();
        assert_eq!(printed, Config::load(&path).unwrap());
    }

    #[test]
    fn check_fails_on_a_token_file_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.yaml");
        std::fs::write(&path, "admin: { token_file: /no/such/token }\n").unwrap();
        let error = CheckArgs { file: Some(path), print: false }.run(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("admin.token_file: can't read /no/such/token: "), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
