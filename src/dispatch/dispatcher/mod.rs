//! What runs next, when, and who tells it to stop.
//!
//! It holds no truth: what waits and what runs is in the log, and its tables are made from it anew with each start. A
//! worker inside the process and one outside are served alike; what differs is how they are spoken to: `local` sends
//! messages, `remote` answers long polls and keeps the table of [`super::lease_table`]. `clock` does what time does: tasks that
//! become ready, rungs of the ladder, attempts that take too long, leases that end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use uuid::Uuid;

mod clock;
mod local;
mod remote;

use crate::store::{LogEvent, Meta, ReadError, StreamOf, Via, new_id, now};
use crate::task::event::{Rung, is_system_error};
use crate::task::limits::LOCAL_WORKER;
use crate::task::{Command, Event, TaskId};

use super::capacity::Capacity;
use super::lease_table::{Grant, LeaseTable};
use super::messages::{Directive, Offer, SendAway, Stopped};
use super::policies::KindPolicies;
use crate::projection::projector::Committed;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;

use clock::Clock;
use local::Local;
use remote::Waiter;

/// After trouble with the log the dispatcher tries again so much later.
const PAUSE: Duration = Duration::from_secs(1);

/// The dispatcher; see the module.
pub struct Dispatcher {
    registry: Registry,
    read: ViewsReader,
    capacity: Arc<Capacity>,
    kinds: Arc<KindPolicies>,
    local: Local,
    leases: LeaseTable,
    /// Workers outside that wait for work, the one that has waited the longest first.
    waiters: Vec<Waiter>,
    waiters_so_far: u64,
    clock: Clock,
    /// The log could not take a start: nothing is started before the pause is over.
    pausing: bool,
    /// The process is about to end: nobody waits any more.
    leaving: bool,
}

/// A start on its way: the task, and the secret of its lease.
type Start = (TaskId, String);

impl Dispatcher {
    /// A dispatcher that knows what the views show now; it must be started before they move on.
    #[must_use]
    pub fn new(registry: Registry, read: ViewsReader, capacity: Arc<Capacity>, kinds: Arc<KindPolicies>) -> Self {
        let mut leases = LeaseTable::default();
        {
            let (views, mut pending, now) = (read.views(), capacity.pending(), Instant::now());
            pending.pause_all(views.queues());
            for row in views.rows() {
                pending.apply_change(None, row);
                // A restart keeps the attempts of workers outside: their leases are honoured, with a fresh deadline.
                if let (Some(worker), Some(secret)) = (row.worker(), row.lease())
                    && !worker.starts_with(LOCAL_WORKER)
                {
                    let ttl = kinds.lease(row.kind());
                    let grant = Grant { attempt: row.attempt(), worker: worker.into(), secret: secret.into(), ttl };
                    leases.grant(row.id(), grant, now);
                    if let Some(cancel) = row.cancel() {
                        let asked = if cancel.rung == Rung::Ask { Directive::Cancel } else { Directive::Interrupt };
                        leases.direct(row.id(), asked, now);
                    }
                }
            }
        }
        Self {
            registry,
            read,
            capacity,
            kinds,
            local: Local::default(),
            leases,
            waiters: Vec::new(),
            waiters_so_far: 0,
            clock: Clock::default(),
            pausing: false,
            leaving: false,
        }
    }

