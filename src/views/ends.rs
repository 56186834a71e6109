//! When the tasks that are final now have ended, for counting those that ended after a position.
//!
//! The entries are in the order of the log, in blocks of at most [`BLOCK_ENDS`]. Each block also has its counts. So a count adds
//! the counts of the later blocks and reads the entries of one block: 1,000,000 tasks are 977 blocks.
//!
//! Memory: four bytes for each task that is final, and 56 bytes for each block. A task that is retried loses its entry.

use super::bell::Unseen;
use crate::task::{Position, Status};

/// How many entries a block has at most.
const BLOCK_ENDS: usize = 1024;
/// How many bits of an entry are the status.
const STATUS_BITS: u32 = 3;
/// The first distance from the base of its block that an entry can't hold.
const DISTANCE_END: u64 = 1 << (u32::BITS - STATUS_BITS);

/// One end: its distance from the base of its block, and below it the status in [`STATUS_BITS`]. So the order of entries is
/// the order of positions.
#[derive(Clone, Copy, Debug)]
struct End(u32);

impl End {
    /// `None` if the position is too far from the base.
    fn new(base: Position, at: Position, status: Status) -> Option<Self> {
        let distance = at.0.checked_sub(base.0).filter(|distance| *distance < DISTANCE_END)?;
        u32::try_from(distance).ok().map(|distance| Self(distance << STATUS_BITS | status as u32))
    }

    fn position(self, base: Position) -> Position {
        Position(base.0 + u64::from(self.0 >> STATUS_BITS))
    }

    fn status(self) -> Option<Status> {
        Status::ALL.get((self.0 & ((1 << STATUS_BITS) - 1)) as usize).copied()
    }
}

/// Ends that follow each other in the log.
#[derive(Debug)]
struct Block {
    /// The position of the first end that was added.
    base: Position,
    counts: Unseen,
    ends: Vec<End>,
}

impl Block {
    /// The index of the first end after this position.
    fn first_after(&self, position: Position) -> usize {
        self.ends.partition_point(|end| end.position(self.base) <= position)
    }

    /// Adds the end, unless the block is full or the end is too far away.
    fn add(&mut self, status: Status, at: Position) -> bool {
        let end = End::new(self.base, at, status).filter(|_| self.ends.len() < BLOCK_ENDS);
        let Some(end) = end else { return false };
        self.ends.push(end);
        self.counts.add(status);
        true
    }

    fn remove(&mut self, at: Position) {
        let Some(index) = self.first_after(at).checked_sub(1) else { return };
        if self.ends[index].position(self.base) != at {
            return;
        }
        if let Some(status) = self.ends.remove(index).status() {
            self.counts.subtract(status);
        }
        if self.ends.len() * 4 < self.ends.capacity() {
            self.ends.shrink_to(self.ends.len() * 2);
        }
    }
}

/// The ends of all tasks that are final now.
#[derive(Debug, Default)]
pub(super) struct Ends {
    blocks: Vec<Block>,
}

impl Ends {
    /// Adds a task that ended at this position with this status. The position is later than those of all ends before.
    pub(super) fn add(&mut self, status: Status, at: Position) {
        if self.blocks.last_mut().is_some_and(|block| block.add(status, at)) {
            return;
        }
        let mut block = Block { base: at, counts: Unseen::default(), ends: Vec::new() };
        block.add(status, at);
        self.blocks.push(block);
    }

    /// Removes the task that ended at this position, because it was retried.
    pub(super) fn remove(&mut self, at: Position) {
        let Some(index) = self.block_of(at) else { return };
        self.blocks[index].remove(at);
        if self.blocks[index].ends.is_empty() {
            self.blocks.remove(index);
        }
    }

    /// How many tasks ended after this position.
    pub(super) fn after(&self, position: Position) -> Unseen {
        let Some(index) = self.block_of(position) else { return sum(&self.blocks) };
        let block = &self.blocks[index];
        let mut counts = sum(&self.blocks[index + 1..]);
        for status in block.ends[block.first_after(position)..].iter().filter_map(|end| end.status()) {
            counts.add(status);
        }
        counts
    }

    /// The index of the last block that begins at this position or before.
    fn block_of(&self, position: Position) -> Option<usize> {
        self.blocks.partition_point(|block| block.base <= position).checked_sub(1)
    }
}

fn sum(blocks: &[Block]) -> Unseen {
    blocks.iter().fold(Unseen::default(), |sum, block| sum.plus(block.counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends at every third position: one in ten failed, one in ten cancelled.
    fn ends(count: u64) -> Ends {
        let mut ends = Ends::default();
        for n in 1..=count {
            let status = [Status::Failed, Status::Cancelled].get(usize::try_from(n % 10).unwrap());
            ends.add(status.copied().unwrap_or(Status::Succeeded), Position(3 * n));
        }
        ends
    }

    #[test]
    fn a_million_ends_take_little_over_four_bytes_each() {
        let ends = ends(1_000_000);
        let entries: usize = ends.blocks.iter().map(|block| block.ends.capacity() * size_of::<End>()).sum();
        let bytes = entries + ends.blocks.capacity() * size_of::<Block>();
        assert!(bytes < 4_200_000, "{bytes} bytes");
    }

    #[test]
    fn a_count_reads_one_block_and_adds_the_counts_of_the_later_ones() {
        let mut ends = ends(1_000_000);
        assert_eq!(ends.blocks.len(), 977);
        assert!(ends.blocks.iter().all(|block| block.ends.len() <= BLOCK_ENDS));
        assert_eq!(ends.after(Position(0)), Unseen { succeeded: 800_000, failed: 100_000, cancelled: 100_000 });
        assert_eq!(ends.after(Position(3 * 999_990)), Unseen { succeeded: 8, failed: 1, cancelled: 1 });
        assert_eq!(ends.after(Position(3 * 999_990 - 1)), Unseen { succeeded: 8, failed: 2, cancelled: 1 });
        assert_eq!(ends.after(Position(3_000_000)), Unseen::default());
        for n in 1..=999_999 {
            ends.remove(Position(3 * n));
        }
        assert_eq!(ends.after(Position(0)), Unseen { failed: 1, ..Unseen::default() });
        assert_eq!(ends.blocks.len(), 1, "a block without entries is dropped");
        assert!(ends.blocks[0].ends.capacity() < BLOCK_ENDS, "and a block with few takes less memory");
    }

    #[test]
    fn ends_that_are_far_from_each_other_are_told_apart() {
        let mut ends = Ends::default();
        for at in [1, DISTANCE_END, DISTANCE_END + 1, u64::MAX] {
            ends.add(Status::Succeeded, Position(at));
        }
        assert_eq!(ends.blocks.len(), 3);
        let after = |ends: &Ends, at| ends.after(Position(at)).succeeded;
        assert_eq!([0, 1, DISTANCE_END, DISTANCE_END + 1, u64::MAX].map(|at| after(&ends, at)), [4, 3, 2, 1, 0]);
        ends.remove(Position(2));
        ends.remove(Position(DISTANCE_END));
        assert_eq!([0, 1, DISTANCE_END].map(|at| after(&ends, at)), [3, 2, 2]);
    }
}
