//! How fast all distributions together may copy.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The size of one read and write: large enough for the disk's full speed, small enough for progress that moves.
const CHUNK: u64 = 1024 * 1024;
/// A limited copy moves about this often a second.
const MOVES_PER_S: u64 = 20;

/// A shared, smooth limit: each chunk takes its share of time, and the next one, whoever's it is, begins after that.
#[derive(Debug)]
pub(super) struct Limiter {
    bytes_per_s: Option<NonZeroU64>,
    free_at: Mutex<Instant>,
}

impl Limiter {
    pub fn new(bytes_per_s: Option<NonZeroU64>) -> Self {
        Self { bytes_per_s, free_at: Mutex::new(Instant::now()) }
    }

    /// How many bytes to take at once.
    pub fn chunk(&self) -> u64 {
        self.bytes_per_s.map_or(CHUNK, |rate| (rate.get() / MOVES_PER_S).clamp(1024, CHUNK))
    }

    /// Waits until `bytes` may be copied. Blocks the thread.
    pub fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_s else { return };
        let share = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let share = Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free_at).max(now);
        *free_at = begin + share;
        drop(free_at);
        sleep(begin - now);
    }
}
