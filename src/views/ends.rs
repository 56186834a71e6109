//! When the tasks that are final now have ended, for counting those that ended after a position or in a window of time.
//!
//! The entries are in the order of the log, in blocks of at most [`BLOCK_ENDS`]. Each block also has its counts, and its
//! earliest and latest time. So a count adds the counts of whole blocks and reads the entries of few blocks: 1,000,000 tasks
//! are 977 blocks.
//!
//! Memory: eight bytes for each task that is final, and 80 bytes for each block. A task that is retried loses its entry.

use super::bell::Unseen;
use crate::task::{Position, Status, Timestamp};

/// How many entries a block has at most.
const BLOCK_ENDS: usize = 1024;
/// How many bits of an entry are the status.
const STATUS_BITS: u32 = 3;
/// The first distance from the base of its block that an entry can't hold.
const DISTANCE_END: u64 = 1 << (u32::BITS - STATUS_BITS);

/// One end: its distance from the base of its block, and below it the status in [`STATUS_BITS`]. So the order of entries is
/// the order of positions.
#[derive(Clone, Copy, Debug)]
struct End {
    distance_and_status: u32,
    /// The time since the base of the block in microseconds.
    time: u32,
}

impl End {
    /// `None` if the position or the time is too far from the base.
    fn new(base: (Position, i64), (at, time): (Position, i64), status: Status) -> Option<Self> {
        let distance = at.0.checked_sub(base.0.0).filter(|distance| *distance < DISTANCE_END)?;
        let distance = u32::try_from(distance).ok()?;
        let time = u32::try_from(time.checked_sub(base.1)?).ok()?;
        Some(Self { distance_and_status: distance << STATUS_BITS | status as u32, time })
    }

    fn position(self, base: Position) -> Position {
        Position(base.0 + u64::from(self.distance_and_status >> STATUS_BITS))
    }

    fn status(self) -> Option<Status> {
        Status::ALL.get((self.distance_and_status & ((1 << STATUS_BITS) - 1)) as usize).copied()
    }
}

/// Ends that follow each other in the log.
#[derive(Debug)]
struct Block {
    /// The position of the first end that was added.
    base: Position,
    /// Its time in microseconds. No other end of the block has an earlier time.
    base_time: i64,
    /// The latest time of an end that was added.
    last_time: i64,
    counts: Unseen,
    ends: Vec<End>,
}

impl Block {
    /// The index of the first end after this position.
    fn first_after(&self, position: Position) -> usize {
        self.ends.partition_point(|end| end.position(self.base) <= position)
    }

    /// Adds the end, unless the block is full or the end is too far away.
    fn add(&mut self, status: Status, at: (Position, i64)) -> bool {
        let end = End::new((self.base, self.base_time), at, status).filter(|_| self.ends.len() < BLOCK_ENDS);
        let Some(end) = end else { return false };
        self.ends.push(end);
        self.counts.add(status);
        self.last_time = self.last_time.max(at.1);
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

    /// How many tasks ended at a time for which this holds. It holds for all times between two for which it holds.
    fn count_at(&self, is_in: impl Fn(i64) -> bool) -> Unseen {
        if is_in(self.base_time) && is_in(self.last_time) {
            return self.counts;
        }
        let found = self.ends.iter().filter(|end| is_in(self.base_time + i64::from(end.time)));
        found.filter_map(|end| end.status()).fold(Unseen::default(), Unseen::with)
    }
}

/// The ends of tasks that are final now.
#[derive(Debug, Default)]
pub(super) struct Ends {
    blocks: Vec<Block>,
}

impl Ends {
    /// Adds a task that ended at this position and time with this status. The position is later than those of all ends before.
    pub(super) fn add(&mut self, status: Status, at: Position, time: Timestamp) {
        let time = time.as_micros();
        if self.blocks.last_mut().is_some_and(|block| block.add(status, (at, time))) {
            return;
        }
        if self.blocks.is_empty() {
            self.blocks.reserve_exact(1);
        }
        let counts = Unseen::default();
        let mut block = Block { base: at, base_time: time, last_time: time, counts, ends: Vec::new() };
        block.add(status, (at, time));
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
        let later = block.ends[block.first_after(position)..].iter().filter_map(|end| end.status());
        later.fold(sum(&self.blocks[index + 1..]), Unseen::with)
    }

