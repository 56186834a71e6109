//! Questions to the views, and to a snapshot of them that can be read without holding the writer.

use std::sync::Arc;

use super::Views;
use super::bell::Owner;
use super::blocks::Blocks;
use super::cursor::BadCursor;
use super::filter::Filter;
use super::lanes::{Lane, Wanted};
use super::page::{Page, PageRequest, Source};
use super::places::Counts;
use super::row::Row;
use crate::task::{Position, Status};

/// How many rows the largest page reads, for an estimate.
const PAGE: u64 = 200;

impl Views {
    /// A page. Reads as many rows as it shows where the filter asks for owner and status alone; for more, ask
    /// [`Views::cost`] first, and read a [`Snapshot`] where it is high.
    ///
    /// # Errors
    /// [`BadCursor`] where the cursor comes from a list with another filter or order.
    pub fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, BadCursor> {
        self.source(filter).page(filter, request)
    }

    /// About how many rows a page with this filter reads, at most: 0 where indices lead straight to it.
    #[must_use]
    pub fn cost(&self, filter: &Filter) -> u64 {
        let candidates = wanted(filter, self.counted(&Filter { owner: filter.owner.clone(), ..Filter::default() }));
        if filter.needs_scan() {
            return candidates;
        }
        if filter.kind.is_empty() && filter.queue.is_empty() {
            return 0;
        }
        let total = wanted(filter, self.counted(filter));
        candidates.checked_div(total).map_or(0, |rows| candidates.min(rows.saturating_mul(PAGE)))
    }

    /// The rows as they are now, to be read elsewhere while this goes on.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { rows: self.rows.clone(), owned: None, position: self.position }
    }

    /// The same, with the lists of the owners that the filter names: a scan then reads their tasks alone.
    #[must_use]
    pub fn snapshot_for(&self, filter: &Filter) -> Snapshot {
        let owned = self.named(filter).map(|owners| StreamState {
            names: filter.owner.clone(),
            lists: owners.iter().filter_map(|owner| owner.tasks.slots()).collect(),
        });
        Snapshot { owned, ..self.snapshot() }
    }

    /// How many tasks of all owners have each status.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.counted(&Filter::default())
    }

    fn source(&self, filter: &Filter) -> Source<'_> {
        let lanes = match self.named(filter) {
            Some(owners) => owners.iter().map(|owner| owner.tasks.lane()).collect(),
            None => vec![self.all.lane()],
        };
        let total = (!filter.needs_scan()).then(|| wanted(filter, self.counted(filter)));
        Source { rows: &self.rows, lanes, total, position: self.position }
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

    fn counted(&self, filter: &Filter) -> Counts {
        let owners = self.named(filter);
        let places = owners.as_ref().map(|owners| owners.iter().flat_map(|owner| owner.places.iter().copied()));
        self.places.counts(filter, places)
    }
}

fn wanted(filter: &Filter, counts: Counts) -> u64 {
    let wanted = Wanted::of(&filter.status);
    Status::ALL.into_iter().filter(|status| wanted.has(*status)).map(|status| counts[status as usize]).sum()
}

/// The rows at one position. Cheap to take, and never in the writer's way: it copies what both hold.
#[derive(Clone, Debug)]
pub struct Snapshot {
    rows: Blocks,
    owned: Option<StreamState>,
    position: Position,
}

/// The lists of some owners.
#[derive(Clone, Debug)]
struct StreamState {
    /// As the filter names them.
    names: Vec<String>,
    lists: Vec<Arc<Vec<u32>>>,
}

impl Snapshot {
    /// The same page as [`Views::page`] would have given.
    ///
    /// # Errors
    /// [`BadCursor`] where the cursor comes from a list with another filter or order.
    pub fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, BadCursor> {
        self.source(filter).page(filter, request)
    }

    /// Every task that the filter lets through, oldest first.
    pub fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|row| filter.matches(row))
    }

    /// The position that it shows.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    fn source(&self, filter: &Filter) -> Source<'_> {
        let lanes = match &self.owned {
            Some(owned) if owned.names == filter.owner => owned.lists.iter().map(|list| Lane::listed(list)).collect(),
            Some(_) | None => vec![Lane::every(self.rows.len())],
        };
        Source { rows: &self.rows, lanes, total: None, position: self.position }
    }
}
