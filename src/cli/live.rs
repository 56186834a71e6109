//! One server, over the websocket: what it pushes, as long as it is there.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::client::{Client, USER_AGENT, chain};
use super::failure::Failure;
use super::out;

/// The server beats at least every 15 s: twice that without a word, and what is shown may be stale.
const SILENCE: Duration = Duration::from_secs(30);
/// Pauses between attempts to reach the server again, doubled from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));

/// A connection.
pub(super) struct Live {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// One frame: as it came, and read.
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
        let mut request = url.into_client_request().map_err(|error| Failure::usage(chain(&error)))?;
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
    pub async fn next(&mut self) -> Result<Frame, Failure> {
        loop {
            let message = tokio::time::timeout(SILENCE, self.socket.next())
                .await
                .map_err(|_| Failure::unreachable(format!("nothing heard for {} s", SILENCE.as_secs())))?;
            match message {
                Some(Ok(Message::Text(text))) => {
                    let text = text.as_str().to_owned();
                    let body: Value = serde_json::from_str(&text)
                        .map_err(|_| Failure::failed("the server sent a frame that is not JSON"))?;
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
    Failure::unreachable(chain(error))
}

fn refused(error: &Error, client: &Client) -> Failure {
    if let Error::Http(response) = error {
        let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        return Failure::from_answer(response.status().as_u16(), &text, client.server());
    }
    Failure::unreachable(format!("{} can't be reached: {}", client.server(), chain(error)))
}

/// A connection that comes back: it says on stderr when what is shown may be stale, and when it no longer is.
pub(super) struct Lasting<'a> {
    client: &'a Client,
    filter: Value,
    live: Option<Live>,
    /// When the server last said something, in whatever way.
    heard: Option<Instant>,
    lost: bool,
}

impl<'a> Lasting<'a> {
    /// Nothing is connected before the first [`Lasting::next`]. A server that has been `heard` is waited for; one that
    /// never was there is said to be unreachable.
    pub const fn new(client: &'a Client, filter: Value, heard: Option<Instant>) -> Self {
        Self { client, filter, live: None, heard, lost: false }
    }

    /// The next frame; after a loss the first ones of a new connection (`hello`, `snapshot`, `subscribed`) come again.
    ///
    /// # Errors
    /// The server refused, or never was there.
    pub async fn next(&mut self) -> Result<Frame, Failure> {
        let mut pause = PAUSE.0;
        loop {
            let mut failure = match self.attempt().await {
                Ok(frame) => return Ok(frame),
                Err(failure) => failure,
            };
            self.live = None;
            self.lost = true;
            let Some(heard) = self.heard.filter(|_| failure.exit() == 5) else { return Err(failure) };
            if pause == PAUSE.0 {
                failure.say(false);
                out::note(&format!("stale: last heard {} ago; trying again", out::duration(heard.elapsed())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// The connection is worth nothing, although it didn't say so: the next frame comes from another one.
    pub async fn lose(&mut self, mut failure: Failure) {
        failure.say(false);
        self.live = None;
        self.lost = true;
        tokio::time::sleep(PAUSE.0).await;
    }

    async fn attempt(&mut self) -> Result<Frame, Failure> {
        let live = match &mut self.live {
            Some(live) => live,
            None => self.live.insert(Live::open(self.client, &self.filter).await?),
        };
        let frame = live.next().await?;
        if std::mem::take(&mut self.lost) {
            out::note("connected again");
        }
        self.heard = Some(Instant::now());
        Ok(frame)
    }
}
