//! Workers outside the process: their requests for leases and their heartbeats wait here.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context, Handler};
use tokio::sync::oneshot;

use crate::dispatch::directive::Directive;
use crate::dispatch::in_flight::Executor;
use crate::dispatch::lease_table::{Grant, HeartbeatReply};
use crate::dispatch::messages::{Delivery, Given, Granted, Heartbeat, NotDelivered, Take};
use crate::streams::messages::{ExecuteError, Receipt};
use crate::task::command::AttemptEnd;
use crate::task::event::{ReleasedReason, Started};
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::{Command, Task, TaskId};
use crate::views::WorkOffer;

use super::{Dispatcher, Start, system_command};

/// Requests for leases that wait at most; one more gets an empty answer at once.
const WAITING_MAX: usize = 10_000;

/// A request for leases that waits.
pub(super) struct WaitingTake {
    number: u64,
    worker: String,
    wants: WorkOffer,
    pub(super) max: usize,
    /// When its wait ends.
    pub(super) until: Instant,
    gone: Box<dyn Fn() -> bool + Send>,
    answer: oneshot::Sender<Given>,
}

impl WaitingTake {
    /// Sends the answer without a lease.
    pub(super) fn answer_empty(self) {
        // A client that has gone needs no answer.
        let _ = self.answer.send(Given::default());
    }

    fn is_gone(&self) -> bool {
        self.answer.is_closed() || (self.gone)()
    }
}

impl Dispatcher {
    /// Serves the requests that wait, the one that has waited the longest first.
    pub(super) fn start_elsewhere(&mut self, ctx: &mut Context<Self>) {
        let mut place = 0;
        while let Some(waiting) = self.waiting.get(place) {
            let tasks = self.take_for(&waiting.wants.clone(), waiting.max);
            if tasks.is_empty() {
                place += 1;
                continue;
            }
            let waiting = self.waiting.remove(place);
            if waiting.is_gone() {
                for task in tasks {
                    self.in_flight.not_written(&mut self.capacity.pending(), task);
                }
                continue;
            }
            let worker = waiting.worker.clone();
            self.start(&worker, tasks, ctx, |this, answers, ctx| this.started_elsewhere(waiting, answers, ctx));
        }
    }

    fn take_for(&mut self, wants: &WorkOffer, max: usize) -> Vec<TaskId> {
        let mut queue = self.capacity.pending();
        let next = || self.in_flight.take(&mut queue, wants, Executor::Elsewhere);
        std::iter::from_fn(next).take(max).collect()
    }

    /// The request waits in this place until its time is over.
    fn wait(&mut self, place: usize, waiting: WaitingTake, ctx: &mut Context<Self>) {
        let until = waiting.until;
        if self.is_stopping || until <= Instant::now() {
            return waiting.answer_empty();
        }
        self.waiting.insert(place, waiting);
        self.reset_wait_timer(until, ctx);
    }

    fn started_elsewhere(
        &mut self,
        waiting: WaitingTake,
        answers: Vec<(Start, Result<Receipt, ExecuteError>)>,
        ctx: &mut Context<Self>,
    ) {
        let (mut leases, now) = (Vec::with_capacity(answers.len()), Instant::now());
        for (Start { task, secret, sent }, answer) in answers {
            match answer {
                Ok(receipt) => {
                    self.in_flight.started_elsewhere(&mut self.capacity.pending(), task);
                    let ttl = self.kinds.lease(&receipt.task.created.kind);
                    // Other servers count from the arrival of the event, which can't be before it was sent.
                    let deadline = if self.cluster.is_some() { sent + ttl } else { now + ttl };
                    self.grant(task, &waiting.worker, &receipt, (ttl, deadline), now);
                    let Task { attempt, created, .. } = receipt.task;
                    let left = deadline.saturating_duration_since(now);
                    leases.push(Granted { task, attempt, secret, created, left });
                }
                Err(error) => self.not_started(task, &error, ctx),
            }
        }
        if leases.is_empty() {
            // It goes on waiting in its old place, unless its time is over meanwhile.
            self.wait(0, waiting, ctx);
            return self.start_ready(ctx);
        }
        let attempts = leases.iter().map(|lease| (lease.task, lease.attempt)).collect();
        let delivery = Delivery::new(ctx.address().recipient(), attempts);
        // If the client is gone, the delivery is dropped here, and the leases are handed back.
        drop(waiting.answer.send(Given { leases, delivery }));
        self.reset_lease_timer(ctx);
    }

