//! The messages between the dispatcher and the workers.

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use crate::secret::Secret;
use crate::task::TaskId;
use crate::task::event::Created;
use crate::views::WorkOffer;

pub use super::directive::Directive;
use super::lease_table::{HeartbeatDirectives, LeaseRenewal};

/// From the dispatcher to the worker inside the process: execute this attempt.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Assign {
    /// The task.
    pub task: TaskId,
    /// The number of the attempt.
    pub attempt: u32,
    /// The task as it was requested.
    pub created: Arc<Created>,
}

/// From the dispatcher to the worker inside the process: a directive for an attempt that it executes.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AttemptDirective {
    /// The task.
    pub task: TaskId,
    /// The number of the attempt.
    pub attempt: u32,
    /// The directive.
    pub directive: Directive,
}

/// From the worker inside the process to the dispatcher: no code of this attempt runs any more, and its
/// end needs no further report. Either the end is durable, or it was refused or can't be recorded, or the attempt is lost.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AttemptStopped {
    /// The task.
    pub task: TaskId,
    /// The number of the attempt.
    #[cfg_attr(not(feature = "testing"), allow(dead_code))] // only the tests read it
    pub attempt: u32,
}

/// From the worker inside the process to the dispatcher: what it can execute. The worker sends it when it starts, and again
/// with 0 slots when it takes no more attempts because the process stops.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct LocalOffer {
    /// The worker's name, `local/<host name>/<id>`; the id is new for each process.
    pub worker: String,
    /// The kinds that the worker has handlers for.
    pub kinds: Vec<String>,
    /// The number of attempts that the worker executes concurrently.
    pub slots: usize,
    /// The recipient of attempts.
    pub assignments: Recipient<Assign>,
    /// The recipient of directives.
    pub directives: Recipient<AttemptDirective>,
}

/// From a worker outside the process to the dispatcher: a request for leases.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeLeases {
    /// The worker's name.
    pub worker: String,
    /// The authenticated subject of the request. The `Started` events name it as their actor. `None` if the request has no
    /// credential.
    pub actor: Option<String>,
    /// What the worker can execute.
    pub offer: WorkOffer,
    /// The maximum number of leases that the worker takes.
    pub max: usize,
    /// How long the request waits if no task can be started. After that it gets an empty answer.
    pub wait: Duration,
    /// Returns whether the client has closed its connection.
    pub is_client_gone: Box<dyn Fn() -> bool + Send>,
    /// The channel to the caller, which waits for the leases. If the receiver was dropped, the leases are released.
    pub caller: oneshot::Sender<GrantedLeases>,
}

/// The answer to [`TakeLeases`].
#[derive(Debug, Default)]
pub struct GrantedLeases {
    /// The leases. Their `Started` events are durable.
    pub leases: Vec<GrantedLease>,
    /// Releases the leases if they don't arrive.
    pub delivery: Delivery,
    /// There are no leases, and tasks may wait all the same: no attempt is started for a moment, because a start could not be
    /// recorded.
    pub are_starts_paused: bool,
}

/// A lease for a worker outside the process.
#[derive(Clone, Debug)]
pub struct GrantedLease {
    /// The task.
    pub task: TaskId,
    /// The number of the attempt.
    pub attempt: u32,
    /// The worker proves with this secret that its messages about the attempt come from the holder of the lease. The log holds
    /// only the hash of the secret.
    pub secret: Secret,
    /// The task as it was requested.
    pub created: Arc<Created>,
    /// The time until the lease expires if no heartbeat arrives.
    pub time_left: Duration,
}

/// The delivery of leases to a worker. If it is dropped before the leases have arrived, they are released.
#[derive(Debug, Default)]
pub struct Delivery(Option<Undelivered>);

/// The attempts that have not arrived yet, and the recipient of a message if they never do.
#[derive(Debug)]
struct Undelivered {
    attempts: Vec<(TaskId, u32)>,
    recipient: Recipient<NotDelivered>,
}

impl Delivery {
    /// The delivery of these attempts. `recipient` gets a message if they don't arrive.
    #[must_use]
    pub const fn new(recipient: Recipient<NotDelivered>, attempts: Vec<(TaskId, u32)>) -> Self {
        Self(Some(Undelivered { attempts, recipient }))
    }

    /// Call this when the answer has been written completely to the worker's connection.
    pub fn mark_arrived(&mut self) {
        self.0 = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Undelivered { attempts, recipient }) = self.0.take() {
            recipient.do_send(NotDelivered(attempts));
        }
    }
}

/// To the dispatcher: the leases of these attempts did not reach their worker, and are released.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NotDelivered(pub Vec<(TaskId, u32)>);

/// From a worker outside the process to the dispatcher: renews its leases, and waits for directives.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heartbeat {
    /// The worker's name.
    pub worker: String,
    /// The leases that the worker holds.
    pub leases: Vec<LeaseRenewal>,
    /// How long the request waits for a directive.
    pub wait: Duration,
    /// The channel to the caller, which waits for the answer.
    pub caller: oneshot::Sender<HeartbeatDirectives>,
}

/// To the dispatcher: this server is about to stop. All requests that wait are answered now, and no more leases are granted.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct DrainWorkers;
