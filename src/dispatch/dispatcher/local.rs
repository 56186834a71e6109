//! The worker inside the process: which attempts it executes, and what it is told.

use std::collections::{HashMap, HashSet};

use actix::Context;

use crate::task::event::TaskError;
use crate::task::limits::LOCAL_WORKER;
use crate::task::{Command, TaskId};
use crate::views::WorkOffer;

use super::{Dispatcher, Start, system};
use crate::dispatch::messages::{Assign, Direct, Directive, Offer};
use crate::projection::reader::ViewsReader;
use crate::projection::replay::BULK_CANCEL;
use crate::streams::messages::{Execute, ExecuteError, Receipt};

/// The worker inside the process, as the dispatcher knows it.
#[derive(Default)]
pub(super) struct Local {
    offer: Option<Offer>,
    wants: WorkOffer,
    held: HashMap<TaskId, Held>,
    /// Offered to us, but the code of a former attempt still runs here.
    deferred: HashSet<TaskId>,
}

/// An attempt that this process executes. It leaves the table when none of its code runs any more.
#[derive(Debug, Default)]
struct Held {
    /// Its number; none while its `Started` is on the way.
    attempt: Option<u32>,
    /// What came for it before it was handed over.
    early: Vec<Directive>,
    /// It runs beside the slots.
    beside: bool,
}

impl Local {
    /// The worker says what it can do. Answers what ends the attempts that a former process of this server left running:
    /// their code is gone with it.
    pub(super) fn offered(&mut self, offer: Offer, read: &ViewsReader) -> Vec<Execute> {
        let error = TaskError {
            code: "server_restarted".to_owned(),
            message: "the server was restarted while the attempt ran".to_owned(),
        };
        let views = read.views();
        let cut_off = views.rows().filter(|row| row.status().is_active()).filter(|row| {
            row.worker().is_some_and(|worker| worker.starts_with(LOCAL_WORKER) && worker != offer.worker)
        });
        let lost = |attempt| Command::LoseAttempt { attempt, error: error.clone(), progress: None };
        let ends: Vec<Execute> = cut_off.map(|row| system(row.id(), lost(row.attempt()))).collect();
        if !ends.is_empty() {
            tracing::info!(attempts = ends.len(), "attempts were cut off by the restart");
        }
        self.wants = WorkOffer { kinds: Some(offer.kinds.clone()), queues: None };
        self.offer = Some(offer);
        ends
    }

    /// What may be started now, and whether it runs beside the slots. A bulk cancel must not wait behind the very work
    /// that it is to stop: where all slots are taken, one runs beside them.
    fn room(&self) -> Option<(WorkOffer, bool)> {
        let slots = self.offer.as_ref()?.slots;
        if self.taken() < slots {
            return Some((self.wants.clone(), false));
        }
        let beside = slots > 0 && self.taken() == self.held.len();
        beside.then(|| (WorkOffer { kinds: Some(vec![BULK_CANCEL.to_owned()]), queues: None }, true))
    }

    fn taken(&self) -> usize {
        self.held.values().filter(|held| !held.beside).count()
    }

    fn free(&self) -> usize {
        self.offer.as_ref().map_or(0, |offer| offer.slots.saturating_sub(self.taken()))
    }

    /// Whether the code of a former attempt still runs here; then the task waits for that, whoever wants it.
    pub(super) fn defers(&mut self, task: TaskId) -> bool {
        let runs = self.held.contains_key(&task);
        if runs {
            self.deferred.insert(task);
        }
        runs
    }

    /// Another run begins: what came for the one before doesn't count for it.
    pub(super) fn begins_anew(&mut self, task: TaskId) {
        if let Some(held) = self.held.get_mut(&task) {
            held.early.clear();
        }
    }

    /// None of this task's code runs here any more. Whether its next attempt waits for that.
    pub(super) fn stopped(&mut self, task: TaskId) -> bool {
        self.held.remove(&task);
        self.deferred.remove(&task)
    }

    /// Tells the attempt that this process executes; nothing where it executes none.
    pub(super) fn direct(&mut self, task: TaskId, directive: Directive) {
        let (Some(offer), Some(held)) = (&self.offer, self.held.get_mut(&task)) else { return };
        match held.attempt {
            Some(attempt) => offer.direct.do_send(Direct { task, attempt, directive }),
            None => held.early.push(directive),
        }
    }

    /// Hands an attempt over, and what came for it meanwhile.
    fn assign(&mut self, task: TaskId, receipt: Receipt) {
        let (Some(offer), Some(held)) = (&self.offer, self.held.get_mut(&task)) else { return };
        let attempt = receipt.task.attempt;
        offer.assign.do_send(Assign { task, attempt, created: receipt.task.created });
        held.attempt = Some(attempt);
        for directive in std::mem::take(&mut held.early) {
            offer.direct.do_send(Direct { task, attempt, directive });
        }
    }
}

impl Dispatcher {
    pub(super) fn pump_local(&mut self, ctx: &mut Context<Self>) {
        let Some(worker) = self.local.offer.as_ref().map(|offer| offer.worker.clone()) else { return };
        let mut tasks = Vec::new();
        while let Some((wants, beside)) = self.local.room() {
            let Some(task) = self.capacity.pending().offer(&wants) else { break };
            if self.local.defers(task) {
                continue;
            }
            self.local.held.insert(task, Held { beside, ..Held::default() });
            tasks.push(task);
        }
        if !tasks.is_empty() {
            self.start(&worker, tasks, ctx, Self::started_local);
        }
    }

    fn started_local(&mut self, answers: Vec<(Start, Result<Receipt, ExecuteError>)>, ctx: &mut Context<Self>) {
        for ((task, _), answer) in answers {
            match answer {
                Ok(receipt) => self.local.assign(task, receipt),
                Err(error) => {
                    self.local.held.remove(&task);
                    self.not_started(task, &error, ctx);
                }
            }
        }
        self.pump(ctx);
    }

    pub(super) fn count_free(&self) {
        self.capacity.offer_local(&self.local.wants, self.local.free());
    }
}
