//! Tests of the run queue, the in-flight table and the timers of tasks, without actors.

mod in_flight;
mod run_queue;
mod task_timers;

use taskbell::dispatch::in_flight::{Executor, InFlight};
use taskbell::task::{Command, TaskId};
use taskbell::views::{Limits, RunQueue, Views, WaitingFor, WorkOffer};

use crate::views::history::{Created, Log, plain};

/// A log, its views, a run queue and an in-flight table. The test decides when new events are applied to them.
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

    /// Creates a task; `change` may change the request.
    fn task(&mut self, change: impl FnOnce(&mut Created)) -> TaskId {
        let mut created = plain("ann", "x");
        change(&mut created);
        let id = self.log.create(created, "ann");
        self.apply_new_events();
        id
    }

    /// Creates a task that this server holds back at first, so that another server can take it.
    fn held_task(&mut self) -> TaskId {
        let id = self.log.create(plain("ann", "x"), "ann");
        let changed = self.views.apply(self.log.events.last().unwrap()).task.unwrap();
        self.in_flight.apply_change_deferred(&mut self.queue, changed.before.as_ref(), &changed.after);
        id
    }

    /// Executes the command and applies its events.
    fn execute_and_apply(&mut self, id: TaskId, command: &Command) {
        self.execute(id, command);
        self.apply_new_events();
    }

    /// Executes the command, but does not apply its events yet.
    fn execute(&mut self, id: TaskId, command: &Command) {
        self.log.execute(id, command, "bob").unwrap();
    }

    /// Applies the new events of the log.
    fn apply_new_events(&mut self) {
        let from = usize::try_from(self.views.position().0).unwrap();
        for recorded in &self.log.events[from..] {
            if let Some(changed) = self.views.apply(recorded).task {
                self.in_flight.apply_change(&mut self.queue, changed.before.as_ref(), &changed.after);
            }
        }
    }

    /// Takes the next task for an executor that accepts any task.
    fn take(&mut self, executor: Executor) -> Option<TaskId> {
        self.in_flight.take(&mut self.queue, &WorkOffer::default(), executor)
    }

    /// Takes the next task for a remote worker.
    fn next(&mut self) -> Option<TaskId> {
        self.take(Executor::Remote)
    }

    /// Takes all tasks that may run now, in order.
    fn all(&mut self) -> Vec<TaskId> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn not_written(&mut self, id: TaskId) {
        self.in_flight.requeue_start(&mut self.queue, id);
    }

    fn refused(&mut self, id: TaskId) {
        self.in_flight.drop_refused_start(&mut self.queue, id);
    }

    fn stopped(&mut self, id: TaskId) {
        self.in_flight.code_stopped(&mut self.queue, id);
    }

    fn waits_for(&self, id: TaskId) -> Option<WaitingFor> {
        self.queue.obstacle(&self.views.get(id).unwrap())
    }
}
