//! Starts attempts, and sends their workers directives.
//!
//! The log says which tasks wait and which run. The dispatcher's tables are computed from it: they are built anew from the
//! views when the actor starts, and when the actor has missed events because it was too slow. Workers inside and outside the
//! process get the same tasks and directives. `local` sends them as messages, `remote` sends them as answers to requests that
//! wait. `timers` sends the commands that are due at a time. `rebuild` builds the tables from the views. `cluster` has the
//! parts that only a server of a cluster needs.
//!
//! The steps of a start: [`InFlight`] takes a task from the run queue; the dispatcher sends `Command::Start` to the task's
//! actor; when the event is durable, the worker gets the attempt. All starts for one worker are sent in one batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use uuid::Uuid;

mod cluster;
mod local;
mod rebuild;
mod remote;
mod timers;

use crate::projection::reader::ViewsReader;
use crate::projection::stop::Stop;
use crate::projection::subscribers::{Committed, Update};
use crate::repeats::Repeats;
use crate::secret::Secret;
use crate::store::{AppendError, EventStore, LogEvent, Meta, ReadError, Recorded, StreamSubject, Via, new_id, now};
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;
use crate::task::backoff::BackOff;
use crate::task::event::{Rung, is_system_error};
use crate::task::{Command, Event, Position, TaskId};

use super::directive::Directive;
use super::in_flight::InFlight;
use super::lease_table::LeaseTable;
use super::messages::{AttemptStopped, DrainWorkers, LocalOffer};
use super::policies::KindPolicies;
use super::queue_and_offers::QueueAndOffers;
use super::shares::Shares;
use super::task_timers::TaskTimers;

use cluster::Cluster;
use local::LocalWorkerLink;
use remote::WaitingLeaseRequest;
use timers::Timers;

/// The pauses after a failed write. They are short enough that all work goes on within 5 s after the log can be written again.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3));

/// The maximum number of messages in the dispatcher's mailbox. Further senders wait.
const MAILBOX_CAPACITY: usize = 1024;

/// The dispatcher; see the module.
pub struct Dispatcher {
    registry: Registry,
    reader: ViewsReader,
    queue_and_offers: Arc<QueueAndOffers>,
    policies: Arc<KindPolicies>,
    /// The tables include all events up to this position.
    position: Position,
    in_flight: InFlight,
    local: LocalWorkerLink,
    leases: LeaseTable,
    /// The requests for leases that wait. The one that has waited for the longest time is first.
    waiting_lease_requests: Vec<WaitingLeaseRequest>,
    task_timers: TaskTimers,
    timers: Timers,
    back_off: BackOff,
    /// The commands that could not be recorded.
    unrecorded: Repeats,
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
    secret: Secret,
    sent: Instant,
}

impl Dispatcher {
    /// A dispatcher that builds its tables from the views when its actor starts.
    #[must_use]
    pub fn new(
        registry: Registry,
        reader: ViewsReader,
        queue_and_offers: Arc<QueueAndOffers>,
        policies: Arc<KindPolicies>,
    ) -> Self {
        Self {
            registry,
            reader,
            queue_and_offers,
            policies,
            position: Position(0),
            in_flight: InFlight::default(),
            local: LocalWorkerLink::default(),
            leases: LeaseTable::default(),
            waiting_lease_requests: Vec::new(),
            task_timers: TaskTimers::default(),
            timers: Timers::default(),
            back_off: BACK_OFF,
            unrecorded: Repeats::new(),
            is_paused: false,
            is_stopping: false,
            cluster: None,
        }
    }

    /// Adds what a server of a cluster needs. The dispatcher keeps the live servers in `shares` up to date.
    #[must_use]
    pub fn on_cluster(self, store: EventStore, shares: Shares) -> Self {
        let cluster = Cluster::new(store, shares, self.policies.shortest_lease_time());
        Self { leases: LeaseTable::on_cluster(), cluster: Some(Box::new(cluster)), ..self }
    }

