//! Queries of the live views, and of snapshots. A reader of a snapshot needs no lock, so the writer doesn't wait for it.

use std::borrow::Cow;
use std::sync::Arc;

use super::Views;
use super::block::RowRef;
use super::blocks::RowBlocks;
use super::counters::Counts;
use super::cursor::InvalidCursor;
use super::filter::Filter;
use super::page::{Page, PageRequest, PageSource, RowBudget};
use super::row::Row;
use super::selection::{Selection, sum_of_statuses};
use super::slot_range::SlotRange;
use super::status_index::SlotList;
use crate::task::Position;

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
        let selection = self.select(filter);
        if self.estimated_rows(filter, &selection, request.limit as u64) > budget.limit() as u64 {
            return Ok(None);
        }
        let page = self.source_of(filter, &selection, budget).page(filter, request)?;
        Ok((!budget.is_exceeded()).then_some(page))
    }

    /// An estimate of how many rows a page with `page_rows` rows reads. It is 0 if the indexes contain exactly the tasks that
    /// match. Otherwise it assumes that the matching tasks are spread evenly among the tasks in the indexes. That is often
    /// wrong. The estimate only avoids queries that would probably exceed the budget.
    fn estimated_rows(&self, filter: &Filter, selection: &Selection, page_rows: u64) -> u64 {
        let Some(counts) = selection.counts else { return self.candidates(filter, selection) };
        if selection.keys.is_none() || selection.is_by_key {
            return 0;
        }
        let (candidates, total) = (self.candidates(filter, selection), sum_of_statuses(filter, counts));
        candidates.checked_div(total).map_or(0, |rows| candidates.min(rows.saturating_mul(page_rows)))
    }

    /// A snapshot of the rows. Later changes of the views don't change it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { rows: self.rows.clone(), selected: None, position: self.position }
    }

    /// A snapshot of the rows, with what the indexes know about this filter. A query of it with this filter reads only the rows
    /// of the filter's owners.
    #[must_use]
    pub fn snapshot_for(&self, filter: &Filter) -> Snapshot {
        let selection = self.select(filter);
        let keys = selection.keys.filter(|_| selection.is_by_key);
        let selected = Selected {
            filter: filter.clone(),
            lists: keys.map(|keys| keys.iter().filter_map(|entry| entry.list.slots()).collect()),
            total: selection.counts.map(|counts| sum_of_statuses(filter, counts)),
        };
        Snapshot { selected: Some(selected), ..self.snapshot() }
    }

    /// How many tasks of all owners have each status.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.counters.total()
    }

    pub(super) fn page_source<'a>(&'a self, filter: &Filter, budget: &'a RowBudget) -> PageSource<'a> {
        self.source_of(filter, &self.select(filter), budget)
    }

    fn source_of<'a>(&'a self, filter: &Filter, selection: &Selection<'a>, budget: &'a RowBudget) -> PageSource<'a> {
        let total = selection.counts.map(|counts| sum_of_statuses(filter, counts));
        let lists = self.lists(selection);
        PageSource { rows: &self.rows, lists, range: selection.range, total, position: self.position, budget }
    }
}

/// The rows at one position of the log. A snapshot is cheap, and the writer doesn't wait for its readers: before the writer
/// changes a block that a snapshot shares, it copies the block.
#[derive(Clone, Debug)]
pub struct Snapshot {
    rows: RowBlocks,
    selected: Option<Selected>,
    position: Position,
}

/// What the indexes knew about a filter.
#[derive(Clone, Debug)]
struct Selected {
    filter: Filter,
    /// The slots of the tasks with each key of the filter. `None` if a query walks over all tasks.
    lists: Option<Vec<Arc<Vec<u32>>>>,
    /// How many tasks match; `None` if only a scan can tell.
    total: Option<u64>,
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
    pub fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = Cow<'a, Row>> {
        self.rows.iter_matching(filter).filter_map(RowRef::row)
    }

    /// The tasks whose present run has a request to cancel, in the order of their creation.
    pub fn with_cancel_request(&self) -> impl Iterator<Item = Cow<'_, Row>> {
        self.rows.iter().filter(|row| row.has_cancel_request()).filter_map(RowRef::row)
    }

    /// Position of the last event that the snapshot includes.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    pub(super) fn page_source<'a>(&'a self, filter: &Filter, budget: &'a RowBudget) -> PageSource<'a> {
        let selected = self.selected.as_ref().filter(|selected| selected.filter == *filter);
        let lists = match selected.and_then(|selected| selected.lists.as_ref()) {
            Some(lists) => lists.iter().map(|list| SlotList::of(list)).collect(),
            None => vec![SlotList::all(self.rows.len())],
        };
        let total = selected.and_then(|selected| selected.total);
        PageSource { rows: &self.rows, lists, range: self.range(filter), total, position: self.position, budget }
    }

    fn range(&self, filter: &Filter) -> SlotRange {
        self.rows.created_range(filter)
    }
}
