//! The rows of all tasks in creation order, in blocks that a reader can hold while the writer goes on.

use std::sync::Arc;

use super::row::Row;
use crate::task::Position;

/// Rows in a block. A snapshot costs one reference count for each block; while a reader holds it, the first write to a block
/// costs one copy of so many rows.
const BLOCK: usize = 512;

/// A list of rows that only grows. Its index of a row is called a slot.
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
        self.blocks.get(slot / BLOCK)?.get(slot % BLOCK)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Row> {
        Arc::make_mut(self.blocks.get_mut(slot / BLOCK)?).get_mut(slot % BLOCK)
    }

    pub(super) fn push(&mut self, row: Row) {
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Arc::new(Vec::with_capacity(BLOCK)));
        }
        if let Some(last) = self.blocks.last_mut() {
            Arc::make_mut(last).push(row);
            self.len += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// The first slot whose task was created at or after `key`.
    pub(super) fn bound(&self, key: Position) -> usize {
        let block = self.blocks.partition_point(|block| block.last().is_some_and(|row| row.created_position() < key));
        let within = self.blocks.get(block).map_or(0, |rows| rows.partition_point(|row| row.created_position() < key));
        (block * BLOCK + within).min(self.len)
    }
}
