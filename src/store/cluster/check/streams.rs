//! Checks of streams that are missing or truncated.

use eventstore::{
    AppendToStreamOptions, DeleteStreamOptions, Error, ExpectedRevision, ReadStreamOptions, StreamMetadataBuilder,
};

use super::database::{DatabaseClients, FilteredSubscription, new_event, new_events};
use super::error_text;
use crate::store::conformance::{Outcome, ensure_eq};

pub(super) async fn a_missing_stream_is_said_to_be_missing(database: DatabaseClients) -> Outcome {
    let stream = database.stream("a");
    let read = async { database.client.read_stream(stream, &ReadStreamOptions::default()).await?.next().await };
    match read.await {
        Err(Error::ResourceNotFound) => Ok("not found".to_owned()),
        Err(error) => Err(error_text(&error)),
        Ok(read) => Err(format!("{read:?}")),
    }
}

pub(super) async fn a_truncated_stream_is_seen_in_the_log(database: DatabaseClients) -> Outcome {
    let stream = database.stream("a");
    let (_, first) = new_event()?;
    database.write(&stream, ExpectedRevision::NoStream, &[first]).await?;
    let options = DeleteStreamOptions::default();
    database.client.delete_stream(stream.as_str(), &options).await.map_err(|error| error_text(&error))?;
    let prefixes = [format!("$${}.", database.prefix)];
    let change = FilteredSubscription::begin(&database.other, &prefixes, database.start, 32).await.next_event().await?;
    ensure_eq!("the stream", change.stream_id, format!("$${stream}"));
    let metadata: serde_json::Value = change.as_json().map_err(|error| error.to_string())?;
    match metadata.get("$tb") {
        Some(before) if !before.is_null() => Ok(format!("$tb {before}")),
        Some(_) | None => Err(metadata.to_string()),
    }
}

pub(super) async fn a_stream_with_a_maximum_shows_its_last_events(database: DatabaseClients) -> Outcome {
    let stream = database.stream("a");
    let metadata = StreamMetadataBuilder::new().max_count(2).build();
    let options = AppendToStreamOptions::default();
    let set = database.client.set_stream_metadata(stream.as_str(), &options, &metadata).await;
    set.map_err(|error| error_text(&error))?;
    let (ids, events) = new_events(5)?;
    let written = database.write(&stream, ExpectedRevision::NoStream, &events).await?;
    ensure_eq!("revision", written.next_expected_version, 4);
    ensure_eq!("events that it shows", database.ids(&stream).await?, ids.get(3..).unwrap_or_default());
    Ok("$maxCount 2: the last 2 of 5".to_owned())
}
