//! The bell of an owner stores the log position up to which the owner has seen ended tasks. An event records the position, so
//! the counters of unseen tasks can be computed from the log.

use serde::{Deserialize, Serialize};

use super::Decider;
use super::command::Rejection;
use super::ids::Position;
use super::time::Timestamp;

/// The state of a `bell-<owner>` stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bell {
    /// The owner has seen everything up to this position.
    pub seen: Position,
}

/// An event in the stream of a bell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BellEvent {
    /// The owner has seen everything up to a position.
    Seen(Seen),
}

/// See [`BellEvent::Seen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The position up to which the owner has seen everything.
    pub position: Position,
}

/// The command on a bell: its owner has seen everything up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkSeen {
    /// The position up to which the owner has seen everything.
    pub position: Position,
    /// The last position of the log when the command was sent.
    pub head: Position,
}

impl Decider for Bell {
    type Command = MarkSeen;
    type Event = BellEvent;

    /// `seen` never decreases: a command with an earlier or the same position leads to no event.
    fn decide(&self, command: &MarkSeen, _now: Timestamp) -> Result<Vec<BellEvent>, Rejection> {
        if command.position > command.head {
            return Err(Rejection::BeyondHead { position: command.position, head: command.head });
        }
        if command.position <= self.seen {
            return Ok(Vec::new());
        }
        Ok(vec![BellEvent::Seen(Seen { position: command.position })])
    }

    fn evolve(&mut self, event: &BellEvent) {
        match event {
            BellEvent::Seen(seen) => self.seen = self.seen.max(seen.position),
        }
    }
}
