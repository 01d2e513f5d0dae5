//! The commands against a proxy in front of the embedded origin, and against its directory once it has ended.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::asf::{File, PacketNumber};
use crate::cli::{Cli, Command};
use crate::commands::{Proxy, proxy};
use crate::config::{Config, Route};
use crate::content::Name;
use crate::demo::content::demo_file;
use crate::demo::storage::Storage;
use crate::demo::{Library, OriginSource};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::server::writer::Writers;

/// A proxy with a cache, and an origin of version 9, which sends as fast as it is asked to.
struct House {
    runtime: tokio::runtime::Runtime,
    admin: SocketAddr,
    origin: SocketAddr,
    clip: Bytes,
    dir: TempDir,
}

impl House {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clip = Bytes::from(demo_file(Duration::from_secs(2)).unwrap());
        let (origin, admin) = runtime.block_on(async {
            let origin = origin(clip.clone());
            let mut config = Config::default();
            config.listen.mms = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
            config.listen.admin = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            config.access_log.path.clear();
            config.cache.dir = dir.path().join("cache");
            config.cache.min_free = crate::config::units::ByteSize(0);
            config.routes = vec![Route { origin: format!("mms://{origin}"), ..Route::default() }];
            let proxy = Proxy::start(&config, Arc::new(Metrics::new().unwrap()), None).await.unwrap();
            (origin, proxy.admin().unwrap())
        });
        Self { runtime, admin, origin, clip, dir }
    }

    fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn url(&self, name: &str) -> String {
        format!("mms://{}/{name}", self.origin)
    }

    fn online(&self, line: &str) -> anyhow::Result<()> {
        run(&format!("{line} --admin http://{}", self.admin))
    }

    /// The proxy ends; what it has in its directory stays.
    fn end(self) -> (TempDir, SocketAddr, Bytes) {
        self.runtime.shutdown_timeout(Duration::from_secs(10));
        (self.dir, self.origin, self.clip)
    }
}

fn origin(clip: Bytes) -> SocketAddr {
    let mut library = Library::new();
    for name in ["a.asf", "b.asf", "b c.asf"] {
        library.add_file(&Name::parse(name).unwrap(), Storage::Memory(clip.clone())).unwrap();
    }
    let settings = proxy::server_settings(&Config { server_version: "9.01.01.3862".into(), ..Config::default() });
    let writers = Writers::new(&settings);
    let server = Server::new(settings, Metrics::new().unwrap().counters, writers).unwrap();
    let listener = crate::server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.accept(listener, Arc::new(OriginSource::new(library))));
    address
}

/// `mmsproxy cache …`, in words that have no blanks.
fn run(line: &str) -> anyhow::Result<()> {
    let arguments = ["mmsproxy", "cache"].into_iter().chain(line.split_whitespace());
    let Command::Cache(args) = Cli::try_parse_from(arguments)?.command else { panic!("{line}") };
    tokio::runtime::Runtime::new()?.block_on(cache(&args))
}

fn refused(result: anyhow::Result<()>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// Packets are those of the clip, and an index is behind them.
fn judge(path: &Path, clip: &Bytes) {
    let (export, clip) = (File::open(Bytes::from(fs::read(path).unwrap())).unwrap(), File::open(clip.clone()).unwrap());
    assert_eq!(export.header().bytes(), clip.header().bytes());
    assert!(export.has_video_index());
    for number in (0..clip.packet_count()).map(PacketNumber) {
        assert_eq!(export.packet(number).unwrap(), clip.packet(number).unwrap());
    }
}

#[test]
fn the_commands_work_on_a_proxy_and_then_on_its_directory() {
    let house = House::new();
    let (first, second) = (house.url("a.asf"), house.url("b.asf"));
    let strange = house.url("b%20c.asf");
    let list = house.dir.path().join("list.txt");
    fs::write(&list, format!("# tonight\n\n  {second}\n{strange}\n")).unwrap();
    let list = list.display();
    house.online(&format!("prefetch {first} --list {list} --jobs 3")).unwrap();
    house.online(&format!("prefetch {first}")).unwrap();
    assert_eq!(refused(house.online(&format!("prefetch {} {first}", house.url("none.asf")))), "1 of 2 failed");

    house.online("ls").unwrap();
    house.online(&format!("show {first} --json")).unwrap();
    house.online("verify").unwrap();
    house.online(&format!("verify {strange} --origin")).unwrap();
    let exported = house.dir.path().join("online.asf");
    house.online(&format!("export {first} -o {}", exported.display())).unwrap();
    judge(&exported, &house.clip);
    for what in ["show", "verify", "export -o x.asf"] {
        let none = house.url("none.asf");
        assert!(refused(house.online(&format!("{what} {none}"))).contains("none.asf is not in the cache"), "{what}");
    }
    let running = refused(run(&format!("ls --dir {}", house.cache_dir().display())));
    assert!(running.contains("in use by another proxy, which runs: ask it with --admin URL"), "{running}");
    house.online(&format!("purge {second}")).unwrap();
    assert!(refused(house.online(&format!("show {second}"))).contains("is not in the cache"));

    let cache_dir = house.cache_dir();
    let (dir, origin, clip) = house.end();
    let at = format!("--dir {}", cache_dir.display());
    // The threads of the proxy let go of the directory in their own time.
    let offline = loop {
        match Offline::open(&cache_dir) {
            Ok(offline) => break offline,
            Err(_) => std::thread::yield_now(),
        }
    };
    let mut urls: Vec<_> = offline.list().entries.into_iter().map(|entry| (entry.url, entry.is_complete)).collect();
    urls.sort();
    let want = [(format!("mms://{origin}/a.asf"), true), (format!("mms://{origin}/b c.asf"), true)];
    assert_eq!(urls, want);
    drop(offline);
    run(&format!("ls --json {at}")).unwrap();
    run(&format!("verify {at}")).unwrap();
    let again = dir.path().join("offline.asf");
    run(&format!("export {first} -o {} {at}", again.display())).unwrap();
    judge(&again, &clip);
    // The origin is gone with the proxy.
    assert_eq!(refused(run(&format!("verify {first} --origin {at}"))), "not all is as it should be");
    harm(&cache_dir);
    assert_eq!(refused(run(&format!("verify {at}"))), "not all is as it should be");
    run(&format!("purge --prefix mms://{origin}/ {at}")).unwrap();
    assert!(Offline::open(&cache_dir).unwrap().list().entries.is_empty());
    let nowhere = dir.path().join("nowhere");
    assert!(refused(run(&format!("ls --dir {}", nowhere.display()))).contains("nowhere is no cache"));
    assert!(!nowhere.exists(), "it is not made");
}

/// Changes the last byte of a file of packets.
fn harm(dir: &Path) {
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "seg") {
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            return fs::write(&path, bytes).unwrap();
        }
    }
    panic!("no file of packets");
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let refused = refused(run("ls --admin http://127.0.0.1:1"));
    assert!(refused.starts_with("no proxy answers at http://127.0.0.1:1 (--admin)"), "{refused}");
}
