//! The HTTP API of one server.

use std::time::Duration;

use clap::Args;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use super::out;
use taskbell::TaskId;
use taskbell::internal::json_value;

/// The server recognises the command line by this user agent, and records `via: cli`.
pub const USER_AGENT: &str = concat!("taskbell-cli/", env!("CARGO_PKG_VERSION"));
/// The longest wait for an answer; the server itself waits 5 s at most for its views.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Which server, and how to print what it answers.
#[derive(Clone, Debug, Default, Args)]
pub struct Connect {
    /// The server
    #[arg(long, global = true, env = "TASKBELL_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub server: String,
    /// Sent as a bearer token
    #[arg(long, global = true, env = "TASKBELL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Print what the API answered, one JSON value on each line
    #[arg(long, global = true)]
    pub json: bool,
}

/// A server's client.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// The address, without a slash at its end.
    server: String,
    headers: HeaderMap,
}

/// An answer with a success status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub text: String,
    /// The body as JSON.
    pub body: Value,
}

impl Connect {
    /// The client.
    ///
    /// # Errors
    /// The address or the token can't be used: a usage error.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.server, self.token.as_deref())
    }
}

impl Client {
    /// A client of the server at this address.
    ///
    /// # Errors
    /// The address or the token can't be used: a usage error.
    pub fn new(server: &str, token: Option<&str>) -> Result<Self, Failure> {
        let url = Url::parse(server)
            .map_err(|error| Failure::usage(format!("--server {server}: {error}; like http://127.0.0.1:7070")))?;
        if url.scheme() == "https" {
            return Err(Failure::usage(format!("--server {server}: this release speaks plain http only")));
        }
        let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if url.scheme() != "http" || !bare || url.password().is_some() {
            return Err(Failure::usage("--server: an address like http://127.0.0.1:7070 is needed"));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Failure::usage("--token: it holds characters that can't be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // No proxy and no redirects: the token goes to this server only.
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| Failure::failed(format!("no HTTP client: {}", innermost(&error))))?;
        Ok(Self { http, server: url.as_str().trim_end_matches('/').to_owned(), headers })
    }

    /// Its address, without a slash at its end.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The headers that every request carries.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// No answer, or an error status.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, Failure> {
        self.answer(self.request(Method::GET, path, query)).await
    }

    /// `GET /v1/tasks/{id}`, as of `min_position` or later.
    ///
    /// # Errors
    /// No answer, or an error status.
    pub async fn task(&self, id: TaskId, min_position: u64) -> Result<Answer, Failure> {
        let query = [("min_position", min_position.to_string())];
        self.get(&format!("/v1/tasks/{id}"), if min_position == 0 { &[] } else { &query }).await
    }

    /// Sends a POST request.
    ///
    /// # Errors
    /// No answer, or an error status.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, Failure> {
        self.answer(self.request(Method::POST, path, &[]).json(body)).await
    }

    /// Creates a task. With an idempotency key the request can be repeated.
    ///
    /// # Errors
    /// No answer, or an error status.
    pub async fn submit(&self, body: &impl Serialize, key: Option<&str>) -> Result<Answer, Failure> {
        let mut request = self.request(Method::POST, "/v1/tasks", &[]).json(body);
        if let Some(key) = key {
            let value = HeaderValue::try_from(key)
                .map_err(|_| Failure::usage("--idempotency-key: it holds characters that can't be sent"))?;
            request = request.header("idempotency-key", value);
        }
        self.answer(request).await
    }

    /// Sends a GET request whose answer is read line by line, for as long as the server sends it.
    ///
    /// # Errors
    /// No answer, or an error status.
    pub async fn lines(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<impl Stream<Item = Result<String, Failure>> + Unpin + use<>, Failure> {
        let request = self.request(Method::GET, path, query);
        let response = tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await;
        let response = response.map_err(|_| self.timed_out())?.map_err(|error| self.no_answer(&error))?;
        let response = self.checked(response).await?;
        let client = self.clone();
        let chunks = response.bytes_stream().map(move |chunk| chunk.map_err(|error| client.no_answer(&error)));
        Ok(Box::pin(split_lines(chunks)))
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let mut url = format!("{}{path}", self.server);
        if !query.is_empty() {
            let pairs = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            url = format!("{url}?{pairs}");
        }
        self.http.request(method, url)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let response = request.timeout(ANSWER_TIMEOUT).send().await.map_err(|error| self.no_answer(&error))?;
        let response = self.checked(response).await?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| self.no_answer(&error))?;
        let body = json_value(&text).map_err(|_| self.not_taskbell(status))?;
        Ok(Answer { status, text, body })
    }

    async fn checked(&self, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.no_answer(&error))?;
        Err(Failure::from_answer(status.as_u16(), &text, &self.server))
    }

    fn not_taskbell(&self, status: u16) -> Failure {
        Failure::failed(format!("{} answered {status}, and not as a Taskbell server does", self.server))
    }

    fn timed_out(&self) -> Failure {
        Failure::unreachable(format!("{} did not answer within {} s", self.server, ANSWER_TIMEOUT.as_secs()))
    }

    fn no_answer(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() && !error.is_connect() {
            return self.timed_out();
        }
        Failure::unreachable(format!("{} can't be reached: {}", self.server, innermost(error)))
    }
}

/// The innermost error: the layers above only repeat the address.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    out::escape(&inner.to_string())
}

/// The lines in the chunks of an answer. Text after the last line break is dropped: that line was cut off.
fn split_lines(
    chunks: impl Stream<Item = Result<impl AsRef<[u8]>, Failure>>,
) -> impl Stream<Item = Result<String, Failure>> {
    let mut rest = Vec::new();
    chunks.flat_map(move |chunk| {
        let mut found = Vec::new();
        match chunk {
            Ok(bytes) => {
                rest.extend_from_slice(bytes.as_ref());
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if !line.is_empty() {
                        found.push(Ok(line));
                    }
                }
            }
            Err(failure) => found.push(Err(failure)),
        }
        futures_util::stream::iter(found)
    })
}
