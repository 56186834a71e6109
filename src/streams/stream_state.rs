//! The state of a stream in its actor, and the steps of a command: decide → evolve → append → replace the state.

use std::iter::repeat_n;
use std::rc::Rc;

use uuid::Uuid;

use crate::store::{Append, AppendError, Expected, Meta, NewEvent, ReadError, Recorded, StreamName, Via, new_id};
use crate::task::{Rejection, Revision, Timestamp};

use super::collector::Collector;
use super::decider::{Decided, StreamDecider};
use super::messages::{BeginRun, ExecuteError};

/// The maximum number of tries of a command. A try fails if another writer was faster. After the last one the answer is "busy".
const TRIES_MAX: usize = 5;

/// A stream and its state in the actor.
///
/// The state is always the fold of events that are in the log. If a write fails, or its outcome is unknown, the state is no
/// longer current: the actor reads the newer events of the stream before it decides again.
#[derive(Clone, Debug)]
pub(super) struct StreamState<D> {
    stream: StreamName,
    /// Whether the state holds all events of the stream, as far as this actor knows.
    is_current: bool,
    folded: FoldedStream<D>,
}

/// The fold of a stream up to one of its events.
#[derive(Clone, Debug, Default)]
struct FoldedStream<D> {
    state: D,
    /// The revision of the last event in the state; none if the state holds no event.
    revision: Option<Revision>,
    /// The time of that event. A later event of the stream never gets an earlier time, whatever the clock of its sender says.
    time: Option<Timestamp>,
    /// The last request of a client. The later events of the system and of workers name it as their cause.
    cause: Option<Cause>,
}

/// An event that a client's request led to, or the first event of the stream, even if a schedule led to it.
#[derive(Clone, Copy, Debug)]
struct Cause {
    correlation_id: Uuid,
    event: Uuid,
}

impl Cause {
    fn of(meta: &Meta, event: Uuid, is_first: bool) -> Option<Self> {
        let from_client = match meta.via {
            Via::Http | Via::Cli | Via::Library => true,
            Via::Worker | Via::Server => is_first,
        };
        from_client.then_some(Self { correlation_id: meta.correlation_id, event })
    }
}

impl<D: StreamDecider> FoldedStream<D> {
    /// The fold with these events added. The field `revision` of the result has the old value; the caller sets the new one.
    /// None if one of the events belongs to another kind of stream.
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

/// A decided command: the append, and the fold once the append is durable.
struct Prepared<D> {
    append: Append,
    appended: usize,
    after: FoldedStream<D>,
}

impl<D: StreamDecider> StreamState<D> {
    /// The state of a stream that was not read yet.
    pub(super) fn unread(stream: StreamName) -> Self {
        Self { stream, is_current: false, folded: FoldedStream::default() }
    }

    /// The state of a stream that is expected to have no events. If it has some, the log refuses the first write, and then the
    /// stream is read.
    pub(super) fn new_stream(stream: StreamName) -> Self {
        Self { stream, is_current: true, folded: FoldedStream::default() }
    }

    /// See [`StreamDecider::expects_more_commands`].
    pub(super) fn expects_more_commands(&self) -> bool {
        self.folded.state.expects_more_commands()
    }

    /// Decides the command on the stream's state, and appends the events that it leads to.
    ///
    /// Two actors of one stream may exist at the same time: one ends while its successor starts, or one is on another server.
    /// Both may decide on the same state. Then the log accepts the append of one of them. The other one gets
    /// `WrongExpectedRevision`, reads the newer events and decides again.
    pub(super) async fn execute(
        &mut self,
        collector: &Rc<Collector>,
        command: &D::Command,
        at: Timestamp,
        meta: &Meta,
    ) -> Result<Decided<D>, ExecuteError> {
        // A stream that is expected to be new is not read: if the expectation is wrong, the log refuses the append. A create that
        // is rejected has no append, but an invalid request is invalid whatever the stream holds.
        let mut may_answer_without_append = self.is_current && self.folded.revision.is_none();
        for _ in 0..TRIES_MAX {
            if !self.is_current {
                self.catch_up(collector).await?;
                may_answer_without_append = true;
            }
            let prepared = match self.prepare(command, at, meta) {
                Ok(Some(prepared)) => prepared,
                // The log refuses an append that was decided on an old state. It can't refuse an answer without an append, so
                // the stream is read before such an answer.
                Ok(None) | Err(_) if !may_answer_without_append => {
                    self.is_current = false;
                    continue;
                }
                Ok(None) => return Ok(self.decided(0)),
                Err(rejection) => {
                    // A stream that was expected to be new was not read. The next command must read it.
                    self.is_current &= self.folded.revision.is_some();
                    return Err(rejection.into());
                }
            };
            let Prepared { append, appended, after } = prepared;
            match collector.write(append).await {
                Ok(revision) => {
                    self.folded = FoldedStream { revision: Some(revision), ..after };
                    return Ok(self.decided(appended));
                }
                Err(error) => {
                    self.is_current = false;
                    if !matches!(error, AppendError::WrongExpectedRevision { .. }) {
                        return Err(error.into());
                    }
                }
            }
        }
        Err(ExecuteError::Busy("each try failed because another writer was faster"))
    }

