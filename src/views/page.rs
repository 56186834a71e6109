//! Finds a page of the tasks that match a filter.

use std::cell::Cell;

use super::blocks::RowBlocks;
use super::cursor::{Cursor, InvalidCursor, Order, Side};
use super::filter::Filter;
use super::row::Row;
use super::status_index::{SlotList, SlotWalk, StatusSet, WalkStart};
use crate::task::Position;

/// The page of a list that a client requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// The order of the list.
    pub order: Order,
    /// The maximum number of tasks in the page; 0 counts as 1.
    pub limit: usize,
    /// The cursor from an earlier page; `None` for the first page.
    pub cursor: Option<Cursor>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The tasks, in the order of the request.
    pub items: Vec<Row>,
    /// The cursor of the page after this one; `None` on the last page.
    pub next: Option<Cursor>,
    /// The cursor of the page before this one; `None` on the first page.
    pub prev: Option<Cursor>,
    /// How many tasks match the filter, on all pages together.
    pub total: u64,
    /// Position of the last event that the page includes.
    pub position: Position,
}

/// How many rows a query may read, and how many it has read so far.
#[derive(Debug)]
pub struct RowBudget {
    limit: usize,
    read: Cell<usize>,
    exceeded: Cell<bool>,
}

impl RowBudget {
    /// A budget of `limit` rows.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, read: Cell::new(0), exceeded: Cell::new(false) }
    }

    /// A budget that no query exceeds.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// How many rows the query has read. A row that was read twice counts twice.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn rows_read(&self) -> usize {
        self.read.get()
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the query needed more than `limit` rows. Then its result is incomplete.
    pub(super) const fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// Counts one row that the query is going to read. Returns false if `limit` rows were read; then the query must end.
    fn count_row(&self) -> bool {
        let read = self.read.get();
        if read == self.limit {
            self.exceeded.set(true);
            return false;
        }
        self.read.set(read + 1);
        true
    }
}

/// The data that a query reads. It belongs to the live views or to a snapshot.
pub(super) struct PageSource<'a> {
    pub(super) rows: &'a RowBlocks,
    /// These lists together contain every task of the owners in the filter.
    pub(super) lists: Vec<SlotList<'a>>,
    /// How many tasks match the filter; `None` if only a scan of the rows can tell.
    pub(super) total: Option<u64>,
    pub(super) position: Position,
    pub(super) budget: &'a RowBudget,
}

impl PageSource<'_> {
    /// Finds the page. It is incomplete if the budget [is exceeded](RowBudget::is_exceeded).
    pub(super) fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, InvalidCursor> {
        let fingerprint = filter.fingerprint();
        if request.cursor.is_some_and(|cursor| cursor.order != request.order || cursor.fingerprint != fingerprint) {
            return Err(InvalidCursor);
        }
        if let Some(total) = self.total {
            let list = self.filtered_list(&self.lists, StatusSet::of(&filter.status), filter);
            return Ok(list.page(request, fingerprint, total, self.position));
        }
        // The slots of all matching tasks are a list that needs no further filter.
        let matching = self.scan(filter);
        let (lists, every_task) = ([SlotList::of(&matching)], Filter::default());
        let list = self.filtered_list(&lists, StatusSet::ALL, &every_task);
        Ok(list.page(request, fingerprint, matching.len() as u64, self.position))
    }

    /// All matching tasks, in the order of their creation. Ends early if the budget is exceeded.
    pub(super) fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row> {
        let list = self.filtered_list(&self.lists, StatusSet::of(&filter.status), filter);
        list.walk(WalkStart::UpFrom(0)).map(|(_, row)| row)
    }

    /// The slots of all matching tasks, in ascending order.
    fn scan(&self, filter: &Filter) -> Vec<u32> {
        let list = self.filtered_list(&self.lists, StatusSet::of(&filter.status), filter);
        list.walk(WalkStart::UpFrom(0)).filter_map(|(slot, _)| u32::try_from(slot).ok()).collect()
    }

    fn filtered_list<'a>(
        &'a self,
        lists: &'a [SlotList<'a>],
        statuses: StatusSet,
        filter: &'a Filter,
    ) -> FilteredList<'a> {
        FilteredList { rows: self.rows, lists, statuses, filter, budget: self.budget }
    }
}

