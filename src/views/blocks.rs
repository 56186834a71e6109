//! The rows of all tasks in the order of their creation. They are stored in blocks, so that a reader can hold a copy of the
//! list while the writer changes the list.

use std::sync::Arc;

use super::row::Row;
use crate::task::Position;

/// The number of rows in a block. A copy of the list shares its blocks. While a reader holds a copy, the first write to a
/// block copies that block (copy-on-write).
const ROWS_PER_BLOCK: usize = 512;

/// A list of rows. Rows are added and changed, but never removed. The index of a row is called its slot.
#[derive(Clone, Debug, Default)]
pub(super) struct RowBlocks {
    blocks: Vec<Arc<Vec<Row>>>,
    len: usize,
}

impl RowBlocks {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Row> {
        self.blocks.get(slot / ROWS_PER_BLOCK)?.get(slot % ROWS_PER_BLOCK)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Row> {
        Arc::make_mut(self.blocks.get_mut(slot / ROWS_PER_BLOCK)?).get_mut(slot % ROWS_PER_BLOCK)
    }

    pub(super) fn push(&mut self, row: Row) {
        if self.len.is_multiple_of(ROWS_PER_BLOCK) {
            self.blocks.push(Arc::new(Vec::with_capacity(ROWS_PER_BLOCK)));
        }
        if let Some(last) = self.blocks.last_mut() {
            Arc::make_mut(last).push(row);
            self.len += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// The first slot whose task was created at this position or later.
    pub(super) fn first_slot_from(&self, created: Position) -> usize {
        let is_before = |row: &Row| row.created_position() < created;
        let block = self.blocks.partition_point(|block| block.last().is_some_and(is_before));
        let within = self.blocks.get(block).map_or(0, |rows| rows.partition_point(is_before));
        (block * ROWS_PER_BLOCK + within).min(self.len)
    }
}
