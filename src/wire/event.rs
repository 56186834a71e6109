//! Events, positions and ids in the form of the protocol.

use std::collections::HashMap;
use std::sync::Arc;

use prost::bytes::Bytes;
use uuid::Uuid;

use super::proto::shared::uuid::{Structured, Value};
use super::proto::shared::{StreamIdentifier, Uuid as ProtoUuid};
use super::proto::streams::read_resp::read_event::RecordedEvent;

/// A position in `$all`. Positions are ordered by `commit`, then by `prepare`. They grow with the log and have gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WirePosition {
    /// The position at which the event's transaction was committed.
    pub commit: u64,
    /// The position at which the event itself was written.
    pub prepare: u64,
}

impl WirePosition {
    /// Before every event.
    pub(super) const START: Self = Self { commit: 0, prepare: 0 };
    /// Beyond every event.
    pub(super) const END: Self = Self { commit: u64::MAX, prepare: u64::MAX };

    /// The position of an event that is the only one in its transaction.
    #[must_use]
    pub const fn single(offset: u64) -> Self {
        Self { commit: offset, prepare: offset }
    }
}

/// An event as clients receive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEvent {
    /// The id that its writer has chosen.
    pub id: Uuid,
    /// The name of its stream.
    pub stream: Arc<str>,
    /// Its number in its stream, from 0.
    pub revision: u64,
    /// Its position in `$all`.
    pub position: WirePosition,
    /// The name of its type.
    pub event_type: Arc<str>,
    /// `application/json` or `application/octet-stream`.
    pub content_type: Arc<str>,
    /// When it was written: ticks of 100 ns since 1970-01-01T00:00:00Z.
    pub created: u64,
    /// The metadata that its writer has added, usually JSON.
    pub custom_metadata: Bytes,
    /// The data of the event.
    pub data: Bytes,
}

/// The revision that a writer expects to be the last one of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedRevision {
    Any,
    NoStream,
    StreamExists,
    Exact(u64),
}

impl ExpectedRevision {
    /// The number that stands for it in trailers and in the fields of older versions.
    pub(super) fn as_number(self) -> i64 {
        match self {
            Self::Any => -2,
            Self::NoStream => -1,
            Self::StreamExists => -4,
            Self::Exact(revision) => i64::try_from(revision).unwrap_or(i64::MAX),
        }
    }
}

/// The form in which a client wants to receive ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdFormat {
    Structured,
    Text,
}

impl IdFormat {
    fn write(self, id: Uuid) -> ProtoUuid {
        let value = match self {
            Self::Text => Value::String(id.to_string()),
            Self::Structured => structured(id),
        };
        ProtoUuid { value: Some(value) }
    }
}

fn structured(id: Uuid) -> Value {
    let (high, low) = id.as_u64_pair();
    Value::Structured(Structured {
        most_significant_bits: high.cast_signed(),
        least_significant_bits: low.cast_signed(),
    })
}

/// Parses an id in either form; `None` if it is missing or not a UUID.
pub(super) fn parse_id(id: Option<ProtoUuid>) -> Option<Uuid> {
    match id?.value? {
        Value::String(text) => text.parse().ok(),
        Value::Structured(halves) => Some(Uuid::from_u64_pair(
            halves.most_significant_bits.cast_unsigned(),
            halves.least_significant_bits.cast_unsigned(),
        )),
    }
}

/// The message that holds the name of a stream.
pub(super) fn stream_identifier(stream: &str) -> StreamIdentifier {
    StreamIdentifier { stream_name: Bytes::copy_from_slice(stream.as_bytes()) }
}

impl WireEvent {
    /// The event as a message of the protocol.
    pub(super) fn to_proto(&self, ids: IdFormat) -> RecordedEvent {
        let metadata = [
            ("type", self.event_type.to_string()),
            ("content-type", self.content_type.to_string()),
            ("created", self.created.to_string()),
        ];
        RecordedEvent {
            id: Some(ids.write(self.id)),
            stream_identifier: Some(stream_identifier(&self.stream)),
            stream_revision: self.revision,
            prepare_position: self.position.prepare,
            commit_position: self.position.commit,
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<HashMap<_, _>>(),
            custom_metadata: self.custom_metadata.clone(),
            data: self.data.clone(),
        }
    }
}
