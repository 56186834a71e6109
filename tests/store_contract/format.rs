//! The tables of the store in a folder: what they hold, byte for byte, and what they refuse.

use std::path::Path;

use rusqlite::Connection;
use taskbell::store::{AppendError, Hash, Meta, NewEvent, StreamName, Via, chain, new_id};
use taskbell::task::event::{Completed, Outcome, Started};
use taskbell::task::queue::{Paused, QueueEvent};
use taskbell::task::{Event, Timestamp};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("log.db")).unwrap()
}

/// The events of the view `log_as_text`, as lines like those of the API.
pub fn lines_of_view(dir: &Path) -> Vec<String> {
    let database = database(dir);
    let mut query = database.prepare("SELECT * FROM log_as_text").unwrap();
    let columns = ["position", "stream", "revision", "id", "type", "version", "time", "meta", "data", "hash"];
    assert!(query.column_names().eq(columns));
    let rows = query.query_map([], |row| {
        let number = |column: usize| row.get::<_, i64>(column);
        let text = |column: usize| row.get::<_, String>(column);
        let json = |column: usize| Ok::<_, rusqlite::Error>(serde_json::to_string(&text(column)?).unwrap());
        Ok(format!(
            r#"{{"position":{},"stream":{},"revision":{},"id":{},"type":{},"version":{},"time":{},"meta":{},"data":{},"hash":{}}}"#,
            number(0)?,
            json(1)?,
            number(2)?,
            json(3)?,
            json(4)?,
            number(5)?,
            json(6)?,
            text(7)?,
            text(8)?,
            json(9)?
        ))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Metadata of every form: with all kinds of texts, with and without the optional members.
fn metas() -> Vec<Meta> {
    let texts = [
        "ann",
        "local/0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0/3",
        "Größe 価格",
        "",
        "a \"quoted\" name",
        "back\\slash",
        "tab\tand\nline",
        "nul\0and\u{1f}and\u{7f}",
        "ann\",\"via\":\"http",
        "line\u{85}end\u{2028}and\u{2029}",
    ];
    let id = "0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0";
    let requests = [None, Some("r-1"), Some(""), Some(id), Some("0199F0C2-1B7E-7A31-9C55-5BE2F1A4D6C0")];
    let vias = [Via::Http, Via::Cli, Via::Worker, Via::Server, Via::Library];
    let forms = texts.map(|actor| (actor, None)).into_iter();
    let forms = forms.chain(requests.map(|request| ("ann", request))).chain(texts.map(|text| ("bob", Some(text))));
    let causes = [None, Some(new_id()), Some(Uuid::nil())];
    let metas = forms.zip(vias.into_iter().cycle()).zip(causes.into_iter().cycle());
    let metas = metas.map(|(((actor, request), via), causation_id)| Meta {
        actor: actor.to_owned(),
        via,
        correlation_id: new_id(),
        causation_id,
        request_id: request.map(str::to_owned),
    });
    metas.collect()
}

/// Appends an event with each of these metas: every second one begins a stream, the next one continues it.
async fn append_metas(store: &EventStore, metas: &[Meta]) {
    for pair in metas.chunks(2) {
        let task = stream();
        let with_meta = |(event, meta): (Event, &Meta)| NewEvent { meta: meta.clone(), ..new_event(event) };
        let events = [created("t"), queued()].into_iter().zip(pair).map(with_meta).collect();
        store.append(append(&task, Expected::NoStream, events)).await.unwrap();
    }
}

/// An event that was caused by this one, in the same request.
fn caused_by(first: &NewEvent, event: Event) -> NewEvent {
    let event = new_event(event);
    let (correlation_id, causation_id) = (first.meta.correlation_id, Some(first.id));
    NewEvent { meta: Meta { correlation_id, causation_id, ..event.meta.clone() }, ..event }
}

/// Appends streams whose later events refer to the first one. The first event of the second stream has a `meta` in text.
async fn append_references(store: &EventStore) {
    for actor in ["ann", "a \"quoted\" name"] {
        let mut first = new_event(created("t"));
        first.meta.actor = actor.to_owned();
        let events = [caused_by(&first, queued()), caused_by(&first, attempt_failed())];
        let events = [first].into_iter().chain(events).collect();
        store.append(append(&stream(), Expected::NoStream, events)).await.unwrap();
    }
}

#[tokio::test]
async fn meta_of_every_form_is_read_back_byte_for_byte() {
    let dir = folder();
    let metas = metas();
    let store = EventStore::open(dir.path()).unwrap();
    append_metas(&store, &metas).await;
    append_references(&store).await;
    let live = all_events(&store).await;
    drop(store);
    let store = EventStore::open(dir.path()).unwrap();
    let read = all_events(&store).await;
    assert_eq!(lines(&read), lines(&live));
    assert!(read.iter().map(|event| &event.meta).take(metas.len()).eq(&metas));
    assert_eq!(chain::verify(Hash::ZERO, &read), Ok(store.head().hash));
}

#[tokio::test]
async fn the_view_shows_every_event_as_the_api_does() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    append_metas(&store, &metas()).await;
    append_references(&store).await;
    let pause = LogEvent::from(QueueEvent::Paused(Paused { reason: None }));
    let times = [0, -1, -1_000_001, 999_999, 1_000_000, 253_402_300_799_000_000];
    for (number, micros) in times.into_iter().enumerate() {
        let event = NewEvent { time: Timestamp::from_micros(micros), ..new_event(pause.clone()) };
        let queue = StreamName::queue(&format!("q{number}"));
        store.append(append(&queue, Expected::NoStream, vec![event])).await.unwrap();
    }
    let bell = StreamName::bell("task-0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0");
    store.append(append(&bell, Expected::NoStream, vec![new_event(seen(7)), new_event(seen(8))])).await.unwrap();
    let (events, shown) = (lines(&all_events(&store).await), lines_of_view(dir.path()));
    assert_eq!(shown.len(), events.len());
    for (shown, event) in shown.iter().zip(&events) {
        assert_eq!(shown, event);
    }
}

#[tokio::test]
async fn common_meta_is_in_columns_and_each_name_is_stored_once() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    for _ in 0..5 {
        let first = new_event(created("t"));
        let events = vec![first.clone(), caused_by(&first, queued()), caused_by(&first, queued())];
        store.append(append(&stream(), Expected::NoStream, events)).await.unwrap();
    }
    let count = |sql: &str| database(dir.path()).query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(meta) FROM events"), 0);
    assert_eq!(count("SELECT count(*) FROM events WHERE typeof(name) = 'blob'"), 5);
    assert_eq!(count("SELECT count(correlation_id) FROM events"), 5);
    assert_eq!(count("SELECT count(*) FROM events WHERE causation_id = 0"), 10);
    assert_eq!((count("SELECT count(*) FROM actors"), count("SELECT count(*) FROM types")), (1, 2));
}

#[tokio::test]
async fn every_table_refuses_changes() {
    let dir = folder();
    EventStore::open(dir.path()).unwrap().append(first(&stream(), "t")).await.unwrap();
    let database = database(dir.path());
    let mut query = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    let tables: Vec<String> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(tables, ["actors", "events", "log", "types"]);
    for table in tables {
        let first_column: String = database
            .query_row(&format!("SELECT name FROM pragma_table_info('{table}')"), [], |row| row.get(0))
            .unwrap();
        for sql in [format!("UPDATE {table} SET {first_column} = 7"), format!("DELETE FROM {table}")] {
            let refused = database.execute_batch(&sql).unwrap_err();
            assert!(refused.to_string().contains("only appended to"), "{sql}: {refused}");
        }
    }
}

/// The columns of `events` after the first four.
const REST: &str = "id, type, time, actor, correlation_id, causation_id, request_id, meta";

#[tokio::test]
async fn no_row_takes_the_place_of_another_and_no_position_is_left_out() {
    let dir = folder();
    let task = stream();
    let store = EventStore::open(dir.path()).unwrap();
    store.append_many(vec![first(&task, "t"), next(&task, 0), first(&stream(), "u")]).await;
    let before = lines(&all_events(&store).await);
    drop(store);
    let copy = |position: &str, of: u64| {
        format!(
            "INTO events SELECT {position}, stream, revision, name, {REST}, '{{}}', hash FROM events WHERE position = {of}"
        )
    };
    let rows = [
        "INTO log VALUES (1, 2, '0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0')".to_owned(),
        "INTO types VALUES (1, 'Seen', 1)".to_owned(),
        "INTO types (type, version) SELECT type, version FROM types WHERE id = 1".to_owned(),
        "INTO actors VALUES (1, 'bob', 'http')".to_owned(),
        "INTO actors (actor, via) SELECT actor, via FROM actors WHERE id = 1".to_owned(),
        copy("position", 1),
        copy("position", 2),
        copy("position", 3),
        copy("4", 1),
        copy("4", 2),
        copy("4", 3),
        copy("NULL", 2),
        format!("INTO events SELECT 6, 6, 0, 'queue-mail', {REST}, data, hash FROM events WHERE position = 3"),
        format!("INTO events SELECT 0, 0, 0, 'queue-mail', {REST}, data, hash FROM events WHERE position = 3"),
    ];
    for row in rows {
        for verb in ["INSERT OR REPLACE", "REPLACE", "INSERT", "INSERT OR FAIL"] {
            let refused = database(dir.path()).execute_batch(&format!("{verb} {row}"));
            assert!(refused.is_err(), "{verb} {row}");
        }
    }
    let store = EventStore::open(dir.path()).unwrap();
    assert_eq!(lines(&all_events(&store).await), before);
    assert_eq!(store.append(next(&task, 1)).await, Ok(Revision(2)));
}

/// The connection that writes runs no triggers.
#[test]
fn no_sql_outside_of_the_triggers_changes_or_removes_a_row() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sqlite");
    let files = ["", "upgrade"].map(|part| std::fs::read_dir(folder.join(part)).unwrap());
    let sources = files.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut inserts = 0;
    for path in sources.filter(|path| !path.ends_with("schema.rs")) {
        let source = std::fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        inserts += source.matches("INSERT INTO ").count();
        for words in ["UPDATE ", "DELETE ", "OR REPLACE INTO", "\"REPLACE "] {
            assert!(!source.contains(words), "{}: {words}", path.display());
        }
    }
    assert_eq!(inserts, 3, "of an event, a type and an actor");
}

