//! The run queue, and what the workers offer to execute. Together they show what a queued task waits for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::task::Status;
use crate::views::{Limits, Row, RunQueue, WaitingFor, WorkOffer};

/// A worker that has sent no request and no heartbeat for this long no longer counts as alive. It is twice the longest wait of
/// a request.
const WORKER_TIMEOUT: Duration = Duration::from_mins(1);
/// The maximum number of workers outside the process whose offers are kept. A further worker still gets work, but a task that
/// only it can execute is shown as waiting for a worker.
const WORKERS_MAX: usize = 1000;
/// The maximum number of kinds in a server's record. The database refuses records that are too large.
const KINDS_MAX: usize = 1000;
/// The maximum number of search results that are kept, one for each pair of kind and queue. The next search discards all.
const SEARCHES_MAX: usize = 10_000;

/// The run queue and the workers' offers, each behind a lock. The dispatcher writes them; requests and the hub read them.
#[derive(Debug)]
pub struct Capacity {
    run_queue: Mutex<RunQueue>,
    offers: Mutex<WorkerOffers>,
}

#[derive(Debug, Default)]
struct WorkerOffers {
    local: WorkOffer,
    /// The number of free slots of the worker inside the process.
    free_slots: usize,
    remote: RemoteOffers,
}

impl Capacity {
    /// An empty run queue with these limits, and no worker.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let local = WorkOffer { kinds: Some(Vec::new()), queues: None };
        Self {
            run_queue: Mutex::new(RunQueue::new(limits)),
            offers: Mutex::new(WorkerOffers { local, free_slots: 0, remote: RemoteOffers::default() }),
        }
    }

    /// What a queued task waits for. [`WaitingFor::Nothing`] if the task is not queued.
    #[must_use]
    pub fn waiting_for(&self, row: &Row) -> WaitingFor {
        if row.status() != Status::Queued {
            return WaitingFor::Nothing;
        }
        if let Some(obstacle) = self.run_queue().obstacle(row) {
            return obstacle;
        }
        let mut offers = lock(&self.offers);
        if offers.remote.has_worker_for(row.kind(), row.queue(), Instant::now()) {
            return WaitingFor::Nothing;
        }
        match offers.local.accepts(row.kind(), row.queue()) {
            true if offers.free_slots == 0 => WaitingFor::Limit,
            true => WaitingFor::Nothing,
            false => WaitingFor::Worker,
        }
    }

    /// Locks the run queue.
    pub fn run_queue(&self) -> MutexGuard<'_, RunQueue> {
        lock(&self.run_queue)
    }

    /// Empties the run queue and locks it, so that the caller can fill it again.
    pub(super) fn reset_run_queue(&self) -> MutexGuard<'_, RunQueue> {
        let mut queue = self.run_queue();
        *queue = queue.new_with_same_limits();
        queue
    }

    /// The kinds that the workers of this server execute. None if a worker executes all kinds, or if there are more than
    /// `KINDS_MAX`.
    pub(super) fn executed_kinds(&self) -> Option<HashSet<String>> {
        let offers = lock(&self.offers);
        let mut kinds = offers.remote.kinds(Instant::now())?;
        kinds.extend(offers.local.kinds.as_ref()?.iter().cloned());
        Some(kinds).filter(|kinds| kinds.len() <= KINDS_MAX)
    }

    /// Replaces the offer of the worker inside the process, and the number of its free slots.
    pub(super) fn set_local_offer(&self, offer: &WorkOffer, free_slots: usize) {
        let mut offers = lock(&self.offers);
        if offers.local != *offer {
            offers.local = offer.clone();
        }
        offers.free_slots = free_slots;
    }

    /// A worker outside the process has requested leases with this offer.
    pub(super) fn set_remote_offer(&self, worker: &str, offer: &WorkOffer) {
        lock(&self.offers).remote.set_offer(worker, offer, Instant::now());
    }

    /// A worker outside the process has sent a heartbeat.
    pub(super) fn mark_alive(&self, worker: &str) {
        lock(&self.offers).remote.mark_alive(worker, Instant::now());
    }
}

