//! What runs next, when, and who tells it to stop.
//!
//! It holds no truth: what waits is in the pending view, what runs is in the log. Its own table says only which attempts
//! this process executes; an attempt leaves it when none of its code runs any more.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::store::{LogEvent, Meta, StreamOf, Via, new_id, now};
use crate::task::event::{CancelPolicy, Rung, TaskError};
use crate::task::{Command, Event, TaskId};
use crate::views::{Row, Waiting};

use super::history::BULK_CANCEL;
use super::messages::{Assign, Direct, Directive, Execute, ExecuteError, Offer, Receipt, Stop, Stopped};
use super::projector::Committed;
use super::read::ReadSide;
use super::registry::Registry;

/// After trouble with the log the dispatcher tries again so much later.
const PAUSE: Duration = Duration::from_secs(1);
/// Tasks that become ready at once, before people's commands get their turn.
const DUE_CHUNK: usize = 200;
/// The longest that a timer sleeps before it looks again.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Workers inside a process are called so.
const LOCAL: &str = "local/";

/// Who could take a queued task, as far as this process knows.
#[derive(Debug, Default)]
pub struct Capacity {
    kinds: OnceLock<HashSet<String>>,
    free: AtomicUsize,
}

impl Capacity {
    /// What the task waits for while it is queued.
    #[must_use]
    pub fn waiting(&self, row: &Row) -> Waiting {
        if !self.kinds.get().is_some_and(|kinds| kinds.contains(row.kind())) {
            return Waiting::Worker;
        }
        if self.free.load(Ordering::Relaxed) == 0 { Waiting::Limit } else { Waiting::Soon }
    }
}

/// An attempt that this process executes.
#[derive(Debug, Default)]
struct Held {
    /// Its number; none while its `Started` is on the way.
    attempt: Option<u32>,
    /// What came for it before it was handed over.
    early: Vec<Directive>,
    /// The ladder of the request to cancel it.
    policy: CancelPolicy,
    /// It runs beside the slots.
    beside: bool,
}

/// The dispatcher; see the module.
pub struct Dispatcher {
    registry: Registry,
    read: ReadSide,
    capacity: Arc<Capacity>,
    /// The worker inside the process.
    offer: Option<Offer>,
    held: HashMap<TaskId, Held>,
    /// Tasks whose start was refused: the view is behind, so they are left until it moves.
    refused: HashSet<TaskId>,
    timer: Option<SpawnHandle>,
    /// Due tasks are being queued.
    queueing: bool,
    /// The log could not take a start: nothing is started before the pause is over.
    pausing: bool,
}

impl Dispatcher {
    /// A dispatcher that nobody works for yet.
    #[must_use]
    pub fn new(registry: Registry, read: ReadSide, capacity: Arc<Capacity>) -> Self {
        Self {
            registry,
            read,
            capacity,
            offer: None,
            held: HashMap::new(),
            refused: HashSet::new(),
            timer: None,
            queueing: false,
            pausing: false,
        }
    }

