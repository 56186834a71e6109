//! Records the responses that the workers and clients of the soak test receive. The checks compare them with the log.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;

/// The record of a run, which workers and clients share. All times come from one monotonic clock.
#[derive(Default)]
pub struct Record {
    account: Mutex<Account>,
    /// The number of attempts whose end was acknowledged to their worker.
    pub ended: watch::Sender<usize>,
}

#[derive(Default)]
pub struct Account {
    /// Every lease that a worker has received.
    pub held_leases: Vec<HeldLease>,
    /// Every end of an attempt that a server acknowledged to its worker.
    pub ends: Vec<ReportedEnd>,
    /// The ids of the created tasks in the responses, by the number of the request.
    pub created: BTreeMap<usize, Vec<String>>,
    /// The ids of the tasks in the responses to requests with a unique key.
    pub unique_key_tasks: Vec<String>,
    /// The numbers of the requests without a key to which the client got no response.
    pub unknown: Vec<usize>,
    /// The tasks in the responses to cancels and retries.
    pub changed_tasks: Vec<Value>,
    /// The counters that servers returned during the run.
    pub counters: Vec<Value>,
    /// Descriptions of responses and events that must never occur.
    pub violations: Vec<String>,
}

/// A lease from the view of its worker.
pub struct HeldLease {
    pub task: String,
    pub attempt: u64,
    pub worker: String,
    /// When the worker received the lease.
    pub received_at: Instant,
    /// The time when the lease expires, by the last response of a server.
    pub expires_at: Instant,
    /// When the worker stopped the attempt, if it did.
    pub stopped: Option<Instant>,
}

impl HeldLease {
    /// The last moment at which the worker may have worked on the attempt.
    pub fn end(&self) -> Instant {
        self.stopped.map_or(self.expires_at, |stopped| stopped.min(self.expires_at))
    }
}

/// The response to the report of an end.
pub struct ReportedEnd {
    pub task: String,
    pub attempt: u64,
    pub worker: String,
    /// The status of the task, or `lease_lost`.
    pub response: String,
}

impl Record {
    /// Reads or changes the account.
    pub fn with<T>(&self, change: impl FnOnce(&mut Account) -> T) -> T {
        change(&mut self.account.lock().unwrap())
    }

    pub fn add_violation(&self, why: String) {
        self.with(|account| account.violations.push(why));
    }

    pub fn add_end(&self, end: ReportedEnd) {
        self.with(|account| account.ends.push(end));
        self.ended.send_modify(|ended| *ended += 1);
    }
}
