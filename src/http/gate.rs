//! One request at a time for each idempotency key: the second waits for the first, and finds its task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::task::TaskId;

/// A caller and one of its keys.
pub type Key = (String, String);

/// A task that a key stands for, and the hash of the body that it stood for.
pub type Known = (TaskId, String);

type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

/// From so many keys on the table is swept.
const SWEEP_FROM: usize = 1024;

/// The keys of requests under way.
///
/// What lasts is in the log and its views. This only bridges the time between a task's creation and its appearance
/// there, in which a second request must not create another.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    slots: Arc<Mutex<HashMap<Key, Slot>>>,
}

/// The turn of one request; others with its key wait until it is dropped.
pub struct Turn {
    key: Key,
    keys: Keys,
    slot: OwnedMutexGuard<Option<Known>>,
}

impl Keys {
    /// Waits for its turn.
    pub async fn turn(&self, key: Key) -> Turn {
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
        Turn { key, keys: self.clone(), slot: slot.lock_owned().await }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// What a request before this one created, if the views didn't show it in time.
    #[must_use]
    pub fn known(&self) -> Option<&Known> {
        self.slot.as_ref()
    }

    /// The key stands for this task; the views don't show it yet.
    pub fn remember(&mut self, known: Known) {
        *self.slot = Some(known);
    }

    /// The views show what the key stands for: nothing needs to be remembered here.
    pub fn forget(&mut self) {
        *self.slot = None;
    }
}

impl Drop for Turn {
    /// The slot goes when nobody waits for it and nothing needs it: the table, this turn, and that is all.
    fn drop(&mut self) {
        let mut slots = self.keys.lock();
        let unused = slots.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) <= 2);
        if unused && self.slot.is_none() {
            slots.remove(&self.key);
        }
    }
}
