//! The leases of workers outside this process: their deadlines, the directives for their workers, and the heartbeats that
//! wait for directives.
//!
//! The log says which worker holds a task; the table is built from it. After a restart all leases get fresh deadlines.
//!
//! A directive and a heartbeat race. If the directive is first, it is kept with the lease, and the heartbeat is answered at
//! once. If the heartbeat is first, it waits, and the directive ends its wait. The answer may be lost on its way to the
//! worker. Therefore each later answer holds the directive again, until a heartbeat names it as seen.
//!
//! **On a cluster** ([`LeaseTable::on_cluster`]) a heartbeat alone doesn't move a deadline, because other servers see only
//! this server's records ([`servers`](super::servers)). The deadline is the lease time after the start of the last durable
//! record that names the lease, or after the sending of its start. A heartbeat for a lease with little time left waits until a
//! record is durable. While no record can be written, the deadlines pass, and the workers get the directive `lost`. The server
//! doesn't end attempts because of these deadlines; it ends them because of the servers' records.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::directive::Directive;
use crate::task::deadlines::DeadlineQueue;
use crate::task::{IdMap, TaskId};

/// A worker's renewal of one lease, which is a part of a heartbeat.
#[derive(Clone, Debug)]
pub struct LeaseRenewal {
    /// The task.
    pub task: TaskId,
    /// The number of the attempt.
    pub attempt: u32,
    /// BLAKE3 of the secret that the worker sent, in hexadecimal.
    pub secret_hash: String,
    /// The last directive that the worker has received.
    pub seen: Option<Directive>,
}

/// The answer to a heartbeat: the directives for its leases, and the time until the first of them ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatDirectives {
    /// The directives, each with the index of its lease in the heartbeat.
    pub directives: Vec<(usize, Directive)>,
    /// The time until the first of the leases ends. None if the worker holds none of them.
    pub time_left: Option<Duration>,
}

/// One lease.
#[derive(Debug)]
#[allow(clippy::struct_field_names)] // the lease time has the same name everywhere
struct Lease {
    attempt: u32,
    worker: Arc<str>,
    /// BLAKE3 of the lease's secret, in hexadecimal.
    secret_hash: Box<str>,
    lease_time: Duration,
    /// The strictest directive so far.
    directive: Option<Directive>,
    /// The number of the heartbeat that waits for a directive for this lease, and the index of the lease in that heartbeat.
    waiting: Option<(u64, usize)>,
    /// On a cluster: the time until which another server's record keeps the lease alive.
    deadline_by_peer_record: Option<Instant>,
}

/// A heartbeat that waits for directives.
struct WaitingHeartbeat {
    /// The leases of the heartbeat that its worker holds, each with its index in the heartbeat.
    held: Vec<(usize, TaskId)>,
    caller: oneshot::Sender<HeartbeatDirectives>,
}

/// A new lease.
pub(super) struct NewLease {
    pub(super) attempt: u32,
    pub(super) worker: Arc<str>,
    pub(super) secret_hash: Box<str>,
    pub(super) lease_time: Duration,
    /// When the lease ends if no heartbeat, or on a cluster no record, extends it.
    pub(super) deadline: Instant,
}

/// The part of the table that exists only on a cluster.
#[derive(Default)]
struct Records {
    /// The leases with a heartbeat that no record has named yet: the attempt, and the time of its last heartbeat.
    unrecorded: IdMap<TaskId, (u32, Instant)>,
    /// The numbers of the heartbeats that wait for a record.
    waiting_for_record: HashSet<u64>,
}

/// The longest time that a heartbeat waits for a record.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// The table; see the module.
#[derive(Default)]
pub(super) struct LeaseTable {
    leases: IdMap<TaskId, Lease>,
    deadlines: DeadlineQueue<Instant, TaskId>,
    /// The heartbeats that wait, by number.
    heartbeats: IdMap<u64, WaitingHeartbeat>,
    /// When the wait of each heartbeat ends.
    waits: DeadlineQueue<Instant, u64>,
    last_heartbeat_number: u64,
    /// None if the server does not share its log.
    records: Option<Records>,
}

impl LeaseTable {
    /// An empty table for a server of a cluster.
    pub(super) fn on_cluster() -> Self {
        Self { records: Some(Records::default()), ..Self::default() }
    }

