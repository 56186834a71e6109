//! Starts attempts, and sends their workers directives.
//!
//! It holds no truth: which tasks wait and which run is in the log, and its tables are made anew from the views with each
//! start, or when it was too slow for the log. Workers inside and outside the process are served alike; what differs is how
//! they are reached: `local` sends messages, `remote` answers requests that wait. `timers` does what time does. `cluster` is
//! what several servers of one log need beside that.
//!
//! A start: [`InFlight`] takes a task out of the run queue → `Command::Start` to the task's actor → durable → the attempt is
//! handed over. All starts of one worker are sent at once; none is awaited before the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use uuid::Uuid;

mod cluster;
mod local;
mod remote;
mod timers;

use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::projection::subscribers::{Committed, Update};
use crate::store::{EventStore, LogEvent, Meta, ReadError, Recorded, StreamOf, Via, new_id, now};
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;
use crate::task::backoff::BackOff;
use crate::task::event::{Rung, is_system_error};
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::{Command, Event, Position, TaskId};
use crate::views::{Filter, Row, Views};

use super::capacity::Capacity;
use super::directive::Directive;
use super::in_flight::InFlight;
use super::lease_table::{Grant, LeaseTable};
use super::messages::{Offer, SendAway, Stopped};
use super::policies::KindPolicies;
use super::shares::Shares;

use cluster::Cluster;
use local::LocalWorker;
use remote::WaitingTake;
use timers::Timers;

/// The pauses after a failed write. Within 5 s of the return of a log all work goes on.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3));

/// Requests of workers that wait for the dispatcher at most; further ones wait in their callers.
const MAILBOX: usize = 1024;

/// The dispatcher; see the module.
pub struct Dispatcher {
    registry: Registry,
    read: ViewsReader,
    capacity: Arc<Capacity>,
    kinds: Arc<KindPolicies>,
    /// The tables hold everything up to here.
    position: Position,
    in_flight: InFlight,
    local: LocalWorker,
    leases: LeaseTable,
    /// Requests for leases that wait, the one that has waited the longest first.
    waiting: Vec<WaitingTake>,
    last_take: u64,
    timers: Timers,
    back_off: BackOff,
    /// The log could not take a start: nothing is started before the pause is over.
    is_paused: bool,
    /// The process is about to end: no request waits any more.
    is_stopping: bool,
    /// None where this server has the log for itself.
    cluster: Option<Box<Cluster>>,
}

/// A start on its way.
struct Start {
    task: TaskId,
    /// The secret of its lease.
    secret: String,
    sent: Instant,
}

impl Dispatcher {
    /// A dispatcher that makes its tables from the views when its actor starts.
    #[must_use]
    pub fn new(registry: Registry, read: ViewsReader, capacity: Arc<Capacity>, kinds: Arc<KindPolicies>) -> Self {
        Self {
            registry,
            read,
            capacity,
            kinds,
            position: Position(0),
            in_flight: InFlight::default(),
            local: LocalWorker::default(),
            leases: LeaseTable::default(),
            waiting: Vec::new(),
            last_take: 0,
            timers: Timers::default(),
            back_off: BACK_OFF,
            is_paused: false,
            is_stopping: false,
            cluster: None,
        }
    }

    /// The same for a server of a cluster. It keeps `shares` up to date with the servers that live.
    #[must_use]
    pub fn on_cluster(self, store: EventStore, shares: Shares) -> Self {
        let cluster = Cluster::new(store, shares, self.kinds.shortest_lease());
        Self { leases: LeaseTable::on_cluster(), cluster: Some(Box::new(cluster)), ..self }
    }

    /// Whether the event may change what runs next, or concerns a worker.
    #[must_use]
    pub const fn concerns(recorded: &Recorded) -> bool {
        match recorded.event {
            LogEvent::Task(_) | LogEvent::Queue(_) => true,
            LogEvent::Bell(_) | LogEvent::Schedule(_) => false,
        }
    }

