//! The row of a task in the views. It has a fixed part that all clones share, and a small part that events change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cancel::{CancelView, Verdict};
use super::counters::{CounterKey, Interner};
use crate::store::Fact;
use crate::task::event::{Completed, Created, Event, Progress, TaskError};
use crate::task::{Position, Revision, Status, TaskId, Timestamp};

/// The texts of the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOutcome {
    /// One line for people.
    pub message: Option<Box<str>>,
    /// Why the run failed, or why the system ended it by force.
    pub error: Option<Box<TaskError>>,
}

/// The fields that no event changes.
#[derive(Debug)]
pub(super) struct FixedFields {
    pub(super) id: TaskId,
    /// Contains the owner, the kind and the queue.
    pub(super) counter_key: Arc<CounterKey>,
    pub(super) title: Box<str>,
    pub(super) created_at: Timestamp,
    pub(super) created_position: Position,
    pub(super) priority: i32,
    pub(super) max_attempts: u32,
    /// The index of the task in the list of the tasks with its counter key.
    pub(super) index_in_list: usize,
    pub(super) optional: Option<Box<OptionalFields>>,
}

/// The fields that only few tasks have. They are apart so that the other tasks take less memory.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OptionalFields {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) parent: Option<TaskId>,
    pub(super) run_at: Option<Timestamp>,
    pub(super) timeout_s: Option<u64>,
    pub(super) unique_key: Option<Box<str>>,
    pub(super) concurrency_key: Option<Arc<str>>,
}

/// An optional instant that takes eight bytes; `Option<Timestamp>` takes sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OptionalTimestamp(i64);

impl OptionalTimestamp {
    /// No instant. The number lies before every [`Timestamp`].
    pub(super) const NONE: Self = Self(i64::MIN);

    pub(super) const fn some(at: Timestamp) -> Self {
        Self(at.as_micros())
    }

    pub(super) const fn of_micros(micros: i64) -> Self {
        Self(micros)
    }

    fn get(self) -> Option<Timestamp> {
        (self != Self::NONE).then(|| Timestamp::from_micros(self.0))
    }
}

/// One task. A clone increments some reference counts, and copies no text.
#[derive(Clone, Debug)]
pub struct Row {
    pub(super) fixed: Arc<FixedFields>,
    pub(super) worker: Option<Arc<str>>,
    /// BLAKE3 of the secret of the running attempt's lease, in hexadecimal.
    pub(super) lease_hash: Option<Arc<str>>,
    pub(super) started_at: OptionalTimestamp,
    pub(super) finished_at: OptionalTimestamp,
    pub(super) retry_at: OptionalTimestamp,
    pub(super) outcome: Option<Arc<RunOutcome>>,
    pub(super) cancel: Option<Arc<CancelView>>,
    pub(super) progress: Option<Arc<Progress>>,
    pub(super) revision: Revision,
    pub(super) position: Position,
    /// Position of the `Completed` that ended the present run; 0 while the run is not over.
    pub(super) ended_position: Position,
    pub(super) attempt: u32,
    pub(super) status: Status,
    /// The index of the row in its block.
    pub(super) index_in_block: u16,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl Row {
    pub(super) fn new(
        id: TaskId,
        created: &Created,
        recorded: &Fact,
        counter_key: Arc<CounterKey>,
        index_in_list: usize,
    ) -> Self {
        let optional = OptionalFields {
            labels: created.labels.clone(),
            parent: created.parent,
            run_at: created.run_at,
            timeout_s: created.timeout_s,
            unique_key: created.unique_key.as_deref().map(Into::into),
            concurrency_key: created.concurrency_key.as_deref().map(Into::into),
        };
        let fixed = FixedFields {
            id,
            counter_key,
            title: created.title.as_str().into(),
            created_at: recorded.time,
            created_position: recorded.position,
            priority: created.priority,
            max_attempts: created.max_attempts,
            index_in_list,
            optional: (optional != OptionalFields::default()).then(|| Box::new(optional)),
        };
        Self {
            fixed: Arc::new(fixed),
            worker: None,
            lease_hash: None,
            started_at: OptionalTimestamp::NONE,
            finished_at: OptionalTimestamp::NONE,
            retry_at: OptionalTimestamp::NONE,
            outcome: None,
            cancel: None,
            progress: None,
            revision: recorded.revision,
            position: recorded.position,
            ended_position: Position(0),
            attempt: 0,
            status: Status::initial(created),
            index_in_block: 0,
        }
    }

    /// Applies the next event of the task. If the [state table](Status::next) has no line for the event, only the revision
    /// and the position change.
    pub(super) fn evolve(&mut self, event: &Event, recorded: &Fact, names: &mut Interner) {
        self.revision = recorded.revision;
        self.position = recorded.position;
        let Some(status) = Status::next(Some(self.status), event) else { return };
        self.status = status;
        if !status.is_active() {
            self.lease_hash = None;
        }
        match event {
            Event::Created(_) | Event::OutputKept(_) => {}
            Event::Queued(_) => self.retry_at = OptionalTimestamp::NONE,
            Event::Started(started) => {
                self.attempt = started.attempt;
                self.worker = Some(names.intern(&started.worker));
                self.lease_hash = Some(started.lease_hash.as_str().into());
                self.started_at = OptionalTimestamp::some(recorded.time);
                self.progress = None;
            }
            Event::CancelRequested(request) => {
                let at = (recorded.position, recorded.time);
                self.cancel = Some(Arc::new(CancelView::new(request, at, &recorded.meta.actor)));
            }
            Event::CancelAcknowledged(acknowledged) => {
                if let Some(cancel) = &mut self.cancel {
                    Arc::make_mut(cancel).acknowledge(acknowledged, recorded.time);
                }
            }
            Event::CancelEscalated(escalated) => {
                if let Some(cancel) = &mut self.cancel {
                    Arc::make_mut(cancel).escalate(escalated, recorded.time);
                }
            }
            Event::AttemptFailed(failed) => {
                self.retry_at = OptionalTimestamp::some(failed.retry_at);
                self.progress = failed.progress.clone().map(Arc::new);
            }
            // A released attempt doesn't count. The row looks as if the attempt had not started.
            Event::Released(_) => self.started_at = OptionalTimestamp::NONE,
            Event::Completed(completed) => self.complete(completed, recorded),
            Event::Retried(_) => {
                (self.started_at, self.finished_at) = (OptionalTimestamp::NONE, OptionalTimestamp::NONE);
                (self.outcome, self.cancel, self.progress) = (None, None, None);
                self.ended_position = Position(0);
            }
        }
    }

    fn complete(&mut self, completed: &Completed, recorded: &Fact) {
        self.finished_at = OptionalTimestamp::some(recorded.time);
        self.retry_at = OptionalTimestamp::NONE;
        self.ended_position = recorded.position;
        let outcome = RunOutcome {
            message: completed.message.as_deref().map(Into::into),
            error: completed.error.clone().map(Box::new),
        };
        self.outcome = (outcome != RunOutcome::default()).then(|| Arc::new(outcome));
        // If no attempt was running, the row still shows the progress of the last attempt.
        if let Some(progress) = &completed.progress {
            self.progress = Some(Arc::new(progress.clone()));
        }
        if let Some(cancel) = &mut self.cancel {
            Arc::make_mut(cancel).verdict = Some(Verdict::of(completed));
        }
    }

    /// The id of the task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.fixed.id
    }

