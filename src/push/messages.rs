//! The messages between the hub and the sockets.

use std::collections::HashSet;
use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::backlog::Backlog;
use crate::task::TaskId;
use crate::views::{Filter, Row, Scope};

/// Identifies an open socket in this process.
pub type SocketId = u64;

/// From the hub to a socket.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum Push {
    /// Send these text frames, in this order.
    Frames(Vec<Arc<str>>),
    /// Close the socket.
    Close(Closing),
}

/// From the hub to the pusher of a thread: pass these pushes on to sockets of this thread, in this order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Turn {
    /// The sockets and their pushes.
    pub(super) pushes: Vec<(Recipient<Push>, Push)>,
    /// Answered when the thread has handled the pushes and has then done its other work.
    pub(super) ended: Option<oneshot::Sender<()>>,
}

impl Turn {
    /// One push, outside of the turns. It is passed on behind the pushes that were sent before.
    pub(super) fn of(socket: Recipient<Push>, push: Push) -> Self {
        Self { pushes: vec![(socket, push)], ended: None }
    }
}

/// Why the server closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The client reads nothing.
    Stalled,
    /// The server ends.
    ServerEnds,
    /// The credential of the socket was revoked or has expired.
    CredentialEnded,
}

/// How many bytes these frames have.
#[must_use]
pub fn bytes_of(frames: &[Arc<str>]) -> usize {
    frames.iter().map(|frame| frame.len()).sum()
}

/// Ends the connection of a socket at once. What the client has not read is dropped. If the connection has ended already,
/// nothing happens.
pub type AbortConnection = Box<dyn Fn() + Send>;

/// From a socket to the hub: the socket was opened.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SocketOpened {
    /// The socket.
    pub socket: SocketId,
    /// Whose bell the socket gets: its counters are those of these tasks.
    pub bell: Scope,
    /// The subject that looks at the bell. It is what this subject has seen that counts for the bell of everyone.
    pub viewer: Arc<str>,
    /// The tasks that the caller may see. No other task is ever sent, whatever the subscription asks for.
    pub visible: Scope,
    /// The recipient of the frames.
    pub recipient: Recipient<Push>,
    /// The pusher of the thread on which the socket runs.
    pub pusher: Recipient<Turn>,
    /// The frames that wait for the connection.
    pub backlog: Backlog,
    /// Ends the connection.
    pub abort: AbortConnection,
}

impl SocketOpened {
    /// Closes the socket at once.
    pub(super) fn close(self, closing: Closing) {
        self.pusher.do_send(Turn::of(self.recipient, Push::Close(closing)));
    }
}

/// From a socket to the hub: the socket was closed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SocketClosed {
    /// The socket.
    pub socket: SocketId,
}

/// To the hub: close the socket, because its credential has ended. If its client reads nothing, its connection is ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CredentialEnded {
    /// The socket.
    pub socket: SocketId,
}

/// The tasks whose changes a socket gets, as far as its caller may see them. It gets the counters in any case.
#[derive(Clone, Debug)]
pub enum Subscription {
    /// The tasks that match this filter.
    Matching(Box<Filter>),
    /// The tasks with these ids.
    Ids(HashSet<TaskId>),
}

impl Subscription {
    /// Whether the subscription includes this task.
    #[must_use]
    pub fn matches(&self, row: &Row) -> bool {
        match self {
            Self::Matching(filter) => filter.matches(row),
            Self::Ids(ids) => ids.contains(&row.id()),
        }
    }
}

/// From a socket to the hub: a request of the socket's client.
#[derive(Message)]
#[rtype(result = "()")]
pub enum SocketRequest {
    /// Send the changes of these tasks from now on. This replaces the former subscription.
    Subscribe(SocketId, Subscription),
    /// Send no more changes of tasks.
    Unsubscribe(SocketId),
    /// Send a snapshot of the counters.
    Resync(SocketId),
}

/// To the hub: close all sockets, because the server ends. Sockets that are opened later are closed at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseAll;
