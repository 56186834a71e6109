//! Events as the log holds them: with a position, a revision and a hash.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::{Error as _, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::event::{Hash, LogEvent, Meta, StreamName};
use super::{ReadError, codec};
use crate::task::{Position, Revision, Timestamp};

/// What an event says: the part of a recorded event from which the views are computed.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Its number in the log, from 1.
    pub position: Position,
    /// The stream that it belongs to.
    pub stream: StreamName,
    /// Its number in its stream, from 0.
    pub revision: Revision,
    /// A `UUIDv7`.
    pub id: Uuid,
    /// When it happened.
    pub time: Timestamp,
    /// Who caused the event, and why.
    pub meta: Meta,
    /// What happened, in the current version of its type.
    pub event: LogEvent,
}

/// An event that was recorded in the log: a [`Fact`], whose fields it has too, and its texts with their hash. `NewEvent` is an
/// event before that.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What the event says.
    pub fact: Fact,
    /// The name of its type. Each type has a folder of this name in `events/`.
    pub event_type: &'static str,
    /// The version of the type's schema with which it was written.
    pub version: u32,
    /// The hash over this event and all events before it.
    pub hash: Hash,
    /// The bytes of `meta` as they were written. The hash covers these bytes, and the API serves them.
    pub raw_meta: StoredJson,
    /// The bytes of `data` as they were written. The hash covers these bytes, and the API serves them.
    pub raw_data: StoredJson,
}

impl Deref for Recorded {
    type Target = Fact;

    fn deref(&self) -> &Fact {
        &self.fact
    }
}

/// JSON as a text of the log. The code that creates a value has parsed the text as JSON or has written it. So the text is not
/// parsed again, except where it becomes a part of a longer JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredJson(Box<str>);

impl StoredJson {
    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }

    /// The text as a value that becomes a part of a longer JSON text.
    ///
    /// # Errors
    /// If it is no JSON.
    pub(super) fn to_raw(&self) -> serde_json::Result<&RawValue> {
        serde_json::from_str(&self.0)
    }

    /// The text of a column that was decoded as JSON.
    pub(super) fn decoded(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Box<RawValue>> for StoredJson {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw.into())
    }
}

impl Serialize for StoredJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_raw().map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// An event as the log stores it, before its JSON is decoded. The texts are borrowed from the reader of the log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent<'a> {
    pub(super) position: Position,
    #[serde(borrow)]
    pub(super) stream: Cow<'a, str>,
    pub(super) revision: Revision,
    pub(super) id: Uuid,
    #[serde(borrow, rename = "type")]
    pub(super) event_type: Cow<'a, str>,
    pub(super) version: u32,
    pub(super) time: Timestamp,
    #[serde(borrow, deserialize_with = "text_of_json")]
    pub(super) meta: &'a str,
    #[serde(borrow, deserialize_with = "text_of_json")]
    pub(super) data: &'a str,
    #[serde(deserialize_with = "hash_from_hex")]
    pub(super) hash: Hash,
}

fn text_of_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    <&'de RawValue>::deserialize(deserializer).map(RawValue::get)
}

fn hash_from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
    Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// An event whose `data` is not decoded yet.
pub(super) struct UndecodedEvent<'a> {
    pub(super) position: Position,
    pub(super) stream: StreamName,
    pub(super) revision: Revision,
    pub(super) id: Uuid,
    pub(super) event_type: &'a str,
    pub(super) version: u32,
    pub(super) time: Timestamp,
    pub(super) meta: Meta,
    pub(super) data: &'a str,
}

impl RawEvent<'_> {
    /// Decodes the event.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Unknown`]; both name the position.
    fn decode(self) -> Result<Recorded, ReadError> {
        let Self { position, stream, revision, id, event_type, version, time, meta: raw_meta, data, hash } = self;
        let (stream, meta) = (stream_name(position, &stream)?, parse_meta(position, raw_meta)?);
        let event_type = &*event_type;
        let fact = UndecodedEvent { position, stream, revision, id, event_type, version, time, meta, data }.decode()?;
        Ok(Recorded::new(fact, version, hash, StoredJson::decoded(raw_meta), StoredJson::decoded(data)))
    }
}

