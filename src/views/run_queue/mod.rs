//! The tasks that may run next, and the timers of tasks: the dispatcher's part of the read side.
//!
//! A fold like the other views: it applies each task as it was before and after an event. In addition the dispatcher takes
//! tasks out of it to have them started. A taken task counts as running from then on, before its `Started` is in the log:
//! so no task is taken twice, and no limit is exceeded meanwhile. The dispatcher keeps the position that it was taken from,
//! and hands it in with the next change of the task, or gives it back.
//!
//! Reading order: this file, `ready` (queues, backlogs and precedence), `limits` (how many tasks may run at once).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

mod limits;
mod ready;

pub use limits::Limits;
pub use ready::{QueuePosition, WorkOffer};

use super::doc::Waiting;
use super::queues::Queues;
use super::row::Row;
use crate::task::deadlines::DeadlineQueue;
use crate::task::event::{QueuedReason, Rung};
use crate::task::limits::LOCAL_WORKER;
use crate::task::queue::QueueEvent;
use crate::task::{Status, TaskId, Timestamp};

use ready::ReadyTasks;

/// What happens to a task when its deadline comes, unless an event comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The task becomes ready: the time that it waited for has come.
    Enqueue(QueuedReason),
    /// The cancel ladder of this attempt climbs to this rung.
    Climb(u32, Rung),
    /// This attempt has taken longer than so many seconds.
    TimeOut(u32, u64),
}

/// The tasks that are not final, by what comes next for them.
#[derive(Clone, Debug, Default)]
pub struct RunQueue {
    ready: ReadyTasks,
    timers: DeadlineQueue<Timestamp, TaskId, Timer>,
    /// Queued tasks that are left to other servers at first.
    held: HashMap<TaskId, QueuePosition>,
}

