//! The queued tasks, and which of them is taken next.
//!
//! Each queue has a backlog for each kind, ordered by precedence. The tasks of a backlog with the same `concurrency_key` form
//! a group. A group has one entry in the backlog, for its first task, and only while fewer tasks with the key run than the
//! limit allows. So the next task is found with a few look-ups in sorted maps, even if many tasks wait for a limit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::limits::RunningCounts;
use super::{Limits, Name};
use crate::task::limits::is_reserved;
use crate::task::{Position, TaskId};
use crate::views::doc::WaitingFor;
use crate::views::row::Row;

/// The order of the tasks in a queue. The higher priority comes first; among tasks with the same priority, the older task.
type Precedence = (Reverse<i32>, Position);

/// The position of a queued task in the run queue. It is not a position of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    queue: Name,
    kind: Name,
    concurrency_key: Option<Name>,
    precedence: Precedence,
}

impl QueuePosition {
    pub(super) fn of(row: &Row) -> Self {
        let key = row.counter_key();
        Self {
            queue: Name::clone(&key.queue),
            kind: Name::clone(&key.kind),
            concurrency_key: row.concurrency_key().cloned(),
            precedence: (Reverse(row.priority()), row.created_position()),
        }
    }
}

/// Which tasks a worker offers to execute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkOffer {
    /// Tasks of these kinds. `None` stands for all kinds that are not [reserved](is_reserved).
    pub kinds: Option<Vec<String>>,
    /// Tasks in these queues. `None` stands for all queues.
    pub queues: Option<Vec<String>>,
}

impl WorkOffer {
    /// Whether the worker offers to execute tasks of this kind in this queue.
    #[must_use]
    pub fn accepts(&self, kind: &str, queue: &str) -> bool {
        let accepts_kind =
            self.kinds.as_ref().map_or(!is_reserved(kind), |kinds| kinds.iter().any(|name| name == kind));
        accepts_kind && self.queues.as_ref().is_none_or(|queues| queues.iter().any(|name| name == queue))
    }
}

/// The queued tasks of one queue and kind.
#[derive(Clone, Debug, Default)]
struct KindBacklog {
    /// The tasks that may be taken. A group has an entry only while its key is below the limit.
    entries: BTreeMap<Precedence, Entry>,
    /// The tasks with a concurrency key, by key.
    groups: HashMap<Name, BTreeMap<Precedence, TaskId>>,
}

#[derive(Clone, Debug)]
enum Entry {
    /// A task without a concurrency key.
    Task(TaskId),
    /// The first task of the group with this concurrency key.
    FirstOfGroup(Name),
}

