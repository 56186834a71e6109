//! What the records of a cluster's servers say: which servers live, and which attempts are alive. It reads no clock; the
//! caller passes `now`, a time of this server's monotonic clock.
//!
//! Every server appends a record at short intervals. It names the attempts that the server has heard of since its last one:
//! new leases, heartbeats, and the attempts in its own process. An attempt that no record has named for its lease time and
//! [`MARGIN`] more is lost, and any server may say so.
//!
//! **Until when silence is known.** A server that receives nothing can't tell silence from a broken connection. Therefore
//! it counts silence only up to the time at which it sent the newest of its own records that has come back: the database
//! delivers records in the order in which they were written, so whatever was written before that has been received. After
//! an interruption, or while this process is suspended, no record comes back, and nothing expires.
//!
//! **Why a worker has stopped by then.** The server that a worker talks to lets it work until the start of the record that
//! named the attempt, plus the lease time. No server can have received that record before it was started, and each waits for
//! [`MARGIN`] more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::task::{Position, TaskId, Timestamp};

/// An attempt: its task and its number.
pub type AttemptId = (TaskId, u32);

/// How long an attempt outlives its lease time without being named.
pub const MARGIN: Duration = Duration::from_secs(10);
/// The longest time between two records of a server.
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Own records that may still come back.
const SENT_MAX: usize = 64;
/// A server whose last record is older than so many of its intervals doesn't count as alive.
const FRESH: u32 = 3;

/// The time between two records, where this is the shortest lease.
#[must_use]
pub fn record_interval(shortest_lease: Duration) -> Duration {
    (shortest_lease / 3).min(INTERVAL_MAX)
}

/// A record of a server, as it is written. Fields that this version doesn't know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// When it was begun, by its server's clock. It is there for people; no server compares it with its own clock.
    pub time: Timestamp,
    /// Milliseconds until the server's next record.
    pub interval_ms: u64,
    /// How far the server has received the log.
    pub position: Position,
    /// The hash of the event there, in hexadecimal.
    pub hash: String,
    /// The kinds that its workers execute; null: any.
    pub kinds: Option<HashSet<String>>,
    /// The attempts that it has heard of since its last record.
    pub attempts: Vec<AttemptId>,
}

/// Another server.
#[derive(Clone, Debug)]
struct Peer {
    received: Instant,
    interval: Duration,
    kinds: Option<HashSet<String>>,
}

/// An attempt that runs somewhere.
#[derive(Clone, Copy, Debug)]
struct Running {
    attempt: u32,
    lease: Duration,
    /// When a record that names it was received last, or when its start was.
    named: Instant,
}

/// A server that lives, and the kinds that its workers execute; none: any.
pub type LiveServer = (Uuid, Option<HashSet<String>>);

/// The table; see the module.
#[derive(Debug)]
pub struct ServerTable {
    own: Uuid,
    peers: HashMap<Uuid, Peer>,
    running: HashMap<TaskId, Running>,
    /// The ids of own records that have not come back, with the times at which they were begun.
    sent: VecDeque<(Uuid, Instant)>,
    /// Until when silence is known; none while nothing is received.
    known_until: Option<Instant>,
}

impl ServerTable {
    /// The table of this server. It knows of no other server, and nothing expires before the first own record comes back.
    #[must_use]
    pub fn new(own: Uuid) -> Self {
        Self { own, peers: HashMap::new(), running: HashMap::new(), sent: VecDeque::new(), known_until: None }
    }

    /// An attempt runs. If it is new, its start counts as a record that names it.
    pub fn started(&mut self, (task, attempt): AttemptId, lease: Duration, now: Instant) {
        let running = self.running.entry(task).or_insert(Running { attempt, lease, named: now });
        if running.attempt < attempt {
            *running = Running { attempt, lease, named: now };
        }
    }

    /// An attempt has ended.
    pub fn ended(&mut self, (task, attempt): AttemptId) {
        if self.running.get(&task).is_some_and(|running| running.attempt <= attempt) {
            self.running.remove(&task);
        }
    }

    /// Forgets every attempt that is not among these.
    pub fn retain(&mut self, active: &HashSet<AttemptId>) {
        self.running.retain(|task, running| active.contains(&(*task, running.attempt)));
    }

    /// An own record with this id is about to be sent; `begun` is not after its attempts were taken together.
    pub fn sending(&mut self, id: Uuid, begun: Instant) {
        self.sent.push_back((id, begun));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
    }

    /// A subscription to the records has begun: those before it may have been missed, so counting begins anew.
    pub fn subscribed(&mut self, now: Instant) {
        self.known_until = None;
        for running in self.running.values_mut() {
            running.named = now;
        }
    }

    /// The subscription has ended.
    pub const fn interrupted(&mut self) {
        self.known_until = None;
    }

    /// A record of this server or another one was received. `id` is the id of its event.
    pub fn received(&mut self, server: Uuid, id: Uuid, record: &ServerRecord, now: Instant) {
        for (task, attempt) in &record.attempts {
            if let Some(running) = self.running.get_mut(task).filter(|running| running.attempt == *attempt) {
                running.named = now;
            }
        }
        if server == self.own {
            if let Some(place) = self.sent.iter().position(|(sent, _)| *sent == id) {
                let (_, begun) = self.sent.drain(..=place).next_back().unwrap_or((id, now));
                self.known_until = self.known_until.max(Some(begun));
            }
            return;
        }
        let interval = Duration::from_millis(record.interval_ms);
        self.peers.insert(server, Peer { received: now, interval, kinds: record.kinds.clone() });
    }

    /// The attempts that no record has named for too long. Each starts to count anew: its end may be refused.
    pub fn take_expired(&mut self, now: Instant) -> Vec<AttemptId> {
        let Some(known_until) = self.known_until else { return Vec::new() };
        let expired = self.running.iter_mut().filter(|(_, running)| {
            known_until.saturating_duration_since(running.named) >= running.lease.saturating_add(MARGIN)
        });
        expired
            .map(|(task, running)| {
                running.named = now;
                (*task, running.attempt)
            })
            .collect()
    }

    /// The other servers that live.
    pub fn live(&mut self, now: Instant) -> Vec<LiveServer> {
        let is_live = |peer: &Peer| now.saturating_duration_since(peer.received) <= peer.interval * FRESH;
        self.peers.retain(|_, peer| is_live(peer));
        self.peers.iter().map(|(id, peer)| (*id, peer.kinds.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
