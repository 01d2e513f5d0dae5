//! `mmsproxy cache verify`: every checksum, and with `--origin` every packet against what the origin sends.

use anyhow::{Context, bail};
use bytes::Bytes;

use super::origin::{self, Digests};
use super::{Place, client};
use crate::cli::VerifyArgs;
use crate::server::admin::cache::{Checked, EntryRow};

/// Fails where anything is wrong, and says what.
pub(super) async fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let place = Place::open(&args.place)?;
    let one = match &args.url {
        Some(url) => Some(place.entry(url).await?),
        None => None,
    };
    let checked = check(&place, one.as_ref()).await?;
    let mut wrong = checked.faults.len();
    for fault in &checked.faults {
        println!("{}: {}", fault.url.as_deref().unwrap_or("an entry"), fault.error);
    }
    println!(
        "{} entries, {} files, {}: {wrong} wrong",
        checked.entries,
        checked.files,
        super::table::size(checked.bytes)
    );
    if args.origin {
        let entries = match one {
            Some(entry) => vec![entry],
            None => place.list().await?.entries,
        };
        for entry in entries {
            match against_origin(&place, &entry).await {
                Ok(true) => {}
                Ok(false) => wrong += 1,
                Err(error) => {
                    println!("{}: {error:#}", entry.url);
                    wrong += 1;
                }
            }
        }
    }
    if wrong > 0 {
        bail!("not all is as it should be");
    }
    Ok(())
}

/// Every checksum. A proxy answers for a part at a time.
async fn check(place: &Place, one: Option<&EntryRow>) -> anyhow::Result<Checked> {
    let client = match place {
        Place::Proxy(client) => client,
        Place::Directory(offline) => {
            let key = one.and_then(|entry| entry.url.strip_prefix("mms://"));
            return Ok(offline.check(key)?.into());
        }
    };
    let mut all = Checked::default();
    loop {
        let mut pairs = Vec::new();
        if let Some(entry) = one {
            pairs.push(("url", entry.url.as_str()));
        }
        let from = all.next.take();
        if let Some(from) = &from {
            pairs.push(("from", from));
        }
        let path = format!("/api/v1/cache/verify?{}", client::query(&pairs));
        let part: Checked = client.post(&path, Bytes::new()).await?;
        // An entry that goes on was counted.
        all.entries += part.entries.saturating_sub(u64::from(from.is_some()));
        all.files += part.files;
        all.bytes += part.bytes;
        all.faults.extend(part.faults);
        if part.next.is_none() {
            return Ok(all);
        }
        if part.next == from {
            bail!("the proxy does not get on with the check");
        }
        all.next = part.next;
    }
}

/// Whether an entry is what the origin sends; prints what is not.
async fn against_origin(place: &Place, entry: &EntryRow) -> anyhow::Result<bool> {
    let kept = match place {
        Place::Proxy(client) => {
            let query = client::query(&[("url", &entry.url)]);
            Digests::read(client.stream(&format!("/api/v1/cache/digests?{query}")).await?).await?
        }
        Place::Directory(offline) => {
            let found = offline.find(&entry.url)?.context("it is not there any more")?;
            Digests::of(&found)?
        }
    };
    let comparison = origin::compare(&entry.url, &kept).await?;
    print!("{}", comparison.told(&entry.url));
    Ok(comparison.is_right())
}
