//! Which tasks an owner has, and which of them have which status: lists of slots and bits, walked in either direction.
//!
//! A slot is the index of a task in [`RowBlocks`](super::blocks::RowBlocks); a rank is its index in the list of its owner.
//! Both follow the order of creation. A task costs four bytes in its owner's list and one bit for each status, there and
//! in the index of all tasks. A walk over a status that few tasks have skips 64 others at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::task::Status;

/// A set of statuses, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusSet(u8);

impl StatusSet {
    pub(super) const ALL: Self = Self(u8::MAX);

    /// The set of these statuses; all statuses where the list is empty.
    pub(super) fn of(statuses: &[Status]) -> Self {
        if statuses.is_empty() { Self::ALL } else { Self(statuses.iter().fold(0, |set, s| set | 1 << (*s as u8))) }
    }

    pub(super) const fn has(self, status: Status) -> bool {
        self.0 & 1 << (status as u8) != 0
    }

    /// One bit for each of 64 tasks that has a status of the set.
    fn union_of(self, bits: &[u64; 8]) -> u64 {
        bits.iter().enumerate().filter(|(i, _)| self.0 & 1 << i != 0).fold(0, |sum, (_, word)| sum | word)
    }
}

/// The tasks of one owner, or of all owners, by status.
#[derive(Debug, Default)]
pub(super) struct StatusIndex {
    /// Slot of each rank; none in the index of all tasks, where slot and rank are the same number.
    slots: Option<Arc<Vec<u32>>>,
    /// For each 64 ranks, one word of bits by status.
    bits: Vec<[u64; 8]>,
    len: usize,
}

impl StatusIndex {
    pub(super) fn of_owner() -> Self {
        Self { slots: Some(Arc::default()), ..Self::default() }
    }

    /// Adds the newest task; its rank.
    pub(super) fn push(&mut self, slot: u32, status: Status) -> usize {
        let rank = self.len;
        if let Some(slots) = &mut self.slots {
            Arc::make_mut(slots).push(slot);
        }
        if rank.is_multiple_of(64) {
            self.bits.push([0; 8]);
        }
        self.len += 1;
        self.change_status(rank, None, status);
        rank
    }

    pub(super) fn change_status(&mut self, rank: usize, from: Option<Status>, to: Status) {
        if let Some(bits) = self.bits.get_mut(rank / 64) {
            if let Some(from) = from {
                bits[from as usize] &= !(1 << (rank % 64));
            }
            bits[to as usize] |= 1 << (rank % 64);
        }
    }

    pub(super) fn list(&self) -> SlotList<'_> {
        SlotList { slots: self.slots.as_ref().map(|slots| slots.as_slice()), bits: Some(&self.bits), len: self.len }
    }

    pub(super) fn slots(&self) -> Option<Arc<Vec<u32>>> {
        self.slots.clone()
    }
}

/// Slots in ascending order, with or without the bits of a [`StatusIndex`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotList<'a> {
    slots: Option<&'a [u32]>,
    bits: Option<&'a [[u64; 8]]>,
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

    fn slot(&self, rank: usize) -> usize {
        self.slots.map_or(rank, |slots| slots.get(rank).map_or(usize::MAX, |slot| *slot as usize))
    }

    /// The first rank at or after `slot`.
    fn bound(&self, slot: usize) -> usize {
        self.slots.map_or(slot, |slots| slots.partition_point(|s| (*s as usize) < slot)).min(self.len)
    }

    /// The first rank at or after `from` with a status of the set; any status where the list has no bits.
    fn forward(&self, from: usize, statuses: StatusSet) -> Option<usize> {
        let Some(bits) = self.bits.filter(|_| statuses != StatusSet::ALL) else {
            return Some(from).filter(|r| *r < self.len);
        };
        let mut word = from / 64;
        let mut found = statuses.union_of(bits.get(word)?) & u64::MAX << (from % 64);
        while found == 0 {
            word += 1;
            found = statuses.union_of(bits.get(word)?);
        }
        Some(word * 64 + found.trailing_zeros() as usize)
    }

    /// The last rank before `until` with a status of the set; any status where the list has no bits.
    fn backward(&self, until: usize, statuses: StatusSet) -> Option<usize> {
        let last = until.checked_sub(1)?;
        let Some(bits) = self.bits.filter(|_| statuses != StatusSet::ALL) else { return Some(last) };
        let mut word = last / 64;
        let mut found = statuses.union_of(bits.get(word)?) & u64::MAX >> (63 - last % 64);
        while found == 0 {
            word = word.checked_sub(1)?;
            found = statuses.union_of(bits.get(word)?);
        }
        Some(word * 64 + 63 - found.leading_zeros() as usize)
    }
}

/// Where a walk begins, and in which direction it goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum WalkStart {
    /// At this slot, to newer tasks.
    From(usize),
    /// Just before this slot, to older tasks.
    Before(usize),
}

/// Merges the slots of several lists into one order.
pub(super) struct SlotWalk<'a> {
    lists: &'a [SlotList<'a>],
    statuses: StatusSet,
    heads: Heads,
}

/// The next slot of each list, with the index of the list and the rank in it.
enum Heads {
    Forward(BinaryHeap<Reverse<(usize, usize, usize)>>),
    Backward(BinaryHeap<(usize, usize, usize)>),
}

impl<'a> SlotWalk<'a> {
    pub(super) fn new(lists: &'a [SlotList<'a>], statuses: StatusSet, start: WalkStart) -> Self {
        let head = |list: usize, rank: usize| (lists[list].slot(rank), list, rank);
        let heads = match start {
            WalkStart::From(slot) => Heads::Forward(
                (0..lists.len())
                    .filter_map(|i| lists[i].forward(lists[i].bound(slot), statuses).map(|rank| Reverse(head(i, rank))))
                    .collect(),
            ),
            WalkStart::Before(slot) => Heads::Backward(
                (0..lists.len())
                    .filter_map(|i| lists[i].backward(lists[i].bound(slot), statuses).map(|rank| head(i, rank)))
                    .collect(),
            ),
        };
        Self { lists, statuses, heads }
    }
}

impl Iterator for SlotWalk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match &mut self.heads {
            Heads::Forward(heads) => {
                let Reverse((slot, list, rank)) = heads.pop()?;
                if let Some(rank) = self.lists[list].forward(rank + 1, self.statuses) {
                    heads.push(Reverse((self.lists[list].slot(rank), list, rank)));
                }
                Some(slot)
            }
            Heads::Backward(heads) => {
                let (slot, list, rank) = heads.pop()?;
                if let Some(rank) = self.lists[list].backward(rank, self.statuses) {
                    heads.push((self.lists[list].slot(rank), list, rank));
                }
                Some(slot)
            }
        }
    }
}
