//! What an actor knows of its stream: decide → append → evolve.

use std::rc::Rc;

use uuid::Uuid;

use crate::store::{Append, AppendError, Expected, Meta, NewEvent, ReadError, Recorded, StreamName, Via, new_id};
use crate::task::{Rejection, Revision, Timestamp};

use super::collector::Collector;
use super::decider::{Decided, StreamDecider};
use super::messages::{Begin, ExecuteError};

/// How often a command is decided anew because another writer was faster, before the answer is "busy".
const TRIES_MAX: usize = 5;

/// One stream, as its actor knows it.
///
/// The state is only ever folded from the log. Whenever the fate of a write is unclear the actor forgets that its state is
/// current, and reads what is new before it decides again.
#[derive(Clone, Debug)]
pub(super) struct StreamState<D> {
    stream: StreamName,
    /// Whether the log holds nothing newer, as far as this actor knows.
    current: bool,
    known: Known<D>,
}

/// The fold of a stream up to one of its events.
#[derive(Clone, Debug, Default)]
struct Known<D> {
    state: D,
    /// The last event that the state holds.
    revision: Option<Revision>,
    /// Its time: later events of the stream are never dated before it, whatever the clocks of their senders say.
    time: Option<Timestamp>,
    /// The last request of a client: what the system and the workers do with the stream follows from it.
    cause: Option<Cause>,
}

/// An event that a client asked for, not a timer nor a worker; or the first of its stream, which a schedule may have led to.
#[derive(Clone, Copy, Debug)]
struct Cause {
    correlation_id: Uuid,
    event: Uuid,
}

impl Cause {
    fn of(meta: &Meta, event: Uuid, is_first: bool) -> Option<Self> {
        let from_client = match meta.via {
            Via::Http | Via::Cli | Via::Library => true,
            Via::Worker | Via::Scheduler => is_first,
        };
        from_client.then_some(Self { correlation_id: meta.correlation_id, event })
    }
}

impl<D: StreamDecider> Known<D> {
    /// The fold with these events too; none where one of them belongs to a stream of another kind.
    fn after(&self, events: &[NewEvent]) -> Option<Self> {
        let mut after = self.clone();
        for new in events {
            let cause = Cause::of(&new.meta, new.id, after.revision.is_none());
            after.state.evolve(D::from_log(&new.event)?);
            after.time = Some(new.time);
            after.cause = cause.or(after.cause);
        }
        Some(after)
    }
}

/// A decided command: what is written, and what the actor knows once it is durable.
struct Prepared<D> {
    append: Append,
    appended: usize,
    after: Known<D>,
}

impl<D: StreamDecider> StreamState<D> {
    /// A stream whose past has not been read yet.
    pub(super) fn unread(stream: StreamName) -> Self {
        Self { stream, current: false, known: Known::default() }
    }

    /// A stream that is believed to have no event. Where it has one, the first write is refused and the past is read.
    pub(super) fn new_stream(stream: StreamName) -> Self {
        Self { stream, current: true, known: Known::default() }
    }

    /// Whether more commands are expected soon.
    pub(super) fn expects_more(&self) -> bool {
        self.known.state.expects_more()
    }

    /// Decides the command against the stream's state and makes what it leads to durable.
    ///
    /// Two actors of one stream may exist for a moment (one ends while its successor starts, or one is on another server).
    /// Then both decide, the expected revision lets one write pass, and the other actor reads what is new and decides again.
    pub(super) async fn execute(
        &mut self,
        log: &Rc<Collector>,
        command: &D::Command,
        at: Timestamp,
        meta: &Meta,
    ) -> Result<Decided<D>, ExecuteError> {
        // A stream that begins has no past that could be out of date.
        let mut is_fresh = self.current && self.known.revision.is_none();
        for _ in 0..TRIES_MAX {
            if !self.current {
                self.catch_up(log).await?;
                is_fresh = true;
            }
            let prepared = match self.prepare(command, at, meta) {
                Ok(Some(prepared)) => prepared,
                // The log checks a write by its revision. Nothing checks an answer without a write, so the stream is read first.
                Ok(None) | Err(_) if !is_fresh => {
                    self.current = false;
                    continue;
                }
                Ok(None) => return Ok(self.decided(0)),
                Err(rejection) => {
                    self.current &= self.known.revision.is_some();
                    return Err(rejection.into());
                }
            };
            let Prepared { append, appended, after } = prepared;
            match log.write(append).await {
                Ok(revision) => {
                    self.known = Known { revision: Some(revision), ..after };
                    return Ok(self.decided(appended));
                }
                Err(error) => {
                    self.current = false;
                    if !matches!(error, AppendError::WrongExpectedRevision { .. }) {
                        return Err(error.into());
                    }
                }
            }
        }
        Err(ExecuteError::Busy("other writers overtook every try"))
    }

