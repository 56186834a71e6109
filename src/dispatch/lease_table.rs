//! The leases that workers outside this process hold: until when, what their workers have been told, and the heartbeats
//! that wait for news.
//!
//! It holds no truth: who holds a task is in the log. A restart makes the table anew, with fresh deadlines.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::messages::Directive;
use crate::task::TaskId;

/// A worker's sign of life for one lease.
#[derive(Clone, Debug)]
pub struct LeaseHeartbeat {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// BLAKE3 of the secret that it shows, in hexadecimal.
    pub secret: String,
    /// The directive that it has heard already.
    pub seen: Option<Directive>,
}

/// The answer to a heartbeat: which of its leases are told what, and how long the first of them still lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Place in the heartbeat, and what it is told.
    pub directives: Vec<(usize, Directive)>,
    /// Until the first of its leases ends; none where it holds none.
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
    deadline: Instant,
    /// The last that it is to be told.
    directive: Option<Directive>,
    /// The heartbeat that waits for news of it, and its place there.
    waiting: Option<(u64, usize)>,
}

/// A heartbeat that waits for news.
struct Parked {
    /// The leases that are its worker's, by their places in it.
    theirs: Vec<(usize, TaskId)>,
    /// When its time is over.
    until: Instant,
    answer: oneshot::Sender<HeartbeatReply>,
}

/// A lease to be.
pub(super) struct Grant {
    pub(super) attempt: u32,
    pub(super) worker: Arc<str>,
    pub(super) secret: Box<str>,
    pub(super) ttl: Duration,
}

/// The table; see the module.
#[derive(Default)]
pub(super) struct LeaseTable {
    held: HashMap<TaskId, Lease>,
    deadlines: BTreeSet<(Instant, TaskId)>,
    parked: HashMap<u64, Parked>,
    waits: BTreeSet<(Instant, u64)>,
    next: u64,
}

impl LeaseTable {
    /// A worker holds this from now on. One that is known already stays as it is.
    pub(super) fn grant(&mut self, task: TaskId, grant: Grant, now: Instant) {
        if self.held.get(&task).is_some_and(|lease| lease.attempt >= grant.attempt) {
            return;
        }
        self.end(task, u32::MAX);
        let Grant { attempt, worker, secret, ttl } = grant;
        let deadline = now + ttl;
        self.deadlines.insert((deadline, task));
        let lease = Lease { attempt, worker, secret, ttl, deadline, directive: None, waiting: None };
        self.held.insert(task, lease);
    }

    /// The attempt is over, and its worker knows.
    pub(super) fn end(&mut self, task: TaskId, attempt: u32) {
        if self.held.get(&task).is_some_and(|lease| lease.attempt <= attempt)
            && let Some(lease) = self.held.remove(&task)
        {
            self.deadlines.remove(&(lease.deadline, task));
        }
    }

    /// The attempt is over, and its worker doesn't know: if it waits for news, this is it. A later heartbeat finds nothing.
    pub(super) fn lose(&mut self, task: TaskId, attempt: u32, now: Instant) {
        if self.held.get(&task).is_some_and(|lease| lease.attempt <= attempt) {
            self.direct(task, Directive::Lost, now);
            self.end(task, attempt);
        }
    }

    /// What its worker is to be told, at once if it listens. A directive never gives way to a milder one.
    pub(super) fn direct(&mut self, task: TaskId, directive: Directive, now: Instant) {
        let Some(lease) = self.held.get_mut(&task).filter(|lease| lease.directive < Some(directive)) else { return };
        lease.directive = Some(directive);
        if let Some((parked, place)) = lease.waiting {
            self.answer(parked, vec![(place, directive)], now);
        }
    }

