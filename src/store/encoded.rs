//! An append on its way into the log: the same steps for every store.
//!
//! The caller's thread encodes the events as JSON ([`EncodedAppend::new`]), so that the one writer has less to do. The writer
//! gives them their revisions, positions and hashes ([`EncodedAppend::into_recorded`]).

use std::fmt;
#[cfg(feature = "eventstore")]
use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};

use super::{Append, AppendError, Expected, Hash, Head, NewEvent, Recorded, StreamName, codec};
use crate::task::{Position, Revision};

/// An append whose events are JSON, but have no place in the log yet. An append that can't be encoded carries its error
/// instead, so that the answers of a group stay in order.
pub struct EncodedAppend {
    pub(super) stream: StreamName,
    pub(super) expected: Expected,
    events: Result<Vec<EncodedEvent>, AppendError>,
    /// Bytes of JSON.
    pub(crate) size: usize,
}

pub(super) struct EncodedEvent {
    pub(super) new: NewEvent,
    pub(super) kind: &'static str,
    pub(super) version: u32,
    pub(super) meta: Box<RawValue>,
    pub(super) data: Box<RawValue>,
}

impl EncodedAppend {
    /// Writes the events as JSON.
    #[must_use]
    pub fn new(append: Append) -> Self {
        let Append { stream, expected, events } = append;
        let events = if events.is_empty() {
            Err(AppendError::Unavailable("an append needs at least one event".to_owned()))
        } else {
            events.into_iter().map(EncodedEvent::new).collect::<Result<Vec<_>, _>>()
        };
        let size = events.iter().flatten().map(|event| event.meta.get().len() + event.data.get().len()).sum();
        Self { stream, expected, events, size }
    }

    /// The same events as in another log, byte for byte: consecutive ones of one stream. None where there is no event.
    #[cfg(feature = "eventstore")]
    pub(super) fn copy(events: &[Arc<Recorded>]) -> Option<Self> {
        let first = events.first()?;
        let expected =
            first.revision.0.checked_sub(1).map_or(Expected::NoStream, |last| Expected::Revision(Revision(last)));
        let size = events.iter().map(|event| event.size()).sum();
        let events = events.iter().map(|event| EncodedEvent::copy(event)).collect();
        Some(Self { stream: first.stream.clone(), expected, events: Ok(events), size })
    }

    /// The events, for a database that gives them their revisions itself.
    #[cfg(feature = "eventstore")]
    pub(super) fn into_events(self) -> Result<Vec<EncodedEvent>, AppendError> {
        self.events
    }

    /// The events as the log holds them: after `last` in their stream, and after `head` in the log. `head` moves to the last
    /// of them.
    pub(super) fn into_recorded(self, last: Option<Revision>, head: &mut Head) -> Result<Vec<Recorded>, AppendError> {
        let events = self.events?;
        let expected = match self.expected {
            Expected::NoStream => None,
            Expected::Revision(revision) => Some(revision),
        };
        if expected != last {
            return Err(AppendError::WrongExpectedRevision { actual: last });
        }
        let first = last.map_or(0, |last| last.0 + 1);
        let record =
            |(revision, event): (u64, EncodedEvent)| event.into_recorded(self.stream.clone(), Revision(revision), head);
        Ok((first..).zip(events).map(record).collect())
    }
}

impl EncodedEvent {
    /// Subscribers get the event as a later reader of the log gets it: one that its JSON may change (a float that is no
    /// number) is decoded again, and one that could not be decoded (nested too deeply) is refused.
    fn new(new: NewEvent) -> Result<Self, AppendError> {
        let unwritable =
            |error: &dyn fmt::Display| AppendError::Unavailable(format!("an event that can't be kept: {error}"));
        let meta = to_raw_value(&new.meta).map_err(|error| unwritable(&error))?;
        let data = codec::encode(&new.event).map_err(|error| unwritable(&error))?;
        let kind = codec::type_name(&new.event);
        let version = codec::current_version(kind).ok_or_else(|| unwritable(&kind))?;
        let new = if codec::round_trips(&new.event) {
            new
        } else {
            let event = codec::decode(kind, version, data.get()).map_err(|error| unwritable(&error))?;
            NewEvent { event, ..new }
        };
        Ok(Self { new, kind, version, meta, data })
    }

    #[cfg(feature = "eventstore")]
    fn copy(event: &Recorded) -> Self {
        let Recorded { id, time, kind, version, meta, event, raw_meta, raw_data, .. } = event;
        let new = NewEvent { id: *id, time: *time, meta: meta.clone(), event: event.clone() };
        Self { new, kind, version: *version, meta: raw_meta.clone(), data: raw_data.clone() }
    }

    fn into_recorded(self, stream: StreamName, revision: Revision, head: &mut Head) -> Recorded {
        let Self { new: NewEvent { id, time, meta, event }, kind, version, meta: raw_meta, data: raw_data } = self;
        let mut recorded = Recorded {
            position: Position(head.position.0 + 1),
            stream,
            revision,
            id,
            kind,
            version,
            time,
            meta,
            event,
            hash: Hash::ZERO,
            raw_meta,
            raw_data,
        };
        recorded.hash = recorded.expected_hash(head.hash);
        *head = Head { position: recorded.position, hash: recorded.hash, time: Some(time) };
        recorded
    }
}
