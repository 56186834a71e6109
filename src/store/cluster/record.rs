//! An event as the database holds it.
//!
//! Its type is the event's kind, its data the event's data, and its metadata is a JSON object with the time, the version of
//! the schema and the event's meta, the last byte for byte. The database's own time is cut to seconds by the client.

use std::fmt;

use eventstore::{EventData, RecordedEvent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::encoded::EncodedEvent;
use crate::store::{Hash, Head, ReadError, Recorded, StreamName, codec};
use crate::task::{Position, Revision, Timestamp};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata<'a> {
    time: Timestamp,
    version: u32,
    #[serde(borrow)]
    meta: &'a RawValue,
}

/// The event as it is sent.
pub(super) fn proposed(event: &EncodedEvent) -> serde_json::Result<EventData> {
    let EncodedEvent { new, kind, version, meta, data } = event;
    let metadata = Metadata { time: new.time, version: *version, meta };
    EventData::json(kind, data)?.id(new.id).metadata_as_json(&metadata)
}

/// The event without its place in the log: its position is 0 and its hash zero. `stream` is its stream's name as Taskbell
/// shows it.
///
/// # Errors
/// [`ReadError::Damaged`], and [`ReadError::Unknown`] without a position.
pub(super) fn decode(stream: &str, event: &RecordedEvent) -> Result<Recorded, ReadError> {
    let damaged = |what: &dyn fmt::Display| {
        ReadError::Damaged(format!("event {} of {stream} (revision {}): {what}", event.id, event.revision))
    };
    let name = StreamName::parse(stream).ok_or_else(|| damaged(&"no stream has that name"))?;
    let metadata: Metadata<'_> =
        serde_json::from_slice(&event.custom_metadata).map_err(|error| damaged(&format_args!("metadata: {error}")))?;
    let data = std::str::from_utf8(&event.data).map_err(|error| damaged(&error))?;
    let raw_data = RawValue::from_string(data.to_owned()).map_err(|error| damaged(&error))?;
    if raw_data.get().len() != data.len() {
        return Err(damaged(&"spaces around its JSON"));
    }
    let decoded = codec::decode(&event.event_type, metadata.version, data).map_err(|error| match error {
        ReadError::Damaged(what) => damaged(&what),
        ReadError::Unknown { .. } | ReadError::Unavailable(_) => error,
    })?;
    let meta = serde_json::from_str(metadata.meta.get()).map_err(|error| damaged(&format_args!("meta: {error}")))?;
    Ok(Recorded {
        position: Position(0),
        stream: name,
        revision: Revision(event.revision),
        id: event.id,
        kind: codec::type_name(&decoded),
        version: metadata.version,
        time: metadata.time,
        meta,
        event: decoded,
        hash: Hash::ZERO,
        raw_meta: metadata.meta.to_owned(),
        raw_data,
    })
}

/// Gives the event the place after `head`, and moves `head` to it.
pub(super) fn number(mut event: Recorded, head: &mut Head) -> Recorded {
    event.position = Position(head.position.0 + 1);
    event.hash = event.expected_hash(head.hash);
    *head = Head { position: event.position, hash: event.hash, time: Some(event.time) };
    event
}
