//! The claim of a key, and its format. `events/aside/KeyClaimed/` has the published schema.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::store::auxiliary::{AuxiliaryEvent, AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent};
use crate::store::{AppendError, EventStore, Hash, LogEvent, Meta, NewEvent, ReadError, codec, new_id};
use crate::streams::messages::BeginRun;
use crate::task::event::Created;
use crate::task::{Event, Revision, TaskId, Timestamp};

/// The event type of a claim.
pub const KIND: &str = "KeyClaimed";
/// The version of the schema in which claims are written.
pub const VERSION: u32 = 1;

/// The purpose of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// An owner has at most one task with this key that is not final.
    Unique,
    /// All requests of a caller with this key stand for one task.
    Idempotency,
}

/// A key that can be claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names)] // the schema's names
pub struct ClaimKey {
    /// The purpose of the key.
    pub kind: KeyKind,
    /// The owner of a unique key, the caller of an idempotency key.
    pub subject: String,
    /// The key's text.
    pub key: String,
}

impl ClaimKey {
    /// The unique key of this owner.
    #[must_use]
    pub fn unique(owner: &str, key: &str) -> Self {
        Self { kind: KeyKind::Unique, subject: owner.to_owned(), key: key.to_owned() }
    }

    /// The idempotency key of this caller.
    #[must_use]
    pub fn idempotency(caller: &str, key: &str) -> Self {
        Self { kind: KeyKind::Idempotency, subject: caller.to_owned(), key: key.to_owned() }
    }

    /// The stream of the key's claims: `key-` and a BLAKE3 hash. The hash is over the kind, the subject and the key's text. Each
    /// of them follows its own length in bytes, as 64 bits, little-endian.
    #[must_use]
    pub fn stream(&self) -> AuxiliaryStream {
        let kind = match self.kind {
            KeyKind::Unique => "unique",
            KeyKind::Idempotency => "idempotency",
        };
        let mut hasher = blake3::Hasher::new();
        for part in [kind, &self.subject, &self.key] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        AuxiliaryStream::Key(Hash(*hasher.finalize().as_bytes()))
    }
}

/// The claim of a key for one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The version of the claim's schema.
    pub version: u32,
    /// The key.
    pub key: ClaimKey,
    /// For an idempotency key: BLAKE3 of the request's body, in hexadecimal.
    pub body_hash: Option<String>,
    /// The task.
    pub task: TaskId,
    /// The last revision of the task's stream before the run; null if the run creates the task.
    pub expected: Option<Revision>,
    /// The events that begin the run. Empty in an imported log, where the run had begun before the claim.
    pub begin: Vec<BeginEvent>,
}

/// One of the events that begin a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginEvent {
    /// A `UUIDv7`. The event has the same id in the log.
    pub id: Uuid,
    /// The name of the event's type: a folder of `events/`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version of the event's schema.
    pub version: u32,
    /// When the event happened.
    pub time: Timestamp,
    /// Who caused the event, and why.
    pub meta: Meta,
    /// The event's data.
    pub data: Box<RawValue>,
}

impl BeginEvent {
    fn new(new: &NewEvent) -> serde_json::Result<Self> {
        let (kind, data) = (codec::type_name(&new.event), codec::encode(&new.event)?);
        let version = codec::current_version(kind).unwrap_or_default();
        Ok(Self { id: new.id, kind: kind.to_owned(), version, time: new.time, meta: new.meta.clone(), data })
    }

    fn decode(&self) -> Result<NewEvent, ReadError> {
        let event = codec::decode(&self.kind, self.version, self.data.get())?;
        Ok(NewEvent { id: self.id, time: self.time, meta: self.meta.clone(), event })
    }
}

impl Claim {
    /// The claim of this key for the run that begins with these events.
    pub(super) fn new(key: ClaimKey, body_hash: Option<String>, begin: &BeginRun) -> Result<Self, AppendError> {
        let events = begin
            .events
            .iter()
            .map(BeginEvent::new)
            .collect::<Result<_, _>>()
            .map_err(|error| not_encodable(&error))?;
        Ok(Self { version: VERSION, key, body_hash, task: begin.task, expected: begin.expected, begin: events })
    }

    /// The claim of the unique key of the task that these events create; none if it has no such key.
    pub(super) fn unique(begin: &BeginRun) -> Result<Option<Self>, AppendError> {
        let key = created(begin)
            .and_then(|(created, _)| Some(ClaimKey::unique(&created.owner, created.unique_key.as_ref()?)));
        key.map(|key| Self::new(key, None, begin)).transpose()
    }

    /// The claim of the idempotency key of the task that these events create; none if it has no such key.
    pub(super) fn idempotency(begin: &BeginRun) -> Result<Option<Self>, AppendError> {
        let claim = |(created, meta): (&Created, &Meta)| {
            let idempotency = created.idempotency.as_ref()?;
            let key = ClaimKey::idempotency(&meta.actor, &idempotency.key);
            Some(Self::new(key, Some(idempotency.body_hash.clone()), begin))
        };
        created(begin).and_then(claim).transpose()
    }

    /// The message that begins the run; none if the run had begun before the claim.
    pub(super) fn begin_run(&self) -> Result<Option<BeginRun>, ReadError> {
        if self.begin.is_empty() {
            return Ok(None);
        }
        let events = self.begin.iter().map(BeginEvent::decode).collect::<Result<_, _>>()?;
        Ok(Some(BeginRun { task: self.task, expected: self.expected, events }))
    }

    /// Reads the last claim of the key. Returns it with its revision in the key's stream.
    pub(super) async fn last(store: &EventStore, key: &ClaimKey) -> Result<Option<(Self, Revision)>, ReadError> {
        let Some(recorded) = store.read_last_auxiliary(key.stream()).await? else { return Ok(None) };
        Ok(Some((Self::decode(&recorded)?, recorded.revision)))
    }

    /// Writes the claim. False if the key's stream does not end at the expected revision, because another claim was faster.
    pub(super) async fn write(&self, store: &EventStore, expected: AuxiliaryExpected) -> Result<bool, AppendError> {
        let event = NewAuxiliaryEvent {
            id: new_id(),
            event_type: KIND,
            data: to_raw_value(self).map_err(|error| not_encodable(&error))?,
        };
        match store.append_auxiliary(self.key.stream(), expected, event).await {
            Ok(_) => Ok(true),
            Err(AppendError::WrongExpectedRevision { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Decodes the claim in an event.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the event is not a claim, [`ReadError::Unknown`] if a later version of Taskbell wrote it.
    pub fn decode(recorded: &AuxiliaryEvent) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |error| ReadError::Damaged(format!("{} holds no claim: {error}", recorded.stream));
        let Versioned { version } = serde_json::from_str(recorded.data.get()).map_err(damaged)?;
        if recorded.event_type != KIND || version != VERSION {
            return Err(ReadError::Unknown { position: None, event_type: recorded.event_type.clone(), version });
        }
        serde_json::from_str(recorded.data.get()).map_err(damaged)
    }
}

/// The `Created` among these events, and its metadata; none if the run is a retry.
fn created(begin: &BeginRun) -> Option<(&Created, &Meta)> {
    begin.events.iter().find_map(|new| match &new.event {
        LogEvent::Task(Event::Created(created)) => Some((&**created, &new.meta)),
        _ => None,
    })
}

fn not_encodable(error: &serde_json::Error) -> AppendError {
    AppendError::Unavailable(format!("a claim that can't be kept: {error}"))
}
