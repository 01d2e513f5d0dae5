//! Open files: each viewer is one, and its origin session another.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Files that are open beside those of viewers: listeners, logs, admin connections.
const OTHERS: u64 = 128;
/// A viewer's own connection and the one to its origin.
const FILES_PER_VIEWER: u64 = 2;

/// Raises the soft limit of open files to the hard one, and warns where `viewers` do not fit into it.
pub(super) fn raise_open_files(viewers: u32) {
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                debug!(%error, soft, hard, "the limit of open files could not be raised");
                soft
            }
        },
        Ok((soft, _)) => soft,
        Err(error) => {
            debug!(%error, "the limit of open files is unknown");
            return;
        }
    };
    let fitting = limit.saturating_sub(OTHERS) / FILES_PER_VIEWER;
    if u64::from(viewers) > fitting {
        warn!(
            open_files = limit,
            fitting, "limits.viewers is {viewers}, but the limit of open files has room for {fitting} viewers"
        );
    }
}
