//! Checks of appends: wrong expected revisions, repeated appends, sizes.

use eventstore::{CurrentRevision, Error, EventData, ExpectedRevision, ReadStreamOptions};
use serde_json::value::RawValue;

use super::database::{AppendResult, RuleContext, new_event, new_events};
use super::error_text;
use crate::store::conformance::{CheckResult, ensure, ensure_eq};
use crate::store::new_id;

/// Whether the append was refused because the last revision of the stream is `last`, or because the stream is missing if
/// `last` is `None`.
fn is_conflict(written: &AppendResult, last: Option<u64>) -> bool {
    match written {
        Err(Error::WrongExpectedVersion { current: CurrentRevision::Current(current), .. }) => Some(*current) == last,
        Err(Error::WrongExpectedVersion { current: CurrentRevision::NoStream, .. }) => last.is_none(),
        Ok(_) | Err(_) => false,
    }
}

pub(super) async fn a_repeated_append_is_written_once_and_gets_its_first_response_again(
    context: RuleContext,
) -> CheckResult {
    let stream = context.stream("a");
    let (ids, events) = new_events(3)?;
    let first = context.append(&stream, ExpectedRevision::NoStream, &events).await?;
    let again = context.append(&stream, ExpectedRevision::NoStream, &events).await?;
    let responses = [&first, &again].map(|written| (written.next_expected_version, written.position));
    ensure_eq!("the second response", responses[1], responses[0]);
    ensure_eq!("revision", responses[0].0, 2);
    ensure_eq!("events of the stream", context.ids(&stream).await?, ids);
    Ok("revision 2 twice, 3 events".to_owned())
}

pub(super) async fn an_append_that_is_repeated_after_later_ones_gets_its_first_response_again(
    context: RuleContext,
) -> CheckResult {
    let stream = context.stream("a");
    let (ids, events) = new_events(6)?;
    let [one, two, three] = [0..1, 1..3, 3..6].map(|range| events.get(range).unwrap_or_default());
    let at = ExpectedRevision::Exact;
    for (expected, events) in [(ExpectedRevision::NoStream, one), (at(0), two), (at(2), three)] {
        context.append(&stream, expected, events).await?;
    }
    for (expected, events, revision) in [(ExpectedRevision::NoStream, one, 0), (at(0), two, 2), (at(2), three, 5)] {
        let written = context.append(&stream, expected, events).await?;
        ensure_eq!("revision of a repetition", written.next_expected_version, revision);
    }
    ensure_eq!("events of the stream", context.ids(&stream).await?, ids);
    Ok("3 appends repeated, their first revisions, 6 events".to_owned())
}

pub(super) async fn other_events_at_an_old_revision_are_refused_and_the_error_names_the_last_revision(
    context: RuleContext,
) -> CheckResult {
    let stream = context.stream("a");
    let (_, events) = new_events(3)?;
    context.append(&stream, ExpectedRevision::NoStream, &events).await?;
    let (_, other) = new_event()?;
    let other = [other];
    for expected in [ExpectedRevision::NoStream, ExpectedRevision::Exact(0), ExpectedRevision::Exact(7)] {
        let refused = context.try_append(&stream, expected, &other).await;
        ensure!(is_conflict(&refused, Some(2)), "at {expected}: {refused:?}");
    }
    let missing = context.try_append(&context.stream("b"), ExpectedRevision::Exact(0), &other).await;
    ensure!(is_conflict(&missing, None), "a missing stream at revision 0: {missing:?}");
    Ok("4 refusals, each with the last revision".to_owned())
}

pub(super) async fn a_repeated_append_whose_later_events_differ_writes_nothing(context: RuleContext) -> CheckResult {
    let stream = context.stream("a");
    let (ids, events) = new_events(2)?;
    context.append(&stream, ExpectedRevision::NoStream, &events).await?;
    let (_, other) = new_event()?;
    let mixed: Vec<EventData> = events.into_iter().take(1).chain([other]).collect();
    let refused = context.try_append(&stream, ExpectedRevision::NoStream, &mixed).await;
    let Err(error) = refused else { return Err("it was accepted".to_owned()) };
    ensure_eq!("events of the stream", context.ids(&stream).await?, ids);
    Ok(error_text(&error))
}

pub(super) async fn the_bytes_of_an_event_are_kept(context: RuleContext) -> CheckResult {
    let stream = context.stream("a");
    let [data, metadata] =
        [r#"{"n":1.00,"text":"ü\u00fc\n","long":123456789012345678901234567890}"#, r#"{"k":[1e2, null]}"#];
    let raw = |text: &str| RawValue::from_string(text.to_owned()).map_err(|error| error.to_string());
    let (data, metadata) = (raw(data)?, raw(metadata)?);
    let event = EventData::json("Checked", &data).and_then(|event| event.id(new_id()).metadata_as_json(&metadata));
    context.append(&stream, ExpectedRevision::NoStream, &[event.map_err(|error| error.to_string())?]).await?;
    let read = async { context.client.read_stream(stream, &ReadStreamOptions::default()).await?.next().await };
    let event = read.await.map_err(|error| error_text(&error))?.and_then(|read| read.event);
    let event = event.ok_or("the event is missing")?;
    ensure_eq!("data", String::from_utf8_lossy(&event.data), data.get());
    ensure_eq!("metadata", String::from_utf8_lossy(&event.custom_metadata), metadata.get());
    ensure_eq!("type and revision", (event.event_type.as_str(), event.revision), ("Checked", 0));
    Ok("data and metadata byte for byte".to_owned())
}

/// An event with this number of bytes of data.
fn large(bytes: usize) -> Result<EventData, String> {
    let event = EventData::json("Checked", &"x".repeat(bytes.saturating_sub(2)));
    Ok(event.map_err(|error| error.to_string())?.id(new_id()))
}

pub(super) async fn an_append_of_900_kilobytes_is_written(context: RuleContext) -> CheckResult {
    let events = [large(450_000)?, large(450_000)?];
    let written = context.append(&context.stream("a"), ExpectedRevision::NoStream, &events).await?;
    ensure_eq!("revision", written.next_expected_version, 1);
    Ok("2 events of 450 kB in one append".to_owned())
}

pub(super) async fn an_append_of_2_megabytes_is_written_or_refused_because_of_its_size(
    context: RuleContext,
) -> CheckResult {
    let stream = context.stream("a");
    let observed = match context.try_append(&stream, ExpectedRevision::NoStream, &[large(2_000_000)?]).await {
        Ok(_) => return Ok("written".to_owned()),
        Err(error) if super::super::append::is_refused_for_its_size(&error) => error_text(&error),
        Err(error) => return Err(error_text(&error)),
    };
    let (_, small) = new_event()?;
    let next = context.append(&stream, ExpectedRevision::NoStream, &[small]).await?;
    ensure_eq!("the stream after it", next.next_expected_version, 0);
    Ok(format!("refused: {observed}"))
}
