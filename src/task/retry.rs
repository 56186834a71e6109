//! The pause before the next attempt.

use std::time::Duration;

use super::time::Timestamp;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_mins(5);
/// How far jitter moves a pause, either way, as a part of it.
const JITTER: f64 = 0.2;

/// When the attempt after the `failed`-th of a run (from 1) that ended at `now` may start:
/// 1 s · 2ⁿ⁻¹, at most 5 min, ± 20 % (the contract's worker rules).
///
/// The jitter comes from the microseconds of `now`, so that the rule stays a function of its arguments
/// and a thousand tasks that failed together don't come back together.
#[must_use]
pub fn retry_at(failed: u32, now: Timestamp) -> Timestamp {
    let doublings = failed.saturating_sub(1).min(16);
    let pause = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let spread = 1.0 + JITTER * (2.0 * unit(now.as_micros().cast_unsigned() ^ u64::from(failed)) - 1.0);
    now.plus(pause.mul_f64(spread))
}

/// A number in [0, 1) that looks random for each seed (SplitMix64's finalizer).
fn unit(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // 32 bits fit a double exactly.
    f64::from((z >> 32) as u32) / 4_294_967_296.0
}
