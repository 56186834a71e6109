//! Reads. A stream is read from the leader, so the result holds every append that was acknowledged before. The database
//! stores neither Taskbell's positions nor its hashes; [`super::follow`] has assigned them. After a failure of the log, reads
//! that need no positions and hashes still succeed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventstore::{
    Client, Error, ReadStreamOptions, RecordedEvent, StreamPosition, SubscribeToAllOptions, SubscriptionFilter,
};
use tokio::time::Instant;

use super::client::{CallError, error_message};
use super::index::{DatabasePosition, READ_START_INTERVAL, ReadStart};
use super::record;
use super::state::ClusterState;
use crate::store::{Head, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

/// How long a read without a response is repeated.
const RETRY_TIME: Duration = Duration::from_secs(5);
/// How long one request for a stream waits for its response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one request for a part of the log waits for its response. It is long because 1,024 events may have many
/// megabytes.
const PART_RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a read waits until the follower has assigned positions to the events that were read.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// The events of a stream from a revision on, with their positions and hashes.
pub(super) async fn read_stream(
    state: &ClusterState,
    stream: &StreamName,
    from: Revision,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let raw_events = read_raw_stream(state, stream, from).await?;
    let Some(last) = raw_events.last() else { return Ok(Vec::new()) };
    if !state.wait_until_delivered(&[(stream.clone(), Revision(last.revision))], DELIVERY_TIMEOUT).await {
        if let Some(failure) = state.failure() {
            return Err(failure);
        }
        return Err(ReadError::Unavailable("this server has not received these events in their order yet".to_owned()));
    }
    let mut positioned_events = HashMap::new();
    let mut events = Vec::with_capacity(raw_events.len());
    for event in raw_events {
        events.push(find_positioned(state, stream, &event, &mut positioned_events).await?);
    }
    Ok(events)
}

/// The same event with its position and hash. It comes from memory, from `positioned_events`, or from a read of the part of
/// the log that contains it. `positioned_events` collects the stream's events of the parts that were read, by position.
async fn find_positioned(
    state: &ClusterState,
    stream: &StreamName,
    event: &RecordedEvent,
    positioned_events: &mut HashMap<u64, Arc<Recorded>>,
) -> Result<Arc<Recorded>, ReadError> {
    let damaged = || ReadError::Damaged(format!("event {} of {stream} is not what was delivered", event.id));
    let position = state.index.position(stream.as_str(), event.revision).ok_or_else(damaged)?;
    let before = position.saturating_sub(1);
    let recent = state.recent.page(Position(before), 1, usize::MAX).and_then(|page| page.into_iter().next());
    let positioned = if let Some(positioned) = recent.or_else(|| positioned_events.get(&position).cloned()) {
        positioned
    } else {
        let read_start = state.index.read_start_before(before).ok_or_else(damaged)?;
        let last = (read_start.position + READ_START_INTERVAL).min(state.recent.head().position.0);
        let part = read_part(state, read_start, last).await?;
        positioned_events
            .extend(part.into_iter().filter(|event| event.stream == *stream).map(|event| (event.position.0, event)));
        positioned_events.get(&position).cloned().ok_or_else(damaged)?
    };
    if positioned.id == event.id { Ok(positioned) } else { Err(damaged()) }
}

/// The events of a stream from a revision on, for a decision: without positions and hashes. It doesn't wait for the
/// follower.
pub(super) async fn read_for_decision(
    state: &ClusterState,
    stream: &StreamName,
    from: Revision,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let raw_events = read_raw_stream(state, stream, from).await?;
    raw_events.iter().map(|event| record::decode(stream.as_str(), event).map(Arc::new)).collect()
}

/// The events of a stream in the form of the database; empty if the stream doesn't exist.
async fn read_raw_stream(
    state: &ClusterState,
    stream: &StreamName,
    from: Revision,
) -> Result<Vec<RecordedEvent>, ReadError> {
    if i64::try_from(from.0).is_err() {
        return Ok(Vec::new());
    }
    let name = state.url.names.database_name(stream);
    let request = move |client: Client| {
        let name = name.clone();
        async move {
            match request_stream(client, &name, from).await {
                Err(Error::ResourceNotFound) => Ok(Vec::new()),
                found => found,
            }
        }
    };
    read_with_retries(state, RESPONSE_TIMEOUT, request).await
}

async fn request_stream(client: Client, name: &str, from: Revision) -> eventstore::Result<Vec<RecordedEvent>> {
    let options = ReadStreamOptions::default().position(StreamPosition::Position(from.0)).deadline(RESPONSE_TIMEOUT);
    let mut reading = client.read_stream(name, &options).await?;
    let mut raw_events = Vec::new();
    while let Some(read) = reading.next().await? {
        raw_events.extend(read.event);
    }
    Ok(raw_events)
}

/// Sends a read request. Repeats it for [`RETRY_TIME`] while no response comes.
pub(super) async fn read_with_retries<T, F>(
    state: &ClusterState,
    timeout: Duration,
    request: impl Fn(Client) -> F + Clone + Send + 'static,
) -> Result<T, ReadError>
where
    F: Future<Output = eventstore::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let until = Instant::now() + RETRY_TIME;
    loop {
        let why = match state.client.call(until, timeout, request.clone()).await {
            Ok(response) => return Ok(response),
            Err(CallError::Refused(error)) => return Err(refusal(&error)),
            Err(CallError::NotSent(why) | CallError::NoResponse(why)) => why,
        };
        let pause = Duration::from_millis(20);
        if Instant::now() + pause >= until {
            return Err(ReadError::Unavailable(why));
        }
        tokio::time::sleep(pause).await;
    }
}