    /// Whether the event may change which task runs next, or concerns a worker.
    #[must_use]
    pub const fn concerns(recorded: &Recorded) -> bool {
        match recorded.fact.event {
            LogEvent::Task(_) | LogEvent::Queue(_) => true,
            LogEvent::Bell(_) | LogEvent::Schedule(_) | LogEvent::Token(_) | LogEvent::Session(_) => false,
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

    /// Sends the starts of these tasks for this worker. The actor is the authenticated subject whose request starts them. `then` is called with the answers, in the same order.
    fn start(
        &self,
        (worker, actor): (&str, Option<&str>),
        tasks: Vec<TaskId>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Vec<(PendingStart, Result<Receipt, ExecuteError>)>, &mut Context<Self>) + 'static,
    ) {
        let sent = Instant::now();
        let start = |task| PendingStart { task, secret: Uuid::new_v4().simple().to_string().into(), sent };
        let starts: Vec<PendingStart> = tasks.into_iter().map(start).collect();
        let command = |start: &PendingStart| {
            let command = Command::Start { worker: worker.to_owned(), lease_hash: start.secret_hash() };
            with_actor(system_command(start.task, command), actor)
        };
        let commands = starts.iter().map(command).collect();
        let registry = self.registry.clone();
        let started = async move { registry.execute_many(commands).await };
        ctx.spawn(started.into_actor(self).map(move |answers, this, ctx| {
            then(this, starts.into_iter().zip(answers).collect(), ctx);
        }));
    }

    /// Handles a start that failed. If the rules refused it, the task has changed, and that event arrives here later. If it
    /// could not be written, it is tried again after a pause.
    fn handle_failed_start(&mut self, start: &PendingStart, error: &ExecuteError, ctx: &mut Context<Self>) {
        let task = start.task;
        let mut queue = self.queue_and_offers.run_queue();
        match error {
            ExecuteError::Rejected(_) => return self.in_flight.drop_refused_start(&mut queue, task),
            ExecuteError::Read(ReadError::Damaged(_) | ReadError::Unknown { .. }) => {
                // If this task stayed in the queue, it would block the tasks after it.
                tracing::error!(%task, %error, "a task can't be read; it is not started by this process");
                return self.in_flight.drop_refused_start(&mut queue, task);
            }
            ExecuteError::Read(ReadError::Unavailable(_)) | ExecuteError::Append(_) | ExecuteError::Busy(_) => {}
        }
        if let Some(times) = self.unrecorded.occurred(Instant::now()) {
            tracing::warn!(%task, %error, times, "a task could not be started; trying again");
        }
        self.in_flight.requeue_start(&mut queue, task);
        drop(queue);
        if matches!(error, ExecuteError::Append(AppendError::Unknown(_))) {
            self.release_unknown_start(start, ctx);
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
        let (position, arrived) = (self.position, Instant::now());
        {
            let mut events = committed.events.iter();
            let mut queue = self.queue_and_offers.run_queue();
            for change in committed.changes.iter().filter(|change| change.after.position() > position) {
                let event = events.by_ref().find(|event| event.position == change.after.position());
                let at = event.map_or_else(now, |event| event.time);
                self.task_timers.apply_change(change.before.as_ref(), &change.after, at, arrived);
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
                    self.queue_and_offers.run_queue().apply_queue_event(queue, event);
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
                // A revoke, the last rung of a cancel, leads to a `Completed` that is forced.
                let is_ended_by_server = completed.forced || completed.error.as_ref().is_some_and(is_system_error);
                self.end_attempt(id, attempt, is_ended_by_server);
            }
            Event::AttemptFailed(failed) => {
                self.end_attempt(id, failed.attempt, is_system_error(&failed.error));
            }
            Event::Released(released) => self.end_attempt(id, released.attempt, false),
            Event::Started(started) => self.add_lease_of_event(id, started),
            Event::Retried(_) => self.in_flight.drop_directives(id),
            // A `CancelEscalated` to the rung `revoke` is followed by `Completed`, which is handled above.
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

    /// Handles the end of an attempt. If the server ended it (after a lost worker, a timeout or a revoke), the worker gets the
    /// directive `lost`.
    fn end_attempt(&mut self, id: TaskId, attempt: u32, is_ended_by_server: bool) {
        self.untrack_attempt((id, attempt));
        if is_ended_by_server {
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

/// A command from the server itself, not from a client or a worker.
fn system_command(task: TaskId, command: Command) -> Execute {
    let meta = Meta {
        actor: "system".to_owned(),
        via: Via::Server,
        correlation_id: new_id(),
        causation_id: None,
        request_id: None,
    };
    Execute { task, command, at: now(), meta }
}

/// The command as one of this authenticated worker.
fn with_actor(command: Execute, actor: Option<&str>) -> Execute {
    let Some(actor) = actor else { return command };
    Execute { meta: Meta { actor: actor.to_owned(), via: Via::Worker, ..command.meta }, ..command }
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        self.rebuild(true);
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
        self.in_flight.code_stopped(&mut self.queue_and_offers.run_queue(), stopped.task);
        self.start_ready(ctx);
    }
}

impl Handler<Update> for Dispatcher {
    type Result = ();

    fn handle(&mut self, update: Update, ctx: &mut Context<Self>) {
        match update {
            Update::Committed(committed) => self.apply(&committed),
            Update::Missed => self.rebuild(false),
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
        self.waiting_lease_requests.drain(..).for_each(|waiting| waiting.answer_empty(false));
    }
}

impl Handler<Stop> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
