//! The directory of a proxy that does not run.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, bail};

use crate::cache::disk::{Found, Store, StoreError, SyncPolicy};
use crate::cache::{Facts, Report};
use crate::config::Config;
use crate::server::admin::cache::{CacheList, EntryRow, is_below, literal_keys};

/// The directory, ours alone as long as this lives.
pub(super) struct Offline {
    store: Store,
}

impl Offline {
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        // A store makes what is missing, and a directory by mistake is no cache.
        if !dir.join("v1").is_dir() {
            bail!("{} is no cache (--dir)", dir.display());
        }
        match Store::open(dir, SyncPolicy::Segment) {
            Ok(store) => Ok(Self { store }),
            Err(error @ StoreError::InUse(_)) => {
                bail!("{error}, which runs: ask it with --admin URL in place of --dir")
            }
            Err(error) => Err(error.into()),
        }
    }

    fn found(&self) -> impl Iterator<Item = Found> {
        self.store.entries().filter_map(|found| {
            found.inspect_err(|error| eprintln!("warning: the directory can't be read whole: {error}")).ok()
        })
    }

    /// All of it; without a proxy nothing says how long it counts as fresh but the default.
    pub(super) fn list(&self) -> CacheList {
        let mut entries: Vec<EntryRow> = self.found().map(|found| row(&found)).collect();
        entries.sort_by(|one, other| one.url.cmp(&other.url));
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        CacheList { bytes, max_size: Config::default().cache.max_size.0, fills: 0, entries }
    }

    pub(super) fn entry(&self, url: &str) -> anyhow::Result<Option<EntryRow>> {
        Ok(self.find(url)?.map(|found| row(&found)))
    }

    /// What is kept under a URL; without the routes of a proxy it has to be that of `ls`.
    pub(super) fn find(&self, url: &str) -> anyhow::Result<Option<Found>> {
        for key in literal_keys(url) {
            if let Some(found) = self.store.find(&key).context("the directory can't be read")? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(super) fn purge(&self, url: &str, is_prefix: bool) -> anyhow::Result<usize> {
        let wanted: Vec<Found> = match is_prefix {
            false => self.find(url)?.into_iter().collect(),
            true => {
                let prefixes = literal_keys(url);
                let is_wanted = |found: &Found| prefixes.iter().any(|prefix| is_below(&found.meta.key, prefix));
                self.found().filter(is_wanted).collect()
            }
        };
        for found in &wanted {
            found.entry.remove().with_context(|| format!("mms://{} can't be removed", found.meta.key))?;
        }
        Ok(wanted.len())
    }

    /// Checks every checksum of one entry, or of all.
    pub(super) fn check(&self, key: Option<&str>) -> anyhow::Result<Report> {
        let wants = |other: &str| key.is_none_or(|key| key == other);
        Report::of(&self.store, wants, None, || true).context("the directory can't be read")
    }
}

fn row(found: &Found) -> EntryRow {
    EntryRow::of(&Facts::of(found), SystemTime::now(), Config::default().cache.revalidate)
}
