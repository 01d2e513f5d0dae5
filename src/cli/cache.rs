//! `mmsproxy cache`: what its commands take.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::config::units::BitsPerSecond;
use crate::content::HostPort;

/// `cache`
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The commands on a cache.
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// List what is kept.
    #[command(after_long_help = "Examples:\n  mmsproxy cache ls\n  mmsproxy cache ls --json --dir /var/cache/mmsproxy")]
    Ls(LsArgs),
    /// Tell all about one entry.
    #[command(after_long_help = "Example:\n  mmsproxy cache show mms://media.example.net/talk.wmv")]
    Show(ShowArgs),
    /// Check every checksum on disk, and with --origin that each packet is the origin's.
    #[command(after_long_help = "Examples:\n  mmsproxy cache verify\n  \
        mmsproxy cache verify mms://media.example.net/talk.wmv --origin\n\n\
        MMS tells nobody that a file has changed whose header is the same: --origin plays all of it and compares.")]
    Verify(VerifyArgs),
    /// Remove content, at once.
    #[command(after_long_help = "Examples:\n  mmsproxy cache purge mms://media.example.net/talk.wmv\n  \
        mmsproxy cache purge --prefix mms://media.example.net:1755/old/")]
    Purge(PurgeArgs),
    /// Fetch content before anybody asks for it.
    #[command(after_long_help = "Examples:\n  mmsproxy cache prefetch mms://media.example.net/talk.wmv\n  \
        mmsproxy cache prefetch --list tonight.txt --rate 20Mbps --jobs 2\n\n\
        An origin before Windows Media Services 9 sends no faster than the content plays.")]
    Prefetch(PrefetchArgs),
    /// Write an entry as a seekable .asf file.
    #[command(after_long_help = "Example:\n  mmsproxy cache export mms://media.example.net/talk.wmv -o talk.asf")]
    Export(ExportArgs),
}

/// A running proxy.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// The admin endpoint of the running proxy.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    pub admin: AdminUrl,
    /// The file with its token (`admin.token_file`).
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// A running proxy, or the directory of one that does not run.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    #[command(flatten)]
    pub proxy: AdminArgs,
    /// The directory of a proxy that does not run (`cache.dir`).
    #[arg(long, value_name = "DIR", conflicts_with_all = ["admin", "token_file"])]
    pub dir: Option<PathBuf>,
}

/// `cache ls`
#[derive(Args, Clone, Debug)]
pub struct LsArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `cache show`
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// As a player asks for it, or as `ls` prints it.
    #[arg(value_name = "URL")]
    pub url: String,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `cache verify`
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// One entry [default: all].
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Play it all at its origin, and compare each packet.
    #[arg(long)]
    pub origin: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `cache purge`
#[derive(Args, Clone, Debug)]
pub struct PurgeArgs {
    /// What to remove.
    #[arg(value_name = "URL")]
    pub url: String,
    /// All whose URL begins so.
    #[arg(long)]
    pub prefix: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `cache prefetch`
#[derive(Args, Clone, Debug)]
pub struct PrefetchArgs {
    /// As players will ask for it.
    #[arg(value_name = "URL", required_unless_present = "list")]
    pub urls: Vec<String>,
    /// A file with more of them, one a line; lines that begin with # are left out.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// How fast an origin is read for each of them, as in 20Mbps [default: as fast as it gives].
    #[arg(long, value_name = "RATE")]
    pub rate: Option<BitsPerSecond>,
    /// How many at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub jobs: u16,
    #[command(flatten)]
    pub proxy: AdminArgs,
}

/// `cache export`
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Which entry.
    #[arg(value_name = "URL")]
    pub url: String,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Write what is there, also where something is missing.
    #[arg(long)]
    pub partial: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `http://host[:port]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminUrl(pub HostPort);

impl AdminUrl {
    /// The port, 80 where none is given.
    pub fn port(&self) -> u16 {
        const HTTP: u16 = 80;
        self.0.port.unwrap_or(HTTP)
    }
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.strip_prefix("http://").ok_or("want http://host[:port]")?;
        let host = host.strip_suffix('/').unwrap_or(host);
        HostPort::parse(host).map(Self).map_err(|error| error.to_string())
    }
}