#[tokio::test]
async fn a_log_that_was_written_without_these_protections_gets_them_when_it_is_opened() {
    let dir = folder();
    let task = stream();
    EventStore::open(dir.path()).unwrap().append(first(&task, "t")).await.unwrap();
    let of_triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_schema
        WHERE type = 'trigger' AND sql LIKE '%BEFORE INSERT%'";
    let drop: Option<String> = database(dir.path()).query_row(of_triggers, [], |row| row.get(0)).unwrap();
    database(dir.path()).execute_batch(&format!("{}; PRAGMA user_version = 0", drop.unwrap())).unwrap();
    let store = EventStore::open(dir.path()).unwrap();
    let epoch = store.epoch();
    assert_eq!(store.append(next(&task, 0)).await, Ok(Revision(1)));
    std::mem::drop(store);
    let replace = "INSERT OR REPLACE INTO log VALUES (1, 2, '0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0')";
    assert!(database(dir.path()).execute_batch(replace).is_err());
    assert_ne!(database(dir.path()).pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)), Ok(0));
    assert_eq!(EventStore::open(dir.path()).unwrap().epoch(), epoch);
}

#[tokio::test]
async fn a_log_that_was_opened_again_knows_where_each_stream_ends() {
    let dir = folder();
    let (task, queue, bell) = (stream(), StreamName::queue("mail"), StreamName::bell("ann"));
    let pause = || LogEvent::from(QueueEvent::Paused(Paused { reason: None }));
    let store = EventStore::open(dir.path()).unwrap();
    store.append_many(vec![first(&task, "t"), next(&task, 0), next(&task, 1)]).await;
    store.append(append(&queue, Expected::NoStream, vec![new_event(pause())])).await.unwrap();
    store.append(append(&bell, Expected::NoStream, vec![new_event(seen(1)), new_event(seen(2))])).await.unwrap();
    drop(store);
    for (stream, last) in [(&task, 2), (&queue, 0), (&bell, 1)] {
        for expected in [None, Some(last + 1), (last > 0).then(|| last - 1)] {
            // Each append is the first one after the open: nothing is cached.
            let store = EventStore::open(dir.path()).unwrap();
            let expected = expected.map_or(Expected::NoStream, |last| Expected::Revision(Revision(last)));
            let refused = store.append(append(stream, expected, vec![new_event(queued())])).await;
            let actual = Some(Revision(last));
            assert_eq!(refused, Err(AppendError::WrongExpectedRevision { actual }), "{stream} {expected:?}");
            assert_eq!(store.head().position, Position(6));
        }
    }
    let store = EventStore::open(dir.path()).unwrap();
    assert_eq!(store.append(next(&task, 2)).await, Ok(Revision(3)));
    assert_eq!(store.read_stream(&task, Revision(0)).await.unwrap().len(), 4);
    let later = store.read_stream(&task, Revision(2)).await.unwrap();
    assert_eq!(later.iter().map(|event| event.revision.0).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn an_actor_whose_first_append_was_refused_is_written_with_the_next_one() {
    let dir = folder();
    let task = stream();
    EventStore::open(dir.path()).unwrap().append(first(&task, "t")).await.unwrap();
    let store = EventStore::open(dir.path()).unwrap();
    let meta = Meta {
        actor: "new".to_owned(),
        via: Via::Library,
        correlation_id: new_id(),
        causation_id: None,
        request_id: None,
    };
    let by_new = |event: Event| NewEvent { meta: meta.clone(), ..new_event(event) };
    let refused = store.append(append(&task, Expected::NoStream, vec![by_new(queued())])).await;
    assert!(refused.is_err(), "{refused:?}");
    store.append(append(&task, Expected::Revision(Revision(0)), vec![by_new(queued())])).await.unwrap();
    drop(store);
    let events = all_events(&EventStore::open(dir.path()).unwrap()).await;
    assert_eq!((events[1].meta.actor.as_str(), events[1].event_type), ("new", "Queued"));
}

/// What follows the creation of a task that a worker executes, with who has caused it.
fn execution() -> [(Event, &'static str, Via); 2] {
    let started = Started { attempt: 1, worker: "local/a/1".into(), lease_hash: "0".repeat(64) };
    let completed = Completed {
        outcome: Outcome::Succeeded,
        attempt: Some(1),
        message: Some("2 of 2 places have it".into()),
        result: None,
        error: None,
        forced: false,
        progress: None,
    };
    [(Event::Started(started), "system", Via::Server), (Event::Completed(completed), "local/a/1", Via::Worker)]
}

/// The size of a log with this many finished tasks, in bytes for each task.
async fn bytes_per_task(tasks: usize) -> u64 {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    let request = || Some(new_id().to_string());
    let by_ann = |event: NewEvent| NewEvent {
        meta: Meta { request_id: request(), causation_id: None, ..event.meta.clone() },
        ..event
    };
    let title = "Distribute the autumn catalogue";
    let tasks: Vec<_> = (0..tasks).map(|_| (stream(), by_ann(new_event(created(title))))).collect();
    let creations = tasks.iter().map(|(stream, first)| append(stream, Expected::NoStream, vec![first.clone()]));
    assert!(store.append_many(creations.collect()).await.iter().all(Result::is_ok));
    for ((event, actor, via), revision) in execution().into_iter().zip(0..) {
        let next = |(stream, first): &(StreamName, NewEvent)| {
            let mut next = caused_by(first, event.clone());
            (next.meta.actor, next.meta.via) = (actor.to_owned(), via);
            next.meta.request_id = (via == Via::Worker).then(request).flatten();
            append(stream, Expected::Revision(Revision(revision)), vec![next])
        };
        assert!(store.append_many(tasks.iter().map(next).collect()).await.iter().all(Result::is_ok));
    }
    drop(store);
    dir.path().join("log.db").metadata().unwrap().len() / tasks.len() as u64
}

#[tokio::test]
async fn a_finished_task_takes_less_than_1_1_kb() {
    let bytes = bytes_per_task(2000).await;
    assert!(bytes < 1100, "{bytes}");
}
