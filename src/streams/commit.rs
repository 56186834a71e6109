//! Decide → append → evolve: the only caller of the log's `append`.

use std::sync::Arc;

use futures_util::future::join_all;
use uuid::Uuid;

use crate::store::{
    Append, AppendError, EventStore, Expected, LogEvent, Meta, NewEvent, ReadError, Recorded, StreamName, Via, new_id,
};
use crate::task::{Decider, Event, Rejection, Revision, TaskStream, Timestamp, fold};

use super::messages::{Execute, ExecuteError, Receipt};

/// How often a command is decided anew because somebody else wrote first, before an honest "busy".
const MAX_ATTEMPTS: usize = 5;

/// One stream, as its owner knows it.
///
/// The state is only ever folded from the log. Whenever a write's fate is unclear the owner forgets that it is up to
/// date, and reads what is new before it decides again.
#[derive(Clone, Debug)]
pub struct StreamState<D> {
    stream: StreamName,
    /// Folded up to `revision`.
    state: D,
    /// The last event that the state holds.
    revision: Option<Revision>,
    /// Its time: later events of the stream are never dated before it, whatever the clocks of their senders say.
    time: Option<Timestamp>,
    /// What somebody asked for last: all that the system and the workers do with the stream comes of it.
    cause: Option<Cause>,
    /// Whether the log holds nothing newer, as far as we know.
    current: bool,
}

/// An event that somebody asked for, not a timer nor a worker; or the first of its stream, which a schedule may have led to.
#[derive(Clone, Copy, Debug)]
struct Cause {
    correlation_id: Uuid,
    event: Uuid,
}

impl Cause {
    fn of(meta: &Meta, event: Uuid, is_first: bool) -> Option<Self> {
        let asked = match meta.via {
            Via::Http | Via::Cli | Via::Library => true,
            Via::Worker | Via::Scheduler => is_first,
        };
        asked.then_some(Self { correlation_id: meta.correlation_id, event })
    }
}

/// What a command leads to, on its way.
struct Prepared<D: Decider> {
    events: Vec<D::Event>,
    at: Timestamp,
    cause: Option<Cause>,
}

type ToWrite<D> = (Append, Prepared<D>);

/// A command was decided, and what it led to is durable.
#[derive(Clone, Debug)]
pub struct Decided<D> {
    /// The state afterwards.
    pub state: D,
    /// Last event of the stream; none where it has none.
    pub revision: Option<Revision>,
    /// How many events the command led to.
    pub appended: usize,
}

/// A decider whose events the log can hold.
pub trait Logged: Decider + 'static {
    /// The log's event for one of ours.
    fn to_log(event: Self::Event) -> LogEvent;
    /// Our event out of the log's, where it is of our streams.
    fn from_log(event: &LogEvent) -> Option<&Self::Event>;
}

impl<D: Logged> StreamState<D> {
    /// A stream whose past has not been read yet.
    #[must_use]
    pub fn unread(stream: StreamName) -> Self {
        Self { stream, state: D::default(), revision: None, time: None, cause: None, current: false }
    }

