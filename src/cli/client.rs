//! The client of one server's HTTP API, and the flags that say which server that is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde_json::Value;

use super::command_error::CommandError;
use super::{console, token_file};
use taskbell::internal::{Trust, client_config, json_value};
use taskbell::{Secret, TaskId};
use tokio_rustls::rustls::ClientConfig;

/// The server recognises the command line by this user agent, and records `via: cli` in the events.
pub const USER_AGENT: &str = concat!("taskbell-cli/", env!("CARGO_PKG_VERSION"));
/// The longest wait for a response. The server itself waits at most 5 s until its views have reached `min_position`.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The flags that name the server and its token, and the flag that chooses the output format.
#[derive(Clone, Debug, Default, Args)]
pub struct ConnectionArgs {
    /// Address of the server
    #[arg(long, global = true, env = "TASKBELL_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub server: String,
    /// PEM file with certificates of authorities to trust besides those of the system, for a server with https
    #[arg(long, global = true, env = "TASKBELL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// API token. Other users of this machine can see it in the list of processes (`ps`), so prefer --token-file
    #[arg(long, global = true, env = "TASKBELL_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// File with the API token
    #[arg(long, global = true, env = "TASKBELL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the API's responses as JSON, one value on each line
    #[arg(long, global = true)]
    pub json: bool,
}

/// A client of one server's HTTP API.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// The URL of the server, without a slash at its end.
    server: String,
    url: Url,
    headers: HeaderMap,
    tls: ClientConfig,
}

/// A response with a success status.
#[derive(Clone, Debug)]
pub struct ApiResponse {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub text: String,
    /// The body as JSON.
    pub body: Value,
}

impl ConnectionArgs {
    /// A client of the server that the flags name.
    ///
    /// # Errors
    /// The address or the token is invalid, or the file of the token can't be read: a usage error (exit code 2).
    pub fn client(&self) -> Result<Client, CommandError> {
        Client::new(&self.server, self.token()?.as_ref().map(Secret::reveal), self.ca_file.as_deref())
    }

    /// The token, if there is one: that of `--token`, or the one in the file.
    ///
    /// # Errors
    /// The file can't be read: a usage error (exit code 2).
    pub fn token(&self) -> Result<Option<Secret>, CommandError> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => token_file::read(file).map(|token| Some(Secret::from(token))),
            (None, None) => Ok(None),
        }
    }

    /// Keeps one of the token and its file if both are set: a flag goes before a variable of the environment.
    ///
    /// # Errors
    /// Both are set in the same way.
    pub fn choose_token(&mut self, matches: &ArgMatches) -> Result<(), &'static str> {
        match (matches.value_source("token"), matches.value_source("token_file")) {
            (Some(token), Some(file)) if token == file => {
                return Err(
                    "only one of --token and --token-file (TASKBELL_TOKEN and TASKBELL_TOKEN_FILE) can be used",
                );
            }
            (Some(ValueSource::CommandLine), Some(_)) => self.token_file = None,
            (Some(_), Some(_)) => self.token = None,
            (None, _) | (_, None) => {}
        }
        Ok(())
    }
}

impl Client {
    /// A client of the server at this address.
    ///
    /// # Errors
    /// The address, the token or the file of trusted certificates is invalid: a usage error (exit code 2).
    pub fn new(server: &str, token: Option<&str>, ca_file: Option<&Path>) -> Result<Self, CommandError> {
        let url = Url::parse(server)
            .map_err(|error| CommandError::usage(format!("--server {server}: {error}; like http://127.0.0.1:7070")))?;
        let has_only_address = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !matches!(url.scheme(), "http" | "https") || !has_only_address || url.password().is_some() {
            return Err(CommandError::usage("--server: the address must be like http://127.0.0.1:7070"));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| CommandError::usage("--token: it contains characters that can't be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let tls = client_config(Trust::for_url(url.as_str(), ca_file))
            .map_err(|error| CommandError::usage(format!("--ca-file: {error}")))?;
        // Without proxies and redirects, the token is sent to this server only.
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers.clone())
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| {
                CommandError::failed(format!("the HTTP client can't be created: {}", innermost(&error)))
            })?;
        Ok(Self { http, server: url.as_str().trim_end_matches('/').to_owned(), url, headers, tls })
    }

    /// The URL of the server, without a slash at its end.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The parsed URL of the server.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Which servers the client trusts.
    #[must_use]
    pub const fn tls(&self) -> &ClientConfig {
        &self.tls
    }

