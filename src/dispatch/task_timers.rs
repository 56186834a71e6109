//! The timers of tasks: when a task becomes ready, an attempt has taken too long, or a cancel reaches its next rung. The module
//! reads no clock; the caller passes the times.
//!
//! A task's `run_at` is a time of the wall clock, which may be set forward or back. All other timers run for a duration that
//! begins with an event. They follow the monotonic clock, so that a change of the wall clock neither delays nor hastens them.
//! After a restart only the times in the log are left. Then such a timer runs until the time in the log by the wall clock, but
//! never longer than its whole duration.
//!
//! A worker outside the process could not hear of a cancel while this server was down. So after a restart the present rung of
//! its cancel begins anew, when the worker's first heartbeat is answered. If no heartbeat comes, the lease ends the attempt.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::task::deadlines::DeadlineQueue;
use crate::task::event::{QueuedReason, Rung};
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::retry::longest_pause;
use crate::task::{Status, TaskId, Timestamp};
use crate::views::Row;

/// While a task waits for a time of the wall clock, the clock is read at least this often: it may be set forward.
pub const CLOCK_READ_INTERVAL: Duration = Duration::from_secs(1);

/// What the dispatcher does when a timer is due. An event of the task may remove the timer before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// It enqueues the task: the time for which the task waited is reached.
    Enqueue(QueuedReason),
    /// It escalates the cancel of this attempt to this rung.
    Escalate {
        /// The number of the attempt.
        attempt: u32,
        /// The rung.
        rung: Rung,
    },
    /// It ends this attempt, because the attempt has taken longer than `limit_s` seconds.
    TimeOut {
        /// The number of the attempt.
        attempt: u32,
        /// The longest duration of an attempt, in seconds.
        limit_s: u64,
    },
}

/// A timer of a task. A task has at most one timer in each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTimer {
    /// What is done.
    pub timer: Timer,
    /// When it is due, by the times in the log.
    pub due: Timestamp,
    /// How long it runs; `None` if it follows the wall clock.
    pub duration: Option<Duration>,
    /// It was due already, and was left to another server of the cluster for a moment.
    pub was_postponed: bool,
}

/// The timers that exclude each other share a slot. The others of a task run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Slot {
    Ready,
    Ladder,
    Attempt,
}

/// The wall clock and the monotonic clock at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time of the wall clock.
    pub wall: Timestamp,
    /// The time of the monotonic clock.
    pub steady: Instant,
}

/// The timers of all tasks; see the module.
#[derive(Debug, Default)]
pub struct TaskTimers {
    by_wall_clock: DeadlineQueue<Timestamp, TaskId, TaskTimer>,
    steady: DeadlineQueue<Instant, (TaskId, Slot), TaskTimer>,
    /// The timers of cancels of which the worker has not heard since this server started.
    unheard: HashMap<TaskId, TaskTimer>,
}

impl TaskTimers {
    /// Applies a change of a task by an event of the time `at`, which has arrived at `now`. `before` is `None` for a new task.
    pub fn apply_change(&mut self, before: Option<&Row>, after: &Row, at: Timestamp, now: Instant) {
        for slot in [Slot::Ready, Slot::Ladder, Slot::Attempt] {
            let timer = timer_in(slot, after, Some(at));
            let is_same = |former: &TaskTimer| timer.is_some_and(|timer| former.is_same(&timer));
            match before.and_then(|before| timer_in(slot, before, Some(at))) {
                None if timer.is_none() => {}
                Some(former) if is_same(&former) => {}
                Some(_) | None => {
                    self.remove(after.id(), slot);
                    if let Some(timer) = timer {
                        self.set(after.id(), slot, timer, now + timer.duration.unwrap_or_default());
                    }
                }
            }
        }
    }

    /// Sets the timers of a task as the views show it, without the event that set them. `former` has the timers before that: a
    /// timer that it has keeps its deadline. `is_first`: this server has just started.
    pub fn restore(&mut self, row: &Row, former: &Self, is_first: bool, now: Moment) {
        for slot in [Slot::Ready, Slot::Ladder, Slot::Attempt] {
            let Some(timer) = timer_in(slot, row, None) else { continue };
            let task = row.id();
            let known = former.steady.get(&(task, slot)).filter(|(_, known)| known.is_same(&timer));
            if let Some((deadline, known)) = known {
                self.set(task, slot, *known, deadline);
            } else if slot == Slot::Ladder && (former.unheard.contains_key(&task) || (is_first && is_remote(row))) {
                self.unheard.insert(task, timer);
            } else {
                let whole = timer.duration.unwrap_or_default();
                // The rung of a cancel begins anew: its worker may not have heard of it.
                let left = if slot == Slot::Ladder { whole } else { whole.min(timer.due.since(now.wall)) };
                self.set(task, slot, timer, now.steady + left);
            }
        }
    }

