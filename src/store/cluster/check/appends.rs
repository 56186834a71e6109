//! Checks of appends: wrong expected revisions, repeated appends, sizes.

use eventstore::{CurrentRevision, Error, EventData, ExpectedRevision, ReadStreamOptions};
use serde_json::value::RawValue;

use super::database::{AppendResult, DatabaseClients, new_event, new_events};
use super::error_text;
use crate::store::conformance::{Outcome, ensure, ensure_eq};
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

pub(super) async fn an_append_that_is_repeated_is_written_once_and_has_its_first_answer(
    database: DatabaseClients,
) -> Outcome {
    let stream = database.stream("a");
    let (ids, events) = new_events(3)?;
    let first = database.write(&stream, ExpectedRevision::NoStream, &events).await?;
    let again = database.write(&stream, ExpectedRevision::NoStream, &events).await?;
    let answers = [&first, &again].map(|written| (written.next_expected_version, written.position));
    ensure_eq!("the second answer", answers[1], answers[0]);
    ensure_eq!("revision", answers[0].0, 2);
    ensure_eq!("events of the stream", database.ids(&stream).await?, ids);
    Ok("revision 2 twice, 3 events".to_owned())
}

pub(super) async fn an_append_that_is_repeated_after_later_ones_has_its_first_answer(
    database: DatabaseClients,
) -> Outcome {
    let stream = database.stream("a");
    let (ids, events) = new_events(6)?;
    let [one, two, three] = [0..1, 1..3, 3..6].map(|range| events.get(range).unwrap_or_default());
    let at = ExpectedRevision::Exact;
    for (expected, events) in [(ExpectedRevision::NoStream, one), (at(0), two), (at(2), three)] {
        database.write(&stream, expected, events).await?;
    }
    for (expected, events, revision) in [(ExpectedRevision::NoStream, one, 0), (at(0), two, 2), (at(2), three, 5)] {
        let written = database.write(&stream, expected, events).await?;
        ensure_eq!("revision of a repetition", written.next_expected_version, revision);
    }
    ensure_eq!("events of the stream", database.ids(&stream).await?, ids);
    Ok("3 appends repeated, their first revisions, 6 events".to_owned())
}

pub(super) async fn other_events_at_an_old_revision_are_refused_with_the_last_one(
    database: DatabaseClients,
) -> Outcome {
    let stream = database.stream("a");
    let (_, events) = new_events(3)?;
    database.write(&stream, ExpectedRevision::NoStream, &events).await?;
    let (_, other) = new_event()?;
    let other = [other];
    for expected in [ExpectedRevision::NoStream, ExpectedRevision::Exact(0), ExpectedRevision::Exact(7)] {
        let refused = database.append(&stream, expected, &other).await;
        ensure!(is_conflict(&refused, Some(2)), "at {expected}: {refused:?}");
    }
    let missing = database.append(&database.stream("b"), ExpectedRevision::Exact(0), &other).await;
    ensure!(is_conflict(&missing, None), "a missing stream at revision 0: {missing:?}");
    Ok("4 refusals, each with the last revision".to_owned())
}

pub(super) async fn a_repeated_append_whose_later_events_differ_writes_nothing(database: DatabaseClients) -> Outcome {
    let stream = database.stream("a");
    let (ids, events) = new_events(2)?;
    database.write(&stream, ExpectedRevision::NoStream, &events).await?;
    let (_, other) = new_event()?;
    let mixed: Vec<EventData> = events.into_iter().take(1).chain([other]).collect();
    let refused = database.append(&stream, ExpectedRevision::NoStream, &mixed).await;
    let Err(error) = refused else { return Err("it was accepted".to_owned()) };
    ensure_eq!("events of the stream", database.ids(&stream).await?, ids);
    Ok(error_text(&error))
}

pub(super) async fn the_bytes_of_an_event_are_kept(database: DatabaseClients) -> Outcome {
    let stream = database.stream("a");
    let [data, metadata] =
        [r#"{"n":1.00,"text":"ü\u00fc\n","long":123456789012345678901234567890}"#, r#"{"k":[1e2, null]}"#];
    let raw = |text: &str| RawValue::from_string(text.to_owned()).map_err(|error| error.to_string());
    let (data, metadata) = (raw(data)?, raw(metadata)?);
    let event = EventData::json("Checked", &data).and_then(|event| event.id(new_id()).metadata_as_json(&metadata));
    database.write(&stream, ExpectedRevision::NoStream, &[event.map_err(|error| error.to_string())?]).await?;
    let read = async { database.client.read_stream(stream, &ReadStreamOptions::default()).await?.next().await };
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

pub(super) async fn an_append_of_900_kilobytes_is_written(database: DatabaseClients) -> Outcome {
    let events = [large(450_000)?, large(450_000)?];
    let written = database.write(&database.stream("a"), ExpectedRevision::NoStream, &events).await?;
    ensure_eq!("revision", written.next_expected_version, 1);
    Ok("2 events of 450 kB in one append".to_owned())
}

pub(super) async fn an_append_of_2_megabytes_is_written_or_refused_because_of_its_size(
    database: DatabaseClients,
) -> Outcome {
    let stream = database.stream("a");
    let seen = match database.append(&stream, ExpectedRevision::NoStream, &[large(2_000_000)?]).await {
        Ok(_) => return Ok("written".to_owned()),
        Err(error) if super::super::append::is_refused_for_its_size(&error) => error_text(&error),
        Err(error) => return Err(error_text(&error)),
    };
    let (_, small) = new_event()?;
    let next = database.write(&stream, ExpectedRevision::NoStream, &[small]).await?;
    ensure_eq!("the stream after it", next.next_expected_version, 0);
    Ok(format!("refused: {seen}"))
}
