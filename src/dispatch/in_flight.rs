//! The tasks from the moment when they are taken from the run queue until their code has ended. Each has one entry.
//!
//! ```text
//!               take                    started_local                 code_stopped
//!  run queue ─────────▶ Starting ─────────────────────────▶ Executing ────────────▶ no entry, or AwaitingEvent
//!      ▲                 │    │
//!      │                 │    └─ started_remote ─▶ AwaitingEvent ─ `Started` arrives from the log ─▶ no entry
//!      │                 └────── drop_refused_start ──▶ no entry
//!      └── returned: the start could not be written, or the task was queued and taken again meanwhile
//! ```
//!
//! Besides its phase, an entry may have a *held position*: the position in the run queue from which the task was taken. While
//! it has one, the task counts against the limits. When the log's event shows that the task has left the queue, the held
//! position ends and the run queue itself counts the task. Three things race: the answer to the start, the events of the log
//! (the `Started` event, or a cancel that was faster), and the end of the code of an attempt in this process.
//!
//! - Before the answer, events may end the held position. If the task is queued again after that (it was retried) and taken
//!   again, the entry gets the new held position, and no second start is sent.
//! - At the answer: if the task was taken a second time before the answer, that second position goes back to the run queue. If it
//!   was not, and the start was refused, its held position ends. The event because of which the start was refused arrives later.
//! - After the answer, an attempt in this process keeps its entry until its code has stopped. If the task is taken for its next
//!   attempt before that, the next attempt waits until then, whichever worker is to execute it.

use super::directive::Directive;
use crate::task::{IdMap, TaskId};
use crate::views::{QueuePosition, Row, RunQueue, WorkOffer};

/// Where an attempt is to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// By a worker outside this process.
    Remote,
    /// By the worker inside this process, in one of its slots.
    LocalSlot,
    /// By the worker inside this process, in addition to its slots.
    LocalExtra,
}

/// The phase of a task.
#[derive(Debug)]
enum Phase {
    /// `Command::Start` was sent to the task's actor and is not answered yet.
    Starting {
        executor: Executor,
        /// The directives that the worker gets together with the attempt.
        directives: Vec<Directive>,
    },
    /// The code of this attempt runs in this process.
    Executing { attempt: u32, executor: Executor },
    /// The start was answered. The entry waits for the log's event, which ends the held position.
    AwaitingEvent,
}

/// The position in the run queue from which a task was taken. The task counts as running there.
#[derive(Debug)]
struct HeldPosition {
    position: QueuePosition,
    /// When the phase ends, the task returns to the queue: it was taken while it had an entry already, or its start could not
    /// be written.
    requeue: bool,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    held: Option<HeldPosition>,
}

/// Whether the attempt was started before its task leaves a phase.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AttemptStart {
    Started,
    NotStarted,
}

/// The table; see the module.
#[derive(Debug, Default)]
pub struct InFlight {
    tasks: IdMap<TaskId, Entry>,
    /// The number of entries with [`Executor::LocalSlot`].
    slots_in_use: usize,
    /// The number of entries with [`Executor::LocalExtra`].
    extra_in_use: usize,
}

impl InFlight {
    /// Takes the next task that the offer accepts from the run queue. The caller sends its start. A task that still has an
    /// entry is skipped: it keeps the new held position, and goes back to the queue when the entry's phase ends.
    pub fn take(&mut self, queue: &mut RunQueue, offer: &WorkOffer, executor: Executor) -> Option<TaskId> {
        loop {
            let (task, position) = queue.take(offer)?;
            let Some(entry) = self.tasks.get_mut(&task) else {
                let phase = Phase::Starting { executor, directives: Vec::new() };
                self.tasks.insert(task, Entry { phase, held: Some(HeldPosition { position, requeue: false }) });
                self.count(executor, 1);
                return Some(task);
            };
            if let Some(former) = entry.held.replace(HeldPosition { position, requeue: true }) {
                queue.count_end(&former.position);
            }
        }
    }

    /// Applies a change of a task to the run queue, with the task's held position if the change makes it leave the queue.
    /// `before` is none for a new task.
    pub fn apply_change(&mut self, queue: &mut RunQueue, before: Option<&Row>, after: &Row) {
        let leaves_queue = before.is_some_and(|before| RunQueue::leaves_queue(before, after));
        let held = if leaves_queue { self.take_held_position(after.id()) } else { None };
        queue.apply_change(before, after, held.as_ref().map(|held| &held.position));
    }

    /// Does the same as [`InFlight::apply_change`], but a task that becomes ready is held back until it is admitted.
    pub fn apply_change_deferred(&mut self, queue: &mut RunQueue, before: Option<&Row>, after: &Row) {
        let leaves_queue = before.is_some_and(|before| RunQueue::leaves_queue(before, after));
        let held = if leaves_queue { self.take_held_position(after.id()) } else { None };
        queue.apply_change_deferred(before, after, held.as_ref().map(|held| &held.position));
    }

    /// The start was written, and a worker outside this process executes the attempt.
    pub fn started_remote(&mut self, queue: &mut RunQueue, task: TaskId) {
        self.leave_phase(queue, task, AttemptStart::Started);
    }

