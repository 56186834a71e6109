//! Starts attempts, and sends their workers directives.
//!
//! The log says which tasks wait and which run. The dispatcher's tables are computed from it: they are built anew from the views
//! when the actor starts, and when the actor has missed events because it was too slow. Workers inside and outside the process
//! get the same tasks and directives. `local` sends them as messages, `remote` sends them as answers to requests that wait.
//! `timers` sends the commands that are due at a time. `cluster` has the parts that only a server of a cluster needs.
//!
//! The steps of a start: [`InFlight`] takes a task from the run queue; the dispatcher sends `Command::Start` to the task's actor;
//! when the event is durable, the worker gets the attempt. All starts for one worker are sent in one batch.

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
use crate::store::{AppendError, EventStore, LogEvent, Meta, ReadError, Recorded, StreamSubject, Via, new_id, now};
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
use super::lease_table::{LeaseTable, NewLease};
use super::messages::{AttemptStopped, DrainWorkers, LocalOffer};
use super::policies::KindPolicies;
use super::shares::Shares;

use cluster::Cluster;
use local::LocalWorkerLink;
use remote::WaitingTake;
use timers::Timers;

/// The pauses after a failed write. They are short enough that all work goes on within 5 s after the log can be written again.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3));

/// The maximum number of messages in the dispatcher's mailbox. Further senders wait.
const MAILBOX_CAPACITY: usize = 1024;

/// The dispatcher; see the module.
pub struct Dispatcher {
    registry: Registry,
    reader: ViewsReader,
    capacity: Arc<Capacity>,
    policies: Arc<KindPolicies>,
    /// The tables include all events up to this position.
    position: Position,
    in_flight: InFlight,
    local: LocalWorkerLink,
    leases: LeaseTable,
    /// The requests for leases that wait. The one that has waited for the longest time is first.
    waiting_takes: Vec<WaitingTake>,
    last_take_number: u64,
    timers: Timers,
    back_off: BackOff,
    /// A start could not be written. Nothing is started until a pause is over.
    is_paused: bool,
    /// The process is about to stop. Requests are answered at once.
    is_stopping: bool,
    /// None if this server does not share its log with other servers.
    cluster: Option<Box<Cluster>>,
}

/// A start that was sent and is not answered yet.
struct PendingStart {
    task: TaskId,
    /// The secret of the lease. The log gets its hash only.
    secret: String,
    sent: Instant,
}

impl Dispatcher {
    /// A dispatcher that builds its tables from the views when its actor starts.
    #[must_use]
    pub fn new(registry: Registry, reader: ViewsReader, capacity: Arc<Capacity>, policies: Arc<KindPolicies>) -> Self {
        Self {
            registry,
            reader,
            capacity,
            policies,
            position: Position(0),
            in_flight: InFlight::default(),
            local: LocalWorkerLink::default(),
            leases: LeaseTable::default(),
            waiting_takes: Vec::new(),
            last_take_number: 0,
            timers: Timers::default(),
            back_off: BACK_OFF,
            is_paused: false,
            is_stopping: false,
            cluster: None,
        }
    }

    /// Adds what a server of a cluster needs. The dispatcher keeps the live servers in `shares` up to date.
    #[must_use]
    pub fn on_cluster(self, store: EventStore, shares: Shares) -> Self {
        let cluster = Cluster::new(store, shares, self.policies.shortest_lease());
        Self { leases: LeaseTable::on_cluster(), cluster: Some(Box::new(cluster)), ..self }
    }

    /// Whether the event may change which task runs next, or concerns a worker.
    #[must_use]
    pub const fn concerns(recorded: &Recorded) -> bool {
        match recorded.event {
            LogEvent::Task(_) | LogEvent::Queue(_) => true,
            LogEvent::Bell(_) | LogEvent::Schedule(_) => false,
        }
    }

