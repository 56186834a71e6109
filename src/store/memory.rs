//! The log in memory, for tests and demonstrations. It is lost when the process ends. It is the shortest implementation of
//! the store's contract.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::auxiliary::{AuxiliaryEvent, AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent};
use super::encoded::EncodedAppend;
use super::recent::{Bounds, RecentEvents};
use super::{AppendError, Hash, Head, Recorded, StreamName, new_id};
use crate::task::{Position, Revision};

/// The log in memory.
pub(super) struct Memory {
    /// All events of the log: its bounds are [`Bounds::UNLIMITED`].
    pub(super) recent: RecentEvents,
    pub(super) epoch: Uuid,
    streams: Mutex<HashMap<StreamName, Vec<Arc<Recorded>>>>,
    /// The last event of each auxiliary stream, by the stream's name.
    auxiliary: Mutex<HashMap<String, AuxiliaryEvent>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let empty = Head { position: Position(0), hash: Hash::ZERO, time: None };
        let recent = RecentEvents::new(empty, Bounds::UNLIMITED);
        Self { recent, epoch: new_id(), streams: Mutex::default(), auxiliary: Mutex::default() }
    }

    pub(super) fn append(&self, appends: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        // The lock is held until the events are published, so only one call at a time decides and publishes.
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut head = self.recent.head();
        let mut written = Vec::new();
        let results = appends
            .into_iter()
            .map(|append| {
                let stream = append.stream.clone();
                let last = streams.get(&stream).and_then(|events| events.last()).map(|event| event.revision);
                let events: Vec<_> = append.into_recorded(last, &mut head)?.into_iter().map(Arc::new).collect();
                written.extend_from_slice(&events);
                let stream_events = streams.entry(stream).or_default();
                stream_events.extend(events);
                Ok(stream_events.last().map_or(Revision(0), |event| event.revision))
            })
            .collect();
        // All events stay in memory.
        drop(self.recent.publish(written, head));
        results
    }

    pub(super) fn read_stream(&self, stream: &StreamName, from: Revision) -> Vec<Arc<Recorded>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(from.0).unwrap_or(usize::MAX);
        streams.get(stream).and_then(|events| events.get(from..)).unwrap_or_default().to_vec()
    }

    pub(super) fn append_auxiliary(
        &self,
        stream: AuxiliaryStream,
        expected: AuxiliaryExpected,
        event: NewAuxiliaryEvent,
    ) -> Result<Revision, AppendError> {
        let NewAuxiliaryEvent { id, event_type, data } = event;
        let mut last_events = self.auxiliary.lock().unwrap_or_else(PoisonError::into_inner);
        let actual = last_events.get(&stream.to_string()).map(|last| last.revision);
        let is_expected = match expected {
            AuxiliaryExpected::Any => true,
            AuxiliaryExpected::NoStream => actual.is_none(),
            AuxiliaryExpected::Revision(revision) => actual == Some(revision),
        };
        if !is_expected {
            return Err(AppendError::WrongExpectedRevision { actual });
        }
        let revision = Revision(actual.map_or(0, |actual| actual.0 + 1));
        last_events.insert(
            stream.to_string(),
            AuxiliaryEvent { stream, revision, id, event_type: event_type.to_owned(), data },
        );
        Ok(revision)
    }

    pub(super) fn read_last_auxiliary(&self, stream: AuxiliaryStream) -> Option<AuxiliaryEvent> {
        self.auxiliary.lock().unwrap_or_else(PoisonError::into_inner).get(&stream.to_string()).cloned()
    }
}
