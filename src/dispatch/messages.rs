//! The messages between the dispatcher and the workers.

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use crate::task::TaskId;
use crate::task::event::Created;
use crate::views::WorkOffer;

pub use super::directive::Directive;
use super::lease_table::{HeartbeatReply, LeaseHeartbeat};

/// From the dispatcher to the worker inside the process: execute this attempt.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Assign {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// The request.
    pub created: Arc<Created>,
}

/// From the dispatcher to the worker inside the process, about an attempt that it executes.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Direct {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// The directive.
    pub directive: Directive,
}

/// From the worker inside the process to the dispatcher: none of this attempt's code runs any more, and its end is durable.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stopped {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    #[cfg_attr(not(feature = "testing"), allow(dead_code))] // only the tests read it
    pub attempt: u32,
}

/// From the worker inside the process to the dispatcher: what it can execute. The first message of its life; sent again
/// without slots when the worker drains.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Offer {
    /// Its name, `local/<server>/<boot>`.
    pub worker: String,
    /// The kinds that it has handlers for.
    pub kinds: Vec<String>,
    /// How many attempts it executes at once.
    pub slots: usize,
    /// Where attempts go.
    pub assign: Recipient<Assign>,
    /// Where directives go.
    pub direct: Recipient<Direct>,
}

/// From a worker outside the process to the dispatcher: a request for leases.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Take {
    /// Its name.
    pub worker: String,
    /// What it can execute.
    pub wants: WorkOffer,
    /// The most leases that it takes.
    pub max: usize,
    /// How long the request waits where no task may run; then it gets an empty answer.
    pub wait: Duration,
    /// Whether the client has closed its connection meanwhile.
    pub gone: Box<dyn Fn() -> bool + Send>,
    /// Where the answer goes. If the receiver is gone, the leases are handed back.
    pub answer: oneshot::Sender<Given>,
}

/// The answer to [`Take`].
#[derive(Debug, Default)]
pub struct Given {
    /// The attempts; their `Started` are durable.
    pub leases: Vec<Granted>,
    /// Hands the leases back unless they arrive.
    pub delivery: Delivery,
}

/// An attempt, on its way to a worker outside the process.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// Proves that a message about the attempt is its worker's. The log keeps its hash alone.
    pub secret: String,
    /// The request.
    pub created: Arc<Created>,
    /// How long the lease lives without a heartbeat, from now on.
    pub left: Duration,
}

/// Leases on their way to a worker. If it is dropped before they have arrived, they are handed back.
#[derive(Debug, Default)]
pub struct Delivery(Option<Undelivered>);

/// Attempts that have not arrived yet, and who gets a message if they never do.
#[derive(Debug)]
struct Undelivered {
    attempts: Vec<(TaskId, u32)>,
    to: Recipient<NotDelivered>,
}

impl Delivery {
    /// The delivery of these attempts; `to` gets a message if they don't arrive.
    #[must_use]
    pub const fn new(to: Recipient<NotDelivered>, attempts: Vec<(TaskId, u32)>) -> Self {
        Self(Some(Undelivered { attempts, to }))
    }

    /// The answer has been written to the worker's connection.
    pub fn arrived(&mut self) {
        self.0 = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Undelivered { attempts, to }) = self.0.take() {
            to.do_send(NotDelivered(attempts));
        }
    }
}

/// To the dispatcher: these attempts never reached their worker.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NotDelivered(pub Vec<(TaskId, u32)>);

/// From a worker outside the process to the dispatcher: its leases live on, and it waits for directives.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heartbeat {
    /// Its name.
    pub worker: String,
    /// Its leases.
    pub beats: Vec<LeaseHeartbeat>,
    /// How long the request waits for a directive.
    pub wait: Duration,
    /// Where the answer goes.
    pub answer: oneshot::Sender<HeartbeatReply>,
}

/// To the dispatcher: this server is about to stop. All requests that wait are answered now, and no attempt is started.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct SendAway;