    /// Makes the tables anew from the views: at the start, and when batches were left out because this actor was too slow.
    ///
    /// Leases that the table knows keep their deadlines; others (from before a restart) get fresh ones. The workers of attempts
    /// that ended meanwhile get the directive `lost`. This does no harm if the worker itself ended the attempt.
    fn rebuild(&mut self) {
        let (snapshot, queues, leases, here) = {
            let views = self.read.views();
            let leases = over(&views, self.leases.attempts());
            (views.snapshot(), views.paused_queues().clone(), leases, over(&views, self.in_flight.executing()))
        };
        self.position = snapshot.position();
        self.in_flight.forget_turns();
        {
            let mut queue = self.capacity.reset();
            queue.pause_all(&queues);
            for row in snapshot.matching(&Filter::default()) {
                if self.cluster.as_mut().is_some_and(|cluster| cluster.hold(row)) {
                    queue.apply_change_deferred(None, row, None);
                } else {
                    queue.apply_change(None, row, None);
                }
            }
        }
        let now = Instant::now();
        for (task, attempt) in leases {
            self.leases.lose(task, attempt, now);
        }
        for (task, _) in here {
            self.direct_here(task, Directive::Lost);
        }
        self.track_active(&snapshot);
        for row in snapshot.matching(&Filter::default()).filter(|row| row.status().is_active()) {
            self.restore(row, now);
        }
    }

    /// The lease of an attempt that runs outside the process, and the directive that its cancel has come to.
    fn restore(&mut self, row: &Row, now: Instant) {
        if let (Some(worker), Some(secret)) = (row.worker(), row.lease_hash())
            && !worker.starts_with(LOCAL_WORKER_PREFIX)
        {
            let ttl = self.kinds.lease(row.kind());
            let deadline = if self.cluster.is_some() { now } else { now + ttl };
            let grant = Grant { attempt: row.attempt(), worker: worker.into(), secret: secret.into(), ttl, deadline };
            self.leases.grant(row.id(), grant, now);
        }
        if let Some(cancel) = row.cancel() {
            self.direct(row.id(), if cancel.rung == Rung::Ask { Directive::Cancel } else { Directive::Interrupt });
        }
    }

    /// Starts what may run, wherever there is room.
    fn start_ready(&mut self, ctx: &mut Context<Self>) {
        if !self.is_paused {
            self.start_here(ctx);
            self.start_elsewhere(ctx);
            while self.admit_foreign() {
                self.start_here(ctx);
                self.start_elsewhere(ctx);
            }
        }
        self.publish_slots();
    }

    /// Has the tasks started by this worker; `then` gets the answers in the same order.
    fn start(
        &self,
        worker: &str,
        tasks: Vec<TaskId>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Vec<(Start, Result<Receipt, ExecuteError>)>, &mut Context<Self>) + 'static,
    ) {
        let sent = Instant::now();
        let start = |task| Start { task, secret: Uuid::new_v4().simple().to_string(), sent };
        let starts: Vec<Start> = tasks.into_iter().map(start).collect();
        let command = |Start { task, secret, .. }: &Start| {
            let lease = blake3::hash(secret.as_bytes()).to_hex().to_string();
            system_command(*task, Command::Start { worker: worker.to_owned(), lease })
        };
        let commands = starts.iter().map(command).collect();
        let registry = self.registry.clone();
        let started = async move { registry.execute_many(commands).await };
        ctx.spawn(started.into_actor(self).map(move |answers, this, ctx| {
            then(this, starts.into_iter().zip(answers).collect(), ctx);
        }));
    }

    /// A start that failed. Where the rules refused it, the task has changed, and the event that says so is on its way here.
    /// Where it could not be written, it is tried again after a pause.
    fn not_started(&mut self, task: TaskId, error: &ExecuteError, ctx: &mut Context<Self>) {
        let mut queue = self.capacity.pending();
        match error {
            ExecuteError::Rejected(_) => return self.in_flight.refused(&mut queue, task),
            ExecuteError::Read(ReadError::Damaged(_) | ReadError::Unknown { .. }) => {
                // One task that can't be read must not keep the others from their turn.
                tracing::error!(%task, %error, "a task can't be read; it is not started by this process");
                return self.in_flight.refused(&mut queue, task);
            }
            ExecuteError::Read(ReadError::Unavailable(_)) | ExecuteError::Append(_) | ExecuteError::Busy(_) => {}
        }
        tracing::warn!(%task, %error, "a task could not be started; trying again");
        self.in_flight.not_written(&mut queue, task);
        drop(queue);
        // One pause, however many starts have failed.
        if !std::mem::replace(&mut self.is_paused, true) {
            ctx.run_later(self.back_off.next_pause(), |this, ctx| {
                this.is_paused = false;
                this.start_ready(ctx);
            });
        }
    }

    /// Applies a batch of events: first to the run queue, then to the workers that execute the tasks.
    fn apply(&mut self, committed: &Committed) {
        let position = self.position;
        {
            let mut queue = self.capacity.pending();
            for change in committed.changes.iter().filter(|change| change.after.position() > position) {
                if self.cluster.as_mut().is_some_and(|cluster| cluster.hold(&change.after)) {
                    self.in_flight.apply_change_deferred(&mut queue, change.before.as_ref(), &change.after);
                } else {
                    self.in_flight.apply_change(&mut queue, change.before.as_ref(), &change.after);
                }
            }
        }
        for recorded in committed.events.iter().filter(|recorded| recorded.position > position) {
            match (recorded.stream.of(), &recorded.event) {
                (Some(StreamOf::Queue(queue)), LogEvent::Queue(event)) => {
                    self.capacity.pending().apply_queue_event(queue, event);
                }
                (Some(StreamOf::Task(id)), LogEvent::Task(event)) => self.notify_worker(id, event),
                _ => {}
            }
            self.position = recorded.position;
        }
    }

    /// Sends the directive that follows from the event to the worker that executes the task, if there is one.
    fn notify_worker(&mut self, id: TaskId, event: &Event) {
        match event {
            Event::CancelRequested(_) => self.direct(id, Directive::Cancel),
            Event::CancelEscalated(step) if step.rung == Rung::Interrupt => self.direct(id, Directive::Interrupt),
            Event::Completed(completed) => {
                let attempt = completed.attempt.unwrap_or(u32::MAX);
                let is_lost = completed.forced || completed.error.as_ref().is_some_and(is_system_error);
                self.end_attempt(id, attempt, is_lost);
            }
            Event::AttemptFailed(failed) => {
                self.end_attempt(id, failed.attempt, is_system_error(&failed.error));
            }
            Event::Released(released) => self.end_attempt(id, released.attempt, false),
            Event::Started(started) => self.grant_by_event(id, started),
            Event::Retried(_) => self.in_flight.begin_run(id),
            Event::Created(_)
            | Event::Queued(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::OutputKept(_) => {}
        }
    }

    fn direct(&mut self, id: TaskId, directive: Directive) {
        self.direct_here(id, directive);
        self.leases.direct(id, directive, Instant::now());
    }

    /// An attempt has ended. If its worker did not end it (`is_lost`), its code is to stop, and its reports don't count any more.
    fn end_attempt(&mut self, id: TaskId, attempt: u32, is_lost: bool) {
        self.untrack((id, attempt));
        if is_lost {
            self.direct_here(id, Directive::Lost);
            self.leases.lose(id, attempt, Instant::now());
        } else {
            self.leases.end(id, attempt);
        }
    }

    fn reset_timers(&mut self, ctx: &mut Context<Self>) {
        self.reset_task_timer(ctx);
        self.reset_lease_timer(ctx);
    }
}

