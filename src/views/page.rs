//! A page of the tasks that a filter lets through.

use std::cell::Cell;

use super::blocks::Blocks;
use super::cursor::{BadCursor, Cursor, Order, Side};
use super::filter::Filter;
use super::lanes::{Lane, Start, Walk, Wanted};
use super::row::Row;
use crate::task::Position;

/// Which page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// By creation, which way.
    pub order: Order,
    /// At most so many tasks; 0 counts as 1.
    pub limit: usize,
    /// From a former page; none is the first page.
    pub cursor: Option<Cursor>,
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order that was asked for.
    pub items: Vec<Row>,
    /// Leads to the page after this one; none on the last.
    pub next: Option<Cursor>,
    /// Leads to the page before this one; none on the first.
    pub prev: Option<Cursor>,
    /// How many tasks the filter lets through, on all pages.
    pub total: u64,
    /// The log position that it reflects.
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

/// What a query reads: the view itself, or a snapshot.
pub(super) struct Source<'a> {
    pub(super) rows: &'a Blocks,
    /// Lists that hold every task that the filter's owners let through.
    pub(super) lanes: Vec<Lane<'a>>,
    /// How many match, where counters tell.
    pub(super) total: Option<u64>,
    pub(super) position: Position,
    pub(super) budget: &'a RowBudget,
}

impl Source<'_> {
    /// The page; incomplete where the budget [is exceeded](RowBudget::is_exceeded).
    pub(super) fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, BadCursor> {
        let fingerprint = filter.fingerprint();
        if request.cursor.is_some_and(|cursor| cursor.order != request.order || cursor.filter != fingerprint) {
            return Err(BadCursor);
        }
        if let Some(total) = self.total {
            let list = self.list(&self.lanes, Wanted::of(&filter.status), filter);
            return Ok(list.cut(request, fingerprint, total, self.position));
        }
        let found = self.scan(filter);
        let (lanes, filter) = ([Lane::listed(&found)], Filter::default());
        let list = self.list(&lanes, Wanted::ALL, &filter);
        Ok(list.cut(request, fingerprint, found.len() as u64, self.position))
    }

    /// The slots of all that match, oldest first.
    fn scan(&self, filter: &Filter) -> Vec<u32> {
        let list = self.list(&self.lanes, Wanted::of(&filter.status), filter);
        list.walk(Start::From(0)).filter_map(|(slot, _)| u32::try_from(slot).ok()).collect()
    }

    fn list<'a>(&'a self, lanes: &'a [Lane<'a>], wanted: Wanted, filter: &'a Filter) -> List<'a> {
        List { rows: self.rows, lanes, wanted, filter, budget: self.budget }
    }
}

/// The tasks that a filter lets through, walked either way.
struct List<'a> {
    rows: &'a Blocks,
    lanes: &'a [Lane<'a>],
    wanted: Wanted,
    filter: &'a Filter,
    budget: &'a RowBudget,
}

impl<'a> List<'a> {
    /// The tasks from there on, as far as the budget goes.
    fn walk(&self, start: Start) -> impl Iterator<Item = (usize, &'a Row)> {
        let (rows, filter, budget) = (self.rows, self.filter, self.budget);
        Walk::new(self.lanes, self.wanted, start)
            .take_while(|_| budget.spend())
            .filter_map(move |slot| Some((slot, rows.get(slot)?)))
            .filter(move |(_, row)| filter.matches(row))
    }

    fn cut(&self, request: &PageRequest, filter: u64, total: u64, position: Position) -> Page {
        let (limit, order) = (request.limit.max(1), request.order);
        let (ahead, back) = self.sides(request);
        // Once all that match are found, there is nothing left to look for.
        let known = usize::try_from(total).unwrap_or(usize::MAX);
        let wished = limit.saturating_add(1).min(known);
        let mut items: Vec<Row> = self.walk(ahead).take(wished).map(|(_, row)| row.clone()).collect();
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

    /// Where the page lies, and where all the rest does: the two sides of one place in the list.
    fn sides(&self, request: &PageRequest) -> (Start, Start) {
        let up = |at| (Start::From(at), Start::Before(at));
        let down = |at| (Start::Before(at), Start::From(at));
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

/// The keys of the first and the last task. A page that has lost all its tasks has the place where it would be.
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
