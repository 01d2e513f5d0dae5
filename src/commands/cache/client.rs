//! The admin endpoint of a running proxy, as the commands ask it.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::AdminArgs;
use crate::content::HostPort;
use crate::server::admin::cache::{CacheList, EntryRow};

/// Asks; each question has a connection of its own.
#[derive(Clone, Debug)]
pub(super) struct Client {
    at: HostPort,
    port: u16,
    token: Option<String>,
}

/// What the endpoint says where it does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    error: String,
}

const CONNECT: Duration = Duration::from_secs(5);
/// A disk that is listed or checked takes its time.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest answer, bytes: a list of some hundred thousand entries.
const LONGEST: usize = 256 * 1024 * 1024;

impl Client {
    pub(super) fn new(args: &AdminArgs) -> anyhow::Result<Self> {
        let read = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("can't read {} (--token-file)", path.display()))
        };
        let token = args.token_file.as_ref().map(read).transpose()?.map(|token| token.trim().to_owned());
        Ok(Self { at: args.admin.0.clone(), port: args.admin.port(), token })
    }

    /// The JSON at a path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    /// The answer to a change.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> anyhow::Result<T> {
        self.json(Method::POST, path, body).await
    }

    /// The answer to a removal.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(Method::DELETE, path, Bytes::new()).await
    }

    /// One entry, if it is there.
    pub(super) async fn entry(&self, url: &str) -> anyhow::Result<Option<EntryRow>> {
        let list: CacheList = self.get(&format!("/api/v1/cache?{}", query(&[("url", url)]))).await?;
        Ok(list.entries.into_iter().next())
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let answer = self.send(method, path, body).await?;
        let body = timeout(ANSWER, Limited::new(answer.into_body(), LONGEST).collect()).await;
        let body = body.context("the proxy's answer takes too long")?;
        let body = body.map_err(|error| anyhow::anyhow!("the proxy's answer breaks off: {error}"))?;
        serde_json::from_slice(&body.to_bytes()).context("the proxy's answer makes no sense")
    }

    /// A body that is read as it comes.
    pub(super) async fn stream(&self, path: &str) -> anyhow::Result<Incoming> {
        Ok(self.send(Method::GET, path, Bytes::new()).await?.into_body())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        let at = HostPort { host: self.at.host.clone(), port: Some(self.port) };
        let connect = TcpStream::connect((self.at.host.as_str(), self.port));
        let stream = match timeout(CONNECT, connect).await {
            Ok(stream) => stream.with_context(|| format!("no proxy answers at http://{at} (--admin)"))?,
            Err(_) => bail!("no proxy answers at http://{at} within {CONNECT:?} (--admin)"),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer, or with whoever reads it.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, at.to_string());
        request = request.header(CONNECTION, "close");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = timeout(ANSWER, sender.send_request(request.body(Full::new(body))?)).await;
        let answer = answer.with_context(|| format!("http://{at} does not answer"))?;
        let answer = answer.with_context(|| format!("http://{at} speaks no HTTP"))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refused(answer).await.into())
    }
}

async fn refused(answer: Response<Incoming>) -> Refused {
    #[derive(Deserialize)]
    struct Said {
        error: String,
    }
    let status = answer.status();
    let body = timeout(ANSWER, Limited::new(answer.into_body(), LONGEST).collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let said = serde_json::from_slice::<Said>(&body).map(|said| said.error);
    Refused { status, error: said.unwrap_or_else(|_| format!("the proxy answers {status}")) }
}

/// Names and values behind a `?`.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    pairs.join("&")
}

fn escaped(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    value.bytes().fold(String::with_capacity(value.len()), |mut text, byte| {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_query_is_escaped() {
        assert_eq!(
            query(&[("url", "mms://h/a b?x=1&y=é+%"), ("prefix", "true")]),
            "url=mms://h/a%20b%3Fx%3D1%26y%3D%C3%A9%2B%25&prefix=true"
        );
    }
}
