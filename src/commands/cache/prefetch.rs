//! `mmsproxy cache prefetch`: a running proxy fetches, the command says how far it is.

use std::fs;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::StatusCode;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::{Client, Refused};
use crate::cli::PrefetchArgs;
use crate::config::units::display_duration;
use crate::server::admin::cache::{EntryRow, Wanted};

/// How often the proxy is asked how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// How long a proxy that has enough to do is left alone.
const BUSY: Duration = Duration::from_secs(1);

/// Fetches all; fails where any failed, and says each.
pub(super) async fn prefetch(args: &PrefetchArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.proxy)?;
    let urls = urls(args)?;
    let is_shown = std::io::stderr().is_terminal();
    let bars = MultiProgress::with_draw_target(match is_shown {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    });
    let style = ProgressStyle::with_template("[{bar:30}] {percent:>3}% {msg}")?;
    let places = Arc::new(Semaphore::new(args.jobs.into()));
    let rate = args.rate.map_or(0, |rate| rate.0);
    let mut tasks = JoinSet::new();
    for url in urls {
        let (client, bars, style, places) = (client.clone(), bars.clone(), style.clone(), Arc::clone(&places));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            let fetched = one(&client, &url, rate, &bars, style).await;
            if let Err(error) = &fetched {
                say(&bars, &format!("{url}: {error:#}"));
            }
            fetched.is_ok()
        });
    }
    let (mut all, mut failed) = (0, 0);
    while let Some(fetched) = tasks.join_next().await {
        all += 1;
        failed += usize::from(!fetched?);
    }
    if failed > 0 {
        bail!("{failed} of {all} failed");
    }
    Ok(())
}

/// Those of the command line, then those of the list.
fn urls(args: &PrefetchArgs) -> anyhow::Result<Vec<String>> {
    let mut urls = args.urls.clone();
    if let Some(path) = &args.list {
        let list = fs::read_to_string(path).with_context(|| format!("can't read {} (--list)", path.display()))?;
        let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        urls.extend(lines.map(str::to_owned));
    }
    Ok(urls)
}

async fn one(client: &Client, url: &str, rate: u64, bars: &MultiProgress, style: ProgressStyle) -> anyhow::Result<()> {
    let begun = begin(client, url, rate).await?;
    if begun.is_complete {
        say(bars, &format!("{url}: it is there"));
        return Ok(());
    }
    if let Some(takes) = takes(&begun, rate) {
        say(bars, &format!("{url}: {takes}"));
    }
    let bar = bars.add(ProgressBar::new(begun.packets).with_style(style).with_message(url.to_owned()));
    loop {
        let now = client.entry(&begun.url).await?.context("it was removed")?;
        bar.set_length(now.packets);
        bar.set_position(now.packets_present.saturating_add(now.packets_absent));
        if now.is_complete {
            bar.finish_and_clear();
            say(bars, &format!("{url}: {} packets, {}", now.packets_present, super::table::size(now.bytes)));
            return Ok(());
        }
        if !now.is_prefetching {
            bar.finish_and_clear();
            bail!("{}", now.error.unwrap_or_else(|| "it ended early".to_owned()));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Waits for a place where the proxy fetches as much as it may already.
async fn begin(client: &Client, url: &str, rate: u64) -> anyhow::Result<EntryRow> {
    let body = serde_json::to_vec(&Wanted { url: url.to_owned(), rate })?;
    loop {
        let begun = client.post("/api/v1/cache/prefetch", body.clone().into()).await;
        match begun {
            Err(error) if is_busy(&error) => sleep(BUSY).await,
            begun => return begun,
        }
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::TOO_MANY_REQUESTS)
}

/// How long it takes, where that can be told: an origin before version 9 sends no faster than it plays, and a rate is a
/// rate.
fn takes(entry: &EntryRow, rate: u64) -> Option<String> {
    let left = 1.0 - entry.percent() as f64 / 100.0;
    let major = entry.origin_version.as_deref()?.split('.').next()?.parse::<u32>().ok()?;
    let plays = entry.duration_seconds * left;
    let by_rate = if rate > 0 { plays * f64::from(entry.bit_rate) / rate as f64 } else { 0.0 };
    let (seconds, why) = match major {
        0..=8 if plays >= by_rate => (plays, "the origin sends no faster than it plays"),
        _ if by_rate > 0.0 => (by_rate, "at that rate"),
        _ => return None,
    };
    let takes = Duration::try_from_secs_f64(seconds.round()).ok()?;
    Some(format!("takes {}: {why}", display_duration(&takes)))
}

/// A line that no bar is drawn over.
fn say(bars: &MultiProgress, line: &str) {
    bars.suspend(|| println!("{line}"));
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::cache::{Facts, Marks};

    fn entry(version: &str) -> EntryRow {
        let facts = Facts {
            key: "h:1755/a".to_owned(),
            generation: 1,
            bytes: 0,
            packets: 100,
            present: 0,
            absent: 0,
            is_complete: false,
            duration_seconds: 3600.0,
            bit_rate: 300_000,
            marks: Marks::default(),
        };
        let row = EntryRow::of(&facts, SystemTime::UNIX_EPOCH, Duration::ZERO);
        EntryRow { origin_version: Some(version.to_owned()), ..row }
    }

    #[test]
    fn an_origin_of_real_time_takes_as_long_as_it_plays() {
        let old = takes(&entry("4.1.0.3930"), 0);
        assert_eq!(old.as_deref(), Some("takes 1h: the origin sends no faster than it plays"));
        assert_eq!(takes(&entry("9.01.01.3862"), 0), None);
        assert_eq!(takes(&entry("9.01.01.3862"), 600_000).as_deref(), Some("takes 30m: at that rate"));
        assert_eq!(takes(&entry("4.1.0.3930"), 150_000).as_deref(), Some("takes 2h: at that rate"));
        assert_eq!(takes(&entry("who knows"), 0), None);
    }
}