/// The offers of the workers outside the process. It reads no clock; the caller passes `now`.
///
/// The result of the last search for each pair of kind and queue is kept, so that a page of a list of tasks doesn't compare every
/// task with every worker. If a worker was found, it is checked again: it must be alive and must still accept the pair. If no
/// worker was found, the search is repeated only after a worker has joined, has become alive again or has changed its offer.
#[derive(Debug, Default)]
pub struct RemoteOffers {
    workers: HashMap<Arc<str>, RemoteOffer>,
    /// The results of the last searches, by kind, then by queue.
    searches: HashMap<Box<str>, HashMap<Box<str>, SearchResult>>,
    kept_searches: usize,
    /// How many times a worker has joined, has become alive again or has changed its offer.
    changes: u64,
    comparisons: u64,
}

#[derive(Debug)]
struct RemoteOffer {
    offer: WorkOffer,
    last_seen: Instant,
}

impl RemoteOffer {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_seen) < WORKER_TIMEOUT
    }

    fn accepts(&self, kind: &str, queue: &str, now: Instant) -> bool {
        self.is_alive(now) && self.offer.accepts(kind, queue)
    }
}

/// The result of a search.
#[derive(Debug)]
enum SearchResult {
    Worker(Arc<str>),
    /// No worker was found, when [`RemoteOffers::changes`] had this value.
    NoWorker(u64),
}

impl RemoteOffers {
    /// The worker has requested leases at `now`. It is alive, and this offer replaces its former one.
    pub fn set_offer(&mut self, worker: &str, offer: &WorkOffer, now: Instant) {
        if let Some(known) = self.workers.get_mut(worker) {
            let was_alive = known.is_alive(now);
            known.last_seen = now;
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
            self.workers.insert(worker.into(), RemoteOffer { offer: offer.clone(), last_seen: now });
        }
        self.changes += 1;
    }

    /// The worker has sent a heartbeat at `now`.
    pub fn mark_alive(&mut self, worker: &str, now: Instant) {
        if let Some(known) = self.workers.get_mut(worker) {
            self.changes += u64::from(!known.is_alive(now));
            known.last_seen = now;
        }
    }

    /// The kinds that the workers alive at `now` execute. None if one of them executes all kinds.
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

    /// The result of the last search; none if the search must be repeated.
    fn kept_result(&mut self, kind: &str, queue: &str, now: Instant) -> Option<bool> {
        match self.searches.get(kind)?.get(queue)? {
            SearchResult::Worker(worker) => {
                self.comparisons += 1;
                self.workers.get(worker)?.accepts(kind, queue, now).then_some(true)
            }
            SearchResult::NoWorker(changes) => (*changes == self.changes).then_some(false),
        }
    }

    /// Compares all offers with the kind and the queue. Keeps the worker that was seen last, because it counts as alive for the
    /// longest time.
    fn search(&mut self, kind: &str, queue: &str, now: Instant) -> bool {
        self.comparisons += self.workers.len() as u64;
        let accepting = self.workers.iter().filter(|(_, worker)| worker.accepts(kind, queue, now));
        let latest = accepting.max_by_key(|(_, worker)| worker.last_seen).map(|(name, _)| Arc::clone(name));
        let is_found = latest.is_some();
        if self.kept_searches >= SEARCHES_MAX {
            self.searches.clear();
            self.kept_searches = 0;
        }
        let found = latest.map_or(SearchResult::NoWorker(self.changes), SearchResult::Worker);
        let replaced = self.searches.entry(kind.into()).or_default().insert(queue.into(), found);
        self.kept_searches += usize::from(replaced.is_none());
        is_found
    }

    /// How many times an offer was compared with a kind and a queue.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// The number of search results that are kept.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn kept_searches(&self) -> usize {
        self.kept_searches
    }
}

/// Locks the mutex. If a thread panicked while it held the lock, the data is still used: a count may be wrong by one task.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
