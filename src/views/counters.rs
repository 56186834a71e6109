//! Counts how many tasks have each status, by owner, kind and queue.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::task::Status;
use crate::task::event::Created;

/// How many tasks have each status, in the order of [`Status::ALL`].
pub type Counts = [u64; 8];

/// Stores each text once, although many tasks have the same text.
#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub(super) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        self.0.insert(Arc::clone(&shared));
        shared
    }
}

/// The owner, the kind and the queue of a task. Tasks with the same owner, kind and queue share one key, and are counted
/// together.
#[derive(Debug)]
pub(super) struct CounterKey {
    /// Index of the counts of this key.
    pub(super) index: usize,
    /// Index of the counts of this kind and queue for all owners together.
    kind_and_queue_index: usize,
    /// Index of the owner among the [`Owners`](super::bell::Owners).
    pub(super) owner_index: usize,
    pub(super) owner: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) queue: Arc<str>,
}

/// The counts of one kind in one queue, for all owners together.
#[derive(Debug)]
struct KindAndQueueCounts {
    kind: Arc<str>,
    queue: Arc<str>,
    counts: Counts,
}

/// The counts of all tasks on three levels: for each owner, kind and queue; for each kind and queue; for all tasks together.
#[derive(Debug, Default)]
pub(super) struct StatusCounters {
    /// For each owner (by its index), kind and queue: the index in `by_key`.
    key_indexes: HashMap<(usize, Arc<str>, Arc<str>), usize>,
    by_key: Vec<(Arc<CounterKey>, Counts)>,
    /// The index in `by_kind_and_queue` for each kind and queue.
    kind_and_queue_indexes: HashMap<(Arc<str>, Arc<str>), usize>,
    by_kind_and_queue: Vec<KindAndQueueCounts>,
    total: Counts,
}

impl StatusCounters {
    /// The key of a new task, and whether it is the first task with this key.
    pub(super) fn key_for(
        &mut self,
        (owner_index, owner): (usize, &Arc<str>),
        created: &Created,
        names: &mut Interner,
    ) -> (Arc<CounterKey>, bool) {
        let parts = (owner_index, names.intern(&created.kind), names.intern(&created.queue));
        if let Some((key, _)) = self.key_indexes.get(&parts).and_then(|index| self.by_key.get(*index)) {
            return (Arc::clone(key), false);
        }
        let (_, kind, queue) = parts.clone();
        let (index, kind_and_queue_index) = (self.by_key.len(), self.kind_and_queue_index(&kind, &queue));
        let owner = Arc::clone(owner);
        let key = Arc::new(CounterKey { index, kind_and_queue_index, owner_index, owner, kind, queue });
        self.by_key.push((Arc::clone(&key), Counts::default()));
        self.key_indexes.insert(parts, index);
        (key, true)
    }

    fn kind_and_queue_index(&mut self, kind: &Arc<str>, queue: &Arc<str>) -> usize {
        let next = self.by_kind_and_queue.len();
        let index = *self.kind_and_queue_indexes.entry((Arc::clone(kind), Arc::clone(queue))).or_insert(next);
        if index == next {
            let (kind, queue) = (Arc::clone(kind), Arc::clone(queue));
            self.by_kind_and_queue.push(KindAndQueueCounts { kind, queue, counts: Counts::default() });
        }
        index
    }

    /// Counts a new task with this key, or a change of its status. `from` is `None` for a new task.
    pub(super) fn record_change(&mut self, key: &CounterKey, from: Option<Status>, to: Status) {
        if let Some((_, counts)) = self.by_key.get_mut(key.index) {
            count_transition(counts, from, to);
        }
        if let Some(entry) = self.by_kind_and_queue.get_mut(key.kind_and_queue_index) {
            count_transition(&mut entry.counts, from, to);
        }
        count_transition(&mut self.total, from, to);
    }

    /// The counts of all tasks.
    pub(super) const fn total(&self) -> Counts {
        self.total
    }

    /// The counts of the tasks whose kind and queue match, for all owners together.
    pub(super) fn of_all_owners(&self, matches: impl Fn(&str, &str) -> bool) -> Counts {
        let matching = self.by_kind_and_queue.iter().filter(|entry| matches(&entry.kind, &entry.queue));
        matching.fold(Counts::default(), |sum, entry| add(sum, &entry.counts))
    }

    /// The counts of the tasks that have one of these keys and whose kind and queue match.
    pub(super) fn of_keys(&self, indexes: impl Iterator<Item = usize>, matches: impl Fn(&str, &str) -> bool) -> Counts {
        let keys = indexes.filter_map(|index| self.by_key.get(index));
        let matching = keys.filter(|(key, _)| matches(&key.kind, &key.queue));
        matching.fold(Counts::default(), |sum, (_, counts)| add(sum, counts))
    }

    /// The counts of each queue.
    pub(super) fn by_queue(&self) -> BTreeMap<Arc<str>, Counts> {
        let mut queues: BTreeMap<Arc<str>, Counts> = BTreeMap::new();
        for entry in &self.by_kind_and_queue {
            let sum = queues.entry(Arc::clone(&entry.queue)).or_default();
            *sum = add(*sum, &entry.counts);
        }
        queues
    }
}

fn add(sum: Counts, counts: &Counts) -> Counts {
    std::array::from_fn(|status| sum[status] + counts[status])
}

/// Counts a new task, or a change of a task's status. `from` is `None` for a new task.
pub(super) fn count_transition(counts: &mut Counts, from: Option<Status>, to: Status) {
    if let Some(from) = from {
        decrement(&mut counts[from as usize]);
    }
    counts[to as usize] += 1;
}

/// Subtracts one task from a counter.
///
/// Each task was added before it is subtracted, so the counter is at least 1 here. If it is 0, the code has a defect. Then a
/// debug build panics, and in a release build the counter stays at 0.
pub(super) fn decrement(counter: &mut u64) {
    debug_assert!(*counter > 0, "a counter would fall below zero");
    *counter = counter.saturating_sub(1);
}
