//! An event before it has a position in the log: the name of its stream, its metadata and its data.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash as StdHash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

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
#[derive(Clone, PartialEq, Eq, StdHash)]
pub struct StreamName(Name);

/// Nearly all streams are those of tasks: such a name takes no memory elsewhere, and its id is not parsed again.
#[derive(Clone, PartialEq, Eq, StdHash)]
enum Name {
    Task(TaskStream),
    Other(Arc<str>),
}

/// The name of a task's stream, as its id and as text.
#[derive(Clone)]
struct TaskStream {
    id: TaskId,
    text: [u8; TASK_PREFIX.len() + Hyphenated::LENGTH],
}

const TASK_PREFIX: &str = "task-";

impl TaskStream {
    fn new(id: TaskId) -> Self {
        let mut text = [0; TASK_PREFIX.len() + Hyphenated::LENGTH];
        let (prefix, hyphenated) = text.split_at_mut(TASK_PREFIX.len());
        prefix.copy_from_slice(TASK_PREFIX.as_bytes());
        id.uuid().hyphenated().encode_lower(hyphenated);
        Self { id, text }
    }
}

impl PartialEq for TaskStream {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for TaskStream {}

impl StdHash for TaskStream {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

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
        Self(Name::Task(TaskStream::new(id)))
    }

    /// The stream of an owner's bell.
    #[must_use]
    pub fn bell(owner: &str) -> Self {
        Self::other(format!("bell-{owner}"))
    }

    /// The stream of a queue.
    #[must_use]
    pub fn queue(name: &str) -> Self {
        Self::other(format!("queue-{name}"))
    }

    /// The stream of a schedule.
    #[must_use]
    pub fn schedule(id: Uuid) -> Self {
        Self::other(format!("schedule-{id}"))
    }

    /// The stream of an API token.
    #[must_use]
    pub fn token(id: Uuid) -> Self {
        Self::other(format!("token-{id}"))
    }

    /// The stream of a session.
    #[must_use]
    pub fn session(id: Uuid) -> Self {
        Self::other(format!("session-{id}"))
    }

    /// The stream of this name; `None` if this version of Taskbell doesn't know the form of the name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(id) = text.strip_prefix(TASK_PREFIX) {
            return id.parse().ok().map(Self::task);
        }
        let name = Self::other(text);
        name.subject().is_some().then_some(name)
    }

    fn other(name: impl Into<Arc<str>>) -> Self {
        Self(Name::Other(name.into()))
    }

    /// What the stream belongs to; `None` if this version of Taskbell doesn't know the form of the name.
    #[must_use]
    pub fn subject(&self) -> Option<StreamSubject<'_>> {
        let name = match &self.0 {
            Name::Task(task) => return Some(StreamSubject::Task(task.id)),
            Name::Other(name) => name,
        };
        let uuid = |id: &str| id.parse().ok().filter(|uuid: &Uuid| uuid.to_string() == id);
        if let Some(id) = name.strip_prefix("schedule-") {
            return uuid(id).map(StreamSubject::Schedule);
        }
        if let Some(id) = name.strip_prefix("token-") {
            return uuid(id).map(StreamSubject::Token);
        }
        if let Some(id) = name.strip_prefix("session-") {
            return uuid(id).map(StreamSubject::Session);
        }
        if let Some(name) = name.strip_prefix("queue-") {
            return is_name(name).then_some(StreamSubject::Queue(name));
        }
        name.strip_prefix("bell-").filter(|owner| !owner.is_empty()).map(StreamSubject::Bell)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // It is always UTF-8.
            Name::Task(task) => str::from_utf8(&task.text).unwrap_or_default(),
            Name::Other(name) => name,
        }
    }
}

impl PartialOrd for StreamName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamName").field(&self.as_str()).finish()
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
