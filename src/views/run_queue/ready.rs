//! The queued tasks, and which of them is next.
//!
//! Each queue has a backlog for each kind, ordered by precedence. Tasks with the same `concurrency_key` have a backlog of
//! their own inside it, their group. Only the first task of a group stands in the backlog of the kind, and only while its
//! key has room. So the next task is found with a few look-ups in sorted maps, however many tasks wait behind a limit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::limits::RunningCounts;
use super::{Limits, Name};
use crate::task::limits::is_own;
use crate::task::{Position, TaskId};
use crate::views::doc::Waiting;
use crate::views::row::Row;

/// The order of tasks in a queue: higher priority first, then the older task.
type Precedence = (Reverse<i32>, Position);

/// Where a queued task waits.
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

/// What a worker offers to execute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkOffer {
    /// Tasks of these kinds; none: of all kinds but the server's own.
    pub kinds: Option<Vec<String>>,
    /// Tasks from these queues; none: from all queues.
    pub queues: Option<Vec<String>>,
}

impl WorkOffer {
    /// Whether the worker executes tasks of this kind from this queue.
    #[must_use]
    pub fn accepts(&self, kind: &str, queue: &str) -> bool {
        let kind = self.kinds.as_ref().map_or(!is_own(kind), |kinds| kinds.iter().any(|name| name == kind));
        kind && self.queues.as_ref().is_none_or(|queues| queues.iter().any(|name| name == queue))
    }
}

/// The queued tasks of one queue and kind.
#[derive(Clone, Debug, Default)]
struct Backlog {
    /// The tasks without a concurrency key, and of each group whose key has room the first.
    entries: BTreeMap<Precedence, Entry>,
    /// The tasks with a concurrency key, by key.
    groups: HashMap<Name, BTreeMap<Precedence, TaskId>>,
}