    /// A heartbeat of the task's worker is answered at `now`, so the worker hears of a request to cancel.
    pub fn worker_has_heard(&mut self, task: TaskId, now: Instant) {
        if let Some(timer) = self.unheard.remove(&task) {
            self.set(task, Slot::Ladder, timer, now + timer.duration.unwrap_or_default());
        }
    }

    /// Whether a worker has not heard yet of a request to cancel.
    #[must_use]
    pub fn has_unheard(&self) -> bool {
        !self.unheard.is_empty()
    }

    /// Sets a timer again that [`TaskTimers::take_due`] has removed. An event of the task may replace it before `until`.
    pub fn postpone(&mut self, task: TaskId, timer: TaskTimer, until: Instant) {
        let timer = TaskTimer { was_postponed: true, ..timer };
        self.steady.set((task, timer.slot()), until, timer);
    }

    /// Removes at most `limit` timers that are due at `now`, and returns them. The caller must act on them, because they are
    /// not set again.
    pub fn take_due(&mut self, now: Moment, limit: usize) -> Vec<(TaskId, TaskTimer)> {
        let mut due = self.by_wall_clock.take_due(now.wall, limit);
        let steady = self.steady.take_due(now.steady, limit - due.len());
        due.extend(steady.into_iter().map(|((task, _), timer)| (task, timer)));
        due
    }

    /// When the caller must look for due timers again. `None` if there is none.
    #[must_use]
    pub fn next_look(&self, now: Moment) -> Option<Instant> {
        let by_wall_clock = self.by_wall_clock.next_deadline();
        let by_wall_clock = by_wall_clock.map(|due| now.steady + due.since(now.wall).min(CLOCK_READ_INTERVAL));
        by_wall_clock.into_iter().chain(self.steady.next_deadline()).min()
    }

    fn set(&mut self, task: TaskId, slot: Slot, timer: TaskTimer, deadline: Instant) {
        match timer.duration {
            None if !timer.was_postponed => self.by_wall_clock.set(task, timer.due, timer),
            None | Some(_) => self.steady.set((task, slot), deadline, timer),
        }
    }

    fn remove(&mut self, task: TaskId, slot: Slot) {
        self.steady.remove((task, slot));
        match slot {
            Slot::Ready => _ = self.by_wall_clock.remove(task),
            Slot::Ladder => _ = self.unheard.remove(&task),
            Slot::Attempt => {}
        }
    }
}

impl TaskTimer {
    const fn new(timer: Timer, due: Timestamp, duration: Option<Duration>) -> Self {
        Self { timer, due, duration, was_postponed: false }
    }

    const fn slot(&self) -> Slot {
        match self.timer {
            Timer::Enqueue(_) => Slot::Ready,
            Timer::Escalate { .. } => Slot::Ladder,
            Timer::TimeOut { .. } => Slot::Attempt,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.timer, self.due) == (other.timer, other.due)
    }
}

/// The timer that the task has in this slot. `changed_at` is the time of its last event, if that is known.
fn timer_in(slot: Slot, row: &Row, changed_at: Option<Timestamp>) -> Option<TaskTimer> {
    match (slot, row.status()) {
        (Slot::Ready, Status::Scheduled) => {
            Some(TaskTimer::new(Timer::Enqueue(QueuedReason::RunAt), row.run_at()?, None))
        }
        (Slot::Ready, Status::Retrying) => {
            let due = row.retry_at()?;
            // A run has at most as many attempts as its task, so its pause is not longer than this.
            let pause = changed_at.map_or_else(|| longest_pause(row.attempt()), |at| due.since(at));
            Some(TaskTimer::new(Timer::Enqueue(QueuedReason::RetryAt), due, Some(pause)))
        }
        (Slot::Ladder, Status::Running | Status::Cancelling) => {
            let (due, rung) = row.cancel()?.next_rung()?;
            let duration = due.since(row.cancel()?.rung_at);
            Some(TaskTimer::new(Timer::Escalate { attempt: row.attempt(), rung }, due, Some(duration)))
        }
        (Slot::Attempt, Status::Running | Status::Cancelling) => {
            // The worker inside the process ends the attempt itself, because it knows when the code has stopped.
            let (started, limit_s) = (row.started_at()?, row.timeout_s().filter(|_| is_remote(row))?);
            let duration = Duration::from_secs(limit_s);
            let timer = Timer::TimeOut { attempt: row.attempt(), limit_s };
            Some(TaskTimer::new(timer, started.plus(duration), Some(duration)))
        }
        (
            Slot::Ready | Slot::Ladder | Slot::Attempt,
            Status::Scheduled
            | Status::Queued
            | Status::Running
            | Status::Cancelling
            | Status::Retrying
            | Status::Succeeded
            | Status::Failed
            | Status::Cancelled,
        ) => None,
    }
}

/// Whether a worker outside the process executes the attempt.
fn is_remote(row: &Row) -> bool {
    row.worker().is_some_and(|worker| !worker.starts_with(LOCAL_WORKER_PREFIX))
}
