//! What an owner has seen of the bell. The counters of unseen tasks follow from events alone, so this is one.

use serde::{Deserialize, Serialize};

use super::Decider;
use super::command::Rejection;
use super::ids::Position;
use super::time::Timestamp;

/// The state of a `bell-<owner>` stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bell {
    /// Everything up to here has been seen.
    pub seen: Position,
}

/// One fact of a bell's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BellEvent {
    /// The owner has seen everything up to there.
    Seen(Seen),
}

/// See [`BellEvent::Seen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Up to here.
    pub position: Position,
}

/// The owner's: I have seen everything up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct See {
    /// Up to here.
    pub position: Position,
    /// Where the log ended when it was said.
    pub head: Position,
}

impl Decider for Bell {
    type Command = See;
    type Event = BellEvent;

    /// `seen` only grows: what lies before it is no news.
    fn decide(&self, command: &See, _now: Timestamp) -> Result<Vec<BellEvent>, Rejection> {
        if command.position > command.head {
            return Err(Rejection::BeyondHead { asked: command.position, head: command.head });
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
