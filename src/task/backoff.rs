//! Pauses that double with each failure, up to a bound. The module reads no clock and draws no random number: the caller
//! passes both.

use std::time::Duration;

/// How long to wait before a request is tried again.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl BackOff {
    /// A back-off whose first pause is `first` and whose longest is `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The pause after so many failures in a row (from 1): `first` · 2ⁿ⁻¹, at most `longest`.
    #[must_use]
    pub fn pause_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// Counts one more failure in a row; the pause that follows it.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.pause_after(self.failures)
    }

    /// Ends the row: the next failure is the first again.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Adds jitter to a pause: up to `part` of it, in either direction. `unit` is a random number in [0, 1); 0.5 leaves the pause
/// as it is. With different jitter, clients that failed in the same instant don't retry together.
#[must_use]
pub fn spread(pause: Duration, part: f64, unit: f64) -> Duration {
    pause.mul_f64(1.0 + part * (2.0 * unit - 1.0))
}
