//! The wall clock and fresh ids: the only place that reads the clock and draws ids.

#[cfg(feature = "server")]
use uuid::Uuid;

use crate::task::Timestamp;

/// The current time, to the microsecond.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// A fresh UUIDv7.
#[cfg(feature = "server")]
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}
