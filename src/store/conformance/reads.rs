//! Checks of reads and of the hashes.

use std::sync::Arc;

use super::sample::{
    all_events, append, attempt_failed, created, created_with_input, first, lines, new_event, next, queued, seen,
    stream, stream_events, try_append, try_append_many,
};
use super::{CheckResult, ensure, ensure_eq};
use crate::store::{EventStore, Expected, Hash, LogEvent, ReadError, Recorded, StreamName, chain};
use crate::task::{Event, JsonText, Position, Revision};

pub(super) async fn a_new_log_is_empty_and_healthy(store: EventStore) -> CheckResult {
    let head = store.head();
    ensure_eq!("head", (head.position, head.hash, head.time), (Position(0), Hash::ZERO, None));
    ensure_eq!("health", store.health(), Ok(()));
    ensure_eq!("id of the log", store.clone().epoch(), store.epoch());
    ensure_eq!("version of its id", store.epoch().get_version_num(), 7);
    ensure_eq!("events in the log", all_events(&store).await?.len(), 0);
    ensure_eq!("events of a stream", stream_events(&store, &stream()).await?.len(), 0);
    Ok(format!("position 0, id {}", store.epoch()))
}

pub(super) async fn an_event_is_read_back_as_it_was_written(store: EventStore) -> CheckResult {
    let (task, bell) = (stream(), StreamName::bell("ann ü"));
    let events = vec![new_event(created("Zoë's \"task\"\n")), new_event(queued()), new_event(attempt_failed())];
    let written = try_append(&store, append(&task, Expected::NoStream, events.clone())).await;
    ensure_eq!("three events", written, Ok(Revision(2)));
    let bell_event = new_event(seen(3));
    let written = try_append(&store, append(&bell, Expected::NoStream, vec![bell_event.clone()])).await;
    ensure_eq!("an event of a bell", written, Ok(Revision(0)));
    let read = stream_events(&store, &task).await?;
    ensure_eq!("events of the stream", read.len(), 3);
    for ((revision, read), written) in (0..).zip(&read).zip(&events) {
        let numbers = (read.revision, read.position, read.version);
        ensure_eq!("place", numbers, (Revision(revision), Position(revision + 1), 1));
        ensure_eq!("id and time", (read.id, read.time, &read.stream), (written.id, written.time, &task));
        ensure_eq!("event", (&read.meta, &read.event), (&written.meta, &written.event));
    }
    let read = stream_events(&store, &bell).await?;
    let read = read.first().map(|event| (event.event_type, event.event.clone(), event.position));
    ensure_eq!("event of the bell", read, Some(("Seen", bell_event.event, Position(4))));
    Ok("4 events, text and floats unchanged".to_owned())
}

pub(super) async fn characters_that_end_a_line_are_stored_as_escapes(store: EventStore) -> CheckResult {
    const LINE_ENDS: &str = "\u{85} \u{2028} \u{2029}";
    let task = stream();
    let input: JsonText =
        format!(r#"{{"a{LINE_ENDS}":"b{LINE_ENDS}"}}"#).parse().map_err(|_| "the input is no JSON")?;
    let mut event = new_event(created_with_input(LINE_ENDS, input.clone()));
    LINE_ENDS.clone_into(&mut event.meta.actor);
    let mut live = store.subscribe(Position(0));
    let written = try_append(&store, append(&task, Expected::NoStream, vec![event.clone()])).await;
    ensure_eq!("the append", written, Ok(Revision(0)));
    let live = live.next().await.map_err(|error| error.to_string())?;
    let read = stream_events(&store, &task).await?;
    ensure_eq!("the event that is read later", lines(&read), lines(&live));
    let Some(read) = read.first() else { return Err("no event".to_owned()) };
    let texts = [read.raw_meta.get(), read.raw_data.get()];
    for (text, count) in texts.into_iter().zip([1, 3]) {
        ensure!(!text.contains(['\u{85}', '\u{2028}', '\u{2029}']), "not escaped: {text:?}");
        ensure_eq!("escapes", text.matches("\\u0085 \\u2028 \\u2029").count(), count);
    }
    ensure_eq!("actor", read.meta, event.meta);
    let Some(LogEvent::Task(Event::Created(read_data))) = live.first().map(|event| &event.event) else {
        return Err("another event".to_owned());
    };
    ensure_eq!("title", read_data.title, LINE_ENDS);
    ensure_eq!("value of the input", read_data.input.to_value(), input.to_value());
    ensure!(texts[1].contains(read_data.input.as_str()), "another text of the input: {:?}", read_data.input);
    Ok("U+0085, U+2028 and U+2029 are escapes in meta and data, and the same characters in the event".to_owned())
}

pub(super) async fn the_log_can_be_read_in_pages(store: EventStore) -> CheckResult {
    let written = try_append_many(&store, (0..25).map(|n| first(&stream(), &n.to_string())).collect()).await;
    ensure!(written.iter().all(Result::is_ok), "{written:?}");
    let read = async |after, limit| store.read_all(after, limit).await.map_err(|error| error.to_string());
    let mut pages = Vec::new();
    let mut after = Position(0);
    loop {
        let page = read(after, 10).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        pages.push(page);
    }
    ensure_eq!("pages", pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    ensure_eq!("events", lines(&pages.concat()), lines(&all_events(&store).await?));
    for (after, limit) in [(0, 0), (26, 10), (u64::MAX, 10)] {
        ensure_eq!("an empty page", read(Position(after), limit).await?.len(), 0);
    }
    Ok("25 events in pages of 10".to_owned())
}

pub(super) async fn a_stream_can_be_read_from_any_revision(store: EventStore) -> CheckResult {
    let task = stream();
    let appends = vec![first(&task, "t"), first(&stream(), "other"), next(&task, 0), next(&task, 1)];
    let written = try_append_many(&store, appends).await;
    ensure!(written.iter().all(Result::is_ok), "{written:?}");
    for (from, expected) in [(0, vec![0, 1, 2]), (1, vec![1, 2]), (2, vec![2]), (3, vec![]), (u64::MAX, vec![])] {
        let read = store.read_stream(&task, Revision(from)).await.map_err(|error| error.to_string())?;
        ensure_eq!("revisions", read.iter().map(|event| event.revision.0).collect::<Vec<_>>(), expected);
    }
    Ok("3 events from revisions 0, 1, 2 and beyond the end".to_owned())
}

pub(super) async fn the_chain_of_hashes_verifies(store: EventStore) -> CheckResult {
    let written = try_append_many(&store, (0..10).map(|n| first(&stream(), &n.to_string())).collect()).await;
    ensure!(written.iter().all(Result::is_ok), "{written:?}");
    let events = all_events(&store).await?;
    let damaged = |error: ReadError| error.to_string();
    let (begin, rest) = events.split_at(events.len().min(4));
    let middle = chain::verify(Hash::ZERO, begin).map_err(damaged)?;
    ensure_eq!("the hash at the end", chain::verify(middle, rest), Ok(store.head().hash));
    ensure!(chain::verify(middle, rest.get(1..).unwrap_or_default()).is_err(), "a chain without an event verifies");
    let served =
        lines(&events).iter().map(|line| Recorded::from_json(line).map(Arc::new)).collect::<Result<Vec<_>, _>>();
    let served = served.map_err(damaged)?;
    ensure_eq!("the hash of the served events", chain::verify(Hash::ZERO, &served), Ok(store.head().hash));
    ensure_eq!("the served events", lines(&served), lines(&events));
    Ok(format!("10 events, hash {:.8}…", store.head().hash.to_string()))
}
