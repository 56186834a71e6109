//! Tests of `log upgrade`: the log in the new format equals the log in format 1, and a kill at any step loses nothing.

use std::path::Path;

use rusqlite::{Connection, params};
use taskbell::internal::{UpgradeError, UpgradeStep, Upgraded, upgrade};
use taskbell::store::conformance::sample::{first, next, stream};
use taskbell::store::{EventStore, Hash, OpenError, Recorded, chain, new_id};
use taskbell::task::{Position, Revision};
use tempfile::TempDir;

use crate::store_contract::format::lines_of_view;
use crate::store_contract::{all_events, lines};
use crate::views::history;

mod command;
mod kill;
mod refused;

/// The tables of format 1.
const FORMAT_1: &str = "
CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), format INTEGER NOT NULL, epoch TEXT NOT NULL) STRICT;
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    revision INTEGER NOT NULL,
    id BLOB NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    time INTEGER NOT NULL,
    meta TEXT NOT NULL,
    data TEXT NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (stream, revision)
) STRICT;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the log is only appended to'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the log is only appended to'); END;
PRAGMA application_id = 0x7462656c;
";

/// A folder with a log in format 1.
struct OldLog {
    dir: TempDir,
    lines: Vec<String>,
    hash: Hash,
    epoch: uuid::Uuid,
}

impl OldLog {
    /// A log with all kinds of tasks and bells.
    fn with(events: usize) -> Self {
        let mut recorded = history::random_log(8, events).events;
        recorded.truncate(events);
        Self::of(recorded)
    }

    /// These events, with the hashes that they must have.
    fn of(mut events: Vec<Recorded>) -> Self {
        let mut hash = Hash::ZERO;
        for (event, position) in events.iter_mut().zip(1..) {
            event.fact.position = Position(position);
            hash = event.expected_hash(hash);
            event.hash = hash;
        }
        let (dir, epoch) = (tempfile::tempdir().unwrap(), new_id());
        let database = database(dir.path());
        // The process is "killed": the events are still in the write-ahead log.
        let no_checkpoint = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        database.set_db_config(no_checkpoint, true).unwrap();
        database.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        database.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        database.execute_batch(FORMAT_1).unwrap();
        database.execute("INSERT INTO log VALUES (1, 1, ?)", [epoch.to_string()]).unwrap();
        database.execute_batch("BEGIN").unwrap();
        for event in &events {
            insert(&database, event);
        }
        database.execute_batch("COMMIT").unwrap();
        assert!(dir.path().join("log.db-wal").metadata().unwrap().len() > 0);
        let lines = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        Self { dir, lines, hash, epoch }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A folder with a copy of this log.
    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["log.db", "log.db-wal"] {
            std::fs::copy(self.path().join(name), copy.path().join(name)).unwrap();
        }
        copy
    }

    /// Asserts that the log in this folder has the present format and is the same log.
    async fn is_in(&self, dir: &Path) {
        let store = EventStore::open(dir).unwrap();
        let events = all_events(&store).await;
        assert!(lines(&events) == self.lines, "the events differ");
        assert_eq!((store.epoch(), store.head().hash), (self.epoch, self.hash));
        assert_eq!(chain::verify(Hash::ZERO, &events), Ok(self.hash));
    }

    /// Asserts that this file is the old log.
    fn is_old_file(&self, path: &Path) {
        let database = Connection::open(path).unwrap();
        let read = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(read("SELECT format FROM log"), 1);
        assert_eq!(read("SELECT count(*) FROM events"), i64::try_from(self.lines.len()).unwrap());
        assert_eq!(
            database.query_row("SELECT hash FROM events ORDER BY position DESC", [], |row| row.get(0)),
            Ok(self.hash.0)
        );
    }
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("log.db")).unwrap()
}

fn insert(database: &Connection, event: &Recorded) {
    let number = |number: u64| i64::try_from(number).unwrap();
    let mut insert = database.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").unwrap();
    let row = params![
        number(event.position.0),
        event.stream.as_str(),
        number(event.revision.0),
        event.id.as_bytes(),
        event.event_type,
        event.version,
        event.time.as_micros(),
        event.raw_meta.get(),
        event.raw_data.get(),
        event.hash.0,
    ];
    insert.execute(row).unwrap();
}

fn upgrade_quietly(dir: &Path) -> Result<Option<Upgraded>, UpgradeError> {
    upgrade(dir, &mut |_| {})
}

/// The names of the files in the folder.
fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

#[tokio::test]
async fn the_upgraded_log_holds_the_same_events_in_fewer_bytes() {
    let old = OldLog::with(3000);
    let upgraded = upgrade_quietly(old.path()).unwrap().unwrap();
    assert_eq!(files(old.path()), ["lock", "log.db", "log.db.format1"]);
    assert_eq!((upgraded.events, upgraded.hash), (3000, old.hash));
    assert_eq!(upgraded.old_file, old.path().join("log.db.format1"));
    let size = |name: &str| old.path().join(name).metadata().unwrap().len();
    assert_eq!((upgraded.bytes_before, upgraded.bytes_after), (size("log.db.format1"), size("log.db")));
    assert!(upgraded.bytes_after * 10 < upgraded.bytes_before * 7, "{upgraded:?}");
    assert_eq!(lines_of_view(old.path()), old.lines);
    old.is_in(old.path()).await;
    old.is_old_file(&upgraded.old_file);
}