    /// Starts what may run, up to the worker's slots. All starts are sent at once; none is awaited before the next.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        let Some(offer) = self.offer.clone().filter(|_| !self.pausing) else { return };
        while let Some((id, beside)) = self.next(&offer) {
            self.held.insert(id, Held { beside, ..Held::default() });
            let lease = blake3::hash(Uuid::new_v4().as_bytes()).to_hex().to_string();
            let command = Command::Start { worker: offer.worker.clone(), lease };
            let ask = self.registry.clone();
            let started = async move { ask.execute(system(id, command)).await };
            ctx.spawn(started.into_actor(self).map(move |answer, this, ctx| this.started_task(id, answer, ctx)));
        }
        self.count_free();
    }

    /// What may start now, and whether it runs beside the slots. A bulk cancel must not wait behind the very work that it
    /// is to stop: where all slots are taken, one runs beside them.
    fn next(&self, offer: &Offer) -> Option<(TaskId, bool)> {
        let skip = |id: TaskId| self.held.contains_key(&id) || self.refused.contains(&id);
        let views = self.read.views();
        let taken = self.taken();
        if taken < offer.slots {
            return views.pending().next_of(&offer.kinds, skip).map(|id| (id, false));
        }
        let room = offer.slots > 0 && taken == self.held.len();
        views.pending().next(BULK_CANCEL, skip).filter(|_| room).map(|id| (id, true))
    }

    fn taken(&self) -> usize {
        self.held.values().filter(|held| !held.beside).count()
    }

    fn count_free(&self) {
        let slots = self.offer.as_ref().map_or(0, |offer| offer.slots);
        self.capacity.free.store(slots.saturating_sub(self.taken()), Ordering::Relaxed);
    }

    fn started_task(&mut self, id: TaskId, answer: Result<Receipt, ExecuteError>, ctx: &mut Context<Self>) {
        let receipt = match answer {
            Ok(receipt) => receipt,
            Err(error) => {
                self.held.remove(&id);
                if let ExecuteError::Rejected(_) = error {
                    self.refused.insert(id);
                    self.pump(ctx);
                } else {
                    tracing::warn!(%id, %error, "a task could not be started; trying again");
                    self.count_free();
                    self.pause(ctx);
                }
                return;
            }
        };
        let Some(offer) = &self.offer else { return };
        let attempt = receipt.task.attempt;
        offer.assign.do_send(Assign { task: id, attempt, created: receipt.task.created });
        if let Some(held) = self.held.get_mut(&id) {
            held.attempt = Some(attempt);
            let early = std::mem::take(&mut held.early);
            for directive in &early {
                offer.direct.do_send(Direct { task: id, attempt, directive: *directive });
            }
            if early.contains(&Directive::Cancel) {
                self.climb_later(id, Rung::Interrupt, ctx);
            }
        }
    }

    /// One pause for however many starts have failed.
    fn pause(&mut self, ctx: &mut Context<Self>) {
        if !self.pausing {
            self.pausing = true;
            ctx.run_later(PAUSE, |this, ctx| {
                this.pausing = false;
                this.pump(ctx);
            });
        }
    }

    /// Tells the attempt that this process executes; nothing where it executes none.
    fn direct(&mut self, id: TaskId, directive: Directive) {
        let (Some(offer), Some(held)) = (&self.offer, self.held.get_mut(&id)) else { return };
        match held.attempt {
            Some(attempt) => offer.direct.do_send(Direct { task: id, attempt, directive }),
            None => held.early.push(directive),
        }
    }

    fn hear(&mut self, id: TaskId, event: &Event, ctx: &mut Context<Self>) {
        match event {
            Event::CancelRequested(request) => {
                if let Some(held) = self.held.get_mut(&id) {
                    held.policy = request.policy;
                }
                self.direct(id, Directive::Cancel);
                self.climb_later(id, Rung::Interrupt, ctx);
            }
            Event::CancelEscalated(step) => {
                if step.rung == Rung::Interrupt {
                    self.direct(id, Directive::Interrupt);
                    self.climb_later(id, Rung::Revoke, ctx);
                }
            }
            // Somebody else ended the attempt: its code is to stop, and its word doesn't count any more.
            Event::Completed(completed) if completed.forced => self.direct(id, Directive::Lost),
            Event::Created(_)
            | Event::Queued(_)
            | Event::Started(_)
            | Event::CancelAcknowledged(_)
            | Event::AttemptFailed(_)
            | Event::Released(_)
            | Event::OutputKept(_)
            | Event::Completed(_)
            | Event::Retried(_) => {}
        }
    }

    /// Sets the timer of the ladder's next rung, for the attempt that runs now; none: this rung is for ever.
    fn climb_later(&self, id: TaskId, rung: Rung, ctx: &mut Context<Self>) {
        let Some(Held { attempt: Some(attempt), policy, .. }) = self.held.get(&id) else { return };
        let after_ms = match rung {
            Rung::Ask => return,
            Rung::Interrupt => policy.ask_for_ms,
            Rung::Revoke => policy.interrupt_for_ms,
        };
        let Some(after) = after_ms.map(Duration::from_millis) else { return };
        let attempt = *attempt;
        ctx.run_later(after, move |this, ctx| {
            let reason = Some(format!("not stopped after {} ms", after.as_millis()));
            this.insist(vec![system(id, Command::Escalate { rung, reason, attempt: Some(attempt) })], ctx);
        });
    }

    /// Commands that must not be lost: what the log could not take now is tried again.
    fn insist(&self, asks: Vec<Execute>, ctx: &mut Context<Self>) {
        let registry = self.registry.clone();
        let sent = join_all(asks.into_iter().map(move |ask| {
            let registry = registry.clone();
            async move { (ask.clone(), registry.execute(ask).await) }
        }));
        ctx.spawn(sent.into_actor(self).map(|answers, _, ctx| {
            let again: Vec<Execute> = answers.into_iter().filter_map(|(ask, answer)| retry(ask, answer)).collect();
            if !again.is_empty() {
                ctx.run_later(PAUSE, move |this, ctx| this.insist(again, ctx));
            }
        }));
    }

    /// Ends the attempts that a former process of this server left running: their code is gone with it.
    fn recover(&self, ctx: &mut Context<Self>) {
        let Some(offer) = &self.offer else { return };
        let error = TaskError {
            code: "server_restarted".to_owned(),
            message: "the server was restarted while the attempt ran".to_owned(),
        };
        let views = self.read.views();
        let lost: Vec<Execute> = views
            .pending()
            .active()
            .filter(|(_, _, worker, _)| worker.starts_with(LOCAL) && **worker != *offer.worker)
            .map(|(task, attempt, _, _)| {
                system(task, Command::LoseAttempt { attempt, error: error.clone(), progress: None })
            })
            .collect();
        drop(views);
        if !lost.is_empty() {
            tracing::info!(attempts = lost.len(), "attempts were cut off by the restart");
            self.insist(lost, ctx);
        }
    }

    /// Sets the timer to the next task that waits for its time.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        if self.queueing {
            return;
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let due = self.read.views().pending().next_due();
        if let Some(due) = due {
            let wait = due.since(now()).min(LOOK_AGAIN);
            self.timer = Some(ctx.run_later(wait, Self::queue_due));
        }
    }

    fn queue_due(&mut self, ctx: &mut Context<Self>) {
        self.timer = None;
        let due = self.read.views().pending().due(now(), DUE_CHUNK);
        if due.is_empty() {
            return self.arm(ctx);
        }
        self.queueing = true;
        let registry = self.registry.clone();
        let read = self.read.clone();
        let queued = async move {
            let asks = due.into_iter().map(|(id, reason)| {
                let registry = registry.clone();
                async move { (id, registry.execute(system(id, Command::Enqueue { reason })).await) }
            });
            let mut failed = false;
            for (id, answer) in join_all(asks).await {
                match answer {
                    Ok(receipt) => _ = read.shows(id, receipt.revision).await,
                    Err(error) => failed |= !matches!(error, ExecuteError::Rejected(_)),
                }
            }
            if failed {
                actix_rt::time::sleep(PAUSE).await;
            }
        };
        ctx.spawn(queued.into_actor(self).map(|(), this, ctx| {
            this.queueing = false;
            this.arm(ctx);
        }));
    }
}