    /// Appends the events that begin a run, which were decided before.
    ///
    /// If the state ends at the expected revision, the new state is computed from these events. Otherwise the stream is read
    /// after the append. After a failed append the stream is read before the next command.
    pub(super) async fn begin_run(
        &mut self,
        collector: &Rc<Collector>,
        begin: BeginRun,
    ) -> Result<Decided<D>, ExecuteError> {
        let BeginRun { expected_revision, events, .. } = begin;
        let appended = events.len();
        let after = (self.folded.revision == expected_revision).then(|| self.folded.after(&events)).flatten();
        self.is_current = false;
        let expected = expected_revision.map_or(Expected::NoStream, Expected::Revision);
        let revision = collector.write(Append { stream: self.stream.clone(), expected, events }).await?;
        match after {
            Some(after) => {
                self.folded = FoldedStream { revision: Some(revision), ..after };
                self.is_current = true;
            }
            None => self.catch_up(collector).await?,
        }
        Ok(self.decided(appended))
    }

    /// Decides the command: the append of its events, and the fold after them. None if there are no events.
    fn prepare(&self, command: &D::Command, at: Timestamp, meta: &Meta) -> Result<Option<Prepared<D>>, Rejection> {
        let FoldedStream { state, revision, time, cause } = &self.folded;
        let at = time.map_or(at, |last| last.max(at));
        let events = state.decide(command, at)?;
        if events.is_empty() {
            return Ok(None);
        }
        let meta = with_worker(with_cause(meta, *cause), state.worker());
        let (appended, mut after) = (events.len(), state.clone());
        let new_event = |(event, meta): (D::Event, Meta)| {
            after.evolve(&event);
            NewEvent { id: new_id(), time: at, meta, event: D::to_log(event) }
        };
        let events: Vec<NewEvent> = events.into_iter().zip(repeat_n(meta, appended)).map(new_event).collect();
        let latest = events.last().and_then(|last| Cause::of(&last.meta, last.id, revision.is_none()));
        let expected = revision.map_or(Expected::NoStream, Expected::Revision);
        let append = Append { stream: self.stream.clone(), expected, events };
        let after = FoldedStream { state: after, revision: None, time: Some(at), cause: latest.or(*cause) };
        Ok(Some(Prepared { append, appended, after }))
    }

    async fn catch_up(&mut self, collector: &Rc<Collector>) -> Result<(), ReadError> {
        let new = match self.folded.revision {
            None => collector.read(self.stream.clone()).await?,
            Some(last) => collector.read_after(&self.stream, last).await?,
        };
        for recorded in new {
            self.apply(&recorded)?;
        }
        self.is_current = true;
        Ok(())
    }

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ReadError> {
        let Some(event) = D::from_log(&recorded.event) else {
            return Err(ReadError::Damaged(format!(
                "{} contains an event of type {}, which does not belong there",
                self.stream, recorded.event_type
            )));
        };
        let cause = Cause::of(&recorded.meta, recorded.id, recorded.revision == Revision(0));
        self.folded.state.evolve(event);
        self.folded.revision = Some(recorded.revision);
        self.folded.time = Some(recorded.time);
        self.folded.cause = cause.or(self.folded.cause);
        Ok(())
    }

