//! The messages between the hub and the sockets.

use std::collections::HashSet;
use std::sync::Arc;

use actix::{Message, Recipient};

use crate::task::TaskId;
use crate::views::{Filter, Row};

/// Identifies an open socket in this process.
pub type SocketId = u64;

/// From the hub to a socket.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum Push {
    /// Text frames, in this order.
    Frames(Vec<String>),
    /// Close with this code.
    Close(u16),
}

/// From a socket: it is open.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Join {
    /// The socket.
    pub socket: SocketId,
    /// The owner whose bell it shows.
    pub owner: Arc<str>,
    /// Takes the frames; its mailbox is bounded.
    pub to: Recipient<Push>,
}

/// From a socket: it is closed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// The socket.
    pub socket: SocketId,
}

/// The tasks whose changes a socket gets, beside the counters.
#[derive(Clone, Debug)]
pub enum Subscription {
    /// The tasks that match.
    Matching(Box<Filter>),
    /// The tasks with these ids.
    Ids(HashSet<TaskId>),
}

impl Subscription {
    /// Whether changes of this task are sent.
    #[must_use]
    pub fn matches(&self, row: &Row) -> bool {
        match self {
            Self::Matching(filter) => filter.matches(row),
            Self::Ids(ids) => ids.contains(&row.id()),
        }
    }
}

/// From a socket: a request of its client.
#[derive(Message)]
#[rtype(result = "()")]
pub enum SocketRequest {
    /// Send changes of these tasks from now on; replaces the former subscription.
    Subscribe(SocketId, Subscription),
    /// Send no changes of tasks any more.
    Unsubscribe(SocketId),
    /// Send a snapshot of the counts.
    Resync(SocketId),
}