    /// The headers that every request carries.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// The server sent no response in time, or a response with an error status.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<ApiResponse, CommandError> {
        self.send(self.request(Method::GET, path, query)).await
    }

    /// Sends `GET /v1/tasks/{id}`. The response shows the task at the log position `min_position` or later; 0 accepts any
    /// position.
    ///
    /// # Errors
    /// The server sent no response in time, or a response with an error status.
    pub async fn task(&self, id: TaskId, min_position: u64) -> Result<ApiResponse, CommandError> {
        let query = [("min_position", min_position.to_string())];
        self.get(&format!("/v1/tasks/{id}"), if min_position == 0 { &[] } else { &query }).await
    }

    /// Sends a POST request.
    ///
    /// # Errors
    /// The server sent no response in time, or a response with an error status.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<ApiResponse, CommandError> {
        self.send(self.request(Method::POST, path, &[]).json(body)).await
    }

    /// Sends a DELETE request. A success has no body.
    ///
    /// # Errors
    /// The server sent no response in time, or a response with an error status.
    pub async fn delete(&self, path: &str, body: &impl Serialize) -> Result<(), CommandError> {
        let request = self.request(Method::DELETE, path, &[]).json(body).timeout(RESPONSE_TIMEOUT);
        let response = request.send().await.map_err(|error| self.no_response(&error))?;
        self.check_status(response).await.map(|_| ())
    }

    /// Creates a task. If a request with the same idempotency key is sent again, the server creates no second task.
    ///
    /// # Errors
    /// The server sent no response in time, or a response with an error status.
    pub async fn submit(&self, body: &impl Serialize, key: Option<&str>) -> Result<ApiResponse, CommandError> {
        let mut request = self.request(Method::POST, "/v1/tasks", &[]).json(body);
        if let Some(key) = key {
            let value = HeaderValue::try_from(key)
                .map_err(|_| CommandError::usage("--idempotency-key: it contains characters that can't be sent"))?;
            request = request.header("idempotency-key", value);
        }
        self.send(request).await
    }

    /// Sends a GET request and returns the lines of its response. The stream ends when the server ends the response.
    ///
    /// # Errors
    /// The server sent no response in time, or a response with an error status.
    pub async fn lines(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<impl Stream<Item = Result<String, CommandError>> + Unpin + use<>, CommandError> {
        let request = self.request(Method::GET, path, query);
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, request.send()).await;
        let response = response.map_err(|_| self.timed_out())?.map_err(|error| self.no_response(&error))?;
        let response = self.check_status(response).await?;
        let client = self.clone();
        let chunks = response.bytes_stream().map(move |chunk| chunk.map_err(|error| client.no_response(&error)));
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

    /// Sends the request and reads the whole response.
    async fn send(&self, request: RequestBuilder) -> Result<ApiResponse, CommandError> {
        let response = request.timeout(RESPONSE_TIMEOUT).send().await.map_err(|error| self.no_response(&error))?;
        let response = self.check_status(response).await?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| self.no_response(&error))?;
        let body = json_value(&text).map_err(|_| self.not_taskbell(status))?;
        Ok(ApiResponse { status, text, body })
    }

    /// Returns the response if its status is a success, else the error that its body describes.
    async fn check_status(&self, response: Response) -> Result<Response, CommandError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.no_response(&error))?;
        Err(CommandError::from_error_response(status.as_u16(), &text, &self.server))
    }

    fn not_taskbell(&self, status: u16) -> CommandError {
        CommandError::failed(format!("the response ({status}) is not from a Taskbell server: {}", self.server))
    }

    fn timed_out(&self) -> CommandError {
        CommandError::unreachable(format!("{} did not respond within {} s", self.server, RESPONSE_TIMEOUT.as_secs()))
    }

    fn no_response(&self, error: &reqwest::Error) -> CommandError {
        if error.is_timeout() && !error.is_connect() {
            return self.timed_out();
        }
        CommandError::unreachable(format!("{} can't be reached: {}", self.server, innermost(error)))
    }
}

/// The text of the innermost cause, escaped. The outer errors only repeat the address.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    console::escape(&innermost.to_string())
}

/// Splits the chunks of a response into lines, without empty lines. Text after the last line break is dropped, because that
/// line is incomplete.
fn split_lines(
    chunks: impl Stream<Item = Result<impl AsRef<[u8]>, CommandError>>,
) -> impl Stream<Item = Result<String, CommandError>> {
    let mut incomplete_line = Vec::new();
    chunks.flat_map(move |chunk| {
        let mut lines = Vec::new();
        match chunk {
            Ok(bytes) => {
                incomplete_line.extend_from_slice(bytes.as_ref());
                while let Some(end) = incomplete_line.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = incomplete_line.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if !line.is_empty() {
                        lines.push(Ok(line));
                    }
                }
            }
            Err(failure) => lines.push(Err(failure)),
        }
        futures_util::stream::iter(lines)
    })
}
