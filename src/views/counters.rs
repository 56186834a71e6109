//! Counts by status, and the key under which tasks are counted together.

use std::collections::HashSet;
use std::sync::Arc;

use crate::task::Status;

/// How many tasks have each status, in the order of [`Status::ALL`].
pub type Counts = [u64; 8];

/// Stores each text once, although many tasks have the same text.
#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub(super) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        self.0.insert(Arc::clone(&shared));
        shared
    }
}

/// The owner, the kind and the queue of a task. Tasks with the same owner, kind and queue share one key, and are counted
/// together.
#[derive(Debug)]
pub(super) struct CounterKey {
    /// Index of the tasks with this key.
    pub(super) index: usize,
    /// Index of the counts of this kind and queue for all owners together.
    pub(super) kind_and_queue_index: usize,
    /// Index of the owner among the [`Owners`](super::bell::Owners).
    pub(super) owner_index: usize,
    pub(super) owner: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) queue: Arc<str>,
}

pub(super) fn add(sum: Counts, counts: &Counts) -> Counts {
    std::array::from_fn(|status| sum[status] + counts[status])
}

/// Counts a new task, or a change of a task's status. `from` is `None` for a new task.
pub(super) fn count_transition(counts: &mut Counts, from: Option<Status>, to: Status) {
    if let Some(from) = from {
        decrement(&mut counts[from as usize]);
    }
    counts[to as usize] += 1;
}

/// Subtracts one task from a counter.
///
/// Each task was added before it is subtracted, so the counter is at least 1 here. If it is 0, the code has a defect. Then a
/// debug build panics, and in a release build the counter stays at 0.
pub(super) fn decrement(counter: &mut u64) {
    debug_assert!(*counter > 0, "a counter would fall below zero");
    *counter = counter.saturating_sub(1);
}