    /// Starts what may run, wherever there is room. All starts of one worker are sent at once; none is awaited before
    /// the next.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if !self.pausing {
            self.pump_local(ctx);
            self.pump_remote(ctx);
        }
        self.count_free();
    }

    /// Has the tasks started by this worker; `then` gets the answers in the same order.
    fn start(
        &self,
        worker: &str,
        tasks: Vec<TaskId>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Vec<(Start, Result<Receipt, ExecuteError>)>, &mut Context<Self>) + 'static,
    ) {
        let starts: Vec<Start> = tasks.into_iter().map(|task| (task, Uuid::new_v4().simple().to_string())).collect();
        let ask = |(task, secret): &Start| {
            let lease = blake3::hash(secret.as_bytes()).to_hex().to_string();
            system(*task, Command::Start { worker: worker.to_owned(), lease })
        };
        let asks = starts.iter().map(ask).collect();
        let registry = self.registry.clone();
        let started = async move { registry.execute_many(asks).await };
        ctx.spawn(started.into_actor(self).map(move |answers, this, ctx| {
            then(this, starts.into_iter().zip(answers).collect(), ctx);
        }));
    }

    /// A start that came to nothing. What was refused has changed in a way that is on its way here; what could not be
    /// written is tried again after a pause.
    fn not_started(&mut self, task: TaskId, error: &ExecuteError, ctx: &mut Context<Self>) {
        if let ExecuteError::Rejected(_) = error {
            self.capacity.pending().forget(task);
            return;
        }
        if let ExecuteError::Read(ReadError::Damaged(_) | ReadError::Unknown { .. }) = error {
            // It must not stand in the way of all the others.
            tracing::error!(%task, %error, "a task can't be read; it is not started by this process");
            self.capacity.pending().forget(task);
            return;
        }
        tracing::warn!(%task, %error, "a task could not be started; trying again");
        self.capacity.pending().take_back(task);
        // One pause for however many starts have failed.
        if !self.pausing {
            self.pausing = true;
            ctx.run_later(PAUSE, |this, ctx| {
                this.pausing = false;
                this.pump(ctx);
            });
        }
    }

    fn hear(&mut self, id: TaskId, event: &Event) {
        match event {
            Event::CancelRequested(_) => self.direct(id, Directive::Cancel),
            Event::CancelEscalated(step) if step.rung == Rung::Interrupt => self.direct(id, Directive::Interrupt),
            // Somebody else ended the attempt: its code is to stop, and its word doesn't count any more.
            Event::Completed(completed) => {
                let attempt = completed.attempt.unwrap_or(u32::MAX);
                self.over(id, attempt, completed.forced || completed.error.as_ref().is_some_and(is_system_error));
            }
            Event::AttemptFailed(failed) => self.over(id, failed.attempt, is_system_error(&failed.error)),
            Event::Released(released) => self.over(id, released.attempt, false),
            Event::Started(started) => self.started(id, started),
            Event::Created(_)
            | Event::Queued(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::OutputKept(_) => {}
            Event::Retried(_) => self.local.begins_anew(id),
        }
    }

    /// Tells whoever executes the task.
    fn direct(&mut self, id: TaskId, directive: Directive) {
        self.local.direct(id, directive);
        self.leases.direct(id, directive, Instant::now());
    }

    /// An attempt is over, by its worker's own word or without it.
    fn over(&mut self, id: TaskId, attempt: u32, unheard: bool) {
        if unheard {
            self.local.direct(id, Directive::Lost);
            self.leases.lose(id, attempt, Instant::now());
        } else {
            self.leases.end(id, attempt);
        }
    }
}

/// A command of the system's own.
fn system(task: TaskId, command: Command) -> Execute {
    let meta = Meta {
        actor: "system".to_owned(),
        via: Via::Scheduler,
        correlation_id: new_id(),
        causation_id: None,
        request_id: None,
    };
    Execute { task, command, at: now(), meta }
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.arm(ctx);
        self.arm_leases(ctx);
    }
}

impl Handler<Offer> for Dispatcher {
    type Result = ();

    fn handle(&mut self, offer: Offer, ctx: &mut Context<Self>) {
        let lost = self.local.offered(offer, &self.read);
        self.insist(lost, ctx);
        self.pump(ctx);
    }
}

impl Handler<Stopped> for Dispatcher {
    type Result = ();

    fn handle(&mut self, stopped: Stopped, ctx: &mut Context<Self>) {
        if self.local.stopped(stopped.task) {
            self.capacity.pending().take_back(stopped.task);
        }
        self.pump(ctx);
    }
}

impl Handler<Committed> for Dispatcher {
    type Result = ();

    fn handle(&mut self, committed: Committed, ctx: &mut Context<Self>) {
        {
            let mut pending = self.capacity.pending();
            for change in committed.changes.iter() {
                pending.apply_change(change.before.as_ref(), &change.after);
            }
            for recorded in committed.events.iter() {
                if let (Some(StreamOf::Queue(queue)), LogEvent::Queue(event)) = (recorded.stream.of(), &recorded.event)
                {
                    pending.apply_queue_event(queue, event);
                }
            }
        }
        for recorded in committed.events.iter() {
            if let (Some(StreamOf::Task(id)), LogEvent::Task(event)) = (recorded.stream.of(), &recorded.event) {
                self.hear(id, event);
            }
        }
        self.pump(ctx);
        self.arm(ctx);
        self.arm_leases(ctx);
    }
}

impl Handler<SendAway> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: SendAway, _: &mut Context<Self>) {
        self.leaving = true;
        self.leases.drain(Instant::now());
        // An empty answer to each of them.
        self.waiters.drain(..).for_each(Waiter::send_away);
    }
}

impl Handler<Stop> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
