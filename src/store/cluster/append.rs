//! Writes: each append is one request to the database, at its exact expected revision. The revision is the lock on the
//! stream, for the writers of all servers.
//!
//! A request may be executed although its answer is lost. Then the same events, with the same ids, are sent again at the same
//! revision until the database answers: it compares the ids with those behind that revision, writes nothing twice, and gives
//! the first answer once more. Only where it stays silent too long does the caller learn that the outcome is unknown.

use std::collections::HashMap;
use std::time::Duration;

use eventstore::{AppendToStreamOptions, CurrentRevision, Error, EventData, ExpectedRevision};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::client::{CallError, describe};
use super::record;
use super::shared::Shared;
use crate::store::aside::{AsideEvent, AsideExpected, AsideStream};
use crate::store::encoded::EncodedAppend;
use crate::store::{AppendError, Expected, StreamName};
use crate::task::Revision;
use crate::task::backoff::{BackOff, with_jitter};

/// Appends that are under way at the same time; others wait.
const IN_FLIGHT: usize = 256;
/// How long an append that was not sent waits for a client.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an append that was sent waits for its answer altogether, however often it is sent.
const RESOLVE: Duration = Duration::from_secs(10);
/// How long one request waits for its answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long an answer waits until the log's head has reached the append. It is durable already.
const DELIVERY: Duration = Duration::from_secs(5);

pub(super) type Answer = Result<Revision, AppendError>;

/// An append that has its answer.
struct Sent {
    /// Its place among those of the same call.
    index: usize,
    stream: StreamName,
    answer: Answer,
}

pub(super) struct Appends {
    permits: Semaphore,
}

impl Appends {
    pub(super) fn new() -> Self {
        Self { permits: Semaphore::new(IN_FLIGHT) }
    }

    /// Writes the appends: those of one stream in order, others at the same time. The answers are in the order of the
    /// appends; they come when all are known and the head has reached the last of them.
    pub(super) async fn write(&self, shared: &Shared, appends: Vec<EncodedAppend>) -> Vec<Answer> {
        let mut answers = vec![Err(AppendError::Unavailable("the append was not sent".to_owned())); appends.len()];
        // A cluster that is away refuses all of them at the same time, however many wait for their turn.
        let begun = Instant::now();
        let chains = by_stream(appends).into_iter().map(|chain| self.write_in_order(shared, chain, begun));
        let sent: Vec<Sent> = join_all(chains).await.into_iter().flatten().collect();
        let revision = |sent: &Sent| sent.answer.as_ref().ok().map(|revision| (sent.stream.clone(), *revision));
        let written: Vec<_> = sent.iter().filter_map(revision).collect();
        // What is late is durable all the same, unless the log has failed.
        let in_time = shared.wait_until_delivered(&written, DELIVERY).await;
        for sent in sent {
            if let Some(answer) = answers.get_mut(sent.index) {
                *answer = if in_time { sent.answer } else { unless_failed(shared, sent) };
            }
        }
        answers
    }

    /// Writes one event to a stream beside the log.
    pub(super) async fn write_aside(
        &self,
        shared: &Shared,
        stream: AsideStream,
        expected: AsideExpected,
        event: &AsideEvent,
    ) -> Answer {
        let (request, begun) = (Request::aside(shared, stream, expected, event)?, Instant::now());
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        write_one(shared, request, begun).await
    }

    async fn write_in_order(&self, shared: &Shared, chain: Vec<(usize, EncodedAppend)>, begun: Instant) -> Vec<Sent> {
        let mut answers = Vec::with_capacity(chain.len());
        for (index, append) in chain {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await;
            let stream = append.stream.clone();
            let answer = match Request::new(shared, append) {
                Ok(request) => write_one(shared, request, begun).await,
                Err(error) => Err(error),
            };
            answers.push(Sent { index, stream, answer });
        }
        answers
    }
}

/// The answer where not all events were delivered. Once the log has failed, the database that has written them may not be
/// that of this log.
fn unless_failed(shared: &Shared, sent: Sent) -> Answer {
    let revision = sent.answer?;
    match shared.failure() {
        Some(failure) if !shared.is_delivered(&sent.stream, revision, shared.recent.head().position) => {
            Err(AppendError::ReadOnly(failure.to_string()))
        }
        _ => Ok(revision),
    }
}

/// The appends of each stream, in order, each with its place among all of them.
fn by_stream(appends: Vec<EncodedAppend>) -> Vec<Vec<(usize, EncodedAppend)>> {
    let mut chains: Vec<Vec<(usize, EncodedAppend)>> = Vec::new();
    let mut of_stream = HashMap::new();
    for (index, append) in appends.into_iter().enumerate() {
        let chain = *of_stream.entry(append.stream.clone()).or_insert(chains.len());
        match chains.get_mut(chain) {
            Some(chain) => chain.push((index, append)),
            None => chains.push(vec![(index, append)]),
        }
    }
    chains
}