    fn decided(&self, appended: usize) -> Decided<D> {
        Decided { state: self.folded.state.clone(), revision: self.folded.revision, appended }
    }
}

/// The metadata of a command. The command of a timer or a worker gets the correlation id of its cause, and names the cause.
fn with_cause(meta: &Meta, cause: Option<Cause>) -> Meta {
    match (meta.via, cause) {
        (Via::Worker | Via::Server, Some(Cause { correlation_id, event })) => {
            Meta { correlation_id, causation_id: meta.causation_id.or(Some(event)), ..meta.clone() }
        }
        (Via::Worker | Via::Server, None) | (Via::Http | Via::Cli | Via::Library, _) => meta.clone(),
    }
}

/// The actor of a report whose worker is not authenticated. No subject is empty.
pub const UNNAMED_WORKER: &str = "";

/// Records the report of a worker that is not authenticated as done by the worker of the last attempt: the rules accept reports
/// from no other worker.
fn with_worker(meta: Meta, worker: Option<&str>) -> Meta {
    match (meta.via, worker) {
        (Via::Worker, Some(worker)) if meta.actor == UNNAMED_WORKER => Meta { actor: worker.to_owned(), ..meta },
        (Via::Worker | Via::Server | Via::Http | Via::Cli | Via::Library, _) => meta,
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
        collector: &Rc<Collector>,
        command: &QueueCommand,
    ) -> Result<Decided<Queue>, ExecuteError> {
        state.execute(collector, command, now(), &meta(Via::Http)).await
    }

    /// Executes the command. Returns what it waited for at first: the numbers of appends and of reads in the collector.
    async fn waits_for(
        state: &mut StreamState<Queue>,
        collector: &Rc<Collector>,
        command: &QueueCommand,
    ) -> (usize, usize) {
        let mut execution = pin!(execute(state, collector, command));
        assert!(poll!(&mut execution).is_pending());
        let waiting = collector.waiting();
        execution.await.unwrap();
        waiting
    }

    /// The state of a stream whose only event is a pause, and the state of a second actor of the same stream.
    async fn paused() -> (EventStore, Rc<Collector>, StreamState<Queue>, StreamState<Queue>) {
        let store = EventStore::memory();
        let collector = Collector::new(store.clone());
        let mut state = StreamState::new_stream(stream());
        execute(&mut state, &collector, &PAUSE).await.unwrap();
        (store, collector, state, StreamState::unread(stream()))
    }

    #[actix_rt::test]
    async fn only_a_stream_that_was_not_read_yet_is_read_before_a_decision() {
        let collector = Collector::new(EventStore::memory());
        let mut new = StreamState::new_stream(stream());
        assert_eq!(waits_for(&mut new, &collector, &PAUSE).await, (1, 0), "a new stream");
        assert_eq!(waits_for(&mut new, &collector, &RESUME).await, (1, 0), "a stream that is known");
        assert_eq!(waits_for(&mut StreamState::unread(stream()), &collector, &PAUSE).await, (0, 1));
    }

    #[actix_rt::test]
    async fn a_stream_that_was_expected_to_be_new_is_read_after_its_first_write_was_refused() {
        let (store, collector, ..) = paused().await;
        let mut mistaken = StreamState::new_stream(stream());
        let decided = execute(&mut mistaken, &collector, &PAUSE).await.unwrap();
        assert_eq!((decided.appended, decided.revision), (0, Some(Revision(0))), "it is paused already");
        assert_eq!(store.head().position.0, 1);
    }

    #[actix_rt::test]
    async fn a_command_whose_write_expects_an_old_revision_is_decided_again_on_the_new_events() {
        let (store, collector, mut state, mut other) = paused().await;
        execute(&mut other, &collector, &RESUME).await.unwrap();
        let decided = execute(&mut state, &collector, &RESUME).await.unwrap();
        assert_eq!((decided.appended, decided.state.paused), (0, false));
        assert_eq!(store.head().position.0, 2);
    }

    #[actix_rt::test]
    async fn before_the_answer_that_there_is_nothing_to_do_the_newest_events_are_read() {
        let (_, collector, mut state, mut other) = paused().await;
        execute(&mut other, &collector, &RESUME).await.unwrap();
        let decided = execute(&mut state, &collector, &PAUSE).await.unwrap();
        assert_eq!((decided.appended, decided.revision), (1, Some(Revision(2))), "it was resumed by another writer");
    }

    #[actix_rt::test]
    async fn an_event_is_never_dated_before_the_one_before_it() {
        let (store, collector, mut state, mut other) = paused().await;
        let first = store.head().time.unwrap();
        let early = first.since(Timestamp::from_micros(0)).saturating_sub(Duration::from_hours(1));
        let early = Timestamp::from_micros(0).plus(early);
        for (state, command) in [(&mut state, &RESUME), (&mut other, &PAUSE)] {
            state.execute(&collector, command, early, &meta(Via::Http)).await.unwrap();
        }
        let times: Vec<_> = store.read_stream(&stream(), Revision(0)).await.unwrap().iter().map(|e| e.time).collect();
        assert_eq!(times, [first; 3]);
    }

    #[actix_rt::test]
    async fn an_event_of_the_server_names_the_last_request_of_a_client_whether_that_was_read_or_decided_here() {
        let (store, collector, mut state, mut other) = paused().await;
        state.execute(&collector, &RESUME, now(), &meta(Via::Server)).await.unwrap();
        other.execute(&collector, &PAUSE, now(), &meta(Via::Worker)).await.unwrap();
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
        let collector = Collector::new(store.clone());
        let refused = execute(&mut StreamState::unread(stream()), &collector, &PAUSE).await.unwrap_err();
        assert!(matches!(refused, ExecuteError::Read(ReadError::Damaged(_))), "{refused}");
        assert_eq!(store.head().position.0, 1);
    }
}
