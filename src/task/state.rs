//! A task, folded from its events.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::{CancelPolicy, Completed, Created, Event, Outcome, ReleasedReason, Rung, is_verdict_of_the_system};
use super::time::Timestamp;

/// What the checkbox filters offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for `run_at`.
    Scheduled,
    /// Ready, waits for a worker.
    Queued,
    /// A worker holds the lease.
    Running,
    /// Cancel requested while an attempt runs; the code has not stopped yet.
    Cancelling,
    /// The last attempt failed, waits for `retry_at`.
    Retrying,
    /// Final: done.
    Succeeded,
    /// Final: could not be done.
    Failed,
    /// Final: stopped because somebody asked.
    Cancelled,
}

impl Status {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Cancelling,
        Self::Retrying,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its name in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Where a task begins.
    #[must_use]
    pub const fn at_birth(created: &Created) -> Self {
        if created.run_at.is_some() { Self::Scheduled } else { Self::Queued }
    }

    /// Whether the run is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Scheduled | Self::Queued | Self::Running | Self::Cancelling | Self::Retrying => false,
        }
    }

    /// Whether a worker holds the lease.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Cancelling => true,
            Self::Scheduled | Self::Queued | Self::Retrying | Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }

    /// The state table: the status after `event`, or nothing where the table has no such line.
    ///
    /// A request to cancel what doesn't run leaves the status as it is; `Completed` follows in the same append.
    #[must_use]
    pub const fn after(before: Option<Self>, event: &Event) -> Option<Self> {
        use Status::{Cancelled, Cancelling, Failed, Queued, Retrying, Running, Scheduled, Succeeded};
        match (event, before) {
            (Event::Created(created), None) => Some(Self::at_birth(created)),
            (Event::Queued(_), Some(Scheduled | Retrying))
            | (Event::Released(_), Some(Running))
            | (Event::Retried(_), Some(Succeeded | Failed | Cancelled)) => Some(Queued),
            (Event::Started(_), Some(Queued)) => Some(Running),
            (Event::AttemptFailed(_), Some(Running)) => Some(Retrying),
            (Event::CancelRequested(_), Some(Running))
            | (Event::CancelAcknowledged(_) | Event::CancelEscalated(_), Some(Cancelling)) => Some(Cancelling),
            (Event::CancelRequested(_), Some(waiting @ (Scheduled | Queued | Retrying))) => Some(waiting),
            (Event::OutputKept(_), Some(active @ (Running | Cancelling))) => Some(active),
            (Event::Completed(completed), Some(Running | Cancelling)) => Some(match completed.outcome {
                Outcome::Succeeded => Succeeded,
                Outcome::Failed => Failed,
                Outcome::Cancelled => Cancelled,
            }),
            (Event::Completed(Completed { outcome: Outcome::Cancelled, .. }), Some(Scheduled | Queued | Retrying)) => {
                Some(Cancelled)
            }
            (
                Event::Created(_)
                | Event::Queued(_)
                | Event::Started(_)
                | Event::CancelRequested(_)
                | Event::CancelAcknowledged(_)
                | Event::CancelEscalated(_)
                | Event::AttemptFailed(_)
                | Event::Released(_)
                | Event::OutputKept(_)
                | Event::Completed(_)
                | Event::Retried(_),
                _,
            ) => None,
        }
    }
}

/// A request to cancel, as far as the rules need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// The ladder in force.
    pub policy: CancelPolicy,
    /// The highest rung reached.
    pub rung: Rung,
    /// What the worker said that it stops after, if it has answered: `Some(None)` is "at once".
    pub acknowledged: Option<Option<String>>,
    /// How often it has answered.
    pub answers: u32,
}

/// Attempts of which it is remembered how they ended. A report that is repeated later than that is told that its lease is
/// lost, which changes nothing either.
const ENDED_MAX: usize = 100;

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedAttempt {
    /// Its number.
    pub attempt: u32,
    /// Hash of its lease's secret.
    pub lease: Option<String>,
    /// Where the task stood after it.
    pub status: Status,
    /// Whether its worker said so; else somebody else ended it.
    pub by_worker: bool,
}

