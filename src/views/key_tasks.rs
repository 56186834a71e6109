//! The tasks by owner, kind and queue: how many have each status, which ones they are, and when they have ended.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::bell::Unseen;
use super::counters::{CounterKey, Counts, Interner, add, count_transition};
use super::ends::Ends;
use super::status_index::StatusIndex;
use crate::task::event::Created;
use crate::task::{Position, Status};

/// The tasks with one key.
#[derive(Debug)]
pub(super) struct KeyTasks {
    pub(super) key: Arc<CounterKey>,
    pub(super) counts: Counts,
    pub(super) list: StatusIndex,
    /// The ends of those that are final.
    pub(super) ends: Ends,
}

/// The counts of one kind in one queue, for all owners together.
#[derive(Debug)]
struct KindAndQueueCounts {
    kind: Arc<str>,
    queue: Arc<str>,
    counts: Counts,
    /// The indexes of the keys with this kind and queue.
    keys: Vec<usize>,
}

/// The counts of all tasks on three levels: for each owner, kind and queue; for each kind and queue; for all tasks together.
#[derive(Debug, Default)]
pub(super) struct StatusCounters {
    /// For each owner, kind and queue: the index in `by_key`.
    key_indexes: HashTable<u32>,
    hasher: RandomState,
    by_key: Vec<KeyTasks>,
    /// The index in `by_kind_and_queue` for each kind and queue.
    kind_and_queue_indexes: HashMap<(Arc<str>, Arc<str>), usize>,
    by_kind_and_queue: Vec<KindAndQueueCounts>,
    total: Counts,
}

impl StatusCounters {
    fn hash(&self, owner: &str, kind: &str, queue: &str) -> u64 {
        self.hasher.hash_one((owner, kind, queue))
    }

    /// The key of a new task; `None` if this is the first task with that key.
    pub(super) fn find_key(&self, created: &Created) -> Option<&Arc<CounterKey>> {
        let is_same = |index: &u32| {
            self.by_key.get(*index as usize).is_some_and(|entry| {
                *entry.key.owner == *created.owner
                    && *entry.key.kind == *created.kind
                    && *entry.key.queue == *created.queue
            })
        };
        let index = self.key_indexes.find(self.hash(&created.owner, &created.kind, &created.queue), is_same)?;
        self.by_key.get(*index as usize).map(|entry| &entry.key)
    }

    /// Adds a key that is not there yet.
    pub(super) fn add_key(
        &mut self,
        (owner_index, owner): (usize, &Arc<str>),
        (kind, queue): (&str, &str),
        names: &mut Interner,
    ) -> Option<Arc<CounterKey>> {
        let next = u32::try_from(self.by_key.len()).ok()?;
        let (kind, queue) = (names.intern(kind), names.intern(queue));
        let kind_and_queue_index = self.kind_and_queue_index(&kind, &queue);
        let (index, owner) = (next as usize, Arc::clone(owner));
        let key = Arc::new(CounterKey { index, kind_and_queue_index, owner_index, owner, kind, queue });
        let (list, ends) = (StatusIndex::with_slots(), Ends::default());
        self.by_key.push(KeyTasks { key: Arc::clone(&key), counts: Counts::default(), list, ends });
        let hash = self.hash(&key.owner, &key.kind, &key.queue);
        let (by_key, hasher) = (&self.by_key, &self.hasher);
        self.key_indexes.insert_unique(hash, next, |index| {
            let key = by_key.get(*index as usize).map(|entry| &*entry.key);
            key.map_or(0, |key| hasher.hash_one((&*key.owner, &*key.kind, &*key.queue)))
        });
        Some(key)
    }

    /// The index of this kind and queue, for the key that is added next.
    fn kind_and_queue_index(&mut self, kind: &Arc<str>, queue: &Arc<str>) -> usize {
        let next = self.by_kind_and_queue.len();
        let index = *self.kind_and_queue_indexes.entry((Arc::clone(kind), Arc::clone(queue))).or_insert(next);
        if index == next {
            let (kind, queue) = (Arc::clone(kind), Arc::clone(queue));
            self.by_kind_and_queue.push(KindAndQueueCounts {
                kind,
                queue,
                counts: Counts::default(),
                keys: Vec::new(),
            });
        }
        self.by_kind_and_queue[index].keys.push(self.by_key.len());
        index
    }

    /// Adds a new task with this key, and returns its index in the list of the tasks with the key.
    pub(super) fn add_task(&mut self, key: &CounterKey, slot: u32, status: Status) -> usize {
        self.count(key, None, status);
        self.by_key.get_mut(key.index).map_or(0, |entry| entry.list.push(slot, status))
    }

    /// Counts a change of the status of the task with this index in the list of its key.
    pub(super) fn change_status(&mut self, key: &CounterKey, index: usize, from: Status, to: Status) {
        self.count(key, Some(from), to);
        if let Some(entry) = self.by_key.get_mut(key.index) {
            entry.list.change_status(index, Some(from), to);
        }
    }

    fn count(&mut self, key: &CounterKey, from: Option<Status>, to: Status) {
        if let Some(entry) = self.by_key.get_mut(key.index) {
            count_transition(&mut entry.counts, from, to);
        }
        if let Some(entry) = self.by_kind_and_queue.get_mut(key.kind_and_queue_index) {
            count_transition(&mut entry.counts, from, to);
        }
        count_transition(&mut self.total, from, to);
    }

    /// The ends of the tasks with this key.
    pub(super) fn ends_mut(&mut self, key: &CounterKey) -> Option<&mut Ends> {
        self.by_key.get_mut(key.index).map(|entry| &mut entry.ends)
    }

    /// How many tasks with these keys ended after this position.
    pub(super) fn ends_after(&self, keys: &[usize], position: Position) -> Unseen {
        let keys = keys.iter().filter_map(|index| self.by_key.get(*index));
        keys.map(|entry| entry.ends.after(position)).fold(Unseen::default(), Unseen::plus)
    }

    /// All keys, in the order of their indexes.
    pub(super) fn keys(&self) -> impl ExactSizeIterator<Item = &Arc<CounterKey>> {
        self.by_key.iter().map(|entry| &entry.key)
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

    /// The tasks with these keys.
    pub(super) fn with_keys(&self, indexes: impl Iterator<Item = usize>) -> impl Iterator<Item = &KeyTasks> {
        indexes.filter_map(|index| self.by_key.get(index))
    }

    /// The keys whose kind and queue match, for all owners together.
    pub(super) fn keys_of_all_owners(&self, matches: impl Fn(&str, &str) -> bool) -> impl Iterator<Item = usize> {
        let matching = self.by_kind_and_queue.iter().filter(move |entry| matches(&entry.kind, &entry.queue));
        matching.flat_map(|entry| entry.keys.iter().copied())
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
