//! The access log: a line for each play that ended, and for each request for content that was refused.
//!
//! Lines are made and written by a thread of their own behind a bounded queue, so that a disk that is slow or full
//! costs lines, which are counted, and never a viewer's time.
//!
//! - [`record`]: what a line tells
//! - `w3c`, `json`: how it looks; `text`: what others say, made harmless
//! - `sink`: the file

mod json;
pub mod record;
mod sink;
mod text;
mod w3c;

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing::{error, info, warn};

use self::record::Record;
use self::sink::Sink;
use crate::wire::mmsp::client_log::ClientLog;

/// Lines that may wait: what comes when many viewers are let go at once, and some megabytes at most.
const MAX_WAITING: usize = 4096;
/// Lines that go out in one write.
const MAX_BATCH: usize = 64;

/// How lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// The extended log format, with the fields of Windows Media Services.
    W3c,
    /// An object a line.
    Json,
}

/// The access log. When it is dropped, what waits is still written.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Rung when there is something to do.
    work: Condvar,
    /// Rung when all is written.
    idle: Condvar,
    /// Lines that are lost.
    errors: IntCounter,
    /// Lines are being lost, and the operator knows.
    is_told: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    is_reopening: bool,
    is_closing: bool,
    /// Some that were taken out are not written yet.
    is_writing: bool,
    /// Some found no place since lines were taken out last.
    has_overflown: bool,
}

/// What the writer is to do next.
#[derive(Debug, Default)]
struct Work {
    records: Vec<Record>,
    is_reopening: bool,
    has_overflown: bool,
}

impl AccessLog {
    /// Opens a log that is appended to; `-` is standard output. Lines that are lost count into `errors`.
    pub fn open(path: &Path, format: Format, errors: IntCounter) -> io::Result<Self> {
        let sink = Sink::open(path)?;
        let shared = Arc::new(Shared::new(errors));
        let writer = Writer { shared: Arc::clone(&shared), sink, format, wants_header: true };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared })
    }

    /// Hands a line over; never waits.
    pub fn write(&self, record: Record) {
        let mut queue = self.shared.queue.lock();
        if queue.records.len() < MAX_WAITING {
            queue.records.push_back(record);
            drop(queue);
            self.shared.work.notify_one();
            return;
        }
        queue.has_overflown = true;
        drop(queue);
        self.shared.lose(1, &"they come faster than they can be written");
    }

    /// Opens the file again, once what waits is written: who rotates logs has moved it away.
    pub fn reopen(&self) {
        self.shared.queue.lock().is_reopening = true;
        self.shared.work.notify_one();
    }

    /// Waits until all is written, `within` at most; returns whether it is. Blocks its thread.
    pub fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now().checked_add(within);
        let mut queue = self.shared.queue.lock();
        while !queue.records.is_empty() || queue.is_reopening || queue.is_writing {
            let Some(deadline) = deadline else { return false };
            if self.shared.idle.wait_until(&mut queue, deadline).timed_out() {
                return false;
            }
        }
        true
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.queue.lock().is_closing = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn new(errors: IntCounter) -> Self {
        Self {
            // The header comes first.
            queue: Mutex::new(Queue { is_writing: true, ..Queue::default() }),
            work: Condvar::new(),
            idle: Condvar::new(),
            errors,
            is_told: AtomicBool::new(false),
        }
    }

    /// What is to be done next; `None` where the log is closed and all is written.
    fn wait(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        queue.is_writing = false;
        while queue.records.is_empty() && !queue.is_reopening {
            self.idle.notify_all();
            if queue.is_closing {
                return None;
            }
            self.work.wait(&mut queue);
        }
        queue.is_writing = true;
        let count = queue.records.len().min(MAX_BATCH);
        let records = queue.records.drain(..count).collect();
        // What was over when the file was moved belongs into the old one.
        let is_reopening = queue.records.is_empty() && std::mem::take(&mut queue.is_reopening);
        Some(Work { records, is_reopening, has_overflown: std::mem::take(&mut queue.has_overflown) })
    }

    fn lose(&self, lines: u64, why: &dyn Display) {
        self.errors.inc_by(lines);
        if lines > 0 && !self.is_told.swap(true, Ordering::AcqRel) {
            warn!(%why, "lines of the access log are lost (mmsproxy_access_log_errors_total)");
        }
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    format: Format,
    /// A file was opened, and nothing was written yet.
    wants_header: bool,
}