impl KindBacklog {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.groups.is_empty()
    }

    /// Inserts the entry of this key's group if the key is below the limit; otherwise removes the entry.
    fn update_group_entry(&mut self, key: &Name, is_below_limit: bool) {
        let Some((precedence, _)) = self.groups.get(key).and_then(BTreeMap::first_key_value) else { return };
        if is_below_limit {
            self.entries.insert(*precedence, Entry::FirstOfGroup(Name::clone(key)));
        } else {
            self.entries.remove(precedence);
        }
    }

    /// Adds a task to this key's group.
    fn insert_grouped(&mut self, key: &Name, precedence: Precedence, task: TaskId, is_below_limit: bool) {
        self.update_group_entry(key, false);
        self.groups.entry(Name::clone(key)).or_default().insert(precedence, task);
        self.update_group_entry(key, is_below_limit);
    }

    /// Removes a task from this key's group. The caller has removed the task's entry. Returns true if this was the last task
    /// of the group; then the group is removed too.
    fn remove_grouped(&mut self, key: &Name, precedence: &Precedence, is_below_limit: bool) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        group.remove(precedence);
        if group.is_empty() {
            self.groups.remove(key);
            return true;
        }
        self.update_group_entry(key, is_below_limit);
        false
    }

    /// The first task that may be taken, with its precedence and its concurrency key.
    fn first(&self) -> Option<(Precedence, Option<Name>, TaskId)> {
        match self.entries.first_key_value()? {
            (precedence, Entry::Task(task)) => Some((*precedence, None, *task)),
            (precedence, Entry::FirstOfGroup(key)) => {
                Some((*precedence, Some(Name::clone(key)), *self.groups.get(key)?.get(precedence)?))
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct ReadyQueue {
    paused: bool,
    /// The value of [`ReadyTasks::taken_total`] when a task of this queue was last taken.
    last_taken_at: u64,
    /// The backlog of each kind. No backlog is empty.
    backlogs: HashMap<Name, KindBacklog>,
}

/// All queued tasks that can be taken, and how many tasks run.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadyTasks {
    limits: Limits,
    /// The queues that have a task or are paused.
    queues: HashMap<Name, ReadyQueue>,
    /// The queues that have a task, with their [`ReadyQueue::last_taken_at`], the smallest first.
    take_order: BTreeSet<(u64, Name)>,
    /// The number of tasks that were taken from all queues together.
    taken_total: u64,
    /// How many tasks of each kind run.
    running_by_kind: RunningCounts,
    /// How many tasks of each queue run.
    running_by_queue: RunningCounts,
    /// How many tasks with each concurrency key run.
    running_by_key: RunningCounts,
    /// For each concurrency key: the queues and kinds in whose backlogs it has a group.
    group_locations: HashMap<Name, HashSet<(Name, Name)>>,
}

impl ReadyTasks {
    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn insert(&mut self, at: &QueuePosition, task: TaskId) {
        let is_below_limit = self.key_is_below_limit(at.concurrency_key.as_ref());
        let taken_total = self.taken_total;
        let queue = self.queues.entry(Name::clone(&at.queue)).or_default();
        if queue.backlogs.is_empty() {
            // The queue was empty, perhaps for long. It comes after the other queues, as if a task of it was taken just now.
            queue.last_taken_at = queue.last_taken_at.max(taken_total);
            self.take_order.insert((queue.last_taken_at, Name::clone(&at.queue)));
        }
        let backlog = queue.backlogs.entry(Name::clone(&at.kind)).or_default();
        let Some(key) = &at.concurrency_key else {
            backlog.entries.insert(at.precedence, Entry::Task(task));
            return;
        };
        backlog.insert_grouped(key, at.precedence, task, is_below_limit);
        let location = (Name::clone(&at.queue), Name::clone(&at.kind));
        self.group_locations.entry(Name::clone(key)).or_default().insert(location);
    }

    pub(super) fn remove(&mut self, at: &QueuePosition) {
        let is_below_limit = self.key_is_below_limit(at.concurrency_key.as_ref());
        let Some(queue) = self.queues.get_mut(&at.queue) else { return };
        let Some(backlog) = queue.backlogs.get_mut(&at.kind) else { return };
        backlog.entries.remove(&at.precedence);
        let concurrency_key = at.concurrency_key.as_ref();
        let removed_group = concurrency_key.filter(|key| backlog.remove_grouped(key, &at.precedence, is_below_limit));
        if backlog.is_empty() {
            queue.backlogs.remove(&at.kind);
        }
        if queue.backlogs.is_empty() {
            self.take_order.remove(&(queue.last_taken_at, Name::clone(&at.queue)));
            if !queue.paused {
                self.queues.remove(&at.queue);
            }
        }
        if let Some(key) = removed_group {
            self.remove_group_location(key, at);
        }
    }

    fn remove_group_location(&mut self, key: &Name, at: &QueuePosition) {
        if let Some(locations) = self.group_locations.get_mut(key) {
            locations.remove(&(Name::clone(&at.queue), Name::clone(&at.kind)));
            if locations.is_empty() {
                self.group_locations.remove(key);
            }
        }
    }

    /// Counts a task that runs from now on.
    pub(super) fn count_start(&mut self, at: &QueuePosition) {
        self.running_by_kind.increment(&at.kind);
        self.running_by_queue.increment(&at.queue);
        if let Some(key) = &at.concurrency_key
            && self.running_by_key.increment(key) == self.limits.of_key()
        {
            self.update_group_entries(key, false);
        }
    }

    /// Counts a task that doesn't run any more.
    pub(super) fn count_end(&mut self, at: &QueuePosition) {
        self.running_by_kind.decrement(&at.kind);
        self.running_by_queue.decrement(&at.queue);
        if let Some(key) = &at.concurrency_key
            && self.running_by_key.decrement(key) + 1 == self.limits.of_key()
        {
            self.update_group_entries(key, true);
        }
    }

    /// Inserts or removes the entries of all groups of this key, because the key has left or reached its limit.
    fn update_group_entries(&mut self, key: &Name, is_below_limit: bool) {
        for (queue, kind) in self.group_locations.get(key).into_iter().flatten() {
            if let Some(backlog) = self.queues.get_mut(queue).and_then(|queue| queue.backlogs.get_mut(kind)) {
                backlog.update_group_entry(key, is_below_limit);
            }
        }
    }

    /// Whether one more task with this key may run; true if there is no key.
    fn key_is_below_limit(&self, key: Option<&Name>) -> bool {
        key.is_none_or(|key| self.running_by_key.of(key) < self.limits.of_key())
    }

    pub(super) fn set_paused(&mut self, name: &str, paused: bool) {
        let queue = self.queues.entry(name.into()).or_default();
        queue.paused = paused;
        if !paused && queue.backlogs.is_empty() {
            self.queues.remove(name);
        }
    }

    /// Removes the next task that the offer accepts; it counts as running from now on.
    pub(super) fn take_next(&mut self, offer: &WorkOffer) -> Option<(QueuePosition, TaskId)> {
        let (at, task) = self.find_next(offer)?;
        self.taken_total += 1;
        if let Some(queue) = self.queues.get_mut(&at.queue) {
            self.take_order.remove(&(queue.last_taken_at, Name::clone(&at.queue)));
            queue.last_taken_at = self.taken_total;
            self.take_order.insert((queue.last_taken_at, Name::clone(&at.queue)));
        }
        self.remove(&at);
        self.count_start(&at);
        Some((at, task))
    }

    fn find_next(&self, offer: &WorkOffer) -> Option<(QueuePosition, TaskId)> {
        let Some(names) = &offer.queues else {
            return self.take_order.iter().find_map(|(_, name)| self.find_next_in(name, offer));
        };
        let queues = names.iter().filter_map(|name| self.queues.get_key_value(name.as_str()));
        let mut queues: Vec<_> = queues.map(|(name, queue)| (queue.last_taken_at, name)).collect();
        queues.sort_unstable();
        queues.into_iter().find_map(|(_, name)| self.find_next_in(name, offer))
    }

    /// The next task of this queue that the offer accepts; `None` if no such task may run now.
    fn find_next_in(&self, name: &Name, offer: &WorkOffer) -> Option<(QueuePosition, TaskId)> {
        let queue = self.queues.get(name)?;
        if queue.paused || self.running_by_queue.of(name) >= self.limits.of_queue(name) {
            return None;
        }
        let first = |(kind, backlog): (&Name, &KindBacklog)| {
            let is_below_limit = self.running_by_kind.of(kind) < self.limits.of_kind(kind);
            let (precedence, _) = backlog.entries.first_key_value()?;
            is_below_limit.then(|| (*precedence, Name::clone(kind)))
        };
        let (_, kind) = match &offer.kinds {
            None => queue.backlogs.iter().filter(|(kind, _)| !is_reserved(kind)).filter_map(first).min(),
            Some(kinds) => {
                let offered = kinds.iter().filter_map(|kind| queue.backlogs.get_key_value(kind.as_str()));
                offered.filter_map(first).min()
            }
        }?;
        let (precedence, concurrency_key, task) = queue.backlogs.get(&kind)?.first()?;
        Some((QueuePosition { queue: Name::clone(name), kind, concurrency_key, precedence }, task))
    }

    /// Why no worker can take the queued task at this position now; `None` if a worker can.
    pub(super) fn obstacle(&self, at: &QueuePosition) -> Option<WaitingFor> {
        if self.queues.get(&at.queue).is_some_and(|queue| queue.paused) {
            return Some(WaitingFor::PausedQueue);
        }
        let limit_is_reached = self.running_by_queue.of(&at.queue) >= self.limits.of_queue(&at.queue)
            || self.running_by_kind.of(&at.kind) >= self.limits.of_kind(&at.kind)
            || !self.key_is_below_limit(at.concurrency_key.as_ref());
        limit_is_reached.then_some(WaitingFor::Limit)
    }
}
