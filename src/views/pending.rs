//! What may run next, what comes due, what runs: the dispatcher's part of the read side.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::row::Row;
use crate::task::event::QueuedReason;
use crate::task::{Position, Status, TaskId, Timestamp};

/// Higher priority first, then the older task.
type Turn = (Reverse<i32>, Position);

/// An attempt that a worker holds.
#[derive(Clone, Debug)]
struct Active {
    task: TaskId,
    attempt: u32,
    worker: Arc<str>,
    status: Status,
}

/// The tasks that are not final, by what comes next for them.
#[derive(Debug, Default)]
pub struct Pending {
    queued: HashMap<Arc<str>, BTreeMap<Turn, TaskId>>,
    due: BTreeMap<(Timestamp, Position), (TaskId, QueuedReason)>,
    active: BTreeMap<Position, Active>,
}

impl Pending {
    /// The queued task of this kind whose turn it is, among those that `skip` doesn't hold back.
    pub fn next(&self, kind: &str, skip: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        self.queued(kind).find(|task| !skip(*task))
    }

    /// The queued task of any of these kinds whose turn it is, among those that `skip` doesn't hold back.
    pub fn next_of(&self, kinds: &[String], skip: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        let turns = kinds.iter().filter_map(|kind| self.queued.get(kind.as_str()));
        let first = turns.filter_map(|turns| turns.iter().find(|(_, task)| !skip(**task)));
        first.min_by_key(|(turn, _)| **turn).map(|(_, task)| *task)
    }

    /// The queued tasks of this kind: higher priority first, then the older one.
    pub fn queued(&self, kind: &str) -> impl Iterator<Item = TaskId> {
        self.queued.get(kind).into_iter().flat_map(|turns| turns.values().copied())
    }

    /// The first `limit` scheduled and retrying tasks whose time has come at `now`, the longest due first.
    #[must_use]
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<(TaskId, QueuedReason)> {
        self.due.range(..=(now, Position(u64::MAX))).take(limit).map(|(_, task)| *task).collect()
    }

    /// When the next scheduled or retrying task comes due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The attempts that workers hold, in the order in which their tasks were created: task, attempt, worker, status.
    pub fn active(&self) -> impl Iterator<Item = (TaskId, u32, &str, Status)> {
        self.active.values().map(|one| (one.task, one.attempt, &*one.worker, one.status))
    }

    pub(super) fn update(&mut self, before: Option<&Row>, after: &Row) {
        if let Some(before) = before {
            if before.status() == after.status() && before.attempt() == after.attempt() {
                return;
            }
            self.remove(before);
        }
        self.insert(after);
    }

    fn remove(&mut self, row: &Row) {
        let place = row.created_position();
        match row.status() {
            Status::Scheduled | Status::Retrying => {
                if let Some((at, _)) = due(row) {
                    self.due.remove(&(at, place));
                }
            }
            Status::Queued => {
                if let Some(turns) = self.queued.get_mut(row.kind()) {
                    turns.remove(&(Reverse(row.priority()), place));
                    if turns.is_empty() {
                        self.queued.remove(row.kind());
                    }
                }
            }
            Status::Running | Status::Cancelling => {
                self.active.remove(&place);
            }
            Status::Succeeded | Status::Failed | Status::Cancelled => {}
        }
    }

    fn insert(&mut self, row: &Row) {
        let (task, place) = (row.id(), row.created_position());
        match row.status() {
            Status::Scheduled | Status::Retrying => {
                if let Some((at, reason)) = due(row) {
                    self.due.insert((at, place), (task, reason));
                }
            }
            Status::Queued => {
                let turns = self.queued.entry(Arc::clone(&row.place().kind)).or_default();
                turns.insert((Reverse(row.priority()), place), task);
            }
            Status::Running | Status::Cancelling => {
                if let Some(worker) = row.worker_name() {
                    let one = Active { task, attempt: row.attempt(), worker, status: row.status() };
                    self.active.insert(place, one);
                }
            }
            Status::Succeeded | Status::Failed | Status::Cancelled => {}
        }
    }
}

fn due(row: &Row) -> Option<(Timestamp, QueuedReason)> {
    match row.status() {
        Status::Scheduled => row.run_at().map(|at| (at, QueuedReason::RunAt)),
        Status::Retrying => row.retry_at().map(|at| (at, QueuedReason::RetryAt)),
        Status::Queued
        | Status::Running
        | Status::Cancelling
        | Status::Succeeded
        | Status::Failed
        | Status::Cancelled => None,
    }
}
