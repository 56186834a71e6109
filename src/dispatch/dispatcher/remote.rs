//! The dispatcher's side of workers outside the process: their requests for leases and their heartbeats, which may wait.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context, Handler};
use tokio::sync::oneshot;

use crate::dispatch::directive::Directive;
use crate::dispatch::in_flight::Executor;
use crate::dispatch::lease_table::{HeartbeatDirectives, NewLease};
use crate::dispatch::messages::{Delivery, GrantedLease, GrantedLeases, Heartbeat, NotDelivered, TakeLeases};
use crate::streams::messages::{ExecuteError, Receipt};
use crate::task::command::AttemptEnd;
use crate::task::event::{ReleasedReason, Started};
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::{Command, Task, TaskId};
use crate::views::{Row, WorkOffer};

use super::{Dispatcher, PendingStart, system_command};

/// The maximum number of requests for leases that wait. A further one is answered at once, maybe without a lease.
const WAITING_MAX: usize = 10_000;

/// A request for leases that waits.
pub(super) struct WaitingTake {
    /// Identifies the request among those that wait.
    number: u64,
    worker: String,
    offer: WorkOffer,
    pub(super) max: usize,
    /// When the wait ends.
    pub(super) until: Instant,
    is_closed: Box<dyn Fn() -> bool + Send>,
    answer: oneshot::Sender<GrantedLeases>,
}

impl WaitingTake {
    /// Sends the answer without a lease.
    pub(super) fn answer_empty(self) {
        // If the client has disconnected, the answer is dropped.
        let _ = self.answer.send(GrantedLeases::default());
    }

    fn is_gone(&self) -> bool {
        self.answer.is_closed() || (self.is_closed)()
    }
}

impl PendingStart {
    /// The hash of the lease's secret, as `Started` holds it.
    pub(super) fn secret_hash(&self) -> String {
        blake3::hash(self.secret.as_bytes()).to_hex().to_string()
    }
}

impl Dispatcher {
    /// Starts tasks for the requests that wait, in the order in which they arrived.
    pub(super) fn start_remote(&mut self, ctx: &mut Context<Self>) {
        let mut index = 0;
        while let Some(waiting) = self.waiting_takes.get(index) {
            let tasks = self.take_for(&waiting.offer.clone(), waiting.max);
            if tasks.is_empty() {
                index += 1;
                continue;
            }
            let waiting = self.waiting_takes.remove(index);
            if waiting.is_gone() {
                for task in tasks {
                    self.in_flight.start_not_written(&mut self.capacity.run_queue(), task);
                }
                continue;
            }
            let worker = waiting.worker.clone();
            self.start(&worker, tasks, ctx, |this, answers, ctx| this.started_remote(waiting, answers, ctx));
        }
    }

    fn take_for(&mut self, offer: &WorkOffer, max: usize) -> Vec<TaskId> {
        let mut queue = self.capacity.run_queue();
        let next = || self.in_flight.take(&mut queue, offer, Executor::Remote);
        std::iter::from_fn(next).take(max).collect()
    }

    /// Puts the request at this index of the requests that wait, until its wait ends. If its wait is over, or this server is
    /// stopping, it is answered without a lease.
    fn enqueue(&mut self, index: usize, waiting: WaitingTake, ctx: &mut Context<Self>) {
        let until = waiting.until;
        if self.is_stopping || until <= Instant::now() {
            return waiting.answer_empty();
        }
        self.waiting_takes.insert(index, waiting);
        self.reset_wait_timer(until, ctx);
    }

    fn started_remote(
        &mut self,
        waiting: WaitingTake,
        answers: Vec<(PendingStart, Result<Receipt, ExecuteError>)>,
        ctx: &mut Context<Self>,
    ) {
        let (mut leases, now) = (Vec::with_capacity(answers.len()), Instant::now());
        for (start, answer) in answers {
            match answer {
                Ok(receipt) => {
                    let PendingStart { task, secret, sent } = start;
                    self.in_flight.started_remote(&mut self.capacity.run_queue(), task);
                    let ttl = self.policies.lease(&receipt.task.created.kind);
                    // On a cluster other servers count the lease time from the arrival of the event. It can't arrive before it
                    // was sent, so this deadline is not later than theirs.
                    let deadline = if self.cluster.is_some() { sent + ttl } else { now + ttl };
                    self.grant_lease(task, &waiting.worker, &receipt, (ttl, deadline), now);
                    let Task { attempt, created, .. } = receipt.task;
                    let left = deadline.saturating_duration_since(now);
                    leases.push(GrantedLease { task, attempt, secret, created, left });
                }
                Err(error) => self.not_started(&start, &error, ctx),
            }
        }
        if leases.is_empty() {
            // No task was started. The request waits again, before all others, unless its wait is over.
            self.enqueue(0, waiting, ctx);
            return self.start_ready(ctx);
        }
        let attempts = leases.iter().map(|lease| (lease.task, lease.attempt)).collect();
        let delivery = Delivery::new(ctx.address().recipient(), attempts);
        // If the client is gone, the delivery is dropped here, which releases the leases.
        drop(waiting.answer.send(GrantedLeases { leases, delivery }));
        self.reset_lease_timer(ctx);
    }

