//! The cache of a running proxy, made out of a config.

use std::sync::Arc;

use anyhow::Context;
use tracing::warn;

use crate::cache::{Cache, Observer, Settings};
use crate::config::{self, Config, FastStart, FinishFill, StaleIfError};
use crate::server::counters::Counters;
use crate::server::relay::CacheSettings;

/// What of `limits.memory` the cache's blocks may take, and what fills may hold before a disk has it: each a part of so
/// many.
const SHARE_OF_MEMORY: u64 = 4;

/// Opens `cache.dir`; `None` where that is empty. Where nobody configured it and it can't be used, the proxy does without.
pub(super) fn open(config: &Config, counters: &Arc<Counters>) -> anyhow::Result<Option<Arc<Cache>>> {
    let dir = &config.cache.dir;
    if dir.as_os_str().is_empty() {
        return Ok(None);
    }
    let share = config.limits.memory.0 / SHARE_OF_MEMORY;
    let settings = Settings {
        max_size: config.cache.max_size.0,
        min_free: config.cache.min_free.0,
        blocks: share,
        unwritten: share,
    };
    match Cache::open(dir, settings, Arc::new(Counted(Arc::clone(counters)))) {
        Ok(cache) => Ok(Some(cache)),
        Err(error) if *dir == config::Cache::default().dir => {
            warn!(%error, "no cache: the default directory can't be used (cache.dir)");
            Ok(None)
        }
        Err(error) => Err(error).context("can't open the cache (cache.dir)"),
    }
}

/// How content is kept.
pub(super) fn settings(config: &Config) -> CacheSettings {
    let cache = &config.cache;
    CacheSettings {
        revalidate: cache.revalidate,
        revalidate_wait: cache.revalidate_wait,
        stale_if_error: match cache.stale_if_error {
            StaleIfError::For(most) => Some(most),
            StaleIfError::Forever => None,
        },
        negative: cache.negative,
        fast_start: match cache.fast_start {
            FastStart::Off => Some(std::time::Duration::ZERO),
            FastStart::Preroll => None,
            FastStart::For(ahead) => Some(ahead),
        },
        finish_fill: match cache.finish_fill {
            FinishFill::Always => Some(0),
            FinishFill::Never => None,
            FinishFill::Above(percent) => Some(percent.0),
        },
        background_fills: super::proxy::size(cache.background_fills.into()),
        max_fills_per_entry: super::proxy::size(cache.max_fills_per_entry.into()),
        authenticated: cache.authenticated,
    }
}

/// What goes wrong is counted.
struct Counted(Arc<Counters>);

impl Observer for Counted {
    fn error(&self, reason: &'static str) {
        self.0.cache_errors.with_label_values(&[reason]).inc();
    }

    fn evicted(&self, files: usize) {
        self.0.cache_evictions.inc_by(files as u64);
    }
}
