//! Counts tasks: those of a scope, and those of them that match a filter.

use super::Views;
use super::bell::{BellCounters, Unseen};
use super::counters::Counts;
use super::filter::Filter;
use super::page::{PageSource, RowBudget};
use super::query::{Snapshot, sum_of_statuses};
use super::row::Row;
use super::scope::Scope;
use crate::task::{Position, Status};

/// How many tasks have each status, and how many have ended after a position.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    counts: Counts,
    unseen: Unseen,
}

impl Tally {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>, seen: Position) -> Self {
        let mut tally = Self::default();
        for row in rows {
            tally.counts[row.status() as usize] += 1;
            if row.ended_position().is_some_and(|at| at > seen) {
                tally.unseen.add(row.status());
            }
        }
        tally
    }

    const fn counters(self, position: Position, seen: Position) -> BellCounters {
        BellCounters { position, counts: self.counts, unseen: self.unseen, seen }
    }
}

impl Views {
    /// The bell of this scope. If the scope is not the tasks of one owner, `unseen` counts from what the viewer has seen.
    ///
    /// It takes a few microseconds for everyone and for one owner, with any number of tasks. For several owners it reads their
    /// final tasks; a request should use [`Views::counters_within`], which bounds that.
    #[must_use]
    pub fn bell(&self, scope: &Scope, viewer: &str) -> BellCounters {
        let (position, seen, filter) = (self.position, self.seen_by(viewer), Filter::of(scope.clone()));
        match &filter.owner[..] {
            [] => BellCounters { position, counts: self.totals(), unseen: self.ends.after(seen), seen },
            [owner] => self.counters(owner),
            _ => self.tally(&filter, seen, &RowBudget::unlimited()).counters(position, seen),
        }
    }

    /// The counters of the tasks that match the filter. `None` if the query reads more rows than the budget allows, or if an
    /// estimate says so. Then the caller should release the lock and use [`Snapshot::counters`].
    ///
    /// `unseen` counts from what the owner has seen if the filter has one owner, else from what the viewer has seen.
    #[must_use]
    pub fn counters_within(&self, filter: &Filter, viewer: &str, budget: &RowBudget) -> Option<BellCounters> {
        let scope = filter.scope();
        if filter.owner.len() <= 1 && *filter == Filter::of(scope.clone()) {
            return Some(self.bell(&scope, viewer));
        }
        if self.rows_to_tally(filter) > budget.limit() as u64 {
            return None;
        }
        let seen = self.seen_for(filter, viewer);
        let tally = self.tally(filter, seen, budget);
        (!budget.is_exceeded()).then(|| tally.counters(self.position, seen))
    }

    /// The position from which `unseen` counts for this filter: the owner has seen everything up to there if the filter has
    /// one owner, else the viewer has.
    #[must_use]
    pub fn seen_for(&self, filter: &Filter, viewer: &str) -> Position {
        match &filter.owner[..] {
            [owner] => self.seen_by(owner),
            _ => self.seen_by(viewer),
        }
    }

    fn seen_by(&self, subject: &str) -> Position {
        self.owners.find(subject).map_or(Position(0), |owner| owner.seen)
    }

    /// How many rows [`Views::tally`] reads.
    fn rows_to_tally(&self, filter: &Filter) -> u64 {
        let candidates = self.matching_counts(&Filter { owner: filter.owner.clone(), ..Filter::default() });
        match walked_statuses(filter) {
            Some(statuses) => sum_of_statuses(&Filter { status: statuses, ..Filter::default() }, candidates),
            None => 0,
        }
    }

    /// Counts the matching tasks. If the counters know how many have each status, only final tasks are read, for `unseen`.
    fn tally(&self, filter: &Filter, seen: Position, budget: &RowBudget) -> Tally {
        let walked = walked_statuses(filter).map_or_else(Tally::default, |status| {
            let filter = Filter { status, ..filter.clone() };
            self.page_source(&filter, budget).tally(&filter, seen)
        });
        if filter.needs_scan() {
            return walked;
        }
        let mut counts = self.matching_counts(filter);
        for status in Status::ALL.into_iter().filter(|status| !filter.matches_status(*status)) {
            counts[status as usize] = 0;
        }
        Tally { counts, ..walked }
    }
}

/// The statuses of the tasks that a count reads; `None` if it reads none.
fn walked_statuses(filter: &Filter) -> Option<Vec<Status>> {
    let is_walked = |status: &Status| filter.matches_status(*status) && (filter.needs_scan() || status.is_final());
    Some(Status::ALL.into_iter().filter(is_walked).collect()).filter(|statuses: &Vec<Status>| !statuses.is_empty())
}

impl Snapshot {
    /// The counters of the tasks that match the filter. `unseen` counts those that ended after `seen`; see
    /// [`Views::seen_for`]. The query may read any number of rows.
    #[must_use]
    pub fn counters(&self, filter: &Filter, seen: Position) -> BellCounters {
        let budget = RowBudget::unlimited();
        self.page_source(filter, &budget).tally(filter, seen).counters(self.position(), seen)
    }
}

impl PageSource<'_> {
    /// Counts the matching tasks. The count is incomplete if the budget [is exceeded](RowBudget::is_exceeded).
    fn tally(&self, filter: &Filter, seen: Position) -> Tally {
        Tally::of(self.matching(filter), seen)
    }
}
