//! One connection of the load: a request, its answer, the next request.
//!
//! The load and the server share a small machine, so the CPU time of the load lowers the figures. hyper's connection is
//! therefore polled by the caller that waits for the answer: there is no pool and no task, and only what is needed is
//! parsed.

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
use crate::cli::failure::Failure;

/// A connection that was idle for longer is opened again: the server closes idle ones.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// The address of the server, and the headers of every request.
#[derive(Clone, Debug)]
pub(super) struct ServerAddress {
    /// The address, without a slash at its end.
    pub(super) url: String,
    /// Host and port.
    socket: String,
    host: HeaderValue,
    token: Option<HeaderValue>,
}

impl ServerAddress {
    /// The server at this address. [`Client::new`](crate::cli::client::Client::new) checks most of it.
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let invalid = || Failure::usage("--server: an address like http://127.0.0.1:7070 is needed");
        let parsed = Url::parse(url).map_err(|_| invalid())?;
        if parsed.path() != "/" {
            return Err(invalid());
        }
        let (host, port) = parsed.host_str().zip(parsed.port_or_known_default()).ok_or_else(invalid)?;
        let socket = format!("{host}:{port}");
        let token = token.map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            value.map_err(|_| Failure::usage("--token: it holds characters that can't be sent"))
        });
        let host = HeaderValue::try_from(&socket).map_err(|_| invalid())?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), socket, host, token: token.transpose()? })
    }
}

/// An answer of the server.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// See the module.
pub(super) struct Wire {
    server: ServerAddress,
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    used: Instant,
}

impl Wire {
    pub(super) async fn open(server: &ServerAddress) -> Result<Self, Failure> {
        let lost = |error: &dyn std::error::Error| {
            Failure::unreachable(format!("{} can't be reached: {}", server.url, innermost(error)))
        };
        let stream = TcpStream::connect(&server.socket).await.map_err(|error| lost(&error))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        Ok(Self { server: server.clone(), sender, connection, used: Instant::now() })
    }

    /// Sends a POST request. An answer with another status than `wanted` is a failure.
    pub(super) async fn post(&mut self, path: &str, body: Bytes, wanted: StatusCode) -> Result<Answer, Failure> {
        let answer = self.send(Method::POST, path, body).await?;
        self.wanted(path, answer, wanted)
    }

    /// Sends a GET request.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        self.wanted(path, answer, StatusCode::OK)
    }

    /// Sends a GET request, and passes the answer to `on_piece` piece by piece: it may be too long for the memory.
    pub(super) async fn get_pieces(&mut self, path: &str, mut on_piece: impl FnMut(&[u8])) -> Result<(), Failure> {
        let request = request(&self.server, Method::GET, path, Bytes::new())?;
        let Self { server, sender, connection, .. } = self;
        let reading = async {
            let mut response = sender.send_request(request).await.map_err(|error| lost(server, path, &error))?;
            if response.status() != StatusCode::OK {
                let answer = read(response).await.map_err(|error| lost(server, path, &error))?;
                return Err(refused(server, path, &answer));
            }
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(|error| lost(server, path, &error))?;
                if let Some(piece) = frame.data_ref() {
                    on_piece(piece);
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            done = reading => done,
            ended = connection => Err(closed(server, path, ended)),
        }
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let request = request(&self.server, method, path, body)?;
        if self.used.elapsed() > IDLE_MAX {
            *self = Self::open(&self.server).await?;
        }
        let Self { server, sender, connection, used } = self;
        let exchange = async { read(sender.send_request(request).await?).await };
        let answer = tokio::select! {
            biased;
            answer = exchange => answer.map_err(|error| lost(server, path, &error)),
            ended = connection => Err(closed(server, path, ended)),
        };
        *used = Instant::now();
        answer
    }

    fn wanted(&self, path: &str, answer: Answer, wanted: StatusCode) -> Result<Answer, Failure> {
        if answer.status == wanted { Ok(answer) } else { Err(refused(&self.server, path, &answer)) }
    }
}

fn request(server: &ServerAddress, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, server.host.clone());
    if let Some(token) = &server.token {
        request = request.header(AUTHORIZATION, token.clone());
    }
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request.body(Full::new(body)).map_err(|error| Failure::failed(error.to_string()))
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let status = response.status();
    Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
}

fn lost(server: &ServerAddress, path: &str, error: &hyper::Error) -> Failure {
    Failure::unreachable(format!("{}{path}: {}", server.url, innermost(error)))
}

fn closed(server: &ServerAddress, path: &str, ended: Result<(), hyper::Error>) -> Failure {
    let why = ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| innermost(&error));
    Failure::unreachable(format!("{}{path}: {why}", server.url))
}

fn refused(server: &ServerAddress, path: &str, answer: &Answer) -> Failure {
    let text = String::from_utf8_lossy(&answer.body);
    Failure::from_answer(answer.status.as_u16(), &text, &format!("{}{path}", server.url))
}
