//! Which tasks a query has to look at, and how many of them match, as far as the indexes know.

use super::Views;
use super::bell::{Owner, Unseen};
use super::counters::{Counts, add};
use super::filter::Filter;
use super::key_tasks::KeyTasks;
use super::slot_range::SlotRange;
use super::status_index::{SlotList, StatusIndex, StatusSet};
use crate::task::{Position, Status};

/// A query walks over the lists of at most so many keys. With more, it walks over all tasks.
const WALKED_KEYS_MAX: usize = 64;
/// A query adds the counts of at most so many keys. With more, it reads the tasks.
const COUNTED_KEYS_MAX: usize = 4096;

/// The tasks that a query has to look at.
pub(super) struct Selection<'a> {
    /// The keys of the filter's owners, kinds and queues. `None` if the filter restricts none of them.
    pub(super) keys: Option<Vec<&'a KeyTasks>>,
    /// The tasks lie in this range of slots.
    pub(super) range: SlotRange,
    /// The lists are those of the keys, so that all of their tasks match the owners, kinds and queues of the filter. Otherwise
    /// the query walks over all tasks.
    pub(super) is_by_key: bool,
    /// How many tasks of each status match the rest of the filter. `None` if only a scan can tell.
    pub(super) counts: Option<Counts>,
}

impl Views {
    pub(super) fn select(&self, filter: &Filter) -> Selection<'_> {
        let keys = self.keys_of(filter);
        let range = self.rows.created_range(filter);
        let is_by_key = keys.as_ref().is_some_and(|keys| !filter.owner.is_empty() || keys.len() <= WALKED_KEYS_MAX);
        let counts = if filter.needs_scan() { None } else { self.counts_in_windows(filter, keys.as_deref(), range) };
        Selection { keys, range, is_by_key, counts }
    }

    /// The owners in the filter, each of them once; `None` if the filter doesn't restrict the owner.
    fn owners_of(&self, filter: &Filter) -> Option<Vec<&Owner>> {
        if filter.owner.is_empty() {
            return None;
        }
        let mut owners: Vec<&Owner> = filter.owner.iter().filter_map(|name| self.owners.find(name)).collect();
        owners.sort_unstable_by_key(|owner| &*owner.name);
        owners.dedup_by_key(|owner| &*owner.name);
        Some(owners)
    }

    fn keys_of(&self, filter: &Filter) -> Option<Vec<&KeyTasks>> {
        let matches = |kind: &str, queue: &str| filter.matches_kind_and_queue(kind, queue);
        if let Some(owners) = self.owners_of(filter) {
            let indexes = owners.iter().flat_map(|owner| owner.counter_key_indexes.iter().copied());
            let keys = self.counters.with_keys(indexes);
            return Some(keys.filter(|entry| matches(&entry.key.kind, &entry.key.queue)).collect());
        }
        let is_restricted = !filter.kind.is_empty() || !filter.queue.is_empty();
        is_restricted.then(|| self.counters.with_keys(self.counters.keys_of_all_owners(matches)).collect())
    }

    /// The lists that together contain every selected task.
    pub(super) fn lists<'a>(&'a self, selection: &Selection<'a>) -> Vec<SlotList<'a>> {
        match &selection.keys {
            Some(keys) if selection.is_by_key => keys.iter().map(|entry| entry.list.list()).collect(),
            Some(_) | None => vec![self.all_tasks.list()],
        }
    }

    /// How many tasks of each status match the owners, kinds, queues and windows of the filter.
    fn counts_in_windows(&self, filter: &Filter, keys: Option<&[&KeyTasks]>, range: SlotRange) -> Option<Counts> {
        let has_many_keys = keys.is_some_and(|keys| keys.len() > COUNTED_KEYS_MAX);
        match (filter.has_created_window(), filter.has_finished_window()) {
            (false, false) => Some(self.matching_counts(filter, keys)),
            (true, false) if range.is_exact && !has_many_keys => {
                let counts = |list: &StatusIndex| list.list().counts(range.from, range.until).unwrap_or_default();
                Some(match keys {
                    Some(keys) => keys.iter().fold(Counts::default(), |sum, entry| add(sum, &counts(&entry.list))),
                    None => counts(&self.all_tasks),
                })
            }
            (false, true) if !has_many_keys => {
                let (after, before) = (filter.finished_after, filter.finished_before);
                Some(counts_of(match keys {
                    Some(keys) => sum(keys.iter().map(|entry| entry.ends.between(after, before))),
                    None => self.ends.between(after, before),
                }))
            }
            (true, true | false) | (false, true) => None,
        }
    }

    /// How many tasks of each status match the owners, kinds and queues of the filter, which has these keys.
    fn matching_counts(&self, filter: &Filter, keys: Option<&[&KeyTasks]>) -> Counts {
        match keys {
            None => self.counters.total(),
            Some(_) if filter.owner.is_empty() => {
                self.counters.of_all_owners(|kind, queue| filter.matches_kind_and_queue(kind, queue))
            }
            Some(keys) => keys.iter().fold(Counts::default(), |sum, entry| add(sum, &entry.counts)),
        }
    }

    /// How many tasks with these keys, or of all tasks, ended after the position. `None` if that takes too long.
    pub(super) fn ends_after(&self, keys: Option<&[&KeyTasks]>, position: Position) -> Option<Unseen> {
        match keys {
            None => Some(self.ends.after(position)),
            Some(keys) if keys.len() <= COUNTED_KEYS_MAX => {
                Some(sum(keys.iter().map(|entry| entry.ends.after(position))))
            }
            Some(_) => None,
        }
    }

    /// How many tasks a scan of the selection looks at.
    pub(super) fn candidates(&self, filter: &Filter, selection: &Selection) -> u64 {
        let (from, until) = (selection.range.from, selection.range.until);
        let counts = self.lists(selection).into_iter().filter_map(|list| list.counts(from, until));
        sum_of_statuses(filter, counts.fold(Counts::default(), |sum, counts| add(sum, &counts)))
    }
}

fn sum(ends: impl Iterator<Item = Unseen>) -> Unseen {
    ends.fold(Unseen::default(), Unseen::plus)
}

fn counts_of(ends: Unseen) -> Counts {
    Status::ALL.map(|status| ends.of(status))
}

/// The statuses that a matching task can have.
pub(super) fn statuses_of(filter: &Filter) -> StatusSet {
    let statuses = StatusSet::of(&filter.status);
    if filter.has_finished_window() { statuses.and(StatusSet::FINAL) } else { statuses }
}

/// The sum of the counts of the filter's statuses.
pub(super) fn sum_of_statuses(filter: &Filter, counts: Counts) -> u64 {
    let statuses = statuses_of(filter);
    Status::ALL.into_iter().filter(|status| statuses.has(*status)).map(|status| counts[status as usize]).sum()
}
