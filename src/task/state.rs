//! The status and the state of a task, folded from its events.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::{
    CancelAcknowledged, CancelPolicy, Completed, Created, Event, Outcome, ReleasedReason, Rung, Started,
    is_system_error,
};
use super::time::Timestamp;

/// Where a task stands; the filters of lists offer these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The task waits for `run_at`.
    Scheduled,
    /// The task is ready and waits for a worker.
    Queued,
    /// A worker holds the lease.
    Running,
    /// A cancel was requested while an attempt ran; the code has not stopped yet.
    Cancelling,
    /// The last attempt failed; the task waits for `retry_at`.
    Retrying,
    /// Final: the work is done.
    Succeeded,
    /// Final: the work could not be done.
    Failed,
    /// Final: the task was stopped on request.
    Cancelled,
}

impl Status {
    /// All statuses, in the order in which they are shown.
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

    /// The name of the status in the contract.
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

    /// The status with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The status of a new task.
    #[must_use]
    pub const fn initial(created: &Created) -> Self {
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

    /// The state table: the status after `event`, or none where the table has no such line.
    ///
    /// This is the only place that says what an event does to the status: `evolve` and the views both call it. Both treat
    /// an event that the table doesn't have in the same way: it changes nothing. No rule decides such an event, so it
    /// is in no log that this program wrote; a log that has one can still be read.
    ///
    /// A request to cancel a task that doesn't run leaves its status; `Completed` follows in the same append.
    #[must_use]
    pub fn after(before: Option<Self>, event: &Event) -> Option<Self> {
        use Status::{Cancelled, Cancelling, Failed, Queued, Retrying, Running, Scheduled, Succeeded};
        match (event, before) {
            (Event::Created(created), None) => Some(Self::initial(created)),
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
    /// What the worker acknowledged last: the step after which it stops, or `Some(None)` where it stops at once.
    #[allow(clippy::option_option, reason = "acknowledged or not, and with a step or without")]
    pub acknowledged: Option<Option<String>>,
    /// How many acknowledgements the log holds.
    pub acknowledgements: u32,
}

/// How many ended attempts a task remembers. A report about an older one is rejected as [`LeaseLost`], which changes nothing
/// either.
///
/// [`LeaseLost`]: super::Rejection::LeaseLost
const ENDED_MAX: usize = 100;

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedAttempt {
    /// The number of the attempt.
    pub attempt: u32,
    /// Hash of its lease's secret.
    pub lease: Option<String>,
    /// The status of the task after the attempt.
    pub status: Status,
    /// Whether its worker reported the end; if not, the system ended the attempt.
    pub by_worker: bool,
}

/// The state of a task, as far as the rules need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The request, as it was accepted.
    pub created: Arc<Created>,
    /// Where the task stands.
    pub status: Status,
    /// Number of the last attempt; 0 before the first.
    pub attempt: u32,
    /// How many attempts of this run count against `max_attempts`.
    pub attempts_in_run: u32,
    /// The worker of the last attempt.
    pub worker: Option<String>,
    /// Hash of the secret of the last attempt's lease.
    pub lease: Option<String>,
    /// When the next attempt may start, while `retrying`.
    pub retry_at: Option<Timestamp>,
    /// The request to cancel this run.
    pub cancel: Option<Cancel>,
    /// The attempts that are over, oldest first: a report that is sent twice gets the same answer twice.
    pub ended: Vec<EndedAttempt>,
}

impl Task {
    fn new(created: &Arc<Created>) -> Self {
        Self {
            created: Arc::clone(created),
            status: Status::initial(created),
            attempt: 0,
            attempts_in_run: 0,
            worker: None,
            lease: None,
            retry_at: None,
            cancel: None,
            ended: Vec::new(),
        }
    }

    /// The status after this attempt, if its worker reported the end under this lease.
    #[must_use]
    pub fn ended_by_its_worker(&self, attempt: u32, lease: &str) -> Option<Status> {
        let ended = self.ended.iter().rfind(|ended| ended.attempt == attempt)?;
        (ended.by_worker && ended.lease.as_deref() == Some(lease)).then_some(ended.status)
    }

    /// Everything but the status.
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Created(_) | Event::OutputKept(_) => {}
            Event::Queued(_) => self.retry_at = None,
            Event::Started(started) => self.start_attempt(started),
            Event::CancelRequested(request) => {
                let policy = request.policy;
                self.cancel = Some(Cancel { policy, rung: Rung::Ask, acknowledged: None, acknowledgements: 0 });
            }
            Event::CancelAcknowledged(acknowledged) => self.acknowledge_cancel(acknowledged),
            Event::CancelEscalated(step) => {
                if let Some(cancel) = &mut self.cancel {
                    cancel.rung = step.rung;
                }
            }
            Event::AttemptFailed(failed) => {
                self.retry_at = Some(failed.retry_at);
                self.end_attempt(!is_system_error(&failed.error));
            }
            Event::Released(released) => {
                self.attempts_in_run = self.attempts_in_run.saturating_sub(1);
                self.end_attempt(released.reason == ReleasedReason::HandedBack);
            }
            Event::Completed(completed) => self.complete(completed),
            Event::Retried(_) => {
                self.attempts_in_run = 0;
                self.cancel = None;
            }
        }
    }

    fn start_attempt(&mut self, started: &Started) {
        self.attempt = started.attempt;
        self.attempts_in_run = self.attempts_in_run.saturating_add(1);
        self.worker = Some(started.worker.clone());
        self.lease = Some(started.lease.clone());
    }

    fn acknowledge_cancel(&mut self, acknowledged: &CancelAcknowledged) {
        if let Some(cancel) = &mut self.cancel {
            cancel.acknowledged = Some(acknowledged.stopping_after.clone());
            cancel.acknowledgements = cancel.acknowledgements.saturating_add(1);
        }
    }

    fn complete(&mut self, completed: &Completed) {
        self.retry_at = None;
        if completed.attempt.is_some() {
            let error = completed.error.as_ref();
            self.end_attempt(!completed.forced && !error.is_some_and(is_system_error));
        }
    }

    fn end_attempt(&mut self, by_worker: bool) {
        let (attempt, lease, status) = (self.attempt, self.lease.clone(), self.status);
        if self.ended.len() >= ENDED_MAX {
            self.ended.remove(0);
        }
        self.ended.push(EndedAttempt { attempt, lease, status, by_worker });
    }
}

/// The state after one more event. An event that the [state table](Status::after) doesn't have changes nothing.
#[must_use]
pub fn evolve(state: Option<Task>, event: &Event) -> Option<Task> {
    let Some(status) = Status::after(state.as_ref().map(|task| task.status), event) else { return state };
    let Some(mut task) = state else {
        // The table has one line that begins with no task.
        return if let Event::Created(created) = event { Some(Task::new(created)) } else { None };
    };
    task.status = status;
    task.apply(event);
    Some(task)
}

/// The state after these events, oldest first.
#[cfg(feature = "testing")]
#[must_use]
pub fn fold<'a>(state: Option<Task>, events: impl IntoIterator<Item = &'a Event>) -> Option<Task> {
    events.into_iter().fold(state, evolve)
}
