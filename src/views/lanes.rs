//! Which tasks are an owner's, and which of them have which status: lists and bits, walked either way.
//!
//! A task costs four bytes in its owner's list and one bit for each status, here and in the index of all tasks;
//! a walk over a status that few tasks have skips 64 others at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::task::Status;

/// A set of statuses, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted(u8);

impl Wanted {
    pub(super) const ALL: Self = Self(u8::MAX);

    /// These; all of them where none is named.
    pub(super) fn of(statuses: &[Status]) -> Self {
        if statuses.is_empty() { Self::ALL } else { Self(statuses.iter().fold(0, |set, s| set | 1 << (*s as u8))) }
    }

    pub(super) const fn has(self, status: Status) -> bool {
        self.0 & 1 << (status as u8) != 0
    }

    fn gather(self, bits: &[u64; 8]) -> u64 {
        bits.iter().enumerate().filter(|(i, _)| self.0 & 1 << i != 0).fold(0, |sum, (_, word)| sum | word)
    }
}

/// The tasks of one owner, or all, by rank (the how-manieth in creation order).
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Slot of each rank; none in the index of all tasks, where they are the same.
    slots: Option<Arc<Vec<u32>>>,
    /// For each 64 ranks a bit by status.
    bits: Vec<[u64; 8]>,
    len: usize,
}

impl Index {
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
        self.moved(rank, None, status);
        rank
    }

    pub(super) fn moved(&mut self, rank: usize, from: Option<Status>, to: Status) {
        if let Some(bits) = self.bits.get_mut(rank / 64) {
            if let Some(from) = from {
                bits[from as usize] &= !(1 << (rank % 64));
            }
            bits[to as usize] |= 1 << (rank % 64);
        }
    }

    pub(super) fn lane(&self) -> Lane<'_> {
        Lane { slots: self.slots.as_ref().map(|slots| slots.as_slice()), bits: Some(&self.bits), len: self.len }
    }

    pub(super) fn slots(&self) -> Option<Arc<Vec<u32>>> {
        self.slots.clone()
    }
}

/// A list of slots to walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane<'a> {
    slots: Option<&'a [u32]>,
    bits: Option<&'a [[u64; 8]]>,
    len: usize,
}

impl<'a> Lane<'a> {
    /// These slots, in order.
    pub(super) const fn listed(slots: &'a [u32]) -> Self {
        Self { slots: Some(slots), bits: None, len: slots.len() }
    }

    /// Every slot up to this many.
    pub(super) const fn every(len: usize) -> Self {
        Self { slots: None, bits: None, len }
    }

    fn slot(&self, rank: usize) -> usize {
        self.slots.map_or(rank, |slots| slots.get(rank).map_or(usize::MAX, |slot| *slot as usize))
    }

    /// The first rank at or after `slot`.
    fn bound(&self, slot: usize) -> usize {
        self.slots.map_or(slot, |slots| slots.partition_point(|s| (*s as usize) < slot)).min(self.len)
    }

    /// The first rank at or after `from` that may be wanted.
    fn forward(&self, from: usize, wanted: Wanted) -> Option<usize> {
        let Some(bits) = self.bits.filter(|_| wanted != Wanted::ALL) else {
            return Some(from).filter(|r| *r < self.len);
        };
        let mut word = from / 64;
        let mut found = wanted.gather(bits.get(word)?) & u64::MAX << (from % 64);
        while found == 0 {
            word += 1;
            found = wanted.gather(bits.get(word)?);
        }
        Some(word * 64 + found.trailing_zeros() as usize)
    }

    /// The last rank before `until` that may be wanted.
    fn backward(&self, until: usize, wanted: Wanted) -> Option<usize> {
        let last = until.checked_sub(1)?;
        let Some(bits) = self.bits.filter(|_| wanted != Wanted::ALL) else { return Some(last) };
        let mut word = last / 64;
        let mut found = wanted.gather(bits.get(word)?) & u64::MAX >> (63 - last % 64);
        while found == 0 {
            word = word.checked_sub(1)?;
            found = wanted.gather(bits.get(word)?);
        }
        Some(word * 64 + 63 - found.leading_zeros() as usize)
    }
}

/// Which way a walk goes, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// This slot and those after it.
    From(usize),
    /// Those before this slot, the nearest first.
    Before(usize),
}

/// The slots of several lanes in one order.
pub(super) struct Walk<'a> {
    lanes: &'a [Lane<'a>],
    wanted: Wanted,
    way: Way,
}

enum Way {
    Forward(BinaryHeap<Reverse<(usize, usize, usize)>>),
    Backward(BinaryHeap<(usize, usize, usize)>),
}

impl<'a> Walk<'a> {
    pub(super) fn new(lanes: &'a [Lane<'a>], wanted: Wanted, start: Start) -> Self {
        let at = |lane: usize, rank: usize| (lanes[lane].slot(rank), lane, rank);
        let way = match start {
            Start::From(slot) => Way::Forward(
                (0..lanes.len())
                    .filter_map(|i| lanes[i].forward(lanes[i].bound(slot), wanted).map(|rank| Reverse(at(i, rank))))
                    .collect(),
            ),
            Start::Before(slot) => Way::Backward(
                (0..lanes.len())
                    .filter_map(|i| lanes[i].backward(lanes[i].bound(slot), wanted).map(|rank| at(i, rank)))
                    .collect(),
            ),
        };
        Self { lanes, wanted, way }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match &mut self.way {
            Way::Forward(heads) => {
                let Reverse((slot, lane, rank)) = heads.pop()?;
                if let Some(rank) = self.lanes[lane].forward(rank + 1, self.wanted) {
                    heads.push(Reverse((self.lanes[lane].slot(rank), lane, rank)));
                }
                Some(slot)
            }
            Way::Backward(heads) => {
                let (slot, lane, rank) = heads.pop()?;
                if let Some(rank) = self.lanes[lane].backward(rank, self.wanted) {
                    heads.push((self.lanes[lane].slot(rank), lane, rank));
                }
                Some(slot)
            }
        }
    }
}
