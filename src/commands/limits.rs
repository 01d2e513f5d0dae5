//! Open files: each viewer is one, and so is each session at an origin.

use std::io;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::close;
use tracing::{debug, warn};

/// Files that are open beside those of viewers: listeners, logs, admin connections.
const OTHERS: u64 = 128;
/// Files that room is made for in advance, at most: half a MiB in the kernel.
const MOST_ROOM: i32 = 1 << 16;

/// Raises the soft limit of open files to the hard one, and warns where `viewers` do not fit into it beside as many
/// sessions at origins as there may be; no viewer has more than one of its own.
pub(super) fn raise_open_files(viewers: u32, at_origins: u64) {
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
    let files = limit.min(at_origins.saturating_add(viewers.into()).saturating_add(OTHERS));
    if let Err(error) = make_room(files) {
        debug!(%error, files, "no room could be made for open files in advance");
    }
    let fitting = fitting(limit, at_origins);
    if u64::from(viewers) > fitting {
        warn!(
            open_files = limit,
            fitting, "limits.viewers is {viewers}, but the limit of open files has room for {fitting} viewers"
        );
    }
}

/// Lets the kernel's table of our files grow to `files` now, while nobody waits. It grows by doubling, and each time whoever
/// opened the file that was too many, which is who accepts viewers, stands still until every core has been elsewhere once:
/// some 20 ms in which nobody gets in.
///
/// # Errors
/// The limit of open files is lower, or there is no memory.
pub fn make_room(files: u64) -> io::Result<()> {
    let last = i32::try_from(files).unwrap_or(i32::MAX).min(MOST_ROOM) - 1;
    // Any file would do, and need not be open longer than this.
    Ok(fcntl(io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(last)).and_then(close)?)
}

/// How many viewers `limit` files have room for.
fn fitting(limit: u64, at_origins: u64) -> u64 {
    let left = limit.saturating_sub(OTHERS);
    left.saturating_sub(at_origins).max(left / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_and_sessions_at_origins_share_the_files() {
        assert_eq!(fitting(OTHERS + 20_000, 500), 19_500);
        assert_eq!(fitting(OTHERS + 1000, 500), 500);
        // Each viewer has a session of its own at most.
        assert_eq!(fitting(OTHERS + 1000, u64::MAX), 500);
        assert_eq!(fitting(10, 500), 0);
    }
}
