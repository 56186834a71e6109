//! How many tasks may run at once, and how many do.

use std::collections::HashMap;

use super::Name;

/// How many tasks may run at once. Kinds that begin with `taskbell.` have no limit.
///
/// On a cluster each server counts what it has received of the log: two that start tasks in the same moment may exceed a limit
/// together, until each has received the other's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// By kind; a kind without an entry has no limit.
    pub kinds: HashMap<String, u32>,
    /// By queue; a queue without an entry has no limit.
    pub queues: HashMap<String, u32>,
    /// With the same `concurrency_key`, in all kinds and queues together; none: one.
    pub per_key: Option<u32>,
}

impl Limits {
    pub(super) fn of_kind(&self, kind: &str) -> u32 {
        self.kinds.get(kind).copied().unwrap_or(u32::MAX)
    }

    pub(super) fn of_queue(&self, queue: &str) -> u32 {
        self.queues.get(queue).copied().unwrap_or(u32::MAX)
    }

    pub(super) fn of_key(&self) -> u32 {
        self.per_key.unwrap_or(1)
    }
}

/// How many tasks run, by name. A name with no running task takes no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningCounts(HashMap<Name, u32>);

impl RunningCounts {
    pub(super) fn of(&self, name: &str) -> u32 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds one task; the new count.
    pub(super) fn increment(&mut self, name: &Name) -> u32 {
        let count = self.0.entry(Name::clone(name)).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Subtracts one task that was added before; the new count.
    pub(super) fn decrement(&mut self, name: &Name) -> u32 {
        let Some(count) = self.0.get_mut(name) else {
            debug_assert!(false, "a task ended that was never counted: {name}");
            return 0;
        };
        *count = count.saturating_sub(1);
        let left = *count;
        if left == 0 {
            self.0.remove(name);
        }
        left
    }
}