    /// Appends the begin of a run, which was decided elsewhere.
    ///
    /// Where the state ends at the expected revision, it holds the begin afterwards. Otherwise, or where a write fails, the
    /// stream is read.
    pub(super) async fn begin(&mut self, log: &Rc<Collector>, begin: Begin) -> Result<Decided<D>, ExecuteError> {
        let Begin { expected, events, .. } = begin;
        let appended = events.len();
        let after = (self.known.revision == expected).then(|| self.known.after(&events)).flatten();
        self.current = false;
        let expected = expected.map_or(Expected::NoStream, Expected::Revision);
        let revision = log.write(Append { stream: self.stream.clone(), expected, events }).await?;
        match after {
            Some(after) => {
                self.known = Known { revision: Some(revision), ..after };
                self.current = true;
            }
            None => self.catch_up(log).await?,
        }
        Ok(self.decided(appended))
    }

    /// What the command leads to; none where that is nothing.
    fn prepare(&self, command: &D::Command, at: Timestamp, meta: &Meta) -> Result<Option<Prepared<D>>, Rejection> {
        let Known { state, revision, time, cause } = &self.known;
        let at = time.map_or(at, |last| last.max(at));
        let events = state.decide(command, at)?;
        if events.is_empty() {
            return Ok(None);
        }
        let meta = by_worker(traced(meta, *cause), state.worker());
        let (appended, mut after) = (events.len(), state.clone());
        let new_event = |event: D::Event| {
            after.evolve(&event);
            NewEvent { id: new_id(), time: at, meta: meta.clone(), event: D::to_log(event) }
        };
        let events: Vec<NewEvent> = events.into_iter().map(new_event).collect();
        let latest = events.last().and_then(|last| Cause::of(&meta, last.id, revision.is_none()));
        let expected = revision.map_or(Expected::NoStream, Expected::Revision);
        let append = Append { stream: self.stream.clone(), expected, events };
        let after = Known { state: after, revision: None, time: Some(at), cause: latest.or(*cause) };
        Ok(Some(Prepared { append, appended, after }))
    }

    async fn catch_up(&mut self, log: &Rc<Collector>) -> Result<(), ReadError> {
        let new = match self.known.revision {
            None => log.read(self.stream.clone()).await?,
            Some(Revision(last)) => log.read_from(&self.stream, Revision(last + 1)).await?,
        };
        for recorded in new {
            self.apply(&recorded)?;
        }
        self.current = true;
        Ok(())
    }

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ReadError> {
        let Some(event) = D::from_log(&recorded.event) else {
            return Err(ReadError::Damaged(format!("{} holds a {}", self.stream, recorded.kind)));
        };
        let cause = Cause::of(&recorded.meta, recorded.id, recorded.revision == Revision(0));
        self.known.state.evolve(event);
        self.known.revision = Some(recorded.revision);
        self.known.time = Some(recorded.time);
        self.known.cause = cause.or(self.known.cause);
        Ok(())
    }

    fn decided(&self, appended: usize) -> Decided<D> {
        Decided { state: self.known.state.clone(), revision: self.known.revision, appended }
    }
}

/// What a timer or a worker does names the request that it follows from, and carries its correlation id.
fn traced(meta: &Meta, cause: Option<Cause>) -> Meta {
    match (meta.via, cause) {
        (Via::Worker | Via::Scheduler, Some(Cause { correlation_id, event })) => {
            Meta { correlation_id, causation_id: meta.causation_id.or(Some(event)), ..meta.clone() }
        }
        (Via::Worker | Via::Scheduler, None) | (Via::Http | Via::Cli | Via::Library, _) => meta.clone(),
    }
}

