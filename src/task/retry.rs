//! The pause before the next attempt of the same run. A client's request for a new run ([`Command::Retry`](super::Command::Retry))
//! doesn't use it.

use std::time::Duration;

use super::backoff::{BackOff, with_jitter};
use super::time::Timestamp;

/// The pause after the first attempt of a run, before jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The maximum fraction by which the jitter makes a pause longer or shorter.
const JITTER: f64 = 0.2;

/// When the next attempt of a run may start. `attempts` attempts of the run have ended, the last one at `now`. The pause is
/// 1 s · 2ⁿ⁻¹, at most 5 min, ± 20 %.
///
/// The jitter is computed from `now` and `lease_hash`, the hash of the last attempt's lease, which is unique. So the result
/// depends only on the arguments. If a thousand tasks fail at the same time, for example at a restart, their next attempts
/// start at different times.
#[must_use]
pub fn retry_at(attempts: u32, now: Timestamp, lease_hash: &str) -> Timestamp {
    let pause = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE).pause_after(attempts);
    // FNV-1a is good enough: it only has to give different leases different numbers.
    let salt = lease_hash
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    now.plus(with_jitter(pause, JITTER, random_fraction(now.as_micros().cast_unsigned() ^ salt)))
}

/// A pause that no pause after at most this number of attempts exceeds.
#[cfg(feature = "server")]
#[must_use]
pub fn longest_pause(attempts: u32) -> Duration {
    with_jitter(BackOff::new(FIRST_PAUSE, LONGEST_PAUSE).pause_after(attempts), JITTER, 1.0)
}

/// A pseudo-random number in [0, 1) for this seed, computed with the finalizer of `SplitMix64`.
fn random_fraction(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // An `f64` represents every 32-bit integer exactly.
    f64::from((z >> 32) as u32) / 4_294_967_296.0
}