    /// A worker's sign of life. The answer comes at once where there is news; else it is parked, and the result says
    /// until when at most.
    pub(super) fn beat(
        &mut self,
        (worker, beats): (&str, &[LeaseHeartbeat]),
        wait: Duration,
        answer: oneshot::Sender<HeartbeatReply>,
        now: Instant,
    ) -> Option<Instant> {
        let (mut directives, mut held, mut shortest) = (Vec::new(), Vec::new(), None::<Duration>);
        for (place, beat) in beats.iter().enumerate() {
            let theirs = |lease: &&mut Lease| {
                lease.attempt == beat.attempt && *lease.secret == *beat.secret && &*lease.worker == worker
            };
            let Some(lease) = self.held.get_mut(&beat.task).filter(theirs) else {
                if beat.seen != Some(Directive::Lost) {
                    directives.push((place, Directive::Lost));
                }
                continue;
            };
            held.push((place, beat.task));
            self.deadlines.remove(&(lease.deadline, beat.task));
            lease.deadline = now + lease.ttl;
            self.deadlines.insert((lease.deadline, beat.task));
            shortest = Some(shortest.map_or(lease.ttl, |shortest| shortest.min(lease.ttl)));
            if let Some(directive) = lease.directive.filter(|directive| beat.seen < Some(*directive)) {
                directives.push((place, directive));
            }
        }
        let wait = shortest.map_or(Duration::ZERO, |shortest| wait.min(shortest / 3));
        self.next += 1;
        let (number, until) = (self.next, now + wait);
        self.parked.insert(number, Parked { theirs: held.clone(), until, answer });
        self.waits.insert((until, number));
        if !directives.is_empty() || wait.is_zero() {
            self.answer(number, directives, now);
            return None;
        }
        for (place, task) in held {
            let before = self.held.get_mut(&task).and_then(|lease| lease.waiting.replace((number, place)));
            // Of two heartbeats that wait for news of one lease, the later one gets it, and the other waits no longer: so
            // there are never more of them than leases.
            if let Some((former, _)) = before.filter(|(former, _)| *former != number) {
                self.answer(former, Vec::new(), now);
            }
        }
        Some(until)
    }

    /// Ends the wait of a heartbeat, if it still waits.
    fn answer(&mut self, number: u64, directives: Vec<(usize, Directive)>, now: Instant) {
        let Some(Parked { theirs, until, answer }) = self.parked.remove(&number) else { return };
        self.waits.remove(&(until, number));
        let mut left = None::<Duration>;
        for (_, task) in theirs {
            let Some(lease) = self.held.get_mut(&task) else { continue };
            let remains = lease.deadline.saturating_duration_since(now);
            left = Some(left.map_or(remains, |left| left.min(remains)));
            lease.waiting = lease.waiting.filter(|(parked, _)| *parked != number);
        }
        // Whoever is gone asks again, and nothing is lost with it: a directive is repeated until it is seen.
        let _ = answer.send(HeartbeatReply { directives, left });
    }

    /// Answers the heartbeats whose time is over.
    pub(super) fn end_waits(&mut self, now: Instant) {
        let over: Vec<u64> =
            self.waits.iter().take_while(|(until, _)| *until <= now).map(|(_, number)| *number).collect();
        for number in over {
            self.answer(number, Vec::new(), now);
        }
    }

    /// When the next of them ends.
    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.waits.first().map(|(until, _)| *until)
    }

    /// Tells every worker that waits for news that this server is about to go.
    pub(super) fn drain(&mut self, now: Instant) {
        let told = |parked: &Parked| parked.theirs.iter().map(|(place, _)| (*place, Directive::Drain)).collect();
        let waiting: Vec<(u64, Vec<_>)> = self.parked.iter().map(|(number, parked)| (*number, told(parked))).collect();
        for (number, directives) in waiting {
            self.answer(number, directives, now);
        }
    }

    /// Takes out the leases that have ended without a heartbeat.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(TaskId, u32)> {
        let over: Vec<TaskId> =
            self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, task)| *task).collect();
        let attempt = |task: &TaskId| self.held.get(task).map(|lease| (*task, lease.attempt));
        let over: Vec<(TaskId, u32)> = over.iter().filter_map(attempt).collect();
        for (task, attempt) in &over {
            self.lose(*task, *attempt, now);
        }
        over
    }

    /// When the next lease ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Every lease begins anew, as after a restart: we were away, and nobody could reach us.
    pub(super) fn renew(&mut self, now: Instant) {
        self.deadlines.clear();
        for (task, lease) in &mut self.held {
            lease.deadline = now + lease.ttl;
            self.deadlines.insert((lease.deadline, *task));
        }
    }
}
