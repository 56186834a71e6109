//! Which occurrences of a fault are logged. While a disk is full, thousands of requests may fail in a second. A line for each of
//! them would hide the other lines.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// While a fault lasts, it is logged at most once in this time.
const LINE_INTERVAL: Duration = Duration::from_mins(1);

/// Counts the occurrences of one fault, and says which of them are logged: the first one, and then at most one in a minute.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<Option<Fault>>);

/// A fault that is not over.
#[derive(Debug)]
struct Fault {
    began: Instant,
    last_line: Instant,
    total: u64,
    since_last_line: u64,
}

/// A fault that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How often it has occurred.
    pub total: u64,
    /// The time from its first occurrence to its end.
    pub lasted: Duration,
}

impl Repeats {
    /// No fault.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The fault has occurred at `now`. If this occurrence is to be logged, returns the number of occurrences since the last line,
    /// this one included.
    pub fn occurred(&self, now: Instant) -> Option<u64> {
        let mut fault = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fault) = &mut *fault else {
            *fault = Some(Fault { began: now, last_line: now, total: 1, since_last_line: 0 });
            return Some(1);
        };
        fault.total = fault.total.saturating_add(1);
        fault.since_last_line = fault.since_last_line.saturating_add(1);
        if now.saturating_duration_since(fault.last_line) < LINE_INTERVAL {
            return None;
        }
        fault.last_line = now;
        Some(std::mem::take(&mut fault.since_last_line))
    }

    /// The fault is over at `now`. `None` if there was none.
    pub fn ended(&self, now: Instant) -> Option<Ended> {
        let fault = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        fault.map(|Fault { began, total, .. }| Ended { total, lasted: now.saturating_duration_since(began) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_logged_when_it_begins_and_then_once_a_minute_with_the_number_of_its_occurrences() {
        let (repeats, begin) = (Repeats::new(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        let logged: Vec<_> = (0..150).filter_map(|second| Some((second, repeats.occurred(at(second))?))).collect();
        assert_eq!(logged, [(0, 1), (60, 60), (120, 60)]);
        assert_eq!(repeats.ended(at(150)), Some(Ended { total: 150, lasted: Duration::from_secs(150) }));
        assert_eq!(repeats.ended(at(151)), None, "it has ended already");
        assert_eq!(repeats.occurred(at(152)), Some(1), "the next fault is logged at once");
    }
}
