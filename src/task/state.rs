//! The status and the state of a task, computed from its events.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::{
    CancelAcknowledged, CancelLadder, Completed, Created, Event, Outcome, ReleasedReason, Rung, Started,
    is_system_error,
};
use super::time::Timestamp;

/// The status of a task. Lists can be filtered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The task waits for `run_at`.
    Scheduled,
    /// The task is ready and waits for a worker.
    Queued,
    /// A worker executes an attempt.
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

    /// The name of the status in the JSON of the HTTP API.
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

    /// Whether a worker executes an attempt now.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Cancelling => true,
            Self::Scheduled | Self::Queued | Self::Retrying | Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }

    /// The state table: the status that follows `event`, or `None` if the table has no line for the status before and the event.
    ///
    /// Both `evolve` and the views call this function; nothing else changes a status. If it returns `None`, both ignore the
    /// event. The rules never decide such an event, so a log of this program contains none. If another program has written
    /// one, the log can still be read.
    ///
    /// If a task that doesn't run is cancelled, `CancelRequested` doesn't change its status; the `Completed` that follows in
    /// the same append does.
    #[must_use]
    pub fn next(before: Option<Self>, event: &Event) -> Option<Self> {
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

/// When a worker stops, as its last acknowledgement of a request to cancel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The worker has acknowledged nothing yet.
    No,
    /// It stops at once.
    StopsAtOnce,
    /// It stops after this step.
    StopsAfter(String),
}

impl Acknowledged {
    /// Whether an acknowledgement with this step says the same as the last one.
    #[must_use]
    pub fn is_repeated_by(&self, stopping_after: Option<&str>) -> bool {
        match self {
            Self::No => false,
            Self::StopsAtOnce => stopping_after.is_none(),
            Self::StopsAfter(step) => stopping_after == Some(step.as_str()),
        }
    }
}

/// The state of a request to cancel. It contains only what the rules need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelState {
    /// The cancel ladder of this request.
    pub policy: CancelLadder,
    /// The highest rung that was reached.
    pub rung: Rung,
    /// The last acknowledgement of the worker.
    pub acknowledged: Acknowledged,
    /// How many acknowledgements the log contains.
    pub acknowledgements: u32,
}

/// The maximum number of ended attempts in the state of a task. A worker's repeated report about an older attempt is
/// rejected as [`LeaseLost`] and changes nothing.
///
/// [`LeaseLost`]: super::Rejection::LeaseLost
const ENDED_ATTEMPTS_MAX: usize = 100;

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedAttempt {
    /// The number of the attempt.
    pub attempt: u32,
    /// BLAKE3 of the secret of the attempt's lease, in hexadecimal.
    pub lease_hash: Option<String>,
    /// The status of the task after the attempt.
    pub status: Status,
    /// True if the worker reported the end; false if the system ended the attempt.
    pub ended_by_worker: bool,
}

/// The state of a task. It contains only what the rules need.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The request, as it was accepted.
    pub created: Arc<Created>,
    /// The status.
    pub status: Status,
    /// The number of the last attempt; 0 before the first.
    pub attempt: u32,
    /// How many attempts of this run count towards `max_attempts`.
    pub attempts_in_run: u32,
    /// The worker of the last attempt.
    pub worker: Option<String>,
    /// BLAKE3 of the secret of the last attempt's lease, in hexadecimal.
    pub lease_hash: Option<String>,
    /// When the next attempt may start; set only while the task is `retrying`.
    pub retry_at: Option<Timestamp>,
    /// The request to cancel this run.
    pub cancel: Option<CancelState>,
    /// The attempts that are over, the oldest first. If a worker reports an end twice, the second report gets the same answer;
    /// it is found here.
    pub ended_attempts: Vec<EndedAttempt>,
}

impl Task {
    fn new(created: &Arc<Created>) -> Self {
        Self {
            created: Arc::clone(created),
            status: Status::initial(created),
            attempt: 0,
            attempts_in_run: 0,
            worker: None,
            lease_hash: None,
            retry_at: None,
            cancel: None,
            ended_attempts: Vec::new(),
        }
    }

    /// The status of the task after this attempt, if the worker with this lease hash has reported the end of the attempt.
    #[must_use]
    pub fn status_after_reported_end(&self, attempt: u32, lease_hash: &str) -> Option<Status> {
        let ended = self.ended_attempts.iter().rfind(|ended| ended.attempt == attempt)?;
        (ended.ended_by_worker && ended.lease_hash.as_deref() == Some(lease_hash)).then_some(ended.status)
    }

    /// Applies the event to all fields except the status.
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Created(_) | Event::OutputKept(_) => {}
            Event::Queued(_) => self.retry_at = None,
            Event::Started(started) => self.start_attempt(started),
            Event::CancelRequested(request) => {
                let policy = request.policy;
                self.cancel =
                    Some(CancelState { policy, rung: Rung::Ask, acknowledged: Acknowledged::No, acknowledgements: 0 });
            }
            Event::CancelAcknowledged(acknowledged) => self.acknowledge_cancel(acknowledged),
            Event::CancelEscalated(escalated) => {
                if let Some(cancel) = &mut self.cancel {
                    cancel.rung = escalated.rung;
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
        self.lease_hash = Some(started.lease_hash.clone());
    }

    fn acknowledge_cancel(&mut self, acknowledged: &CancelAcknowledged) {
        if let Some(cancel) = &mut self.cancel {
            cancel.acknowledged =
                acknowledged.stopping_after.clone().map_or(Acknowledged::StopsAtOnce, Acknowledged::StopsAfter);
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

    fn end_attempt(&mut self, ended_by_worker: bool) {
        let (attempt, lease_hash, status) = (self.attempt, self.lease_hash.clone(), self.status);
        if self.ended_attempts.len() >= ENDED_ATTEMPTS_MAX {
            self.ended_attempts.remove(0);
        }
        self.ended_attempts.push(EndedAttempt { attempt, lease_hash, status, ended_by_worker });
    }
}

/// The state after the next event. If the [state table](Status::next) has no line for the event, the state stays the same.
#[must_use]
pub fn evolve(state: Option<Task>, event: &Event) -> Option<Task> {
    let Some(status) = Status::next(state.as_ref().map(|task| task.status), event) else { return state };
    let Some(mut task) = state else {
        // If there is no task yet, the table allows only `Created`.
        return if let Event::Created(created) = event { Some(Task::new(created)) } else { None };
    };
    task.status = status;
    task.apply(event);
    Some(task)
}

/// The state after these events, which are in the order of their revisions.
#[cfg(feature = "testing")]
#[must_use]
pub fn fold<'a>(state: Option<Task>, events: impl IntoIterator<Item = &'a Event>) -> Option<Task> {
    events.into_iter().fold(state, evolve)
}
