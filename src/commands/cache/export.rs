//! `mmsproxy cache export`: an entry as a file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http_body_util::BodyExt;

use super::{Place, client};
use crate::cache::Export;
use crate::cli::ExportArgs;

/// Writes beside the file and renames: it is there whole, or not at all.
pub(super) async fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let url = &args.url;
    let place = Place::open(&args.place)?;
    let hint = if args.partial { "" } else { "; --partial takes what is there" };
    match place {
        Place::Proxy(client) => {
            let partial = if args.partial { "true" } else { "false" };
            let query = client::query(&[("url", url), ("partial", partial)]);
            let body = client.stream(&format!("/api/v1/cache/export?{query}")).await;
            let mut body = body.map_err(|error| match error.downcast_ref::<client::Refused>() {
                Some(refused) if refused.status == hyper::StatusCode::CONFLICT => {
                    error.context(format!("{url} is not complete{hint}"))
                }
                _ => error,
            })?;
            let mut output = Output::create(&args.output)?;
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the proxy breaks off")?;
                if let Some(piece) = frame.data_ref() {
                    output.write(piece)?;
                }
            }
            output.finish()
        }
        Place::Directory(offline) => {
            let Some(found) = offline.find(url)? else { bail!("{url} is not in the cache") };
            let export = Export::new(&found, args.partial).with_context(|| format!("{url} can't be exported{hint}"))?;
            let mut output = Output::create(&args.output)?;
            export.write(|piece| output.file.write_all(&piece)).with_context(|| output.failed())?;
            output.finish()
        }
    }
}

/// A file that is being written.
struct Output {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    is_finished: bool,
}

impl Output {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let mut name = path.file_name().with_context(|| format!("{} is no file", path.display()))?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).with_context(|| format!("can't create {}", temporary.display()))?;
        Ok(Self { path: path.to_owned(), temporary, file, is_finished: false })
    }

    fn write(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(piece).with_context(|| self.failed())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.publish().with_context(|| self.failed())?;
        println!("{}: {}", self.path.display(), super::table::size(self.file.metadata()?.len()));
        Ok(())
    }

    fn publish(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        self.is_finished = true;
        Ok(())
    }

    fn failed(&self) -> String {
        format!("{} can't be written", self.path.display())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_finished {
            // Of no use to anybody.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
