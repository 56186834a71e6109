//! The answers that workers and clients of a run have received. The checks compare them with the log.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;

/// The account of a run. All times come from one monotonic clock.
#[derive(Default)]
pub struct Record {
    account: Mutex<Account>,
    /// How many attempts have ended by an answer to their worker.
    pub ended: watch::Sender<usize>,
}

#[derive(Default)]
pub struct Account {
    /// Every lease that a worker has received.
    pub holds: Vec<Hold>,
    /// Every end of an attempt that was answered to its worker.
    pub ends: Vec<End>,
    /// The ids that answers gave to each request, by its number: its task's.
    pub created: BTreeMap<usize, Vec<String>>,
    /// The ids of tasks that answers to requests with a unique key named.
    pub found: Vec<String>,
    /// Requests without a key whose outcome their clients don't know.
    pub unknown: Vec<usize>,
    /// Tasks as answers to a cancel or a retry showed them.
    pub turned: Vec<Value>,
    /// Counters as servers showed them while the run went on.
    pub counters: Vec<Value>,
    /// What must never happen.
    pub violations: Vec<String>,
}

/// A lease as its worker sees it.
pub struct Hold {
    pub task: String,
    pub attempt: u64,
    pub worker: String,
    /// When the worker received it.
    pub from: Instant,
    /// Until when the servers let it work.
    pub until: Instant,
    /// When the worker stopped by itself.
    pub stopped: Option<Instant>,
}

impl Hold {
    /// When the worker worked last.
    pub fn end(&self) -> Instant {
        self.stopped.map_or(self.until, |stopped| stopped.min(self.until))
    }
}

/// The answer to a finish.
pub struct End {
    pub task: String,
    pub attempt: u64,
    pub worker: String,
    /// The status of the task, or `lease_lost`.
    pub answer: String,
}

impl Record {
    pub fn with<T>(&self, change: impl FnOnce(&mut Account) -> T) -> T {
        change(&mut self.account.lock().unwrap())
    }

    pub fn violation(&self, why: String) {
        self.with(|account| account.violations.push(why));
    }

    pub fn ended(&self, end: End) {
        self.with(|account| account.ends.push(end));
        self.ended.send_modify(|ended| *ended += 1);
    }
}
