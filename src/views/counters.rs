//! How many tasks there are of each status, counted by owner, kind and queue. Each text is held in memory once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::task::Status;
use crate::task::event::Created;

/// A number of tasks for each status, in the order of [`Status::ALL`].
pub type Counts = [u64; 8];

/// Texts that many tasks share, each held once.
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

/// Owner, kind and queue of a task. Tasks with the same three share one key and are counted together.
#[derive(Debug)]
pub(super) struct CounterKey {
    /// Index of the key's own counts.
    pub(super) index: usize,
    /// Index of the counts of its kind and queue, of all owners together.
    shared_index: usize,
    /// Index of the owner among the [`Owners`](super::bell::Owners).
    pub(super) owner_index: usize,
    pub(super) owner: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) queue: Arc<str>,
}

/// The counts of one kind in one queue, of all owners together.
#[derive(Debug)]
struct SharedCounts {
    kind: Arc<str>,
    queue: Arc<str>,
    counts: Counts,
}

/// The counts of all tasks, in three levels: by key, by kind and queue, in total.
#[derive(Debug, Default)]
pub(super) struct StatusCounters {
    indexes: HashMap<(usize, Arc<str>, Arc<str>), usize>,
    by_key: Vec<(Arc<CounterKey>, Counts)>,
    shared_indexes: HashMap<(Arc<str>, Arc<str>), usize>,
    shared: Vec<SharedCounts>,
    total: Counts,
}

impl StatusCounters {
    /// The key of a new task, and whether it is the first task with this key.
    pub(super) fn key_of(
        &mut self,
        (owner_index, owner): (usize, &Arc<str>),
        created: &Created,
        names: &mut Interner,
    ) -> (Arc<CounterKey>, bool) {
        let three = (owner_index, names.intern(&created.kind), names.intern(&created.queue));
        if let Some((key, _)) = self.indexes.get(&three).and_then(|index| self.by_key.get(*index)) {
            return (Arc::clone(key), false);
        }
        let (kind, queue) = (Arc::clone(&three.1), Arc::clone(&three.2));
        let (index, shared_index) = (self.by_key.len(), self.shared_index(&kind, &queue));
        let key = Arc::new(CounterKey { index, shared_index, owner_index, owner: Arc::clone(owner), kind, queue });
        self.by_key.push((Arc::clone(&key), Counts::default()));
        self.indexes.insert(three, index);
        (key, true)
    }

    fn shared_index(&mut self, kind: &Arc<str>, queue: &Arc<str>) -> usize {
        let next = self.shared.len();
        let index = *self.shared_indexes.entry((Arc::clone(kind), Arc::clone(queue))).or_insert(next);
        if index == next {
            let (kind, queue) = (Arc::clone(kind), Arc::clone(queue));
            self.shared.push(SharedCounts { kind, queue, counts: Counts::default() });
        }
        index
    }

    /// Counts one task with this key that changed its status; `from` is none for a new task.
    pub(super) fn count(&mut self, key: &CounterKey, from: Option<Status>, to: Status) {
        if let Some((_, counts)) = self.by_key.get_mut(key.index) {
            count_change(counts, from, to);
        }
        if let Some(shared) = self.shared.get_mut(key.shared_index) {
            count_change(&mut shared.counts, from, to);
        }
        count_change(&mut self.total, from, to);
    }

    /// The counts of all tasks.
    pub(super) const fn total(&self) -> Counts {
        self.total
    }

    /// The sum of the counts of all owners whose kind and queue `admits` accepts.
    pub(super) fn of_all_owners(&self, admits: impl Fn(&str, &str) -> bool) -> Counts {
        let admitted = self.shared.iter().filter(|shared| admits(&shared.kind, &shared.queue));
        admitted.fold(Counts::default(), |sum, shared| add(sum, &shared.counts))
    }

    /// The sum of the counts of the keys with these indexes whose kind and queue `admits` accepts.
    pub(super) fn of_keys(&self, indexes: impl Iterator<Item = usize>, admits: impl Fn(&str, &str) -> bool) -> Counts {
        let keys = indexes.filter_map(|index| self.by_key.get(index));
        let admitted = keys.filter(|(key, _)| admits(&key.kind, &key.queue));
        admitted.fold(Counts::default(), |sum, (_, counts)| add(sum, counts))
    }

    /// The counts of each queue.
    pub(super) fn by_queue(&self) -> BTreeMap<Arc<str>, Counts> {
        let mut queues: BTreeMap<Arc<str>, Counts> = BTreeMap::new();
        for shared in &self.shared {
            let sum = queues.entry(Arc::clone(&shared.queue)).or_default();
            *sum = add(*sum, &shared.counts);
        }
        queues
    }
}

fn add(sum: Counts, counts: &Counts) -> Counts {
    std::array::from_fn(|status| sum[status] + counts[status])
}

/// Counts one task that changed its status; `from` is none for a new task.
pub(super) fn count_change(counts: &mut Counts, from: Option<Status>, to: Status) {
    if let Some(from) = from {
        decrement(&mut counts[from as usize]);
    }
    counts[to as usize] += 1;
}

/// Subtracts one task from an exact counter.
///
/// The same fold has added each task that it subtracts, so the counter is never 0 here. If it is, the fold has a defect: a
/// debug build panics; a release build stays at 0, and never shows 18,446,744,073,709,551,615 tasks.
pub(super) fn decrement(counter: &mut u64) {
    debug_assert!(*counter > 0, "a counter would fall below zero");
    *counter = counter.saturating_sub(1);
}
