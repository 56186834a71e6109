//! An event as the log holds it, and one on its way there.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{ReadError, chain, codec};
use crate::task::bell::BellEvent;
use crate::task::limits::is_name;
use crate::task::queue::QueueEvent;
use crate::task::schedule::ScheduleEvent;
use crate::task::{Event, Position, Revision, TaskId, Timestamp};

/// The name of a stream: `task-<uuid>`, `bell-<owner>`, `queue-<name>` or `schedule-<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// Whose stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOf<'a> {
    /// A task's.
    Task(TaskId),
    /// An owner's bell.
    Bell(&'a str),
    /// A queue's.
    Queue(&'a str),
    /// A schedule's.
    Schedule(Uuid),
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

    /// The stream of this name, if it is one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = Self(text.into());
        name.of().is_some().then_some(name)
    }

    /// Whose it is; nothing where the name is of no kind that this version knows.
    #[must_use]
    pub fn of(&self) -> Option<StreamOf<'_>> {
        if let Some(id) = self.0.strip_prefix("task-") {
            return id.parse().ok().map(StreamOf::Task);
        }
        if let Some(id) = self.0.strip_prefix("schedule-") {
            return id.parse().ok().filter(|uuid: &Uuid| uuid.to_string() == id).map(StreamOf::Schedule);
        }
        if let Some(name) = self.0.strip_prefix("queue-") {
            return is_name(name).then_some(StreamOf::Queue(name));
        }
        self.0.strip_prefix("bell-").filter(|owner| !owner.is_empty()).map(StreamOf::Bell)
    }

    /// As text.
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

/// By which door a command came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The HTTP API, the UI included.
    Http,
    /// The command line.
    Cli,
    /// A worker's report.
    Worker,
    /// A timer.
    Scheduler,
    /// A program that embeds Taskbell.
    Library,
}

/// Who did it and why it happened: kept with each event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Authenticated subject, worker or `system`.
    pub actor: String,
    /// By which door.
    pub via: Via,
    /// The same for all that one request led to.
    pub correlation_id: Uuid,
    /// The event or task that led to this.
    pub causation_id: Option<Uuid>,
    /// The request's id, as the client or its proxy named it.
    pub request_id: Option<String>,
}

/// Any event that the log can hold.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// Of a task's stream.
    Task(Event),
    /// Of a bell's stream.
    Bell(BellEvent),
    /// Of a queue's stream.
    Queue(QueueEvent),
    /// Of a schedule's stream.
    Schedule(ScheduleEvent),
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

impl From<BellEvent> for LogEvent {
    fn from(event: BellEvent) -> Self {
        Self::Bell(event)
    }
}

/// An event on its way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// UUIDv7.
    pub id: Uuid,
    /// When it happened.
    pub time: Timestamp,
    /// Who and why.
    pub meta: Meta,
    /// What.
    pub event: LogEvent,
}

/// A BLAKE3 hash of the chain: of this event and all before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash before the first event.
    pub const ZERO: Self = Self([0; 32]);
}

impl FromStr for Hash {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let hash = blake3::Hash::from_hex(text).map_err(|error| ReadError::Damaged(format!("no hash: {error}")))?;
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

/// An event read back.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Place in the log.
    pub position: Position,
    /// Whose it is.
    pub stream: StreamName,
    /// Place in its stream.
    pub revision: Revision,
    /// UUIDv7.
    pub id: Uuid,
    /// The wire name of its type.
    pub kind: &'static str,
    /// The version of its schema as it was written.
    pub version: u32,
    /// When it happened.
    pub time: Timestamp,
    /// Who and why.
    pub meta: Meta,
    /// What, in today's shape.
    pub event: LogEvent,
    /// The chain up to here.
    pub hash: Hash,
    /// `meta` byte for byte as it was written: what the chain covers and the API serves.
    pub raw_meta: Box<RawValue>,
    /// `data` byte for byte as it was written.
    pub raw_data: Box<RawValue>,
}

/// What the log holds of an event, not yet understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row<'a> {
    pub(super) position: Position,
    #[serde(borrow)]
    pub(super) stream: Cow<'a, str>,
    pub(super) revision: Revision,
    pub(super) id: Uuid,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    pub(super) version: u32,
    pub(super) time: Timestamp,
    pub(super) meta: Box<RawValue>,
    pub(super) data: Box<RawValue>,
    #[serde(deserialize_with = "hash_from_hex")]
    pub(super) hash: Hash,
}

fn hash_from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
    Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl Row<'_> {
    /// The event, in today's shape.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Unknown`], with the position.
    pub(super) fn understand(self) -> Result<Recorded, ReadError> {
        let Row { position, stream, revision, id, kind, version, time, meta: raw_meta, data: raw_data, hash } = self;
        let damaged = |what: &dyn fmt::Display| ReadError::Damaged(format!("event {position}: {what}"));
        let event = codec::decode(&kind, version, raw_data.get()).map_err(|error| match error {
            ReadError::Unknown { kind, version, .. } => ReadError::Unknown { position: Some(position), kind, version },
            ReadError::Damaged(what) => damaged(&what),
            ReadError::Unavailable(_) => error,
        })?;
        let stream =
            StreamName::parse(&stream).ok_or_else(|| damaged(&format_args!("no stream is named {stream:?}")))?;
        let meta = serde_json::from_str(raw_meta.get()).map_err(|error| damaged(&format_args!("no meta: {error}")))?;
        let kind = codec::type_name(&event);
        Ok(Recorded { position, stream, revision, id, kind, version, time, meta, event, hash, raw_meta, raw_data })
    }
}

impl Recorded {
    /// The event that serialises as this JSON text.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where it is none, [`ReadError::Unknown`] where this version doesn't know its type.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        let row: Row = serde_json::from_str(text)
            .map_err(|error| ReadError::Damaged(format!("a line that is no recorded event: {error}")))?;
        row.understand()
    }

    /// The hash that this event must have if `previous` is the hash of the event one position earlier: BLAKE3 over
    /// `previous` and the fields of this event. An event with another hash was changed after it was written.
    #[must_use]
    pub fn expected_hash(&self, previous: Hash) -> Hash {
        chain::link(previous, self)
    }
}

impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Recorded", 10)?;
        out.serialize_field("position", &self.position)?;
        out.serialize_field("stream", self.stream.as_str())?;
        out.serialize_field("revision", &self.revision)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("type", self.kind)?;
        out.serialize_field("version", &self.version)?;
        out.serialize_field("time", &self.time)?;
        out.serialize_field("meta", &self.raw_meta)?;
        out.serialize_field("data", &self.raw_data)?;
        out.serialize_field("hash", &format_args!("{}", self.hash))?;
        out.end()
    }
}
