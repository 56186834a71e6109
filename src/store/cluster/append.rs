//! Appends. Each append is one request to the database with the exact expected revision. The database refuses a wrong
//! expected revision, so of several writers at the same revision only one succeeds, whichever server they run on.
//!
//! The response may be lost although the database has executed the request. Then the same events, with the same ids, are
//! sent again with the same expected revision until the database responds. The database compares the ids with those of the
//! events after that revision. If they are the same it writes nothing and repeats its first response. If no response comes
//! for too long, the caller gets [`AppendError::Unknown`].

use std::collections::HashMap;
use std::time::Duration;

use eventstore::{AppendToStreamOptions, CurrentRevision, Error, EventData, ExpectedRevision};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::client::{CallError, error_message};
use super::record;
use super::state::ClusterState;
use crate::store::auxiliary::{AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent};
use crate::store::encoded::EncodedAppend;
use crate::store::{AppendError, Expected, StreamName};
use crate::task::Revision;
use crate::task::backoff::{BackOff, with_jitter};

/// The largest number of appends that are sent at the same time. Further appends wait.
const CONCURRENT_APPENDS: usize = 256;
/// How long an append waits for a client before it is sent for the first time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an append that was sent at least once is repeated, counted from its beginning.
const RETRY_TIME: Duration = Duration::from_secs(10);
/// How long one request waits for its response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a durable append waits until its events were delivered to this server.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type AppendResult = Result<Revision, AppendError>;

/// An append with its result. It may have been refused, have timed out, or never have been sent.
struct FinishedAppend {
    /// Its index among the appends of the same call.
    index: usize,
    stream: StreamName,
    result: AppendResult,
}

/// Sends appends and limits how many are sent at the same time.
pub(super) struct AppendSender {
    permits: Semaphore,
}

impl AppendSender {
    pub(super) fn new() -> Self {
        Self { permits: Semaphore::new(CONCURRENT_APPENDS) }
    }

    /// Writes the appends: those of one stream in order, those of different streams at the same time. Returns one result for
    /// each append, in the order of `appends`. It returns when all results are known and all written events were delivered
    /// to this server, or after [`DELIVERY_TIMEOUT`].
    pub(super) async fn write(&self, state: &ClusterState, appends: Vec<EncodedAppend>) -> Vec<AppendResult> {
        let mut results = vec![Err(AppendError::Unavailable("the append was not sent".to_owned())); appends.len()];
        // One start time for all: if the cluster can't be reached, all appends fail at the same time, even those that still
        // wait for a permit.
        let started_at = Instant::now();
        let groups = group_by_stream(appends).into_iter().map(|group| self.write_in_order(state, group, started_at));
        let finished: Vec<FinishedAppend> = join_all(groups).await.into_iter().flatten().collect();
        let revision =
            |append: &FinishedAppend| append.result.as_ref().ok().map(|revision| (append.stream.clone(), *revision));
        let written_events: Vec<_> = finished.iter().filter_map(revision).collect();
        // An append that was not delivered in time is durable nevertheless, unless the log has failed.
        let in_time = state.wait_until_delivered(&written_events, DELIVERY_TIMEOUT).await;
        for append in finished {
            if let Some(result) = results.get_mut(append.index) {
                *result = if in_time { append.result } else { result_without_delivery(state, append) };
            }
        }
        results
    }

    /// Writes one event to an auxiliary stream.
    pub(super) async fn write_auxiliary(
        &self,
        state: &ClusterState,
        stream: AuxiliaryStream,
        expected: AuxiliaryExpected,
        event: &NewAuxiliaryEvent,
    ) -> AppendResult {
        let (request, started_at) = (AppendRequest::auxiliary(state, stream, expected, event)?, Instant::now());
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        send_until_result(state, request, started_at).await
    }

    /// Writes the appends of one stream, one after the other.
    async fn write_in_order(
        &self,
        state: &ClusterState,
        group: Vec<(usize, EncodedAppend)>,
        started_at: Instant,
    ) -> Vec<FinishedAppend> {
        let mut results = Vec::with_capacity(group.len());
        for (index, append) in group {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await;
            let stream = append.stream.clone();
            let result = match AppendRequest::new(state, append) {
                Ok(request) => send_until_result(state, request, started_at).await,
                Err(error) => Err(error),
            };
            results.push(FinishedAppend { index, stream, result });
        }
        results
    }
}

/// The result of one append of a call if not all appends of the call were delivered in time. If the log has failed and this
/// append was not delivered, the result is an error: the events may have been written to another database than that of this
/// log.
fn result_without_delivery(state: &ClusterState, append: FinishedAppend) -> AppendResult {
    let revision = append.result?;
    match state.failure() {
        Some(failure) if !state.is_delivered(&append.stream, revision, state.recent.head().position) => {
            Err(AppendError::ReadOnly(failure.to_string()))
        }
        _ => Ok(revision),
    }
}

