//! Queries of the live views, and of snapshots. A reader of a snapshot needs no lock, so the writer doesn't wait for it.

use std::sync::Arc;

use super::Views;
use super::bell::Owner;
use super::blocks::RowBlocks;
use super::counters::Counts;
use super::cursor::InvalidCursor;
use super::filter::Filter;
use super::page::{Page, PageRequest, PageSource, RowBudget};
use super::row::Row;
use super::status_index::{SlotList, StatusSet};
use crate::task::{Position, Status};

impl Views {
    /// The page, without a bound on the number of rows that the query reads. While the lock of live views is held, use
    /// [`Views::page_within`].
    ///
    /// # Errors
    /// [`InvalidCursor`] if the cursor comes from a list with another filter or order.
    #[cfg(feature = "testing")]
    pub fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, InvalidCursor> {
        self.page_source(filter, &RowBudget::unlimited()).page(filter, request)
    }

    /// The page, if the query can find it within the budget. `None` if the budget is exceeded, or if the query is not even
    /// started because an estimate exceeds the budget. Then the caller should release the lock and read a [`Snapshot`].
    ///
    /// # Errors
    /// [`InvalidCursor`] if the cursor comes from a list with another filter or order.
    pub fn page_within(
        &self,
        filter: &Filter,
        request: &PageRequest,
        budget: &RowBudget,
    ) -> Result<Option<Page>, InvalidCursor> {
        if self.estimated_rows(filter, request.limit as u64) > budget.limit() as u64 {
            return Ok(None);
        }
        let page = self.page_source(filter, budget).page(filter, request)?;
        Ok((!budget.is_exceeded()).then_some(page))
    }

    /// An estimate of how many rows a page with `page_rows` rows reads. It is 0 if the indexes contain exactly the tasks that match. Otherwise it
    /// assumes that the matching tasks are spread evenly among the tasks in the indexes. That is often wrong. The estimate
    /// only avoids queries that would probably exceed the budget.
    fn estimated_rows(&self, filter: &Filter, page_rows: u64) -> u64 {
        let of_owners = Filter { owner: filter.owner.clone(), ..Filter::default() };
        let candidates = sum_of_statuses(filter, self.matching_counts(&of_owners));
        if filter.needs_scan() {
            return candidates;
        }
        if filter.kind.is_empty() && filter.queue.is_empty() {
            return 0;
        }
        let total = sum_of_statuses(filter, self.matching_counts(filter));
        candidates.checked_div(total).map_or(0, |rows| candidates.min(rows.saturating_mul(page_rows)))
    }

    /// A snapshot of the rows. Later changes of the views don't change it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { rows: self.rows.clone(), owner_lists: None, position: self.position }
    }

    /// A snapshot of the rows, with the lists of the owners in the filter. A query of it with this filter reads only the rows
    /// of these owners.
    #[must_use]
    pub fn snapshot_for(&self, filter: &Filter) -> Snapshot {
        let owner_lists = self.owners_of(filter).map(|owners| OwnerLists {
            names: filter.owner.clone(),
            lists: owners.iter().filter_map(|owner| owner.tasks.slots()).collect(),
        });
        Snapshot { owner_lists, ..self.snapshot() }
    }

    /// How many tasks of all owners have each status.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.matching_counts(&Filter::default())
    }

    pub(super) fn page_source<'a>(&'a self, filter: &Filter, budget: &'a RowBudget) -> PageSource<'a> {
        let lists = match self.owners_of(filter) {
            Some(owners) => owners.iter().map(|owner| owner.tasks.list()).collect(),
            None => vec![self.all_tasks.list()],
        };
        let total = (!filter.needs_scan()).then(|| sum_of_statuses(filter, self.matching_counts(filter)));
        PageSource { rows: &self.rows, lists, total, position: self.position, budget }
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

    /// How many tasks of each status match the owner, the kind and the queue of the filter.
    pub(super) fn matching_counts(&self, filter: &Filter) -> Counts {
        let matches = |kind: &str, queue: &str| filter.matches_kind_and_queue(kind, queue);
        match self.owners_of(filter) {
            Some(owners) => {
                let keys = owners.iter().flat_map(|owner| owner.counter_key_indexes.iter().copied());
                self.counters.of_keys(keys, matches)
            }
            None if filter.kind.is_empty() && filter.queue.is_empty() => self.counters.total(),
            None => self.counters.of_all_owners(matches),
        }
    }
}

/// The sum of the counts of the filter's statuses.
pub(super) fn sum_of_statuses(filter: &Filter, counts: Counts) -> u64 {
    let statuses = StatusSet::of(&filter.status);
    Status::ALL.into_iter().filter(|status| statuses.has(*status)).map(|status| counts[status as usize]).sum()
}

/// The rows at one position of the log. A snapshot is cheap, and the writer doesn't wait for its readers: before the writer
/// changes a block that a snapshot shares, it copies the block.
#[derive(Clone, Debug)]
pub struct Snapshot {
    rows: RowBlocks,
    owner_lists: Option<OwnerLists>,
    position: Position,
}

/// The tasks of the owners in a filter.
#[derive(Clone, Debug)]
struct OwnerLists {
    /// The field `owner` of the filter.
    names: Vec<String>,
    /// For each owner: the slots of the owner's tasks.
    lists: Vec<Arc<Vec<u32>>>,
}

impl Snapshot {
    /// The page. The query may read any number of rows.
    ///
    /// # Errors
    /// [`InvalidCursor`] if the cursor comes from a list with another filter or order.
    pub fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, InvalidCursor> {
        self.page_source(filter, &RowBudget::unlimited()).page(filter, request)
    }

    /// All tasks that match the filter, in the order of their creation.
    pub fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|row| filter.matches(row))
    }

    /// Position of the last event that the snapshot includes.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    pub(super) fn page_source<'a>(&'a self, filter: &Filter, budget: &'a RowBudget) -> PageSource<'a> {
        let lists = match &self.owner_lists {
            Some(owners) if owners.names == filter.owner => {
                owners.lists.iter().map(|list| SlotList::of(list)).collect()
            }
            Some(_) | None => vec![SlotList::all(self.rows.len())],
        };
        PageSource { rows: &self.rows, lists, total: None, position: self.position, budget }
    }
}
