//! Queries of the views, and of a snapshot of them that is read without holding up the writer.

use std::sync::Arc;

use super::Views;
use super::bell::Owner;
use super::blocks::RowBlocks;
use super::counters::Counts;
use super::cursor::BadCursor;
use super::filter::Filter;
use super::page::{Page, PageRequest, PageSource, RowBudget};
use super::row::Row;
use super::status_index::{SlotList, StatusSet};
use crate::task::{Position, Status};

/// Rows of the largest page, for an estimate.
const PAGE: u64 = 200;

impl Views {
    /// A page, however many rows it has to read. Under the lock of live views use [`Views::page_within`].
    ///
    /// # Errors
    /// [`BadCursor`] where the cursor comes from a list with another filter or order.
    #[cfg(feature = "testing")]
    pub fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, BadCursor> {
        self.source(filter, &RowBudget::unlimited()).page(filter, request)
    }

    /// The page, if the budget is enough to find it. None: the budget is used up, or the counters say beforehand that it
    /// can't be enough; read a [`Snapshot`] instead, outside of the lock.
    ///
    /// # Errors
    /// [`BadCursor`] where the cursor comes from a list with another filter or order.
    pub fn page_within(
        &self,
        filter: &Filter,
        request: &PageRequest,
        budget: &RowBudget,
    ) -> Result<Option<Page>, BadCursor> {
        if self.estimate(filter) > budget.limit() as u64 {
            return Ok(None);
        }
        let page = self.source(filter, budget).page(filter, request)?;
        Ok((!budget.is_exceeded()).then_some(page))
    }

    /// How many rows a page reads if the tasks that match are spread evenly among the candidates; 0 where indexes lead
    /// straight to them. Often wrong: it saves a walk that would be given up, and the budget bounds every other.
    fn estimate(&self, filter: &Filter) -> u64 {
        let candidates = total_of(filter, self.counted(&Filter { owner: filter.owner.clone(), ..Filter::default() }));
        if filter.needs_scan() {
            return candidates;
        }
        if filter.kind.is_empty() && filter.queue.is_empty() {
            return 0;
        }
        let total = total_of(filter, self.counted(filter));
        candidates.checked_div(total).map_or(0, |rows| candidates.min(rows.saturating_mul(PAGE)))
    }

    /// The rows as they are now; the views can change while they are read.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { rows: self.rows.clone(), owner_lists: None, position: self.position }
    }

    /// The same, with the lists of the owners that the filter names: a query with this filter reads only their tasks.
    #[must_use]
    pub fn snapshot_for(&self, filter: &Filter) -> Snapshot {
        let owner_lists = self.named(filter).map(|owners| OwnerLists {
            names: filter.owner.clone(),
            lists: owners.iter().filter_map(|owner| owner.tasks.slots()).collect(),
        });
        Snapshot { owner_lists, ..self.snapshot() }
    }

    /// How many tasks of all owners have each status.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.counted(&Filter::default())
    }

    fn source<'a>(&'a self, filter: &Filter, budget: &'a RowBudget) -> PageSource<'a> {
        let lists = match self.named(filter) {
            Some(owners) => owners.iter().map(|owner| owner.tasks.list()).collect(),
            None => vec![self.all.list()],
        };
        let total = (!filter.needs_scan()).then(|| total_of(filter, self.counted(filter)));
        PageSource { rows: &self.rows, lists, total, position: self.position, budget }
    }

    /// The owners that the filter names, each once; none where it names none.
    fn named(&self, filter: &Filter) -> Option<Vec<&Owner>> {
        if filter.owner.is_empty() {
            return None;
        }
        let mut owners: Vec<&Owner> = filter.owner.iter().filter_map(|name| self.owners.find(name)).collect();
        owners.sort_unstable_by_key(|owner| &*owner.name);
        owners.dedup_by_key(|owner| &*owner.name);
        Some(owners)
    }

    /// How many tasks of each status match owner, kind and queue of the filter.
    fn counted(&self, filter: &Filter) -> Counts {
        let admits = |kind: &str, queue: &str| filter.admits(kind, queue);
        match self.named(filter) {
            Some(owners) => self.counters.of_keys(owners.iter().flat_map(|owner| owner.keys.iter().copied()), admits),
            None if filter.kind.is_empty() && filter.queue.is_empty() => self.counters.total(),
            None => self.counters.of_all_owners(admits),
        }
    }
}

/// The sum of the counts of the statuses in the filter.
fn total_of(filter: &Filter, counts: Counts) -> u64 {
    let statuses = StatusSet::of(&filter.status);
    Status::ALL.into_iter().filter(|status| statuses.has(*status)).map(|status| counts[status as usize]).sum()
}

/// The rows at one position. It is cheap to take and doesn't hold up the writer, which copies a block before it changes a
/// block that a snapshot holds.
#[derive(Clone, Debug)]
pub struct Snapshot {
    rows: RowBlocks,
    owner_lists: Option<OwnerLists>,
    position: Position,
}

/// The tasks of the owners that a filter names.
#[derive(Clone, Debug)]
struct OwnerLists {
    /// The owners, as the filter names them.
    names: Vec<String>,
    lists: Vec<Arc<Vec<u32>>>,
}

impl Snapshot {
    /// The same page as [`Views::page`] would have given.
    ///
    /// # Errors
    /// [`BadCursor`] where the cursor comes from a list with another filter or order.
    pub fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, BadCursor> {
        self.source(filter, &RowBudget::unlimited()).page(filter, request)
    }

    /// All tasks that match the filter, oldest first.
    pub fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|row| filter.matches(row))
    }

    /// The log position that the snapshot shows.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    fn source<'a>(&'a self, filter: &Filter, budget: &'a RowBudget) -> PageSource<'a> {
        let lists = match &self.owner_lists {
            Some(owners) if owners.names == filter.owner => {
                owners.lists.iter().map(|list| SlotList::of(list)).collect()
            }
            Some(_) | None => vec![SlotList::all(self.rows.len())],
        };
        PageSource { rows: &self.rows, lists, total: None, position: self.position, budget }
    }
}
