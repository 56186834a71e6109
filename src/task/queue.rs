//! Whether a queue hands out work. A stream `queue-<name>` exists once somebody has paused it.

use serde::{Deserialize, Serialize};

use super::Decider;
use super::command::Rejection;
use super::time::Timestamp;

/// The state of a `queue-<name>` stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Nothing of it starts; what runs goes on.
    pub paused: bool,
}

/// One fact of a queue's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// Nothing of it starts any more.
    Paused(Paused),
    /// It hands out work again.
    Resumed(Resumed),
}

/// See [`QueueEvent::Paused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// Why, in the words of who asked.
    pub reason: Option<String>,
}

/// See [`QueueEvent::Resumed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// Why, in the words of who asked.
    pub reason: Option<String>,
}

/// An operator's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    /// Start nothing of it any more.
    Pause {
        /// Why.
        reason: Option<String>,
    },
    /// Hand out work again.
    Resume {
        /// Why.
        reason: Option<String>,
    },
}

impl Decider for Queue {
    type Command = QueueCommand;
    type Event = QueueEvent;

    /// A queue that is paused already is not paused again.
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
