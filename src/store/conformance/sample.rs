//! The events and appends that the checks append, and short forms of the store's operations.

use std::sync::Arc;

use serde_json::json;

use crate::store::{
    Append, AppendError, EncodedAppend, EventStore, Expected, LogEvent, Meta, NewEvent, Recorded, StreamName, Via,
    new_id, now,
};
use crate::task::bell::{BellEvent, Seen};
use crate::task::event::{AttemptFailed, Created, Event, Progress, Queued, QueuedReason, TaskError};
use crate::task::{JsonText, Position, Revision, TaskId};

fn sample_meta() -> Meta {
    let request_id = Some("r-1".to_owned());
    Meta { actor: "ann".to_owned(), via: Via::Http, correlation_id: new_id(), causation_id: Some(new_id()), request_id }
}

/// The event with a new id, the current time and sample metadata.
#[must_use]
pub fn new_event(event: impl Into<LogEvent>) -> NewEvent {
    NewEvent { id: new_id(), time: now(), meta: sample_meta(), event: event.into() }
}

/// The first event of a task, with floats and text that is not ASCII.
#[must_use]
pub fn created(title: &str) -> Event {
    created_with_input(title, json!({"ratio": 0.1 + 0.2, "nested": [1, null, "ü\u{1F514}"]}).into())
}

/// The first event of a task with this input.
pub(super) fn created_with_input(title: &str, input: JsonText) -> Event {
    Event::Created(Arc::new(Created {
        kind: "demo.greet".to_owned(),
        title: title.to_owned(),
        owner: "ann".to_owned(),
        input,
        queue: "default".to_owned(),
        priority: 0,
        run_at: Some(now()),
        max_attempts: 3,
        timeout_s: None,
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    }))
}

/// A small event.
#[must_use]
pub fn queued() -> Event {
    Event::Queued(Queued { reason: QueuedReason::RunAt })
}

/// An event with a float of many digits.
#[must_use]
pub fn attempt_failed() -> Event {
    attempt_failed_at(0.123_456_789_012_345_68)
}

/// A failed attempt with this progress fraction.
pub(super) fn attempt_failed_at(fraction: f64) -> Event {
    Event::AttemptFailed(AttemptFailed {
        attempt: 1,
        error: TaskError { code: "io".to_owned(), message: "no".to_owned() },
        retry_at: now(),
        progress: Some(Progress { fraction: Some(fraction), message: None, at: now() }),
    })
}

/// An event of a bell.
#[must_use]
pub fn seen(position: u64) -> BellEvent {
    BellEvent::Seen(Seen { position: Position(position) })
}

/// The name of a new task's stream, which has no event yet.
#[must_use]
pub fn stream() -> StreamName {
    StreamName::task(TaskId::from_uuid(new_id()))
}

/// These events as one append.
#[must_use]
pub fn append(stream: &StreamName, expected: Expected, events: Vec<NewEvent>) -> Append {
    Append { stream: stream.clone(), expected, events }
}

/// The first event of a stream.
#[must_use]
pub fn first(stream: &StreamName, title: &str) -> Append {
    append(stream, Expected::NoStream, vec![new_event(created(title))])
}

/// One event that follows this revision of the stream.
#[must_use]
pub fn next(stream: &StreamName, after: u64) -> Append {
    append(stream, Expected::Revision(Revision(after)), vec![new_event(queued())])
}

/// One append that begins a new stream with this number of events.
pub(super) fn long_append(count: usize) -> Append {
    append(&stream(), Expected::NoStream, (0..count).map(|_| new_event(queued())).collect())
}

/// The JSON of each event, as the API serves it.
#[must_use]
pub fn lines(events: &[Arc<Recorded>]) -> Vec<String> {
    events.iter().map(|event| serde_json::to_string(&**event).unwrap_or_default()).collect()
}

/// The result of one append: the revision of its last event.
pub(super) type AppendResult = Result<Revision, AppendError>;

/// Sends an append that may be refused.
pub(super) async fn try_append(store: &EventStore, append: Append) -> AppendResult {
    let result = store.append_encoded(vec![EncodedAppend::new(append)]).await.pop();
    result.unwrap_or_else(|| Err(AppendError::Unavailable("no result".to_owned())))
}

/// Sends an append that must succeed.
pub(super) async fn must_append(store: &EventStore, append: Append) -> Result<Revision, String> {
    try_append(store, append).await.map_err(|error| error.to_string())
}

/// Sends many appends, of which some may be refused.
pub(super) async fn try_append_many(store: &EventStore, appends: Vec<Append>) -> Vec<AppendResult> {
    store.append_encoded(appends.into_iter().map(EncodedAppend::new).collect()).await
}

/// Every event of the log.
pub(super) async fn all_events(store: &EventStore) -> Result<Vec<Arc<Recorded>>, String> {
    store.read_all(Position(0), usize::MAX).await.map_err(|error| error.to_string())
}

/// Every event of a stream.
pub(super) async fn stream_events(store: &EventStore, stream: &StreamName) -> Result<Vec<Arc<Recorded>>, String> {
    store.read_stream(stream, Revision(0)).await.map_err(|error| error.to_string())
}