/// What the rules need to know of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The request, as it was accepted.
    pub created: Arc<Created>,
    /// Where it stands.
    pub status: Status,
    /// Number of the last attempt; 0 where none ran.
    pub attempt: u32,
    /// Attempts of this run that count against `max_attempts`.
    pub attempts_in_run: u32,
    /// Who executes the last attempt.
    pub worker: Option<String>,
    /// Hash of its lease's secret.
    pub lease: Option<String>,
    /// When the next attempt may start, while `retrying`.
    pub retry_at: Option<Timestamp>,
    /// The request to cancel this run.
    pub cancel: Option<Cancel>,
    /// The attempts that are over, oldest first: a report that comes twice is answered twice the same.
    pub ended: Vec<EndedAttempt>,
}

impl Task {
    /// How this attempt ended, if its worker ended it.
    #[must_use]
    pub fn ended_by_its_worker(&self, attempt: u32, lease: &str) -> Option<Status> {
        let ended = self.ended.iter().rfind(|ended| ended.attempt == attempt)?;
        (ended.by_worker && ended.lease.as_deref() == Some(lease)).then_some(ended.status)
    }

    fn complete(&mut self, completed: &Completed) {
        self.retry_at = None;
        if completed.attempt.is_some() {
            let error = completed.error.as_ref();
            self.end_attempt(!completed.forced && !error.is_some_and(is_verdict_of_the_system));
        }
    }

    /// The present attempt is over.
    fn end_attempt(&mut self, by_worker: bool) {
        let (attempt, lease, status) = (self.attempt, self.lease.clone(), self.status);
        if self.ended.len() >= ENDED_MAX {
            self.ended.remove(0);
        }
        self.ended.push(EndedAttempt { attempt, lease, status, by_worker });
    }
}

/// The state after one more event. Total: an event that the table doesn't have changes nothing but what it names,
/// because history is not argued with.
#[must_use]
pub fn evolve(state: Option<Task>, event: &Event) -> Option<Task> {
    let Some(mut task) = state else {
        return match event {
            Event::Created(created) => Some(born(created)),
            Event::Queued(_)
            | Event::Started(_)
            | Event::CancelRequested(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::AttemptFailed(_)
            | Event::Released(_)
            | Event::OutputKept(_)
            | Event::Completed(_)
            | Event::Retried(_) => None,
        };
    };
    task.status = Status::after(Some(task.status), event).unwrap_or(task.status);
    match event {
        Event::Created(_) | Event::OutputKept(_) => {}
        Event::Queued(_) => task.retry_at = None,
        Event::Completed(completed) => task.complete(completed),
        Event::Started(started) => {
            task.attempt = started.attempt;
            task.attempts_in_run += 1;
            task.worker = Some(started.worker.clone());
            task.lease = Some(started.lease.clone());
        }
        Event::CancelRequested(request) => {
            task.cancel = Some(Cancel { policy: request.policy, rung: Rung::Ask, acknowledged: None, answers: 0 });
        }
        Event::CancelAcknowledged(heard) => {
            if let Some(cancel) = &mut task.cancel {
                cancel.acknowledged = Some(heard.stopping_after.clone());
                cancel.answers += 1;
            }
        }
        Event::CancelEscalated(step) => {
            if let Some(cancel) = &mut task.cancel {
                cancel.rung = step.rung;
            }
        }
        Event::AttemptFailed(failed) => {
            task.retry_at = Some(failed.retry_at);
            task.end_attempt(!is_verdict_of_the_system(&failed.error));
        }
        Event::Released(released) => {
            task.attempts_in_run = task.attempts_in_run.saturating_sub(1);
            task.end_attempt(released.reason == ReleasedReason::HandedBack);
        }
        Event::Retried(_) => {
            task.attempts_in_run = 0;
            task.cancel = None;
        }
    }
    Some(task)
}

fn born(created: &Created) -> Task {
    Task {
        created: Arc::new(created.clone()),
        status: Status::at_birth(created),
        attempt: 0,
        attempts_in_run: 0,
        worker: None,
        lease: None,
        retry_at: None,
        cancel: None,
        ended: Vec::new(),
    }
}

/// The state after these events, oldest first.
#[must_use]
pub fn fold<'a>(state: Option<Task>, events: impl IntoIterator<Item = &'a Event>) -> Option<Task> {
    events.into_iter().fold(state, evolve)
}
