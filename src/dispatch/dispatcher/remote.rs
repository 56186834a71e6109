//! The dispatcher's side of workers outside the process: their requests for leases and their heartbeats, which may wait.

use std::borrow::Cow;
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
pub(super) struct WaitingLeaseRequest {
    worker: String,
    /// The authenticated subject of the request.
    actor: Option<String>,
    offer: WorkOffer,
    pub(super) max: usize,
    /// When the wait ends.
    pub(super) until: Instant,
    is_client_gone: Box<dyn Fn() -> bool + Send>,
    caller: oneshot::Sender<GrantedLeases>,
}

impl WaitingLeaseRequest {
    /// Sends the answer without a lease. `are_starts_paused`: no attempt is started for a moment.
    pub(super) fn answer_empty(self, are_starts_paused: bool) {
        // If the client has disconnected, the answer is dropped.
        let _ = self.caller.send(GrantedLeases { are_starts_paused, ..GrantedLeases::default() });
    }

    fn is_gone(&self) -> bool {
        self.caller.is_closed() || (self.is_client_gone)()
    }
}

impl PendingStart {
    /// The hash of the lease's secret, as `Started` holds it.
    pub(super) fn secret_hash(&self) -> String {
        blake3::hash(self.secret.reveal().as_bytes()).to_hex().to_string()
    }
}

impl Dispatcher {
    /// Starts tasks for the requests that wait, in the order in which they arrived.
    pub(super) fn start_remote(&mut self, ctx: &mut Context<Self>) {
        let mut index = 0;
        while let Some(waiting) = self.waiting_lease_requests.get(index) {
            let tasks = self.take_tasks(&waiting.offer.clone(), waiting.max);
            if tasks.is_empty() {
                index += 1;
                continue;
            }
            let waiting = self.waiting_lease_requests.remove(index);
            if waiting.is_gone() {
                for task in tasks {
                    self.in_flight.requeue_start(&mut self.queue_and_offers.run_queue(), task);
                }
                continue;
            }
            let (worker, actor) = (waiting.worker.clone(), waiting.actor.clone());
            self.start((&worker, actor.as_deref()), tasks, ctx, |this, answers, ctx| {
                this.started_remote(waiting, answers, ctx);
            });
        }
    }

    fn take_tasks(&mut self, offer: &WorkOffer, max: usize) -> Vec<TaskId> {
        let mut queue = self.queue_and_offers.run_queue();
        let next = || self.in_flight.take(&mut queue, offer, Executor::Remote);
        std::iter::from_fn(next).take(max).collect()
    }

    /// Inserts the request before all others that wait. If its wait is over, or this server is stopping, it is answered
    /// without a lease.
    fn wait_again(&mut self, waiting: WaitingLeaseRequest, ctx: &mut Context<Self>) {
        let until = waiting.until;
        if self.is_stopping || until <= Instant::now() {
            return waiting.answer_empty(self.is_paused);
        }
        self.waiting_lease_requests.insert(0, waiting);
        self.reset_wait_timer(until, ctx);
    }

    /// Answers the requests for leases whose wait is over, without a lease.
    pub(super) fn answer_ended_lease_requests(&mut self) {
        let (now, is_paused) = (Instant::now(), self.is_paused);
        self.waiting_lease_requests
            .extract_if(.., |waiting| waiting.until <= now)
            .for_each(|waiting| waiting.answer_empty(is_paused));
    }

    fn started_remote(
        &mut self,
        waiting: WaitingLeaseRequest,
        answers: Vec<(PendingStart, Result<Receipt, ExecuteError>)>,
        ctx: &mut Context<Self>,
    ) {
        let (mut leases, now) = (Vec::with_capacity(answers.len()), Instant::now());
        for (start, answer) in answers {
            match answer {
                Ok(receipt) => {
                    let PendingStart { task, secret, sent } = start;
                    self.in_flight.started_remote(&mut self.queue_and_offers.run_queue(), task);
                    let lease_time = self.policies.lease_time(&receipt.task.created.kind);
                    // On a cluster other servers count the lease time from the arrival of the event. It can't arrive before it
                    // was sent, so this deadline is not later than theirs.
                    let deadline = if self.cluster.is_some() { sent + lease_time } else { now + lease_time };
                    self.add_lease_of_receipt(task, &waiting.worker, &receipt, (lease_time, deadline), now);
                    let Task { attempt, created, .. } = receipt.task;
                    let time_left = deadline.saturating_duration_since(now);
                    leases.push(GrantedLease { task, attempt, secret, created, time_left });
                }
                Err(error) => self.handle_failed_start(&start, &error, ctx),
            }
        }
        if leases.is_empty() {
            // No task was started, so the request waits again.
            self.wait_again(waiting, ctx);
            return self.start_ready(ctx);
        }
        let attempts = leases.iter().map(|lease| (lease.task, lease.attempt)).collect();
        let delivery = Delivery::new(ctx.address().recipient(), attempts);
        // If the client is gone, the delivery is dropped here, which releases the leases.
        drop(waiting.caller.send(GrantedLeases { leases, delivery, are_starts_paused: false }));
        self.reset_lease_timer(ctx);
    }

