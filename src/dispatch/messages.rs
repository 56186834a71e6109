//! What the dispatcher and the workers tell each other.

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::task::TaskId;
use crate::task::event::Created;
use crate::views::WorkOffer;

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
    /// What it is to do.
    pub directive: Directive,
}

/// What a worker is told about an attempt, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directive {
    /// This server is about to go: take nothing new from it; what runs goes on.
    Drain,
    /// Somebody asked for it to stop.
    Cancel,
    /// Stop now: the handler's future is dropped at its next await.
    Interrupt,
    /// The lease is no longer yours: stop, report nothing.
    Lost,
}

/// From the worker inside the process to the dispatcher: none of this attempt's code runs any more, and its end is recorded.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stopped {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    #[cfg_attr(not(feature = "testing"), allow(dead_code))] // only the tests read it
    pub attempt: u32,
}

/// From the worker inside the process to the dispatcher, first of all: what it can execute; and on its way out: that it
/// has no slots any more.
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

/// From a worker outside the process to the dispatcher: give me work.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Take {
    /// Its name.
    pub worker: String,
    /// What it can execute.
    pub wants: WorkOffer,
    /// How many attempts at once, at most.
    pub max: usize,
    /// How long it waits where there is nothing; then it gets an empty answer.
    pub wait: Duration,
    /// Whether it has left meanwhile.
    pub gone: Box<dyn Fn() -> bool + Send>,
    /// Where the answer goes. If nobody is there any more, what it holds is handed back.
    pub answer: oneshot::Sender<Given>,
}

/// The answer to [`Take`].
#[derive(Debug, Default)]
pub struct Given {
    /// The attempts; their `Started` are durable.
    pub leases: Vec<Granted>,
    /// Hands them back, unless it is told that they have arrived.
    pub delivery: Delivery,
}

/// An attempt, on its way to a worker outside the process.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// What its worker shows with whatever it says of the attempt; only the hash is in the log.
    pub secret: String,
    /// The request.
    pub created: Arc<Created>,
    /// How long it lives without a heartbeat.
    pub ttl: Duration,
}

/// LeaseTable on their way. Dropped before they have arrived, it hands them back.
#[derive(Debug, Default)]
pub struct Delivery(Option<OnTheWay>);

/// Who is to hear of it if these attempts don't arrive.
type OnTheWay = (Recipient<NotDelivered>, Vec<(TaskId, u32)>);

impl Delivery {
    /// These attempts are on their way; `to` hears of it if they don't arrive.
    #[must_use]
    pub const fn new(to: Recipient<NotDelivered>, attempts: Vec<(TaskId, u32)>) -> Self {
        Self(Some((to, attempts)))
    }

    /// They have left for their worker.
    pub fn arrived(&mut self) {
        self.0 = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some((to, attempts)) = self.0.take() {
            to.do_send(NotDelivered(attempts));
        }
    }
}

/// To the dispatcher: these attempts never reached their worker.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NotDelivered(pub Vec<(TaskId, u32)>);

/// From a worker outside the process to the dispatcher: I am alive; is there news?
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heartbeat {
    /// Its name.
    pub worker: String,
    /// Its leases.
    pub beats: Vec<LeaseHeartbeat>,
    /// How long it waits for news.
    pub wait: Duration,
    /// Where the answer goes.
    pub answer: oneshot::Sender<HeartbeatReply>,
}

/// To the dispatcher: this server is about to go. Whoever waits for work or news is answered now.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct SendAway;
