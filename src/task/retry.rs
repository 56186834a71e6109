//! The pause before the next attempt.

use std::time::Duration;

use super::backoff::{BackOff, spread};
use super::time::Timestamp;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_mins(5);
/// The jitter of a pause, in either direction, as a part of the pause.
const JITTER: f64 = 0.2;

/// When the attempt after the `failed`-th of a run (from 1) that ended at `now` may start:
/// 1 s · 2ⁿ⁻¹, at most 5 min, ± 20 % (the contract's worker rules).
///
/// The jitter is computed from `now` and from the `lease` of the attempt, which is unique. So the rule stays a function of
/// its arguments, and a thousand tasks that fail in the same instant, as in a restart, don't start together again.
#[must_use]
pub fn retry_at(failed: u32, now: Timestamp, lease: &str) -> Timestamp {
    let pause = BackOff::new(FIRST, LONGEST).pause_after(failed);
    // FNV-1a: it is enough that two leases give different numbers.
    let salt = lease
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    now.plus(spread(pause, JITTER, unit(now.as_micros().cast_unsigned() ^ salt)))
}

/// A pseudo-random number in [0, 1) for this seed (the finalizer of `SplitMix64`).
fn unit(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // 32 bits fit a double exactly.
    f64::from((z >> 32) as u32) / 4_294_967_296.0
}
