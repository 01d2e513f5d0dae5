//! `mmsproxy serve`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;
use tracing::{error, info};

use super::Proxy;
use super::signals::{Asked, Signals};
use crate::cli::ServeArgs;
use crate::config::{self, Config, ConfigError};
use crate::metrics::Metrics;
use crate::server::admin::{Fault, Reload, ReloadRefused, Reloaded};

/// Runs the proxy until SIGTERM or Ctrl-C, and then until its viewers are gone or `drain` is over; a second signal ends
/// it at once. SIGHUP, and the admin endpoint likewise, has the config read again and the access log reopened.
pub async fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let path = Config::find(args.config.as_deref())?;
    let config = Config::load(&path)?;
    info!(config = %path.display(), version = env!("CARGO_PKG_VERSION"), "starting");
    let metrics = Arc::new(Metrics::new().context("can't register the metrics")?);
    // Before anything listens, so that no signal finds nobody.
    let mut signals = Signals::new().context("can't listen for signals")?;
    let (reload_sender, mut reloads) = mpsc::channel::<Reload>(1);
    let proxy = Proxy::start(&config, metrics, Some(reload_sender)).await?;
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => drop(reload(&proxy, &path)),
                Asked::End => break,
            },
            // Whoever asked may be gone.
            Some(Reload { answer }) = reloads.recv() => drop(answer.send(reload(&proxy, &path))),
        }
    }
    drop(reloads);
    info!(within = ?config.drain, viewers = proxy.server().viewers().len(), "draining");
    proxy.server().drain();
    let second = async {
        while signals.next().await == Asked::Reload {
            proxy.reopen_access_log();
        }
    };
    tokio::select! {
        () = proxy.finish(config.drain) => info!("ended"),
        () = second => info!("ended at once"),
    }
    // Nothing else runs any more that it could hold up.
    proxy.flush_access_log();
    Ok(())
}

/// A config with a fault is refused whole; the one before stays.
fn reload(proxy: &Proxy, path: &Path) -> Result<Reloaded, ReloadRefused> {
    // First, and whatever is wrong in the config: the log may have been moved away.
    proxy.reopen_access_log();
    let result = Config::load(path).map_err(anyhow::Error::from).and_then(|config| proxy.reload(&config));
    match result {
        Ok(()) => {
            info!(config = %path.display(), "reloaded: routes, forward and origin; the rest takes a restart");
            Ok(Reloaded { reloaded: &["routes", "forward", "origin"] })
        }
        Err(fault) => {
            error!(config = %path.display(), %fault, "not reloaded, the config before stays");
            Err(refused(&fault))
        }
    }
}

fn refused(error: &anyhow::Error) -> ReloadRefused {
    let faults = match error.downcast_ref() {
        Some(ConfigError::Invalid(faults)) => faults.faults(),
        _ => &[],
    };
    let fault = |fault: &config::Fault| Fault { key: fault.key().to_owned(), message: fault.to_string() };
    ReloadRefused { error: error.to_string(), faults: faults.iter().map(fault).collect() }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    async fn proxy() -> Proxy {
        let mut config = Config::default();
        config.listen.mms = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        config.listen.admin = None;
        config.access_log.path.clear();
        config.cache.dir.clear();
        Proxy::start(&config, Arc::new(Metrics::new().unwrap()), None).await.unwrap()
    }

    #[tokio::test]
    async fn a_bad_config_is_refused_with_each_of_its_faults() {
        let proxy = proxy().await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy.yaml");
        std::fs::write(&path, "limits: { viewers: 0 }\nroutes: [{ origin: radio }]\n").unwrap();
        let refused = reload(&proxy, &path).unwrap_err();
        let keys: Vec<&str> = refused.faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["limits.viewers", "routes[0].origin"]);
        assert!(refused.faults[0].message.contains("proxy.yaml:1: limits.viewers: is 0"), "{refused:?}");
        std::fs::write(&path, "routes: [{ origin: \"mms://10.0.0.5\" }]\n").unwrap();
        assert!(reload(&proxy, &path).is_ok());
        std::fs::remove_file(&path).unwrap();
        let refused = reload(&proxy, &path).unwrap_err();
        assert!(refused.faults.is_empty() && refused.error.starts_with("can't read "), "{refused:?}");
    }
}
