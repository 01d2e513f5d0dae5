//! `mmsproxy serve`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tracing::{error, info};

use super::Proxy;
use super::signals::{Asked, Signals};
use crate::cli::ServeArgs;
use crate::config::Config;
use crate::metrics::Metrics;

/// Runs the proxy until SIGTERM or Ctrl-C, and then until its viewers are gone or `drain` is over; a second signal ends
/// it at once. SIGHUP reads the config again.
pub async fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let path = Config::find(args.config.as_deref())?;
    let config = Config::load(&path)?;
    info!(config = %path.display(), version = env!("CARGO_PKG_VERSION"), "starting");
    let metrics = Arc::new(Metrics::new().context("can't register the metrics")?);
    // Before anything listens, so that no signal finds nobody.
    let mut signals = Signals::new().context("can't listen for signals")?;
    let proxy = Proxy::start(&config, metrics).await?;
    while signals.next().await == Asked::Reload {
        reload(&proxy, &path);
    }
    info!(within = ?config.drain, viewers = proxy.server().viewers().len(), "draining");
    proxy.server().drain();
    let second = async { while signals.next().await != Asked::End {} };
    tokio::select! {
        () = proxy.server().finish(config.drain) => info!("ended"),
        () = second => info!("ended at once"),
    }
    Ok(())
}

/// A config with a fault is refused whole; the one before stays.
fn reload(proxy: &Proxy, path: &Path) {
    let result = Config::load(path).map_err(anyhow::Error::from).and_then(|config| proxy.reload(&config));
    match result {
        Ok(()) => info!(config = %path.display(), "reloaded: routes, forward and origin; the rest takes a restart"),
        Err(fault) => error!(config = %path.display(), %fault, "not reloaded, the config before stays"),
    }
}
