//! One connection of the load: a request, its answer, the next request.
//!
//! Generator and server share a small machine, so what the generator costs is missing in the figures. hyper's
//! connection is driven by whoever waits for the answer: no pool, no task beside it, nothing parsed that isn't needed.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;

use crate::cli::client::chain;
use crate::cli::failure::Failure;

/// A connection that was quiet for longer is opened anew: the server closes quiet ones.
const QUIET: Duration = Duration::from_secs(2);

/// Where the server is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As a person writes it, without a slash at its end.
    pub(super) url: String,
    /// Host and port.
    address: String,
    host: HeaderValue,
    token: Option<HeaderValue>,
}

impl Place {
    /// The place at this address. [`Client::new`](crate::cli::client::Client::new) says what can be one.
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let strange = || Failure::usage("--server: an address like http://127.0.0.1:7070 is needed");
        let parsed = Url::parse(url).map_err(|_| strange())?;
        if parsed.path() != "/" {
            return Err(strange());
        }
        let (host, port) = parsed.host_str().zip(parsed.port_or_known_default()).ok_or_else(strange)?;
        let address = format!("{host}:{port}");
        let token = token.map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            value.map_err(|_| Failure::usage("--token: it holds characters that can't be sent"))
        });
        let host = HeaderValue::try_from(&address).map_err(|_| strange())?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), address, host, token: token.transpose()? })
    }
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// See the module.
pub(super) struct Wire {
    place: Place,
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    used: Instant,
}

impl Wire {
    pub(super) async fn open(place: &Place) -> Result<Self, Failure> {
        let lost = |error: &dyn std::error::Error| {
            Failure::unreachable(format!("{} can't be reached: {}", place.url, chain(error)))
        };
        let stream = TcpStream::connect(&place.address).await.map_err(|error| lost(&error))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        Ok(Self { place: place.clone(), sender, connection, used: Instant::now() })
    }

    /// Writes; any answer but the wanted one is a failure.
    pub(super) async fn post(&mut self, path: &str, body: Bytes, wanted: StatusCode) -> Result<Answer, Failure> {
        let answer = self.ask(Method::POST, path, body).await?;
        self.wanted(path, answer, wanted)
    }

    /// Reads.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        let answer = self.ask(Method::GET, path, Bytes::new()).await?;
        self.wanted(path, answer, StatusCode::OK)
    }

    /// Reads an answer that is too long to be kept, piece by piece.
    pub(super) async fn pieces(&mut self, path: &str, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        let request = request(&self.place, Method::GET, path, Bytes::new())?;
        let Self { place, sender, connection, .. } = self;
        let reading = async {
            let mut response = sender.send_request(request).await.map_err(|error| lost(place, path, &error))?;
            if response.status() != StatusCode::OK {
                let answer = read(response).await.map_err(|error| lost(place, path, &error))?;
                return Err(refused(place, path, &answer));
            }
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(|error| lost(place, path, &error))?;
                if let Some(piece) = frame.data_ref() {
                    take(piece);
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            done = reading => done,
            ended = connection => Err(closed(place, path, ended)),
        }
    }

    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let request = request(&self.place, method, path, body)?;
        if self.used.elapsed() > QUIET {
            *self = Self::open(&self.place).await?;
        }
        let Self { place, sender, connection, used } = self;
        let asking = async { read(sender.send_request(request).await?).await };
        let answer = tokio::select! {
            biased;
            answer = asking => answer.map_err(|error| lost(place, path, &error)),
            ended = connection => Err(closed(place, path, ended)),
        };
        *used = Instant::now();
        answer
    }

    fn wanted(&self, path: &str, answer: Answer, wanted: StatusCode) -> Result<Answer, Failure> {
        if answer.status == wanted { Ok(answer) } else { Err(refused(&self.place, path, &answer)) }
    }
}

fn request(place: &Place, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, place.host.clone());
    if let Some(token) = &place.token {
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

fn lost(place: &Place, path: &str, error: &hyper::Error) -> Failure {
    Failure::unreachable(format!("{}{path}: {}", place.url, chain(error)))
}

fn closed(place: &Place, path: &str, ended: Result<(), hyper::Error>) -> Failure {
    let why = ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| chain(&error));
    Failure::unreachable(format!("{}{path}: {why}", place.url))
}

fn refused(place: &Place, path: &str, answer: &Answer) -> Failure {
    let text = String::from_utf8_lossy(&answer.body);
    Failure::from_answer(answer.status.as_u16(), &text, &format!("{}{path}", place.url))
}
