//! THE RULES: what may happen to a task, as pure functions. No clock, no IO, no async.
//!
//! The state table. `Status` is a function of the events alone; time changes nothing until an event says so.
//!
//! ```text
//! (none)                       --Created-->          scheduled (run_at given) | queued
//! scheduled, retrying          --Queued-->           queued
//! queued                       --Started-->          running
//! running                      --AttemptFailed-->    retrying
//! running                      --Released-->         queued
//! running                      --CancelRequested-->  cancelling
//! scheduled, queued, retrying  --CancelRequested-->  unchanged, and Completed(cancelled) in the same append
//! cancelling                   --CancelAcknowledged, CancelEscalated--> cancelling
//! running, cancelling          --OutputKept-->       unchanged, and the attempt's end in the same append
//! running, cancelling          --Completed-->        succeeded | failed | cancelled
//! succeeded, failed, cancelled --Retried-->          queued
//! ```
//!
//! Reading order: [`event`] (what has happened), [`command`] (what may be asked), [`state`] (`evolve`, `fold`),
//! [`mod@decide`] (the rules), [`retry`] (the back-off), [`limits`] (what a request may hold); [`bell`] (what an
//! owner has seen), [`queue`] (paused or not), [`schedule`] (recurring tasks): deciders of streams of their own;
//! [`calendar`] (when a recurring task is created); [`backoff`] and [`deadlines`] (pauses and queues of deadlines, for all
//! rooms).

#![deny(clippy::wildcard_enum_match_arm)]

pub mod backoff;
#[cfg(feature = "server")]
pub mod bell;
#[cfg(feature = "server")]
pub mod calendar;
pub mod command;
#[cfg(feature = "server")]
#[cfg_attr(not(feature = "testing"), allow(dead_code))] // to be used by dispatch, push and reactions
pub mod deadlines;
#[cfg(feature = "server")]
pub mod decide;
pub mod event;
pub mod ids;
pub mod limits;
#[cfg(feature = "server")]
pub mod queue;
#[cfg(feature = "server")]
pub mod retry;
#[cfg(feature = "server")]
pub mod schedule;
pub mod state;
pub mod time;

pub use command::{Command, Rejection};
#[cfg(feature = "server")]
pub use decide::decide;
pub use event::Event;
pub use ids::{Position, Revision, TaskId};
pub use limits::Invalid;
pub use state::{Status, Task, evolve, fold};
pub use time::Timestamp;

/// A fold with rules: the shape that every stream's owner has, whatever its events are.
///
/// The Decider pattern (Chassaing): `decide` looks at the state and says what happens; `evolve` makes it so.
#[cfg(feature = "server")]
pub trait Decider: Clone + Default {
    /// What may be asked.
    type Command;
    /// What has happened.
    type Event: Clone;

    /// The events that the command leads to (none: nothing to do, which is an answer too).
    ///
    /// # Errors
    /// A [`Rejection`] when the rules say no.
    fn decide(&self, command: &Self::Command, now: Timestamp) -> Result<Vec<Self::Event>, Rejection>;

    /// The state after one more event. Total: history is not argued with.
    fn evolve(&mut self, event: &Self::Event);
}

/// The state of a task's stream: nothing yet, or a task.
#[cfg(feature = "server")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskStream(pub Option<Task>);

#[cfg(feature = "server")]
impl Decider for TaskStream {
    type Command = Command;
    type Event = Event;

    fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        decide(self.0.as_ref(), command, now)
    }

    fn evolve(&mut self, event: &Event) {
        self.0 = evolve(self.0.take(), event);
    }
}
