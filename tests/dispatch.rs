//! What waits for its turn and what is in flight: the run queue and the table of starts.

mod in_flight;
mod run_queue;

use taskbell::dispatch::in_flight::{Executor, InFlight};
use taskbell::task::{Command, TaskId};
use taskbell::views::{Limits, RunQueue, Views, WaitingFor, WorkOffer};

use crate::views::history::{Created, Log, plain};

/// A log, its views, and the run queue and the table of starts that follow them.
struct Fixture {
    log: Log,
    views: Views,
    queue: RunQueue,
    in_flight: InFlight,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        Self {
            log: Log::default(),
            views: Views::default(),
            queue: RunQueue::new(limits),
            in_flight: InFlight::default(),
        }
    }

    fn task(&mut self, with: impl FnOnce(&mut Created)) -> TaskId {
        let mut created = plain("ann", "x");
        with(&mut created);
        let id = self.log.create(created, "ann");
        self.follow();
        id
    }

    /// A new task that is left to another server at first.
    fn held_task(&mut self) -> TaskId {
        let id = self.log.create(plain("ann", "x"), "ann");
        let changed = self.views.apply(self.log.events.last().unwrap()).task.unwrap();
        self.in_flight.apply_change_deferred(&mut self.queue, changed.before.as_ref(), &changed.after);
        id
    }

    /// Executes the command, and lets its events arrive.
    fn does(&mut self, id: TaskId, command: &Command) {
        self.executes(id, command);
        self.follow();
    }

    /// Executes the command; its events are on their way.
    fn executes(&mut self, id: TaskId, command: &Command) {
        self.log.execute(id, command, "bob").unwrap();
    }

    /// The events that are on their way arrive.
    fn follow(&mut self) {
        let from = usize::try_from(self.views.position().0).unwrap();
        for recorded in &self.log.events[from..] {
            if let Some(changed) = self.views.apply(recorded).task {
                self.in_flight.apply_change(&mut self.queue, changed.before.as_ref(), &changed.after);
            }
        }
    }

    /// Takes the next task for an executor that accepts any.
    fn take(&mut self, executor: Executor) -> Option<TaskId> {
        self.in_flight.take(&mut self.queue, &WorkOffer::default(), executor)
    }

    /// Takes the next task for a worker elsewhere.
    fn next(&mut self) -> Option<TaskId> {
        self.take(Executor::Elsewhere)
    }

    /// Takes all tasks that may run now, in order.
    fn all(&mut self) -> Vec<TaskId> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn not_written(&mut self, id: TaskId) {
        self.in_flight.not_written(&mut self.queue, id);
    }

    fn refused(&mut self, id: TaskId) {
        self.in_flight.refused(&mut self.queue, id);
    }

    fn stopped(&mut self, id: TaskId) {
        self.in_flight.stopped(&mut self.queue, id);
    }

    fn waits_for(&self, id: TaskId) -> Option<WaitingFor> {
        self.queue.obstacle(self.views.get(id).unwrap())
    }
}
