//! The form of an event in the database.
//!
//! The type and the data in the database are the event's type and data. The metadata in the database is a JSON object with
//! the event's time, the version of its schema and the event's `meta` byte for byte. The time is part of it because the
//! client cuts the database's own time to seconds.

use std::fmt;

use eventstore::{EventData, RecordedEvent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::encoded::EncodedEvent;
use crate::store::recorded::{StoredJson, without_spaces_around};
use crate::store::{Fact, Hash, Head, ReadError, Recorded, StreamName, codec};
use crate::task::{Position, Revision, Timestamp};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata<'a> {
    time: Timestamp,
    version: u32,
    #[serde(borrow)]
    meta: &'a RawValue,
}

/// The event in the form in which it is sent to the database.
pub(super) fn to_event_data(event: &EncodedEvent) -> serde_json::Result<EventData> {
    let EncodedEvent { event: new_event, event_type, version, meta, data } = event;
    let metadata = Metadata { time: new_event.time, version: *version, meta: meta.to_raw()? };
    EventData::json(event_type, data)?.id(new_event.id).metadata_as_json(&metadata)
}

/// Decodes an event of the database. The result has position 0 and [`Hash::ZERO`]; [`assign_position`] sets both. `stream`
/// is the name of the stream without the prefix.
///
/// # Errors
/// [`ReadError::Damaged`] or [`ReadError::Unknown`]; the latter without a position.
pub(super) fn decode(stream: &str, event: &RecordedEvent) -> Result<Recorded, ReadError> {
    let damaged = |what: &dyn fmt::Display| {
        ReadError::Damaged(format!("event {} of {stream} (revision {}): {what}", event.id, event.revision))
    };
    let name = StreamName::parse(stream).ok_or_else(|| damaged(&"the name of the stream is invalid"))?;
    let metadata: Metadata<'_> = serde_json::from_slice(&event.custom_metadata)
        .map_err(|error| damaged(&format_args!("the metadata is invalid: {error}")))?;
    let data = std::str::from_utf8(&event.data).map_err(|error| damaged(&error))?;
    let data = without_spaces_around(data).ok_or_else(|| damaged(&"spaces around its JSON"))?;
    let decoded = codec::decode(&event.event_type, metadata.version, data).map_err(|error| match error {
        ReadError::Damaged(what) => damaged(&what),
        ReadError::Unknown { .. } | ReadError::Unavailable(_) => error,
    })?;
    let meta = serde_json::from_str(metadata.meta.get())
        .map_err(|error| damaged(&format_args!("meta is invalid: {error}")))?;
    Ok(Recorded {
        event_type: codec::type_name(&decoded),
        fact: Fact {
            position: Position(0),
            stream: name,
            revision: Revision(event.revision),
            id: event.id,
            time: metadata.time,
            meta,
            event: decoded,
        },
        version: metadata.version,
        hash: Hash::ZERO,
        raw_meta: StoredJson::decoded(metadata.meta.get()),
        raw_data: StoredJson::decoded(data),
    })
}

/// Assigns to the event the position after `head` and its hash, and sets `head` to this event.
pub(super) fn assign_position(mut event: Recorded, head: &mut Head) -> Recorded {
    event.fact.position = Position(head.position.0 + 1);
    event.hash = event.expected_hash(head.hash);
    *head = Head { position: event.position, hash: event.hash, time: Some(event.time) };
    event
}
