//! Workers outside the process: they ask for work and for news by long polls.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context, Handler};
use tokio::sync::oneshot;

use crate::task::command::End;
use crate::task::event::{ReleasedReason, Started};
use crate::task::limits::LOCAL_WORKER;
use crate::task::{Command, Task, TaskId};
use crate::views::WorkOffer;

use super::{Dispatcher, Start, system};
use crate::dispatch::lease_table::{Grant, HeartbeatReply};
use crate::dispatch::messages::{Delivery, Directive, Given, Granted, Heartbeat, NotDelivered, Take};
use crate::streams::messages::{ExecuteError, Receipt};

/// Workers that wait for work at most; one more gets an empty answer at once.
const WAITERS_MAX: usize = 10_000;

/// A worker that waits for work.
pub(super) struct Waiter {
    number: u64,
    worker: String,
    wants: WorkOffer,
    max: usize,
    /// When its time is over.
    pub(super) until: Instant,
    gone: Box<dyn Fn() -> bool + Send>,
    answer: oneshot::Sender<Given>,
}

impl Waiter {
    /// An empty answer.
    pub(super) fn send_away(self) {
        // Whoever is gone needs none.
        let _ = self.answer.send(Given::default());
    }
}

impl Dispatcher {
    /// Serves the workers that wait, the one that has waited the longest first.
    pub(super) fn pump_remote(&mut self, ctx: &mut Context<Self>) {
        let mut place = 0;
        while let Some(waiter) = self.waiters.get(place) {
            let mut tasks = Vec::new();
            {
                let mut pending = self.capacity.pending();
                while tasks.len() < waiter.max
                    && let Some(task) = pending.offer(&waiter.wants)
                {
                    if !self.local.defers(task) {
                        tasks.push(task);
                    }
                }
            }
            if tasks.is_empty() {
                place += 1;
                continue;
            }
            let waiter = self.waiters.remove(place);
            if waiter.answer.is_closed() || (waiter.gone)() {
                let mut pending = self.capacity.pending();
                for task in tasks {
                    pending.take_back(task);
                }
                continue;
            }
            let worker = waiter.worker.clone();
            self.start(&worker, tasks, ctx, |this, answers, ctx| this.started_remote(waiter, answers, ctx));
        }
    }

    /// It waits in this place until its time is over.
    fn wait_on(&mut self, place: usize, waiter: Waiter, ctx: &mut Context<Self>) {
        let until = waiter.until;
        if self.leaving || until <= Instant::now() {
            return waiter.send_away();
        }
        self.waiters.insert(place, waiter);
        self.arm_waits(until, ctx);
    }

    fn started_remote(
        &mut self,
        waiter: Waiter,
        answers: Vec<(Start, Result<Receipt, ExecuteError>)>,
        ctx: &mut Context<Self>,
    ) {
        let (mut leases, now) = (Vec::with_capacity(answers.len()), Instant::now());
        for ((task, secret), answer) in answers {
            match answer {
                Ok(receipt) => {
                    let ttl = self.kinds.lease(&receipt.task.created.kind);
                    self.grant(task, &waiter.worker, &receipt, ttl, now);
                    let Task { attempt, created, .. } = receipt.task;
                    leases.push(Granted { task, attempt, secret, created, ttl });
                }
                Err(error) => self.not_started(task, &error, ctx),
            }
        }
        if leases.is_empty() {
            // It goes on waiting, in its old place, unless its time has passed meanwhile.
            self.wait_on(0, waiter, ctx);
            return self.pump(ctx);
        }
        let attempts = leases.iter().map(|lease| (lease.task, lease.attempt)).collect();
        let delivery = Delivery::new(ctx.address().recipient(), attempts);
        // If the worker is gone, what is dropped here comes back as not delivered.
        drop(waiter.answer.send(Given { leases, delivery }));
        self.arm_leases(ctx);
    }

    /// The table learns of a lease by the answer to its start, which may come after the event, and after the end even:
    /// what the views know to be over is not granted.
    fn grant(&mut self, task: TaskId, worker: &str, receipt: &Receipt, ttl: Duration, now: Instant) {
        let (attempt, Some(secret)) = (receipt.task.attempt, &receipt.task.lease) else { return };
        let over = self.read.views().get(task).is_some_and(|row| {
            row.revision() >= receipt.revision && !(row.status().is_active() && row.attempt() == attempt)
        });
        if !over {
            let grant = Grant { attempt, worker: worker.into(), secret: secret.as_str().into(), ttl };
            self.leases.grant(task, grant, now);
        }
    }

    /// The event of a start: the table's other way to learn of a lease, by which it knows those of other servers too.
    pub(super) fn started(&mut self, task: TaskId, started: &Started) {
        if started.worker.starts_with(LOCAL_WORKER) {
            return;
        }
        let ttl = self.read.views().get(task).map(|row| self.kinds.lease(row.kind()));
        let Some(ttl) = ttl else { return };
        let (worker, secret) = (started.worker.as_str().into(), started.lease.as_str().into());
        self.leases.grant(task, Grant { attempt: started.attempt, worker, secret, ttl }, Instant::now());
    }
}

impl Handler<Take> for Dispatcher {
    type Result = ();

    fn handle(&mut self, take: Take, ctx: &mut Context<Self>) {
        let Take { worker, wants, max, wait, gone, answer } = take;
        if self.leaving {
            // What is dropped here is an empty answer.
            return;
        }
        self.capacity.offer_remote(&worker, &wants);
        self.waiters.retain(|waiter| !waiter.answer.is_closed());
        self.waiters_so_far += 1;
        let number = self.waiters_so_far;
        let wait = if self.waiters.len() < WAITERS_MAX { wait } else { Duration::ZERO };
        let until = Instant::now() + wait;
        self.waiters.push(Waiter { number, worker, wants, max, until, gone, answer });
        self.pump(ctx);
        // One whose start is under way is answered by that.
        let place = self.waiters.iter().position(|waiter| waiter.number == number);
        if let Some(place) = place {
            let waiter = self.waiters.remove(place);
            self.wait_on(place, waiter, ctx);
        }
    }
}

impl Handler<Heartbeat> for Dispatcher {
    type Result = ();

    fn handle(&mut self, beat: Heartbeat, ctx: &mut Context<Self>) {
        let Heartbeat { worker, beats, wait, answer } = beat;
        self.capacity.seen(&worker);
        if self.leaving {
            let told = beats.iter().enumerate().filter(|(_, beat)| beat.seen.is_none());
            let directives = told.map(|(place, _)| (place, Directive::Drain)).collect();
            // Whoever is gone needs no answer.
            let _ = answer.send(HeartbeatReply { directives, left: None });
            return;
        }
        if let Some(until) = self.leases.beat((&worker, &beats), wait, answer, Instant::now()) {
            self.arm_waits(until, ctx);
        }
        self.arm_leases(ctx);
    }
}

impl Handler<NotDelivered> for Dispatcher {
    type Result = ();

    fn handle(&mut self, NotDelivered(attempts): NotDelivered, ctx: &mut Context<Self>) {
        let hand_back = |(task, attempt): (TaskId, u32)| {
            let end = End::Released(ReleasedReason::NotDelivered);
            system(task, Command::Finish { attempt, lease: None, end, progress: None, output: None })
        };
        self.insist(attempts.into_iter().map(hand_back).collect(), ctx);
    }
}
