//! `POST /api/v1/reload`: the config is read again by whoever has it, and a bad one is refused whole.

use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::info;

use super::respond::{self, Answer};
use super::{Admin, RELOAD};

/// A request to read the config again.
#[derive(Debug)]
pub struct Reload {
    /// How it went.
    pub answer: oneshot::Sender<Result<Reloaded, ReloadRefused>>,
}

/// The config was read and is in effect.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// The sections that were taken over; the rest takes a restart.
    pub reloaded: &'static [&'static str],
}

/// The config was not taken over, the one before stays.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadRefused {
    /// All of it in one text.
    pub error: String,
    /// Each fault of its own; empty where the config could not even be read.
    pub faults: Vec<Fault>,
}

/// What is wrong in a config.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// With its section, `routes[0].origin`; empty where the text is no YAML.
    pub key: String,
    /// Where, which key, and what to write instead.
    pub message: String,
}

impl Admin {
    pub(super) async fn reload(&self) -> Answer {
        let Some(reloads) = &self.reloads else {
            return respond::error(StatusCode::CONFLICT, "this proxy runs without a config file");
        };
        info!("the operator reloads the config");
        let (answer, answered) = oneshot::channel();
        if reloads.try_send(Reload { answer }).is_err() {
            return respond::error(StatusCode::SERVICE_UNAVAILABLE, "the proxy is going down, or reloads already");
        }
        match timeout(RELOAD, answered).await {
            Ok(Ok(Ok(reloaded))) => respond::json(StatusCode::OK, &reloaded),
            Ok(Ok(Err(refused))) => respond::json(StatusCode::UNPROCESSABLE_ENTITY, &refused),
            Ok(Err(_)) => respond::error(StatusCode::SERVICE_UNAVAILABLE, "the proxy is going down"),
            Err(_) => respond::error(StatusCode::SERVICE_UNAVAILABLE, "the config could not be read in time"),
        }
    }
}
