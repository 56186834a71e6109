//! One server, over HTTP: what may be tried again, and when.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::Problem;
use super::{Note, RemoteError, Watcher};
use crate::clock::now;
use crate::task::Timestamp;

/// Pauses before a request is tried again, doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server that asks for more patience gets no more than this.
const PATIENCE_MAX: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection is left before the server closes it (after 5 s), so that no request meets one that is just going.
const IDLE_FOR: Duration = Duration::from_secs(3);

pub(super) struct Http {
    client: Client,
    /// Without a slash at its end.
    server: String,
    /// Nothing came back the last time.
    away: AtomicBool,
    watcher: Option<Watcher>,
}

/// A 2xx answer, read to its end.
pub(super) struct Reply {
    text: String,
    heard: Instant,
    /// The server's clock when it answered, to the second.
    date: Timestamp,
}

/// No 2xx answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A later try may do better, after this pause if the server named one.
    Later { why: String, after: Option<Duration> },
    /// The server said no.
    Refused { status: u16, problem: Problem },
}

impl Http {
    pub fn new(server: &str, token: Option<&str>, watcher: Option<Watcher>) -> Result<Self, RemoteError> {
        let url = address(server)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| RemoteError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // No proxy, no redirects: a token must not wander.
        let client = Client::builder()
            .user_agent(concat!("taskbell-worker/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_WITHIN)
            .pool_idle_timeout(IDLE_FOR)
            .build()
            .map_err(|error| RemoteError::Client(innermost(&error)))?;
        let server = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, server, away: AtomicBool::new(false), watcher })
    }

    /// Sends `body`; the answer is to come `within`.
    pub async fn post(&self, path: &str, body: &impl Serialize, within: Duration) -> Result<Reply, Trouble> {
        let answer = self.try_post(path, body, within).await;
        match &answer {
            Err(Trouble::Later { why, .. }) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(server = self.server, why, "the server can't be spoken to now; trying again");
                    self.say(&Note::Away { why });
                }
            }
            Ok(_) | Err(Trouble::Refused { .. }) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!(server = self.server, "the server answers again");
                    self.say(&Note::Back);
                }
            }
        }
        answer
    }

    pub fn say(&self, note: &Note<'_>) {
        if let Some(watcher) = &self.watcher {
            watcher(note);
        }
    }

    async fn try_post(&self, path: &str, body: &impl Serialize, within: Duration) -> Result<Reply, Trouble> {
        let request = self.client.post(format!("{}{path}", self.server)).json(body).timeout(within);
        let response = request.send().await.map_err(|error| lost(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|error| lost(&error))?;
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if status.is_success() {
            let date =
                header(DATE).and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
            let date = date.map_or_else(now, |date| Timestamp::from_micros(date.as_microsecond()));
            return Ok(Reply { text, heard: Instant::now(), date });
        }
        let after = header(RETRY_AFTER).and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
        let passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let problem: Option<Problem> = serde_json::from_str(&text).ok();
        let words = problem.as_ref().map_or_else(String::new, |problem| format!(": {}", problem.detail));
        match problem {
            _ if passing => Err(Trouble::Later { why: format!("it answered {}{words}", status.as_u16()), after }),
            Some(problem) => Err(Trouble::Refused { status: status.as_u16(), problem }),
            None => {
                let detail = format!("it answered {}, and not as a Taskbell server does", status.as_u16());
                let problem = Problem { code: "not_taskbell".to_owned(), detail, retryable: false };
                let kind = header(CONTENT_TYPE).unwrap_or_default();
                tracing::debug!(kind, "an answer that is no problem+json");
                Err(Trouble::Refused { status: status.as_u16(), problem })
            }
        }
    }
}

impl Reply {
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        serde_json::from_str(&self.text).map_err(|error| Trouble::Later {
            why: format!("its answer can't be read, is it a Taskbell server? {error}"),
            after: None,
        })
    }

    /// The server's `deadline` by our own clock, rather too early than too late: the two may differ by any amount.
    pub fn by_our_clock(&self, deadline: Timestamp) -> Instant {
        let left = deadline.since(self.date);
        // The date is cut to the second.
        self.heard + left.saturating_sub(Duration::from_secs(1)).max(left / 2)
    }
}

/// Pauses that grow, each with a jitter, so that a hundred workers don't come back together.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub const fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }

    /// Pauses, at least for `after`.
    pub async fn pause(&mut self, after: Option<Duration>) {
        let pause = self.0.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause.max(after.unwrap_or_default().min(PATIENCE_MAX))).await;
    }
}

fn address(server: &str) -> Result<Url, RemoteError> {
    let no = |why: &str| RemoteError::Address(format!("{server}: {why}"));
    let url = Url::parse(server).map_err(|error| no(&error.to_string()))?;
    match url.scheme() {
        "http" => {}
        "https" => return Err(no("this release speaks plain http only")),
        _ => return Err(no("an address like http://127.0.0.1:7070 is needed")),
    }
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if bare && url.password().is_none() { Ok(url) } else { Err(no("no name, query or fragment may stand in it")) }
}

fn lost(error: &reqwest::Error) -> Trouble {
    let why = if error.is_timeout() && !error.is_connect() {
        "it did not answer in time".to_owned()
    } else {
        innermost(error)
    };
    Trouble::Later { why, after: None }
}

/// The innermost reason: the layers above only repeat the address.
fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
