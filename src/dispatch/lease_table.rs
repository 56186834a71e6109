//! The leases of workers outside this process: their deadlines, the directives for their workers, and the heartbeats that
//! wait for directives.
//!
//! It holds no truth: which worker holds a task is in the log. A restart makes the table anew, with fresh deadlines.
//!
//! A directive and a heartbeat race. Before a heartbeat arrives, the directive is kept with the lease. While a heartbeat
//! waits, the directive ends its wait. After the answer was sent, it may be lost on its way: therefore a directive is sent
//! again with each answer, until a heartbeat names it as seen.
//!
//! **On a cluster** ([`LeaseTable::on_cluster`]) a heartbeat alone doesn't move a deadline. Other servers learn of it from this
//! server's next record ([`servers`](super::servers)), so the deadline is the start of the last durable record that names the
//! lease, or the sending of its `Started`, plus the lease time. A heartbeat for a lease that has little time left waits until a
//! record is durable. While none can be written the deadlines pass, and the workers get the directive `lost`. No lease expires
//! by this table there: the servers' records decide.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::directive::Directive;
use crate::task::TaskId;
use crate::task::deadlines::DeadlineQueue;

/// A worker's heartbeat for one lease.
#[derive(Clone, Debug)]
pub struct LeaseHeartbeat {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// BLAKE3 of the secret that the worker sent, in hexadecimal.
    pub secret: String,
    /// The last directive that the worker has received.
    pub seen: Option<Directive>,
}

/// The answer to a heartbeat: the directives for its leases, and how long the first of them still lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Place of the lease in the heartbeat, and the directive.
    pub directives: Vec<(usize, Directive)>,
    /// Until the first of the leases ends; none where the worker holds none of them.
    pub left: Option<Duration>,
}

/// One lease.
#[derive(Debug)]
struct Lease {
    attempt: u32,
    worker: Arc<str>,
    /// BLAKE3 of its secret, in hexadecimal.
    secret: Box<str>,
    ttl: Duration,
    /// The strictest directive so far.
    directive: Option<Directive>,
    /// The heartbeat that waits for a directive for it, and the lease's place there.
    waiting: Option<(u64, usize)>,
    /// On a cluster: how long it may be alive by what other servers have written.
    vouched: Option<Instant>,
}

/// A heartbeat that waits for directives.
struct WaitingHeartbeat {
    /// The leases that its worker holds, by their places in it.
    held: Vec<(usize, TaskId)>,
    answer: oneshot::Sender<HeartbeatReply>,
}

/// A lease that begins.
pub(super) struct Grant {
    pub(super) attempt: u32,
    pub(super) worker: Arc<str>,
    pub(super) secret: Box<str>,
    pub(super) ttl: Duration,
    /// When it ends without a heartbeat; on a cluster, without a record.
    pub(super) deadline: Instant,
}

/// What the table keeps on a cluster.
#[derive(Default)]
struct Records {
    /// The leases of heartbeats that no record has named yet, with the attempts and the times of the last heartbeats.
    heard: HashMap<TaskId, (u32, Instant)>,
    /// The heartbeats that wait for a record.
    awaiting: HashSet<u64>,
}

/// How long a heartbeat waits for a record at most.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// The table; see the module.
#[derive(Default)]
pub(super) struct LeaseTable {
    leases: HashMap<TaskId, Lease>,
    deadlines: DeadlineQueue<Instant, TaskId>,
    /// The heartbeats that wait, by number.
    heartbeats: HashMap<u64, WaitingHeartbeat>,
    /// When the wait of each ends.
    waits: DeadlineQueue<Instant, u64>,
    last_number: u64,
    /// None where one server has the log for itself.
    records: Option<Records>,
}

impl LeaseTable {
    /// An empty table of a server of a cluster.
    pub(super) fn on_cluster() -> Self {
        Self { records: Some(Records::default()), ..Self::default() }
    }

