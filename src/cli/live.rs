//! A client of a server's websocket, which connects again after the connection was lost.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use taskbell::internal::{BackOff, json_value};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::client::{Client, USER_AGENT, innermost};
use super::command_error::CommandError;
use super::console;
use super::stream::{ByteStream, connect};

/// The server sends a frame at least every 15 s. After twice that time without a frame the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The first pause before the connection is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause before the connection is opened again.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// One connection to `GET /v1/live`.
struct LiveConnection {
    socket: WebSocketStream<Box<dyn ByteStream>>,
}

/// One frame from the server, as text and as JSON.
pub(super) struct Frame {
    pub text: String,
    pub body: Value,
}

impl Frame {
    /// The frame's `type`, like `tasks`; empty if it is missing.
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    /// The log position that the frame reflects; 0 if it is missing.
    pub fn position(&self) -> u64 {
        self.body["position"].as_u64().unwrap_or_default()
    }

    /// The tasks in the frame; empty if it has none.
    pub fn items(&self) -> &[Value] {
        self.body["items"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

impl LiveConnection {
    /// Opens the connection with this owner's counters, and subscribes to the tasks that match the filter.
    async fn open(client: &Client, owner: Option<&str>, filter: &Value) -> Result<Self, CommandError> {
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(owner.map(|name| ("owner", name))).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}/v1/live{mark}{query}", client.server().replacen("http", "ws", 1));
        let mut request = url.into_client_request().map_err(|error| CommandError::usage(innermost(&error)))?;
        request.headers_mut().extend(client.headers().clone());
        request.headers_mut().insert("user-agent", HeaderValue::from_static(USER_AGENT));
        let connecting = async { client_async(request, connect(client).await?).await };
        let connected = tokio::time::timeout(SILENCE_MAX, connecting).await;
        let (socket, _) = connected
            .map_err(|_| CommandError::unreachable(format!("{} did not respond", client.server())))?
            .map_err(|error| connect_failure(&error, client))?;
        let mut connection = Self { socket };
        let subscribe = json!({"type": "subscribe", "filter": filter}).to_string();
        connection.socket.send(Message::text(subscribe)).await.map_err(|error| connection_lost(&error))?;
        Ok(connection)
    }

    /// Waits for the next text frame. A frame of the type `problem` is returned as a failure.
    async fn next(&mut self) -> Result<Frame, CommandError> {
        loop {
            let message = tokio::time::timeout(SILENCE_MAX, self.socket.next())
                .await
                .map_err(|_| CommandError::unreachable(format!("no data for {} s", SILENCE_MAX.as_secs())))?;
            match message {
                Some(Ok(Message::Text(text))) => {
                    let text = text.as_str().to_owned();
                    let body = json_value(&text)
                        .map_err(|_| CommandError::failed("the server sent a frame that is not JSON"))?;
                    if body["type"] == "problem" {
                        let status = body["status"].as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(400);
                        return Err(CommandError::from_error_response(status, &text, "the server"));
                    }
                    return Ok(Frame { text, body });
                }
                Some(Ok(Message::Close(_))) | None => {
                    return Err(CommandError::unreachable("the server closed the connection"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(connection_lost(&error)),
            }
        }
    }
}

fn connection_lost(error: &Error) -> CommandError {
    CommandError::unreachable(innermost(error))
}

fn connect_failure(error: &Error, client: &Client) -> CommandError {
    if let Error::Http(response) = error {
        let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        return CommandError::from_error_response(response.status().as_u16(), &text, client.server());
    }
    CommandError::unreachable(format!("{} can't be reached: {}", client.server(), innermost(error)))
}

/// A client that opens the connection again after it was lost. It prints a line on stderr when the connection is lost,
/// because the tasks on the screen may then be stale, and another line when it is connected again.
pub(super) struct ReconnectingClient<'a> {
    client: &'a Client,
    /// Whose counters the server sends: one name, or `*` for everyone. `None` for the caller's default.
    owner: Option<String>,
    filter: Value,
    /// `None` before the first connection and after a lost one.
    connection: Option<LiveConnection>,
    /// When the last response or frame arrived; `None` if the server never responded.
    last_received: Option<Instant>,
    /// The connection was lost, and the line about the new connection is not printed yet.
    was_lost: bool,
    /// The last `hello` or `beat` frame said that the server can't reach its log.
    is_stale: bool,
}

impl<'a> ReconnectingClient<'a> {
    /// A client that connects in the first call of [`next`](Self::next). `last_received` is the time of the server's
    /// last response. With a time, `next` tries again while the server is unreachable. With `None`, the first failed
    /// connection is final.
    pub const fn new(client: &'a Client, filter: Value, last_received: Option<Instant>) -> Self {
        Self { client, owner: None, filter, connection: None, last_received, was_lost: false, is_stale: false }
    }

    /// The same client for the counters of this owner.
    pub fn with_owner(self, owner: Option<String>) -> Self {
        Self { owner, ..self }
    }

    /// Waits for the next frame. After each new connection the server sends `hello`, `snapshot` and `subscribed` again.
    ///
    /// # Errors
    /// The server refused the subscription, or it has never responded.
    pub async fn next(&mut self) -> Result<Frame, CommandError> {
        let mut back_off = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut is_first_failure = true;
        loop {
            let mut failure = match self.try_next().await {
                Ok(frame) => return Ok(frame),
                Err(failure) => failure,
            };
            self.connection = None;
            self.was_lost = true;
            let Some(last_received) = self.last_received.filter(|_| failure.exit_code() == 5) else {
                return Err(failure);
            };
            if std::mem::take(&mut is_first_failure) {
                console::print_failure(&mut failure, false);
                console::print_to_stderr(&format!(
                    "not connected; last data {} ago; reconnecting",
                    console::format_duration(last_received.elapsed())
                ));
            }
            tokio::time::sleep(back_off.next_pause()).await;
        }
    }

    /// Prints the failure of a request to the same server, closes the connection and waits for [`FIRST_PAUSE`]. The
    /// next call of [`next`](Self::next) opens a new connection.
    pub async fn reconnect_later(&mut self, mut failure: CommandError) {
        console::print_failure(&mut failure, false);
        self.connection = None;
        self.was_lost = true;
        tokio::time::sleep(FIRST_PAUSE).await;
    }

    /// Waits for the next frame; connects first if there is no connection.
    async fn try_next(&mut self) -> Result<Frame, CommandError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                self.connection.insert(LiveConnection::open(self.client, self.owner.as_deref(), &self.filter).await?)
            }
        };
        let frame = connection.next().await?;
        if std::mem::take(&mut self.was_lost) {
            console::print_to_stderr("connected again");
        }
        self.last_received = Some(Instant::now());
        self.report_freshness(&frame);
        Ok(frame)
    }

    /// Prints a line when the server can't reach its log any more, and when it can reach it again.
    fn report_freshness(&mut self, frame: &Frame) {
        if !matches!(frame.kind(), "hello" | "beat") {
            return;
        }
        let since = frame.body["stale_since"].as_str();
        match since {
            Some(since) if !self.is_stale => {
                console::print_to_stderr(&format!("stale since {since}: the server can't reach its log"));
            }
            None if self.is_stale => console::print_to_stderr("the server can reach its log again"),
            Some(_) | None => {}
        }
        self.is_stale = since.is_some();
    }
}
