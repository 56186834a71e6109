//! Stream metadata: what a stream still shows. `$all` shows everything.

use std::sync::Arc;

use prost::bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::backend::Proposed;
use super::super::event::{WireEvent, WirePosition};
use super::super::refusal::Refusal;
use super::streams::{DELETED, Data};
use crate::clock::{new_id, now};

/// The stream that holds the metadata of `stream`.
pub(super) fn metadata_stream(stream: &str) -> String {
    format!("$${stream}")
}

/// The metadata of the stream; empty where there is none, or where it is no JSON object.
fn metadata(data: &Data, stream: &str) -> Map<String, Value> {
    let last = data.last(&metadata_stream(stream));
    last.and_then(|event| serde_json::from_slice(&event.data).ok()).unwrap_or_default()
}

/// Whether the stream was soft-deleted and not written to since.
pub(super) fn is_soft_deleted(data: &Data, stream: &str) -> bool {
    metadata(data, stream).get("$tb").and_then(Value::as_u64) == Some(DELETED)
}

/// Hides every event of the stream, and replaces its metadata.
pub(super) fn soft_delete(data: &mut Data, stream: &str) -> WirePosition {
    write(data, stream, &json!({ "$tb": DELETED }))
}

/// Shows the events of a soft-deleted stream from this revision on; keeps the rest of its metadata.
pub(super) fn undelete(data: &mut Data, stream: &str, first: u64) {
    let mut metadata = metadata(data, stream);
    metadata.insert("$tb".to_owned(), first.into());
    write(data, stream, &Value::Object(metadata));
}

fn write(data: &mut Data, stream: &str, metadata: &Value) -> WirePosition {
    let event = Proposed {
        id: new_id(),
        kind: "$metadata".into(),
        content_type: "application/json".into(),
        custom_metadata: Bytes::new(),
        data: metadata.to_string().into(),
    };
    data.push(&metadata_stream(stream), event)
}

/// The events that a read of the stream shows.
pub(super) fn visible<'a>(data: &'a Data, stream: &str) -> Result<&'a [Arc<WireEvent>], Refusal> {
    let events = data.stream(stream);
    if data.is_tombstoned(stream) {
        return Err(Refusal::StreamDeleted(stream.to_owned()));
    }
    if events.is_empty() || is_soft_deleted(data, stream) {
        return Err(Refusal::NoStream(stream.to_owned()));
    }
    let limits = Limits::of(data, stream);
    let first = events.partition_point(|event| limits.hides(event, events.len() as u64));
    Ok(&events[first..])
}

/// What truncates a stream.
struct Limits {
    before: u64,
    max_count: Option<u64>,
    /// 100 ns ticks since 1970.
    not_older_than: u64,
}

impl Limits {
    fn of(data: &Data, stream: &str) -> Self {
        if stream.starts_with("$$") {
            return Self { before: 0, max_count: Some(1), not_older_than: 0 };
        }
        let metadata = metadata(data, stream);
        let number = |name: &str| metadata.get(name).and_then(Value::as_u64);
        let now = u64::try_from(now().as_micros()).unwrap_or(0);
        let oldest = |age_s: u64| now.saturating_sub(age_s.saturating_mul(1_000_000)).saturating_mul(10);
        Self {
            before: number("$tb").unwrap_or(0),
            max_count: number("$maxCount"),
            not_older_than: number("$maxAge").map_or(0, oldest),
        }
    }

    fn hides(&self, event: &WireEvent, count: u64) -> bool {
        let is_surplus = self.max_count.is_some_and(|max| event.revision < count.saturating_sub(max));
        event.revision < self.before || is_surplus || event.created < self.not_older_than
    }
}
