//! The log in memory: for tests and demonstrations, gone with the process. It is the shortest implementation of the store's
//! contract.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::aside::{AsideEvent, AsideExpected, AsideRecorded, AsideStream};
use super::encoded::EncodedAppend;
use super::recent::{Bounds, RecentEvents};
use super::{AppendError, Hash, Head, Recorded, StreamName, new_id};
use crate::task::{Position, Revision};

pub(super) struct Memory {
    /// All events: it has no bounds.
    pub(super) recent: RecentEvents,
    pub(super) epoch: Uuid,
    streams: Mutex<HashMap<StreamName, Vec<Arc<Recorded>>>>,
    /// The last event of each stream beside the log, by the stream's name.
    aside: Mutex<HashMap<String, AsideRecorded>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let empty = Head { position: Position(0), hash: Hash::ZERO, time: None };
        let recent = RecentEvents::new(empty, Bounds::NONE);
        Self { recent, epoch: new_id(), streams: Mutex::default(), aside: Mutex::default() }
    }

    pub(super) fn append(&self, appends: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        // Held until the events are published: writers take turns.
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut head = self.recent.head();
        let mut written = Vec::new();
        let answers = appends
            .into_iter()
            .map(|append| {
                let stream = append.stream.clone();
                let last = streams.get(&stream).and_then(|events| events.last()).map(|event| event.revision);
                let events: Vec<_> = append.into_recorded(last, &mut head)?.into_iter().map(Arc::new).collect();
                written.extend_from_slice(&events);
                let kept = streams.entry(stream).or_default();
                kept.extend(events);
                Ok(kept.last().map_or(Revision(0), |event| event.revision))
            })
            .collect();
        self.recent.publish(written, head);
        answers
    }

    pub(super) fn read_stream(&self, stream: &StreamName, from: Revision) -> Vec<Arc<Recorded>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(from.0).unwrap_or(usize::MAX);
        streams.get(stream).and_then(|events| events.get(from..)).unwrap_or_default().to_vec()
    }

    pub(super) fn append_aside(
        &self,
        stream: AsideStream,
        expected: AsideExpected,
        event: AsideEvent,
    ) -> Result<Revision, AppendError> {
        let AsideEvent { id, kind, data } = event;
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let actual = aside.get(&stream.to_string()).map(|last| last.revision);
        let is_expected = match expected {
            AsideExpected::Any => true,
            AsideExpected::NoStream => actual.is_none(),
            AsideExpected::Revision(revision) => actual == Some(revision),
        };
        if !is_expected {
            return Err(AppendError::WrongExpectedRevision { actual });
        }
        let revision = Revision(actual.map_or(0, |actual| actual.0 + 1));
        aside.insert(stream.to_string(), AsideRecorded { stream, revision, id, kind: kind.to_owned(), data });
        Ok(revision)
    }

    pub(super) fn read_aside_last(&self, stream: AsideStream) -> Option<AsideRecorded> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).get(&stream.to_string()).cloned()
    }
}
