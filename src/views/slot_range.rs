//! The slots of the tasks that were created in a window of time.

use super::block::{Block, ROWS_PER_BLOCK, RowRef};
use super::blocks::RowBlocks;
use super::filter::Filter;

/// Where the tasks that were created after some time begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotBound {
    /// No task before this slot was created after that time.
    first: usize,
    /// All tasks from this slot on were. It is `first`, unless the clock has stepped back.
    all_from: usize,
}

/// The slots of the tasks that were created in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) from: usize,
    pub(super) until: usize,
    /// All tasks of the range are in the window.
    pub(super) is_exact: bool,
}

impl SlotRange {
    /// All slots.
    pub(super) const fn all(rows: &RowBlocks) -> Self {
        Self { from: 0, until: rows.len(), is_exact: true }
    }

    pub(super) const fn contains(self, slot: usize) -> bool {
        self.from <= slot && slot < self.until
    }
}

impl RowBlocks {
    /// The slots of the tasks that were created in the filter's window.
    pub(super) fn created_range(&self, filter: &Filter) -> SlotRange {
        let start = filter.created_after.map(|at| self.first_after(at.as_micros()));
        // The times are in microseconds, so "not before" is "after the microsecond before it".
        let end = filter.created_before.map(|at| self.first_after(at.as_micros() - 1));
        let is_exact = [start, end].into_iter().flatten().all(|bound| bound.first == bound.all_from);
        let from = start.map_or(0, |bound| bound.first);
        let until = end.map_or(self.len(), |bound| bound.all_from);
        SlotRange { from, until: until.max(from), is_exact }
    }

    /// The part of the range from the first to the last block in which a task may have ended in the filter's window.
    pub(super) fn finished_range(&self, filter: &Filter, range: SlotRange) -> SlotRange {
        if !filter.has_finished_window() {
            return range;
        }
        let may_have = |block: &usize| self.block(*block).is_some_and(|rows| rows.may_have_finished(filter));
        let mut blocks = range.from / ROWS_PER_BLOCK..range.until.div_ceil(ROWS_PER_BLOCK);
        let first = blocks.find(may_have);
        let last = blocks.rfind(may_have).or(first);
        let (Some(first), Some(last)) = (first, last) else { return SlotRange { until: range.from, ..range } };
        let (from, until) = (first * ROWS_PER_BLOCK, (last + 1) * ROWS_PER_BLOCK);
        SlotRange { from: from.max(range.from), until: until.min(range.until), ..range }
    }

    fn first_after(&self, micros: i64) -> SlotBound {
        let is_after = |row: RowRef| row.created_at().is_some_and(|created| created.as_micros() > micros);
        let block = self.created_times().first_block_after(micros);
        let within = self.block(block).map_or(0, |rows| first_index(rows, is_after));
        let first = (block * ROWS_PER_BLOCK + within).min(self.len());
        let last = self.created_times().last_block_not_after(micros);
        let all_from = last.map_or(0, |block| {
            let within = self.block(block).map_or(0, |rows| after_last_index(rows, |row| !is_after(row)));
            block * ROWS_PER_BLOCK + within
        });
        SlotBound { first, all_from }
    }
}

/// The index of the first row for which this holds.
fn first_index(block: &Block, holds: impl Fn(RowRef) -> bool) -> usize {
    block.iter().position(holds).unwrap_or(ROWS_PER_BLOCK)
}

/// The index after the last row for which this holds.
fn after_last_index(block: &Block, holds: impl Fn(RowRef) -> bool) -> usize {
    let rows: Vec<RowRef> = block.iter().collect();
    rows.into_iter().rposition(holds).map_or(0, |index| index + 1)
}
