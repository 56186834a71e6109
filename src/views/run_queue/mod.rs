//! What may run next, and what the clock does next: the dispatcher's part of the read side.
//!
//! A fold like the others, of tasks as they were before and after each event, with one thing more: what the dispatcher
//! has offered to a worker counts as running from that moment on, so that nothing is offered twice and no limit is
//! passed while its `Started` is on the way.
//!
//! Reading order: this file, `ready` (queues, lanes and whose turn it is), `limits` (how many may run at once).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

mod limits;
mod ready;

pub use limits::Limits;
pub use ready::{Spot, Wants};

use super::doc::Waiting;
use super::queues::Queues;
use super::row::Row;
use crate::task::event::{QueuedReason, Rung};
use crate::task::limits::LOCAL_WORKER;
use crate::task::queue::QueueEvent;
use crate::task::{Position, Status, TaskId, Timestamp};

use ready::Ready;

/// What the clock does with a task, unless an event comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// What it waited for has come.
    Enqueue(QueuedReason),
    /// The next rung of the ladder, for this attempt.
    Climb(u32, Rung),
    /// This attempt has taken longer than so many seconds.
    TimeOut(u32, u64),
}

/// The tasks that are not final, by what comes next for them.
#[derive(Clone, Debug, Default)]
pub struct RunQueue {
    ready: Ready,
    /// Offered to a worker; the log doesn't say so yet.
    offered: HashMap<TaskId, Spot>,
    timers: BTreeMap<(Timestamp, Position), (TaskId, Timer)>,
}

impl RunQueue {
    /// Nothing yet, with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { ready: Ready::new(limits), ..Self::default() }
    }

    /// A task has changed, or is new.
    pub fn settle(&mut self, before: Option<&Row>, after: &Row) {
        self.settle_timer(before, after);
        let (was, is) = (before.map(standing), standing(after));
        if was == Some(is) {
            return;
        }
        let (task, spot) = (after.id(), Spot::of(after));
        match was {
            Some(Standing::Ready) if self.offered.remove(&task).is_some() => self.ready.stopped(&spot),
            Some(Standing::Ready) => self.ready.remove(&spot),
            Some(Standing::Active) => self.ready.stopped(&spot),
            Some(Standing::Aside) | None => {}
        }
        match is {
            Standing::Ready => self.ready.insert(&spot, task),
            Standing::Active => self.ready.started(&spot),
            Standing::Aside => {}
        }
    }

    fn settle_timer(&mut self, before: Option<&Row>, after: &Row) {
        let (was, is) = (before.and_then(timer), timer(after));
        if was == is {
            return;
        }
        let place = after.created_position();
        if let Some((at, _)) = was {
            self.timers.remove(&(at, place));
        }
        if let Some((at, timer)) = is {
            self.timers.insert((at, place), (after.id(), timer));
        }
    }

    /// A queue was paused or resumed.
    pub fn hear(&mut self, queue: &str, event: &QueueEvent) {
        self.ready.pause(queue, matches!(event, QueueEvent::Paused(_)));
    }

    /// The queues that are paused to begin with.
    pub fn pause_all(&mut self, queues: &Queues) {
        for (queue, _) in queues.paused() {
            self.ready.pause(queue, true);
        }
    }

    /// Offers the task whose turn it is among those that are wanted: from the queue that was served the longest ago, there
    /// the highest priority, then the oldest. None where no wanted task may run now.
    pub fn offer(&mut self, wants: &Wants) -> Option<TaskId> {
        let (spot, task) = self.ready.next(wants)?;
        self.offered.insert(task, spot);
        Some(task)
    }

    /// The offer came to nothing, and the task is as it was: it is put back in its place.
    pub fn take_back(&mut self, task: TaskId) {
        if let Some(spot) = self.offered.remove(&task) {
            self.ready.stopped(&spot);
            self.ready.insert(&spot, task);
        }
    }

    /// The offer was refused: the task has changed in a way that is not known here yet.
    pub fn forget(&mut self, task: TaskId) {
        if let Some(spot) = self.offered.remove(&task) {
            self.ready.stopped(&spot);
        }
    }

    /// Why a queued task can't be offered to anybody; none where it can.
    #[must_use]
    pub fn obstacle(&self, row: &Row) -> Option<Waiting> {
        self.ready.obstacle(&Spot::of(row))
    }

    /// Takes out the first `limit` timers whose time has come at `now`, the longest due first: who takes them out sees to
    /// it that they are heard.
    pub fn due(&mut self, now: Timestamp, limit: usize) -> Vec<(TaskId, Timer)> {
        let due = self.timers.range(..=(now, Position(u64::MAX))).take(limit).map(|(key, _)| *key);
        let due: Vec<_> = due.collect();
        due.iter().filter_map(|key| self.timers.remove(key)).collect()
    }

    /// When the next timer comes due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }
}

/// How a task stands to the workers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It waits for one.
    Ready,
    /// One has it.
    Active,
    /// Neither.
    Aside,
}

const fn standing(row: &Row) -> Standing {
    match row.status() {
        Status::Queued => Standing::Ready,
        Status::Running | Status::Cancelling => Standing::Active,
        Status::Scheduled | Status::Retrying | Status::Succeeded | Status::Failed | Status::Cancelled => {
            Standing::Aside
        }
    }
}

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

/// The worker inside a process ends its attempts itself: it alone knows when their code has stopped.
fn time_out(row: &Row) -> Option<(Timestamp, Timer)> {
    let (started, bound) = (row.started_at()?, row.timeout_s()?);
    let elsewhere = row.worker().is_some_and(|worker| !worker.starts_with(LOCAL_WORKER));
    elsewhere.then(|| (started.plus(Duration::from_secs(bound)), Timer::TimeOut(row.attempt(), bound)))
}

/// A name that many tasks share.
type Name = Arc<str>;
