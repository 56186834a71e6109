//! The rows of all tasks in the order of their creation. They are stored in blocks, so that a reader can hold a copy of the
//! list while the writer changes the list.

use std::sync::Arc;

use super::block::{Block, ROWS_PER_BLOCK, RowRef};
use super::created_times::CreatedTimes;
use super::filter::Filter;
use super::row::Row;
use crate::task::Position;

/// A block is cold if this many newer blocks follow it. Probably few of its tasks change soon.
const BLOCKS_UNTIL_COLD: usize = 16;

/// A list of rows. Rows are added and changed, but never removed. The index of a row is called its slot. A copy of the list
/// shares its blocks. While a reader holds a copy, the first write to a block copies the rows of the block that are not
/// packed (copy-on-write).
#[derive(Clone, Debug, Default)]
pub(super) struct RowBlocks {
    blocks: Vec<Arc<Block>>,
    len: usize,
    created_times: CreatedTimes,
}

impl RowBlocks {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn block(&self, block: usize) -> Option<&Block> {
        self.blocks.get(block).map(Arc::as_ref)
    }

    pub(super) const fn created_times(&self) -> &CreatedTimes {
        &self.created_times
    }

    pub(super) fn get(&self, slot: usize) -> Option<RowRef<'_>> {
        self.blocks.get(slot / ROWS_PER_BLOCK)?.get(slot % ROWS_PER_BLOCK)
    }

    /// Changes the row. Returns it as it was before the change, and after.
    pub(super) fn change(&mut self, slot: usize, change: impl FnOnce(&mut Row)) -> Option<(Row, Row)> {
        let index = slot / ROWS_PER_BLOCK;
        let is_cold = index + BLOCKS_UNTIL_COLD < self.blocks.len();
        Arc::make_mut(self.blocks.get_mut(index)?).change(slot % ROWS_PER_BLOCK, is_cold, change)
    }

    pub(super) fn push(&mut self, row: Row) {
        if self.len.is_multiple_of(ROWS_PER_BLOCK) {
            if let Some(cold) = self.blocks.len().checked_sub(BLOCKS_UNTIL_COLD) {
                Arc::make_mut(&mut self.blocks[cold]).pack();
            }
            self.blocks.push(Arc::new(Block::default()));
        }
        if let Some(last) = self.blocks.last_mut() {
            self.created_times.push(self.len, row.created_at());
            Arc::make_mut(last).push(row);
            self.len += 1;
        }
    }

    /// Adds a whole block. Returns `None` if the block before it is not full.
    pub(super) fn push_block(&mut self, block: Block) -> Option<()> {
        if !self.len.is_multiple_of(ROWS_PER_BLOCK) {
            return None;
        }
        for row in block.iter() {
            self.created_times.push(self.len, row.created_at()?);
            self.len += 1;
        }
        self.blocks.push(Arc::new(block));
        Some(())
    }

    pub(super) fn blocks(&self) -> impl ExactSizeIterator<Item = &Block> {
        self.blocks.iter().map(Arc::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// The rows that match the filter.
    pub(super) fn iter_matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = RowRef<'a>> {
        let blocks = self.blocks.iter().filter(|block| !block.has_only_others(&filter.status));
        blocks.flat_map(|block| block.iter()).filter(|row| row.matches(filter))
    }

    #[cfg(feature = "testing")]
    pub(super) fn pack(&mut self) {
        self.blocks.iter_mut().for_each(|block| Arc::make_mut(block).pack());
    }

    #[cfg(feature = "testing")]
    pub(super) fn packed_rows(&self) -> usize {
        self.blocks.iter().map(|block| block.packed_rows()).sum()
    }

    /// The first slot whose task was created at this position or later.
    pub(super) fn first_slot_from(&self, created: Position) -> usize {
        let is_before = |row: RowRef| row.created_position().is_some_and(|at| at < created);
        let block = self.blocks.partition_point(|block| block.last().is_some_and(is_before));
        let within = self.blocks.get(block).map_or(0, |block| block.partition_point(is_before));
        (block * ROWS_PER_BLOCK + within).min(self.len)
    }
}
