//! The rules of a queue: an operator can pause and resume it. The first event of the stream `queue-<name>` is the first pause.

use serde::{Deserialize, Serialize};

use super::Decider;
use super::command::Rejection;
use super::time::Timestamp;

/// The state of a `queue-<name>` stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Whether the queue is paused. While it is paused no attempt of its tasks starts; running attempts continue.
    pub paused: bool,
}

/// An event in the stream of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// The queue was paused.
    Paused(Paused),
    /// The queue was resumed: its tasks may start again.
    Resumed(Resumed),
}

/// See [`QueueEvent::Paused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// The reason, as the operator gave it.
    pub reason: Option<String>,
}

/// See [`QueueEvent::Resumed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// The reason, as the operator gave it.
    pub reason: Option<String>,
}

/// A command of an operator on a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    /// Pause the queue.
    Pause {
        /// The reason, for people.
        reason: Option<String>,
    },
    /// Resume the queue.
    Resume {
        /// The reason, for people.
        reason: Option<String>,
    },
}

impl Decider for Queue {
    type Command = QueueCommand;
    type Event = QueueEvent;

    /// Pausing a paused queue leads to no event, nor does resuming a queue that is not paused.
    fn decide(&self, command: &QueueCommand, _now: Timestamp) -> Result<Vec<QueueEvent>, Rejection> {
        Ok(match (command, self.paused) {
            (QueueCommand::Pause { reason }, false) => vec![QueueEvent::Paused(Paused { reason: reason.clone() })],
            (QueueCommand::Resume { reason }, true) => vec![QueueEvent::Resumed(Resumed { reason: reason.clone() })],
            (QueueCommand::Pause { .. }, true) | (QueueCommand::Resume { .. }, false) => Vec::new(),
        })
    }

    fn evolve(&mut self, event: &QueueEvent) {
        self.paused = match event {
            QueueEvent::Paused(_) => true,
            QueueEvent::Resumed(_) => false,
        };
    }
}
