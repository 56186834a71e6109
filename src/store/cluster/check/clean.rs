//! What the checks leave behind: their streams are found and soft-deleted.

use std::collections::HashSet;

use eventstore::{Client, DeleteStreamOptions, Error, Position, ReadAllOptions, StreamPosition, SubscriptionEvent};
use futures_util::future::join_all;

use super::database::Following;
use super::said;
use crate::store::cluster::index::Place;

/// Streams that are deleted at the same time.
const AT_ONCE: usize = 32;

/// What is left in the database.
#[derive(Clone, Debug)]
pub struct Left {
    /// What the names of all streams begin with.
    pub prefix: String,
    /// The streams, all soft-deleted unless there is a failure.
    pub streams: Vec<String>,
    /// Their events; a scavenge removes all but the last of each stream.
    pub events: u64,
    /// Why streams could not be found or deleted.
    pub failure: Option<String>,
}

/// The last place of the database's log; none where it is empty.
pub(super) async fn end(client: &Client) -> Result<Option<Place>, String> {
    let options = ReadAllOptions::default().backwards().position(StreamPosition::End).max_count(1);
    let last = async { client.read_all(&options).await?.next().await };
    let last = last.await.map_err(|error| said(&error))?;
    Ok(last.and_then(|last| last.event).map(|event| event.position.into()))
}

/// Soft-deletes every stream that came after `start` and whose name begins with `prefix`.
pub(super) async fn clean(client: &Client, start: StreamPosition<Position>, prefix: &str) -> Result<Left, String> {
    let (streams, events) = find(client, start, prefix).await?;
    let mut failure = None;
    for some in streams.chunks(AT_ONCE) {
        let options = DeleteStreamOptions::default();
        let deleting = some.iter().map(|stream| client.delete_stream(stream.as_str(), &options));
        for (deleted, stream) in join_all(deleting).await.into_iter().zip(some) {
            match deleted {
                // A check has deleted it.
                Ok(_) | Err(Error::ResourceDeleted) => {}
                Err(error) => failure = Some(format!("{stream}: {}", said(&error))),
            }
        }
    }
    Ok(Left { prefix: prefix.to_owned(), streams, events, failure })
}

/// The streams in the order of their first events, and how many events they have.
async fn find(client: &Client, start: StreamPosition<Position>, prefix: &str) -> Result<(Vec<String>, u64), String> {
    let (mut known, mut streams, mut events) = (HashSet::new(), Vec::new(), 0);
    let mut following = Following::begin(client, &[prefix.to_owned()], start, 1000).await;
    loop {
        match following.next().await? {
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
