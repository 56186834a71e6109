//! One task as readers see it: a fixed part that is shared, and a small part that moves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cancel::{Cancel, Verdict};
use super::places::{Names, Place};
use crate::store::Recorded;
use crate::task::event::{Completed, Created, Event, Progress, TaskError};
use crate::task::{Position, Revision, Status, TaskId, Timestamp};

/// How a run ended, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// One line for people.
    pub message: Option<Box<str>>,
    /// Why it failed, or what ended it by force.
    pub error: Option<Box<TaskError>>,
}

/// What never changes.
#[derive(Debug)]
struct Fixed {
    id: TaskId,
    place: Arc<Place>,
    title: Box<str>,
    created_at: Timestamp,
    created: Position,
    priority: i32,
    max_attempts: u32,
    /// Place in the owner's list.
    rank: usize,
    rare: Option<Box<Rare>>,
}

/// What few tasks have.
#[derive(Debug, Default, PartialEq)]
struct Rare {
    labels: BTreeMap<String, String>,
    parent: Option<TaskId>,
    run_at: Option<Timestamp>,
    timeout_s: Option<u64>,
    unique_key: Option<Box<str>>,
    concurrency_key: Option<Arc<str>>,
}

/// An instant or none, in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At(i64);

impl At {
    /// No [`Timestamp`] is so early.
    const NONE: Self = Self(i64::MIN);

    const fn some(at: Timestamp) -> Self {
        Self(at.as_micros())
    }

    fn get(self) -> Option<Timestamp> {
        (self != Self::NONE).then(|| Timestamp::from_micros(self.0))
    }
}

/// One task. A clone counts some references and copies no text.
#[derive(Clone, Debug)]
pub struct Row {
    fixed: Arc<Fixed>,
    worker: Option<Arc<str>>,
    /// Of the attempt that runs: BLAKE3 of its lease's secret, in hexadecimal.
    lease: Option<Box<str>>,
    started_at: At,
    finished_at: At,
    retry_at: At,
    outcome: Option<Arc<Ended>>,
    cancel: Option<Arc<Cancel>>,
    progress: Option<Arc<Progress>>,
    revision: Revision,
    position: Position,
    /// Position of the `Completed` that ended the present run; 0 while there is none.
    ended: Position,
    attempt: u32,
    status: Status,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl Row {
    pub(super) fn born(id: TaskId, created: &Created, recorded: &Recorded, place: Arc<Place>, rank: usize) -> Self {
        let rare = Rare {
            labels: created.labels.clone(),
            parent: created.parent,
            run_at: created.run_at,
            timeout_s: created.timeout_s,
            unique_key: created.unique_key.as_deref().map(Into::into),
            concurrency_key: created.concurrency_key.as_deref().map(Into::into),
        };
        let fixed = Fixed {
            id,
            place,
            title: created.title.as_str().into(),
            created_at: recorded.time,
            created: recorded.position,
            priority: created.priority,
            max_attempts: created.max_attempts,
            rank,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        };
        Self {
            fixed: Arc::new(fixed),
            worker: None,
            lease: None,
            started_at: At::NONE,
            finished_at: At::NONE,
            retry_at: At::NONE,
            outcome: None,
            cancel: None,
            progress: None,
            revision: recorded.revision,
            position: recorded.position,
            ended: Position(0),
            attempt: 0,
            status: Status::initial(created),
        }
    }

    /// One more event. What the state table doesn't have moves revision and position, and nothing else.
    pub(super) fn evolve(&mut self, event: &Event, recorded: &Recorded, names: &mut Names) {
        self.revision = recorded.revision;
        self.position = recorded.position;
        let Some(status) = Status::after(Some(self.status), event) else { return };
        self.status = status;
        if !status.is_active() {
            self.lease = None;
        }
        match event {
            Event::Created(_) | Event::OutputKept(_) => {}
            Event::Queued(_) => self.retry_at = At::NONE,
            Event::Started(started) => {
                self.attempt = started.attempt;
                self.worker = Some(names.get(&started.worker));
                self.lease = Some(started.lease.as_str().into());
                self.started_at = At::some(recorded.time);
                self.progress = None;
            }
            Event::CancelRequested(request) => {
                self.cancel =
                    Some(Arc::new(Cancel::asked(request, (recorded.position, recorded.time), &recorded.meta.actor)));
            }
            Event::CancelAcknowledged(heard) => {
                if let Some(cancel) = &mut self.cancel {
                    Arc::make_mut(cancel).heard(heard, recorded.time);
                }
            }
            Event::CancelEscalated(step) => {
                if let Some(cancel) = &mut self.cancel {
                    Arc::make_mut(cancel).climbed(step, recorded.time);
                }
            }
            Event::AttemptFailed(failed) => {
                self.retry_at = At::some(failed.retry_at);
                self.progress = failed.progress.clone().map(Arc::new);
            }
            // It doesn't count as an attempt, so the wait goes on as if nothing had started.
            Event::Released(_) => self.started_at = At::NONE,
            Event::Completed(completed) => self.complete(completed, recorded),
            Event::Retried(_) => {
                (self.started_at, self.finished_at) = (At::NONE, At::NONE);
                (self.outcome, self.cancel, self.progress) = (None, None, None);
                self.ended = Position(0);
            }
        }
    }

    fn complete(&mut self, completed: &Completed, recorded: &Recorded) {
        self.finished_at = At::some(recorded.time);
        self.retry_at = At::NONE;
        self.ended = recorded.position;
        let ended = Ended {
            message: completed.message.as_deref().map(Into::into),
            error: completed.error.clone().map(Box::new),
        };
        self.outcome = (ended != Ended::default()).then(|| Arc::new(ended));
        // Where no attempt ran at the end, that of the last one stays.
        if let Some(progress) = &completed.progress {
            self.progress = Some(Arc::new(progress.clone()));
        }
        if let Some(cancel) = &mut self.cancel {
            Arc::make_mut(cancel).verdict = Some(Verdict::of(completed));
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.fixed.id
    }

    /// What sort of work.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.fixed.place.kind
    }

    /// What people read.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.fixed.title
    }

