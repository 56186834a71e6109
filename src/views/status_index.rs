//! Which tasks have a counter key, and which of them have which status.
//!
//! A slot is the index of a task in [`RowBlocks`](super::blocks::RowBlocks). Its `index_in_list` is its index in the list of
//! the tasks with the same counter key. Both have the order of creation.
//!
//! Memory: a task needs four bytes for its slot in the list of its key. In the index of its key and in the index of all tasks,
//! it needs one bit for each status.
//!
//! Speed: a search for the tasks with some statuses reads the bits in words of 64, so one step skips up to 64 other tasks. A
//! count reads one sum for each 4,096 tasks, and the bits of the tasks at its two ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::counters::Counts;
use crate::task::Status;

/// A set of statuses, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusSet(u8);

impl StatusSet {
    pub(super) const ALL: Self = Self(u8::MAX);

    /// The final statuses.
    pub(super) const FINAL: Self =
        Self(1 << Status::Succeeded as u8 | 1 << Status::Failed as u8 | 1 << Status::Cancelled as u8);

    /// The set of these statuses; all statuses if the list is empty.
    pub(super) fn of(statuses: &[Status]) -> Self {
        if statuses.is_empty() { Self::ALL } else { Self(statuses.iter().fold(0, |set, s| set | 1 << (*s as u8))) }
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn has(self, status: Status) -> bool {
        self.0 & 1 << (status as u8) != 0
    }

    /// `words` has one word for each status, with a bit for each of 64 tasks. The result has a bit for each task whose status
    /// is in this set.
    fn union_of(self, words: &[u64; 8]) -> u64 {
        words.iter().enumerate().filter(|(i, _)| self.0 & 1 << i != 0).fold(0, |sum, (_, word)| sum | word)
    }
}

/// The statuses of the tasks with one key, or of all tasks.
#[derive(Debug, Default)]
pub(super) struct StatusIndex {
    /// The slot of each task in this list. `None` in the index of all tasks, where a task's slot is also its index in the list.
    slots: Option<Arc<Vec<u32>>>,
    /// For each group of 64 tasks of the list: one word for each status, with a bit for each task.
    bits: Vec<[u64; 8]>,
    /// For each [`GROUPS_PER_SUM`] groups that are full: how many tasks have each status.
    sums: Vec<[u32; 8]>,
    len: usize,
}

/// How many groups of 64 tasks have one sum.
const GROUPS_PER_SUM: usize = 64;

impl StatusIndex {
    /// The empty index of one key. `StatusIndex::default` is the empty index of all tasks.
    pub(super) fn with_slots() -> Self {
        Self { slots: Some(Arc::default()), ..Self::default() }
    }

    /// Adds a new task, and returns its index in this list.
    pub(super) fn push(&mut self, slot: u32, status: Status) -> usize {
        let index = self.len;
        if let Some(slots) = &mut self.slots {
            Arc::make_mut(slots).push(slot);
        }
        if index.is_multiple_of(64) {
            push_tight(&mut self.bits, [0; 8]);
        }
        if index > 0 && index.is_multiple_of(64 * GROUPS_PER_SUM) {
            self.add_sum();
        }
        self.len += 1;
        self.change_status(index, None, status);
        index
    }

    /// Adds the sum of the groups before the last one. Short lists have no sum, so that a change touches less memory.
    fn add_sum(&mut self) {
        let mut sum = [0; 8];
        for bits in self.bits.iter().skip(self.sums.len() * GROUPS_PER_SUM).take(GROUPS_PER_SUM) {
            sum.iter_mut().zip(bits).for_each(|(sum, bits)| *sum += bits.count_ones());
        }
        push_tight(&mut self.sums, sum);
    }

    pub(super) fn change_status(&mut self, index: usize, from: Option<Status>, to: Status) {
        if let Some(bits) = self.bits.get_mut(index / 64) {
            if let Some(from) = from {
                bits[from as usize] &= !(1 << (index % 64));
            }
            bits[to as usize] |= 1 << (index % 64);
        }
        if let Some(sums) = self.sums.get_mut(index / (64 * GROUPS_PER_SUM)) {
            if let Some(from) = from {
                sums[from as usize] = sums[from as usize].saturating_sub(1);
            }
            sums[to as usize] += 1;
        }
    }

    pub(super) fn list(&self) -> SlotList<'_> {
        let bits = Some(StatusBits { groups: &self.bits, sums: &self.sums });
        SlotList { slots: self.slots.as_ref().map(|slots| slots.as_slice()), bits, len: self.len }
    }

    pub(super) fn slots(&self) -> Option<Arc<Vec<u32>>> {
        self.slots.clone()
    }
}

/// Adds an item. The first one takes no more memory than it needs: most lists are short.
fn push_tight<T>(list: &mut Vec<T>, item: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(item);
}

/// The bits and sums of a [`StatusIndex`].
#[derive(Clone, Copy, Debug)]
struct StatusBits<'a> {
    groups: &'a [[u64; 8]],
    sums: &'a [[u32; 8]],
}

impl StatusBits<'_> {
    /// How many tasks before this index have each status.
    fn counts_before(self, index: usize) -> Counts {
        let (group, sum) = (index / 64, index / (64 * GROUPS_PER_SUM));
        let mut counts = Counts::default();
        for sums in self.sums.iter().take(sum) {
            counts.iter_mut().zip(sums).for_each(|(count, sum)| *count += u64::from(*sum));
        }
        let groups = self.groups.get(sum * GROUPS_PER_SUM..).unwrap_or_default().iter();
        for (number, bits) in groups.enumerate().take(group - sum * GROUPS_PER_SUM + 1) {
            let is_last = number == group - sum * GROUPS_PER_SUM;
            let mask = if is_last { (1 << (index % 64)) - 1 } else { u64::MAX };
            counts.iter_mut().zip(bits).for_each(|(count, bits)| *count += u64::from((bits & mask).count_ones()));
        }
        counts
    }
}

