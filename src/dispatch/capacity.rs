//! Who could take a queued task: what may run, as the dispatcher knows it, and the workers that have been heard of.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::task::Status;
use crate::views::{Limits, Row, RunQueue, Waiting, Wants};

/// A worker that asked for nothing and sent no heartbeat for so long is not counted on: twice the longest long poll.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// Workers that are remembered at most; what is beyond it is only not counted on.
const WORKERS_MAX: usize = 1000;

/// What may run next, behind a lock: the dispatcher writes, whoever shows a task asks what it waits for.
#[derive(Debug)]
pub struct Capacity {
    pending: Mutex<RunQueue>,
    offers: Mutex<Offers>,
}

#[derive(Debug, Default)]
struct Offers {
    local: Wants,
    /// Slots of the worker inside the process.
    free: usize,
    remote: HashMap<String, (Wants, Instant)>,
}

impl Capacity {
    /// Nobody works yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let local = Wants { kinds: Some(Vec::new()), queues: None };
        Self {
            pending: Mutex::new(RunQueue::new(limits)),
            offers: Mutex::new(Offers { local, free: 0, remote: HashMap::new() }),
        }
    }

    /// What the task waits for while it is queued; of another nobody asks.
    #[must_use]
    pub fn waiting(&self, row: &Row) -> Waiting {
        if row.status() != Status::Queued {
            return Waiting::Soon;
        }
        if let Some(obstacle) = self.pending().obstacle(row) {
            return obstacle;
        }
        let offers = lock(&self.offers);
        let now = Instant::now();
        let wanted = |(wants, seen): &(Wants, Instant)| {
            now.duration_since(*seen) < FORGOTTEN && wants.include(row.kind(), row.queue())
        };
        if offers.remote.values().any(wanted) {
            return Waiting::Soon;
        }
        match offers.local.include(row.kind(), row.queue()) {
            true if offers.free == 0 => Waiting::Limit,
            true => Waiting::Soon,
            false => Waiting::Worker,
        }
    }

    /// What may run next.
    pub fn pending(&self) -> MutexGuard<'_, RunQueue> {
        lock(&self.pending)
    }

    pub(super) fn offer_local(&self, wants: &Wants, free: usize) {
        let mut offers = lock(&self.offers);
        if offers.local != *wants {
            offers.local = wants.clone();
        }
        offers.free = free;
    }

    /// A worker asked for work.
    pub(super) fn offer_remote(&self, worker: &str, wants: &Wants) {
        let (mut offers, now) = (lock(&self.offers), Instant::now());
        if let Some((known, seen)) = offers.remote.get_mut(worker) {
            *seen = now;
            if known != wants {
                *known = wants.clone();
            }
            return;
        }
        if offers.remote.len() >= WORKERS_MAX {
            offers.remote.retain(|_, (_, seen)| now.duration_since(*seen) < FORGOTTEN);
        }
        if offers.remote.len() < WORKERS_MAX {
            offers.remote.insert(worker.to_owned(), (wants.clone(), now));
        }
    }

    /// A worker was heard of.
    pub(super) fn seen(&self, worker: &str) {
        if let Some((_, seen)) = lock(&self.offers).remote.get_mut(worker) {
            *seen = Instant::now();
        }
    }
}

/// A panic under one of the locks leaves counts that may be off by one task, not worse.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