impl RunQueue {
    /// An empty queue with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { ready: ReadyTasks::new(limits), ..Self::default() }
    }

    /// An empty queue with the same limits.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self::new(self.ready.limits().clone())
    }

    /// Whether the task is queued before the change and not after it.
    #[must_use]
    pub fn leaves(before: &Row, after: &Row) -> bool {
        readiness(before) == Readiness::Ready && readiness(after) != Readiness::Ready
    }

    /// Applies a change of a task; `before` is none for a new task. `taken` is the position that the task was taken from,
    /// if it was and the change makes it leave the queue.
    pub fn apply_change(&mut self, before: Option<&Row>, after: &Row, taken: Option<&QueuePosition>) {
        self.apply(before, after, taken, false);
    }

    /// The same, but where the task becomes ready, it can't be taken before [`RunQueue::admit`].
    pub fn apply_change_held(&mut self, before: Option<&Row>, after: &Row, taken: Option<&QueuePosition>) {
        self.apply(before, after, taken, true);
    }

    fn apply(&mut self, before: Option<&Row>, after: &Row, taken: Option<&QueuePosition>, hold: bool) {
        self.reset_timer(before, after);
        let (was, is) = (before.map(readiness), readiness(after));
        if was == Some(is) {
            return;
        }
        let (task, position) = (after.id(), QueuePosition::of(after));
        match was {
            Some(Readiness::Ready) => match taken {
                Some(taken) => self.release(taken),
                None if self.held.remove(&task).is_some() => {}
                None => self.ready.remove(&position),
            },
            Some(Readiness::Active) => self.ready.count_end(&position),
            Some(Readiness::NotReady) | None => {}
        }
        match is {
            Readiness::Ready if hold => _ = self.held.insert(task, position),
            Readiness::Ready => self.ready.insert(&position, task),
            Readiness::Active => self.ready.count_start(&position),
            Readiness::NotReady => {}
        }
    }

    /// A task that was held back can be taken from now on, if it is still queued.
    pub fn admit(&mut self, task: TaskId) {
        if let Some(position) = self.held.remove(&task) {
            self.ready.insert(&position, task);
        }
    }

    /// A timer that was taken out by [`RunQueue::due`] comes back at this time, unless an event resets it before.
    pub fn postpone(&mut self, task: TaskId, timer: Timer, until: Timestamp) {
        self.timers.set(task, until, timer);
    }

    /// Sets the timer of the task anew if the change moved it. A timer that was taken out by [`RunQueue::due`] doesn't come
    /// back without such a change.
    fn reset_timer(&mut self, before: Option<&Row>, after: &Row) {
        let next = timer(after);
        if before.and_then(timer) == next {
            return;
        }
        match next {
            Some((at, timer)) => self.timers.set(after.id(), at, timer),
            None => _ = self.timers.remove(after.id()),
        }
    }

    /// Applies the pause or the end of the pause of a queue.
    pub fn apply_queue_event(&mut self, queue: &str, event: &QueueEvent) {
        self.ready.pause(queue, matches!(event, QueueEvent::Paused(_)));
    }

    /// Pauses the queues that the views show as paused, before any task is applied.
    pub fn pause_all(&mut self, queues: &Queues) {
        for (queue, _) in queues.paused() {
            self.ready.pause(queue, true);
        }
    }

    /// Takes the next task that the worker executes: of the queue that was served the longest ago the task with the highest
    /// priority, and of these the oldest. None where no such task may run now.
    ///
    /// The position is handed in with the change by which the task leaves the queue, with [`RunQueue::give_back`] or with
    /// [`RunQueue::release`].
    pub fn take(&mut self, wants: &WorkOffer) -> Option<(TaskId, QueuePosition)> {
        self.ready.take_next(wants).map(|(position, task)| (task, position))
    }

    /// The task was not started and is queued as before: it returns to its position.
    pub fn give_back(&mut self, task: TaskId, position: &QueuePosition) {
        self.ready.count_end(position);
        self.ready.insert(position, task);
    }

    /// The task doesn't count as running any more, and is not queued either.
    pub fn release(&mut self, position: &QueuePosition) {
        self.ready.count_end(position);
    }

    /// Why a queued task can't be offered to any worker; none where it can.
    #[must_use]
    pub fn obstacle(&self, row: &Row) -> Option<Waiting> {
        self.ready.obstacle(&QueuePosition::of(row))
    }

    /// Removes at most `limit` timers that are due at `now`, the earliest first. The caller must act on them: they don't
    /// come back.
    pub fn due(&mut self, now: Timestamp, limit: usize) -> Vec<(TaskId, Timer)> {
        self.timers.take_due(now, limit)
    }

    /// The deadline of the next timer.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }
}

/// Whether a task waits for a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// The task waits for a worker.
    Ready,
    /// A worker executes the task.
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

/// The timer of the task in its present state, with its deadline.
fn timer(row: &Row) -> Option<(Timestamp, Timer)> {
    match row.status() {
        Status::Scheduled => row.run_at().map(|at| (at, Timer::Enqueue(QueuedReason::RunAt))),
        Status::Retrying => row.retry_at().map(|at| (at, Timer::Enqueue(QueuedReason::RetryAt))),
        Status::Running | Status::Cancelling => {
            let climb = row.cancel().and_then(super::Cancel::next_rung);
            let climb = climb.map(|(at, rung)| (at, Timer::Climb(row.attempt(), rung)));
            let earlier = |at: Timestamp| climb.is_none_or(|(climb, _)| at < climb);
            time_out(row).filter(|(at, _)| earlier(*at)).or(climb)
        }
        Status::Queued | Status::Succeeded | Status::Failed | Status::Cancelled => None,
    }
}

/// The end of an attempt's time. An attempt of the worker inside the process has no such timer: that worker ends it, and
/// knows when its code has stopped.
fn time_out(row: &Row) -> Option<(Timestamp, Timer)> {
    let (started, seconds) = (row.started_at()?, row.timeout_s()?);
    let is_remote = row.worker().is_some_and(|worker| !worker.starts_with(LOCAL_WORKER));
    is_remote.then(|| (started.plus(Duration::from_secs(seconds)), Timer::TimeOut(row.attempt(), seconds)))
}

/// A name that many tasks share.
type Name = Arc<str>;
