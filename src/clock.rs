//! The wall clock and new UUIDs. The other modules call these functions.

#[cfg(feature = "server")]
use uuid::Uuid;

use crate::task::Timestamp;

/// The current time of the wall clock, with microsecond precision.
#[must_use]
pub fn now() -> Timestamp {
    let micros = jiff::Timestamp::now().as_microsecond();
    #[cfg(feature = "testing")]
    let micros = micros.saturating_add(shift::MICROS.load(std::sync::atomic::Ordering::Relaxed));
    Timestamp::from_micros(micros)
}

/// Lets a test set the wall clock of its process.
#[cfg(feature = "testing")]
pub mod shift {
    use std::sync::atomic::{AtomicI64, Ordering};

    pub(super) static MICROS: AtomicI64 = AtomicI64::new(0);

    /// From now on, the wall clock is this many seconds after the real time; before it, if the number is negative.
    pub fn set(seconds: i64) {
        MICROS.store(seconds.saturating_mul(1_000_000), Ordering::Relaxed);
    }
}

/// A new UUIDv7. Each call returns another id.
#[cfg(feature = "server")]
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}
