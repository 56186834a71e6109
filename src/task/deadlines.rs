//! A queue of deadlines. It reads no clock; the caller passes `now`.
//!
//! `T` is the type of the caller's instants: a [`Timestamp`](super::Timestamp) for deadlines that the log knows, a
//! monotonic instant for those of one process. No deadline is too far away: a task's `run_at` may lie years ahead.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Keys by their deadlines, the earliest first; of two with the same deadline the smaller key comes first. A key has at most
/// one deadline.
#[derive(Clone, Debug)]
pub struct DeadlineQueue<T, K, V = ()> {
    due: BTreeMap<(T, K), V>,
    deadlines: HashMap<K, T>,
}

impl<T, K, V> Default for DeadlineQueue<T, K, V> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), deadlines: HashMap::new() }
    }
}

impl<T: Copy + Ord, K: Clone + Ord + Hash, V> DeadlineQueue<T, K, V> {
    /// Sets the key's deadline and what is kept with it; both replace what was set before.
    pub fn set(&mut self, key: K, deadline: T, value: V) {
        if let Some(former) = self.deadlines.insert(key.clone(), deadline) {
            self.due.remove(&(former, key.clone()));
        }
        self.due.insert((deadline, key), value);
    }

    /// Removes the key; what was kept with it.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let deadline = self.deadlines.remove(&key)?;
        self.due.remove(&(deadline, key))
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<T> {
        self.due.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Removes the key with the earliest deadline.
    pub fn take_first(&mut self) -> Option<(K, V)> {
        let ((_, key), value) = self.due.pop_first()?;
        self.deadlines.remove(&key);
        Some((key, value))
    }

    /// The key's deadline.
    #[must_use]
    pub fn deadline(&self, key: K) -> Option<T> {
        self.deadlines.get(&key).copied()
    }

    /// Removes at most `limit` keys whose deadline is at or before `now`, the earliest first.
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

    /// Removes all keys.
    #[cfg(feature = "testing")]
    pub fn clear(&mut self) {
        self.due.clear();
        self.deadlines.clear();
    }

    /// How many keys there are.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether there is no key.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}