    /// How many tasks ended after the first time and before the second one.
    pub(super) fn between(&self, after: Option<Timestamp>, before: Option<Timestamp>) -> Unseen {
        let (after, before) = (after.map(Timestamp::as_micros), before.map(Timestamp::as_micros));
        let is_after = |time: i64| after.is_none_or(|after| time > after);
        let is_before = |time: i64| before.is_none_or(|before| time < before);
        let may_have = |block: &&Block| is_after(block.last_time) && is_before(block.base_time);
        let counts = self.blocks.iter().filter(may_have).map(|b| b.count_at(|time| is_after(time) && is_before(time)));
        counts.fold(Unseen::default(), Unseen::plus)
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

    /// One second for each task.
    fn time(n: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000 * i64::try_from(n).unwrap())
    }

    /// Ends at every third position: one in ten failed, one in ten cancelled.
    fn ends(count: u64) -> Ends {
        let mut ends = Ends::default();
        for n in 1..=count {
            let status = [Status::Failed, Status::Cancelled].get(usize::try_from(n % 10).unwrap());
            ends.add(status.copied().unwrap_or(Status::Succeeded), Position(3 * n), time(n));
        }
        ends
    }

    #[test]
    fn a_million_ends_take_little_over_eight_bytes_each() {
        let ends = ends(1_000_000);
        let entries: usize = ends.blocks.iter().map(|block| block.ends.capacity() * size_of::<End>()).sum();
        let bytes = entries + ends.blocks.capacity() * size_of::<Block>();
        assert!(bytes < 8_400_000, "{bytes} bytes");
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
            ends.add(Status::Succeeded, Position(at), time(0));
        }
        assert_eq!(ends.blocks.len(), 3);
        let after = |ends: &Ends, at| ends.after(Position(at)).succeeded;
        assert_eq!([0, 1, DISTANCE_END, DISTANCE_END + 1, u64::MAX].map(|at| after(&ends, at)), [4, 3, 2, 1, 0]);
        ends.remove(Position(2));
        ends.remove(Position(DISTANCE_END));
        assert_eq!([0, 1, DISTANCE_END].map(|at| after(&ends, at)), [3, 2, 2]);
    }

    #[test]
    fn ends_in_a_window_of_time_are_counted_also_if_the_clock_steps_back() {
        let mut ends = ends(10_000);
        let all = Unseen { succeeded: 8000, failed: 1000, cancelled: 1000 };
        assert_eq!(ends.between(None, None), all);
        assert_eq!(ends.between(Some(time(0)), Some(time(10_001))), all);
        let without_both = Unseen { succeeded: 8000, failed: 999, cancelled: 999 };
        assert_eq!(
            ends.between(Some(time(1)), Some(time(10_000))),
            without_both,
            "the first is cancelled, the last failed"
        );
        assert_eq!(ends.between(Some(time(5000)), Some(time(5011))), Unseen { succeeded: 8, failed: 1, cancelled: 1 });
        assert_eq!(ends.between(Some(time(5011)), Some(time(5000))), Unseen::default());
        for n in 1..=10 {
            ends.add(Status::Failed, Position(100_000 + n), time(5000 + n));
        }
        assert_eq!(ends.between(Some(time(5000)), Some(time(5011))), Unseen { succeeded: 8, failed: 11, cancelled: 1 });
        assert_eq!(ends.between(Some(time(10_000)), None), Unseen::default());
        ends.remove(Position(100_001));
        assert_eq!(ends.between(Some(time(5000)), Some(time(5002))).failed, 0);
        assert_eq!(ends.after(Position(100_000)).failed, 9);
    }
}