/// The stream of this name.
///
/// # Errors
/// [`ReadError::Damaged`] names the position of the event.
pub(super) fn stream_name(position: Position, name: &str) -> Result<StreamName, ReadError> {
    let invalid = || ReadError::Damaged(format!("event {position}: {name:?} is not a valid name of a stream"));
    StreamName::parse(name).ok_or_else(invalid)
}

/// Reads an event's `meta`.
///
/// # Errors
/// [`ReadError::Damaged`] names the position of the event.
pub(super) fn parse_meta(position: Position, raw_meta: &str) -> Result<Meta, ReadError> {
    let invalid = |error| ReadError::Damaged(format!("event {position}: meta is invalid: {error}"));
    serde_json::from_str(raw_meta).map_err(invalid)
}

impl UndecodedEvent<'_> {
    /// Decodes the event's `data`.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Unknown`]; both name the position.
    pub(super) fn decode(self) -> Result<Fact, ReadError> {
        let Self { position, stream, revision, id, event_type, version, time, meta, data } = self;
        let event = codec::decode(event_type, version, data).map_err(|error| match error {
            ReadError::Unknown { event_type, version, .. } => {
                ReadError::Unknown { position: Some(position), event_type, version }
            }
            ReadError::Damaged(what) => ReadError::Damaged(format!("event {position}: {what}")),
            ReadError::Unavailable(_) => error,
        })?;
        Ok(Fact { position, stream, revision, id, time, meta, event })
    }
}

/// Refuses a text of the log with spaces around its JSON: Taskbell writes none, so the text was changed.
pub(super) fn without_spaces_around(text: &str) -> Option<&str> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t' | b'\n' | b'\r'));
    (!is_space(text.as_bytes().first()) && !is_space(text.as_bytes().last())).then_some(text)
}

impl Recorded {
    /// The event with its texts, which were decoded or have been encoded just now.
    pub(super) fn new(fact: Fact, version: u32, hash: Hash, raw_meta: StoredJson, raw_data: StoredJson) -> Self {
        Self { event_type: codec::type_name(&fact.event), fact, version, hash, raw_meta, raw_data }
    }

    /// Length of its `meta` and `data`, in bytes.
    pub(super) fn size(&self) -> usize {
        self.raw_meta.get().len() + self.raw_data.get().len()
    }

    /// Writes the members before `data`.
    pub(super) fn serialize_head<S: SerializeStruct>(&self, out: &mut S) -> Result<(), S::Error> {
        out.serialize_field("position", &self.position)?;
        out.serialize_field("stream", self.stream.as_str())?;
        out.serialize_field("revision", &self.revision)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("type", self.event_type)?;
        out.serialize_field("version", &self.version)?;
        out.serialize_field("time", &self.time)?;
        out.serialize_field("meta", &self.raw_meta)
    }

    /// Reads an event from its JSON text, which `Serialize` has written.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the text is not an event, [`ReadError::Unknown`] if this version of Taskbell doesn't know
    /// the event's type.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        let event: RawEvent = serde_json::from_str(text)
            .map_err(|error| ReadError::Damaged(format!("a line is not a valid event: {error}")))?;
        event.decode()
    }
}

impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Recorded", 10)?;
        self.serialize_head(&mut out)?;
        out.serialize_field("data", &self.raw_data)?;
        out.serialize_field("hash", &format_args!("{}", self.hash))?;
        out.end()
    }
}

/// Returns the events if their revisions are consecutive from `from` on. Otherwise the log is damaged.
pub(super) fn without_gaps(
    stream: &StreamName,
    from: Revision,
    events: Vec<Arc<Recorded>>,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    match events.iter().zip(from.0..).find(|(event, revision)| event.revision.0 != *revision) {
        Some((_, revision)) => Err(lost_revision(stream, Revision(revision))),
        None => Ok(events),
    }
}

/// The error for a stream that lacks an event of this revision.
pub(super) fn lost_revision(stream: &StreamName, revision: Revision) -> ReadError {
    ReadError::Damaged(format!("{stream} has lost its event of revision {revision}"))
}