#[derive(Clone, Debug)]
enum Entry {
    Task(TaskId),
    FirstOf(Name),
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.groups.is_empty()
    }

    /// Inserts the entry of this key's group, or removes it where the key has no room.
    fn show_group(&mut self, key: &Name, has_room: bool) {
        let Some((precedence, _)) = self.groups.get(key).and_then(BTreeMap::first_key_value) else { return };
        if has_room {
            self.entries.insert(*precedence, Entry::FirstOf(Name::clone(key)));
        } else {
            self.entries.remove(precedence);
        }
    }

    /// Adds a task to this key's group.
    fn insert_grouped(&mut self, key: &Name, precedence: Precedence, task: TaskId, has_room: bool) {
        self.show_group(key, false);
        self.groups.entry(Name::clone(key)).or_default().insert(precedence, task);
        self.show_group(key, has_room);
    }

    /// Removes a task from this key's group. True where the group is empty now, and gone.
    fn remove_grouped(&mut self, key: &Name, precedence: &Precedence, has_room: bool) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        group.remove(precedence);
        if group.is_empty() {
            self.groups.remove(key);
            return true;
        }
        self.show_group(key, has_room);
        false
    }

    /// The first task that may run, and its concurrency key.
    fn first(&self) -> Option<(Precedence, Option<Name>, TaskId)> {
        match self.entries.first_key_value()? {
            (precedence, Entry::Task(task)) => Some((*precedence, None, *task)),
            (precedence, Entry::FirstOf(key)) => {
                Some((*precedence, Some(Name::clone(key)), *self.groups.get(key)?.get(precedence)?))
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Queue {
    paused: bool,
    /// The value of [`ReadyTasks::taken`] when a task of this queue was taken last.
    served: u64,
    /// By kind. A backlog is never empty.
    backlogs: HashMap<Name, Backlog>,
}

/// All queued tasks that are not offered, and how many tasks run.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadyTasks {
    limits: Limits,
    /// The queues that have a task or are paused.
    queues: HashMap<Name, Queue>,
    /// The queues that have a task, the one that was served the longest ago first.
    order: BTreeSet<(u64, Name)>,
    /// How many tasks were taken, from all queues.
    taken: u64,
    by_kind: RunningCounts,
    by_queue: RunningCounts,
    by_key: RunningCounts,
    /// By concurrency key, the queues and kinds in which it has a group.
    groups: HashMap<Name, HashSet<(Name, Name)>>,
}

impl ReadyTasks {
    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn insert(&mut self, at: &QueuePosition, task: TaskId) {
        let has_room = self.key_has_room(at.concurrency_key.as_ref());
        let taken = self.taken;
        let queue = self.queues.entry(Name::clone(&at.queue)).or_default();
        if queue.backlogs.is_empty() {
            // A queue that was empty doesn't catch up on the tasks that were taken from other queues meanwhile.
            queue.served = queue.served.max(taken);
            self.order.insert((queue.served, Name::clone(&at.queue)));
        }
        let backlog = queue.backlogs.entry(Name::clone(&at.kind)).or_default();
        let Some(key) = &at.concurrency_key else {
            backlog.entries.insert(at.precedence, Entry::Task(task));
            return;
        };
        backlog.insert_grouped(key, at.precedence, task, has_room);
        let place = (Name::clone(&at.queue), Name::clone(&at.kind));
        self.groups.entry(Name::clone(key)).or_default().insert(place);
    }

    pub(super) fn remove(&mut self, at: &QueuePosition) {
        let has_room = self.key_has_room(at.concurrency_key.as_ref());
        let Some(queue) = self.queues.get_mut(&at.queue) else { return };
        let Some(backlog) = queue.backlogs.get_mut(&at.kind) else { return };
        backlog.entries.remove(&at.precedence);
        let emptied = at.concurrency_key.as_ref().filter(|key| backlog.remove_grouped(key, &at.precedence, has_room));
        if backlog.is_empty() {
            queue.backlogs.remove(&at.kind);
        }
        if queue.backlogs.is_empty() {
            self.order.remove(&(queue.served, Name::clone(&at.queue)));
            if !queue.paused {
                self.queues.remove(&at.queue);
            }
        }
        if let Some(key) = emptied {
            self.forget_group(key, at);
        }
    }

    fn forget_group(&mut self, key: &Name, at: &QueuePosition) {
        if let Some(places) = self.groups.get_mut(key) {
            places.remove(&(Name::clone(&at.queue), Name::clone(&at.kind)));
            if places.is_empty() {
                self.groups.remove(key);
            }
        }
    }

    /// Counts a task that runs from now on.
    pub(super) fn count_start(&mut self, at: &QueuePosition) {
        self.by_kind.increment(&at.kind);
        self.by_queue.increment(&at.queue);
        if let Some(key) = &at.concurrency_key
            && self.by_key.increment(key) == self.limits.of_key()
        {
            self.show_groups(key, false);
        }
    }

    /// Counts a task that no longer runs.
    pub(super) fn count_end(&mut self, at: &QueuePosition) {
        self.by_kind.decrement(&at.kind);
        self.by_queue.decrement(&at.queue);
        if let Some(key) = &at.concurrency_key
            && self.by_key.decrement(key) + 1 == self.limits.of_key()
        {
            self.show_groups(key, true);
        }
    }

    /// A key got room, or its last room was taken.
    fn show_groups(&mut self, key: &Name, has_room: bool) {
        for (queue, kind) in self.groups.get(key).into_iter().flatten() {
            if let Some(backlog) = self.queues.get_mut(queue).and_then(|queue| queue.backlogs.get_mut(kind)) {
                backlog.show_group(key, has_room);
            }
        }
    }

    /// Whether one more task with this key may run; always for a task without a key.
    fn key_has_room(&self, key: Option<&Name>) -> bool {
        key.is_none_or(|key| self.by_key.of(key) < self.limits.of_key())
    }

    pub(super) fn pause(&mut self, name: &str, paused: bool) {
        let queue = self.queues.entry(name.into()).or_default();
        queue.paused = paused;
        if !paused && queue.backlogs.is_empty() {
            self.queues.remove(name);
        }
    }

    /// Removes the next task that the offer accepts; it counts as running from now on.
    pub(super) fn take_next(&mut self, offer: &WorkOffer) -> Option<(QueuePosition, TaskId)> {
        let (at, task) = self.next(offer)?;
        self.taken += 1;
        if let Some(queue) = self.queues.get_mut(&at.queue) {
            self.order.remove(&(queue.served, Name::clone(&at.queue)));
            queue.served = self.taken;
            self.order.insert((queue.served, Name::clone(&at.queue)));
        }
        self.remove(&at);
        self.count_start(&at);
        Some((at, task))
    }

    fn next(&self, offer: &WorkOffer) -> Option<(QueuePosition, TaskId)> {
        let Some(names) = &offer.queues else {
            return self.order.iter().find_map(|(_, name)| self.next_in(name, offer));
        };
        let known = names.iter().filter_map(|name| self.queues.get_key_value(name.as_str()));
        let mut known: Vec<_> = known.map(|(name, queue)| (queue.served, name)).collect();
        known.sort_unstable();
        known.into_iter().find_map(|(_, name)| self.next_in(name, offer))
    }

    /// The next task of this queue.
    fn next_in(&self, name: &Name, offer: &WorkOffer) -> Option<(QueuePosition, TaskId)> {
        let queue = self.queues.get(name)?;
        if queue.paused || self.by_queue.of(name) >= self.limits.of_queue(name) {
            return None;
        }
        let first = |(kind, backlog): (&Name, &Backlog)| {
            let has_room = self.by_kind.of(kind) < self.limits.of_kind(kind);
            let (precedence, _) = backlog.entries.first_key_value()?;
            has_room.then(|| (*precedence, Name::clone(kind)))
        };
        let (_, kind) = match &offer.kinds {
            None => queue.backlogs.iter().filter(|(kind, _)| !is_own(kind)).filter_map(first).min(),
            Some(kinds) => {
                let offered = kinds.iter().filter_map(|kind| queue.backlogs.get_key_value(kind.as_str()));
                offered.filter_map(first).min()
            }
        }?;
        let (precedence, concurrency_key, task) = queue.backlogs.get(&kind)?.first()?;
        Some((QueuePosition { queue: Name::clone(name), kind, concurrency_key, precedence }, task))
    }

    /// Why a queued task can't be offered to any worker.
    pub(super) fn obstacle(&self, at: &QueuePosition) -> Option<Waiting> {
        if self.queues.get(&at.queue).is_some_and(|queue| queue.paused) {
            return Some(Waiting::Paused);
        }
        let is_full = self.by_queue.of(&at.queue) >= self.limits.of_queue(&at.queue)
            || self.by_kind.of(&at.kind) >= self.limits.of_kind(&at.kind)
            || !self.key_has_room(at.concurrency_key.as_ref());
        is_full.then_some(Waiting::Limit)
    }
}
