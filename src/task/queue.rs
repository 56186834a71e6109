//! Whether a queue is paused. The stream `queue-<name>` begins with the first pause.

use serde::{Deserialize, Serialize};

use super::Decider;
use super::command::Rejection;
use super::time::Timestamp;

/// The state of a `queue-<name>` stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// No task of the queue starts; running tasks continue.
    pub paused: bool,
}

/// One fact of a queue's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// The queue was paused.
    Paused(Paused),
    /// The pause has ended.
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

/// The command of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    /// Start no more tasks of the queue.
    Pause {
        /// The reason, for people.
        reason: Option<String>,
    },
    /// Start tasks of the queue again.
    Resume {
        /// The reason, for people.
        reason: Option<String>,
    },
}

impl Decider for Queue {
    type Command = QueueCommand;
    type Event = QueueEvent;

    /// A command that changes nothing leads to no event.
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