    /// The answer to a start and its event race. If the event was first, the lease is there already. If the end of the attempt
    /// was first too, the views show that it is over, and no lease is granted.
    fn grant(
        &mut self,
        task: TaskId,
        worker: &str,
        receipt: &Receipt,
        (ttl, deadline): (Duration, Instant),
        now: Instant,
    ) {
        let (attempt, Some(secret)) = (receipt.task.attempt, &receipt.task.lease_hash) else { return };
        let is_over = self.read.views().get(task).is_some_and(|row| {
            row.revision() >= receipt.revision && !(row.status().is_active() && row.attempt() == attempt)
        });
        if !is_over {
            let grant = Grant { attempt, worker: worker.into(), secret: secret.as_str().into(), ttl, deadline };
            self.leases.grant(task, grant, now);
        }
    }

    /// Renews the leases of a heartbeat, which waits for directives.
    pub(super) fn renew(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        let Heartbeat { worker, beats, wait, answer } = heartbeat;
        if let Some(until) = self.leases.renew((&worker, &beats), wait, answer, Instant::now()) {
            self.reset_wait_timer(until, ctx);
        }
        if self.leases.awaits_record() {
            self.append_record(ctx);
        }
        self.reset_lease_timer(ctx);
    }

    /// Grants the lease of a `Started` event: so the table knows the leases that other servers have granted, too.
    pub(super) fn grant_by_event(&mut self, task: TaskId, started: &Started) {
        let is_local = started.worker.starts_with(LOCAL_WORKER_PREFIX);
        if is_local && self.cluster.is_none() {
            return;
        }
        let ttl = self.read.views().get(task).map(|row| self.kinds.lease(row.kind()));
        let Some(ttl) = ttl else { return };
        self.track((task, started.attempt), ttl);
        if is_local {
            return;
        }
        let (worker, secret, now) = (started.worker.as_str().into(), started.lease.as_str().into(), Instant::now());
        let deadline = if self.cluster.is_some() { now } else { now + ttl };
        self.leases.grant(task, Grant { attempt: started.attempt, worker, secret, ttl, deadline }, now);
    }
}

impl Handler<Take> for Dispatcher {
    type Result = ();

    fn handle(&mut self, take: Take, ctx: &mut Context<Self>) {
        let Take { worker, wants, max, wait, gone, answer } = take;
        if self.is_stopping {
            // The sender is dropped, which the client sees as an empty answer.
            return;
        }
        self.capacity.offer_remote(&worker, &wants);
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        self.last_take += 1;
        let number = self.last_take;
        let wait = if self.waiting.len() < WAITING_MAX { wait } else { Duration::ZERO };
        let until = Instant::now() + wait;
        self.waiting.push(WaitingTake { number, worker, wants, max, until, gone, answer });
        self.start_ready(ctx);
        // A request whose starts are under way is answered after them.
        let place = self.waiting.iter().position(|waiting| waiting.number == number);
        if let Some(place) = place {
            let waiting = self.waiting.remove(place);
            self.wait(place, waiting, ctx);
        }
    }
}

impl Handler<Heartbeat> for Dispatcher {
    type Result = ();

    fn handle(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        self.capacity.seen(&heartbeat.worker);
        if self.is_stopping {
            let Heartbeat { beats, answer, .. } = heartbeat;
            let untold = beats.iter().enumerate().filter(|(_, beat)| beat.seen.is_none());
            let directives = untold.map(|(place, _)| (place, Directive::Drain)).collect();
            // A client that has gone needs no answer.
            let _ = answer.send(HeartbeatReply { directives, left: None });
            return;
        }
        self.renew_known(heartbeat, ctx);
    }
}

impl Handler<NotDelivered> for Dispatcher {
    type Result = ();

    fn handle(&mut self, NotDelivered(attempts): NotDelivered, ctx: &mut Context<Self>) {
        let hand_back = |(task, attempt): (TaskId, u32)| {
            let end = AttemptEnd::Released(ReleasedReason::NotDelivered);
            system_command(task, Command::Finish { attempt, lease: None, end, progress: None, output: None })
        };
        self.execute_until_written(attempts.into_iter().map(hand_back).collect(), ctx);
    }
}
