//! The contents of the stand-in database: all events, the streams, and the ids that were written recently.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use prost::bytes::Bytes;
use uuid::Uuid;

use super::super::backend::ReceivedEvent;
use super::super::event::{WireEvent, WirePosition};
use crate::clock::{new_id, now};

/// The revision of a tombstone. A soft-deleted stream is truncated before this revision, so all its events are hidden.
pub(super) const DELETED_REVISION: u64 = i64::MAX as u64;
/// The position of the first event. A real database begins with its own records, so its first event isn't at position 0.
const FIRST_POSITION: u64 = 1_836;
/// The size of a record in bytes, without the names and the data of its event.
const WRITE_OVERHEAD: usize = 87;

/// All events, by position and by stream.
pub(super) struct DatabaseContents {
    all: Vec<Arc<WireEvent>>,
    streams: HashMap<Arc<str>, Vec<Arc<WireEvent>>>,
    /// For each recent event id, the stream and revision at which it was written last.
    recent_ids: HashMap<Uuid, (Arc<str>, u64)>,
    next_position: u64,
}

impl Default for DatabaseContents {
    fn default() -> Self {
        Self { all: Vec::new(), streams: HashMap::new(), recent_ids: HashMap::new(), next_position: FIRST_POSITION }
    }
}

impl DatabaseContents {
    pub(super) fn all(&self) -> &[Arc<WireEvent>] {
        &self.all
    }

    /// Every event of the stream, the tombstone included.
    pub(super) fn stream(&self, name: &str) -> &[Arc<WireEvent>] {
        self.streams.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn last(&self, stream: &str) -> Option<&Arc<WireEvent>> {
        self.stream(stream).last()
    }

    /// The last revision; [`DELETED_REVISION`] for a tombstone.
    pub(super) fn last_revision(&self, stream: &str) -> Option<u64> {
        self.last(stream).map(|event| event.revision)
    }

    pub(super) fn is_tombstoned(&self, stream: &str) -> bool {
        self.last_revision(stream) == Some(DELETED_REVISION)
    }

    /// The position of the last event.
    pub(super) fn end(&self) -> Option<WirePosition> {
        self.all.last().map(|event| event.position)
    }

    /// The revision at which this id was written last; `None` if the id is not among the recent ids or was written last to
    /// another stream.
    pub(super) fn recent_revision(&self, stream: &str, id: Uuid) -> Option<u64> {
        self.recent_ids.get(&id).filter(|(name, _)| **name == *stream).map(|(_, revision)| *revision)
    }

    pub(super) fn forget_recent_ids(&mut self) {
        self.recent_ids.clear();
    }

    /// Writes an event at the next revision of the stream.
    pub(super) fn push(&mut self, stream: &str, event: ReceivedEvent) -> WirePosition {
        let revision = self.last_revision(stream).map_or(0, |last| last + 1);
        self.push_at(stream, revision, event)
    }

    /// Deletes the stream permanently.
    pub(super) fn push_tombstone(&mut self, stream: &str) -> WirePosition {
        let event = ReceivedEvent {
            id: new_id(),
            event_type: "$streamDeleted".into(),
            content_type: "application/octet-stream".into(),
            custom_metadata: Bytes::new(),
            data: Bytes::new(),
        };
        self.push_at(stream, DELETED_REVISION, event)
    }

    fn push_at(&mut self, stream: &str, revision: u64, event: ReceivedEvent) -> WirePosition {
        let stream: Arc<str> = stream.into();
        let position = self.take_position(&stream, event.size());
        self.recent_ids.insert(event.id, (Arc::clone(&stream), revision));
        let event = Arc::new(WireEvent {
            id: event.id,
            stream: Arc::clone(&stream),
            revision,
            position,
            event_type: event.event_type,
            content_type: event.content_type,
            created: u64::try_from(now().as_micros().saturating_mul(10)).unwrap_or(0),
            custom_metadata: event.custom_metadata,
            data: event.data,
        });
        self.all.push(Arc::clone(&event));
        self.streams.entry(stream).or_default().push(event);
        position
    }

    /// Writes a record without an event. No read returns it.
    pub(super) fn push_empty_record(&mut self, stream: &str) -> WirePosition {
        self.take_position(stream, 0)
    }

    /// Returns the position of the next record, and advances the position by the record's size.
    fn take_position(&mut self, stream: &str, size: usize) -> WirePosition {
        let position = self.next_position;
        self.next_position += (WRITE_OVERHEAD + stream.len() + size) as u64;
        WirePosition::single(position)
    }

    /// At most `limit` events from the lower bound on.
    pub(super) fn forwards(&self, from: Bound<WirePosition>, limit: usize) -> Vec<Arc<WireEvent>> {
        let is_before = |event: &Arc<WireEvent>| match from {
            Bound::Unbounded => false,
            Bound::Included(position) => event.position < position,
            Bound::Excluded(position) => event.position <= position,
        };
        let first = self.all.partition_point(is_before);
        self.all.iter().skip(first).take(limit).cloned().collect()
    }

    /// At most `limit` events before the position, the last one first.
    pub(super) fn backwards(&self, before: WirePosition, limit: usize) -> Vec<Arc<WireEvent>> {
        let end = self.all.partition_point(|event| event.position < before);
        self.all.iter().take(end).rev().take(limit).cloned().collect()
    }
}
