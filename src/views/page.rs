//! A page of the tasks that match a filter.

use std::cell::Cell;

use super::blocks::RowBlocks;
use super::cursor::{BadCursor, Cursor, Order, Side};
use super::filter::Filter;
use super::row::Row;
use super::status_index::{SlotList, SlotWalk, StatusSet, WalkStart};
use crate::task::Position;

/// Which page of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// The order of the list, by creation.
    pub order: Order,
    /// How many tasks the page shows at most; 0 counts as 1.
    pub limit: usize,
    /// The cursor of a former page; none for the first page.
    pub cursor: Option<Cursor>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The tasks, in the order of the request.
    pub items: Vec<Row>,
    /// Leads to the page after this one; none on the last page.
    pub next: Option<Cursor>,
    /// Leads to the page before this one; none on the first page.
    pub prev: Option<Cursor>,
    /// How many tasks match the filter, on all pages.
    pub total: u64,
    /// The log position that the page reflects.
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

    /// How many rows were read. A row that is read twice counts twice.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn rows_read(&self) -> usize {
        self.read.get()
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the query needed one row more than `limit`: then what it found is incomplete.
    pub(super) const fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// Counts one row. False at the limit: the row must not be read.
    fn spend(&self) -> bool {
        let read = self.read.get();
        if read == self.limit {
            self.exceeded.set(true);
            return false;
        }
        self.read.set(read + 1);
        true
    }
}

/// What a query reads: the live views, or a snapshot.
pub(super) struct PageSource<'a> {
    pub(super) rows: &'a RowBlocks,
    /// Lists that together hold every task of the owners in the filter.
    pub(super) lists: Vec<SlotList<'a>>,
    /// How many tasks match, where the counters know it.
    pub(super) total: Option<u64>,
    pub(super) position: Position,
    pub(super) budget: &'a RowBudget,
}

impl PageSource<'_> {
    /// The page; incomplete where the budget [is exceeded](RowBudget::is_exceeded).
    pub(super) fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, BadCursor> {
        let fingerprint = filter.fingerprint();
        if request.cursor.is_some_and(|cursor| cursor.order != request.order || cursor.filter != fingerprint) {
            return Err(BadCursor);
        }
        if let Some(total) = self.total {
            let list = self.list(&self.lists, StatusSet::of(&filter.status), filter);
            return Ok(list.page(request, fingerprint, total, self.position));
        }
        let found = self.scan(filter);
        let (lists, filter) = ([SlotList::of(&found)], Filter::default());
        let list = self.list(&lists, StatusSet::ALL, &filter);
        Ok(list.page(request, fingerprint, found.len() as u64, self.position))
    }

    /// The slots of all matching tasks, oldest first.
    fn scan(&self, filter: &Filter) -> Vec<u32> {
        let list = self.list(&self.lists, StatusSet::of(&filter.status), filter);
        list.walk(WalkStart::From(0)).filter_map(|(slot, _)| u32::try_from(slot).ok()).collect()
    }

    fn list<'a>(&'a self, lists: &'a [SlotList<'a>], statuses: StatusSet, filter: &'a Filter) -> FilteredList<'a> {
        FilteredList { rows: self.rows, lists, statuses, filter, budget: self.budget }
    }
}

/// The tasks that match a filter, to be read in either direction.
struct FilteredList<'a> {
    rows: &'a RowBlocks,
    lists: &'a [SlotList<'a>],
    statuses: StatusSet,
    filter: &'a Filter,
    budget: &'a RowBudget,
}

impl<'a> FilteredList<'a> {
    /// The matching tasks from `start` on, until the budget is used up.
    fn walk(&self, start: WalkStart) -> impl Iterator<Item = (usize, &'a Row)> {
        let (rows, filter, budget) = (self.rows, self.filter, self.budget);
        SlotWalk::new(self.lists, self.statuses, start)
            .take_while(|_| budget.spend())
            .filter_map(move |slot| Some((slot, rows.get(slot)?)))
            .filter(move |(_, row)| filter.matches(row))
    }

    fn page(&self, request: &PageRequest, filter: u64, total: u64, position: Position) -> Page {
        let (limit, order) = (request.limit.max(1), request.order);
        let (ahead, back) = self.starts(request);
        // Once all matching tasks are found, the walk can stop.
        let known = usize::try_from(total).unwrap_or(usize::MAX);
        let wanted = limit.saturating_add(1).min(known);
        let mut items: Vec<Row> = self.walk(ahead).take(wanted).map(|(_, row)| row.clone()).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let behind = request.cursor.is_some() && items.len() < known && self.walk(back).next().is_some();
        let backwards = request.cursor.is_some_and(|cursor| cursor.side == Side::Before);
        if backwards {
            items.reverse();
        }
        let (has_next, has_prev) = if backwards { (behind, more) } else { (more, behind) };
        let (first, last) = edges(&items, request);
        let next = has_next.then_some(Cursor { order, side: Side::After, key: last, filter });
        let prev = has_prev.then_some(Cursor { order, side: Side::Before, key: first, filter });
        Page { items, next, prev, total, position }
    }

    /// Where the walk to the page begins, and where the walk in the opposite direction begins.
    fn starts(&self, request: &PageRequest) -> (WalkStart, WalkStart) {
        let up = |at| (WalkStart::From(at), WalkStart::Before(at));
        let down = |at| (WalkStart::Before(at), WalkStart::From(at));
        match (request.order, request.cursor.map(|cursor| (cursor.side, cursor.key))) {
            (Order::Asc, None) => up(0),
            (Order::Desc, None) => down(self.rows.len()),
            (Order::Asc, Some((Side::After, key))) | (Order::Desc, Some((Side::Before, key))) => {
                up(self.rows.bound(Position(key.0.saturating_add(1))))
            }
            (Order::Asc, Some((Side::Before, key))) | (Order::Desc, Some((Side::After, key))) => {
                down(self.rows.bound(key))
            }
        }
    }
}

/// The keys of the first and the last task of the page. A page whose tasks no longer match has the keys next to its cursor.
fn edges(items: &[Row], request: &PageRequest) -> (Position, Position) {
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