impl Writer {
    fn run(mut self) {
        // The header stands there from the start, for who looks whether there is a log.
        self.write(&[]);
        while let Some(work) = self.shared.wait() {
            let is_written = self.write(&work.records);
            if is_written && !work.has_overflown && self.shared.is_told.swap(false, Ordering::AcqRel) {
                info!(lost = self.shared.errors.get(), "the access log is written again");
            }
            if work.is_reopening {
                self.reopen();
            }
        }
    }

    /// Returns whether all of it is written.
    fn write(&mut self, records: &[Record]) -> bool {
        let mut lines = String::new();
        for record in records {
            let report = record.report.as_ref().and_then(|report| ClientLog::decode(report.as_bytes()).ok());
            lines.push_str(&match self.format {
                Format::W3c => w3c::line(record, report.as_ref()),
                Format::Json => json::line(record, report.as_ref()),
            });
        }
        if let Err(lost) = self.write_header() {
            self.shared.lose(u64::try_from(records.len()).unwrap_or(u64::MAX), &lost.error);
            return false;
        }
        match self.sink.write(lines.as_bytes()) {
            Ok(()) => true,
            Err(lost) => {
                self.shared.lose(lost.lines, &lost.error);
                false
            }
        }
    }

    fn write_header(&mut self) -> Result<(), sink::Lost> {
        if self.wants_header && self.format == Format::W3c {
            self.sink.write(w3c::header(SystemTime::now()).as_bytes())?;
        }
        self.wants_header = false;
        Ok(())
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(is_another) => {
                self.wants_header |= is_another;
                self.write(&[]);
            }
            Err(error) => error!(%error, "the access log can't be opened again, the file before stays"),
        }
    }
}

/// The time within the years that dates can tell, 1970 to 9999: a clock that was never set must not end a log.
fn in_calendar(time: SystemTime) -> SystemTime {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::record::testing::{client_log, record, report};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn errors() -> IntCounter {
        IntCounter::new("errors", "errors").unwrap()
    }

    fn numbered(session_id: u64) -> Record {
        let mut record = record();
        Arc::make_mut(&mut record.who).session_id = session_id;
        record
    }

    #[test]
    fn lines_follow_the_header_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::open(&path, Format::W3c, errors()).unwrap();
        (0..200).for_each(|number| log.write(numbered(number)));
        assert!(log.flush(PATIENCE));
        let text = fs::read_to_string(&path).unwrap();
        let (header, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
        assert_eq!((header.len(), lines.len()), (4, 200));
        let numbers = lines.iter().map(|line| line.split(' ').nth(45).unwrap().parse::<u64>().unwrap());
        assert!(numbers.eq(0..200));
    }

    #[test]
    fn a_moved_file_keeps_what_was_over_and_the_new_one_has_its_own_header() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let log = AccessLog::open(&path, Format::W3c, errors()).unwrap();
        assert!(log.flush(PATIENCE));
        fs::rename(&path, &moved).unwrap();
        log.write(numbered(1));
        log.reopen();
        assert!(log.flush(PATIENCE));
        log.write(numbered(2));
        assert!(log.flush(PATIENCE));
        let lines = |path| fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (5, 5));
    }

    #[test]
    fn json_has_no_header_and_tells_of_the_report() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::open(&path, Format::Json, errors()).unwrap();
        log.write(Record { report: report(&client_log()), ..record() });
        drop(log);
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            let text = fs::read_to_string(&path).unwrap();
            if text.ends_with('\n') {
                break text;
            }
            assert!(Instant::now() < deadline, "what waited when it was dropped is never written");
            thread::yield_now();
        };
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["report"]["packets_received"], 64);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_costs_lines_and_no_time() {
        let errors = errors();
        let log = AccessLog::open(Path::new("/dev/full"), Format::Json, errors.clone()).unwrap();
        (0..100).for_each(|number| log.write(numbered(number)));
        assert!(log.flush(PATIENCE));
        assert_eq!(errors.get(), 100);
        assert!(log.shared.is_told.load(Ordering::Acquire));
    }

    #[test]
    fn what_finds_no_place_is_counted() {
        // Nobody takes anything out here.
        let errors = errors();
        let log = AccessLog { shared: Arc::new(Shared::new(errors.clone())) };
        (0..MAX_WAITING).for_each(|_| log.write(record()));
        assert_eq!(errors.get(), 0);
        log.write(record());
        assert_eq!(errors.get(), 1);
        assert!(!log.flush(Duration::ZERO));
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let error = AccessLog::open(&directory.path().join("no/access.log"), Format::W3c, errors()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn dates_stay_in_the_calendar() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        for (time, year) in [(SystemTime::UNIX_EPOCH - PATIENCE, "1970"), (far, "9999")] {
            assert!(humantime::format_rfc3339_millis(in_calendar(time)).to_string().starts_with(year));
        }
    }
}
