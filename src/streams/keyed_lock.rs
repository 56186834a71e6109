//! Serializes the requests with one key: a second request waits for the first one, and then finds the first one's task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The owner or the caller that a key belongs to, and the key.
pub type LockKey = (String, String);

type Slots<T> = HashMap<LockKey, Arc<tokio::sync::Mutex<Option<T>>>>;

/// If the table has at least this many keys, unused ones are removed from it.
const SWEEP_FROM: usize = 1024;

/// The keys of the requests that are under way. A clone shares the table. `T` is the result of a request.
///
/// The views show which task has a key, but only some milliseconds after the task's event is in the log. A second request
/// that arrives in this time must not create another task. Therefore it waits for the lock. If the views don't show
/// the first task within 5 s, the lock keeps the result of the first request.
#[derive(Debug)]
pub struct KeyedLock<T> {
    slots: Arc<Mutex<Slots<T>>>,
}

/// The lock on a key. Other requests with the key wait until the guard is dropped.
pub struct KeyGuard<T> {
    key: LockKey,
    keys: KeyedLock<T>,
    slot: OwnedMutexGuard<Option<T>>,
}

// Not derived: the derived implementation would require `T: Clone`.
impl<T> Clone for KeyedLock<T> {
    fn clone(&self) -> Self {
        Self { slots: self.slots.clone() }
    }
}

impl<T> Default for KeyedLock<T> {
    fn default() -> Self {
        Self { slots: Arc::default() }
    }
}

impl<T> KeyedLock<T> {
    /// Waits until no other request holds the key.
    pub async fn lock(&self, key: LockKey) -> KeyGuard<T> {
        let slot = {
            let mut slots = self.lock_slots();
            if slots.len() >= SWEEP_FROM {
                // A caller that is dropped while it waits leaves its slot in the table.
                slots.retain(|_, slot| {
                    Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|remembered| remembered.is_some())
                });
            }
            slots.entry(key.clone()).or_default().clone()
        };
        KeyGuard { key, keys: self.clone(), slot: slot.lock_owned().await }
    }

    fn lock_slots(&self) -> std::sync::MutexGuard<'_, Slots<T>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> KeyGuard<T> {
    /// The result of an earlier request, if the views did not show it in time.
    #[must_use]
    pub fn remembered(&self) -> Option<&T> {
        self.slot.as_ref()
    }

    /// Keeps the result of this request, which the views don't show yet.
    pub fn remember(&mut self, result: T) {
        *self.slot = Some(result);
    }

    /// Drops the result, because the views show it.
    pub fn forget(&mut self) {
        *self.slot = None;
    }
}

impl<T> Drop for KeyGuard<T> {
    /// Removes the slot from the table if it holds no result and no other request refers to it.
    fn drop(&mut self) {
        let mut slots = self.keys.lock_slots();
        // Two references are those of the table and of this guard.
        let unused = slots.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) <= 2);
        if unused && self.slot.is_none() {
            slots.remove(&self.key);
        }
    }
}