/// The tasks that match a filter. They can be read in either direction.
struct FilteredList<'a> {
    rows: &'a RowBlocks,
    lists: &'a [SlotList<'a>],
    statuses: StatusSet,
    filter: &'a Filter,
    budget: &'a RowBudget,
}

impl<'a> FilteredList<'a> {
    /// The matching tasks from `start` on, with their slots. Ends early if the budget is exceeded.
    fn walk(&self, start: WalkStart) -> impl Iterator<Item = (usize, &'a Row)> + use<'a> {
        let (rows, filter, budget) = (self.rows, self.filter, self.budget);
        SlotWalk::new(self.lists, self.statuses, start)
            .take_while(|_| budget.count_row())
            .filter_map(move |slot| Some((slot, rows.get(slot)?)))
            .filter(move |(_, row)| filter.matches(row))
    }

    /// Finds the page that begins at the cursor of the request. `total` is the number of all matching tasks.
    fn page(&self, request: &PageRequest, fingerprint: u64, total: u64, position: Position) -> Page {
        let (limit, order) = (request.limit.max(1), request.order);
        let (page_start, opposite_start) = self.walk_starts(request);
        // One task more than the page contains shows whether another page follows. There are no more than `total` tasks, so
        // the walk need not look for more.
        let total_matching = usize::try_from(total).unwrap_or(usize::MAX);
        let wanted = limit.saturating_add(1).min(total_matching);
        let mut items: Vec<Row> = self.walk(page_start).take(wanted).map(|(_, row)| row.clone()).collect();
        let has_more = items.len() > limit;
        items.truncate(limit);
        let has_others = request.cursor.is_some() && items.len() < total_matching;
        let has_opposite = has_others && self.walk(opposite_start).next().is_some();
        let is_backward = request.cursor.is_some_and(|cursor| cursor.side == Side::Before);
        if is_backward {
            items.reverse();
        }
        let (has_next, has_prev) = if is_backward { (has_opposite, has_more) } else { (has_more, has_opposite) };
        let (first, last) = first_and_last_key(&items, request);
        let next = has_next.then_some(Cursor { order, side: Side::After, key: last, fingerprint });
        let prev = has_prev.then_some(Cursor { order, side: Side::Before, key: first, fingerprint });
        Page { items, next, prev, total, position }
    }

    /// The start of the walk that finds the page, and the start of the walk in the opposite direction.
    fn walk_starts(&self, request: &PageRequest) -> (WalkStart, WalkStart) {
        let up = |slot| (WalkStart::UpFrom(slot), WalkStart::DownBefore(slot));
        let down = |slot| (WalkStart::DownBefore(slot), WalkStart::UpFrom(slot));
        match (request.order, request.cursor.map(|cursor| (cursor.side, cursor.key))) {
            (Order::Asc, None) => up(0),
            (Order::Desc, None) => down(self.rows.len()),
            (Order::Asc, Some((Side::After, key))) | (Order::Desc, Some((Side::Before, key))) => {
                up(self.rows.first_slot_from(Position(key.0.saturating_add(1))))
            }
            (Order::Asc, Some((Side::Before, key))) | (Order::Desc, Some((Side::After, key))) => {
                down(self.rows.first_slot_from(key))
            }
        }
    }
}

/// The keys of the first and the last task of the page. The page is empty if its tasks don't match any more; then this
/// returns the two positions next to the cursor's key.
fn first_and_last_key(items: &[Row], request: &PageRequest) -> (Position, Position) {
    if let (Some(first), Some(last)) = (items.first(), items.last()) {
        return (first.created_position(), last.created_position());
    }
    let key = request.cursor.map_or(0, |cursor| cursor.key.0);
    let (less, more) = (Position(key.saturating_sub(1)), Position(key.saturating_add(1)));
    match request.order {
        Order::Desc => (less, more),
        Order::Asc => (more, less),
    }
}