#[tokio::test]
async fn an_upgraded_log_can_be_appended_to_and_has_nothing_to_upgrade() {
    let old = OldLog::with(50);
    upgrade_quietly(old.path()).unwrap().unwrap();
    let last: Recorded = Recorded::from_json(old.lines.last().unwrap()).unwrap();
    let store = EventStore::open(old.path()).unwrap();
    assert_eq!(store.append(next(&last.stream, last.revision.0)).await, Ok(Revision(last.revision.0 + 1)));
    assert_eq!(store.append(first(&stream(), "new")).await, Ok(Revision(0)));
    drop(store);
    assert_eq!(upgrade_quietly(old.path()).unwrap(), None);
    let store = EventStore::open(old.path()).unwrap();
    assert_eq!(chain::verify(Hash::ZERO, &all_events(&store).await), Ok(store.head().hash));
    assert_eq!(store.head().position, Position(52));
}

#[tokio::test]
async fn an_empty_log_is_upgraded_too() {
    let old = OldLog::of(vec![]);
    assert_eq!(upgrade_quietly(old.path()).unwrap().unwrap().events, 0);
    old.is_in(old.path()).await;
}

/// Events as another program or an earlier version may have written them.
fn odd_events() -> Vec<Recorded> {
    let id = "0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0";
    let metas = [
        format!(r#"{{"actor":"ann","via":"http","correlation_id":"{id}","causation_id":null,"request_id":null}}"#),
        format!(r#"{{"via":"http","actor":"ann","correlation_id":"{id}","causation_id":null,"request_id":null}}"#),
        format!(r#"{{"actor": "ann","via":"http","correlation_id":"{id}","causation_id":null,"request_id":null}}"#),
        format!(
            r#"{{"actor":"ann","via":"http","correlation_id":"{id}","causation_id":null,"request_id":null,"more":1}}"#
        ),
        format!(r#"{{"actor":"ann","via":"http","correlation_id":"{id}","causation_id":null}}"#),
        format!(
            r#"{{"actor":"\u0061nn","via":"http","correlation_id":"{id}","causation_id":"{id}","request_id":"r"}}"#
        ),
        format!(
            r#"{{"actor":"ann","via":"http","correlation_id":"{}","causation_id":null,"request_id":"{id}"}}"#,
            id.to_uppercase()
        ),
        format!(
            "{{\"actor\":\"a\u{85}\u{2028}\u{2029}\",\"via\":\"cli\",\"correlation_id\":\"{id}\",\"causation_id\":null,\"request_id\":null}}"
        ),
    ];
    let event = |(meta, number): (String, u64)| {
        let line = format!(
            r#"{{"position":{},"stream":"bell-ann","revision":{number},"id":"{}","type":"Seen","version":1,"time":"2026-11-22T15:04:05.000006Z","meta":{meta},"data":{{"position": {number}}},"hash":"{}"}}"#,
            number + 1,
            new_id(),
            Hash::ZERO
        );
        Recorded::from_json(&line).unwrap()
    };
    metas.into_iter().zip(0..).map(event).collect()
}

#[tokio::test]
async fn meta_of_any_form_stays_the_same_byte_for_byte() {
    let old = OldLog::of(odd_events());
    upgrade_quietly(old.path()).unwrap().unwrap();
    old.is_in(old.path()).await;
    assert_eq!(lines_of_view(old.path()), old.lines);
    let with_text = "SELECT group_concat(position) FROM events WHERE meta IS NOT NULL";
    let with_text: String = database(old.path()).query_row(with_text, [], |row| row.get(0)).unwrap();
    assert_eq!(with_text, "2,3,4,5,6,7");
}

#[tokio::test]
async fn events_of_types_that_this_version_does_not_know_are_upgraded_too() {
    let old = OldLog::of(odd_events());
    // The hashes of a log that another version has written: this version can't decode its events.
    let mut events: Vec<Recorded> = old.lines.iter().map(|line| Recorded::from_json(line).unwrap()).collect();
    let mut hash = Hash::ZERO;
    for event in &mut events {
        (event.event_type, event.version) = ("Danced", 7);
        hash = event.expected_hash(hash);
        event.hash = hash;
    }
    let database = database(old.path());
    database.execute_batch("DROP TRIGGER events_are_not_deleted; DELETE FROM events;").unwrap();
    for event in &events {
        insert(&database, event);
    }
    drop(database);
    assert_eq!(upgrade_quietly(old.path()).unwrap().unwrap().hash, hash);
    let lines: Vec<_> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    assert_eq!(lines_of_view(old.path()), lines);
}
