//! Tamper evidence: the hash of an event covers the event and the hash before it, and so all earlier events.
//!
//! `hash = BLAKE3(previous ‖ field ‖ field ‖ …)`, 32 bytes. `previous` is the hash of the event one position earlier, 32
//! zero bytes for position 1. Each field is its length in bytes as 8 bytes big-endian, then its bytes. The fields in order:
//!
//! | field | bytes |
//! |---|---|
//! | `stream` | UTF-8 |
//! | `revision` | 8, unsigned, big-endian |
//! | `id` | the UUID's 16 |
//! | `type` | UTF-8 |
//! | `version` | 4, unsigned, big-endian |
//! | `time` | 8, signed (two's complement), big-endian: microseconds since 1970-01-01T00:00:00Z |
//! | `meta` | the JSON text, byte for byte as `GET /v1/log` serves it |
//! | `data` | the same |
//!
//! The position is not a field, because it is the number of events that the hash covers. As text a hash is written in
//! lower-case hexadecimal.

#[cfg(any(feature = "testing", all(feature = "cli", feature = "eventstore")))]
use std::sync::Arc;

use uuid::Uuid;

use super::ReadError;
use super::event::Hash;
use super::recorded::Recorded;
use crate::task::{Position, Revision};

/// About as many bytes as the hash of an event covers besides its `meta` and `data`.
const FIELDS_BYTES: usize = 256;

impl Recorded {
    /// The hash that this event must have if `previous` is the hash of the event one position earlier: BLAKE3 over
    /// `previous` and the fields of this event. If the event has another hash, it was changed after it was written.
    #[must_use]
    pub fn expected_hash(&self, previous: Hash) -> Hash {
        self.hashed_fields().hash_after(previous)
    }

    pub(super) fn hashed_fields(&self) -> HashedFields<'_> {
        HashedFields {
            stream: self.stream.as_str(),
            revision: self.revision,
            id: self.id,
            event_type: self.event_type,
            version: self.version,
            time: self.time.as_micros(),
            meta: self.raw_meta.get(),
            data: self.raw_data.get(),
        }
    }
}

/// The fields of an event that its hash covers.
pub(super) struct HashedFields<'a> {
    pub(super) stream: &'a str,
    pub(super) revision: Revision,
    pub(super) id: Uuid,
    pub(super) event_type: &'a str,
    pub(super) version: u32,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub(super) time: i64,
    pub(super) meta: &'a str,
    pub(super) data: &'a str,
}

impl HashedFields<'_> {
    /// The hash of the event if `previous` is the hash of the event one position earlier.
    pub(super) fn hash_after(&self, previous: Hash) -> Hash {
        self.hash_in(&mut Vec::with_capacity(self.meta.len() + self.data.len() + FIELDS_BYTES), previous)
    }

    /// Does the same as [`Self::hash_after`]. `buffer` is overwritten: a caller that hashes many events uses one again.
    pub(super) fn hash_in(&self, buffer: &mut Vec<u8>, previous: Hash) -> Hash {
        // One hash of one buffer takes less time than an update of the hasher for each field.
        buffer.clear();
        buffer.extend_from_slice(&previous.0);
        let mut field = |bytes: &[u8]| {
            buffer.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            buffer.extend_from_slice(bytes);
        };
        field(self.stream.as_bytes());
        field(&self.revision.0.to_be_bytes());
        field(self.id.as_bytes());
        field(self.event_type.as_bytes());
        field(&self.version.to_be_bytes());
        field(&self.time.to_be_bytes());
        field(self.meta.as_bytes());
        field(self.data.as_bytes());
        Hash(*blake3::hash(buffer).as_bytes())
    }
}

/// Checks that the event at this position has the hash that it should have.
///
/// # Errors
/// [`ReadError::Damaged`] names the position.
pub(super) fn continues(position: Position, found: Hash, expected: Hash) -> Result<(), ReadError> {
    if found == expected {
        return Ok(());
    }
    Err(ReadError::Damaged(format!("event {position} doesn't continue the chain: {found}, should be {expected}")))
}

/// What was decoded, if the event is unchanged. An error that says what is wrong with the event is more useful than one that says
/// that it has changed. But an unknown type of a changed event is not the type of a later version of Taskbell.
pub(super) fn if_unchanged<T>(
    decoded: Result<T, ReadError>,
    is_unchanged: Result<(), ReadError>,
) -> Result<T, ReadError> {
    match (decoded, is_unchanged) {
        (Err(ReadError::Unknown { .. }) | Ok(_), Err(changed)) => Err(changed),
        (decoded, _) => decoded,
    }
}

/// The error for a position without an event, before the end of the log.
pub(super) fn lost(position: Position) -> ReadError {
    ReadError::Damaged(format!("the log has lost event {position}"))
}

/// Checks the hashes of consecutive events; returns the hash of the last one, with which the next page is checked.
///
/// # Errors
/// [`ReadError::Damaged`] names the first event that doesn't continue the chain.
#[cfg(any(feature = "testing", all(feature = "cli", feature = "eventstore")))]
pub fn verify(previous: Hash, events: &[Arc<Recorded>]) -> Result<Hash, ReadError> {
    events.iter().try_fold(previous, |previous, event| {
        let expected = event.expected_hash(previous);
        continues(event.position, event.hash, expected).map(|()| expected)
    })
}