/// Groups the appends by stream. Each append has its index in `appends`; the appends of a group are in their order.
fn group_by_stream(appends: Vec<EncodedAppend>) -> Vec<Vec<(usize, EncodedAppend)>> {
    let mut groups: Vec<Vec<(usize, EncodedAppend)>> = Vec::new();
    let mut group_of_stream = HashMap::new();
    for (index, append) in appends.into_iter().enumerate() {
        let group = *group_of_stream.entry(append.stream.clone()).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push((index, append)),
            None => groups.push(vec![(index, append)]),
        }
    }
    groups
}

/// One append as a request that can be sent several times.
struct AppendRequest {
    stream: String,
    options: AppendToStreamOptions,
    events: Vec<EventData>,
}

impl AppendRequest {
    fn new(state: &ClusterState, append: EncodedAppend) -> Result<Self, AppendError> {
        let stream = state.url.names.database_name(&append.stream);
        let expected = match append.expected {
            Expected::NoStream => ExpectedRevision::NoStream,
            Expected::Revision(revision) => ExpectedRevision::Exact(revision.0),
        };
        let options = AppendToStreamOptions::default().expected_revision(expected).deadline(RESPONSE_TIMEOUT);
        let events = append.into_events()?.iter().map(record::to_event_data).collect::<Result<_, _>>();
        let events = events.map_err(|error| AppendError::Invalid(format!("an event can't be encoded: {error}")))?;
        Ok(Self { stream, options, events })
    }

    /// The request that appends one event to an auxiliary stream.
    fn auxiliary(
        state: &ClusterState,
        stream: AuxiliaryStream,
        expected: AuxiliaryExpected,
        event: &NewAuxiliaryEvent,
    ) -> Result<Self, AppendError> {
        let expected = match expected {
            AuxiliaryExpected::Any => ExpectedRevision::Any,
            AuxiliaryExpected::NoStream => ExpectedRevision::NoStream,
            AuxiliaryExpected::Revision(revision) => ExpectedRevision::Exact(revision.0),
        };
        let options = AppendToStreamOptions::default().expected_revision(expected).deadline(RESPONSE_TIMEOUT);
        let data = EventData::json(event.event_type, &event.data);
        let data = data.map_err(|error| AppendError::Invalid(format!("an event can't be encoded: {error}")))?;
        let stream = state.url.names.auxiliary_name(&stream.to_string());
        Ok(Self { stream, options, events: vec![data.id(event.id)] })
    }

    /// Sends the request once.
    async fn send(&self, state: &ClusterState, until: Instant) -> Result<Revision, CallError> {
        let (stream, options, events) = (self.stream.clone(), self.options.clone(), self.events.clone());
        let request =
            move |client: eventstore::Client| async move { client.append_to_stream(stream, &options, events).await };
        let written = state.client.call(until, RESPONSE_TIMEOUT, request).await?;
        Ok(Revision(written.next_expected_version))
    }
}

/// Sends the request, and repeats it until its result is known or the time is over. The time is counted from `started_at`.
async fn send_until_result(state: &ClusterState, request: AppendRequest, started_at: Instant) -> AppendResult {
    let mut until = started_at + CONNECT_TIMEOUT;
    let mut back_off = BackOff::new(Duration::from_millis(20), Duration::from_secs(1));
    let mut may_be_written = false;
    loop {
        let sent = tokio::select! {
            biased;
            failure = state.wait_for_failure() => return Err(AppendError::ReadOnly(failure.to_string())),
            sent = request.send(state, until) => sent,
        };
        let why = match sent {
            Ok(written) => return Ok(written),
            Err(CallError::Refused(error)) => return Err(refusal(&error, may_be_written)),
            Err(CallError::NotSent(why)) => why,
            Err(CallError::NoResponse(why)) => {
                may_be_written = true;
                until = started_at + RETRY_TIME;
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

/// The error of an append that the database has refused.
fn refusal(error: &Error, may_be_written: bool) -> AppendError {
    let why = error_message(error);
    match error {
        // No earlier attempt was executed: otherwise the database would have found the ids of its events and reported
        // success.
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

/// Whether the gRPC code means that the append is too large: `INVALID_ARGUMENT` (the limit of the database),
/// `RESOURCE_EXHAUSTED` (the limit of the transport) or `OUT_OF_RANGE`.
fn is_too_large(code: i32) -> bool {
    matches!(code, 3 | 8 | 11)
}
