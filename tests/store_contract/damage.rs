//! The store in a folder: damage that the chain of hashes does not cover, in the indexes and in the log's id.

use std::path::Path;

use rusqlite::Connection;
use taskbell::store::{OpenError, ReadError, StreamName};

use super::folder::{folder, tamper};
use super::*;

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("log.db")).unwrap()
}

/// Removes the entry of an event from an index. The event stays in the table.
pub fn hide_from_index(dir: &Path, index: &str, position: u64) {
    tamper(dir, "PRAGMA writable_schema = ON");
    let row = format!("SELECT rootpage, sql FROM sqlite_schema WHERE name = '{index}'");
    let (root, sql): (i64, String) = database(dir).query_row(&row, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    // The index exists while the row is deleted, and not while it is inserted again.
    let forget = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name =";
    let steps = [
        format!(
            "CREATE TABLE aside AS SELECT * FROM events WHERE position = {position};
             DELETE FROM events WHERE position = {position};
             {forget} '{index}'"
        ),
        "INSERT INTO events SELECT * FROM aside; DROP TABLE aside".to_owned(),
        format!(
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('index', '{index}', 'events', {root}, '{}')",
            sql.replace('\'', "''")
        ),
    ];
    // Each connection reads the schema as the one before has left it.
    for step in steps {
        database(dir).execute_batch(&step).unwrap();
    }
}

/// A log with a stream of four events, between the first and the second of which another stream begins. Returns the streams.
async fn write_streams(dir: &Path) -> [StreamName; 2] {
    let streams = [stream(), stream()];
    let store = EventStore::open(dir).unwrap();
    let appends = vec![
        first(&streams[0], "a"),
        first(&streams[1], "b"),
        next(&streams[0], 0),
        next(&streams[0], 1),
        next(&streams[0], 2),
    ];
    assert!(store.append_many(appends).await.iter().all(Result::is_ok));
    streams
}

#[tokio::test]
async fn an_index_that_lacks_an_event_is_found_when_the_views_are_rebuilt() {
    for (index, position) in [("next_events", 5), ("next_events", 3), ("first_events", 1), ("first_events", 2)] {
        let dir = folder();
        write_streams(dir.path()).await;
        hide_from_index(dir.path(), index, position);
        let store = EventStore::open(dir.path()).unwrap();
        assert_eq!(all_events(&store).await.len(), 5, "the table has them all");
        let Err(ReadError::Damaged(found)) = store.fold((Position(0), Position(5)), (), |(), _| ()).await else {
            panic!("{index} {position}")
        };
        assert!(found.contains(&format!("event {position}")) && found.contains(index), "{found}");
        drop(store);
        // The way out that the error names.
        assert!(found.contains("REINDEX"), "{found}");
        database(dir.path()).execute_batch("REINDEX").unwrap();
        let store = EventStore::open(dir.path()).unwrap();
        store.fold((Position(0), Position(5)), (), |(), _| ()).await.unwrap();
    }
}

#[tokio::test]
async fn an_index_that_names_another_event_does_not_show_it_in_the_stream() {
    let dir = folder();
    let [one, other] = write_streams(dir.path()).await;
    // The entries of both streams are exchanged: the index is filled while the names are exchanged.
    tamper(dir.path(), "PRAGMA writable_schema = ON");
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'first_events'";
    let root: i64 = database(dir.path()).query_row(root, [], |row| row.get(0)).unwrap();
    let exchange = "CREATE TEMP TABLE names AS SELECT position, name FROM events;
        UPDATE events SET name = (SELECT name FROM names WHERE names.position = 3 - events.position) WHERE position IN (1, 2)";
    let sql = "SELECT sql FROM sqlite_schema WHERE name = 'first_events'";
    let sql: String = database(dir.path()).query_row(sql, [], |row| row.get(0)).unwrap();
    let forget = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'first_events'";
    let back = format!(
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('index', 'first_events', 'events', {root}, '{sql}')"
    );
    for step in [forget, exchange, &back, "REINDEX", forget, exchange, &back] {
        database(dir.path()).execute_batch(step).unwrap();
    }
    let store = EventStore::open(dir.path()).unwrap();
    for stream in [&one, &other] {
        let read = store.read_stream(stream, Revision(0)).await;
        assert!(matches!(read, Err(ReadError::Damaged(_))), "{read:?}");
    }
    assert!(matches!(store.fold((Position(0), Position(5)), (), |(), _| ()).await, Err(ReadError::Damaged(_))));
}

#[tokio::test]
async fn a_log_whose_id_was_changed_is_not_opened() {
    let dir = folder();
    write_streams(dir.path()).await;
    tamper(dir.path(), "UPDATE log SET epoch = '0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0'");
    let error = EventStore::open(dir.path()).unwrap_err();
    assert!(matches!(&error, OpenError::Database { reason, .. } if reason.contains("epoch")), "{error}");
}

#[tokio::test]
async fn a_stream_that_lacks_what_its_actor_has_seen_is_damaged() {
    let dir = folder();
    let [one, _] = write_streams(dir.path()).await;
    hide_from_index(dir.path(), "next_events", 5);
    let store = EventStore::open(dir.path()).unwrap();
    assert_eq!(store.read_after(&one, Revision(1)).await.unwrap().len(), 1, "one event is hidden");
    assert_eq!(store.damage(), None);
    let Err(ReadError::Damaged(found)) = store.read_after(&one, Revision(3)).await else { panic!() };
    assert!(found.contains("revision 3"), "{found}");
    assert_eq!(store.damage(), Some(&*found));
}

#[tokio::test]
async fn a_lost_end_of_the_table_is_found_by_the_indexes() {
    let dir = folder();
    write_streams(dir.path()).await;
    tamper(dir.path(), "PRAGMA writable_schema = ON");
    let restore =
        "SELECT group_concat('INSERT INTO sqlite_schema VALUES (''index'', ''' || name || ''', ''events'', ' ||
        rootpage || ', ''' || sql || ''');', '') FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'events'";
    let restore: String = database(dir.path()).query_row(restore, [], |row| row.get(0)).unwrap();
    let forget = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'events'";
    // A log of an earlier version has no witness, which would name event 5.
    std::fs::remove_file(dir.path().join("log.witness")).unwrap();
    let restore = format!("PRAGMA writable_schema = ON; {restore}; PRAGMA user_version = 0");
    for step in [forget, "DELETE FROM events WHERE position = 5", &restore] {
        database(dir.path()).execute_batch(step).unwrap();
    }
    let store = EventStore::open(dir.path()).unwrap();
    assert_eq!(store.head().position, Position(4));
    let Err(ReadError::Damaged(found)) = store.fold((Position(0), Position(4)), (), |(), _| ()).await else { panic!() };
    assert!(found.contains("lost event 5"), "{found}");
}
