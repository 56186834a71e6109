//! When the tasks were created, for finding those of a window of time.
//!
//! Tasks are created in the order of their slots, so a window of time is a range of slots. But the clock of a server may step
//! back. Then tasks that follow each other have times in another order, and at such a place a range contains tasks that are
//! not in the window, see `slot_range`.

use super::block::ROWS_PER_BLOCK;
use crate::task::Timestamp;

/// For each block: the latest creation in it and the blocks before it, and the earliest in it and the blocks after it.
#[derive(Clone, Debug, Default)]
pub(super) struct CreatedTimes {
    latest_until: Vec<Timestamp>,
    earliest_from: Vec<Timestamp>,
}

impl CreatedTimes {
    /// Adds the task at this slot, which is the next one.
    pub(super) fn push(&mut self, slot: usize, at: Timestamp) {
        let latest = self.latest_until.last().map_or(at, |latest| at.max(*latest));
        if slot.is_multiple_of(ROWS_PER_BLOCK) {
            self.latest_until.push(latest);
            self.earliest_from.push(at);
        } else if let Some(last) = self.latest_until.last_mut() {
            *last = latest;
        }
        // Only a task whose time lies before that of others changes anything here.
        for earliest in self.earliest_from.iter_mut().rev().take_while(|earliest| **earliest > at) {
            *earliest = at;
        }
    }

    /// The first block with a task that was created after this time, in microseconds.
    pub(super) fn first_block_after(&self, micros: i64) -> usize {
        self.latest_until.partition_point(|latest| latest.as_micros() <= micros)
    }

    /// The last block with a task that was not created after this time.
    pub(super) fn last_block_not_after(&self, micros: i64) -> Option<usize> {
        self.earliest_from.partition_point(|earliest| earliest.as_micros() <= micros).checked_sub(1)
    }
}