    /// Builds the tables anew from the views: when the actor starts, and when it has missed events because it was too slow.
    ///
    /// Leases that are in the table keep their deadlines. Other leases, from before a restart, get fresh ones. The workers of
    /// attempts that have ended meanwhile get the directive `lost`, which has no effect if the worker itself ended the attempt.
    fn rebuild(&mut self) {
        let (snapshot, queues, leases, local) = {
            let views = self.reader.views();
            let leases = ended_attempts(&views, self.leases.attempts());
            (
                views.snapshot(),
                views.paused_queues().clone(),
                leases,
                ended_attempts(&views, self.in_flight.executing()),
            )
        };
        self.position = snapshot.position();
        self.in_flight.forget_reservations();
        {
            let mut queue = self.capacity.reset_run_queue();
            queue.pause_all(&queues);
            for row in snapshot.matching(&Filter::default()) {
                if self.cluster.as_mut().is_some_and(|cluster| cluster.defer_foreign(row)) {
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
        for (task, _) in local {
            self.send_local_directive(task, Directive::Lost);
        }
        self.track_active_attempts(&snapshot);
        for row in snapshot.matching(&Filter::default()).filter(|row| row.status().is_active()) {
            self.restore_lease(row, now);
        }
    }

    /// Restores the lease of an active attempt outside the process, and sends the directive of its cancel's current rung.
    fn restore_lease(&mut self, row: &Row, now: Instant) {
        if let (Some(worker), Some(secret_hash)) = (row.worker(), row.lease_hash())
            && !worker.starts_with(LOCAL_WORKER_PREFIX)
        {
            let ttl = self.policies.lease(row.kind());
            let deadline = if self.cluster.is_some() { now } else { now + ttl };
            let grant = NewLease {
                attempt: row.attempt(),
                worker: worker.into(),
                secret_hash: secret_hash.into(),
                ttl,
                deadline,
            };
            self.leases.grant(row.id(), grant, now);
        }
        if let Some(cancel) = row.cancel() {
            self.send_directive(
                row.id(),
                if cancel.rung == Rung::Ask { Directive::Cancel } else { Directive::Interrupt },
            );
        }
    }

    /// Starts as many tasks as the limits allow and the workers accept.
    fn start_ready(&mut self, ctx: &mut Context<Self>) {
        if !self.is_paused {
            self.start_local(ctx);
            self.start_remote(ctx);
            while self.admit_foreign() {
                self.start_local(ctx);
                self.start_remote(ctx);
            }
        }
        self.publish_slots();
    }

    /// Sends the starts of these tasks for this worker. `then` is called with the answers, in the same order.
    fn start(
        &self,
        worker: &str,
        tasks: Vec<TaskId>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Vec<(PendingStart, Result<Receipt, ExecuteError>)>, &mut Context<Self>) + 'static,
    ) {
        let sent = Instant::now();
        let start = |task| PendingStart { task, secret: Uuid::new_v4().simple().to_string(), sent };
        let starts: Vec<PendingStart> = tasks.into_iter().map(start).collect();
        let command = |start: &PendingStart| {
            system_command(start.task, Command::Start { worker: worker.to_owned(), lease_hash: start.secret_hash() })
        };
        let commands = starts.iter().map(command).collect();
        let registry = self.registry.clone();
        let started = async move { registry.execute_many(commands).await };
        ctx.spawn(started.into_actor(self).map(move |answers, this, ctx| {
            then(this, starts.into_iter().zip(answers).collect(), ctx);
        }));
    }

    /// Handles a start that failed. If the rules refused it, the task has changed, and that event arrives here later. If it could
    /// not be written, it is tried again after a pause.
    fn not_started(&mut self, start: &PendingStart, error: &ExecuteError, ctx: &mut Context<Self>) {
        let task = start.task;
        let mut queue = self.capacity.run_queue();
        match error {
            ExecuteError::Rejected(_) => return self.in_flight.start_refused(&mut queue, task),
            ExecuteError::Read(ReadError::Damaged(_) | ReadError::Unknown { .. }) => {
                // If this task stayed in the queue, it would block the tasks after it.
                tracing::error!(%task, %error, "a task can't be read; it is not started by this process");
                return self.in_flight.start_refused(&mut queue, task);
            }
            ExecuteError::Read(ReadError::Unavailable(_)) | ExecuteError::Append(_) | ExecuteError::Busy(_) => {}
        }
        tracing::warn!(%task, %error, "a task could not be started; trying again");
        self.in_flight.start_not_written(&mut queue, task);
        drop(queue);
        if matches!(error, ExecuteError::Append(AppendError::Unknown(_))) {
            self.take_back(start, ctx);
        }
        // One pause, however many starts have failed.
        if !std::mem::replace(&mut self.is_paused, true) {
            ctx.run_later(self.back_off.next_pause(), |this, ctx| {
                this.is_paused = false;
                this.start_ready(ctx);
            });
        }
    }

    /// Applies a batch of events to the run queue, and then notifies the workers that execute the tasks.
    fn apply(&mut self, committed: &Committed) {
        let position = self.position;
        {
            let mut queue = self.capacity.run_queue();
            for change in committed.changes.iter().filter(|change| change.after.position() > position) {
                if self.cluster.as_mut().is_some_and(|cluster| cluster.defer_foreign(&change.after)) {
                    self.in_flight.apply_change_deferred(&mut queue, change.before.as_ref(), &change.after);
                } else {
                    self.in_flight.apply_change(&mut queue, change.before.as_ref(), &change.after);
                }
            }
        }
        for recorded in committed.events.iter().filter(|recorded| recorded.position > position) {
            match (recorded.stream.subject(), &recorded.event) {
                (Some(StreamSubject::Queue(queue)), LogEvent::Queue(event)) => {
                    self.capacity.run_queue().apply_queue_event(queue, event);
                }
                (Some(StreamSubject::Task(id)), LogEvent::Task(event)) => self.notify_worker(id, event),
                _ => {}
            }
            self.position = recorded.position;
        }
    }

    /// Sends the directive that follows from the event to the worker that executes the task, if there is one.
    fn notify_worker(&mut self, id: TaskId, event: &Event) {
        match event {
            Event::CancelRequested(_) => self.send_directive(id, Directive::Cancel),
            Event::CancelEscalated(step) if step.rung == Rung::Interrupt => {
                self.send_directive(id, Directive::Interrupt);
            }
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

    fn send_directive(&mut self, id: TaskId, directive: Directive) {
        self.send_local_directive(id, directive);
        self.leases.send_directive(id, directive, Instant::now());
    }

    /// Handles the end of an attempt. If it was not its worker that ended it (`is_lost`), the worker gets the directive `lost`.
    fn end_attempt(&mut self, id: TaskId, attempt: u32, is_lost: bool) {
        self.untrack_attempt((id, attempt));
        if is_lost {
            self.send_local_directive(id, Directive::Lost);
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

/// The attempts among these that have ended, as the views show. An attempt that the views don't show yet has not ended.
fn ended_attempts(views: &Views, attempts: impl IntoIterator<Item = (TaskId, u32)>) -> Vec<(TaskId, u32)> {
    let is_over =
        |row: &Row, attempt| row.attempt() > attempt || (row.attempt() == attempt && !row.status().is_active());
    let attempts = attempts.into_iter();
    attempts.filter(|(task, attempt)| views.get(*task).is_some_and(|row| is_over(row, *attempt))).collect()
}

/// A command from the server itself, not from a client or a worker.
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
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        self.rebuild();
        self.reset_timers(ctx);
        self.begin_records(ctx);
    }
}

impl Handler<LocalOffer> for Dispatcher {
    type Result = ();

    fn handle(&mut self, offer: LocalOffer, ctx: &mut Context<Self>) {
        // On a cluster the local workers of other servers may be alive. The servers' records show which attempts are lost.
        let is_alone = self.cluster.is_none();
        let lost = self.local.set_offer(offer, is_alone.then_some(&self.reader));
        self.execute_until_written(lost, ctx);
        self.start_ready(ctx);
    }
}

impl Handler<AttemptStopped> for Dispatcher {
    type Result = ();

    fn handle(&mut self, stopped: AttemptStopped, ctx: &mut Context<Self>) {
        self.in_flight.code_stopped(&mut self.capacity.run_queue(), stopped.task);
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

impl Handler<DrainWorkers> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: DrainWorkers, _: &mut Context<Self>) {
        self.is_stopping = true;
        self.leases.drain(Instant::now());
        self.waiting_takes.drain(..).for_each(WaitingTake::answer_empty);
    }
}

impl Handler<Stop> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
