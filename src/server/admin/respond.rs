//! Responses: a status, a body that is whole or comes in pieces, and the headers that keep browsers from doing more with it than they should.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Progress;
use super::guard::Denial;

/// A response of the endpoint.
pub(super) type Answer = Response<Either<Full<Bytes>, Pieces>>;

/// A body that is sent while it is read. An error in the middle ends the connection, so nobody takes it for whole.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    progress: Progress,
}

impl Pieces {
    /// Those that come out of `pieces`; `progress` counts them.
    pub(super) fn new(pieces: mpsc::Receiver<io::Result<Bytes>>, progress: Progress) -> Self {
        Self { pieces, progress }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.pieces.poll_recv(context);
        if piece.is_ready() {
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

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
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// A body that comes in pieces.
pub(super) fn pieces(content_type: &'static str, pieces: Pieces) -> Answer {
    with_headers(StatusCode::OK, content_type, Either::Right(pieces))
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    with_headers(status, content_type, Either::Left(Full::new(body.into())))
}

fn with_headers(status: StatusCode, content_type: &'static str, body: Either<Full<Bytes>, Pieces>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    answer
}
