//! `mmsproxy demo`: an embedded origin with generated content, and the proxy in front of it, all on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::signals::Signals;
use super::{Proxy, origin};
use crate::cli::DemoArgs;
use crate::config::{Config, Route};
use crate::demo::{DEMO_BROADCAST, DEMO_FILE, demo_library};
use crate::metrics::Metrics;

/// Runs until Ctrl-C, or for `--for`.
pub async fn demo(args: &DemoArgs) -> anyhow::Result<()> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut signals = Signals::new().context("can't listen for signals")?;
    let library = tokio::task::spawn_blocking(|| demo_library(Instant::now())).await??;
    let behind = origin::start(any_port, library).await?;
    let mut config = Config::default();
    config.listen.mms = vec![args.mms.unwrap_or(any_port)];
    config.listen.admin = Some(args.admin.unwrap_or(any_port));
    // Standard output is for the URLs.
    config.access_log.path.clear();
    config.routes = vec![Route { origin: format!("mms://{behind}"), ..Route::default() }];
    let scratch = Scratch(std::env::temp_dir().join(format!("mmsproxy-demo-{}", std::process::id())));
    config.cache.dir = scratch.0.clone();
    let metrics = Arc::new(Metrics::new().context("can't register the metrics")?);
    let proxy = Proxy::start(&config, metrics, None).await?;
    for address in proxy.mms() {
        println!("on-demand  mms://{address}/{DEMO_FILE}");
        println!("broadcast  mms://{address}/{DEMO_BROADCAST}");
        println!("    vlc mms://{address}/{DEMO_FILE}");
        println!("    ffplay mmst://{address}/{DEMO_BROADCAST}");
    }
    if let Some(address) = proxy.admin() {
        println!("status     http://{address}/");
        println!("metrics    http://{address}/metrics");
    }
    signals.end(args.duration).await;
    proxy.server().drain();
    proxy.finish(std::time::Duration::ZERO).await;
    Ok(())
}

/// The cache of a demo goes with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may not be there, and nobody misses what is left of it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