/// The same command again, where the log could not take it.
fn retry(ask: Execute, answer: Result<Receipt, ExecuteError>) -> Option<Execute> {
    match answer {
        Ok(_) | Err(ExecuteError::Rejected(_)) => None,
        Err(error) => {
            tracing::warn!(id = %ask.task, %error, "a command could not be recorded; trying again");
            Some(Execute { at: now(), ..ask })
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
    }
}

impl Handler<Offer> for Dispatcher {
    type Result = ();

    fn handle(&mut self, offer: Offer, ctx: &mut Context<Self>) {
        let _ = self.capacity.kinds.set(offer.kinds.iter().cloned().collect());
        self.offer = Some(offer);
        self.recover(ctx);
        self.pump(ctx);
    }
}

impl Handler<Stopped> for Dispatcher {
    type Result = ();

    fn handle(&mut self, stopped: Stopped, ctx: &mut Context<Self>) {
        self.held.remove(&stopped.task);
        self.pump(ctx);
    }
}

impl Handler<Committed> for Dispatcher {
    type Result = ();

    fn handle(&mut self, committed: Committed, ctx: &mut Context<Self>) {
        self.refused.clear();
        for recorded in committed.events.iter() {
            match (recorded.stream.of(), &recorded.event) {
                (Some(StreamOf::Task(id)), LogEvent::Task(event)) => self.hear(id, event, ctx),
                _ => {}
            }
        }
        self.pump(ctx);
        self.arm(ctx);
    }
}

impl Handler<Stop> for Dispatcher {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
