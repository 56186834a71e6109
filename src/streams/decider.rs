//! The kinds of streams: the rules of each, and how its events are stored in the log.

use std::fmt::Debug;
use std::hash::Hash;

use actix::Message;
use uuid::Uuid;

use crate::store::{LogEvent, Meta, StreamName};
use crate::task::bell::{Bell, BellEvent};
use crate::task::queue::{Queue, QueueEvent};
use crate::task::schedule::{Schedule, ScheduleEvent};
use crate::task::session::{Session, SessionEvent};
use crate::task::token::{Token, TokenEvent};
use crate::task::{Decider, Event, Rejection, Revision, TaskId, TaskStream, Timestamp};

use super::messages::{ExecuteError, Receipt};

/// A kind of stream: a decider whose events are in the log and whose streams have actors.
pub trait StreamDecider: Decider<Command: Send, Event: Send> + Unpin + Send + 'static {
    /// Identifies one stream of this kind.
    type Key: Clone + Debug + Eq + Ord + Hash + Send + Unpin + 'static;
    /// The answer to a command.
    type Answer: Send + 'static;

    /// The name of the stream with this key.
    fn stream(key: &Self::Key) -> StreamName;

    /// Converts an event of this decider into an event of the log.
    fn to_log(event: Self::Event) -> LogEvent;

    /// The event of this decider in an event of the log; none if it belongs to another kind of stream.
    fn from_log(event: &LogEvent) -> Option<&Self::Event>;

    /// The answer to the caller.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] if the stream of a task has no event.
    fn answer(decided: Decided<Self>) -> Result<Self::Answer, ExecuteError>;

    /// The worker of the last attempt, if the stream is a task's. The reports of a worker do not contain
    /// its name, and the views may not show the attempt yet. So the name comes from the state.
    fn worker(&self) -> Option<&str> {
        None
    }

    /// Whether more commands are expected soon, so that the actor should stay until then.
    fn expects_more_commands(&self) -> bool {
        false
    }
}

/// A command on the stream of this key: not of a task. For a task there is
/// [`Execute`](super::messages::Execute).
#[derive(Clone, Debug)]
pub struct ExecuteOnStream<D: StreamDecider> {
    /// The key of the stream.
    pub key: D::Key,
    /// The command.
    pub command: D::Command,
    /// When the request was received.
    pub at: Timestamp,
    /// Who sends the command, through which interface, and which request or event it follows from.
    pub meta: Meta,
}

impl<D: StreamDecider> Message for ExecuteOnStream<D> {
    type Result = Result<D::Answer, ExecuteError>;
}

/// A command was decided, and every event that it led to is durable.
#[derive(Clone, Debug)]
pub struct Decided<D> {
    /// The state after these events.
    pub state: D,
    /// The revision of the stream's last event; none if the stream has no event.
    pub revision: Option<Revision>,
    /// The number of events that the command led to.
    pub appended: usize,
}

impl StreamDecider for TaskStream {
    type Key = TaskId;
    type Answer = Receipt;

    fn stream(key: &TaskId) -> StreamName {
        StreamName::task(*key)
    }

    fn to_log(event: Event) -> LogEvent {
        LogEvent::Task(event)
    }

    fn from_log(event: &LogEvent) -> Option<&Event> {
        if let LogEvent::Task(event) = event { Some(event) } else { None }
    }

    fn answer(decided: Decided<Self>) -> Result<Receipt, ExecuteError> {
        match (decided.state.0, decided.revision) {
            (Some(task), Some(revision)) => Ok(Receipt { revision, appended: decided.appended, task }),
            _ => Err(Rejection::NotFound.into()),
        }
    }

    fn worker(&self) -> Option<&str> {
        self.0.as_ref()?.worker.as_deref()
    }

    /// While an attempt runs, the command that ends it is expected.
    fn expects_more_commands(&self) -> bool {
        self.0.as_ref().is_some_and(|task| task.status.is_active())
    }
}

impl StreamDecider for Bell {
    type Key = String;
    type Answer = Decided<Self>;

    fn stream(owner: &String) -> StreamName {
        StreamName::bell(owner)
    }

    fn to_log(event: BellEvent) -> LogEvent {
        LogEvent::Bell(event)
    }

    fn from_log(event: &LogEvent) -> Option<&BellEvent> {
        if let LogEvent::Bell(event) = event { Some(event) } else { None }
    }

    fn answer(decided: Decided<Self>) -> Result<Decided<Self>, ExecuteError> {
        Ok(decided)
    }
}

impl StreamDecider for Queue {
    type Key = String;
    type Answer = Decided<Self>;

    fn stream(name: &String) -> StreamName {
        StreamName::queue(name)
    }

    fn to_log(event: QueueEvent) -> LogEvent {
        LogEvent::Queue(event)
    }

    fn from_log(event: &LogEvent) -> Option<&QueueEvent> {
        if let LogEvent::Queue(event) = event { Some(event) } else { None }
    }

    fn answer(decided: Decided<Self>) -> Result<Decided<Self>, ExecuteError> {
        Ok(decided)
    }
}

impl StreamDecider for Schedule {
    type Key = Uuid;
    type Answer = Decided<Self>;

    fn stream(id: &Uuid) -> StreamName {
        StreamName::schedule(*id)
    }

    fn to_log(event: ScheduleEvent) -> LogEvent {
        LogEvent::Schedule(event)
    }

    fn from_log(event: &LogEvent) -> Option<&ScheduleEvent> {
        if let LogEvent::Schedule(event) = event { Some(event) } else { None }
    }

    fn answer(decided: Decided<Self>) -> Result<Decided<Self>, ExecuteError> {
        Ok(decided)
    }
}

impl StreamDecider for Token {
    type Key = Uuid;
    type Answer = Decided<Self>;

    fn stream(id: &Uuid) -> StreamName {
        StreamName::token(*id)
    }

    fn to_log(event: TokenEvent) -> LogEvent {
        LogEvent::Token(event)
    }

    fn from_log(event: &LogEvent) -> Option<&TokenEvent> {
        if let LogEvent::Token(event) = event { Some(event) } else { None }
    }

    fn answer(decided: Decided<Self>) -> Result<Decided<Self>, ExecuteError> {
        Ok(decided)
    }
}

impl StreamDecider for Session {
    type Key = Uuid;
    type Answer = Decided<Self>;

    fn stream(id: &Uuid) -> StreamName {
        StreamName::session(*id)
    }

    fn to_log(event: SessionEvent) -> LogEvent {
        LogEvent::Session(event)
    }

    fn from_log(event: &LogEvent) -> Option<&SessionEvent> {
        if let LogEvent::Session(event) = event { Some(event) } else { None }
    }

    fn answer(decided: Decided<Self>) -> Result<Decided<Self>, ExecuteError> {
        Ok(decided)
    }
}
