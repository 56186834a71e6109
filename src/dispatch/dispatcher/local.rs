//! The worker inside the process: its attempts and their directives.

use actix::Context;

use crate::dispatch::directive::Directive;
use crate::dispatch::in_flight::Executor;
use crate::dispatch::messages::{Assign, Direct, Offer};
use crate::projection::reader::ViewsReader;
use crate::projection::replay::BULK_CANCEL;
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::task::event::TaskError;
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::{Command, TaskId};
use crate::views::WorkOffer;

use super::{Dispatcher, Start, system_command};

/// The worker inside the process, as the dispatcher knows it.
#[derive(Default)]
pub(super) struct LocalWorker {
    offer: Option<Offer>,
    wants: WorkOffer,
}

impl LocalWorker {
    /// Takes over what the worker offers. Where this server has the log for itself (`read`), answers the commands that end the
    /// attempts of a former process: their code has ended with it.
    pub(super) fn offered(&mut self, offer: Offer, read: Option<&ViewsReader>) -> Vec<Execute> {
        let lost = read.map(|read| lost_with_a_former_process(&offer.worker, read)).unwrap_or_default();
        self.wants = WorkOffer { kinds: Some(offer.kinds.clone()), queues: None };
        self.offer = Some(offer);
        lost
    }

    /// What may be started now, and where. A bulk cancel must not wait behind the very work that it is to stop: where all
    /// slots are taken, one is executed beside them.
    fn room(&self, in_slots: usize, beside_slots: usize) -> Option<(WorkOffer, Executor)> {
        let slots = self.offer.as_ref()?.slots;
        if in_slots < slots {
            return Some((self.wants.clone(), Executor::Slot));
        }
        let own = WorkOffer { kinds: Some(vec![BULK_CANCEL.to_owned()]), queues: None };
        (slots > 0 && beside_slots == 0).then_some((own, Executor::BesideSlots))
    }

    fn slots(&self) -> usize {
        self.offer.as_ref().map_or(0, |offer| offer.slots)
    }

    fn assign(&self, task: TaskId, receipt: Receipt, directives: Vec<Directive>) {
        let Some(offer) = &self.offer else { return };
        let attempt = receipt.task.attempt;
        offer.assign.do_send(Assign { task, attempt, created: receipt.task.created });
        for directive in directives {
            self.direct(task, attempt, directive);
        }
    }

    fn direct(&self, task: TaskId, attempt: u32, directive: Directive) {
        if let Some(offer) = &self.offer {
            offer.direct.do_send(Direct { task, attempt, directive });
        }
    }
}

fn lost_with_a_former_process(worker: &str, read: &ViewsReader) -> Vec<Execute> {
    let error = TaskError {
        code: "server_restarted".to_owned(),
        message: "the server was restarted while the attempt ran".to_owned(),
    };
    let views = read.views();
    let is_former = |former: &str| former.starts_with(LOCAL_WORKER_PREFIX) && former != worker;
    let active = views.rows().filter(|row| row.status().is_active());
    let lost = active.filter(|row| row.worker().is_some_and(is_former)).map(|row| {
        let command = Command::LoseAttempt { attempt: row.attempt(), error: error.clone(), progress: None };
        system_command(row.id(), command)
    });
    let lost: Vec<Execute> = lost.collect();
    if !lost.is_empty() {
        tracing::info!(attempts = lost.len(), "attempts were cut off by the restart");
    }
    lost
}

impl Dispatcher {
    /// Starts what the worker inside the process has room for.
    pub(super) fn start_here(&mut self, ctx: &mut Context<Self>) {
        let Some(worker) = self.local.offer.as_ref().map(|offer| offer.worker.clone()) else { return };
        let mut tasks = Vec::new();
        while let Some((wants, executor)) = self.local.room(self.in_flight.in_slots(), self.in_flight.beside_slots()) {
            let Some(task) = self.in_flight.take(&mut self.capacity.pending(), &wants, executor) else { break };
            tasks.push(task);
        }
        if !tasks.is_empty() {
            self.start(&worker, tasks, ctx, Self::started_here);
        }
    }

    fn started_here(&mut self, answers: Vec<(Start, Result<Receipt, ExecuteError>)>, ctx: &mut Context<Self>) {
        for (Start { task, sent, .. }, answer) in answers {
            match answer {
                Ok(receipt) => {
                    self.begin_local((task, receipt.task.attempt), &receipt.task.created.kind, sent);
                    let directives = self.in_flight.started_here(task, receipt.task.attempt);
                    self.local.assign(task, receipt, directives);
                }
                Err(error) => self.not_started(task, &error, ctx),
            }
        }
        self.start_ready(ctx);
    }

    /// Sends the directive to the task's attempt in this process, if there is one.
    pub(super) fn direct_here(&mut self, task: TaskId, directive: Directive) {
        if let Some(attempt) = self.in_flight.direct(task, directive) {
            self.local.direct(task, attempt, directive);
        }
    }

    /// How many slots of the worker inside the process are free.
    pub(super) fn free_slots(&self) -> usize {
        self.local.slots().saturating_sub(self.in_flight.in_slots())
    }

    /// Publishes what the worker inside the process takes, and how many of its slots are free.
    pub(super) fn publish_slots(&self) {
        self.capacity.offer_local(&self.local.wants, self.free_slots());
    }
}
