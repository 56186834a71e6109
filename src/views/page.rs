//! Finds a page of the tasks that match a filter.

use std::borrow::Cow;
use std::cell::Cell;

use super::block::{ROWS_PER_BLOCK, RowRef};
use super::blocks::RowBlocks;
use super::cursor::{Cursor, InvalidCursor, Order, Side};
use super::filter::Filter;
use super::row::Row;
use super::selection::statuses_of;
use super::slot_range::SlotRange;
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
    pub(super) fn count_row(&self) -> bool {
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
    /// These lists together contain every task that can match.
    pub(super) lists: Vec<SlotList<'a>>,
    /// The slots of all tasks that can match are in this range.
    pub(super) range: SlotRange,
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
        let (rows, budget) = (self.rows, self.budget);
        if let Some(total) = self.total {
            let (lists, range, statuses) =
                (&self.lists[..], rows.finished_range(filter, self.range), statuses_of(filter));
            let list = FilteredList { rows, lists, range, statuses, filter, budget };
            return Ok(list.page(request, fingerprint, total, self.position));
        }
        // The slots of all matching tasks are a list that needs no further filter.
        let matching = self.scan(filter);
        let (lists, every_task) = ([SlotList::of(&matching)], Filter::default());
        let range = SlotRange::all(rows);
        let list = FilteredList { rows, lists: &lists, range, statuses: StatusSet::ALL, filter: &every_task, budget };
        Ok(list.page(request, fingerprint, matching.len() as u64, self.position))
    }
}

/// The tasks that match a filter. They can be read in either direction.
struct FilteredList<'a> {
    rows: &'a RowBlocks,
    lists: &'a [SlotList<'a>],
    range: SlotRange,
    statuses: StatusSet,
    filter: &'a Filter,
    budget: &'a RowBudget,
}

impl<'a> FilteredList<'a> {
    /// The matching tasks from `start` on. Ends early if the budget is exceeded.
    fn walk(&self, start: WalkStart) -> impl Iterator<Item = RowRef<'a>> + use<'a> {
        let (rows, range, filter, budget) = (self.rows, self.range, self.filter, self.budget);
        let mut last_block = (usize::MAX, false);
        let may_have_finished = move |slot: &usize| {
            let number = slot / ROWS_PER_BLOCK;
            if last_block.0 != number {
                last_block = (number, rows.block(number).is_some_and(|block| block.may_have_finished(filter)));
            }
            last_block.1
        };
        SlotWalk::new(self.lists, self.statuses, start)
            .take_while(move |slot| range.contains(*slot))
            .filter(may_have_finished)
            .take_while(|_| budget.count_row())
            .filter_map(|slot| rows.get(slot))
            .filter(|row| row.matches(filter))
    }

    /// Finds the page that begins at the cursor of the request. `total` is the number of all matching tasks.
    fn page(&self, request: &PageRequest, fingerprint: u64, total: u64, position: Position) -> Page {
        let (limit, order) = (request.limit.max(1), request.order);
        let (page_start, opposite_start) = self.walk_starts(request);
        // One task more than the page contains shows whether another page follows. There are no more than `total` tasks, so
        // the walk need not look for more.
        let total_matching = usize::try_from(total).unwrap_or(usize::MAX);
        let wanted = limit.saturating_add(1).min(total_matching);
        let mut items: Vec<Row> =
            self.walk(page_start).take(wanted).filter_map(RowRef::row).map(Cow::into_owned).collect();
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
        let from = |slot: usize| WalkStart::UpFrom(slot.max(self.range.from));
        let before = |slot: usize| WalkStart::DownBefore(slot.min(self.range.until));
        let up = |slot| (from(slot), before(slot));
        let down = |slot| (before(slot), from(slot));
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
