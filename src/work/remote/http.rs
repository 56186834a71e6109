//! Sends requests to one server over HTTP, and decides which failures may be retried.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::event::{EventCallback, RemoteError, WorkerEvent};
use super::protocol::ServerProblem;
use super::token::WorkerToken;
use crate::task::backoff::{BackOff, with_jitter};
use crate::tls::client::{Trust, client_config};

/// The pauses before a request is sent again.
pub(super) const RETRIES: BackOff = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Each pause is lengthened or shortened by up to this fraction of it, so that many workers don't repeat their requests
/// at the same time.
const JITTER: f64 = 0.25;
/// The longest pause that a header `Retry-After` can cause.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a response may take, in addition to the time that the request lets the server wait.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is closed after this time. The server closes it after 5 s; a request that is sent at that moment would
/// fail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The status of a response to a request whose token is not accepted.
const UNAUTHORIZED: u16 = StatusCode::UNAUTHORIZED.as_u16();

pub(super) struct HttpClient {
    client: Client,
    /// The server's address, without a slash at its end.
    server: String,
    token: WorkerToken,
    /// Whether the last request got no usable response.
    is_unreachable: AtomicBool,
    on_event: Option<EventCallback>,
}

/// A complete response with a 2xx status.
pub(super) struct ServerResponse {
    text: String,
    /// When the request was sent. The server has sent the response later than this.
    pub sent: Instant,
}

/// A request got no response with a 2xx status.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The same request may succeed later. `after` is the pause that the server has requested, if any.
    Retryable { reason: String, after: Option<Duration> },
    /// The same request will be refused again.
    Refused { status: u16, problem: ServerProblem },
}

impl HttpClient {
    pub fn new(
        server: &str,
        token: WorkerToken,
        ca_file: Option<&Path>,
        on_event: Option<EventCallback>,
    ) -> Result<Self, RemoteError> {
        let url = parse_address(server)?;
        let tls = client_config(Trust::for_url(url.as_str(), ca_file))
            .map_err(|error| RemoteError::CaFile(error.to_string()))?;
        // No proxy and no redirects: the token goes to this server only.
        let client = Client::builder()
            .user_agent(concat!("taskbell-worker/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build()
            .map_err(|error| RemoteError::Client(innermost_message(&error)))?;
        let server = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, server, token, is_unreachable: AtomicBool::new(false), on_event })
    }

    /// Sends `body`, and waits at most `timeout` for the response. Reports to the application when the server becomes
    /// unreachable and when it responds again.
    pub async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<ServerResponse, RequestError> {
        let result = self.try_post(path, body, timeout).await;
        match &result {
            Err(RequestError::Retryable { reason, .. }) => {
                if !self.is_unreachable.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        server = self.server,
                        reason,
                        "the server can't be reached; the request is repeated"
                    );
                    self.notify(&WorkerEvent::Unreachable { reason });
                }
            }
            Ok(_) | Err(RequestError::Refused { .. }) => {
                if self.is_unreachable.swap(false, Ordering::Relaxed) {
                    tracing::info!(server = self.server, "the server responds again");
                    self.notify(&WorkerEvent::Reconnected);
                }
            }
        }
        result
    }

    /// Sends an event to the application.
    pub fn notify(&self, event: &WorkerEvent<'_>) {
        if let Some(on_event) = &self.on_event {
            on_event(event);
        }
    }

    /// Sends `body`. If the server refuses the token, and the token's file holds another one meanwhile, sends it once more.
    async fn try_post(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<ServerResponse, RequestError> {
        let token = self.token.header();
        let result = self.send(path, body, timeout, token.clone()).await;
        let Err(RequestError::Refused { status: UNAUTHORIZED, .. }) = result else { return result };
        match self.token.next_header(token.as_ref()) {
            Ok(Some(next)) => {
                tracing::info!(
                    server = self.server,
                    "the token is refused; the worker goes on with the next one in its file"
                );
                self.send(path, body, timeout, Some(next)).await
            }
            Ok(None) => result,
            Err(error) => Err(RequestError::Retryable { reason: error.to_string(), after: None }),
        }
    }

    async fn send(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
        token: Option<HeaderValue>,
    ) -> Result<ServerResponse, RequestError> {
        let headers = HeaderMap::from_iter(token.map(|token| (AUTHORIZATION, token)));
        let request = self.client.post(format!("{}{path}", self.server)).headers(headers).json(body).timeout(timeout);
        let sent = Instant::now();
        let response = request.send().await.map_err(|error| no_response(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|error| no_response(&error))?;
        if status.is_success() {
            Ok(ServerResponse { text, sent })
        } else {
            Err(response_error(status, &headers, &text))
        }
    }
}

impl ServerResponse {
    /// Decodes the body.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        serde_json::from_str(&self.text).map_err(|error| RequestError::Retryable {
            reason: format!("the response is not valid, is this a Taskbell server? {error}"),
            after: None,
        })
    }
}

/// The pause before the next try, at least `after`.
pub(super) fn retry_pause(retries: &mut BackOff, after: Option<Duration>) -> Duration {
    let pause = with_jitter(retries.next_pause(), JITTER, fastrand::f64());
    pause.max(after.unwrap_or_default().min(RETRY_AFTER_MAX))
}

/// Makes the error for a response whose status isn't 2xx. A problem document contains whether the request may be
/// retried. If the response has none, the status decides.
fn response_error(status: StatusCode, headers: &HeaderMap, text: &str) -> RequestError {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let problem: Option<ServerProblem> = serde_json::from_str(text).ok();
    let is_temporary =
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if problem.as_ref().and_then(|problem| problem.retryable).unwrap_or(is_temporary) {
        let detail = problem.map_or_else(String::new, |problem| format!(": {}", problem.detail));
        let after = header(RETRY_AFTER).and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
        return RequestError::Retryable {
            reason: format!("the server responded with {}{detail}", status.as_u16()),
            after,
        };
    }
    let problem = problem.unwrap_or_else(|| {
        let content_type = header(CONTENT_TYPE).unwrap_or_default();
        tracing::debug!(content_type, "the response is not a problem+json");
        let detail = format!("the response ({}) is not from a Taskbell server", status.as_u16());
        ServerProblem { code: "not_taskbell".to_owned(), detail, retryable: Some(false) }
    });
    RequestError::Refused { status: status.as_u16(), problem }
}

fn parse_address(server: &str) -> Result<Url, RemoteError> {
    let invalid = |why: &str| RemoteError::Address(format!("{server}: {why}"));
    let url = Url::parse(server).map_err(|error| invalid(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" => {}
        _ => return Err(invalid("an address like http://127.0.0.1:7070 is needed")),
    }
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if is_plain && url.password().is_none() {
        Ok(url)
    } else {
        Err(invalid("the address must not contain a user name, a query or a fragment"))
    }
}

fn no_response(error: &reqwest::Error) -> RequestError {
    let reason = if error.is_timeout() && !error.is_connect() {
        "the server did not respond in time".to_owned()
    } else {
        innermost_message(error)
    };
    RequestError::Retryable { reason, after: None }
}

/// Returns the message of the innermost error. The outer errors only repeat the address.
fn innermost_message(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
