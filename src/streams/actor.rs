//! The actors that own a stream: one for each task that is being talked to, one for each bell,
//! queue and schedule.

use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};

use crate::store::{EventStore, LogEvent, Meta, StreamName};
use crate::task::bell::{Bell, BellEvent};
use crate::task::queue::{Queue, QueueEvent};
use crate::task::schedule::{Schedule, ScheduleEvent};
use crate::task::{Decider, Event, TaskStream, Timestamp};

use super::commit::{Decided, Logged, StreamState};
use super::messages::{Execute, ExecuteError, Receipt};

/// The owner of one stream. It answers one command at a time, in the order in which they came.
///
/// It keeps no memory that the log doesn't have: it may be dropped at any time, and the next one reads the stream.
pub struct StreamActor<D: Logged> {
    store: EventStore,
    owned: StreamState<D>,
}

/// The actor of a task.
pub type TaskActor = StreamActor<TaskStream>;

/// Do this to a bell, a queue or a schedule; the answer is what it is afterwards and how many events that took.
#[derive(Clone, Debug)]
pub struct Ask<D: Decider> {
    /// Whose stream.
    pub stream: StreamName,
    /// What.
    pub command: D::Command,
    /// When.
    pub at: Timestamp,
    /// Who, and why.
    pub meta: Meta,
}

impl TaskActor {
    /// The actor of a task whose stream somebody has read already, or not.
    #[must_use]
    pub const fn new(store: EventStore, owned: StreamState<TaskStream>) -> Self {
        Self { store, owned }
    }
}

impl<D: Logged + Unpin> StreamActor<D> {
    /// The actor of this stream.
    #[must_use]
    pub fn of(store: EventStore, stream: StreamName) -> Self {
        Self { store, owned: StreamState::unread(stream) }
    }
}

impl<D: Logged> Message for Ask<D> {
    type Result = Result<(D, usize), ExecuteError>;
}

impl<D: Logged + Unpin> Actor for StreamActor<D>
where
    D::Command: 'static,
{
    type Context = Context<Self>;
}

impl<D: Logged + Unpin> StreamActor<D>
where
    D::Command: 'static,
{
    /// Runs the command to its end before the next message is looked at.
    fn answer<R: 'static>(
        &self,
        command: D::Command,
        at: Timestamp,
        meta: Meta,
        receipt: impl Fn(Decided<D>) -> Result<R, ExecuteError> + 'static,
    ) -> AtomicResponse<Self, Result<R, ExecuteError>> {
        let (store, mut owned) = (self.store.clone(), self.owned.clone());
        let work = async move {
            let decided = owned.execute(&store, &command, at, &meta).await;
            (owned, decided)
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(move |(owned, decided), this, _| {
            this.owned = owned;
            decided.and_then(&receipt)
        })))
    }
}

impl Handler<Execute> for TaskActor {
    type Result = AtomicResponse<Self, Result<Receipt, ExecuteError>>;

    fn handle(&mut self, ask: Execute, _: &mut Context<Self>) -> Self::Result {
        self.answer(ask.command, ask.at, ask.meta, Decided::receipt)
    }
}

impl<D: Logged + Unpin> Handler<Ask<D>> for StreamActor<D>
where
    D::Command: 'static,
{
    type Result = AtomicResponse<Self, Result<(D, usize), ExecuteError>>;

    fn handle(&mut self, ask: Ask<D>, _: &mut Context<Self>) -> Self::Result {
        self.answer(ask.command, ask.at, ask.meta, |decided| Ok((decided.state, decided.appended)))
    }
}

impl Logged for TaskStream {
    fn to_log(event: Event) -> LogEvent {
        LogEvent::Task(event)
    }

    fn from_log(event: &LogEvent) -> Option<&Event> {
        match event {
            LogEvent::Task(event) => Some(event),
            LogEvent::Bell(_) | LogEvent::Queue(_) | LogEvent::Schedule(_) => None,
        }
    }
}

impl Logged for Bell {
    fn to_log(event: BellEvent) -> LogEvent {
        LogEvent::Bell(event)
    }

    fn from_log(event: &LogEvent) -> Option<&BellEvent> {
        match event {
            LogEvent::Bell(event) => Some(event),
            LogEvent::Task(_) | LogEvent::Queue(_) | LogEvent::Schedule(_) => None,
        }
    }
}

impl Logged for Queue {
    fn to_log(event: QueueEvent) -> LogEvent {
        LogEvent::Queue(event)
    }

    fn from_log(event: &LogEvent) -> Option<&QueueEvent> {
        match event {
            LogEvent::Queue(event) => Some(event),
            LogEvent::Task(_) | LogEvent::Bell(_) | LogEvent::Schedule(_) => None,
        }
    }
}

impl Logged for Schedule {
    fn to_log(event: ScheduleEvent) -> LogEvent {
        LogEvent::Schedule(event)
    }

    fn from_log(event: &LogEvent) -> Option<&ScheduleEvent> {
        match event {
            LogEvent::Schedule(event) => Some(event),
            LogEvent::Task(_) | LogEvent::Bell(_) | LogEvent::Queue(_) => None,
        }
    }
}
