//! A queue of deadlines. It reads no clock; the caller passes `now`. A deadline may lie years ahead, as a task's `run_at` may.

use std::collections::BTreeMap;
use std::hash::Hash;

use super::ids::IdMap;

/// Keys in the order of their deadlines, the earliest first. A key has at most one deadline, and a value. If two keys have the
/// same deadline, the smaller key comes first.
///
/// `T` is the type of the deadlines: a [`Timestamp`](super::Timestamp) if they come from the log, a monotonic instant if they
/// belong to one process.
#[derive(Clone, Debug)]
pub struct DeadlineQueue<T, K, V = ()> {
    by_deadline: BTreeMap<(T, K), V>,
    deadlines: IdMap<K, T>,
}

impl<T, K, V> Default for DeadlineQueue<T, K, V> {
    fn default() -> Self {
        Self { by_deadline: BTreeMap::new(), deadlines: IdMap::default() }
    }
}

impl<T: Copy + Ord, K: Clone + Ord + Hash, V> DeadlineQueue<T, K, V> {
    /// Sets the deadline and the value of the key. They replace the key's former deadline and value.
    pub fn set(&mut self, key: K, deadline: T, value: V) {
        if let Some(former) = self.deadlines.insert(key.clone(), deadline) {
            self.by_deadline.remove(&(former, key.clone()));
        }
        self.by_deadline.insert((deadline, key), value);
    }

    /// Removes the key and returns its value; `None` if the key has no deadline.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let deadline = self.deadlines.remove(&key)?;
        self.by_deadline.remove(&(deadline, key))
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<T> {
        self.by_deadline.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Removes the key with the earliest deadline, and returns it with its value.
    pub fn take_first(&mut self) -> Option<(K, V)> {
        let ((_, key), value) = self.by_deadline.pop_first()?;
        self.deadlines.remove(&key);
        Some((key, value))
    }

    /// The deadline of this key.
    #[must_use]
    pub fn deadline(&self, key: &K) -> Option<T> {
        self.deadlines.get(key).copied()
    }

    /// The deadline and the value of this key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<(T, &V)> {
        let deadline = self.deadline(key)?;
        Some((deadline, self.by_deadline.get(&(deadline, key.clone()))?))
    }

    /// Removes at most `limit` keys whose deadline is at or before `now`, and returns them with their values, the earliest
    /// deadline first.
    pub fn take_due(&mut self, now: T, limit: usize) -> Vec<(K, V)> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && self.next_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(first) = self.take_first()
        {
            taken.push(first);
        }
        taken
    }
}
