//! An append on its way into the log, in two steps.
//!
//! 1. The caller's thread encodes the events as JSON ([`EncodedAppend::new`]). This saves work on the single thread that
//!    writes the log.
//! 2. The writer assigns revisions, positions and hashes ([`EncodedAppend::into_recorded`]). On a cluster the database
//!    assigns the revisions, and `cluster/follow.rs` assigns positions and hashes.

use std::fmt;
use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};

use super::recorded::{Fact, StoredJson};
use super::{Append, AppendError, Expected, Hash, Head, NewEvent, Recorded, StreamName, codec};
use crate::task::{Position, Revision};

/// Characters at which some programs end a line, and their escapes.
const LINE_ENDS: [(char, &str); 3] = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];

/// An append whose events are JSON, but have no position in the log yet. If the events can't be encoded, it holds the error
/// instead of the events, and the writer returns this error as the result of the append.
pub struct EncodedAppend {
    pub(super) stream: StreamName,
    pub(super) expected: Expected,
    events: Result<Vec<EncodedEvent>, AppendError>,
    /// Length of the events' JSON, in bytes.
    pub(crate) size: usize,
}

/// An event whose `meta` and `data` are encoded as JSON.
pub(super) struct EncodedEvent {
    pub(super) event: NewEvent,
    pub(super) event_type: &'static str,
    pub(super) version: u32,
    pub(super) meta: StoredJson,
    pub(super) data: StoredJson,
}

impl EncodedAppend {
    /// Encodes the events as JSON.
    #[must_use]
    pub fn new(append: Append) -> Self {
        let Append { stream, expected, events } = append;
        let events = if events.is_empty() {
            Err(AppendError::Invalid("it has no event".to_owned()))
        } else {
            events.into_iter().map(EncodedEvent::new).collect::<Result<Vec<_>, _>>()
        };
        let size = events.iter().flatten().map(|event| event.meta.get().len() + event.data.get().len()).sum();
        Self { stream, expected, events, size }
    }

    /// An append of events that were read from another log; their `meta` and `data` stay the same byte for byte. The events
    /// must be consecutive events of one stream. `None` if `events` is empty.
    pub(super) fn from_recorded(events: &[Arc<Recorded>]) -> Option<Self> {
        let first = events.first()?;
        let expected =
            first.revision.0.checked_sub(1).map_or(Expected::NoStream, |last| Expected::Revision(Revision(last)));
        let size = events.iter().map(|event| event.size()).sum();
        let events = events.iter().map(|event| EncodedEvent::from_recorded(event)).collect();
        Some(Self { stream: first.stream.clone(), expected, events: Ok(events), size })
    }

    /// The events without revisions, for a database that assigns the revisions itself.
    #[cfg(feature = "eventstore")]
    pub(super) fn into_events(self) -> Result<Vec<EncodedEvent>, AppendError> {
        self.events
    }

    /// The events with their revisions, positions and hashes. The first revision follows `last`, the first position follows
    /// `head`. Sets `head` to the last of these events.
    ///
    /// # Errors
    /// [`AppendError::WrongExpectedRevision`] if `last` is not the revision that the append expects; the error of the
    /// encoding, if there was one.
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
    /// Encodes the event. A subscriber must receive the same event as a later reader of the log. Some events change when
    /// they are encoded and decoded (a NaN becomes null, an input has an escape in its text): such an event is replaced by its
    /// decoded form.
    ///
    /// # Errors
    /// [`AppendError::Invalid`] if the event can't be encoded, or can't be decoded again because it is nested too
    /// deeply.
    fn new(new_event: NewEvent) -> Result<Self, AppendError> {
        let unwritable = |error: &dyn fmt::Display| AppendError::Invalid(format!("an event can't be encoded: {error}"));
        let meta = to_raw_value(&new_event.meta).map_err(|error| unwritable(&error))?;
        let meta = escape_line_ends(&meta).map_err(|error| unwritable(&error))?.unwrap_or(meta);
        let data = codec::encode(&new_event.event).map_err(|error| unwritable(&error))?;
        let escaped_data = escape_line_ends(&data).map_err(|error| unwritable(&error))?;
        let event_type = codec::type_name(&new_event.event);
        let version = codec::current_version(event_type).ok_or_else(|| unwritable(&event_type))?;
        let round_trips = escaped_data.is_none() && codec::round_trips(&new_event.event);
        let data = escaped_data.unwrap_or(data);
        let new_event = if round_trips {
            new_event
        } else {
            let event = codec::decode(event_type, version, data.get()).map_err(|error| unwritable(&error))?;
            NewEvent { event, ..new_event }
        };
        Ok(Self { event: new_event, event_type, version, meta: meta.into(), data: data.into() })
    }

    fn from_recorded(event: &Recorded) -> Self {
        let Recorded { fact, event_type, version, raw_meta, raw_data, .. } = event;
        let Fact { id, time, meta, event, .. } = fact.clone();
        let new_event = NewEvent { id, time, meta, event };
        Self { event: new_event, event_type, version: *version, meta: raw_meta.clone(), data: raw_data.clone() }
    }

    fn into_recorded(self, stream: StreamName, revision: Revision, head: &mut Head) -> Recorded {
        let Self { event: NewEvent { id, time, meta, event }, event_type, version, meta: raw_meta, data: raw_data } =
            self;
        let mut recorded = Recorded {
            fact: Fact { position: Position(head.position.0 + 1), stream, revision, id, time, meta, event },
            event_type,
            version,
            hash: Hash::ZERO,
            raw_meta,
            raw_data,
        };
        recorded.hash = recorded.expected_hash(head.hash);
        *head = Head { position: recorded.position, hash: recorded.hash, time: Some(time) };
        recorded
    }
}

/// The JSON with escapes in place of the characters U+0085, U+2028 and U+2029; `None` if it has none of them. The value stays the
/// same.
///
/// JSON allows these characters in strings. But some programs that read text line by line end a line at them, and the log is
/// served one event a line.
fn escape_line_ends(json: &RawValue) -> serde_json::Result<Option<Box<RawValue>>> {
    let text = json.get();
    if text.is_ascii() || !LINE_ENDS.iter().any(|(character, _)| text.contains(*character)) {
        return Ok(None);
    }
    // Outside of a string, JSON has no such character.
    let escaped = LINE_ENDS.iter().fold(text.to_owned(), |text, (character, escape)| text.replace(*character, escape));
    RawValue::from_string(escaped).map(Some)
}
