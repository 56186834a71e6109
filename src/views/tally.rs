//! Counts tasks: those of a scope, and those of them that match a filter.

use super::Views;
use super::bell::{BellCounters, Unseen};
use super::block::RowRef;
use super::counters::Counts;
use super::filter::Filter;
use super::page::{PageSource, RowBudget};
use super::query::Snapshot;
use super::scope::Scope;
use super::selection::Selection;
use crate::task::{Position, Status};

/// How many tasks have each status, and how many have ended after a position.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    counts: Counts,
    unseen: Unseen,
}

impl Tally {
    fn add(&mut self, row: RowRef, seen: Position) {
        let Some(status) = row.status() else { return };
        self.counts[status as usize] += 1;
        if row.ended_position().is_some_and(|at| at > seen) {
            self.unseen.add(status);
        }
    }

    const fn counters(self, position: Position, seen: Position) -> BellCounters {
        BellCounters { position, counts: self.counts, unseen: self.unseen, seen }
    }

    /// The part of the tally that has the statuses of the filter.
    fn of_statuses(mut self, filter: &Filter) -> Self {
        let mut unseen = Unseen::default();
        for status in Status::ALL {
            if filter.matches_status(status) {
                unseen.add_count(status, self.unseen.of(status));
            } else {
                self.counts[status as usize] = 0;
            }
        }
        Self { unseen, ..self }
    }
}

impl Views {
    /// The bell of this scope. If the scope is not the tasks of one owner, `unseen` counts from what the viewer has seen.
    ///
    /// It reads no task: it takes a few microseconds for everyone and for one owner, with any number of tasks.
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
        let seen = self.seen_for(filter, viewer);
        if self.rows_to_tally(filter, seen) > budget.limit() as u64 {
            return None;
        }
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
    fn rows_to_tally(&self, filter: &Filter, seen: Position) -> u64 {
        let selection = self.select(filter);
        match selection.counts {
            Some(_) if seen == Position(0) || self.unseen_of(filter, &selection, seen).is_some() => 0,
            Some(_) => self.candidates(&of_final_tasks(filter), &selection),
            None => self.candidates(filter, &selection),
        }
    }

    /// Counts the matching tasks. If the indexes know how many have each status, only final tasks are read, and only if there
    /// is a window of time.
    fn tally(&self, filter: &Filter, seen: Position, budget: &RowBudget) -> Tally {
        let selection = self.select(filter);
        let Some(counts) = selection.counts else { return self.page_source(filter, budget).tally(filter, seen) };
        let unseen = self.unseen_of(filter, &selection, seen).unwrap_or_else(|| {
            if seen == Position(0) {
                return ends_of(counts);
            }
            let filter = of_final_tasks(filter);
            self.page_source(&filter, budget).tally(&filter, seen).unseen
        });
        Tally { counts, unseen }.of_statuses(filter)
    }

    /// How many of the selected tasks ended after `seen`. `None` if only the tasks can tell.
    fn unseen_of(&self, filter: &Filter, selection: &Selection, seen: Position) -> Option<Unseen> {
        if filter.has_created_window() || filter.has_finished_window() {
            return None;
        }
        self.ends_after(selection.keys.as_deref(), seen)
    }
}

/// All tasks with these counts that are final.
fn ends_of(counts: Counts) -> Unseen {
    let mut ends = Unseen::default();
    for status in Status::ALL {
        ends.add_count(status, counts[status as usize]);
    }
    ends
}

/// The filter for the final tasks among those that match. No task matches it if the filter has other statuses only.
fn of_final_tasks(filter: &Filter) -> Filter {
    let is_wanted = |status: &Status| status.is_final() && filter.matches_status(*status);
    let status: Vec<Status> = Status::ALL.into_iter().filter(is_wanted).collect();
    if status.is_empty() {
        // No task has an owner without a name.
        return Filter { owner: vec![String::new()], ..filter.clone() };
    }
    Filter { status, ..filter.clone() }
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
        let mut tally = Tally::default();
        self.for_each_match(filter, |_, row| tally.add(row, seen));
        tally
    }
}