/// The rules have accepted a worker's report, so it comes from the worker of the last attempt.
fn by_worker(meta: Meta, worker: Option<&str>) -> Meta {
    match (meta.via, worker) {
        (Via::Worker, Some(worker)) => Meta { actor: worker.to_owned(), ..meta },
        (Via::Worker, None) | (Via::Scheduler | Via::Http | Via::Cli | Via::Library, _) => meta,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use futures_util::poll;

    use super::*;
    use crate::store::{EventStore, LogEvent, now};
    use crate::task::Position;
    use crate::task::bell::{BellEvent, Seen};
    use crate::task::queue::{Queue, QueueCommand};

    const PAUSE: QueueCommand = QueueCommand::Pause { reason: None };
    const RESUME: QueueCommand = QueueCommand::Resume { reason: None };

    fn stream() -> StreamName {
        StreamName::queue("mail")
    }

    fn meta(via: Via) -> Meta {
        Meta { actor: "ann".to_owned(), via, correlation_id: new_id(), causation_id: None, request_id: None }
    }

    async fn execute(
        state: &mut StreamState<Queue>,
        log: &Rc<Collector>,
        command: &QueueCommand,
    ) -> Result<Decided<Queue>, ExecuteError> {
        state.execute(log, command, now(), &meta(Via::Http)).await
    }

    /// What the command waits for first: how many appends, and how many reads.
    async fn waits_for(state: &mut StreamState<Queue>, log: &Rc<Collector>, command: &QueueCommand) -> (usize, usize) {
        let mut execution = pin!(execute(state, log, command));
        assert!(poll!(&mut execution).is_pending());
        let waiting = log.waiting();
        execution.await.unwrap();
        waiting
    }

    /// The state of a stream whose only event is a pause, and another state of the same stream.
    async fn paused() -> (EventStore, Rc<Collector>, StreamState<Queue>, StreamState<Queue>) {
        let store = EventStore::memory();
        let log = Collector::new(store.clone());
        let mut state = StreamState::new_stream(stream());
        execute(&mut state, &log, &PAUSE).await.unwrap();
        (store, log, state, StreamState::unread(stream()))
    }

    #[actix_rt::test]
    async fn only_a_stream_whose_past_is_unknown_is_read_before_it_decides() {
        let log = Collector::new(EventStore::memory());
        let mut new = StreamState::new_stream(stream());
        assert_eq!(waits_for(&mut new, &log, &PAUSE).await, (1, 0), "a stream that begins");
        assert_eq!(waits_for(&mut new, &log, &RESUME).await, (1, 0), "a stream that is known");
        assert_eq!(waits_for(&mut StreamState::unread(stream()), &log, &PAUSE).await, (0, 1));
    }

    #[actix_rt::test]
    async fn a_stream_that_was_taken_for_a_new_one_is_read_after_its_first_write_was_refused() {
        let (store, log, ..) = paused().await;
        let mut mistaken = StreamState::new_stream(stream());
        let decided = execute(&mut mistaken, &log, &PAUSE).await.unwrap();
        assert_eq!((decided.appended, decided.revision), (0, Some(Revision(0))), "it is paused already");
        assert_eq!(store.head().position.0, 1);
    }

    #[actix_rt::test]
    async fn a_write_at_an_old_revision_is_decided_again_on_what_is_new() {
        let (store, log, mut state, mut other) = paused().await;
        execute(&mut other, &log, &RESUME).await.unwrap();
        let decided = execute(&mut state, &log, &RESUME).await.unwrap();
        assert_eq!((decided.appended, decided.state.paused), (0, false));
        assert_eq!(store.head().position.0, 2);
    }

    #[actix_rt::test]
    async fn nothing_to_do_is_no_answer_before_the_newest_events_are_known() {
        let (_, log, mut state, mut other) = paused().await;
        execute(&mut other, &log, &RESUME).await.unwrap();
        let decided = execute(&mut state, &log, &PAUSE).await.unwrap();
        assert_eq!((decided.appended, decided.revision), (1, Some(Revision(2))), "it was resumed by another writer");
    }

    #[actix_rt::test]
    async fn an_event_is_never_dated_before_the_one_before_it() {
        let (store, log, mut state, mut other) = paused().await;
        let first = store.head().time.unwrap();
        let early = first.since(Timestamp::from_micros(0)).saturating_sub(Duration::from_hours(1));
        let early = Timestamp::from_micros(0).plus(early);
        for (state, command) in [(&mut state, &RESUME), (&mut other, &PAUSE)] {
            state.execute(&log, command, early, &meta(Via::Http)).await.unwrap();
        }
        let times: Vec<_> = store.read_stream(&stream(), Revision(0)).await.unwrap().iter().map(|e| e.time).collect();
        assert_eq!(times, [first; 3]);
    }

    #[actix_rt::test]
    async fn what_the_server_does_names_the_last_request_of_a_client_whether_it_was_read_or_decided_here() {
        let (store, log, mut state, mut other) = paused().await;
        state.execute(&log, &RESUME, now(), &meta(Via::Scheduler)).await.unwrap();
        other.execute(&log, &PAUSE, now(), &meta(Via::Worker)).await.unwrap();
        let events = store.read_stream(&stream(), Revision(0)).await.unwrap();
        let [request, following @ ..] = &events[..] else { panic!("{events:?}") };
        for event in following {
            assert_eq!(event.meta.correlation_id, request.meta.correlation_id);
            assert_eq!(event.meta.causation_id, Some(request.id));
        }
        assert_eq!(following.len(), 2);
    }

    #[actix_rt::test]
    async fn a_stream_with_an_event_of_another_kind_is_damaged_and_is_not_written() {
        let store = EventStore::memory();
        let event = LogEvent::Bell(BellEvent::Seen(Seen { position: Position(1) }));
        let events = vec![NewEvent { id: new_id(), time: now(), meta: meta(Via::Http), event }];
        store.append(Append { stream: stream(), expected: Expected::NoStream, events }).await.unwrap();
        let log = Collector::new(store.clone());
        let refused = execute(&mut StreamState::unread(stream()), &log, &PAUSE).await.unwrap_err();
        assert!(matches!(refused, ExecuteError::Read(ReadError::Damaged(_))), "{refused}");
        assert_eq!(store.head().position.0, 1);
    }
}
