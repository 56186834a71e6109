//! The limit on the speed of all distributions together.

use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The largest size of one read and write, in bytes. It is large enough for the full speed of the disk, and small enough for
/// frequent progress.
const CHUNK_MAX: u64 = 1024 * 1024;
/// The smallest chunk of a limited copy, in bytes.
const CHUNK_MIN: u64 = 1024;
/// How many chunks a limited copy reads and writes in one second, approximately.
const CHUNKS_PER_S: u64 = 20;

/// One limit for all copies. Each chunk reserves the time that it takes at the limited rate. The next chunk of any copy
/// begins after this time.
#[derive(Debug)]
pub(super) struct RateLimiter {
    bytes_per_s: Option<NonZeroU64>,
    /// The end of the last reservation.
    reserved_until: Mutex<Instant>,
}

impl RateLimiter {
    pub fn new(bytes_per_s: Option<NonZeroU64>) -> Self {
        Self { bytes_per_s, reserved_until: Mutex::new(Instant::now()) }
    }

    /// Returns how many bytes are copied at once.
    pub fn chunk(&self) -> u64 {
        self.bytes_per_s.map_or(CHUNK_MAX, |rate| (rate.get() / CHUNKS_PER_S).clamp(CHUNK_MIN, CHUNK_MAX))
    }

    /// Blocks the thread until `bytes` may be copied, and returns true. Returns false as soon as `interrupt` is cancelled.
    pub fn wait_for(&self, bytes: u64, interrupt: &CancellationToken) -> bool {
        let Some(rate) = self.bytes_per_s else { return true };
        let (start, end) = self.reserve(duration_of(bytes, rate));
        let waited = sleep_until(start, interrupt);
        if !waited {
            self.cancel_reservation(start, end);
        }
        waited
    }

    /// Reserves this duration after the last reservation. Returns its start and its end.
    fn reserve(&self, duration: Duration) -> (Instant, Instant) {
        let mut reserved_until = self.reserved_until.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*reserved_until).max(Instant::now());
        *reserved_until = start + duration;
        (start, *reserved_until)
    }

    /// Cancels a reservation that was not used. If another copy has reserved time after it, the reservation stays: the
    /// copies are then slower than the limit, but never faster.
    fn cancel_reservation(&self, start: Instant, end: Instant) {
        let mut reserved_until = self.reserved_until.lock().unwrap_or_else(PoisonError::into_inner);
        if *reserved_until == end {
            *reserved_until = start;
        }
    }
}

/// Returns how long `bytes` take at this rate.
fn duration_of(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Blocks the thread until `deadline`, and returns true. Returns false as soon as `interrupt` is cancelled.
fn sleep_until(deadline: Instant, interrupt: &CancellationToken) -> bool {
    let waker = Waker::from(Arc::new(UnparkWaker(thread::current())));
    let mut cancelled = pin!(interrupt.cancelled());
    while cancelled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::park_timeout(left);
    }
    false
}

/// A waker that unparks a thread.
struct UnparkWaker(Thread);

impl Wake for UnparkWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_byte_per_second() -> RateLimiter {
        RateLimiter::new(NonZeroU64::new(1))
    }

    #[test]
    fn a_cancelled_token_ends_the_wait_of_another_thread() {
        let (limiter, interrupt) = (one_byte_per_second(), CancellationToken::new());
        assert!(limiter.wait_for(100_000, &interrupt));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| limiter.wait_for(1, &interrupt));
            interrupt.cancel();
            assert!(!waiting.join().unwrap());
        });
    }

    #[test]
    fn an_interrupted_wait_leaves_its_time_to_the_next_copy() {
        let (limiter, interrupted) = (one_byte_per_second(), CancellationToken::new());
        interrupted.cancel();
        let reserved_until = || *limiter.reserved_until.lock().unwrap();
        assert!(limiter.wait_for(100_000, &CancellationToken::new()));
        let before = reserved_until();
        assert!(!limiter.wait_for(100_000, &interrupted));
        assert_eq!(reserved_until(), before);
    }
}