    /// Releases the attempt of a start whose result is unknown: the log may hold its event, but no worker has the lease.
    pub(super) fn release_unknown_start(&self, start: &PendingStart, ctx: &mut Context<Self>) {
        let secret_hash = start.secret_hash();
        // Views that don't show the start yet show the attempt before it.
        let attempt_of =
            |row: Cow<Row>| row.attempt().saturating_add(u32::from(row.lease_hash() != Some(&*secret_hash)));
        let Some(attempt) = self.reader.views().get(start.task).map(attempt_of) else { return };
        let end = AttemptEnd::Released(ReleasedReason::NotDelivered);
        let finish = Command::Finish { attempt, lease_hash: Some(secret_hash), end, progress: None, output: None };
        self.execute_until_written(vec![system_command(start.task, finish)], ctx);
    }

    /// Adds the lease of a start that the task's actor has answered. The answer and the events of the attempt race:
    /// - If the answer is first, the lease is added here. [`Self::add_lease_of_event`] finds it later.
    /// - If the `Started` event was first, the table has the lease already.
    /// - If the end of the attempt was first too, the views show that the attempt has ended, and no lease is added.
    fn add_lease_of_receipt(
        &mut self,
        task: TaskId,
        worker: &str,
        receipt: &Receipt,
        (lease_time, deadline): (Duration, Instant),
        now: Instant,
    ) {
        let (attempt, Some(secret_hash)) = (receipt.task.attempt, &receipt.task.lease_hash) else { return };
        let is_over = self.reader.views().get(task).is_some_and(|row| {
            row.revision() >= receipt.revision && !(row.status().is_active() && row.attempt() == attempt)
        });
        if !is_over {
            let lease = NewLease {
                attempt,
                worker: worker.into(),
                secret_hash: secret_hash.as_str().into(),
                lease_time,
                deadline,
            };
            self.leases.insert(task, lease, now);
        }
    }

    /// Renews the leases of a heartbeat. The heartbeat waits for directives, unless there are some already.
    pub(super) fn renew_leases(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        let Heartbeat { worker, leases, wait, caller } = heartbeat;
        if self.task_timers.has_unheard() {
            let now = Instant::now();
            for renewal in leases.iter().filter(|renewal| self.leases.is_held(&worker, renewal)) {
                self.task_timers.worker_has_heard(renewal.task, now);
            }
            self.reset_task_timer(ctx);
        }
        if let Some(until) = self.leases.renew((&worker, &leases), wait, caller, Instant::now()) {
            self.reset_wait_timer(until, ctx);
        }
        if self.leases.is_record_awaited() {
            self.append_record(ctx);
        }
        self.reset_lease_timer(ctx);
    }

    /// Adds the lease of a `Started` event, so that the table also has the leases that other servers have granted. On a cluster
    /// the attempt is tracked as well. On one server the table usually has the lease already, and nothing changes.
    pub(super) fn add_lease_of_event(&mut self, task: TaskId, started: &Started) {
        let is_local = started.worker.starts_with(LOCAL_WORKER_PREFIX);
        if is_local && self.cluster.is_none() {
            return;
        }
        let lease_time = self.reader.views().get(task).map(|row| self.policies.lease_time(row.kind()));
        let Some(lease_time) = lease_time else { return };
        self.track_attempt((task, started.attempt), lease_time);
        if is_local {
            return;
        }
        let (worker, secret_hash, now) =
            (started.worker.as_str().into(), started.lease_hash.as_str().into(), Instant::now());
        let deadline = if self.cluster.is_some() { now } else { now + lease_time };
        self.leases.insert(task, NewLease { attempt: started.attempt, worker, secret_hash, lease_time, deadline }, now);
    }
}

impl Handler<TakeLeases> for Dispatcher {
    type Result = ();

    fn handle(&mut self, take: TakeLeases, ctx: &mut Context<Self>) {
        let TakeLeases { worker, actor, offer, max, wait, is_client_gone, caller } = take;
        if self.is_stopping {
            // `caller` is dropped here. Then the HTTP request is answered without a lease.
            return;
        }
        self.queue_and_offers.set_remote_offer(&worker, &offer);
        self.waiting_lease_requests.retain(|waiting| !waiting.caller.is_closed());
        let wait = if self.waiting_lease_requests.len() < WAITING_MAX { wait } else { Duration::ZERO };
        let until = Instant::now() + wait;
        self.waiting_lease_requests.push(WaitingLeaseRequest {
            worker,
            actor,
            offer,
            max,
            until,
            is_client_gone,
            caller,
        });
        self.start_ready(ctx);
        // If tasks are being started for the request, `start_ready` has removed it from the list, and `started_remote` answers
        // it. Otherwise it is still in the list: it is answered here if it must not wait, and by the timer if it waits.
        self.answer_ended_lease_requests();
        if !wait.is_zero() {
            self.reset_wait_timer(until, ctx);
        }
    }
}

impl Handler<Heartbeat> for Dispatcher {
    type Result = ();

    fn handle(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        self.queue_and_offers.mark_alive(&heartbeat.worker);
        if self.is_stopping {
            let Heartbeat { leases, caller, .. } = heartbeat;
            let unnotified = leases.iter().enumerate().filter(|(_, lease)| lease.seen.is_none());
            let directives = unnotified.map(|(index, _)| (index, Directive::Drain)).collect();
            // If the client has disconnected, the answer is dropped.
            let _ = caller.send(HeartbeatDirectives { directives, time_left: None });
            return;
        }
        // On a cluster, another server may have granted some of the leases.
        let unknown = self.restore_known_leases(&heartbeat);
        if unknown.is_empty() {
            self.renew_leases(heartbeat, ctx);
        } else {
            self.renew_unknown_leases(heartbeat, unknown, ctx);
        }
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