    /// Decides the command against the stream's state and makes what it leads to durable.
    ///
    /// Two owners of one stream may exist for a moment (one is being passivated, or on another server): then one append
    /// wins, and the other owner reads what is new and decides again.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn execute(
        &mut self,
        store: &EventStore,
        command: &D::Command,
        at: Timestamp,
        meta: &Meta,
    ) -> Result<Decided<D>, ExecuteError> {
        let mut fresh = false;
        for _ in 0..MAX_ATTEMPTS {
            if !self.current {
                self.catch_up(store).await?;
                fresh = true;
            }
            let (append, prepared) = match self.prepare(command, at, meta) {
                Ok(Some(to_write)) => to_write,
                // What is written says itself whether it was decided on old news; what isn't is decided on fresh ones.
                Ok(None) | Err(_) if !fresh => {
                    self.current = false;
                    continue;
                }
                Ok(None) => return Ok(self.decided(0)),
                Err(rejection) => return Err(rejection.into()),
            };
            match self.settle(&prepared, store.append(append).await) {
                Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })) => {}
                answer => return answer,
            }
        }
        Err(ExecuteError::Busy("others write to this stream all the time"))
    }

    /// What the command leads to; none where that is nothing.
    fn prepare(&self, command: &D::Command, at: Timestamp, meta: &Meta) -> Result<Option<ToWrite<D>>, Rejection> {
        let at = self.time.map_or(at, |last| last.max(at));
        let decided = self.state.decide(command, at)?;
        if decided.is_empty() {
            return Ok(None);
        }
        let expected = self.revision.map_or(Expected::NoStream, Expected::Revision);
        let meta = self.traced(meta);
        let events = new_events::<D>(&decided, at, &meta);
        let cause = events.last().and_then(|last| Cause::of(&meta, last.id, self.revision.is_none()));
        Ok(Some((Append { stream: self.stream.clone(), expected, events }, Prepared { events: decided, at, cause })))
    }

    /// It was written, or not. Whoever was overtaken, or doesn't know, reads before it decides again.
    fn settle(
        &mut self,
        prepared: &Prepared<D>,
        answer: Result<Revision, AppendError>,
    ) -> Result<Decided<D>, ExecuteError> {
        let revision = answer.inspect_err(|_| self.current = false)?;
        self.cause = prepared.cause.or(self.cause);
        for event in &prepared.events {
            self.state.evolve(event);
        }
        self.revision = Some(revision);
        self.time = Some(prepared.at);
        Ok(self.decided(prepared.events.len()))
    }

    /// What a timer or a worker does names what it came of, and carries its correlation id.
    fn traced(&self, meta: &Meta) -> Meta {
        match (meta.via, self.cause) {
            (Via::Worker | Via::Scheduler, Some(Cause { correlation_id, event })) => {
                Meta { correlation_id, causation_id: meta.causation_id.or(Some(event)), ..meta.clone() }
            }
            (Via::Worker | Via::Scheduler, None) | (Via::Http | Via::Cli | Via::Library, _) => meta.clone(),
        }
    }

    async fn catch_up(&mut self, store: &EventStore) -> Result<(), ReadError> {
        let from = self.revision.map_or(Revision(0), |revision| Revision(revision.0 + 1));
        for recorded in store.read_stream(&self.stream, from).await? {
            self.fold(&recorded)?;
        }
        self.current = true;
        Ok(())
    }

    fn fold(&mut self, recorded: &Recorded) -> Result<(), ReadError> {
        let Some(event) = D::from_log(&recorded.event) else {
            return Err(ReadError::Damaged(format!("{} holds a {}", self.stream, recorded.kind)));
        };
        self.state.evolve(event);
        self.revision = Some(recorded.revision);
        self.time = Some(recorded.time);
        self.cause = Cause::of(&recorded.meta, recorded.id, recorded.revision == Revision(0)).or(self.cause);
        Ok(())
    }

    /// Takes over what somebody has read of the stream, from its beginning. Where that can't be, it is read again.
    pub fn remember(&mut self, past: &[Arc<Recorded>]) {
        let read = past.iter().try_for_each(|recorded| self.fold(recorded));
        match read {
            Ok(()) => self.current = true,
            Err(_) => *self = Self::unread(self.stream.clone()),
        }
    }

    fn decided(&self, appended: usize) -> Decided<D> {
        Decided { state: self.state.clone(), revision: self.revision, appended }
    }
}

fn new_events<D: Logged>(events: &[D::Event], at: Timestamp, meta: &Meta) -> Vec<NewEvent> {
    let new =
        |event: &D::Event| NewEvent { id: new_id(), time: at, meta: meta.clone(), event: D::to_log(event.clone()) };
    events.iter().map(new).collect()
}

