//! Stream metadata. It determines which events of a stream a read returns. A read of `$all` returns all events.

use std::sync::Arc;

use prost::bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::backend::ReceivedEvent;
use super::super::event::{WireEvent, WirePosition};
use super::super::refusal::Refusal;
use super::contents::{DELETED_REVISION, DatabaseContents};
use crate::clock::{new_id, now};

/// The name of the stream that holds the metadata of `stream`.
pub(super) fn metadata_stream(stream: &str) -> String {
    format!("$${stream}")
}

/// The metadata of the stream; empty if there is none or it is not a JSON object.
fn metadata(contents: &DatabaseContents, stream: &str) -> Map<String, Value> {
    let last = contents.last(&metadata_stream(stream));
    last.and_then(|event| serde_json::from_slice(&event.data).ok()).unwrap_or_default()
}

/// Whether the stream was soft-deleted and no event was written to it since then.
pub(super) fn is_soft_deleted(contents: &DatabaseContents, stream: &str) -> bool {
    metadata(contents, stream).get("$tb").and_then(Value::as_u64) == Some(DELETED_REVISION)
}

/// Hides every event of the stream, and replaces its metadata.
pub(super) fn soft_delete(contents: &mut DatabaseContents, stream: &str) -> WirePosition {
    write_metadata(contents, stream, &json!({ "$tb": DELETED_REVISION }))
}

/// Makes the events of a soft-deleted stream visible from the revision `first` on. The other metadata of the stream stays.
pub(super) fn undelete(contents: &mut DatabaseContents, stream: &str, first: u64) {
    let mut metadata = metadata(contents, stream);
    metadata.insert("$tb".to_owned(), first.into());
    write_metadata(contents, stream, &Value::Object(metadata));
}

fn write_metadata(contents: &mut DatabaseContents, stream: &str, metadata: &Value) -> WirePosition {
    let event = ReceivedEvent {
        id: new_id(),
        event_type: "$metadata".into(),
        content_type: "application/json".into(),
        custom_metadata: Bytes::new(),
        data: metadata.to_string().into(),
    };
    contents.push(&metadata_stream(stream), event)
}

/// The events that a read of the stream returns.
pub(super) fn visible_events<'a>(
    contents: &'a DatabaseContents,
    stream: &str,
) -> Result<&'a [Arc<WireEvent>], Refusal> {
    let events = contents.stream(stream);
    if contents.is_tombstoned(stream) {
        return Err(Refusal::StreamDeleted(stream.to_owned()));
    }
    if events.is_empty() || is_soft_deleted(contents, stream) {
        return Err(Refusal::NoStream(stream.to_owned()));
    }
    let truncation = Truncation::from_metadata(contents, stream);
    let first = events.partition_point(|event| truncation.hides(event, events.len() as u64));
    Ok(&events[first..])
}

/// The limits of a stream's metadata that hide events.
struct Truncation {
    truncate_before: u64,
    max_count: Option<u64>,
    /// In ticks of 100 ns since 1970-01-01T00:00:00Z.
    not_older_than: u64,
}

impl Truncation {
    /// The limits in the metadata of this stream. A metadata stream shows only its last event.
    fn from_metadata(contents: &DatabaseContents, stream: &str) -> Self {
        if stream.starts_with("$$") {
            return Self { truncate_before: 0, max_count: Some(1), not_older_than: 0 };
        }
        let metadata = metadata(contents, stream);
        let number = |name: &str| metadata.get(name).and_then(Value::as_u64);
        let now = u64::try_from(now().as_micros()).unwrap_or(0);
        let oldest = |age_s: u64| now.saturating_sub(age_s.saturating_mul(1_000_000)).saturating_mul(10);
        Self {
            truncate_before: number("$tb").unwrap_or(0),
            max_count: number("$maxCount"),
            not_older_than: number("$maxAge").map_or(0, oldest),
        }
    }

    /// Whether a read of the stream leaves this event out. `count` is the number of all events of the stream.
    fn hides(&self, event: &WireEvent, count: u64) -> bool {
        let is_surplus = self.max_count.is_some_and(|max| event.revision < count.saturating_sub(max));
        event.revision < self.truncate_before || is_surplus || event.created < self.not_older_than
    }
}
