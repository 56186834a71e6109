//! The queues that are paused: since when, by whom, and why.

use std::collections::BTreeMap;

use crate::store::Recorded;
use crate::task::Timestamp;
use crate::task::queue::QueueEvent;

/// The pause of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub at: Timestamp,
    /// By whom.
    pub by: Box<str>,
    /// Why.
    pub reason: Option<Box<str>>,
}

/// The queues that are paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues(BTreeMap<Box<str>, Pause>);

impl Queues {
    /// The pause of this queue; none where it hands out work.
    #[must_use]
    pub fn pause(&self, queue: &str) -> Option<&Pause> {
        self.0.get(queue)
    }

    /// The queues that are paused, by name.
    pub fn paused(&self) -> impl Iterator<Item = (&str, &Pause)> {
        self.0.iter().map(|(name, pause)| (&**name, pause))
    }

    pub(super) fn apply(&mut self, name: &str, event: &QueueEvent, recorded: &Recorded) {
        match event {
            QueueEvent::Paused(paused) => {
                let reason = paused.reason.as_deref().map(Into::into);
                self.0
                    .insert(name.into(), Pause { at: recorded.time, by: recorded.meta.actor.as_str().into(), reason });
            }
            QueueEvent::Resumed(_) => _ = self.0.remove(name),
        }
    }
}
