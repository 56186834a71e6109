//! How fast all distributions together may copy.

use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The size of one read and write, in bytes: large enough for the disk's full speed, small enough for progress that moves.
const CHUNK: u64 = 1024 * 1024;
/// The smallest chunk of a limited copy, in bytes.
const CHUNK_MIN: u64 = 1024;
/// A limited copy moves about this often a second.
const MOVES_PER_S: u64 = 20;

/// One limit for all copies: each chunk takes its share of time, and the next chunk of any copy begins after that.
#[derive(Debug)]
pub(super) struct RateLimiter {
    bytes_per_s: Option<NonZeroU64>,
    /// The end of the last share that was taken.
    free_at: Mutex<Instant>,
}

impl RateLimiter {
    pub fn new(bytes_per_s: Option<NonZeroU64>) -> Self {
        Self { bytes_per_s, free_at: Mutex::new(Instant::now()) }
    }

    /// How many bytes to copy at once.
    pub fn chunk(&self) -> u64 {
        self.bytes_per_s.map_or(CHUNK, |rate| (rate.get() / MOVES_PER_S).clamp(CHUNK_MIN, CHUNK))
    }

    /// Blocks the thread until `bytes` may be copied. Returns false as soon as `interrupt` is cancelled meanwhile.
    pub fn wait_for(&self, bytes: u64, interrupt: &CancellationToken) -> bool {
        let Some(rate) = self.bytes_per_s else { return true };
        let (begin, end) = self.take_share(share(bytes, rate));
        let waited = sleep_until(begin, interrupt);
        if !waited {
            self.return_share(begin, end);
        }
        waited
    }

    /// From when to when the share lasts.
    fn take_share(&self, share: Duration) -> (Instant, Instant) {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free_at).max(Instant::now());
        *free_at = begin + share;
        (begin, *free_at)
    }

    /// Returns a share that was not used. If another copy took one after it, the time is lost, but never exceeded.
    fn return_share(&self, begin: Instant, end: Instant) {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        if *free_at == end {
            *free_at = begin;
        }
    }
}

/// How long `bytes` take at this rate.
fn share(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Blocks the thread until then, or until `interrupt` is cancelled: then it returns false.
fn sleep_until(then: Instant, interrupt: &CancellationToken) -> bool {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cancelled = pin!(interrupt.cancelled());
    while cancelled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::park_timeout(left);
    }
    false
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
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
    fn an_interrupted_wait_returns_its_share_to_the_next_copy() {
        let (limiter, interrupted) = (one_byte_per_second(), CancellationToken::new());
        interrupted.cancel();
        let free_at = || *limiter.free_at.lock().unwrap();
        assert!(limiter.wait_for(100_000, &CancellationToken::new()));
        let before = free_at();
        assert!(!limiter.wait_for(100_000, &interrupted));
        assert_eq!(free_at(), before);
    }
}