fn refusal(error: &Error) -> ReadError {
    match error {
        Error::ResourceDeleted => ReadError::Damaged("the stream was deleted in the database".to_owned()),
        error => ReadError::Unavailable(error_message(error)),
    }
}

/// At most `limit` events after a position, up to the head.
pub(super) async fn read_all(
    state: &ClusterState,
    after: Position,
    head: Position,
    limit: usize,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let last = after.0.saturating_add(limit as u64).min(head.0);
    let (mut next, mut events) = (after.0 + 1, Vec::new());
    while next <= last
        && let Some(read_start) = state.index.read_start_before(next - 1)
    {
        let end = (read_start.position + READ_START_INTERVAL).min(last);
        let part = read_part(state, read_start, end).await?;
        events.extend(part.into_iter().filter(|event| event.position.0 >= next));
        next = end + 1;
    }
    Ok(events)
}

/// Reads the events after a read start up to the position `last`. The follower must have delivered them before.
async fn read_part(state: &ClusterState, read_start: ReadStart, last: u64) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let (options, names) = (log_subscription_options(state, read_start.in_database), state.url.names.clone());
    let count = usize::try_from(last - read_start.position).unwrap_or(usize::MAX);
    let request = move |client: Client| {
        let (options, names) = (options.clone(), names.clone());
        async move {
            let mut subscription = client.subscribe_to_all(&options).await;
            let mut raw_events = Vec::with_capacity(count);
            while raw_events.len() < count {
                let event = subscription.next().await?.event;
                raw_events.extend(event.filter(|event| names.log_name(&event.stream_id).is_some()));
            }
            Ok(raw_events)
        }
    };
    let mut head = Head { position: Position(read_start.position), hash: read_start.hash, time: None };
    let mut events = Vec::with_capacity(count);
    for event in read_with_retries(state, PART_RESPONSE_TIMEOUT, request).await? {
        let name = state.url.names.log_name(&event.stream_id).unwrap_or_default();
        events.push(Arc::new(record::assign_position(record::decode(name, &event)?, &mut head)));
    }
    match state.index.hash_at(last) {
        Some(hash) if hash != head.hash => {
            Err(ReadError::Damaged(format!("event {last} or one before it is not what was delivered")))
        }
        _ => Ok(events),
    }
}

/// The options of a subscription to all events of the log after a database position, in order, and to the metadata of the
/// log's streams.
pub(super) fn log_subscription_options(state: &ClusterState, after: Option<DatabasePosition>) -> SubscribeToAllOptions {
    let from = after.map_or(StreamPosition::Start, |position| StreamPosition::Position(position.into()));
    let filter = SubscriptionFilter::on_stream_name().max(CHECKPOINT_WINDOW);
    let filter = state.url.names.filter_prefixes().iter().fold(filter, SubscriptionFilter::add_prefix);
    SubscribeToAllOptions::default().position(from).filter(filter)
}

/// The database sends a checkpoint after this number of events that the filter leaves out.
const CHECKPOINT_WINDOW: u32 = 1000;
