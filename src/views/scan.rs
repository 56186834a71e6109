//! Reads all tasks that can match a filter, block by block. It skips the blocks in which no task can match.

use super::block::{ROWS_PER_BLOCK, RowRef};
use super::filter::Filter;
use super::packed::IndexSet;
use super::packed::words::WordSearch;
use super::page::PageSource;
use super::selection::statuses_of;
use super::status_index::{SlotList, StatusSet};

/// The rows of one block that may match.
struct Candidates {
    block: usize,
    indexes: IndexSet,
}

/// What a scan looks for, and the block that it is in.
struct Scan<'a> {
    filter: &'a Filter,
    statuses: StatusSet,
    search: WordSearch,
    candidates: Option<Candidates>,
    scratch: String,
}

impl<'a> PageSource<'a> {
    /// The slots of all matching tasks, in ascending order. The scan ends early if the budget is exceeded.
    pub(super) fn scan(&self, filter: &Filter) -> Vec<u32> {
        let mut found = Vec::new();
        self.for_each_match(filter, |slot, _| found.extend(u32::try_from(slot)));
        if self.lists.len() > 1 {
            found.sort_unstable();
        }
        found
    }

    /// Calls `visit` with the slot of each matching task, and the task. Ends early if the budget is exceeded.
    pub(super) fn for_each_match(&self, filter: &Filter, mut visit: impl FnMut(usize, RowRef<'a>)) {
        let mut scan = Scan {
            filter,
            statuses: statuses_of(filter),
            search: WordSearch::new(&filter.q),
            candidates: None,
            scratch: String::new(),
        };
        for list in &self.lists {
            self.scan_list(list, &mut scan, &mut visit);
        }
    }

    fn scan_list(&self, list: &SlotList, scan: &mut Scan, visit: &mut impl FnMut(usize, RowRef<'a>)) {
        let mut index = list.first_index_from(self.range.from);
        while let Some(next) = list.next_index(index, scan.statuses) {
            let slot = list.slot(next);
            if slot >= self.range.until {
                break;
            }
            let block = slot / ROWS_PER_BLOCK;
            let candidates = self.candidates(block, scan);
            if candidates.is_empty() {
                index = list.first_index_from((block + 1) * ROWS_PER_BLOCK);
                continue;
            }
            index = next + 1;
            if !candidates.has(slot % ROWS_PER_BLOCK) {
                continue;
            }
            if !self.budget.count_row() {
                break;
            }
            if let Some(row) = self.rows.get(slot).filter(|row| scan.matches(*row)) {
                visit(slot, row);
            }
        }
    }

    /// The rows of the block that may match. The scan keeps the set of the last block.
    fn candidates(&self, block: usize, scan: &mut Scan) -> IndexSet {
        if let Some(last) = scan.candidates.as_ref().filter(|last| last.block == block) {
            return last.indexes;
        }
        let indexes = self
            .rows
            .block(block)
            .map_or_else(IndexSet::default, |rows| rows.candidates(scan.filter, &scan.search, &mut scan.scratch));
        scan.candidates = Some(Candidates { block, indexes });
        indexes
    }
}

impl Scan<'_> {
    fn matches(&self, row: RowRef) -> bool {
        if self.search.is_inexact() { row.matches(self.filter) } else { row.matches_as_candidate(self.filter) }
    }
}
