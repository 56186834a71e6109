//! Checks of streams that are missing or truncated.

use eventstore::{
    AppendToStreamOptions, DeleteStreamOptions, Error, ExpectedRevision, ReadStreamOptions, StreamMetadataBuilder,
};

use super::database::{FilteredSubscription, RuleContext, new_event, new_events};
use super::error_text;
use crate::store::conformance::{CheckResult, ensure_eq};

pub(super) async fn a_read_of_a_missing_stream_reports_that_it_is_missing(context: RuleContext) -> CheckResult {
    let stream = context.stream("a");
    let read = async { context.client.read_stream(stream, &ReadStreamOptions::default()).await?.next().await };
    match read.await {
        Err(Error::ResourceNotFound) => Ok("not found".to_owned()),
        Err(error) => Err(error_text(&error)),
        Ok(read) => Err(format!("{read:?}")),
    }
}

pub(super) async fn a_filtered_subscription_receives_the_metadata_of_a_truncated_stream(
    context: RuleContext,
) -> CheckResult {
    let stream = context.stream("a");
    let (_, first) = new_event()?;
    context.append(&stream, ExpectedRevision::NoStream, &[first]).await?;
    let options = DeleteStreamOptions::default();
    context.client.delete_stream(stream.as_str(), &options).await.map_err(|error| error_text(&error))?;
    let prefixes = [format!("$${}.", context.prefix)];
    let change =
        FilteredSubscription::begin(&context.second_client, &prefixes, context.start, 32).await.next_event().await?;
    ensure_eq!("the stream", change.stream_id, format!("$${stream}"));
    let metadata: serde_json::Value = change.as_json().map_err(|error| error.to_string())?;
    match metadata.get("$tb") {
        Some(before) if !before.is_null() => Ok(format!("$tb {before}")),
        Some(_) | None => Err(metadata.to_string()),
    }
}

pub(super) async fn a_stream_with_a_maximum_count_returns_only_its_last_events(context: RuleContext) -> CheckResult {
    let stream = context.stream("a");
    let metadata = StreamMetadataBuilder::new().max_count(2).build();
    let options = AppendToStreamOptions::default();
    let set = context.client.set_stream_metadata(stream.as_str(), &options, &metadata).await;
    set.map_err(|error| error_text(&error))?;
    let (ids, events) = new_events(5)?;
    let written = context.append(&stream, ExpectedRevision::NoStream, &events).await?;
    ensure_eq!("revision", written.next_expected_version, 4);
    ensure_eq!("events that it shows", context.ids(&stream).await?, ids.get(3..).unwrap_or_default());
    Ok("$maxCount 2: the last 2 of 5".to_owned())
}
