//! The live servers and the active attempts of a cluster, as the servers' records show. It reads no clock; the caller passes
//! `now`, a time of this server's monotonic clock.
//!
//! Every server appends a record at short intervals. A record names the attempts whose heartbeats the server has received since
//! its last record, and the attempts in its own process. If no record has named an attempt for its lease time plus
//! [`EXPIRY_MARGIN`], the attempt is lost, and any server may end it.
//!
//! **How a server knows that there was no record.** If a server receives nothing, the other servers may have written nothing, or
//! its connection may be broken. Therefore it relies on its own records, which it also receives. The database delivers records in
//! the order in which they were written. So when a server receives its own record, it has received everything that was written
//! before. It counts the time without a record only up to the beginning of the newest own record that it has received. After an
//! interruption, or while this process is suspended, it receives no own record, and nothing expires.
//!
//! **Why the worker has stopped by then.** The worker's server lets it work until the lease time after the beginning of the
//! record that named the attempt. No server can receive that record before its beginning, and each server waits for the lease
//! time plus [`EXPIRY_MARGIN`] after it has received the record.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::task::{Position, TaskId, Timestamp};

/// Identifies an attempt: its task and its number.
pub type AttemptId = (TaskId, u32);

/// An attempt is lost if no record has named it for its lease time plus this time.
pub const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// The longest interval between two records of a server.
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// The maximum number of own records that were sent and not received yet.
const SENT_RECORDS_MAX: usize = 64;
/// A server counts as alive if its last record is at most this many of its intervals old.
const LIVE_INTERVALS: u32 = 3;

/// The interval between two records of a server, if `shortest_lease` is the shortest lease time of all kinds.
#[must_use]
pub fn record_interval(shortest_lease: Duration) -> Duration {
    (shortest_lease / 3).min(INTERVAL_MAX)
}

/// The content of a server's record. Fields that this version doesn't know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// When the record was begun, by its server's clock. This is information for people. No server compares it with its own clock.
    pub time: Timestamp,
    /// The interval until the server's next record, in milliseconds.
    pub interval_ms: u64,
    /// The last position of the log that the server has received.
    pub position: Position,
    /// The hash of the event at that position, in hexadecimal.
    pub hash: String,
    /// The kinds that its workers execute; null if a worker executes all kinds.
    pub kinds: Option<HashSet<String>>,
    /// The attempts with a heartbeat since the server's last record, and those in the server's process.
    pub attempts: Vec<AttemptId>,
}

/// Another server.
#[derive(Clone, Debug)]
struct Peer {
    /// When its last record was received.
    last_received: Instant,
    interval: Duration,
    kinds: Option<HashSet<String>>,
}

/// An attempt that runs in the cluster.
#[derive(Clone, Copy, Debug)]
struct RunningAttempt {
    attempt: u32,
    lease: Duration,
    /// When the last record that names the attempt was received, or the attempt's start.
    last_named: Instant,
}

/// The id of a live server, and the kinds that its workers execute; none if a worker executes all kinds.
pub type LiveServer = (Uuid, Option<HashSet<String>>);

/// The table; see the module.
#[derive(Debug)]
pub struct ServerTable {
    own_id: Uuid,
    peers: HashMap<Uuid, Peer>,
    running: HashMap<TaskId, RunningAttempt>,
    /// The own records that were sent and not received yet: the id of the event, and when the record was begun.
    sent_records: VecDeque<(Uuid, Instant)>,
    /// All records that were written before this time have been received. None while the subscription is interrupted, and before
    /// the first own record was received.
    received_until: Option<Instant>,
}

impl ServerTable {
    /// The table of the server with this id, without other servers. Nothing expires before the first own record is received.
    #[must_use]
    pub fn new(own_id: Uuid) -> Self {
        Self {
            own_id,
            peers: HashMap::new(),
            running: HashMap::new(),
            sent_records: VecDeque::new(),
            received_until: None,
        }
    }

    /// An attempt runs. If it is not in the table, its start counts as a record that names it.
    pub fn attempt_started(&mut self, (task, attempt): AttemptId, lease: Duration, now: Instant) {
        let running = self.running.entry(task).or_insert(RunningAttempt { attempt, lease, last_named: now });
        if running.attempt < attempt {
            *running = RunningAttempt { attempt, lease, last_named: now };
        }
    }

    /// An attempt has ended.
    pub fn attempt_ended(&mut self, (task, attempt): AttemptId) {
        if self.running.get(&task).is_some_and(|running| running.attempt <= attempt) {
            self.running.remove(&task);
        }
    }

    /// Removes every attempt that is not among these.
    pub fn retain_attempts(&mut self, active: &HashSet<AttemptId>) {
        self.running.retain(|task, running| active.contains(&(*task, running.attempt)));
    }

    /// An own record with this id is about to be sent. `begun` must not be later than the time at which its attempts were
    /// collected.
    pub fn record_sent(&mut self, id: Uuid, begun: Instant) {
        self.sent_records.push_back((id, begun));
        if self.sent_records.len() > SENT_RECORDS_MAX {
            self.sent_records.pop_front();
        }
    }

    /// A subscription to the records has begun. Earlier records may have been missed, so the time of all attempts counts from now.
    pub fn subscription_began(&mut self, now: Instant) {
        self.received_until = None;
        for running in self.running.values_mut() {
            running.last_named = now;
        }
    }

    /// The subscription has ended.
    pub const fn subscription_ended(&mut self) {
        self.received_until = None;
    }

    /// A record of this server or of another one was received. `id` is the id of its event.
    pub fn record_received(&mut self, server: Uuid, id: Uuid, record: &ServerRecord, now: Instant) {
        for (task, attempt) in &record.attempts {
            if let Some(running) = self.running.get_mut(task).filter(|running| running.attempt == *attempt) {
                running.last_named = now;
            }
        }
        if server == self.own_id {
            if let Some(index) = self.sent_records.iter().position(|(sent, _)| *sent == id) {
                let (_, begun) = self.sent_records.drain(..=index).next_back().unwrap_or((id, now));
                self.received_until = self.received_until.max(Some(begun));
            }
            return;
        }
        let interval = Duration::from_millis(record.interval_ms);
        self.peers.insert(server, Peer { last_received: now, interval, kinds: record.kinds.clone() });
    }

    /// The attempts that no record has named for too long. Their time counts from now again, because the command that ends an
    /// attempt may be refused.
    pub fn take_expired(&mut self, now: Instant) -> Vec<AttemptId> {
        let Some(received_until) = self.received_until else { return Vec::new() };
        let expired = self.running.iter_mut().filter(|(_, running)| {
            received_until.saturating_duration_since(running.last_named) >= running.lease.saturating_add(EXPIRY_MARGIN)
        });
        expired
            .map(|(task, running)| {
                running.last_named = now;
                (*task, running.attempt)
            })
            .collect()
    }

    /// The live servers other than this one.
    pub fn live_peers(&mut self, now: Instant) -> Vec<LiveServer> {
        let is_live = |peer: &Peer| now.saturating_duration_since(peer.last_received) <= peer.interval * LIVE_INTERVALS;
        self.peers.retain(|_, peer| is_live(peer));
        self.peers.iter().map(|(id, peer)| (*id, peer.kinds.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
