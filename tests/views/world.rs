//! The fixture of these tests: a log and its views.

use std::time::Duration;

use serde_json::{Value, to_value};
use taskbell::task::event::Progress;
use taskbell::task::{Command, TaskId};
use taskbell::views::{Cursor, Filter, Order, Page, PageRequest, Views, WaitingFor};

use super::history::{Log, plain};

/// A log and the views that follow it.
#[derive(Default)]
pub struct ViewsFixture {
    pub log: Log,
    pub views: Views,
}

impl ViewsFixture {
    /// Creates a task of the owner `ann`.
    pub fn create_task(&mut self, title: &str) -> TaskId {
        let id = self.log.create(plain("ann", title), "ann");
        self.apply_new_events();
        id
    }

    pub fn create_tasks(&mut self, count: usize) -> Vec<TaskId> {
        (0..count).map(|n| self.create_task(&format!("task {n}"))).collect()
    }

    /// Executes the command as `bob`, 1.5 s after the last one. Panics if it leads to no event.
    pub fn execute(&mut self, id: TaskId, command: &Command) {
        self.log.advance_time(Duration::from_millis(1500));
        let events = self.log.execute(id, command, "bob").unwrap();
        assert!(events > 0, "{command:?} led to nothing");
        self.apply_new_events();
    }

    /// Applies the new events of the log to the views.
    pub fn apply_new_events(&mut self) {
        let from = usize::try_from(self.views.position().0).unwrap();
        for recorded in &self.log.events[from..] {
            self.views.apply(recorded);
        }
    }

    /// The task as JSON, as a client sees it.
    pub fn task_doc(&self, id: TaskId) -> Value {
        to_value(self.views.get(id).unwrap().doc(WaitingFor::Worker, self.views.live_progress(id))).unwrap()
    }

    pub fn progress(&self, message: &str) -> Progress {
        Progress { fraction: Some(0.25), message: Some(message.to_owned()), at: self.log.now() }
    }

    /// The unseen tasks of `ann` that succeeded, failed and were cancelled.
    pub fn unseen(&self) -> (u64, u64, u64) {
        let unseen = self.views.counters("ann").unseen;
        (unseen.succeeded, unseen.failed, unseen.cancelled)
    }

    pub fn page(&self, filter: &Filter, limit: usize, cursor: Option<Cursor>) -> Page {
        self.views.page(filter, &PageRequest { order: Order::Desc, limit, cursor }).unwrap()
    }
}
