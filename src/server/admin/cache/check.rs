//! `POST /api/v1/cache/verify`: reads files for a while, and says where to go on.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{Kept, blocking, not_kept};
use crate::cache::{Place, Report};
use crate::server::admin::query::parameter;
use crate::server::admin::respond::{self, Answer};

/// The answer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Checked {
    /// Entries of which anything was looked at.
    pub entries: u64,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Vec<Wrong>,
    /// To be given as `from` for what is left; null where that was all.
    pub next: Option<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Wrong {
    /// Of which entry; null where that can't be told any more.
    pub url: Option<String>,
    /// What.
    pub error: String,
}

impl From<Report> for Checked {
    fn from(report: Report) -> Self {
        let wrong =
            |fault: crate::cache::Fault| Wrong { url: fault.key.map(|key| format!("mms://{key}")), error: fault.error };
        Self {
            entries: report.entries,
            files: report.files,
            bytes: report.bytes,
            faults: report.faults.into_iter().map(wrong).collect(),
            next: report.next.map(|place| place.to_string()),
        }
    }
}

/// How long files are read for one answer: less than a connection lasts.
const AT_ONCE: Duration = Duration::from_secs(10);

pub(super) async fn answer(kept: Kept, query: Option<&str>) -> Answer {
    let url = parameter(query, "url").filter(|url| !url.is_empty());
    let from = match parameter(query, "from").map(|from| from.parse::<Place>()).transpose() {
        Ok(from) => from,
        Err(error) => return respond::error(StatusCode::BAD_REQUEST, &format!("from: {error}")),
    };
    blocking(move || {
        let key = url.as_ref().map(|url| kept.find(url));
        if let (Some(url), Some(None)) = (&url, &key) {
            return not_kept(url);
        }
        let only = key.flatten();
        let wants = |key: &str| only.as_ref().is_none_or(|only| only == key);
        let begun = Instant::now();
        match Report::of(kept.cache.store(), wants, from.as_ref(), || begun.elapsed() < AT_ONCE) {
            Ok(report) => respond::json(StatusCode::OK, &Checked::from(report)),
            Err(error) => {
                error!(%error, "the cache can't be read");
                respond::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
            }
        }
    })
    .await
}
