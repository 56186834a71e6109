//! Reads. A stream is read from the leader, so the answer holds every append that was acknowledged before. The database
//! knows neither positions nor hashes: they come from what the follower has numbered. After a failure of the log, reads that
//! need neither go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventstore::{
    Client, Error, ReadStreamOptions, RecordedEvent, StreamPosition, SubscribeToAllOptions, SubscriptionFilter,
};
use tokio::time::Instant;

use super::client::{CallError, describe};
use super::index::{EVERY, Mark, Place};
use super::record;
use super::shared::Shared;
use crate::store::{Head, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

/// How long a read is sent again while it has no answer.
const RESOLVE: Duration = Duration::from_secs(5);
/// How long the read of a stream waits for its answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long the read of a part of the log waits for its answer: 1,024 events may be many megabytes.
const PART_ANSWER: Duration = Duration::from_secs(30);
/// How long a read waits until the follower has numbered the events that it found.
const DELIVERY: Duration = Duration::from_secs(5);

/// The events of a stream that have a place in the log.
pub(super) async fn stream(
    shared: &Shared,
    stream: &StreamName,
    from: Revision,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let found = raw_stream(shared, stream, from).await?;
    let Some(last) = found.last() else { return Ok(Vec::new()) };
    if !shared.wait_until_delivered(&[(stream.clone(), Revision(last.revision))], DELIVERY).await {
        if let Some(failure) = shared.failure() {
            return Err(failure);
        }
        return Err(ReadError::Unavailable("this server has not received these events in their order yet".to_owned()));
    }
    let mut known = HashMap::new();
    let mut events = Vec::with_capacity(found.len());
    for event in found {
        events.push(locate(shared, stream, &event, &mut known).await?);
    }
    Ok(events)
}

/// The same event with its position and hash: from memory, or from a read of the part of the log that it lies in. `known`
/// keeps the stream's events of that part, by position.
async fn locate(
    shared: &Shared,
    stream: &StreamName,
    event: &RecordedEvent,
    known: &mut HashMap<u64, Arc<Recorded>>,
) -> Result<Arc<Recorded>, ReadError> {
    let damaged = || ReadError::Damaged(format!("event {} of {stream} is not what was delivered", event.id));
    let position = shared.index.position(stream.as_str(), event.revision).ok_or_else(damaged)?;
    let before = position.saturating_sub(1);
    let recent = shared.recent.page(Position(before), 1).and_then(|page| page.into_iter().next());
    let located = if let Some(located) = recent.or_else(|| known.get(&position).cloned()) {
        located
    } else {
        let mark = shared.index.mark(before).ok_or_else(damaged)?;
        let last = (mark.position + EVERY).min(shared.recent.head().position.0);
        let part = part(shared, mark, last).await?;
        known.extend(part.into_iter().filter(|event| event.stream == *stream).map(|event| (event.position.0, event)));
        known.get(&position).cloned().ok_or_else(damaged)?
    };
    if located.id == event.id { Ok(located) } else { Err(damaged()) }
}

/// The events of a stream as a decision needs them: without positions and hashes, and without a wait for the follower.
pub(super) async fn past(
    shared: &Shared,
    stream: &StreamName,
    from: Revision,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let found = raw_stream(shared, stream, from).await?;
    found.iter().map(|event| record::decode(stream.as_str(), event).map(Arc::new)).collect()
}

async fn raw_stream(shared: &Shared, stream: &StreamName, from: Revision) -> Result<Vec<RecordedEvent>, ReadError> {
    if i64::try_from(from.0).is_err() {
        return Ok(Vec::new());
    }
    let name = shared.url.names.in_database(stream);
    let request = move |client: Client| {
        let name = name.clone();
        async move {
            match read_stream(client, &name, from).await {
                Err(Error::ResourceNotFound) => Ok(Vec::new()),
                found => found,
            }
        }
    };
    resolve(shared, ANSWER, request).await
}

async fn read_stream(client: Client, name: &str, from: Revision) -> eventstore::Result<Vec<RecordedEvent>> {
    let options = ReadStreamOptions::default().position(StreamPosition::Position(from.0)).deadline(ANSWER);
    let mut reading = client.read_stream(name, &options).await?;
    let mut found = Vec::new();
    while let Some(read) = reading.next().await? {
        found.extend(read.event);
    }
    Ok(found)
}

/// Sends a read until it is answered.
pub(super) async fn resolve<T, F>(
    shared: &Shared,
    patience: Duration,
    request: impl Fn(Client) -> F + Clone + Send + 'static,
) -> Result<T, ReadError>
where
    F: Future<Output = eventstore::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let until = Instant::now() + RESOLVE;
    loop {
        let why = match shared.connection.call(until, patience, request.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(CallError::Refused(error)) => return Err(refusal(&error)),
            Err(CallError::NotSent(why) | CallError::NoAnswer(why)) => why,
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
        error => ReadError::Unavailable(describe(error)),
    }
}

/// At most `limit` events after a position, up to the head.
pub(super) async fn all(
    shared: &Shared,
    after: Position,
    head: Position,
    limit: usize,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let last = after.0.saturating_add(limit as u64).min(head.0);
    let (mut next, mut found) = (after.0 + 1, Vec::new());
    while next <= last
        && let Some(mark) = shared.index.mark(next - 1)
    {
        let end = (mark.position + EVERY).min(last);
        let part = part(shared, mark, end).await?;
        found.extend(part.into_iter().filter(|event| event.position.0 >= next));
        next = end + 1;
    }
    Ok(found)
}

/// The events after a mark up to a position, which the follower has delivered before.
async fn part(shared: &Shared, mark: Mark, last: u64) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let (options, names) = (subscription(shared, mark.place), shared.url.names.clone());
    let count = usize::try_from(last - mark.position).unwrap_or(usize::MAX);
    let request = move |client: Client| {
        let (options, names) = (options.clone(), names.clone());
        async move {
            let mut subscription = client.subscribe_to_all(&options).await;
            let mut found = Vec::with_capacity(count);
            while found.len() < count {
                let event = subscription.next().await?.event;
                found.extend(event.filter(|event| names.shown(&event.stream_id).is_some()));
            }
            Ok(found)
        }
    };
    let mut head = Head { position: Position(mark.position), hash: mark.hash, time: None };
    let mut events = Vec::with_capacity(count);
    for event in resolve(shared, PART_ANSWER, request).await? {
        let name = shared.url.names.shown(&event.stream_id).unwrap_or_default();
        events.push(Arc::new(record::number(record::decode(name, &event)?, &mut head)));
    }
    match shared.index.hash_at(last) {
        Some(hash) if hash != head.hash => {
            Err(ReadError::Damaged(format!("event {last} or one before it is not what was delivered")))
        }
        _ => Ok(events),
    }
}

/// All events of the log after a place, in order, and the metadata of its streams.
pub(super) fn subscription(shared: &Shared, after: Option<Place>) -> SubscribeToAllOptions {
    let from = after.map_or(StreamPosition::Start, |place| StreamPosition::Position(place.into()));
    let filter = SubscriptionFilter::on_stream_name().max(WINDOW);
    let filter = shared.url.names.filters().iter().fold(filter, SubscriptionFilter::add_prefix);
    SubscribeToAllOptions::default().position(from).filter(filter)
}

/// The database sends a checkpoint after so many events of others.
const WINDOW: u32 = 1000;
