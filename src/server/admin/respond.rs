//! Responses: a status, a body that is whole, and the headers that keep browsers from doing more with it than they should.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::guard::Denial;

/// A response of the endpoint.
pub(super) type Answer = Response<Full<Bytes>>;

/// Styles of its own and nothing from anywhere; in nobody's frame.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// What every error says.
#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            respond(status, "application/json", body)
        }
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{error}\n")),
    }
}

/// An error as JSON.
pub(super) fn error(status: StatusCode, error: &str) -> Answer {
    json(status, &ErrorBody { error })
}

/// A request that was not let in.
pub(super) fn denied(denial: &Denial) -> Answer {
    let mut answer = error(denial.status(), &denial.to_string());
    if denial.status() == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mmsproxy\""));
    }
    answer
}

/// A path that is there, but not for this method.
pub(super) fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {allow}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// A line of text.
pub(super) fn line(status: StatusCode, text: impl std::fmt::Display) -> Answer {
    respond(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// Metrics as Prometheus reads them.
pub(super) fn metrics(text: String) -> Answer {
    respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// A page.
pub(super) fn html(text: String) -> Answer {
    respond(StatusCode::OK, "text/html; charset=utf-8", text)
}

/// Done, and nothing to say.
pub(super) fn no_content() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    answer
}
