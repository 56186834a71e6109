//! What a queued task waits for: the run queue, and what the workers offer to execute.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::task::Status;
use crate::views::{Limits, Row, RunQueue, WaitingFor, WorkOffer};

/// A worker that has sent no request and no heartbeat for so long no longer counts as alive: twice the longest long poll.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// How many workers outside the process are known at most. A further worker still gets work, but its offer is not shown in
/// what tasks wait for.
const WORKERS_MAX: usize = 1000;
/// For how many pairs of kind and queue the result of a search is kept; the next search discards all of them.
const SEARCHES_MAX: usize = 10_000;

/// The run queue and the workers' offers, each behind a lock: the dispatcher writes, requests and the hub read.
#[derive(Debug)]
pub struct Capacity {
    pending: Mutex<RunQueue>,
    offers: Mutex<Offers>,
}

#[derive(Debug, Default)]
struct Offers {
    local: WorkOffer,
    /// Free slots of the worker inside the process.
    free: usize,
    remote: RemoteOffers,
}

impl Capacity {
    /// An empty run queue with these limits, and no worker.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let local = WorkOffer { kinds: Some(Vec::new()), queues: None };
        Self {
            pending: Mutex::new(RunQueue::new(limits)),
            offers: Mutex::new(Offers { local, free: 0, remote: RemoteOffers::default() }),
        }
    }

    /// What the task waits for while it is queued; [`WaitingFor::Nothing`] for any other task.
    #[must_use]
    pub fn waiting(&self, row: &Row) -> WaitingFor {
        if row.status() != Status::Queued {
            return WaitingFor::Nothing;
        }
        if let Some(obstacle) = self.pending().obstacle(row) {
            return obstacle;
        }
        let mut offers = lock(&self.offers);
        if offers.remote.has_worker_for(row.kind(), row.queue(), Instant::now()) {
            return WaitingFor::Nothing;
        }
        match offers.local.accepts(row.kind(), row.queue()) {
            true if offers.free == 0 => WaitingFor::Limit,
            true => WaitingFor::Nothing,
            false => WaitingFor::Worker,
        }
    }

    /// Locks the run queue.
    pub fn pending(&self) -> MutexGuard<'_, RunQueue> {
        lock(&self.pending)
    }

    /// Empties the run queue, and locks it to be filled anew.
    pub(super) fn reset(&self) -> MutexGuard<'_, RunQueue> {
        let mut queue = self.pending();
        *queue = queue.new_with_same_limits();
        queue
    }

    /// The kinds that the workers of this server execute; none: any.
    pub(super) fn kinds(&self) -> Option<HashSet<String>> {
        let offers = lock(&self.offers);
        let mut kinds = offers.remote.kinds(Instant::now())?;
        kinds.extend(offers.local.kinds.as_ref()?.iter().cloned());
        Some(kinds)
    }

    pub(super) fn offer_local(&self, offer: &WorkOffer, free: usize) {
        let mut offers = lock(&self.offers);
        if offers.local != *offer {
            offers.local = offer.clone();
        }
        offers.free = free;
    }

    /// A worker outside the process asked for work.
    pub(super) fn offer_remote(&self, worker: &str, offer: &WorkOffer) {
        lock(&self.offers).remote.offer(worker, offer, Instant::now());
    }

    /// A worker outside the process sent a heartbeat.
    pub(super) fn seen(&self, worker: &str) {
        lock(&self.offers).remote.seen(worker, Instant::now());
    }
}

/// What the workers outside the process offer to execute. It reads no clock; the caller passes `now`.
///
/// It keeps what the last search for a kind and a queue found, so that a list of tasks doesn't compare every task with every
/// worker. A worker that was found is checked again: it must be alive and still offer the kind. A search that found no
/// worker is repeated only after a worker has joined, has come back, or has changed its offer.
#[derive(Debug, Default)]
pub struct RemoteOffers {
    workers: HashMap<Arc<str>, RemoteWorker>,
    /// By kind, then by queue.
    searches: HashMap<Box<str>, HashMap<Box<str>, Found>>,
    kept: usize,
    /// How often a worker has joined, has come back, or has changed its offer.
    changes: u64,
    comparisons: u64,
}