/// Slots in ascending order, with or without the bits of a [`StatusIndex`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotList<'a> {
    slots: Option<&'a [u32]>,
    bits: Option<StatusBits<'a>>,
    len: usize,
}

impl<'a> SlotList<'a> {
    /// These slots, which must be in ascending order.
    pub(super) const fn of(slots: &'a [u32]) -> Self {
        Self { slots: Some(slots), bits: None, len: slots.len() }
    }

    /// All slots below `len`.
    pub(super) const fn all(len: usize) -> Self {
        Self { slots: None, bits: None, len }
    }

    /// How many tasks with slots in this range have each status. `None` if the list has no bits.
    pub(super) fn counts(&self, from: usize, until: usize) -> Option<Counts> {
        let before = |slot| Some(self.bits?.counts_before(self.first_index_from(slot)));
        let (before, until) = (before(from)?, before(until)?);
        Some(std::array::from_fn(|status| until[status].saturating_sub(before[status])))
    }

    pub(super) fn slot(&self, index: usize) -> usize {
        self.slots.map_or(index, |slots| slots.get(index).map_or(usize::MAX, |slot| *slot as usize))
    }

    /// The first index in the list whose slot is `slot` or greater.
    pub(super) fn first_index_from(&self, slot: usize) -> usize {
        self.slots.map_or(slot, |slots| slots.partition_point(|s| (*s as usize) < slot)).min(self.len)
    }

    /// The first index at or after `from` whose status is in the set. If the list has no bits, this ignores the set.
    pub(super) fn next_index(&self, from: usize, statuses: StatusSet) -> Option<usize> {
        let Some(bits) = self.bits.filter(|_| statuses != StatusSet::ALL) else {
            return Some(from).filter(|r| *r < self.len);
        };
        let mut word = from / 64;
        let mut found = statuses.union_of(bits.groups.get(word)?) & u64::MAX << (from % 64);
        while found == 0 {
            word += 1;
            found = statuses.union_of(bits.groups.get(word)?);
        }
        Some(word * 64 + found.trailing_zeros() as usize)
    }

    /// The last index before `until` whose status is in the set. If the list has no bits, this ignores the set.
    fn previous_index(&self, until: usize, statuses: StatusSet) -> Option<usize> {
        let last = until.checked_sub(1)?;
        let Some(bits) = self.bits.filter(|_| statuses != StatusSet::ALL) else { return Some(last) };
        let mut word = last / 64;
        let mut found = statuses.union_of(bits.groups.get(word)?) & u64::MAX >> (63 - last % 64);
        while found == 0 {
            word = word.checked_sub(1)?;
            found = statuses.union_of(bits.groups.get(word)?);
        }
        Some(word * 64 + 63 - found.leading_zeros() as usize)
    }
}

/// The start of a walk, and its direction.
#[derive(Clone, Copy, Debug)]
pub(super) enum WalkStart {
    /// The walk begins at this slot and goes to newer tasks.
    UpFrom(usize),
    /// The walk begins at the slot before this one and goes to older tasks.
    DownBefore(usize),
}

/// Iterates over the slots of several lists in one order. It skips tasks whose status is not in the set.
pub(super) struct SlotWalk<'a> {
    lists: &'a [SlotList<'a>],
    statuses: StatusSet,
    next_slots: NextSlots,
}

/// The next slot of each list. Each entry is the slot, the number of its list, and the index in that list.
enum NextSlots {
    Up(BinaryHeap<Reverse<(usize, usize, usize)>>),
    Down(BinaryHeap<(usize, usize, usize)>),
}

impl<'a> SlotWalk<'a> {
    pub(super) fn new(lists: &'a [SlotList<'a>], statuses: StatusSet, start: WalkStart) -> Self {
        let entry = |list: usize, index: usize| (lists[list].slot(index), list, index);
        let next_slots = match start {
            WalkStart::UpFrom(slot) => NextSlots::Up(
                (0..lists.len())
                    .filter_map(|i| {
                        let index = lists[i].next_index(lists[i].first_index_from(slot), statuses)?;
                        Some(Reverse(entry(i, index)))
                    })
                    .collect(),
            ),
            WalkStart::DownBefore(slot) => NextSlots::Down(
                (0..lists.len())
                    .filter_map(|i| {
                        let index = lists[i].previous_index(lists[i].first_index_from(slot), statuses)?;
                        Some(entry(i, index))
                    })
                    .collect(),
            ),
        };
        Self { lists, statuses, next_slots }
    }
}

impl Iterator for SlotWalk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match &mut self.next_slots {
            NextSlots::Up(entries) => {
                let Reverse((slot, list, index)) = entries.pop()?;
                if let Some(index) = self.lists[list].next_index(index + 1, self.statuses) {
                    entries.push(Reverse((self.lists[list].slot(index), list, index)));
                }
                Some(slot)
            }
            NextSlots::Down(entries) => {
                let (slot, list, index) = entries.pop()?;
                if let Some(index) = self.lists[list].previous_index(index, self.statuses) {
                    entries.push((self.lists[list].slot(index), list, index));
                }
                Some(slot)
            }
        }
    }
}
