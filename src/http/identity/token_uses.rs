//! When each token was last used on this server. The log doesn't hold it, so it is unknown after a restart, and each server of a
//! cluster knows only its own requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use crate::task::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The time of the last request with each token, in whole seconds. A clone shares the times.
#[derive(Clone, Debug, Default)]
pub struct TokenUses(Arc<RwLock<HashMap<Uuid, AtomicI64>>>);

impl TokenUses {
    /// Notes a request with this token. Only the first request with a token waits for other requests. A further request in the
    /// same second changes nothing.
    pub fn note(&self, token: Uuid, now: Timestamp) {
        let second = now.as_micros().div_euclid(MICROS_PER_SECOND);
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(time) = times.get(&token) {
            if time.load(Ordering::Relaxed) < second {
                time.store(second, Ordering::Relaxed);
            }
            return;
        }
        drop(times);
        // Another request with the token may have added it since. Both times are from the same moment.
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(token, AtomicI64::new(second));
    }

    /// The second of the last request with this token; `None` if this process has received none.
    #[must_use]
    pub fn last(&self, token: Uuid) -> Option<Timestamp> {
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let second = times.get(&token)?.load(Ordering::Relaxed);
        Some(Timestamp::from_micros(second.saturating_mul(MICROS_PER_SECOND)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::new_id;

    #[test]
    fn the_last_use_is_kept_to_the_second_and_never_goes_back() {
        let (uses, token) = (TokenUses::default(), new_id());
        assert_eq!(uses.last(token), None);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (used, expected) in [
            ("2026-11-22T10:00:05.900000Z", "2026-11-22T10:00:05Z"),
            ("2026-11-22T10:00:06.100000Z", "2026-11-22T10:00:06Z"),
            ("2026-11-22T10:00:05Z", "2026-11-22T10:00:06Z"),
        ] {
            uses.note(token, at(used));
            assert_eq!(uses.last(token), Some(at(expected)));
        }
        assert_eq!(uses.last(new_id()), None);
    }
}