    /// A worker holds the lease from now on. A lease of this attempt, or a later one, stays as it is; but on a cluster the later
    /// deadline counts.
    pub(super) fn grant(&mut self, task: TaskId, grant: Grant, now: Instant) {
        let Grant { attempt, worker, secret, ttl, deadline } = grant;
        let known = self.leases.get(&task).map(|lease| lease.attempt).filter(|known| *known >= attempt);
        if self.records.is_some() && known == Some(attempt) {
            self.prolong(task, deadline);
        }
        if known.is_some() {
            return;
        }
        let vouched = self.records.is_some().then_some(now + ttl);
        self.deadlines.set(task, deadline, ());
        self.leases.insert(task, Lease { attempt, worker, secret, ttl, directive: None, waiting: None, vouched });
    }

    /// Moves the lease's deadline, but never to an earlier time.
    fn prolong(&mut self, task: TaskId, deadline: Instant) {
        if self.deadlines.deadline(&task).is_none_or(|known| known < deadline) {
            self.deadlines.set(task, deadline, ());
        }
    }

    /// Whether the table holds a lease of this attempt or a later one.
    pub(super) fn knows(&self, task: TaskId, attempt: u32) -> bool {
        self.leases.get(&task).is_some_and(|lease| lease.attempt >= attempt)
    }

    /// The attempt has ended, and its worker knows.
    pub(super) fn end(&mut self, task: TaskId, attempt: u32) {
        if self.leases.get(&task).is_some_and(|lease| lease.attempt <= attempt) {
            self.leases.remove(&task);
            self.deadlines.remove(task);
        }
    }

    /// The attempt has ended without its worker: a heartbeat that waits gets the directive `lost`, and so does each later one.
    pub(super) fn lose(&mut self, task: TaskId, attempt: u32, now: Instant) {
        if self.leases.get(&task).is_some_and(|lease| lease.attempt <= attempt) {
            self.direct(task, Directive::Lost, now);
            self.end(task, attempt);
        }
    }

    /// Sends the directive to the lease's worker, at once if a heartbeat waits. A milder one than before changes nothing.
    pub(super) fn direct(&mut self, task: TaskId, directive: Directive, now: Instant) {
        let Some(lease) = self.leases.get_mut(&task).filter(|lease| lease.directive < Some(directive)) else { return };
        lease.directive = Some(directive);
        if let Some((heartbeat, place)) = lease.waiting {
            self.answer(heartbeat, vec![(place, directive)], now);
        }
    }

    /// Renews the leases of a heartbeat. The answer is sent at once where there are directives; else the heartbeat waits, and
    /// the result says until when at most.
    pub(super) fn renew(
        &mut self,
        (worker, beats): (&str, &[LeaseHeartbeat]),
        wait: Duration,
        answer: oneshot::Sender<HeartbeatReply>,
        now: Instant,
    ) -> Option<Instant> {
        let (mut directives, mut held, mut shortest) = (Vec::new(), Vec::new(), None::<Duration>);
        for (place, beat) in beats.iter().enumerate() {
            let Some(lease) = self.leases.get(&beat.task).filter(|lease| lease.is_held(worker, beat)) else {
                if beat.seen != Some(Directive::Lost) {
                    directives.push((place, Directive::Lost));
                }
                continue;
            };
            held.push((place, beat.task));
            match &mut self.records {
                None => self.deadlines.set(beat.task, now + lease.ttl, ()),
                Some(records) => _ = records.heard.insert(beat.task, (beat.attempt, now)),
            }
            shortest = Some(shortest.map_or(lease.ttl, |shortest| shortest.min(lease.ttl)));
            directives
                .extend(lease.directive.filter(|directive| beat.seen < Some(*directive)).map(|told| (place, told)));
        }
        let third = shortest.map_or(Duration::ZERO, |shortest| shortest / 3);
        self.last_number += 1;
        let number = self.last_number;
        let wait = if self.await_record(number, &held, now) { third.min(RECORD_WAIT) } else { wait.min(third) };
        let until = now + wait;
        self.heartbeats.insert(number, WaitingHeartbeat { held: held.clone(), answer });
        if !directives.is_empty() || wait.is_zero() {
            self.answer(number, directives, now);
            return None;
        }
        self.waits.set(number, until, ());
        self.wait(number, held, now);
        Some(until)
    }

