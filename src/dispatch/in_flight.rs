//! The tasks between their turn in the run queue and the end of their code: one entry for each.
//!
//! ```text
//!               take                     started here                    stopped
//!  run queue ─────────▶ Starting ─────────────────────────▶ Executing ───────────▶ gone, or Announced
//!      ▲                 │    │
//!      │                 │    └─ started elsewhere ─▶ Announced ─ `Started` arrives from the log ─▶ gone
//!      │                 └────── refused ───────────▶ gone
//!      └── given back: the start could not be written, or the task was queued again meanwhile
//! ```
//!
//! Beside its phase an entry may hold a *turn*: the task's place in the run queue, which counts against the limits from the
//! moment when the task is taken until the log's own event does. Three things race: the answer to the start, the events of
//! the log (the start's own, or a cancel that was faster), and the end of the code of an attempt in this process.
//!
//! - Before the answer: events may take the turn away (the start's own event, or a cancel). If the task is queued again
//!   then (it was retried) and taken again, the entry gets the new turn and no second start is sent.
//! - With the answer: if the task was taken a second time meanwhile, that turn returns to the run queue, whatever the answer
//!   was. If the start was refused and the task was not taken again, its turn ends: the event that made the rules refuse is
//!   on its way.
//! - After it: an attempt in this process keeps its entry until its code has stopped. A task whose next attempt's turn comes
//!   earlier waits for that, for whichever worker it is.

use std::collections::HashMap;

use super::directive::Directive;
use crate::task::TaskId;
use crate::views::{QueuePosition, Row, RunQueue, WorkOffer};

/// Where an attempt is to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// By a worker outside this process.
    Elsewhere,
    /// In this process, in one of its slots.
    Slot,
    /// In this process, beside its slots.
    BesideSlots,
}

/// How far a task has come.
#[derive(Debug)]
enum Phase {
    /// `Start` was sent to the task's actor, and is not answered yet.
    Starting {
        executor: Executor,
        /// The directives that the attempt gets as soon as it is handed over.
        directives: Vec<Directive>,
    },
    /// The code of this attempt runs in this process.
    Executing { attempt: u32, executor: Executor },
    /// The start was answered, and nothing is left to do but to see its event.
    Announced,
}

/// A place in the run queue that counts as running.
#[derive(Debug)]
struct Turn {
    position: QueuePosition,
    /// It was taken while the entry was there already.
    is_second: bool,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    turn: Option<Turn>,
}

/// The table; see the module.
#[derive(Debug, Default)]
pub struct InFlight {
    tasks: HashMap<TaskId, Entry>,
    /// Entries whose executor is a slot of this process.
    in_slots: usize,
    /// Entries whose executor is this process beside its slots.
    beside_slots: usize,
}

impl InFlight {
    /// Takes the task whose turn it is among those that are wanted; the caller sends its start. A task whose former start
    /// is not answered, or whose former attempt's code still runs here, keeps its turn until then.
    pub fn take(&mut self, queue: &mut RunQueue, wants: &WorkOffer, executor: Executor) -> Option<TaskId> {
        loop {
            let (task, position) = queue.take(wants)?;
            let Some(entry) = self.tasks.get_mut(&task) else {
                let phase = Phase::Starting { executor, directives: Vec::new() };
                self.tasks.insert(task, Entry { phase, turn: Some(Turn { position, is_second: false }) });
                self.count(executor, 1);
                return Some(task);
            };
            if let Some(former) = entry.turn.replace(Turn { position, is_second: true }) {
                queue.count_end(&former.position);
            }
        }
    }

    /// A task has changed, or is new: the run queue follows, with the turn that the task holds.
    pub fn apply_change(&mut self, queue: &mut RunQueue, before: Option<&Row>, after: &Row) {
        let leaves_queue = before.is_some_and(|before| RunQueue::leaves_queue(before, after));
        let turn = if leaves_queue { self.take_turn(after.id()) } else { None };
        queue.apply_change(before, after, turn.as_ref().map(|turn| &turn.position));
    }

    /// The same, but where the task becomes ready, the queue holds it back.
    pub fn apply_change_deferred(&mut self, queue: &mut RunQueue, before: Option<&Row>, after: &Row) {
        let leaves_queue = before.is_some_and(|before| RunQueue::leaves_queue(before, after));
        let turn = if leaves_queue { self.take_turn(after.id()) } else { None };
        queue.apply_change_deferred(before, after, turn.as_ref().map(|turn| &turn.position));
    }

    /// The start was written, and its attempt is executed by a worker elsewhere.
    pub fn started_elsewhere(&mut self, queue: &mut RunQueue, task: TaskId) {
        self.leave(queue, task, false);
    }

