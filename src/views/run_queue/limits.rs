//! How many tasks may run at the same time, and how many tasks run.

use std::collections::HashMap;

use super::Name;

/// How many tasks may run at the same time. Kinds and queues whose names begin with `taskbell.` belong to the server and
/// must not have a limit. The command line refuses one; this type doesn't check it.
///
/// On a cluster each server counts the starts that it has received from the log. If two servers start tasks at the same
/// moment, they may exceed a limit together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many tasks of each kind may run. A kind without an entry has no limit.
    pub kinds: HashMap<String, u32>,
    /// How many tasks of each queue may run. A queue without an entry has no limit.
    pub queues: HashMap<String, u32>,
    /// How many tasks with the same `concurrency_key` may run, in all kinds and queues together. `None` stands for one.
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

/// How many tasks run with each name. A name without a running task has no entry.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningCounts(HashMap<Name, u32>);

impl RunningCounts {
    pub(super) fn of(&self, name: &str) -> u32 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds one task, and returns the new count.
    pub(super) fn increment(&mut self, name: &Name) -> u32 {
        let count = self.0.entry(Name::clone(name)).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Subtracts one task that was added before, and returns the new count.
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
