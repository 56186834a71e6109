//! Cleans up after the checks: finds the streams that they have written, and soft-deletes them.

use std::collections::HashSet;

use eventstore::{Client, DeleteStreamOptions, Error, Position, ReadAllOptions, StreamPosition, SubscriptionEvent};
use futures_util::future::join_all;

use super::database::FilteredSubscription;
use super::error_text;
use crate::store::cluster::index::DatabasePosition;

/// The number of streams that are deleted at the same time.
const CONCURRENT_DELETES: usize = 32;

/// The streams that the checks leave in the database.
#[derive(Clone, Debug)]
pub struct LeftoverStreams {
    /// The prefix of the names of all these streams.
    pub prefix: String,
    /// The names of the streams. All are soft-deleted unless there is a failure.
    pub streams: Vec<String>,
    /// The number of their events. A scavenge removes all but the last event of each stream.
    pub events: u64,
    /// Why streams could not be found or deleted.
    pub failure: Option<String>,
}

/// The last position of the database's log; `None` if it is empty.
pub(super) async fn last_position(client: &Client) -> Result<Option<DatabasePosition>, String> {
    let options = ReadAllOptions::default().backwards().position(StreamPosition::End).max_count(1);
    let last = async { client.read_all(&options).await?.next().await };
    let last = last.await.map_err(|error| error_text(&error))?;
    Ok(last.and_then(|last| last.event).map(|event| event.position.into()))
}

/// Soft-deletes every stream that has an event after `start` and whose name begins with `prefix`.
pub(super) async fn delete_streams(
    client: &Client,
    start: StreamPosition<Position>,
    prefix: &str,
) -> Result<LeftoverStreams, String> {
    let (streams, events) = find_streams(client, start, prefix).await?;
    let mut failure = None;
    for chunk in streams.chunks(CONCURRENT_DELETES) {
        let options = DeleteStreamOptions::default();
        let deleting = chunk.iter().map(|stream| client.delete_stream(stream.as_str(), &options));
        for (deleted, stream) in join_all(deleting).await.into_iter().zip(chunk) {
            match deleted {
                // `ResourceDeleted`: a check has already deleted the stream.
                Ok(_) | Err(Error::ResourceDeleted) => {}
                Err(error) => failure = Some(format!("{stream}: {}", error_text(&error))),
            }
        }
    }
    Ok(LeftoverStreams { prefix: prefix.to_owned(), streams, events, failure })
}

/// The names of the streams in the order of their first events, and the number of their events.
async fn find_streams(
    client: &Client,
    start: StreamPosition<Position>,
    prefix: &str,
) -> Result<(Vec<String>, u64), String> {
    let (mut known, mut streams, mut events) = (HashSet::new(), Vec::new(), 0);
    let mut subscription = FilteredSubscription::begin(client, &[prefix.to_owned()], start, 1000).await;
    loop {
        match subscription.next().await? {
            SubscriptionEvent::EventAppeared(event) => {
                events += 1;
                let stream = event.event.map(|event| event.stream_id).unwrap_or_default();
                if known.insert(stream.clone()) {
                    streams.push(stream);
                }
            }
            SubscriptionEvent::CaughtUp => return Ok((streams, events)),
            _ => {}
        }
    }
}
