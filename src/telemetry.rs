//! Logs: tracing events to standard error, as text or as JSON. What is counted is not here but at each room.
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::LogFormat;

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` is no filter.
    #[error("RUST_LOG: {0}; want a level or a list, as in info or info,mmsproxy=debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process logs already.
    #[error("logs are set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins to log, once per process: what `RUST_LOG` lets through, `info` where it is not set or empty.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref())?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).finish().try_init()?,
    }
    Ok(())
}

fn filter(rust_log: Option<&str>) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(rust_log.filter(|text| !text.trim().is_empty()).unwrap_or("info"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_info() {
        assert_eq!(filter(None).unwrap().to_string(), "info");
        assert_eq!(filter(Some(" ")).unwrap().to_string(), "info");
        assert_eq!(filter(Some("mmsproxy=debug")).unwrap().to_string(), "mmsproxy=debug");
    }

    #[test]
    fn a_wrong_filter_is_refused_with_an_example() {
        let error = TelemetryError::from(filter(Some("mmsproxy=loud")).unwrap_err()).to_string();
        assert!(error.starts_with("RUST_LOG: "), "{error}");
        assert!(error.ends_with("want a level or a list, as in info or info,mmsproxy=debug"), "{error}");
    }
}