    /// Who sees it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.fixed.place.owner
    }

    /// Where it waits.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.fixed.place.queue
    }

    pub(super) fn place(&self) -> &Arc<Place> {
        &self.fixed.place
    }

    pub(super) fn rank(&self) -> usize {
        self.fixed.rank
    }

    /// Higher goes first.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.fixed.priority
    }

    /// Free words to filter by.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.fixed.rare.as_ref().map_or(&NO_LABELS, |rare| &rare.labels)
    }

    /// The task that asked for it.
    #[must_use]
    pub fn parent(&self) -> Option<TaskId> {
        self.fixed.rare.as_ref()?.parent
    }

    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.fixed.created_at
    }

    /// Where in the log it was created: what lists are ordered by.
    #[must_use]
    pub fn created_position(&self) -> Position {
        self.fixed.created
    }

    /// The time that it was scheduled for.
    #[must_use]
    pub fn run_at(&self) -> Option<Timestamp> {
        self.fixed.rare.as_ref()?.run_at
    }

    /// How many attempts one run may take.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.fixed.max_attempts
    }

    /// Bound on one attempt, in seconds.
    #[must_use]
    pub fn timeout_s(&self) -> Option<u64> {
        self.fixed.rare.as_ref()?.timeout_s
    }

    /// No two tasks of an owner with this key are not final.
    #[must_use]
    pub fn unique_key(&self) -> Option<&str> {
        self.fixed.rare.as_ref()?.unique_key.as_deref()
    }

    /// Tasks with this key share a limit.
    #[must_use]
    pub fn concurrency_key(&self) -> Option<&Arc<str>> {
        self.fixed.rare.as_ref()?.concurrency_key.as_ref()
    }

    /// BLAKE3 of the running attempt's secret, in hexadecimal; none where none runs.
    #[must_use]
    pub fn lease(&self) -> Option<&str> {
        self.lease.as_deref()
    }

    /// Where it stands.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Number of the last attempt, over all runs; 0 where none ran.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Who executes, or executed, the last attempt.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.worker.as_deref()
    }

    /// When the present or last attempt of this run started; none where it was handed back.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at.get()
    }

    /// When the run was over.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.finished_at.get()
    }

    /// From `started_at` to `finished_at`; none while one of them is.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        Some(self.finished_at()?.since(self.started_at()?))
    }

    /// When the next attempt may start, while `retrying`.
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at.get()
    }

    /// How the run ended; none before, or where it ended without a word.
    #[must_use]
    pub fn outcome(&self) -> Option<&Ended> {
        self.outcome.as_deref()
    }

    /// The request to cancel this run.
    #[must_use]
    pub fn cancel(&self) -> Option<&Cancel> {
        self.cancel.as_deref()
    }

    /// The last progress that the log knows of this run.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_deref()
    }

    /// Place of its last event in its stream.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Place of its last event in the log.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Place of the `Completed` that ended the present run in the log.
    #[must_use]
    pub fn ended(&self) -> Option<Position> {
        (self.ended > Position(0)).then_some(self.ended)
    }
}
