//! A connection of the load. It sends a request, waits for the response, and then can send the next request.
//!
//! The load and the server run on the same small machine, so the CPU time of the load lowers the figures. To save CPU
//! time, the caller that waits for a response polls hyper's connection itself, without a connection pool and without a
//! tokio task.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;

use crate::cli::client::innermost;
use crate::cli::command_error::CommandError;

/// A connection that was idle for longer is opened again before the next request, because the server closes idle
/// connections.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// The address of a server, and the headers of every request to it.
#[derive(Clone, Debug)]
pub(super) struct ServerAddress {
    /// The URL, without a slash at its end.
    pub(super) url: String,
    /// Host and port, like `127.0.0.1:7070`.
    host_and_port: String,
    host: HeaderValue,
    token: Option<HeaderValue>,
}

impl ServerAddress {
    /// Parses the address of a server. [`Client::new`](crate::cli::client::Client::new) has already checked most of it.
    ///
    /// # Errors
    /// The address or the token is invalid: a usage error.
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self, CommandError> {
        let invalid = || CommandError::usage("--server: the address must be like http://127.0.0.1:7070");
        let parsed = Url::parse(url).map_err(|_| invalid())?;
        if parsed.path() != "/" {
            return Err(invalid());
        }
        let (host, port) = parsed.host_str().zip(parsed.port_or_known_default()).ok_or_else(invalid)?;
        let host_and_port = format!("{host}:{port}");
        let token = token.map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            value.map_err(|_| CommandError::usage("--token: it contains characters that can't be sent"))
        });
        let host = HeaderValue::try_from(&host_and_port).map_err(|_| invalid())?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), host_and_port, host, token: token.transpose()? })
    }

    /// Host and port, like `127.0.0.1:7070`.
    pub(super) fn host_and_port(&self) -> &str {
        &self.host_and_port
    }

    /// The request that opens a websocket.
    pub(super) fn websocket_request(&self, path: &str) -> String {
        let token = self.token.as_ref().and_then(|token| token.to_str().ok());
        let authorization = token.map_or_else(String::new, |token| format!("Authorization: {token}\r\n"));
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n",
            self.host_and_port
        )
    }
}

/// A response of the server, with any status.
#[derive(Debug)]
pub(super) struct RawResponse {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// One HTTP/1 connection to a server; see the module.
pub(super) struct LoadConnection {
    server: ServerAddress,
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    /// When the last response arrived, or when the connection was opened.
    last_used: Instant,
}

impl LoadConnection {
    /// Opens a connection.
    pub(super) async fn open(server: &ServerAddress) -> Result<Self, CommandError> {
        let connect_failure = |error: &dyn std::error::Error| {
            CommandError::unreachable(format!("{} can't be reached: {}", server.url, innermost(error)))
        };
        let stream = TcpStream::connect(&server.host_and_port).await.map_err(|error| connect_failure(&error))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| connect_failure(&error))?;
        Ok(Self { server: server.clone(), sender, connection, last_used: Instant::now() })
    }

    /// Sends a POST request. Fails if the status of the response is not `expected`.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: Bytes,
        expected: StatusCode,
    ) -> Result<RawResponse, CommandError> {
        let response = self.send(Method::POST, path, body).await?;
        self.check_status(path, response, expected)
    }

    /// Sends a GET request. Fails if the status of the response is not 200.
    pub(super) async fn get(&mut self, path: &str) -> Result<RawResponse, CommandError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        self.check_status(path, response, StatusCode::OK)
    }

    /// Sends a GET request, and calls `on_chunk` with each chunk of the response body. The body may be larger than the
    /// memory. Fails if the status of the response is not 200.
    pub(super) async fn get_chunks(&mut self, path: &str, mut on_chunk: impl FnMut(&[u8])) -> Result<(), CommandError> {
        let request = request(&self.server, Method::GET, path, Bytes::new())?;
        let Self { server, sender, connection, .. } = self;
        let read = async {
            let mut response =
                sender.send_request(request).await.map_err(|error| request_failure(server, path, &error))?;
            if response.status() != StatusCode::OK {
                let response = read_body(response).await.map_err(|error| request_failure(server, path, &error))?;
                return Err(status_failure(server, path, &response));
            }
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(|error| request_failure(server, path, &error))?;
                if let Some(chunk) = frame.data_ref() {
                    on_chunk(chunk);
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            result = read => result,
            ended = connection => Err(connection_failure(server, path, ended)),
        }
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<RawResponse, CommandError> {
        let request = request(&self.server, method, path, body)?;
        if self.last_used.elapsed() > IDLE_MAX {
            *self = Self::open(&self.server).await?;
        }
        let Self { server, sender, connection, last_used } = self;
        let exchange = async { read_body(sender.send_request(request).await?).await };
        let response = tokio::select! {
            biased;
            response = exchange => response.map_err(|error| request_failure(server, path, &error)),
            ended = connection => Err(connection_failure(server, path, ended)),
        };
        *last_used = Instant::now();
        response
    }

    /// The response, or a failure if it has another status than `expected`.
    fn check_status(
        &self,
        path: &str,
        response: RawResponse,
        expected: StatusCode,
    ) -> Result<RawResponse, CommandError> {
        if response.status == expected { Ok(response) } else { Err(status_failure(&self.server, path, &response)) }
    }
}

fn request(
    server: &ServerAddress,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, CommandError> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, server.host.clone());
    if let Some(token) = &server.token {
        request = request.header(AUTHORIZATION, token.clone());
    }
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request.body(Full::new(body)).map_err(|error| CommandError::failed(error.to_string()))
}

/// Reads the whole body.
async fn read_body(response: Response<Incoming>) -> Result<RawResponse, hyper::Error> {
    let status = response.status();
    Ok(RawResponse { status, body: response.into_body().collect().await?.to_bytes() })
}

fn request_failure(server: &ServerAddress, path: &str, error: &hyper::Error) -> CommandError {
    CommandError::unreachable(format!("{}{path}: {}", server.url, innermost(error)))
}

fn connection_failure(server: &ServerAddress, path: &str, ended: Result<(), hyper::Error>) -> CommandError {
    let why = ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| innermost(&error));
    CommandError::unreachable(format!("{}{path}: {why}", server.url))
}

fn status_failure(server: &ServerAddress, path: &str, response: &RawResponse) -> CommandError {
    let text = String::from_utf8_lossy(&response.body);
    CommandError::from_error_response(response.status.as_u16(), &text, &format!("{}{path}", server.url))
}