    /// The heartbeat waits for directives for these leases. If an earlier heartbeat waits for one of them, it is answered: so no
    /// more heartbeats wait than there are leases.
    fn wait(&mut self, number: u64, held: Vec<(usize, TaskId)>, now: Instant) {
        for (place, task) in held {
            let before = self.leases.get_mut(&task).and_then(|lease| lease.waiting.replace((number, place)));
            if let Some((former, _)) = before.filter(|(former, _)| *former != number) {
                self.answer(former, Vec::new(), now);
            }
        }
    }

    /// Ends the wait of a heartbeat, if it still waits.
    fn answer(&mut self, number: u64, directives: Vec<(usize, Directive)>, now: Instant) {
        let Some(WaitingHeartbeat { held, answer }) = self.heartbeats.remove(&number) else { return };
        self.waits.remove(number);
        if let Some(records) = &mut self.records {
            records.awaiting.remove(&number);
        }
        let mut left = None::<Duration>;
        for (_, task) in held {
            let (Some(lease), Some(deadline)) = (self.leases.get_mut(&task), self.deadlines.deadline(&task)) else {
                continue;
            };
            let remains = deadline.saturating_duration_since(now);
            left = Some(left.map_or(remains, |left| left.min(remains)));
            lease.waiting = lease.waiting.filter(|(heartbeat, _)| *heartbeat != number);
        }
        // A client that has gone sends another heartbeat, and gets the directives again.
        let _ = answer.send(HeartbeatReply { directives, left });
    }

    /// Answers the heartbeats whose wait is over.
    pub(super) fn end_waits(&mut self, now: Instant) {
        for (number, ()) in self.waits.take_due(now, usize::MAX) {
            let directives = self.passed(number, now);
            self.answer(number, directives, now);
        }
    }

    /// When the next wait ends.
    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.waits.next_deadline()
    }

    /// Answers every heartbeat that waits: this server is about to stop.
    pub(super) fn drain(&mut self, now: Instant) {
        let waiting: Vec<u64> = self.heartbeats.keys().copied().collect();
        for number in waiting {
            let held = self.heartbeats.get(&number).map(|heartbeat| heartbeat.held.clone()).unwrap_or_default();
            self.answer(number, held.into_iter().map(|(place, _)| (place, Directive::Drain)).collect(), now);
        }
    }

    /// Removes the leases that had no heartbeat in time.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<(TaskId, u32)> {
        let expired = self.deadlines.take_due(now, usize::MAX).into_iter();
        let expired: Vec<(TaskId, u32)> =
            expired.filter_map(|(task, ())| self.leases.get(&task).map(|lease| (task, lease.attempt))).collect();
        for (task, attempt) in &expired {
            self.lose(*task, *attempt, now);
        }
        expired
    }

    /// When the next lease expires.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next_deadline()
    }

    /// Every lease gets a fresh deadline, as after a restart: this process was suspended, and no heartbeat could reach it.
    pub(super) fn renew_all(&mut self, now: Instant) {
        for (task, lease) in &self.leases {
            self.deadlines.set(*task, now + lease.ttl, ());
        }
    }

    /// The attempts that have a lease.
    pub(super) fn attempts(&self) -> Vec<(TaskId, u32)> {
        self.leases.iter().map(|(task, lease)| (*task, lease.attempt)).collect()
    }
}

impl Lease {
    fn is_held(&self, worker: &str, beat: &LeaseHeartbeat) -> bool {
        self.attempt == beat.attempt && *self.secret == *beat.secret && &*self.worker == worker
    }
}

mod records;
#[cfg(test)]
mod tests;
