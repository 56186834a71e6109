//! The paused queues.

use std::collections::BTreeMap;

use super::bytes::{Reader, Writer};
use crate::store::Fact;
use crate::task::Timestamp;
use crate::task::queue::QueueEvent;

/// The pause of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When the queue was paused.
    pub at: Timestamp,
    /// The subject who paused it.
    pub by: Box<str>,
    /// The reason that the subject gave.
    pub reason: Option<Box<str>>,
}

/// The paused queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PausedQueues(BTreeMap<Box<str>, Pause>);

impl PausedQueues {
    /// The pause of this queue; `None` if the queue is not paused.
    #[must_use]
    pub fn get(&self, queue: &str) -> Option<&Pause> {
        self.0.get(queue)
    }

    /// The names and the pauses of the paused queues, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Pause)> {
        self.0.iter().map(|(name, pause)| (&**name, pause))
    }

    pub(super) fn put(&self, writer: &mut Writer) {
        writer.put(self.0.len() as u64);
        for (name, Pause { at, by, reason }) in &self.0 {
            writer.put_text(name);
            writer.put_time(*at);
            writer.put_text(by);
            writer.put_optional_text(reason.as_deref());
        }
    }

    pub(super) fn take(&mut self, reader: &mut Reader) -> Option<()> {
        let queues = reader.take_list(|reader| {
            let name = reader.take_text()?.into();
            let (at, by, reason) = (reader.take_time()?, reader.take_text()?.into(), reader.take_optional_text()?);
            Some((name, Pause { at, by, reason }))
        })?;
        self.0 = queues.into_iter().collect();
        Some(())
    }

    pub(super) fn apply(&mut self, name: &str, event: &QueueEvent, recorded: &Fact) {
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
