//! The wall clock and new UUIDs. The other modules call these functions.

#[cfg(feature = "server")]
use uuid::Uuid;

use crate::task::Timestamp;

/// The current time of the wall clock, with microsecond precision.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// A new UUIDv7. Each call returns another id.
#[cfg(feature = "server")]
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}
