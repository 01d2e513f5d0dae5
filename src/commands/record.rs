//! `mmsproxy record`: plays content at full fidelity into an ASF file.
//!
//! The file is valid whenever we look away: counts and index are brought up to date at every checkpoint, so neither a
//! Ctrl-C nor a kill -9 leaves anything that no player would open.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tracing::warn;

use super::signals::Signals;
use super::visit::{Answer, Visit};
use crate::asf::writer::WriterError;
use crate::asf::{Header, Writer};
use crate::cli::RecordArgs;
use crate::server::pipe::PipeCursor;
use crate::session::mmsp::client::Event;
use crate::session::{Cursor, End, Next, Opened, Packet};

/// How often the file is made valid.
const CHECKPOINT: Duration = Duration::from_secs(2);
/// How much faster than real time an origin is asked to send on-demand content; those of version 9 and later do.
const FASTER: u32 = 8;

/// Records until the content ends, `--for` is over, or Ctrl-C.
pub async fn record(args: &RecordArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("can't listen for signals")?;
    let mut visit = Visit::connect(&args.url, args.via.as_ref()).await?;
    let opened = match visit.open(&args.url).await? {
        Answer::Opened(opened) => opened,
        Answer::LoginRequired(scheme) => bail!("{} wants a login ({scheme}), which record can't give", args.url),
        Answer::Redirected(location) => bail!("{} is elsewhere: record {location} instead", args.url),
        Answer::Refused(why) => bail!("{}: {why}", args.url),
    };
    let mut recording = Recording::begin(&args.output, &opened)?;
    let (mut cursor, bell) = visit.play(&opened, FASTER)?;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let limit = args.duration;
    let ended = {
        let over = signals.end(limit);
        tokio::pin!(over);
        loop {
            if let Some(end) = recording.take_all(&mut cursor)? {
                break Some(end);
            }
            tokio::select! {
                () = &mut over => break None,
                () = bell.notified() => {}
                _ = tick.tick() => {}
                event = visit.upstream.next() => match event {
                    Ok(Event::Refused(refusal)) => bail!("{}: {refusal}", args.url),
                    Ok(_) => {}
                    Err(error) => {
                        recording.take_all(&mut cursor)?;
                        break Some(End::Failed(error.refusal()));
                    }
                },
            }
        }
    };
    visit.close().await;
    recording.finish()?;
    match ended {
        Some(End::Failed(refusal)) => bail!("the recording ends early: {refusal}"),
        Some(End::Complete) | None => Ok(()),
    }
}

/// The file that is being written, and the bar.
struct Recording {
    path: PathBuf,
    /// Entries of a playlist after the first go into files of their own.
    entry: u32,
    writer: Writer<BufWriter<File>>,
    bar: ProgressBar,
    first_send_time: Option<u32>,
    bytes: u64,
    checkpoint: Instant,
}

impl Recording {
    fn begin(path: &Path, opened: &Opened) -> anyhow::Result<Self> {
        let seconds = opened.description.duration_seconds;
        let bar = if seconds > 0.0 {
            let style = "{elapsed_precise} [{bar:40}] {percent}% {msg}";
            ProgressBar::new((seconds * 1e3) as u64).with_style(ProgressStyle::with_template(style)?)
        } else {
            ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}")?)
        };
        Ok(Self {
            path: path.to_owned(),
            entry: 1,
            writer: create(path, &opened.header)?,
            bar,
            first_send_time: None,
            bytes: 0,
            checkpoint: Instant::now(),
        })
    }

    /// Writes what has come; says how it ended, once it has.
    fn take_all(&mut self, cursor: &mut PipeCursor) -> anyhow::Result<Option<End>> {
        loop {
            match cursor.next() {
                Next::Packet(packet) => self.push(&packet)?,
                Next::Skipped { packets, .. } | Next::Lost { packets } => warn!(packets, "packets are missing"),
                Next::Resumed => warn!("packets are missing"),
                Next::Changed(header) => self.next_entry(&header)?,
                Next::Ended(end) => return Ok(Some(end)),
                Next::Nothing => break,
            }
        }
        if self.checkpoint.elapsed() >= CHECKPOINT {
            self.checkpoint = Instant::now();
            self.writer.checkpoint().with_context(|| format!("can't write {}", self.path.display()))?;
        }
        Ok(None)
    }

    fn push(&mut self, packet: &Packet) -> anyhow::Result<()> {
        match self.writer.push(&packet.bytes) {
            Ok(()) => {}
            // Nothing of it was written; the rest is worth having.
            Err(WriterError::Packet(error)) => warn!(number = packet.number.0, %error, "a packet was left out"),
            Err(error) => return Err(error).with_context(|| format!("can't write {}", self.path.display())),
        }
        self.bytes += packet.bytes.len() as u64;
        let first = *self.first_send_time.get_or_insert(packet.send_time_ms);
        self.bar.set_position(u64::from(packet.send_time_ms.wrapping_sub(first)));
        self.bar.set_message(format!("{:.1} MB, {} packets", self.bytes as f64 / 1e6, self.writer.packet_count()));
        Ok(())
    }

    /// `talk.asf` goes on as `talk-2.asf`: another header is another file.
    fn next_entry(&mut self, header: &Header) -> anyhow::Result<()> {
        self.entry += 1;
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem.strip_suffix(&format!("-{}", self.entry - 1)).unwrap_or(&stem);
        let mut name = format!("{stem}-{}", self.entry);
        if let Some(extension) = self.path.extension() {
            name = format!("{name}.{}", extension.to_string_lossy());
        }
        let path = self.path.with_file_name(name);
        let writer = create(&path, header)?;
        let before = std::mem::replace(&mut self.writer, writer);
        before.finish().with_context(|| format!("can't write {}", self.path.display()))?;
        self.bar.suspend(|| println!("{}: complete; the next entry goes to {}", self.path.display(), path.display()));
        self.path = path;
        self.first_send_time = None;
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        let packets = self.writer.packet_count();
        let written = || format!("can't write {}", self.path.display());
        let out = self.writer.finish().with_context(written)?;
        let file = out.into_inner().map_err(|error| error.into_error()).with_context(written)?;
        file.sync_all().with_context(written)?;
        self.bar.finish_and_clear();
        println!("{}: {packets} packets, {:.1} MB", self.path.display(), self.bytes as f64 / 1e6);
        Ok(())
    }
}

fn create(path: &Path, header: &Header) -> anyhow::Result<Writer<BufWriter<File>>> {
    let file = File::create(path).with_context(|| format!("can't create {}", path.display()))?;
    Writer::new(BufWriter::new(file), header).with_context(|| format!("can't write {}", path.display()))
}
