//! Open files: each viewer is one, and so is each session at an origin.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Files that are open beside those of viewers: listeners, logs, admin connections.
const OTHERS: u64 = 128;
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
    let fitting = fitting(limit, at_origins);
    if u64::from(viewers) > fitting {
        warn!(
            open_files = limit,
            fitting, "limits.viewers is {viewers}, but the limit of open files has room for {fitting} viewers"
        );
    }
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
