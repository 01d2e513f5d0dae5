//! `mmsproxy cache`: what is kept, in a running proxy or in the directory of one that does not run.

mod client;
mod export;
mod offline;
mod origin;
mod prefetch;
mod table;
mod verify;

use anyhow::{Context, bail};

use self::client::Client;
use self::offline::Offline;
use crate::cli::{CacheArgs, CacheCommand, LsArgs, PlaceArgs, PurgeArgs, ShowArgs};
use crate::server::admin::cache::{CacheList, EntryRow, Removed};

/// Does what was asked.
pub async fn cache(args: &CacheArgs) -> anyhow::Result<()> {
    match &args.command {
        CacheCommand::Ls(args) => ls(args).await,
        CacheCommand::Show(args) => show(args).await,
        CacheCommand::Verify(args) => verify::verify(args).await,
        CacheCommand::Purge(args) => purge(args).await,
        CacheCommand::Prefetch(args) => prefetch::prefetch(args).await,
        CacheCommand::Export(args) => export::export(args).await,
    }
}

/// Where the cache is.
enum Place {
    Proxy(Client),
    Directory(Offline),
}

impl Place {
    fn open(args: &PlaceArgs) -> anyhow::Result<Self> {
        Ok(match &args.dir {
            Some(dir) => Self::Directory(Offline::open(dir)?),
            None => Self::Proxy(Client::new(&args.proxy)?),
        })
    }

    async fn list(&self) -> anyhow::Result<CacheList> {
        match self {
            Self::Proxy(client) => client.get("/api/v1/cache").await,
            Self::Directory(offline) => Ok(offline.list()),
        }
    }

    /// One entry.
    async fn entry(&self, url: &str) -> anyhow::Result<EntryRow> {
        let found = match self {
            Self::Proxy(client) => client.entry(url).await?,
            Self::Directory(offline) => offline.entry(url)?,
        };
        found.with_context(|| format!("{url} is not in the cache"))
    }
}

async fn ls(args: &LsArgs) -> anyhow::Result<()> {
    let list = Place::open(&args.place)?.list().await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&list)?);
    } else {
        print!("{}", table::list(&list));
    }
    Ok(())
}

async fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let entry = Place::open(&args.place)?.entry(&args.url).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&entry)?);
    } else {
        print!("{}", table::entry(&entry));
    }
    Ok(())
}

async fn purge(args: &PurgeArgs) -> anyhow::Result<()> {
    if args.url.is_empty() {
        bail!("an empty URL names nothing");
    }
    let removed = match Place::open(&args.place)? {
        Place::Proxy(client) => {
            let query = client::query(&[("url", &args.url), ("prefix", if args.prefix { "true" } else { "false" })]);
            let removed: Removed = client.delete(&format!("/api/v1/cache?{query}")).await?;
            removed.removed
        }
        Place::Directory(offline) => offline.purge(&args.url, args.prefix)?,
    };
    println!("{removed} removed");
    Ok(())
}

#[cfg(test)]
mod tests;
