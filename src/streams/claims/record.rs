//! A claim as its stream holds it. `events/aside/KeyClaimed/` is its published schema.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::store::auxiliary::{AuxiliaryEvent, AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent};
use crate::store::{AppendError, EventStore, Hash, LogEvent, Meta, NewEvent, ReadError, codec, new_id};
use crate::streams::messages::Begin;
use crate::task::event::Created;
use crate::task::{Event, Revision, TaskId, Timestamp};

/// The type of a claim's event.
pub const KIND: &str = "KeyClaimed";
/// The version in which claims are written.
pub const VERSION: u32 = 1;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// One task of an owner that is not final.
    Unique,
    /// One task for all requests of a caller.
    Idempotency,
}

/// A key that can be claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names)] // the schema's names
pub struct Key {
    /// What it is for.
    pub kind: KeyKind,
    /// The owner of a unique key, the caller of an idempotency key.
    pub subject: String,
    /// The key.
    pub key: String,
}

impl Key {
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

    /// The stream of the key's claims: `key-` and a BLAKE3 hash over kind, subject and key, each after its length in bytes
    /// (64 bits, little-endian).
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
    /// The version of its schema.
    pub version: u32,
    /// The key.
    pub key: Key,
    /// For an idempotency key: BLAKE3 of the request's body, in hexadecimal.
    pub body_hash: Option<String>,
    /// The task.
    pub task: TaskId,
    /// The last revision of the task's stream before the run; null where the run creates the task.
    pub expected: Option<Revision>,
    /// The events by which the run begins; empty where it had begun before the claim, in an imported log.
    pub begin: Vec<BeginEvent>,
}

/// An event of a run's begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginEvent {
    /// A `UUIDv7`, which the event keeps in the log.
    pub id: Uuid,
    /// The name of its type: a folder of `events/`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version of its schema.
    pub version: u32,
    /// When it happened.
    pub time: Timestamp,
    /// Who caused it, and why.
    pub meta: Meta,
    /// Its data.
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
    /// The claim of this key for the run that begins so.
    pub(super) fn new(key: Key, body_hash: Option<String>, begin: &Begin) -> Result<Self, AppendError> {
        let events =
            begin.events.iter().map(BeginEvent::new).collect::<Result<_, _>>().map_err(|error| not_json(&error))?;
        Ok(Self { version: VERSION, key, body_hash, task: begin.task, expected: begin.expected, begin: events })
    }

    /// The claim of the unique key of this begin; none where its task has none.
    pub(super) fn unique(begin: &Begin) -> Result<Option<Self>, AppendError> {
        let key =
            created(begin).and_then(|(created, _)| Some(Key::unique(&created.owner, created.unique_key.as_ref()?)));
        key.map(|key| Self::new(key, None, begin)).transpose()
    }

    /// The claim of the idempotency key of this begin; none where its task has none.
    pub(super) fn idempotency(begin: &Begin) -> Result<Option<Self>, AppendError> {
        let claim = |(created, meta): (&Created, &Meta)| {
            let idempotency = created.idempotency.as_ref()?;
            let key = Key::idempotency(&meta.actor, &idempotency.key);
            Some(Self::new(key, Some(idempotency.body_hash.clone()), begin))
        };
        created(begin).and_then(claim).transpose()
    }

    /// The begin of the run; none where it had begun before the claim.
    pub(super) fn begin(&self) -> Result<Option<Begin>, ReadError> {
        if self.begin.is_empty() {
            return Ok(None);
        }
        let events = self.begin.iter().map(BeginEvent::decode).collect::<Result<_, _>>()?;
        Ok(Some(Begin { task: self.task, expected: self.expected, events }))
    }

    /// The last claim of the key, and its revision in the key's stream.
    pub(super) async fn last(store: &EventStore, key: &Key) -> Result<Option<(Self, Revision)>, ReadError> {
        let Some(recorded) = store.read_last_auxiliary(key.stream()).await? else { return Ok(None) };
        Ok(Some((Self::decode(&recorded)?, recorded.revision)))
    }

    /// Writes the claim; false where the stream of its key does not end as expected: another claim was faster.
    pub(super) async fn write(&self, store: &EventStore, expected: AuxiliaryExpected) -> Result<bool, AppendError> {
        let event =
            NewAuxiliaryEvent { id: new_id(), kind: KIND, data: to_raw_value(self).map_err(|error| not_json(&error))? };
        match store.append_auxiliary(self.key.stream(), expected, event).await {
            Ok(_) => Ok(true),
            Err(AppendError::WrongExpectedRevision { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a claim.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where the event is no claim, [`ReadError::Unknown`] where a later version of Taskbell wrote it.
    pub fn decode(recorded: &AuxiliaryEvent) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |error| ReadError::Damaged(format!("{} holds no claim: {error}", recorded.stream));
        let Versioned { version } = serde_json::from_str(recorded.data.get()).map_err(damaged)?;
        if recorded.kind != KIND || version != VERSION {
            return Err(ReadError::Unknown { position: None, kind: recorded.kind.clone(), version });
        }
        serde_json::from_str(recorded.data.get()).map_err(damaged)
    }
}

/// The new task of this begin and the metadata of its event; none where the begin is a retry.
fn created(begin: &Begin) -> Option<(&Created, &Meta)> {
    begin.events.iter().find_map(|new| match &new.event {
        LogEvent::Task(Event::Created(created)) => Some((&**created, &new.meta)),
        _ => None,
    })
}

fn not_json(error: &serde_json::Error) -> AppendError {
    AppendError::Unavailable(format!("a claim that can't be kept: {error}"))
}