    /// Adds a lease. If the table has a lease of a later attempt, nothing changes. If it has a lease of this attempt, nothing
    /// changes on one server. On a cluster the later deadline of the two counts.
    pub(super) fn insert(&mut self, task: TaskId, lease: NewLease, now: Instant) {
        let NewLease { attempt, worker, secret_hash, lease_time, deadline } = lease;
        let known = self.leases.get(&task).map(|lease| lease.attempt).filter(|known| *known >= attempt);
        if self.records.is_some() && known == Some(attempt) {
            self.extend_deadline(task, deadline);
        }
        if known.is_some() {
            return;
        }
        let deadline_by_peer_record = self.records.is_some().then_some(now + lease_time);
        self.deadlines.set(task, deadline, ());
        self.leases.insert(
            task,
            Lease { attempt, worker, secret_hash, lease_time, directive: None, waiting: None, deadline_by_peer_record },
        );
    }

    /// Moves the lease's deadline, but never to an earlier time.
    fn extend_deadline(&mut self, task: TaskId, deadline: Instant) {
        if self.deadlines.deadline(&task).is_none_or(|known| known < deadline) {
            self.deadlines.set(task, deadline, ());
        }
    }

    /// Whether the table holds a lease of this attempt or a later one.
    pub(super) fn has_lease(&self, task: TaskId, attempt: u32) -> bool {
        self.leases.get(&task).is_some_and(|lease| lease.attempt >= attempt)
    }

    /// Whether this worker holds the lease of the renewal.
    pub(super) fn is_held(&self, worker: &str, renewal: &LeaseRenewal) -> bool {
        self.leases.get(&renewal.task).is_some_and(|lease| lease.is_held(worker, renewal))
    }

    /// Removes the lease of an attempt that its worker has ended.
    pub(super) fn end(&mut self, task: TaskId, attempt: u32) {
        if self.leases.get(&task).is_some_and(|lease| lease.attempt <= attempt) {
            self.leases.remove(&task);
            self.deadlines.remove(task);
        }
    }

    /// Removes the lease of an attempt that was ended by someone other than its worker. A heartbeat that waits for the lease
    /// gets the directive `lost`, and so does each later one.
    pub(super) fn lose(&mut self, task: TaskId, attempt: u32, now: Instant) {
        if self.leases.get(&task).is_some_and(|lease| lease.attempt <= attempt) {
            self.send_directive(task, Directive::Lost, now);
            self.end(task, attempt);
        }
    }

    /// Keeps the directive for the lease's worker. If a heartbeat waits for the lease, it is answered. A directive that is not
    /// stricter than the one before changes nothing.
    pub(super) fn send_directive(&mut self, task: TaskId, directive: Directive, now: Instant) {
        let Some(lease) = self.leases.get_mut(&task).filter(|lease| lease.directive < Some(directive)) else { return };
        lease.directive = Some(directive);
        if let Some((heartbeat, index)) = lease.waiting {
            self.answer(heartbeat, vec![(index, directive)], now);
        }
    }

    /// Renews the leases of a heartbeat. If there are directives, if the worker holds none of the leases, or if the heartbeat
    /// needn't wait, the answer is sent at once. Otherwise the heartbeat waits, and the end of its wait is returned.
    ///
    /// The heartbeat waits for `wait`, but at most for a third of the shortest lease time. On a cluster it may have to wait for
    /// this server's record: then the limit is [`RECORD_WAIT`] instead of `wait`, even if `wait` is zero.
    pub(super) fn renew(
        &mut self,
        (worker, renewals): (&str, &[LeaseRenewal]),
        wait: Duration,
        caller: oneshot::Sender<HeartbeatDirectives>,
        now: Instant,
    ) -> Option<Instant> {
        let (mut directives, mut held, mut shortest) = (Vec::new(), Vec::new(), None::<Duration>);
        for (index, renewal) in renewals.iter().enumerate() {
            let Some(lease) = self.leases.get(&renewal.task).filter(|lease| lease.is_held(worker, renewal)) else {
                if renewal.seen != Some(Directive::Lost) {
                    directives.push((index, Directive::Lost));
                }
                continue;
            };
            held.push((index, renewal.task));
            match &mut self.records {
                None => self.deadlines.set(renewal.task, now + lease.lease_time, ()),
                Some(records) => _ = records.unrecorded.insert(renewal.task, (renewal.attempt, now)),
            }
            shortest = Some(shortest.map_or(lease.lease_time, |shortest| shortest.min(lease.lease_time)));
            directives.extend(
                lease.directive.filter(|directive| renewal.seen < Some(*directive)).map(|directive| (index, directive)),
            );
        }
        // A heartbeat waits for at most a third of the shortest lease time. So before the lease ends, the worker has time to
        // receive the answer, and to send another heartbeat if the answer is lost.
        let third_of_shortest = shortest.map_or(Duration::ZERO, |shortest| shortest / 3);
        self.last_heartbeat_number += 1;
        let number = self.last_heartbeat_number;
        let wait = if self.must_wait_for_record(number, &held, now) {
            third_of_shortest.min(RECORD_WAIT)
        } else {
            wait.min(third_of_shortest)
        };
        let until = now + wait;
        self.heartbeats.insert(number, WaitingHeartbeat { held: held.clone(), caller });
        if !directives.is_empty() || wait.is_zero() {
            self.answer(number, directives, now);
            return None;
        }
        self.waits.set(number, until, ());
        self.add_wait(number, held, now);
        Some(until)
    }

