//! Checks of fields that the bodies of several routes have.

use std::time::Duration;

use crate::task::Invalid;
use crate::task::limits::{LOCAL_WORKER_PREFIX, WORKER_MAX, is_line, is_name, is_reserved};

/// The maximum number of leases in one request.
pub const LEASES_MAX: usize = 1000;
/// The maximum number of names in one list of a request.
pub const NAMES_MAX: usize = 64;
/// The longest time that a long poll may wait, in seconds.
pub const WAIT_MAX_S: f64 = 30.0;

/// Checks the name of a worker.
pub fn check_worker(worker: &str) -> Vec<Invalid> {
    let mut invalid = Vec::new();
    if !is_line(worker, WORKER_MAX * 4) || worker.chars().count() > WORKER_MAX {
        invalid.push(Invalid::new("/worker", format!("one line of 1 to {WORKER_MAX} characters")));
    } else if worker.starts_with(LOCAL_WORKER_PREFIX) {
        invalid
            .push(Invalid::new("/worker", "names that begin with `local/` are reserved for workers inside a server"));
    }
    invalid
}

/// Checks a list of kinds or queues. `pointer` is the JSON pointer to the list.
pub fn check_names(names: Option<&[String]>, pointer: &str, invalid: &mut Vec<Invalid>) {
    let Some(names) = names else { return };
    if !(1..=NAMES_MAX).contains(&names.len()) {
        invalid.push(Invalid::new(pointer, format!("1 to {NAMES_MAX} names; omit the field to accept any")));
    }
    for (index, name) in names.iter().enumerate() {
        if !is_name(name) || is_reserved(name) {
            let detail = "1 to 64 of a-z, 0-9, '.', '_', '-', and not a reserved name (`taskbell.…`)";
            invalid.push(Invalid::new(format!("{pointer}/{index}"), detail));
        }
    }
}

/// Checks how long a long poll waits, and returns the duration.
pub fn check_wait(seconds: f64, invalid: &mut Vec<Invalid>) -> Duration {
    if (0.0..=WAIT_MAX_S).contains(&seconds) {
        return Duration::from_secs_f64(seconds);
    }
    invalid.push(Invalid::new("/wait_s", format!("0 to {WAIT_MAX_S} seconds")));
    Duration::ZERO
}
