//! `mmsproxy origin`: the embedded origin alone.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tracing::info;

use super::signals::Signals;
use crate::cli::OriginArgs;
use crate::config::Config;
use crate::demo::{Library, OriginSource};
use crate::metrics::Metrics;
use crate::server::writer::Writers;
use crate::server::{Listener, Server};

/// Serves a directory, and files as broadcasts, until SIGTERM or Ctrl-C.
pub async fn origin(args: &OriginArgs) -> anyhow::Result<()> {
    let mut library = Library::open(&args.root).with_context(|| format!("can't serve {}", args.root.display()))?;
    for broadcast in &args.broadcast {
        library
            .add_broadcast_file(&broadcast.name, &broadcast.file)
            .with_context(|| format!("can't broadcast {} as `{}`", broadcast.file.display(), broadcast.name))?;
    }
    let mut signals = Signals::new().context("can't listen for signals")?;
    start(args.listen, library).await?;
    signals.end(None).await;
    Ok(())
}

/// Takes viewers at `address`; returns the address, which is another where port 0 was asked for.
pub(super) async fn start(address: SocketAddr, library: Library) -> anyhow::Result<SocketAddr> {
    let metrics = Metrics::new().context("can't register the metrics")?;
    let settings = super::proxy::server_settings(&Config::default());
    let writers = Writers::new(&settings);
    let listener = Listener::bind(address, &writers).with_context(|| format!("can't listen on {address}"))?;
    let server = Server::new(settings, metrics.counters, writers).context("can't start the writers")?;
    let address = listener.local_addr()?;
    info!(protocol = "mms", %address, "listening");
    tokio::spawn(server.accept(listener, Arc::new(OriginSource::new(library))));
    Ok(address)
}
