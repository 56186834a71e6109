//! Owner, kind and queue of tasks, each text held once; and how many tasks there are of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::filter::Filter;
use crate::task::Status;
use crate::task::event::Created;

/// A number of tasks for each status, in the order of [`Status::ALL`].
pub type Counts = [u64; 8];

/// Texts that many tasks share.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let name: Arc<str> = text.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

/// What counters are kept by.
#[derive(Debug)]
pub(super) struct Place {
    /// Index in [`Places`].
    pub(super) index: usize,
    /// Index of the owner among the bells.
    pub(super) owner_index: usize,
    pub(super) owner: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) queue: Arc<str>,
}

/// All places, each with its counts.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: HashMap<(usize, Arc<str>, Arc<str>), usize>,
    list: Vec<(Arc<Place>, Counts)>,
    total: Counts,
}

impl Places {
    /// The place of a new task, and whether it is new itself.
    pub(super) fn of(
        &mut self,
        (owner_index, owner): (usize, &Arc<str>),
        created: &Created,
        names: &mut Names,
    ) -> (Arc<Place>, bool) {
        let (kind, queue) = (names.get(&created.kind), names.get(&created.queue));
        let key = (owner_index, kind, queue);
        if let Some((place, _)) = self.known.get(&key).and_then(|index| self.list.get(*index)) {
            return (Arc::clone(place), false);
        }
        let index = self.list.len();
        let (kind, queue) = (Arc::clone(&key.1), Arc::clone(&key.2));
        let place = Arc::new(Place { index, owner_index, owner: Arc::clone(owner), kind, queue });
        self.list.push((Arc::clone(&place), Counts::default()));
        self.known.insert(key, index);
        (place, true)
    }

    pub(super) fn moved(&mut self, place: &Place, from: Option<Status>, to: Status) {
        if let Some((_, counts)) = self.list.get_mut(place.index) {
            count(counts, from, to);
        }
        count(&mut self.total, from, to);
    }

    /// The counts of the places that kind and queue of `filter` let through, among those of these owners or all.
    pub(super) fn counts(&self, filter: &Filter, owned: Option<impl Iterator<Item = usize>>) -> Counts {
        let fits = |place: &Place| {
            (filter.kind.is_empty() || filter.kind.iter().any(|kind| **kind == *place.kind))
                && (filter.queue.is_empty() || filter.queue.iter().any(|queue| **queue == *place.queue))
        };
        let add = |sum: Counts, (place, counts): &(Arc<Place>, Counts)| {
            if fits(place) { std::array::from_fn(|i| sum[i] + counts[i]) } else { sum }
        };
        match owned {
            Some(indices) => indices.filter_map(|index| self.list.get(index)).fold(Counts::default(), add),
            None if filter.kind.is_empty() && filter.queue.is_empty() => self.total,
            None => self.list.iter().fold(Counts::default(), add),
        }
    }

    /// The counts of each queue.
    pub(super) fn by_queue(&self) -> BTreeMap<Arc<str>, Counts> {
        let mut queues: BTreeMap<Arc<str>, Counts> = BTreeMap::new();
        for (place, counts) in &self.list {
            let sum = queues.entry(Arc::clone(&place.queue)).or_default();
            *sum = std::array::from_fn(|i| sum[i] + counts[i]);
        }
        queues
    }
}

/// One task went from one status to another; from none where it is new.
pub(super) fn count(counts: &mut Counts, from: Option<Status>, to: Status) {
    if let Some(from) = from {
        counts[from as usize] -= 1;
    }
    counts[to as usize] += 1;
}
