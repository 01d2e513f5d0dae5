//! `GET /api/v1/origins`: the origins that were asked, and what is known of each.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::api::rfc3339;
use crate::server::health::{Authority, Known, Reach};
use crate::server::relay::Relay;
use crate::session::AuthScheme;

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct OriginList {
    pub(super) origins: Vec<OriginRow>,
}

/// One origin.
#[derive(Clone, Debug, Serialize)]
pub(super) struct OriginRow {
    pub(super) host: String,
    pub(super) port: u16,
    /// What the last attempt told: `unknown`, `trying`, `up` or `down`.
    pub(super) state: &'static str,
    /// RFC 3339: how long that is taken as true, and an origin that is down is not asked; null where the next to ask
    /// finds out.
    pub(super) until: Option<String>,
    /// Why it is down, else null.
    pub(super) why: Option<String>,
    /// `basic` or `ntlm`, as it announced; null where it announced none, or was never asked.
    pub(super) scheme: Option<&'static str>,
    /// Sessions that are open at it, or being opened.
    pub(super) sessions: usize,
    /// How many may be.
    pub(super) limit: usize,
}

impl OriginList {
    /// Whom `relay` asked, ordered by host and port; nobody where there is no relay.
    pub(super) fn of(relay: Option<&Relay>) -> Self {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let known = relay.map(|relay| relay.origins().known(now)).unwrap_or_default();
        Self { origins: known.into_iter().map(|origin| OriginRow::of(origin, wall)).collect() }
    }
}

impl OriginRow {
    fn of(((host, port), known): (Authority, Known), now: SystemTime) -> Self {
        let (state, holds, why) = match known.reach {
            Reach::Unknown => ("unknown", Duration::ZERO, None),
            Reach::Trying => ("trying", Duration::ZERO, None),
            Reach::Up { holds } => ("up", holds, None),
            Reach::Down { holds, why } => ("down", holds, Some(why.to_string())),
        };
        let until = if holds.is_zero() { None } else { now.checked_add(holds) };
        let scheme = known.scheme.map(|scheme| match scheme {
            AuthScheme::Basic => "basic",
            AuthScheme::Ntlm => "ntlm",
        });
        let (sessions, limit) = (known.sessions, known.limit);
        Self { host, port, state, until: until.map(rfc3339), why, scheme, sessions, limit }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::session::{Reason, Refusal};

    fn row(reach: Reach, scheme: Option<AuthScheme>) -> serde_json::Value {
        let known = Known { reach, scheme, sessions: 3, limit: 500 };
        let row = OriginRow::of((("ms.example".to_owned(), 1755), known), SystemTime::UNIX_EPOCH);
        serde_json::to_value(row).unwrap()
    }

    #[test]
    fn each_state_has_its_fields() {
        let all = |state, until, why, scheme| {
            json!({
                "host": "ms.example", "port": 1755, "state": state, "until": until, "why": why, "scheme": scheme,
                "sessions": 3, "limit": 500
            })
        };
        let none = || None::<&str>;
        assert_eq!(row(Reach::Unknown, None), all("unknown", none(), none(), none()));
        assert_eq!(row(Reach::Trying, Some(AuthScheme::Ntlm)), all("trying", none(), none(), Some("ntlm")));
        let holds = Duration::from_secs(2);
        let until = Some("1970-01-01T00:00:02.000Z");
        assert_eq!(row(Reach::Up { holds }, Some(AuthScheme::Basic)), all("up", until, none(), Some("basic")));
        let why = Refusal::new(Reason::Unreachable, "nobody there");
        let down = Reach::Down { holds, why: why.clone() };
        assert_eq!(row(down, None), all("down", until, Some("nobody there"), none()));
        // Its time is over: it is still what was heard last, and nothing is kept from asking.
        let down = Reach::Down { holds: Duration::ZERO, why };
        assert_eq!(row(down, None), all("down", none(), Some("nobody there"), none()));
    }
}