    /// Makes the heartbeat wait for directives for these leases. Each lease has at most one heartbeat that waits: if an
    /// earlier one waits for one of these leases, it is answered now.
    fn add_wait(&mut self, number: u64, held: Vec<(usize, TaskId)>, now: Instant) {
        for (index, task) in held {
            let before = self.leases.get_mut(&task).and_then(|lease| lease.waiting.replace((number, index)));
            if let Some((former, _)) = before.filter(|(former, _)| *former != number) {
                self.answer(former, Vec::new(), now);
            }
        }
    }

    /// Answers a heartbeat, if it still waits.
    fn answer(&mut self, number: u64, directives: Vec<(usize, Directive)>, now: Instant) {
        let Some(WaitingHeartbeat { held, caller }) = self.heartbeats.remove(&number) else { return };
        self.waits.remove(number);
        if let Some(records) = &mut self.records {
            records.waiting_for_record.remove(&number);
        }
        let mut time_left = None::<Duration>;
        for (_, task) in held {
            let (Some(lease), Some(deadline)) = (self.leases.get_mut(&task), self.deadlines.deadline(&task)) else {
                continue;
            };
            let remains = deadline.saturating_duration_since(now);
            time_left = Some(time_left.map_or(remains, |shortest| shortest.min(remains)));
            lease.waiting = lease.waiting.filter(|(heartbeat, _)| *heartbeat != number);
        }
        // If the client is gone, the answer is dropped. The worker's next heartbeat gets the directives again.
        let _ = caller.send(HeartbeatDirectives { directives, time_left });
    }

    /// Answers the heartbeats whose wait is over.
    pub(super) fn end_heartbeat_waits(&mut self, now: Instant) {
        for (number, ()) in self.waits.take_due(now, usize::MAX) {
            let directives = self.lost_directives(number, now);
            self.answer(number, directives, now);
        }
    }

    /// When the next wait ends.
    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.waits.next_deadline()
    }

    /// Answers every heartbeat that waits with the directive `drain`, because this server is about to stop.
    pub(super) fn drain(&mut self, now: Instant) {
        let waiting: Vec<u64> = self.heartbeats.keys().copied().collect();
        for number in waiting {
            let held = self.heartbeats.get(&number).map(|heartbeat| heartbeat.held.clone()).unwrap_or_default();
            self.answer(number, held.into_iter().map(|(index, _)| (index, Directive::Drain)).collect(), now);
        }
    }

    /// Removes the leases whose deadlines have passed, and returns their attempts.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<(TaskId, u32)> {
        let expired = self.deadlines.take_due(now, usize::MAX).into_iter();
        let expired: Vec<(TaskId, u32)> =
            expired.filter_map(|(task, ())| self.leases.get(&task).map(|lease| (task, lease.attempt))).collect();
        for (task, attempt) in &expired {
            self.lose(*task, *attempt, now);
        }
        expired
    }

    /// The earliest deadline of a lease.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next_deadline()
    }

    /// Gives every lease a fresh deadline, because this process was suspended and could not receive heartbeats.
    pub(super) fn renew_all(&mut self, now: Instant) {
        for (task, lease) in &self.leases {
            self.deadlines.set(*task, now + lease.lease_time, ());
        }
    }

    /// The attempts that have leases.
    pub(super) fn attempts(&self) -> Vec<(TaskId, u32)> {
        self.leases.iter().map(|(task, lease)| (*task, lease.attempt)).collect()
    }
}

impl Lease {
    fn is_held(&self, worker: &str, renewal: &LeaseRenewal) -> bool {
        self.attempt == renewal.attempt && *self.secret_hash == *renewal.secret_hash && &*self.worker == worker
    }
}

mod records;
#[cfg(test)]
mod tests;
