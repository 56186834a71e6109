//! Requests to one server over HTTP, and which failures may be retried.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::note::{Note, RemoteError, Watcher};
use super::wire::Problem;
use crate::task::backoff::{BackOff, with_jitter};

/// The pauses before a request is sent again.
pub(super) const RETRIES: BackOff = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Each pause is moved by up to this part of it, so that many workers don't come back together.
const JITTER: f64 = 0.25;
/// The longest `Retry-After` that is obeyed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer may take, beyond the time that the request lets the server wait.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A connection is closed before the server closes it (after 5 s), so that no request meets a connection that is closing.
const IDLE_FOR: Duration = Duration::from_secs(3);

pub(super) struct HttpClient {
    client: Client,
    /// Without a slash at its end.
    server: String,
    /// The last request had no answer.
    is_away: AtomicBool,
    watcher: Option<Watcher>,
}

/// A 2xx answer, read to its end.
pub(super) struct Reply {
    text: String,
    /// When its request was sent: the answer was sent no earlier.
    pub sent: Instant,
}

/// No 2xx answer.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The same request may succeed later, but not before this pause if the server named one.
    Retryable { why: String, after: Option<Duration> },
    /// The same request will be refused again.
    Refused { status: u16, problem: Problem },
}

impl HttpClient {
    pub fn new(server: &str, token: Option<&str>, watcher: Option<Watcher>) -> Result<Self, RemoteError> {
        let url = parse_address(server)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| RemoteError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // No proxy and no redirects: the token goes to this server only.
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
        Ok(Self { client, server, is_away: AtomicBool::new(false), watcher })
    }

    /// Sends `body`, and waits at most `within` for the answer.
    pub async fn post(&self, path: &str, body: &impl Serialize, within: Duration) -> Result<Reply, RequestError> {
        let answer = self.try_post(path, body, within).await;
        match &answer {
            Err(RequestError::Retryable { why, .. }) => {
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(server = self.server, why, "the server can't be spoken to now; trying again");
                    self.notify(&Note::Away { why });
                }
            }
            Ok(_) | Err(RequestError::Refused { .. }) => {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!(server = self.server, "the server answers again");
                    self.notify(&Note::Back);
                }
            }
        }
        answer
    }

    /// Passes a note on to the application.
    pub fn notify(&self, note: &Note<'_>) {
        if let Some(watcher) = &self.watcher {
            watcher(note);
        }
    }

    async fn try_post(&self, path: &str, body: &impl Serialize, within: Duration) -> Result<Reply, RequestError> {
        let request = self.client.post(format!("{}{path}", self.server)).json(body).timeout(within);
        let sent = Instant::now();
        let response = request.send().await.map_err(|error| no_answer(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|error| no_answer(&error))?;
        if status.is_success() { Ok(Reply { text, sent }) } else { Err(refusal(status, &headers, &text)) }
    }
}

impl Reply {
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        serde_json::from_str(&self.text).map_err(|error| RequestError::Retryable {
            why: format!("its answer can't be read, is it a Taskbell server? {error}"),
            after: None,
        })
    }
}

/// The pause before the next try, at least `after`.
pub(super) fn retry_pause(retries: &mut BackOff, after: Option<Duration>) -> Duration {
    let pause = with_jitter(retries.next_pause(), JITTER, fastrand::f64());
    pause.max(after.unwrap_or_default().min(RETRY_AFTER_MAX))
}

/// What an answer other than 2xx means. A problem says itself whether it may be retried; without one the status decides.
fn refusal(status: StatusCode, headers: &HeaderMap, text: &str) -> RequestError {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let problem: Option<Problem> = serde_json::from_str(text).ok();
    let is_passing =
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if problem.as_ref().and_then(|problem| problem.retryable).unwrap_or(is_passing) {
        let detail = problem.map_or_else(String::new, |problem| format!(": {}", problem.detail));
        let after = header(RETRY_AFTER).and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
        return RequestError::Retryable { why: format!("it answered {}{detail}", status.as_u16()), after };
    }
    let problem = problem.unwrap_or_else(|| {
        let kind = header(CONTENT_TYPE).unwrap_or_default();
        tracing::debug!(kind, "an answer that is no problem+json");
        let detail = format!("it answered {}, and not as a Taskbell server does", status.as_u16());
        Problem { code: "not_taskbell".to_owned(), detail, retryable: Some(false) }
    });
    RequestError::Refused { status: status.as_u16(), problem }
}

fn parse_address(server: &str) -> Result<Url, RemoteError> {
    let invalid = |why: &str| RemoteError::Address(format!("{server}: {why}"));
    let url = Url::parse(server).map_err(|error| invalid(&error.to_string()))?;
    match url.scheme() {
        "http" => {}
        "https" => return Err(invalid("this release speaks plain http only")),
        _ => return Err(invalid("an address like http://127.0.0.1:7070 is needed")),
    }
    let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if is_bare && url.password().is_none() {
        Ok(url)
    } else {
        Err(invalid("no name, query or fragment may stand in it"))
    }
}

fn no_answer(error: &reqwest::Error) -> RequestError {
    let why = if error.is_timeout() && !error.is_connect() {
        "it did not answer in time".to_owned()
    } else {
        innermost(error)
    };
    RequestError::Retryable { why, after: None }
}

/// The innermost reason: the errors around it only repeat the address.
fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