    /// Hands back the attempt of a start whose result is unknown: the log may hold its event, but no worker has the lease.
    pub(super) fn take_back(&self, start: &PendingStart, ctx: &mut Context<Self>) {
        let secret_hash = start.secret_hash();
        // Views that don't show the start yet show the attempt before it.
        let attempt_of = |row: &Row| row.attempt().saturating_add(u32::from(row.lease_hash() != Some(&*secret_hash)));
        let Some(attempt) = self.reader.views().get(start.task).map(attempt_of) else { return };
        let end = AttemptEnd::Released(ReleasedReason::NotDelivered);
        let finish = Command::Finish { attempt, lease_hash: Some(secret_hash), end, progress: None, output: None };
        self.execute_until_written(vec![system_command(start.task, finish)], ctx);
    }

    /// Grants the lease of a start that was answered. The answer and the `Started` event race. If the event arrived first, the
    /// table has the lease already. If the end of the attempt arrived before the answer too, the views show that the attempt has
    /// ended, and no lease is granted.
    fn grant_lease(
        &mut self,
        task: TaskId,
        worker: &str,
        receipt: &Receipt,
        (ttl, deadline): (Duration, Instant),
        now: Instant,
    ) {
        let (attempt, Some(secret_hash)) = (receipt.task.attempt, &receipt.task.lease_hash) else { return };
        let is_over = self.reader.views().get(task).is_some_and(|row| {
            row.revision() >= receipt.revision && !(row.status().is_active() && row.attempt() == attempt)
        });
        if !is_over {
            let grant =
                NewLease { attempt, worker: worker.into(), secret_hash: secret_hash.as_str().into(), ttl, deadline };
            self.leases.grant(task, grant, now);
        }
    }

    /// Renews the leases of a heartbeat. The heartbeat waits for directives, unless there are some already.
    pub(super) fn renew(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        let Heartbeat { worker, leases, wait, answer } = heartbeat;
        if let Some(until) = self.leases.renew((&worker, &leases), wait, answer, Instant::now()) {
            self.reset_wait_timer(until, ctx);
        }
        if self.leases.is_record_awaited() {
            self.append_record(ctx);
        }
        self.reset_lease_timer(ctx);
    }

    /// Grants the lease of a `Started` event, so that the table also has the leases that other servers have granted. On a cluster
    /// the attempt is tracked as well.
    pub(super) fn grant_by_event(&mut self, task: TaskId, started: &Started) {
        let is_local = started.worker.starts_with(LOCAL_WORKER_PREFIX);
        if is_local && self.cluster.is_none() {
            return;
        }
        let ttl = self.reader.views().get(task).map(|row| self.policies.lease(row.kind()));
        let Some(ttl) = ttl else { return };
        self.track_attempt((task, started.attempt), ttl);
        if is_local {
            return;
        }
        let (worker, secret_hash, now) =
            (started.worker.as_str().into(), started.lease_hash.as_str().into(), Instant::now());
        let deadline = if self.cluster.is_some() { now } else { now + ttl };
        self.leases.grant(task, NewLease { attempt: started.attempt, worker, secret_hash, ttl, deadline }, now);
    }
}

impl Handler<TakeLeases> for Dispatcher {
    type Result = ();

    fn handle(&mut self, take: TakeLeases, ctx: &mut Context<Self>) {
        let TakeLeases { worker, offer, max, wait, is_closed, answer } = take;
        if self.is_stopping {
            // The answer's sender is dropped here. The HTTP handler answers without a lease then.
            return;
        }
        self.capacity.set_remote_offer(&worker, &offer);
        self.waiting_takes.retain(|waiting| !waiting.answer.is_closed());
        self.last_take_number += 1;
        let number = self.last_take_number;
        let wait = if self.waiting_takes.len() < WAITING_MAX { wait } else { Duration::ZERO };
        let until = Instant::now() + wait;
        self.waiting_takes.push(WaitingTake { number, worker, offer, max, until, is_closed, answer });
        self.start_ready(ctx);
        // If starts are under way for the request, it is not in the list, and is answered after them.
        let index = self.waiting_takes.iter().position(|waiting| waiting.number == number);
        if let Some(index) = index {
            let waiting = self.waiting_takes.remove(index);
            self.enqueue(index, waiting, ctx);
        }
    }
}

impl Handler<Heartbeat> for Dispatcher {
    type Result = ();

    fn handle(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        self.capacity.mark_alive(&heartbeat.worker);
        if self.is_stopping {
            let Heartbeat { leases, answer, .. } = heartbeat;
            let unnotified = leases.iter().enumerate().filter(|(_, lease)| lease.seen.is_none());
            let directives = unnotified.map(|(index, _)| (index, Directive::Drain)).collect();
            // If the client has disconnected, the answer is dropped.
            let _ = answer.send(HeartbeatDirectives { directives, left: None });
            return;
        }
        self.restore_and_renew(heartbeat, ctx);
    }
}

impl Handler<NotDelivered> for Dispatcher {
    type Result = ();

    fn handle(&mut self, NotDelivered(attempts): NotDelivered, ctx: &mut Context<Self>) {
        let release = |(task, attempt): (TaskId, u32)| {
            let end = AttemptEnd::Released(ReleasedReason::NotDelivered);
            system_command(task, Command::Finish { attempt, lease_hash: None, end, progress: None, output: None })
        };
        self.execute_until_written(attempts.into_iter().map(release).collect(), ctx);
    }
}
