//! How many tasks may run at once.

use std::collections::HashMap;

use super::Name;

/// How many tasks may run at once. The kinds that begin with `taskbell.` have no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of a kind; none: as many as there are workers.
    pub kinds: HashMap<String, u32>,
    /// Of a queue; none: as many as there are workers.
    pub queues: HashMap<String, u32>,
    /// With one `concurrency_key`, whatever their kind and queue; none: one.
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

/// How many run, by name. A name that none runs of takes no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(HashMap<Name, u32>);

impl Running {
    pub(super) fn of(&self, name: &str) -> u32 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// One more; how many run now.
    pub(super) fn up(&mut self, name: &Name) -> u32 {
        let count = self.0.entry(Name::clone(name)).or_default();
        *count += 1;
        *count
    }

    /// One less; how many run now.
    pub(super) fn down(&mut self, name: &Name) -> u32 {
        let Some(count) = self.0.get_mut(name) else { return 0 };
        *count = count.saturating_sub(1);
        let left = *count;
        if left == 0 {
            self.0.remove(name);
        }
        left
    }
}
