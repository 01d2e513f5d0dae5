//! Entries that are sent while they are read: as an ASF file, and as a digest of each packet. A thread that may block reads
//! ahead of the connection by a few pieces; when the connection ends, so does it.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tracing::{debug, error};

use super::{Kept, no_url};
use crate::asf::Header;
use crate::cache::disk::Found;
use crate::cache::{Export, ExportError, Hold, Packets, PacketsError, digest};
use crate::server::admin::Progress;
use crate::server::admin::query::parameter;
use crate::server::admin::respond::{self, Answer, Pieces};

/// Pieces that wait for the connection.
const AHEAD: usize = 2;
/// Bytes of a piece of digests.
const PIECE: usize = 64 * 1024;

type Taker = mpsc::Sender<io::Result<Bytes>>;

/// What can be sent, once it is known that it can.
type Sending = Box<dyn FnOnce(&Taker) -> io::Result<()> + Send>;

/// Why nothing is sent.
type Refusal = (StatusCode, String);

/// `GET /api/v1/cache/export`.
pub(super) async fn export(kept: Kept, places: &Arc<Semaphore>, query: Option<&str>, progress: &Progress) -> Answer {
    let is_partial = matches!(parameter(query, "partial").as_deref(), Some("true" | "1" | ""));
    stream(kept, places, query, progress, "video/x-ms-asf", move |found| {
        let export = Export::new(found, is_partial).map_err(|error| match error {
            ExportError::Incomplete { .. } | ExportError::Empty => (StatusCode::CONFLICT, error.to_string()),
            error => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        })?;
        Ok(Box::new(move |taker| export.write(|piece| hand_on(taker, piece)).map_err(io::Error::other)))
    })
    .await
}

/// `GET /api/v1/cache/digests`: a line with the digest of the header, then one for each number of which something is known,
/// in order: its digest, or `absent`.
pub(super) async fn digests(kept: Kept, places: &Arc<Semaphore>, query: Option<&str>, progress: &Progress) -> Answer {
    stream(kept, places, query, progress, "text/plain; charset=utf-8", |found| {
        let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error);
        let header = Header::parse(found.meta.header.clone()).map_err(|error| failed(error.to_string()))?;
        let packets = Packets::of(found).map_err(|error| failed(error.to_string()))?;
        Ok(Box::new(move |taker| {
            let mut lines = format!("header {}\n", hex(&digest(header.bytes())));
            let listed = packets.each(|number, packet| {
                // Writing to a String never fails.
                let _ = match packet {
                    Some(packet) => writeln!(lines, "{number} {}", hex(&digest(&packet))),
                    None => writeln!(lines, "{number} absent"),
                };
                if lines.len() >= PIECE {
                    hand_on(taker, std::mem::take(&mut lines).into())?;
                }
                Ok::<(), PacketsError>(())
            });
            listed.map_err(io::Error::other)?;
            hand_on(taker, lines.into())
        }))
    })
    .await
}

/// Looks an entry up and sends what `prepare` makes of it, or says why not.
async fn stream(
    kept: Kept,
    places: &Arc<Semaphore>,
    query: Option<&str>,
    progress: &Progress,
    content_type: &'static str,
    prepare: impl FnOnce(&Found) -> Result<Sending, Refusal> + Send + 'static,
) -> Answer {
    let Some(url) = parameter(query, "url").filter(|url| !url.is_empty()) else { return no_url() };
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return respond::error(StatusCode::TOO_MANY_REQUESTS, "others read the cache already: ask again in a while");
    };
    let (taker, pieces) = mpsc::channel(AHEAD);
    let (say, said) = oneshot::channel();
    spawn_blocking(move || {
        let begun = begin(&kept, &url, prepare);
        match begun {
            Ok((hold, sending)) => {
                // Whoever asked may be gone.
                if say.send(Ok(())).is_ok() {
                    send(&taker, sending, hold, place);
                }
            }
            Err(refusal) => drop(say.send(Err(refusal))),
        }
    });
    match said.await {
        Ok(Ok(())) => respond::pieces(content_type, Pieces::new(pieces, Arc::clone(progress))),
        Ok(Err((status, error))) => respond::error(status, &error),
        Err(_) => respond::error(StatusCode::INTERNAL_SERVER_ERROR, "the cache could not be read"),
    }
}

fn begin(
    kept: &Kept,
    url: &str,
    prepare: impl FnOnce(&Found) -> Result<Sending, Refusal>,
) -> Result<(Hold, Sending), Refusal> {
    let not_kept = || (StatusCode::NOT_FOUND, format!("{url} is not in the cache"));
    let key = kept.find(url).ok_or_else(not_kept)?;
    let settled = kept.cache.settled(&key).map_err(|error| {
        error!(%error, "the cache can't be read");
        (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })?;
    let (hold, found) = settled.ok_or_else(not_kept)?;
    let sending = prepare(&found).map_err(|(status, error)| (status, format!("{url}: {error}")))?;
    Ok((hold, sending))
}

/// To the end, or to an error, which ends the connection: a piece is missing then.
fn send(taker: &Taker, sending: Sending, _hold: Hold, _place: OwnedSemaphorePermit) {
    if let Err(error) = sending(taker) {
        debug!(%error, "an entry was not read to its end");
        let _ = taker.blocking_send(Err(error));
    }
}

fn hand_on(taker: &Taker, piece: Bytes) -> io::Result<()> {
    taker.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
