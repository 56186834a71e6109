//! The websocket of a server, and a connection to it that is opened again when it is lost.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use taskbell::internal::{BackOff, json_value};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::client::{Client, USER_AGENT, innermost};
use super::failure::Failure;
use super::out;

/// The server sends a frame at least every 15 s. After twice that time without one the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(30);
/// The first and the longest pause before the connection is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// One connection to `GET /v1/live`.
struct Live {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// One frame of the server: its text, and the same as JSON.
pub(super) struct Frame {
    pub text: String,
    pub body: Value,
}

impl Frame {
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    pub fn position(&self) -> u64 {
        self.body["position"].as_u64().unwrap_or_default()
    }

    pub fn items(&self) -> &[Value] {
        self.body["items"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

impl Live {
    /// Connects and subscribes.
    async fn open(client: &Client, filter: &Value) -> Result<Self, Failure> {
        let url = format!("{}/v1/live", client.server().replacen("http", "ws", 1));
        let mut request = url.into_client_request().map_err(|error| Failure::usage(innermost(&error)))?;
        request.headers_mut().extend(client.headers().clone());
        request.headers_mut().insert("user-agent", HeaderValue::from_static(USER_AGENT));
        let connected = tokio::time::timeout(SILENCE, tokio_tungstenite::connect_async(request)).await;
        let (socket, _) = connected
            .map_err(|_| Failure::unreachable(format!("{} did not answer", client.server())))?
            .map_err(|error| refused(&error, client))?;
        let mut live = Self { socket };
        let subscribe = json!({"type": "subscribe", "filter": filter}).to_string();
        live.socket.send(Message::text(subscribe)).await.map_err(|error| lost(&error))?;
        Ok(live)
    }

    /// The next frame.
    async fn next(&mut self) -> Result<Frame, Failure> {
        loop {
            let message = tokio::time::timeout(SILENCE, self.socket.next())
                .await
                .map_err(|_| Failure::unreachable(format!("nothing heard for {} s", SILENCE.as_secs())))?;
            match message {
                Some(Ok(Message::Text(text))) => {
                    let text = text.as_str().to_owned();
                    let body =
                        json_value(&text).map_err(|_| Failure::failed("the server sent a frame that is not JSON"))?;
                    if body["type"] == "problem" {
                        let status = body["status"].as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(400);
                        return Err(Failure::from_answer(status, &text, "the server"));
                    }
                    return Ok(Frame { text, body });
                }
                Some(Ok(Message::Close(_))) | None => return Err(Failure::unreachable("the server closed")),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(&error)),
            }
        }
    }
}

fn lost(error: &Error) -> Failure {
    Failure::unreachable(innermost(error))
}

fn refused(error: &Error, client: &Client) -> Failure {
    if let Error::Http(response) = error {
        let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        return Failure::from_answer(response.status().as_u16(), &text, client.server());
    }
    Failure::unreachable(format!("{} can't be reached: {}", client.server(), innermost(error)))
}

/// A connection that is opened again when it is lost. It prints on stderr when the connection is lost, since what is shown
/// may then be stale, and when it is there again.
pub(super) struct Reconnecting<'a> {
    client: &'a Client,
    filter: Value,
    live: Option<Live>,
    /// When the last answer or frame came from the server; none if the server never answered.
    heard: Option<Instant>,
    lost: bool,
    /// The server has said that it can't reach its log.
    stale: bool,
}

impl<'a> Reconnecting<'a> {
    /// A connection that is opened by the first [`next`](Self::next). `heard` is the time of the server's last answer: with
    /// one, `next` waits for a server that is away; with `None` the first failure to connect is final.
    pub const fn new(client: &'a Client, filter: Value, heard: Option<Instant>) -> Self {
        Self { client, filter, live: None, heard, lost: false, stale: false }
    }

    /// The next frame. A new connection sends `hello`, `snapshot` and `subscribed` again.
    ///
    /// # Errors
    /// The server refused, or it never answered.
    pub async fn next(&mut self) -> Result<Frame, Failure> {
        let mut back_off = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut is_first_failure = true;
        loop {
            let mut failure = match self.try_next().await {
                Ok(frame) => return Ok(frame),
                Err(failure) => failure,
            };
            self.live = None;
            self.lost = true;
            let Some(heard) = self.heard.filter(|_| failure.exit() == 5) else { return Err(failure) };
            if std::mem::take(&mut is_first_failure) {
                out::failure(&mut failure, false);
                out::note(&format!("stale: last heard {} ago; trying again", out::duration(heard.elapsed())));
            }
            tokio::time::sleep(back_off.failed()).await;
        }
    }

    /// Closes the connection after a request to the same server failed, and waits a moment. The next frame comes from a new
    /// connection.
    pub async fn reconnect_later(&mut self, mut failure: Failure) {
        out::failure(&mut failure, false);
        self.live = None;
        self.lost = true;
        tokio::time::sleep(FIRST_PAUSE).await;
    }

    async fn try_next(&mut self) -> Result<Frame, Failure> {
        let live = match &mut self.live {
            Some(live) => live,
            None => self.live.insert(Live::open(self.client, &self.filter).await?),
        };
        let frame = live.next().await?;
        if std::mem::take(&mut self.lost) {
            out::note("connected again");
        }
        self.heard = Some(Instant::now());
        self.note_freshness(&frame);
        Ok(frame)
    }

    /// Prints when the server has lost its log, and when it has it again.
    fn note_freshness(&mut self, frame: &Frame) {
        if !matches!(frame.kind(), "hello" | "beat") {
            return;
        }
        let since = frame.body["stale_since"].as_str();
        match since {
            Some(since) if !self.stale => out::note(&format!("stale since {since}: the server can't reach its log")),
            None if self.stale => out::note("the server has its log again"),
            Some(_) | None => {}
        }
        self.stale = since.is_some();
    }
}
