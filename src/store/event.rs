//! An event before it has a position in the log: the name of its stream, its metadata and its data.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ReadError;
use crate::task::bell::BellEvent;
use crate::task::limits::is_name;
use crate::task::queue::QueueEvent;
use crate::task::schedule::ScheduleEvent;
use crate::task::session::SessionEvent;
use crate::task::token::TokenEvent;
use crate::task::{Event, TaskId, Timestamp};

/// The name of a stream: `task-<uuid>`, `bell-<owner>`, `queue-<name>`, `schedule-<uuid>`, `token-<uuid>` or
/// `session-<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// What a stream belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSubject<'a> {
    /// The stream of a task.
    Task(TaskId),
    /// The stream of this owner's bell.
    Bell(&'a str),
    /// The stream of the queue of this name.
    Queue(&'a str),
    /// The stream of a schedule.
    Schedule(Uuid),
    /// The stream of an API token.
    Token(Uuid),
    /// The stream of a session.
    Session(Uuid),
}

impl StreamName {
    /// The stream of a task.
    #[must_use]
    pub fn task(id: TaskId) -> Self {
        Self(format!("task-{id}").into())
    }

    /// The stream of an owner's bell.
    #[must_use]
    pub fn bell(owner: &str) -> Self {
        Self(format!("bell-{owner}").into())
    }

    /// The stream of a queue.
    #[must_use]
    pub fn queue(name: &str) -> Self {
        Self(format!("queue-{name}").into())
    }

    /// The stream of a schedule.
    #[must_use]
    pub fn schedule(id: Uuid) -> Self {
        Self(format!("schedule-{id}").into())
    }

    /// The stream of an API token.
    #[must_use]
    pub fn token(id: Uuid) -> Self {
        Self(format!("token-{id}").into())
    }

    /// The stream of a session.
    #[must_use]
    pub fn session(id: Uuid) -> Self {
        Self(format!("session-{id}").into())
    }

    /// The stream of this name; `None` if this version of Taskbell doesn't know the form of the name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = Self(text.into());
        name.subject().is_some().then_some(name)
    }

    /// What the stream belongs to; `None` if this version of Taskbell doesn't know the form of the name.
    #[must_use]
    pub fn subject(&self) -> Option<StreamSubject<'_>> {
        if let Some(id) = self.0.strip_prefix("task-") {
            return id.parse().ok().map(StreamSubject::Task);
        }
        let uuid = |id: &str| id.parse().ok().filter(|uuid: &Uuid| uuid.to_string() == id);
        if let Some(id) = self.0.strip_prefix("schedule-") {
            return uuid(id).map(StreamSubject::Schedule);
        }
        if let Some(id) = self.0.strip_prefix("token-") {
            return uuid(id).map(StreamSubject::Token);
        }
        if let Some(id) = self.0.strip_prefix("session-") {
            return uuid(id).map(StreamSubject::Session);
        }
        if let Some(name) = self.0.strip_prefix("queue-") {
            return is_name(name).then_some(StreamSubject::Queue(name));
        }
        self.0.strip_prefix("bell-").filter(|owner| !owner.is_empty()).map(StreamSubject::Bell)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a command reached Taskbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The HTTP API, the UI included.
    Http,
    /// The command line.
    Cli,
    /// A request of a worker.
    Worker,
    /// The server itself, for example the dispatcher, a timer or a schedule. The log holds it as `scheduler`.
    #[serde(rename = "scheduler")]
    Server,
    /// A program that embeds Taskbell.
    Library,
}

/// Who caused an event, and why. It is stored with each event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Who caused the event: the person or program that sent the request, the worker, or `system`. It is text and has nothing
    /// to do with an actor of `actix`.
    pub actor: String,
    /// How the command reached Taskbell.
    pub via: Via,
    /// All events that follow from one request have the same correlation id.
    pub correlation_id: Uuid,
    /// The id of the event or task that caused this event.
    pub causation_id: Option<Uuid>,
    /// The id that the client or its proxy gave the request.
    pub request_id: Option<String>,
}

/// An event of any stream.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// An event of a task.
    Task(Event),
    /// An event of a bell.
    Bell(BellEvent),
    /// An event of a queue.
    Queue(QueueEvent),
    /// An event of a schedule.
    Schedule(ScheduleEvent),
    /// An event of an API token.
    Token(TokenEvent),
    /// An event of a session.
    Session(SessionEvent),
}

impl From<Event> for LogEvent {
    fn from(event: Event) -> Self {
        Self::Task(event)
    }
}

impl From<QueueEvent> for LogEvent {
    fn from(event: QueueEvent) -> Self {
        Self::Queue(event)
    }
}

impl From<ScheduleEvent> for LogEvent {
    fn from(event: ScheduleEvent) -> Self {
        Self::Schedule(event)
    }
}

impl From<TokenEvent> for LogEvent {
    fn from(event: TokenEvent) -> Self {
        Self::Token(event)
    }
}

impl From<SessionEvent> for LogEvent {
    fn from(event: SessionEvent) -> Self {
        Self::Session(event)
    }
}

impl From<BellEvent> for LogEvent {
    fn from(event: BellEvent) -> Self {
        Self::Bell(event)
    }
}

/// An event that is to be appended.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// A `UUIDv7`.
    pub id: Uuid,
    /// When it happened.
    pub time: Timestamp,
    /// Who caused it, and why.
    pub meta: Meta,
    /// What happened.
    pub event: LogEvent,
}

/// A BLAKE3 hash of the chain: it covers an event and all events before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash before the first event.
    pub const ZERO: Self = Self([0; 32]);
}

impl FromStr for Hash {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let hash = blake3::Hash::from_hex(text)
            .map_err(|error| ReadError::Damaged(format!("the hash is invalid: {error}")))?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        blake3::Hash::from_bytes(self.0).to_hex().fmt(f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
