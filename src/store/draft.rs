//! From what somebody wants to write to what the log holds: the same steps for every store.

use std::fmt;

use serde_json::value::{RawValue, to_raw_value};

use super::{Append, AppendError, Expected, Hash, Head, NewEvent, Recorded, StreamName, codec};
use crate::task::{Position, Revision};

/// An append whose events are JSON already, so that the one writer has less to do. The refusal of one that can't be
/// written at all stands in the place of its events, so that the answers of many keep their order.
pub struct Draft {
    pub(super) stream: StreamName,
    pub(super) expected: Expected,
    events: Result<Vec<Encoded>, AppendError>,
    /// Bytes of JSON.
    pub(crate) size: usize,
}

struct Encoded {
    new: NewEvent,
    kind: &'static str,
    version: u32,
    meta: Box<RawValue>,
    data: Box<RawValue>,
}

impl Draft {
    /// Writes the events as JSON.
    #[must_use]
    pub fn new(append: Append) -> Self {
        let Append { stream, expected, events } = append;
        let events = if events.is_empty() {
            Err(AppendError::Unavailable("an append needs at least one event".to_owned()))
        } else {
            events.into_iter().map(Encoded::new).collect::<Result<Vec<_>, _>>()
        };
        let size = events.iter().flatten().map(|event| event.meta.get().len() + event.data.get().len()).sum();
        Self { stream, expected, events, size }
    }

    /// The events with their places and hashes, after `last` in their stream and after `tip` in the log, which moves on.
    pub(super) fn seal(self, last: Option<Revision>, tip: &mut Head) -> Result<Vec<Recorded>, AppendError> {
        let events = self.events?;
        let expected = match self.expected {
            Expected::NoStream => None,
            Expected::Revision(revision) => Some(revision),
        };
        if expected != last {
            return Err(AppendError::WrongExpectedRevision { actual: last });
        }
        let first = last.map_or(0, |last| last.0 + 1);
        let place = |(revision, event): (u64, Encoded)| event.place(self.stream.clone(), Revision(revision), tip);
        Ok((first..).zip(events).map(place).collect())
    }
}

impl Encoded {
    /// What is shown live is what the log will give back: an event that doesn't survive its JSON (a float that is no
    /// number) is shown as it is read, and one that could never be read again (too deep) isn't written.
    fn new(new: NewEvent) -> Result<Self, AppendError> {
        let unwritable =
            |error: &dyn fmt::Display| AppendError::Unavailable(format!("an event that can't be kept: {error}"));
        let meta = to_raw_value(&new.meta).map_err(|error| unwritable(&error))?;
        let data = codec::encode(&new.event).map_err(|error| unwritable(&error))?;
        let kind = codec::type_name(&new.event);
        let version = codec::current_version(kind).ok_or_else(|| unwritable(&kind))?;
        let new = if codec::survives(&new.event) {
            new
        } else {
            let event = codec::decode(kind, version, data.get()).map_err(|error| unwritable(&error))?;
            NewEvent { event, ..new }
        };
        Ok(Self { new, kind, version, meta, data })
    }

    fn place(self, stream: StreamName, revision: Revision, tip: &mut Head) -> Recorded {
        let Self { new: NewEvent { id, time, meta, event }, kind, version, meta: raw_meta, data: raw_data } = self;
        let mut recorded = Recorded {
            position: Position(tip.position.0 + 1),
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
        recorded.hash = recorded.expected_hash(tip.hash);
        *tip = Head { position: recorded.position, hash: recorded.hash, time: Some(time) };
        recorded
    }
}
