//! A rate for each key, counted by `governor` (the generic cell rate algorithm): a key has a burst that it may use at once, and
//! gets it back at the rate. A key that has its whole burst needs no entry, and its entry is removed.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};

/// Entries are removed only when there are at least this many.
const SWEEP_MIN: usize = 1024;

/// A limit on how often something happens, for each key. A clone counts together with the original.
pub(super) struct RateLimit<K: Hash + Eq + Clone> {
    shared: Arc<Shared<K>>,
}

struct Shared<K: Hash + Eq + Clone> {
    per_second: NonZeroU32,
    limiter: RateLimiter<(K, Mode), Entries<K>, ElapsedTime, NoOpMiddleware<Duration>>,
    /// Entries are removed when there are this many.
    sweep_at: AtomicUsize,
}

/// Whether a request to the limiter changes the entry of its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Mode {
    Look,
    Count,
}

/// For each key, the time at which it has its whole burst again.
struct Entries<K>(Mutex<HashMap<K, Nanos>>);

/// The time since the limit was made.
#[derive(Clone)]
pub(super) struct ElapsedTime(Arc<dyn Fn() -> Duration + Send + Sync>);

/// The rate is reached. A second later it isn't, unless the key is used meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded;

impl<K: Hash + Eq + Clone> Clone for RateLimit<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// At most this many per second, and this many times as many at once. `None` if the rate is 0, which means no limit.
    pub(super) fn new(per_second: u32, burst_seconds: u32, time: ElapsedTime) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = per_second.saturating_mul(NonZeroU32::new(burst_seconds)?);
        let limiter = RateLimiter::new(Quota::per_second(per_second).allow_burst(burst), Entries::default(), time);
        Some(Self { shared: Arc::new(Shared { per_second, limiter, sweep_at: AtomicUsize::new(SWEEP_MIN) }) })
    }

    pub(super) fn per_second(&self) -> NonZeroU32 {
        self.shared.per_second
    }

    /// Whether the key may be used now. Nothing is counted.
    ///
    /// # Errors
    /// [`Exceeded`]
    pub(super) fn look(&self, key: K) -> Result<(), Exceeded> {
        self.shared.limiter.check_key(&(key, Mode::Look)).map_err(|_| Exceeded)
    }

    /// Counts a use of the key.
    ///
    /// # Errors
    /// [`Exceeded`]; then the use is not counted.
    pub(super) fn count(&self, key: K) -> Result<(), Exceeded> {
        let result = self.shared.limiter.check_key(&(key, Mode::Count)).map_err(|_| Exceeded);
        if self.shared.limiter.len() >= self.shared.sweep_at.load(Ordering::Relaxed) {
            self.shared.limiter.retain_recent();
            // The next sweep comes when the rest has doubled, so sweeps cost little for each use.
            self.shared.sweep_at.store(SWEEP_MIN.max(2 * self.shared.limiter.len()), Ordering::Relaxed);
        }
        result
    }
}

impl<K> Default for Entries<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> StateStore for Entries<K> {
    type Key = (K, Mode);

    fn measure_and_replace<T, F, E>(&self, (key, mode): &(K, Mode), measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, next) = measure(entries.get(key).copied())?;
        if *mode == Mode::Count {
            entries.insert(key.clone(), next);
        }
        Ok(outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<(K, Mode)> for Entries<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, full_at| *full_at > drop_below);
        entries.shrink_to(2 * SWEEP_MIN);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ElapsedTime {
    /// The real time from now on.
    pub(super) fn real() -> Self {
        let start = Instant::now();
        Self(Arc::new(move || start.elapsed()))
    }
}

impl Clock for ElapsedTime {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A time that the test sets.
    #[derive(Clone, Default)]
    pub(crate) struct TestTime(Arc<Mutex<Duration>>);

    impl TestTime {
        pub(crate) fn advance(&self, by: Duration) {
            *self.0.lock().unwrap() += by;
        }

        pub(crate) fn elapsed(&self) -> ElapsedTime {
            let time = self.clone();
            ElapsedTime(Arc::new(move || *time.0.lock().unwrap()))
        }
    }

    #[test]
    fn a_key_may_use_its_burst_at_once_and_gets_it_back_at_the_rate() {
        let time = TestTime::default();
        let limit = RateLimit::new(10, 3, time.elapsed()).unwrap();
        let uses = |key: &'static str, attempts: u32| (0..attempts).filter(|_| limit.count(key).is_ok()).count();
        assert_eq!((uses("anna", 40), uses("bea", 5)), (30, 5), "a key doesn't use the burst of another");
        assert_eq!((limit.look("anna"), limit.look("bea")), (Err(Exceeded), Ok(())));
        time.advance(Duration::from_millis(500));
        assert_eq!(uses("anna", 40), 5);
        time.advance(Duration::from_hours(1));
        assert_eq!((uses("anna", 40), uses("bea", 40)), (30, 30), "the burst doesn't grow");
    }

    #[test]
    fn a_look_counts_nothing() {
        let limit = RateLimit::new(1, 1, TestTime::default().elapsed()).unwrap();
        assert!((0..100).all(|_| limit.look("anna").is_ok()));
        assert_eq!(
            (limit.count("anna"), limit.count("anna"), limit.look("anna")),
            (Ok(()), Err(Exceeded), Err(Exceeded))
        );
    }

    #[test]
    fn keys_with_their_whole_burst_have_no_entry() {
        let time = TestTime::default();
        let limit = RateLimit::new(1, 5, time.elapsed()).unwrap();
        for key in 0..100_000_u32 {
            time.advance(Duration::from_millis(10));
            limit.count(key).unwrap();
            assert!(limit.shared.limiter.len() <= 2 * SWEEP_MIN, "{key}: {}", limit.shared.limiter.len());
        }
        // A key that has used its burst keeps its entry through the sweeps.
        assert_eq!((0..10).filter(|_| limit.count(200_000).is_ok()).count(), 5);
        for key in 300_000..300_000 + 4 * u32::try_from(SWEEP_MIN).unwrap() {
            limit.count(key).unwrap();
        }
        assert_eq!(limit.count(200_000), Err(Exceeded));
    }
}