/// Those of the attempts that are over, as the views show it. The views may be behind the answer to a start: an attempt that
/// they don't show yet is not over.
fn over(views: &Views, attempts: impl IntoIterator<Item = (TaskId, u32)>) -> Vec<(TaskId, u32)> {
    let is_over =
        |row: &Row, attempt| row.attempt() > attempt || (row.attempt() == attempt && !row.status().is_active());
    let attempts = attempts.into_iter();
    attempts.filter(|(task, attempt)| views.get(*task).is_some_and(|row| is_over(row, *attempt))).collect()
}

/// A command of the server itself.
fn system_command(task: TaskId, command: Command) -> Execute {
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
        ctx.set_mailbox_capacity(MAILBOX);
        self.rebuild();
        self.reset_timers(ctx);
        self.begin_records(ctx);
    }
}

impl Handler<Offer> for Dispatcher {
    type Result = ();

    fn handle(&mut self, offer: Offer, ctx: &mut Context<Self>) {
        // On a cluster the others may live; the records say which attempts are lost.
        let is_alone = self.cluster.is_none();
        let lost = self.local.offered(offer, is_alone.then_some(&self.read));
        self.execute_until_written(lost, ctx);
        self.start_ready(ctx);
    }
}

impl Handler<Stopped> for Dispatcher {
    type Result = ();

    fn handle(&mut self, stopped: Stopped, ctx: &mut Context<Self>) {
        self.in_flight.stopped(&mut self.capacity.pending(), stopped.task);
        self.start_ready(ctx);
    }
}

impl Handler<Update> for Dispatcher {
    type Result = ();

    fn handle(&mut self, update: Update, ctx: &mut Context<Self>) {
        match update {
            Update::Committed(committed) => self.apply(&committed),
            Update::Missed => self.rebuild(),
        }
        self.start_ready(ctx);
        self.reset_timers(ctx);
    }
}

impl Handler<SendAway> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: SendAway, _: &mut Context<Self>) {
        self.is_stopping = true;
        self.leases.drain(Instant::now());
        self.waiting.drain(..).for_each(WaitingTake::answer_empty);
    }
}

impl Handler<Stop> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
