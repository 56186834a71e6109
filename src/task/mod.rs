//! THE RULES: what may happen to a task, as pure functions. They read no clock, do no input or output and are not async.
//!
//! The state table ([`Status::next`]) says which event changes which status. Only events change a status. When a time
//! such as `run_at` is reached, an event records that.
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
//! If the table has no line for an event, the event changes neither the state ([`evolve`]) nor the task in the views, except
//! the task's revision and position there.
//!
//! Reading order: [`event`] (what has happened), [`command`] (what can be requested), [`state`] (`Status`, `evolve`, `fold`),
//! [`mod@decide`] (the rules), [`retry`] (the pause before the next attempt of a run), [`limits`] (what a request may contain).
//! Other streams have rules of their own: [`bell`] (what an owner has seen), [`queue`] (paused or not), [`schedule`]
//! (recurring tasks), [`token`] and [`session`] (credentials). [`access`] decides who may do what. [`calendar`] computes when a recurring task is created. [`json`] stores the JSON of clients as text.
//! Other rooms use [`backoff`] and [`deadlines`].

#![deny(clippy::wildcard_enum_match_arm)]

#[cfg(feature = "server")]
pub mod access;
pub mod backoff;
#[cfg(feature = "server")]
pub mod bell;
#[cfg(feature = "server")]
pub mod calendar;
pub mod command;
#[cfg(any(feature = "server", feature = "worker"))]
pub mod deadlines;
#[cfg(feature = "server")]
pub mod decide;
pub mod event;
pub mod ids;
pub mod json;
pub mod limits;
#[cfg(feature = "server")]
pub mod queue;
#[cfg(feature = "server")]
pub mod retry;
#[cfg(feature = "server")]
pub mod schedule;
#[cfg(feature = "server")]
pub mod session;
pub mod state;
pub mod time;
#[cfg(feature = "server")]
pub mod token;

pub use command::{Command, Rejection};
#[cfg(feature = "server")]
pub use decide::decide;
pub use event::Event;
pub use ids::{IdMap, Position, Revision, TaskId};
pub use json::JsonText;
pub use limits::Invalid;
#[cfg(feature = "testing")]
pub use state::fold;
pub use state::{Status, Task, evolve};
pub use time::Timestamp;

/// The rules of one kind of stream, and its state. This is the Decider pattern (Jérémie Chassaing).
#[cfg(feature = "server")]
pub trait Decider: Clone + Default {
    /// What can be requested.
    type Command;
    /// What has happened.
    type Event: Clone;

    /// The events that the command leads to. The list is empty if the command needs no event; that is a success too.
    ///
    /// # Errors
    /// A [`Rejection`] if the rules don't allow the command.
    fn decide(&self, command: &Self::Command, now: Timestamp) -> Result<Vec<Self::Event>, Rejection>;

    /// Applies the next event to the state. It can't fail, because the event has already happened.
    fn evolve(&mut self, event: &Self::Event);
}

/// The state of a task's stream, which is computed from its events: `None` before the event `Created`, then the task.
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