/// One append, ready to be sent as often as necessary.
struct Request {
    stream: String,
    options: AppendToStreamOptions,
    events: Vec<EventData>,
}

impl Request {
    fn new(shared: &Shared, append: EncodedAppend) -> Result<Self, AppendError> {
        let stream = shared.url.names.in_database(&append.stream);
        let expected = match append.expected {
            Expected::NoStream => ExpectedRevision::NoStream,
            Expected::Revision(revision) => ExpectedRevision::Exact(revision.0),
        };
        let options = AppendToStreamOptions::default().expected_revision(expected).deadline(ANSWER);
        let events = append.into_events()?.iter().map(record::proposed).collect::<Result<_, _>>();
        let events =
            events.map_err(|error| AppendError::Unavailable(format!("an event that can't be kept: {error}")))?;
        Ok(Self { stream, options, events })
    }

    fn aside(
        shared: &Shared,
        stream: AsideStream,
        expected: AsideExpected,
        event: &AsideEvent,
    ) -> Result<Self, AppendError> {
        let expected = match expected {
            AsideExpected::Any => ExpectedRevision::Any,
            AsideExpected::NoStream => ExpectedRevision::NoStream,
            AsideExpected::Revision(revision) => ExpectedRevision::Exact(revision.0),
        };
        let options = AppendToStreamOptions::default().expected_revision(expected).deadline(ANSWER);
        let data = EventData::json(event.kind, &event.data);
        let data = data.map_err(|error| AppendError::Unavailable(format!("an event that can't be kept: {error}")))?;
        let stream = shared.url.names.beside(&stream.to_string());
        Ok(Self { stream, options, events: vec![data.id(event.id)] })
    }

    /// Sends the request once.
    async fn send(&self, shared: &Shared, until: Instant) -> Result<Revision, CallError> {
        let (stream, options, events) = (self.stream.clone(), self.options.clone(), self.events.clone());
        let request =
            move |client: eventstore::Client| async move { client.append_to_stream(stream, &options, events).await };
        let written = shared.connection.call(until, ANSWER, request).await?;
        Ok(Revision(written.next_expected_version))
    }
}

/// Sends the request until its outcome is known, or for too long. It has waited since `begun`.
async fn write_one(shared: &Shared, request: Request, begun: Instant) -> Answer {
    let mut until = begun + CONNECT;
    let mut back_off = BackOff::new(Duration::from_millis(20), Duration::from_secs(1));
    let mut may_be_written = false;
    loop {
        let sent = tokio::select! {
            biased;
            failure = shared.failed() => return Err(AppendError::ReadOnly(failure.to_string())),
            sent = request.send(shared, until) => sent,
        };
        let why = match sent {
            Ok(written) => return Ok(written),
            Err(CallError::Refused(error)) => return Err(refusal(&error, may_be_written)),
            Err(CallError::NotSent(why)) => why,
            Err(CallError::NoAnswer(why)) => {
                may_be_written = true;
                until = begun + RESOLVE;
                why
            }
        };
        let pause = with_jitter(back_off.next_pause(), 0.5, fastrand::f64());
        if Instant::now() + pause >= until {
            return Err(if may_be_written { AppendError::Unknown(why) } else { AppendError::Unavailable(why) });
        }
        tokio::time::sleep(pause).await;
    }
}

/// The database has answered, and with an error.
fn refusal(error: &Error, may_be_written: bool) -> AppendError {
    let why = describe(error);
    match error {
        // Had an earlier try been executed, the database would have found its ids and not answered so.
        Error::WrongExpectedVersion { current, .. } => AppendError::WrongExpectedRevision {
            actual: match current {
                CurrentRevision::Current(revision) => Some(Revision(*revision)),
                CurrentRevision::NoStream => None,
            },
        },
        _ if may_be_written => AppendError::Unknown(why),
        Error::Grpc { code, .. } if is_too_large(*code as i32) => AppendError::TooLarge(why),
        _ => AppendError::Unavailable(why),
    }
}

/// Whether the database has refused an append because it is too large.
#[cfg(any(feature = "testing", feature = "cli"))]
pub(super) fn is_refused_for_its_size(error: &Error) -> bool {
    matches!(refusal(error, false), AppendError::TooLarge(_))
}

/// gRPC's `INVALID_ARGUMENT` (the database's limit), `RESOURCE_EXHAUSTED` (the transport's) and `OUT_OF_RANGE`.
fn is_too_large(code: i32) -> bool {
    matches!(code, 3 | 8 | 11)
}
