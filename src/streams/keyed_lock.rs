//! One request at a time for each key: the second waits for the first, and finds its task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// A subject, and one of the keys that are its own.
pub type Key = (String, String);

type Slots<T> = HashMap<Key, Arc<tokio::sync::Mutex<Option<T>>>>;

/// From so many keys on the table is swept.
const SWEEP_FROM: usize = 1024;

/// The keys of requests under way; `T` is what is remembered of a request.
///
/// What lasts is in the log and its views. This only bridges the time between a task's event and its appearance
/// there, in which a second request must not do the same again.
#[derive(Debug)]
pub struct KeyedLock<T> {
    slots: Arc<Mutex<Slots<T>>>,
}

/// The turn of one request; others with its key wait until it is dropped.
pub struct KeyGuard<T> {
    key: Key,
    keys: KeyedLock<T>,
    slot: OwnedMutexGuard<Option<T>>,
}

// Not derived: that would ask the same of `T`.
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
    /// Waits for its turn.
    pub async fn turn(&self, key: Key) -> KeyGuard<T> {
        let slot = {
            let mut slots = self.lock();
            if slots.len() >= SWEEP_FROM {
                // Left behind by callers that went away while they waited.
                slots.retain(|_, slot| {
                    Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|known| known.is_some())
                });
            }
            slots.entry(key.clone()).or_default().clone()
        };
        KeyGuard { key, keys: self.clone(), slot: slot.lock_owned().await }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots<T>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> KeyGuard<T> {
    /// What a request before this one did, if the views didn't show it in time.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        self.slot.as_ref()
    }

    /// The key stands for this; the views don't show it yet.
    pub fn remember(&mut self, known: T) {
        *self.slot = Some(known);
    }

    /// The views show what the key stands for: nothing needs to be remembered here.
    pub fn forget(&mut self) {
        *self.slot = None;
    }
}

impl<T> Drop for KeyGuard<T> {
    /// Removes the slot if only the table and this guard refer to it and nothing has to be remembered.
    fn drop(&mut self) {
        let mut slots = self.keys.lock();
        let unused = slots.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) <= 2);
        if unused && self.slot.is_none() {
            slots.remove(&self.key);
        }
    }
}
