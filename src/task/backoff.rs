//! Pauses that double with each failure, up to a bound. The module reads no clock and creates no random numbers; the caller
//! passes the random number.

use std::time::Duration;

/// Computes the pause after each failure of a repeated operation.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    first: Duration,
    longest: Duration,
    /// How many failures there were since the last success.
    failures: u32,
}

impl BackOff {
    /// A back-off whose first pause is `first` and whose longest pause is `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The pause after the n-th failure in a row (n counts from 1): `first` · 2ⁿ⁻¹, at most `longest`.
    #[must_use]
    pub fn pause_after(&self, nth_failure: u32) -> Duration {
        let doublings = nth_failure.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// Counts one more failure in a row, and returns the pause that follows it.
    pub fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.pause_after(self.failures)
    }

    /// The operation has succeeded: the pause after the next failure is the first pause again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Makes a pause longer or shorter by at most this `fraction` of it. `random` is a random number in [0, 1); 0.5 doesn't
/// change the pause. If many clients fail at the same time, their pauses end at different times.
#[must_use]
pub fn with_jitter(pause: Duration, fraction: f64, random: f64) -> Duration {
    pause.mul_f64(1.0 + fraction * (2.0 * random - 1.0))
}
