//! The dispatcher's side of the worker inside the process: its attempts and their directives.

use actix::Context;

use crate::dispatch::directive::Directive;
use crate::dispatch::in_flight::Executor;
use crate::dispatch::messages::{Assign, AttemptDirective, LocalOffer};
use crate::projection::bulk_cancel::BULK_CANCEL;
use crate::projection::reader::ViewsReader;
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::task::event::TaskError;
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::{Command, TaskId};
use crate::views::WorkOffer;

use super::{Dispatcher, PendingStart, system_command};

/// What the worker inside the process offers, and how it is reached.
#[derive(Default)]
pub(super) struct LocalWorkerLink {
    offer: Option<LocalOffer>,
    work_offer: WorkOffer,
}

impl LocalWorkerLink {
    /// Replaces the worker's offer. Pass `reader` unless other servers share the log. With `reader`, this returns the commands
    /// that end the attempts of the server's former process, because their code ended with that process.
    pub(super) fn set_offer(&mut self, offer: LocalOffer, reader: Option<&ViewsReader>) -> Vec<Execute> {
        let lost = reader.map(|reader| lost_with_former_process(&offer.worker, reader)).unwrap_or_default();
        self.work_offer = WorkOffer { kinds: Some(offer.kinds.clone()), queues: None };
        self.offer = Some(offer);
        lost
    }

    /// Where the next task can be executed, and which tasks are accepted there. None if there is no room.
    ///
    /// A bulk cancel must not wait for the tasks that it cancels. Therefore one bulk cancel may be executed in addition to the
    /// slots when all slots are in use.
    fn next_executor(&self, slots_in_use: usize, extra_in_use: usize) -> Option<(WorkOffer, Executor)> {
        let slots = self.offer.as_ref()?.slots;
        if slots_in_use < slots {
            return Some((self.work_offer.clone(), Executor::LocalSlot));
        }
        let bulk_cancel = WorkOffer { kinds: Some(vec![BULK_CANCEL.to_owned()]), queues: None };
        (slots > 0 && extra_in_use == 0).then_some((bulk_cancel, Executor::LocalExtra))
    }

    fn slots(&self) -> usize {
        self.offer.as_ref().map_or(0, |offer| offer.slots)
    }

    fn assign(&self, task: TaskId, receipt: Receipt, directives: Vec<Directive>) {
        let Some(offer) = &self.offer else { return };
        let attempt = receipt.task.attempt;
        offer.assignments.do_send(Assign { task, attempt, created: receipt.task.created });
        for directive in directives {
            self.send_directive(task, attempt, directive);
        }
    }

    fn send_directive(&self, task: TaskId, attempt: u32, directive: Directive) {
        if let Some(offer) = &self.offer {
            offer.directives.do_send(AttemptDirective { task, attempt, directive });
        }
    }
}

/// The commands that end the attempts of local workers other than this one.
fn lost_with_former_process(worker: &str, reader: &ViewsReader) -> Vec<Execute> {
    let error = TaskError {
        code: "server_restarted".to_owned(),
        message: "the server was restarted while the attempt ran".to_owned(),
    };
    let views = reader.views();
    let is_former = |former: &str| former.starts_with(LOCAL_WORKER_PREFIX) && former != worker;
    let active = views.active_rows();
    let lost = active.filter(|row| row.worker().is_some_and(is_former)).map(|row| {
        let command = Command::LoseAttempt { attempt: row.attempt(), error: error.clone(), progress: None };
        system_command(row.id(), command)
    });
    let lost: Vec<Execute> = lost.collect();
    if !lost.is_empty() {
        tracing::info!(attempts = lost.len(), "the restart of the server has ended attempts");
    }
    lost
}

impl Dispatcher {
    /// Starts tasks while the worker inside the process has room.
    pub(super) fn start_local(&mut self, ctx: &mut Context<Self>) {
        let Some(worker) = self.local.offer.as_ref().map(|offer| offer.worker.clone()) else { return };
        let mut tasks = Vec::new();
        while let Some((work_offer, executor)) =
            self.local.next_executor(self.in_flight.slots_in_use(), self.in_flight.extra_in_use())
        {
            let Some(task) = self.in_flight.take(&mut self.queue_and_offers.run_queue(), &work_offer, executor) else {
                break;
            };
            tasks.push(task);
        }
        if !tasks.is_empty() {
            self.start((&worker, None), tasks, ctx, Self::started_local);
        }
    }

    fn started_local(&mut self, answers: Vec<(PendingStart, Result<Receipt, ExecuteError>)>, ctx: &mut Context<Self>) {
        for (start, answer) in answers {
            match answer {
                Ok(receipt) => {
                    let PendingStart { task, sent, .. } = start;
                    self.track_local_lease((task, receipt.task.attempt), &receipt.task.created.kind, sent);
                    let directives = self.in_flight.started_local(task, receipt.task.attempt);
                    self.local.assign(task, receipt, directives);
                }
                Err(error) => self.handle_failed_start(&start, &error, ctx),
            }
        }
        self.start_ready(ctx);
    }

    /// Sends the directive to the attempt of this task in this process, if there is one.
    pub(super) fn send_local_directive(&mut self, task: TaskId, directive: Directive) {
        if let Some(attempt) = self.in_flight.route_directive(task, directive) {
            self.local.send_directive(task, attempt, directive);
        }
    }

    /// The number of free slots of the worker inside the process.
    pub(super) fn free_slots(&self) -> usize {
        self.local.slots().saturating_sub(self.in_flight.slots_in_use())
    }

    /// Publishes the offer of the worker inside the process, and the number of its free slots.
    pub(super) fn publish_slots(&self) {
        self.queue_and_offers.set_local_offer(&self.local.work_offer, self.free_slots());
    }
}
