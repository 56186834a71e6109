//! The run queue: which task starts next. The dispatcher owns it.
//!
//! Like the other views it is computed from the log: it applies each change of a task. In addition the dispatcher takes tasks
//! out of it to start them.
//!
//! - **Before a task is taken**, it is queued and waits at its [`QueuePosition`].
//! - **After it was taken**, it counts as running, although its `Started` is not in the log yet. So no task is taken twice,
//!   and no limit is exceeded. The dispatcher stores the position from which the task was taken.
//! - **When the log shows the next change of the task**, the dispatcher passes the position with the change. If the task was
//!   not started, the dispatcher calls [`RunQueue::give_back`] (the task is still queued) or [`RunQueue::count_end`] (it is
//!   not) with the position.
//!
//! Reading order: this file, `ready` (queues, backlogs and precedence), `limits` (how many tasks may run at the same time).

use std::collections::HashMap;
use std::sync::Arc;

mod limits;
mod ready;

pub use limits::Limits;
pub use ready::{QueuePosition, WorkOffer};

use super::doc::WaitingFor;
use super::queues::PausedQueues;
use super::row::Row;
use crate::task::queue::QueueEvent;
use crate::task::{Status, TaskId};

use ready::ReadyTasks;

/// The queued tasks and the counts of running tasks.
#[derive(Clone, Debug, Default)]
pub struct RunQueue {
    ready: ReadyTasks,
    /// Queued tasks that can't be taken yet, because other servers of the cluster may start them first.
    deferred: HashMap<TaskId, QueuePosition>,
}

impl RunQueue {
    /// An empty queue with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { ready: ReadyTasks::new(limits), ..Self::default() }
    }

    /// An empty queue with the same limits.
    #[must_use]
    pub fn new_with_same_limits(&self) -> Self {
        Self::new(self.ready.limits().clone())
    }

    /// Whether this change takes the task out of the queue: it is queued before the change and not after it.
    #[must_use]
    pub fn leaves_queue(before: &Row, after: &Row) -> bool {
        readiness(before) == Readiness::Ready && readiness(after) != Readiness::Ready
    }

    /// Applies a change of a task. `before` is `None` for a new task. If the task was taken and the change takes it out of the
    /// queue, `taken_from` is the position from which it was taken.
    pub fn apply_change(&mut self, before: Option<&Row>, after: &Row, taken_from: Option<&QueuePosition>) {
        self.apply(before, after, taken_from, false);
    }

    /// Applies a change like [`RunQueue::apply_change`]. If the task is queued after the change, it can't be taken until
    /// [`RunQueue::admit`] is called.
    pub fn apply_change_deferred(&mut self, before: Option<&Row>, after: &Row, taken_from: Option<&QueuePosition>) {
        self.apply(before, after, taken_from, true);
    }

    fn apply(&mut self, before: Option<&Row>, after: &Row, taken_from: Option<&QueuePosition>, defer: bool) {
        let (readiness_before, readiness_after) = (before.map(readiness), readiness(after));
        if readiness_before == Some(readiness_after) {
            return;
        }
        let (task, position) = (after.id(), QueuePosition::of(after));
        match readiness_before {
            Some(Readiness::Ready) => match taken_from {
                Some(taken_from) => self.count_end(taken_from),
                None if self.deferred.remove(&task).is_some() => {}
                None => self.ready.remove(&position),
            },
            Some(Readiness::Active) => self.ready.count_end(&position),
            Some(Readiness::NotReady) | None => {}
        }
        match readiness_after {
            Readiness::Ready if defer => _ = self.deferred.insert(task, position),
            Readiness::Ready => self.ready.insert(&position, task),
            Readiness::Active => self.ready.count_start(&position),
            Readiness::NotReady => {}
        }
    }

    /// Allows that a deferred task is taken from now on. Does nothing if the task is not deferred any more.
    pub fn admit(&mut self, task: TaskId) {
        if let Some(position) = self.deferred.remove(&task) {
            self.ready.insert(&position, task);
        }
    }

    /// Applies an event of a queue.
    pub fn apply_queue_event(&mut self, queue: &str, event: &QueueEvent) {
        self.ready.set_paused(queue, matches!(event, QueueEvent::Paused(_)));
    }

    /// Pauses these queues. The caller must do so before it adds tasks.
    pub fn pause_all(&mut self, queues: &PausedQueues) {
        for (queue, _) in queues.iter() {
            self.ready.set_paused(queue, true);
        }
    }

    /// Takes the next task that the worker executes; it counts as running from now on. `None` if no such task may run now.
    /// The queue whose last task was taken longest ago comes first. In a queue the task with the highest priority comes first,
    /// and among these the oldest.
    ///
    /// The caller must store the position. Later it passes the position to [`RunQueue::apply_change`] with the change that
    /// takes the task out of the queue, to [`RunQueue::give_back`], or to [`RunQueue::count_end`].
    pub fn take(&mut self, offer: &WorkOffer) -> Option<(TaskId, QueuePosition)> {
        self.ready.take_next(offer).map(|(position, task)| (task, position))
    }

    /// Puts a taken task back to its position, because it was not started and is still queued.
    pub fn give_back(&mut self, task: TaskId, position: &QueuePosition) {
        self.ready.count_end(position);
        self.ready.insert(position, task);
    }

    /// Subtracts a taken task from the counts of running tasks. The caller uses it for a task that is neither running nor queued
    /// now.
    pub fn count_end(&mut self, position: &QueuePosition) {
        self.ready.count_end(position);
    }

    /// Why no worker can take this queued task now; `None` if a worker can.
    #[must_use]
    pub fn obstacle(&self, row: &Row) -> Option<WaitingFor> {
        self.ready.obstacle(&QueuePosition::of(row))
    }
}

/// What a task's status means for the run queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// The task is queued.
    Ready,
    /// A worker executes an attempt of the task.
    Active,
    /// The task waits for a time, or is final.
    NotReady,
}

const fn readiness(row: &Row) -> Readiness {
    match row.status() {
        Status::Queued => Readiness::Ready,
        Status::Running | Status::Cancelling => Readiness::Active,
        Status::Scheduled | Status::Retrying | Status::Succeeded | Status::Failed | Status::Cancelled => {
            Readiness::NotReady
        }
    }
}

/// The name of a queue or a kind, or a concurrency key. Many tasks share its text.
type Name = Arc<str>;