    /// The start was written, and the worker inside this process executes the attempt. Returns the directives that were kept
    /// for the attempt.
    pub fn started_local(&mut self, task: TaskId, attempt: u32) -> Vec<Directive> {
        let Some(entry) = self.tasks.get_mut(&task) else { return Vec::new() };
        match &mut entry.phase {
            Phase::Starting { executor, directives } => {
                let (executor, directives) = (*executor, std::mem::take(directives));
                entry.phase = Phase::Executing { attempt, executor };
                directives
            }
            Phase::Executing { .. } | Phase::AwaitingEvent => Vec::new(),
        }
    }

    /// The rules refused the start, because the task has changed. The event of that change arrives later.
    pub fn drop_refused_start(&mut self, queue: &mut RunQueue, task: TaskId) {
        self.leave_phase(queue, task, AttemptStart::NotStarted);
    }

    /// The start could not be written. The task returns to its position in the run queue.
    pub fn requeue_start(&mut self, queue: &mut RunQueue, task: TaskId) {
        if let Some(held) = self.tasks.get_mut(&task).and_then(|entry| entry.held.as_mut()) {
            held.requeue = true;
        }
        self.leave_phase(queue, task, AttemptStart::NotStarted);
    }

    /// No code of the task's attempt runs in this process any more.
    pub fn code_stopped(&mut self, queue: &mut RunQueue, task: TaskId) {
        self.leave_phase(queue, task, AttemptStart::Started);
    }

    /// The number of the attempt in this process that must get the directive now. None if no attempt of the task runs here.
    /// None also if an attempt is being started here; then the directive is stored until the start is answered.
    pub fn route_directive(&mut self, task: TaskId, directive: Directive) -> Option<u32> {
        match &mut self.tasks.get_mut(&task)?.phase {
            Phase::Executing { attempt, .. } => Some(*attempt),
            Phase::Starting { executor: Executor::Remote, .. } | Phase::AwaitingEvent => None,
            Phase::Starting { directives, .. } => {
                directives.push(directive);
                None
            }
        }
    }

    /// Drops the directives that are kept for an attempt that is being started, because another run of the task begins.
    pub fn drop_directives(&mut self, task: TaskId) {
        if let Some(Entry { phase: Phase::Starting { directives, .. }, .. }) = self.tasks.get_mut(&task) {
            directives.clear();
        }
    }

    /// The number of slots of this process that are in use.
    #[must_use]
    pub const fn slots_in_use(&self) -> usize {
        self.slots_in_use
    }

    /// The number of attempts that are executed in this process in addition to its slots.
    #[must_use]
    pub const fn extra_in_use(&self) -> usize {
        self.extra_in_use
    }

    /// The attempts whose code runs in this process.
    pub fn executing(&self) -> impl Iterator<Item = (TaskId, u32)> {
        self.tasks.iter().filter_map(|(task, entry)| match entry.phase {
            Phase::Executing { attempt, .. } => Some((*task, attempt)),
            Phase::Starting { .. } | Phase::AwaitingEvent => None,
        })
    }

    /// The run queue was built anew from the views and has no held positions, so all held positions here are dropped. If the
    /// queue holds a task that has an entry, that task may be taken a second time. Directives that are kept for attempts are
    /// dropped too: they may be for a former run, and the caller sends the valid ones again, from the views.
    pub fn forget_held_positions(&mut self) {
        self.tasks.retain(|_, entry| {
            entry.held = None;
            if let Phase::Starting { directives, .. } = &mut entry.phase {
                directives.clear();
            }
            !matches!(entry.phase, Phase::AwaitingEvent)
        });
    }

    /// Ends the entry's phase. There are three cases for its held position:
    /// - if `requeue` is set, the task returns to that position;
    /// - if not, and the attempt was not started, the held position ends;
    /// - if not, and the attempt was started, it stays until the log's event arrives.
    fn leave_phase(&mut self, queue: &mut RunQueue, task: TaskId, start: AttemptStart) {
        let Some(mut entry) = self.tasks.remove(&task) else { return };
        if let Phase::Starting { executor, .. } | Phase::Executing { executor, .. } = entry.phase {
            self.uncount(executor);
        }
        match entry.held.take() {
            Some(held) if held.requeue => queue.give_back(task, &held.position),
            Some(held) if start == AttemptStart::NotStarted => queue.count_end(&held.position),
            Some(held) => {
                _ = self.tasks.insert(task, Entry { phase: Phase::AwaitingEvent, held: Some(held) });
            }
            None => {}
        }
    }

    fn take_held_position(&mut self, task: TaskId) -> Option<HeldPosition> {
        let entry = self.tasks.get_mut(&task)?;
        let held = entry.held.take();
        if matches!(entry.phase, Phase::AwaitingEvent) {
            self.tasks.remove(&task);
        }
        held
    }

    const fn count(&mut self, executor: Executor, more: usize) {
        match executor {
            Executor::LocalSlot => self.slots_in_use += more,
            Executor::LocalExtra => self.extra_in_use += more,
            Executor::Remote => {}
        }
    }

    const fn uncount(&mut self, executor: Executor) {
        match executor {
            Executor::LocalSlot => self.slots_in_use = self.slots_in_use.saturating_sub(1),
            Executor::LocalExtra => self.extra_in_use = self.extra_in_use.saturating_sub(1),
            Executor::Remote => {}
        }
    }
}
