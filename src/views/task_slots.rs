//! Finds the slot of a task by its id.
//!
//! Memory: 9 bytes for each place of the table, which is between 7/16 and 7/8 full. The ids themselves are in the rows.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::task::TaskId;

/// A part of the hash of a task's id, and its slot. The part is enough to grow the table without reading the ids.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    slot: u32,
}

/// The slots of all tasks.
#[derive(Debug)]
pub(super) struct TaskSlots {
    table: HashTable<Entry>,
    /// Random numbers, so that a client that imports a log or writes to a cluster can't choose ids with the same hash.
    keys: [u64; 2],
}

impl Default for TaskSlots {
    fn default() -> Self {
        let random = RandomState::new();
        Self { table: HashTable::new(), keys: [random.hash_one(0), random.hash_one(1)] }
    }
}

/// The table uses the lowest bits of a hash, and the highest ones.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl TaskSlots {
    #[allow(clippy::cast_possible_truncation)]
    fn hash(&self, task: TaskId) -> u32 {
        let (high, low) = task.uuid().as_u64_pair();
        let product = u128::from(high ^ self.keys[0]) * u128::from(low ^ self.keys[1]);
        (product >> 64) as u32 ^ product as u32
    }

    /// The slot of the task. `is_at` says whether the task is at a slot.
    pub(super) fn find(&self, task: TaskId, is_at: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = self.hash(task);
        let is_same = |entry: &Entry| entry.hash == hash && is_at(entry.slot as usize);
        self.table.find(spread(hash), is_same).map(|entry| entry.slot as usize)
    }

    /// Adds a task that is not in the table.
    pub(super) fn insert(&mut self, task: TaskId, slot: u32) {
        let hash = self.hash(task);
        self.table.insert_unique(spread(hash), Entry { hash, slot }, |entry| spread(entry.hash));
    }
}