impl Decided<TaskStream> {
    /// What whoever asked is told.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] where there is no task.
    pub fn receipt(self) -> Result<Receipt, ExecuteError> {
        match (self.state.0, self.revision) {
            (Some(task), Some(revision)) => Ok(Receipt { revision, appended: self.appended, task }),
            _ => Err(Rejection::NotFound.into()),
        }
    }
}

/// Has each of these tasks decide its command and makes what they lead to durable in one write. Each is as alone as by
/// itself: one that is refused, or overtaken by another writer, doesn't disturb the others.
pub async fn execute_many(
    store: &EventStore,
    work: Vec<(StreamState<TaskStream>, Execute)>,
) -> Vec<(StreamState<TaskStream>, Execute, Result<Receipt, ExecuteError>)> {
    let mut appends = Vec::with_capacity(work.len());
    let decided: Vec<_> = work
        .into_iter()
        .map(|(owned, ask)| {
            let to_write = if owned.current { owned.prepare(&ask.command, ask.at, &ask.meta) } else { Ok(None) };
            let prepared = to_write.ok().flatten().map(|(append, prepared)| {
                appends.push(append);
                prepared
            });
            (owned, ask, prepared)
        })
        .collect();
    let mut answers = store.append_many(appends).await.into_iter();
    let settled = decided.into_iter().map(|(mut owned, ask, prepared)| {
        let answer = prepared.map(|prepared| match answers.next() {
            Some(answer) => owned.settle(&prepared, answer).and_then(Decided::receipt),
            None => Err(ExecuteError::Busy("the log gave no answer")),
        });
        (owned, ask, answer)
    });
    let settled: Vec<_> = settled.collect();
    // Those that had nothing to write, or were overtaken, decide by themselves, on fresh news.
    let by_themselves = settled.into_iter().map(async |(mut owned, ask, answer)| {
        if let Some(answer) = answer.filter(|answer| !is_overtaken(answer)) {
            return (owned, ask, answer);
        }
        let decided = owned.execute(store, &ask.command, ask.at, &ask.meta).await;
        (owned, ask, decided.and_then(Decided::receipt))
    });
    join_all(by_themselves).await
}

const fn is_overtaken(answer: &Result<Receipt, ExecuteError>) -> bool {
    matches!(answer, Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })))
}

/// Decides commands that begin tasks and makes what they lead to durable in one write; the answers come in the same order.
///
/// Nobody owns a stream that isn't there. Where one is there already, the expected revision says so.
pub async fn begin_many(store: &EventStore, asks: Vec<Execute>) -> Vec<Result<Receipt, ExecuteError>> {
    let mut appends = Vec::with_capacity(asks.len());
    let mut decide = |ask: Execute| {
        let Execute { task, command, at, meta } = ask;
        let events = TaskStream::default().decide(&command, at)?;
        let new = new_events::<TaskStream>(&events, at, &meta);
        appends.push(Append { stream: StreamName::task(task), expected: Expected::NoStream, events: new });
        Ok(events)
    };
    let begun: Vec<Result<Vec<Event>, ExecuteError>> = asks.into_iter().map(&mut decide).collect();
    let mut answers = store.append_many(appends).await.into_iter();
    let receipt = |events: &[Event], answer: Option<Result<Revision, AppendError>>| match answer {
        Some(Ok(revision)) => {
            let task = fold(None, events).ok_or(Rejection::NotFound)?;
            Ok(Receipt { revision, appended: events.len(), task })
        }
        Some(Err(AppendError::WrongExpectedRevision { .. })) => Err(Rejection::AlreadyExists.into()),
        Some(Err(error)) => Err(error.into()),
        None => Err(ExecuteError::Busy("the log gave no answer")),
    };
    begun.into_iter().map(|begun| begun.and_then(|events| receipt(&events, answers.next()))).collect()
}
