//! The fixture of the rules: a log and its views.

use std::time::Duration;

use serde_json::{Value, to_value};
use taskbell::task::event::Progress;
use taskbell::task::{Command, TaskId};
use taskbell::views::{Cursor, Filter, Order, Page, PageRequest, Views, WaitingFor};

use super::history::{Log, plain};

/// A log and the views that follow it.
#[derive(Default)]
pub struct World {
    pub log: Log,
    pub views: Views,
}

impl World {
    pub fn task(&mut self, title: &str) -> TaskId {
        let id = self.log.create(plain("ann", title), "ann");
        self.follow();
        id
    }

    pub fn many(&mut self, count: usize) -> Vec<TaskId> {
        (0..count).map(|n| self.task(&format!("task {n}"))).collect()
    }

    pub fn does(&mut self, id: TaskId, command: &Command) {
        self.log.pass(Duration::from_millis(1500));
        let events = self.log.execute(id, command, "bob").unwrap();
        assert!(events > 0, "{command:?} led to nothing");
        self.follow();
    }

    pub fn follow(&mut self) {
        let from = usize::try_from(self.views.position().0).unwrap();
        for recorded in &self.log.events[from..] {
            self.views.apply(recorded);
        }
    }

    pub fn doc(&self, id: TaskId) -> Value {
        to_value(self.views.get(id).unwrap().doc(WaitingFor::Worker, self.views.live_progress(id))).unwrap()
    }

    pub fn progress(&self, message: &str) -> Progress {
        Progress { fraction: Some(0.25), message: Some(message.to_owned()), at: self.log.now() }
    }

    pub fn unseen(&self) -> (u64, u64, u64) {
        let unseen = self.views.counters("ann").unseen;
        (unseen.succeeded, unseen.failed, unseen.cancelled)
    }

    pub fn page(&self, filter: &Filter, limit: usize, cursor: Option<Cursor>) -> Page {
        self.views.page(filter, &PageRequest { order: Order::Desc, limit, cursor }).unwrap()
    }
}