    /// The kind of work.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.fixed.counter_key.kind
    }

    /// The title, for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.fixed.title
    }

    /// The subject who sees the task.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.fixed.counter_key.owner
    }

    /// The queue in which the task waits.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.fixed.counter_key.queue
    }

    pub(super) fn counter_key(&self) -> &Arc<CounterKey> {
        &self.fixed.counter_key
    }

    pub(super) fn optional_fields(&self) -> Option<&OptionalFields> {
        self.fixed.optional.as_deref()
    }

    pub(super) const fn shared_worker(&self) -> Option<&Arc<str>> {
        self.worker.as_ref()
    }

    pub(super) fn index_in_list(&self) -> usize {
        self.fixed.index_in_list
    }

    /// The priority: the higher one starts first.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.fixed.priority
    }

    /// Keys and values that the client chose. Lists can be filtered by them.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.fixed.optional.as_ref().map_or(&NO_LABELS, |fields| &fields.labels)
    }

    /// The parent of the task.
    #[must_use]
    pub fn parent(&self) -> Option<TaskId> {
        self.fixed.optional.as_ref()?.parent
    }

    /// When the task was created.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.fixed.created_at
    }

    /// Position of the task's `Created` in the log; lists are ordered by it.
    #[must_use]
    pub fn created_position(&self) -> Position {
        self.fixed.created_position
    }

    /// The earliest time at which the task may start.
    #[must_use]
    pub fn run_at(&self) -> Option<Timestamp> {
        self.fixed.optional.as_ref()?.run_at
    }

    /// How many attempts one run may have.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.fixed.max_attempts
    }

    /// How long one attempt may take, in seconds.
    #[must_use]
    pub fn timeout_s(&self) -> Option<u64> {
        self.fixed.optional.as_ref()?.timeout_s
    }

    /// The unique key. An owner has at most one task with this key that is not final.
    #[must_use]
    pub fn unique_key(&self) -> Option<&str> {
        self.fixed.optional.as_ref()?.unique_key.as_deref()
    }

    /// The concurrency key. A limit bounds how many tasks with this key run at the same time.
    #[must_use]
    pub fn concurrency_key(&self) -> Option<&Arc<str>> {
        self.fixed.optional.as_ref()?.concurrency_key.as_ref()
    }

    /// BLAKE3 of the secret of the running attempt's lease, in hexadecimal; `None` while no attempt runs.
    #[must_use]
    pub fn lease_hash(&self) -> Option<&str> {
        self.lease_hash.as_deref()
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// The number of the last attempt; 0 before the first. A retry of the task goes on counting.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The worker of the last attempt.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.worker.as_deref()
    }

    /// When the last attempt of this run started; `None` if that attempt was handed back.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at.get()
    }

    /// When the run ended.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.finished_at.get()
    }

    /// The time from `started_at` to `finished_at`; `None` if one of them is `None`.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        Some(self.finished_at()?.since(self.started_at()?))
    }

    /// When the next attempt may start; set only while the task is `retrying`.
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at.get()
    }

    /// The texts of the end of the run; `None` while the run is not over, and if there is neither a message nor an error.
    #[must_use]
    pub fn outcome(&self) -> Option<&RunOutcome> {
        self.outcome.as_deref()
    }

    /// The request to cancel this run.
    #[must_use]
    pub fn cancel(&self) -> Option<&CancelView> {
        self.cancel.as_deref()
    }

    /// The last progress report of this run that is in the log.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_deref()
    }

    /// Revision of the task's last event in its stream.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Position of the task's last event in the log.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Position in the log of the `Completed` that ended the present run; `None` while the run is not over.
    #[must_use]
    pub fn ended_position(&self) -> Option<Position> {
        (self.ended_position > Position(0)).then_some(self.ended_position)
    }
}