#[derive(Debug)]
struct RemoteWorker {
    offer: WorkOffer,
    seen: Instant,
}

impl RemoteWorker {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) < FORGOTTEN
    }

    fn takes(&self, kind: &str, queue: &str, now: Instant) -> bool {
        self.is_alive(now) && self.offer.accepts(kind, queue)
    }
}

/// The result of a search.
#[derive(Debug)]
enum Found {
    Worker(Arc<str>),
    /// No worker; with the value of [`RemoteOffers::changes`] at that time.
    Nothing(u64),
}

impl RemoteOffers {
    /// The worker asked for work at `now`: it is alive, and offers this and nothing else.
    pub fn offer(&mut self, worker: &str, offer: &WorkOffer, now: Instant) {
        if let Some(known) = self.workers.get_mut(worker) {
            let was_alive = known.is_alive(now);
            known.seen = now;
            if known.offer != *offer {
                known.offer = offer.clone();
            } else if was_alive {
                return;
            }
        } else {
            if self.workers.len() >= WORKERS_MAX {
                self.workers.retain(|_, worker| worker.is_alive(now));
            }
            if self.workers.len() >= WORKERS_MAX {
                return;
            }
            self.workers.insert(worker.into(), RemoteWorker { offer: offer.clone(), seen: now });
        }
        self.changes += 1;
    }

    /// The worker sent a heartbeat at `now`.
    pub fn seen(&mut self, worker: &str, now: Instant) {
        if let Some(known) = self.workers.get_mut(worker) {
            self.changes += u64::from(!known.is_alive(now));
            known.seen = now;
        }
    }

    /// The kinds that workers which are alive at `now` execute; none: any.
    fn kinds(&self, now: Instant) -> Option<HashSet<String>> {
        let mut kinds = HashSet::new();
        for worker in self.workers.values().filter(|worker| worker.is_alive(now)) {
            kinds.extend(worker.offer.kinds.as_ref()?.iter().cloned());
        }
        Some(kinds)
    }

    /// Whether a worker that is alive at `now` offers to execute this kind from this queue.
    pub fn has_worker_for(&mut self, kind: &str, queue: &str, now: Instant) -> bool {
        self.kept_result(kind, queue, now).unwrap_or_else(|| self.search(kind, queue, now))
    }

    /// The result of the last search; none where the search must be repeated.
    fn kept_result(&mut self, kind: &str, queue: &str, now: Instant) -> Option<bool> {
        match self.searches.get(kind)?.get(queue)? {
            Found::Worker(worker) => {
                self.comparisons += 1;
                self.workers.get(worker)?.takes(kind, queue, now).then_some(true)
            }
            Found::Nothing(changes) => (*changes == self.changes).then_some(false),
        }
    }

    /// Compares all offers, and keeps the worker that was seen last: it stays alive for the longest time.
    fn search(&mut self, kind: &str, queue: &str, now: Instant) -> bool {
        self.comparisons += self.workers.len() as u64;
        let takers = self.workers.iter().filter(|(_, worker)| worker.takes(kind, queue, now));
        let latest = takers.max_by_key(|(_, worker)| worker.seen).map(|(name, _)| Arc::clone(name));
        let is_found = latest.is_some();
        if self.kept >= SEARCHES_MAX {
            self.searches.clear();
            self.kept = 0;
        }
        let found = latest.map_or(Found::Nothing(self.changes), Found::Worker);
        let former = self.searches.entry(kind.into()).or_default().insert(queue.into(), found);
        self.kept += usize::from(former.is_none());
        is_found
    }

    /// How many offers were compared with a kind and a queue so far.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// For how many pairs of kind and queue a result is kept.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn kept_searches(&self) -> usize {
        self.kept
    }
}

/// A lock whose holder panicked is still used: its counts may be wrong by one task, but not inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
