//! The contract of a store: what all stores do ([`exercise`]), what the one in a folder does besides ([`folder`]), and what
//! the one in a shared database does (`cluster`).

use std::sync::Arc;

use serde_json::json;
use taskbell::store::{Append, EventStore, Expected, LogEvent, Meta, NewEvent, Recorded, StreamName, Via, new_id, now};
use taskbell::task::bell::{BellEvent, Seen};
use taskbell::task::event::{AttemptFailed, Created, Event, Progress, Queued, QueuedReason, TaskError};
use taskbell::task::{Position, Revision, TaskId};

#[cfg(feature = "eventstore")]
mod cluster;
mod codec;
mod exercise;
mod folder;

#[cfg(feature = "eventstore")]
pub use cluster::{ANY_PORT, connect, in_time, ready};

fn meta() -> Meta {
    let request_id = Some("r-1".to_owned());
    Meta { actor: "ann".to_owned(), via: Via::Http, correlation_id: new_id(), causation_id: Some(new_id()), request_id }
}

fn new_event(event: impl Into<LogEvent>) -> NewEvent {
    NewEvent { id: new_id(), time: now(), meta: meta(), event: event.into() }
}

fn created(title: &str) -> Event {
    Event::Created(Arc::new(Created {
        kind: "demo.greet".to_owned(),
        title: title.to_owned(),
        owner: "ann".to_owned(),
        input: json!({"ratio": 0.1 + 0.2, "nested": [1, null, "ü\u{1F514}"]}),
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

fn queued() -> Event {
    Event::Queued(Queued { reason: QueuedReason::RunAt })
}

fn attempt_failed() -> Event {
    Event::AttemptFailed(AttemptFailed {
        attempt: 1,
        error: TaskError { code: "io".to_owned(), message: "no".to_owned() },
        retry_at: now(),
        progress: Some(Progress { fraction: Some(0.123_456_789_012_345_68), message: None, at: now() }),
    })
}

fn seen(position: u64) -> BellEvent {
    BellEvent::Seen(Seen { position: Position(position) })
}

fn stream() -> StreamName {
    StreamName::task(TaskId::from_uuid(new_id()))
}

fn append(stream: &StreamName, expected: Expected, events: Vec<NewEvent>) -> Append {
    Append { stream: stream.clone(), expected, events }
}

/// Appends the first event of a stream.
fn first(stream: &StreamName, title: &str) -> Append {
    append(stream, Expected::NoStream, vec![new_event(created(title))])
}

/// Appends one more event after this revision.
fn next(stream: &StreamName, after: u64) -> Append {
    append(stream, Expected::Revision(Revision(after)), vec![new_event(queued())])
}

pub async fn all_events(store: &EventStore) -> Vec<Arc<Recorded>> {
    store.read_all(Position(0), usize::MAX).await.unwrap()
}

/// The events as the API serves them.
pub fn lines(events: &[Arc<Recorded>]) -> Vec<String> {
    events.iter().map(|event| serde_json::to_string(&**event).unwrap()).collect()
}