    /// The start was written, and its attempt is executed in this process; returns the directives that it gets at once.
    pub fn started_here(&mut self, task: TaskId, attempt: u32) -> Vec<Directive> {
        let Some(entry) = self.tasks.get_mut(&task) else { return Vec::new() };
        match &mut entry.phase {
            Phase::Starting { executor, directives } => {
                let (executor, directives) = (*executor, std::mem::take(directives));
                entry.phase = Phase::Executing { attempt, executor };
                directives
            }
            Phase::Executing { .. } | Phase::Announced => Vec::new(),
        }
    }

    /// The rules refused the start: the task has changed in a way that the queue is about to learn.
    pub fn refused(&mut self, queue: &mut RunQueue, task: TaskId) {
        self.leave(queue, task, true);
    }

    /// The start could not be written: the task waits for its turn again.
    pub fn not_written(&mut self, queue: &mut RunQueue, task: TaskId) {
        if let Some(turn) = self.tasks.get_mut(&task).and_then(|entry| entry.turn.as_mut()) {
            turn.is_second = true;
        }
        self.leave(queue, task, true);
    }

    /// None of the code of the task's attempt runs in this process any more.
    pub fn stopped(&mut self, queue: &mut RunQueue, task: TaskId) {
        self.leave(queue, task, false);
    }

    /// The attempt in this process that the directive is for; none where there is none, or where it keeps the directive until
    /// the attempt is handed over.
    pub fn direct(&mut self, task: TaskId, directive: Directive) -> Option<u32> {
        match &mut self.tasks.get_mut(&task)?.phase {
            Phase::Executing { attempt, .. } => Some(*attempt),
            Phase::Starting { executor: Executor::Elsewhere, .. } | Phase::Announced => None,
            Phase::Starting { directives, .. } => {
                directives.push(directive);
                None
            }
        }
    }

    /// Another run of the task begins: directives for the one before don't count for it.
    pub fn begin_run(&mut self, task: TaskId) {
        if let Some(Entry { phase: Phase::Starting { directives, .. }, .. }) = self.tasks.get_mut(&task) {
            directives.clear();
        }
    }

    /// How many attempts take a slot of this process.
    #[must_use]
    pub const fn in_slots(&self) -> usize {
        self.in_slots
    }

    /// How many attempts are executed in this process beside its slots.
    #[must_use]
    pub const fn beside_slots(&self) -> usize {
        self.beside_slots
    }

    /// The attempts whose code runs in this process.
    pub fn executing(&self) -> impl Iterator<Item = (TaskId, u32)> {
        self.tasks.iter().filter_map(|(task, entry)| match entry.phase {
            Phase::Executing { attempt, .. } => Some((*task, attempt)),
            Phase::Starting { .. } | Phase::Announced => None,
        })
    }

    /// The run queue was made anew and knows no turns: a task that it still has there is taken again and waits. Directives that
    /// wait for a hand-over are dropped: they may be for a former run, and the views say which ones still hold.
    pub fn forget_turns(&mut self) {
        self.tasks.retain(|_, entry| {
            entry.turn = None;
            if let Phase::Starting { directives, .. } = &mut entry.phase {
                directives.clear();
            }
            !matches!(entry.phase, Phase::Announced)
        });
    }

    /// The entry's phase is over. A second turn goes back to the queue; one that came to nothing is let go; any other stays
    /// until the log's event takes it.
    fn leave(&mut self, queue: &mut RunQueue, task: TaskId, in_vain: bool) {
        let Some(mut entry) = self.tasks.remove(&task) else { return };
        if let Phase::Starting { executor, .. } | Phase::Executing { executor, .. } = entry.phase {
            self.uncount(executor);
        }
        match entry.turn.take() {
            Some(turn) if turn.is_second => queue.give_back(task, &turn.position),
            Some(turn) if in_vain => queue.count_end(&turn.position),
            Some(turn) => _ = self.tasks.insert(task, Entry { phase: Phase::Announced, turn: Some(turn) }),
            None => {}
        }
    }

    fn take_turn(&mut self, task: TaskId) -> Option<Turn> {
        let entry = self.tasks.get_mut(&task)?;
        let turn = entry.turn.take();
        if matches!(entry.phase, Phase::Announced) {
            self.tasks.remove(&task);
        }
        turn
    }

    const fn count(&mut self, executor: Executor, more: usize) {
        match executor {
            Executor::Slot => self.in_slots += more,
            Executor::BesideSlots => self.beside_slots += more,
            Executor::Elsewhere => {}
        }
    }

    const fn uncount(&mut self, executor: Executor) {
        match executor {
            Executor::Slot => self.in_slots = self.in_slots.saturating_sub(1),
            Executor::BesideSlots => self.beside_slots = self.beside_slots.saturating_sub(1),
            Executor::Elsewhere => {}
        }
    }
}
