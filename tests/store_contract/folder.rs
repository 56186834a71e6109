//! The store in a folder: what happens when the folder or its file is changed, damaged or full.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use rusqlite::Connection;
use taskbell::store::{AppendError, Hash, OpenError, ReadError, chain};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;

pub(super) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("log.db")).unwrap()
}

/// Writes a log of ten events and closes it.
async fn write_ten(dir: &Path) {
    let store = EventStore::open(dir).unwrap();
    assert!(store.append_many((0..10).map(|_| first(&stream(), "t")).collect()).await.iter().all(Result::is_ok));
}

/// Changes the file of the log without the store.
pub fn tamper(dir: &Path, sql: &str) {
    let database = database(dir);
    let triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_schema WHERE type = 'trigger'";
    let free: Option<String> = database.query_row(triggers, [], |row| row.get(0)).unwrap();
    database.execute_batch(&free.unwrap_or_default()).unwrap();
    database.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_reopened_log_holds_the_same_events() {
    let dir = folder();
    let path = dir.path().join("deep/er");
    let store = EventStore::open(&path).unwrap();
    let task = stream();
    store.append(first(&task, "t")).await.unwrap();
    store
        .append(append(&task, Expected::Revision(Revision(0)), vec![new_event(queued()), new_event(attempt_failed())]))
        .await
        .unwrap();
    let before = (lines(&all_events(&store).await), store.head(), store.epoch());
    drop(store);
    let store = EventStore::open(&path).unwrap();
    assert_eq!((lines(&all_events(&store).await), store.head(), store.epoch()), before);
    assert_eq!(store.append(next(&task, 2)).await, Ok(Revision(3)));
    assert_eq!(chain::verify(Hash::ZERO, &all_events(&store).await), Ok(store.head().hash));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("log.db")), mode(&path.join("log.db-wal"))), (0o700, 0o600, 0o600));
}

#[tokio::test]
async fn a_subscriber_gets_the_bytes_that_are_read_back_later() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    let task = stream();
    let mut live = store.subscribe(Position(0));
    store
        .append(append(&task, Expected::NoStream, vec![new_event(created("t")), new_event(attempt_failed())]))
        .await
        .unwrap();
    let live = live.next().await.unwrap();
    let back = store.read_stream(&task, Revision(0)).await.unwrap();
    for (live, back) in live.iter().zip(&back) {
        assert_eq!((&live.event, &live.meta, live.time, live.hash), (&back.event, &back.meta, back.time, back.hash));
        assert_eq!((live.raw_meta.get(), live.raw_data.get()), (back.raw_meta.get(), back.raw_data.get()));
    }
}

#[tokio::test]
async fn two_servers_cannot_share_a_folder() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    let error = EventStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)) && error.to_string().contains("another process uses"), "{error}");
    let clone = store.clone();
    drop(store);
    assert!(EventStore::open(dir.path()).is_err());
    drop(clone);
    EventStore::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_file_of_another_program_is_left_alone() {
    let dir = folder();
    let path = dir.path().join("log.db");
    std::fs::write(&path, "not a database, but long enough to be taken for one ".repeat(100)).unwrap();
    assert!(matches!(EventStore::open(dir.path()), Err(OpenError::NotALog(_))));
    std::fs::remove_file(&path).unwrap();
    database(dir.path()).execute_batch("CREATE TABLE events (a)").unwrap();
    assert!(matches!(EventStore::open(dir.path()), Err(OpenError::NotALog(_))));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [&file, &file.join("below")] {
        let error = EventStore::open(path).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }) && error.to_string().contains("file"), "{error}");
    }
}

#[tokio::test]
async fn a_log_of_a_later_format_is_refused() {
    let dir = folder();
    write_ten(dir.path()).await;
    tamper(dir.path(), "UPDATE log SET format = 3");
    let error = EventStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }), "{error}");
}

/// Asserts that the event at this position is served by no read of the log, and that each error names it.
async fn is_never_served(store: &EventStore, position: u64, change: &str) {
    let names_it = |found: &str| found.contains(&format!("event {position} "));
    let Err(ReadError::Damaged(found)) = store.fold((Position(0), Position(10)), (), |(), _| ()).await else {
        panic!("{change}: fold")
    };
    assert!(names_it(&found), "{change}: {found}");
    for after in 0..position {
        let Err(ReadError::Damaged(found)) = store.read_all(Position(after), 100).await else {
            panic!("{change}: read after {after}")
        };
        assert!(names_it(&found), "{change}, after {after}: {found}");
    }
    assert_eq!(store.read_all(Position(position), 100).await.unwrap().len() as u64, 10 - position, "{change}");
}

#[tokio::test]
async fn the_chain_of_hashes_shows_any_change_made_to_the_file() {
    for set in [
        "time = time + 1",
        "data = replace(data, 'demo', 'memo')",
        "correlation_id = causation_id",
        "causation_id = NULL",
        "causation_id = 0",
        "request_id = 'r-2'",
        "request_id = zeroblob(16)",
        "revision = 1",
        "stream = 3",
        "name = zeroblob(16)",
        "name = 'queue-mail'",
        "id = zeroblob(16)",
        "hash = zeroblob(32)",
    ] {
        let dir = folder();
        write_ten(dir.path()).await;
        tamper(dir.path(), &format!("UPDATE events SET {set} WHERE position = 4"));
        is_never_served(&EventStore::open(dir.path()).unwrap(), 4, set).await;
    }
    for sql in ["UPDATE actors SET actor = 'bob'", "UPDATE actors SET via = 'cli'"] {
        let dir = folder();
        write_ten(dir.path()).await;
        tamper(dir.path(), sql);
        let store = EventStore::open(dir.path()).unwrap();
        let Err(ReadError::Damaged(found)) = store.read_all(Position(0), 100).await else { panic!("{sql}") };
        assert!(found.contains("event 1 "), "{sql}: {found}");
        assert_eq!(
            store.fold((Position(0), Position(10)), (), |(), _| ()).await,
            Err(ReadError::Damaged(found)),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_stream_with_a_changed_event_is_refused_and_the_other_streams_can_be_read() {
    for set in [
        "time = time + 1",
        "data = replace(data, 'run_at', 'retry_at')",
        "request_id = 'r-2'",
        "id = zeroblob(16)",
        "hash = zeroblob(32)",
        "hash = x''",
    ] {
        let dir = folder();
        let (changed, beside) = (stream(), stream());
        let store = EventStore::open(dir.path()).unwrap();
        let appends = vec![first(&changed, "a"), first(&beside, "b"), next(&changed, 0), next(&beside, 0)];
        assert!(store.append_many(appends).await.iter().all(Result::is_ok));
        drop(store);
        tamper(dir.path(), &format!("UPDATE events SET {set} WHERE position = 3"));
        let store = EventStore::open(dir.path()).unwrap();
        for from in [0, 1] {
            let read = store.read_stream(&changed, Revision(from)).await;
            let Err(ReadError::Damaged(found)) = read else { panic!("{set}: {read:?}") };
            assert!(found.contains("event 3"), "{set}: {found}");
        }
        let read = store.read_many_for_decision(vec![beside.clone(), changed]).await;
        assert!(matches!(read, Err(ReadError::Damaged(_))), "{set}");
        assert_eq!(store.read_stream(&beside, Revision(0)).await.unwrap().len(), 2, "{set}");
    }
}

#[tokio::test]
async fn the_error_names_a_damaged_row_and_the_others_can_be_read() {
    for set in [
        "data = 'x'",
        "data = '[]'",
        "data = data || ' '",
        "data = CAST(x'ff' AS TEXT)",
        "meta = '{}'",
        "meta = ''",
        "actor = NULL",
        "actor = 99",
        "correlation_id = NULL",
        "correlation_id = x'00'",
        "causation_id = x'00'",
        "causation_id = 7",
        "causation_id = 'x'",
        "request_id = 7",
        "request_id = x'00'",
        "stream = 99",
        "stream = 0",
        "name = 'unknown'",
        "name = 'task-1'",
        "name = x'00'",
        "name = NULL",
        "name = 7",
        "type = 99",
        "type = 2",
        "revision = -1",
        "time = 9223372036854775807",
        "id = x'00'",
        "hash = x''",
    ] {
        let dir = folder();
        write_ten(dir.path()).await;
        tamper(dir.path(), "INSERT INTO types VALUES (2, 'Seen', 1)");
        tamper(dir.path(), &format!("UPDATE events SET {set} WHERE position = 4"));
        let store = EventStore::open(dir.path()).unwrap();
        let Err(ReadError::Damaged(found)) = store.read_all(Position(0), 100).await else { panic!("{set}") };
        assert!(found.contains("event 4"), "{set}: {found}");
        assert_eq!(
            store.fold((Position(0), Position(10)), (), |(), _| ()).await,
            Err(ReadError::Damaged(found)),
            "{set}"
        );
        assert_eq!(store.read_all(Position(4), 100).await.unwrap().len(), 6);
        assert!(store.subscribe(Position(3)).next().await.is_err());
        assert_eq!(store.append(first(&stream(), "more")).await, Ok(Revision(0)));
    }
}

#[tokio::test]
async fn the_error_names_an_event_that_refers_to_a_damaged_row() {
    for sql in [
        "UPDATE events SET id = x'00' WHERE position = 1",
        "UPDATE events SET correlation_id = x'00' WHERE position = 1",
        "UPDATE events SET name = CAST(x'ff' AS TEXT) WHERE position = 1",
        "DELETE FROM events WHERE position = 1",
        "UPDATE actors SET actor = CAST(x'ff' AS TEXT)",
        "UPDATE actors SET via = 'dream'",
        "UPDATE types SET version = -1",
        "UPDATE types SET type = CAST(x'ff' AS TEXT) WHERE id = 2",
        "DELETE FROM types",
    ] {
        let dir = folder();
        let task = stream();
        let store = EventStore::open(dir.path()).unwrap();
        store.append_many(vec![first(&task, "t"), next(&task, 0)]).await;
        drop(store);
        tamper(dir.path(), sql);
        let store = EventStore::open(dir.path()).unwrap();
        let Err(ReadError::Damaged(found)) = store.read_all(Position(1), 100).await else { panic!("{sql}") };
        assert!(found.contains("event 2"), "{sql}: {found}");
    }
}

#[tokio::test]
async fn the_error_names_a_missing_event_and_an_unknown_type() {
    let dir = folder();
    write_ten(dir.path()).await;
    let events = all_events(&EventStore::open(dir.path()).unwrap()).await;
    tamper(dir.path(), "DELETE FROM events WHERE position = 7; INSERT INTO types VALUES (9, 'Danced', 1)");
    tamper(dir.path(), "UPDATE events SET type = 9 WHERE position = 2");
    let store = EventStore::open(dir.path()).unwrap();
    let Err(ReadError::Damaged(found)) = store.read_all(Position(5), 100).await else { panic!() };
    assert!(found.contains("lost event 7"), "{found}");
    // It has another type than the one with which it was written.
    let Err(ReadError::Damaged(found)) = store.read_all(Position(0), 3).await else { panic!() };
    assert!(found.contains("event 2 doesn't continue"), "{found}");
    assert_eq!(store.fold((Position(0), Position(10)), (), |(), _| ()).await, Err(ReadError::Damaged(found)));
    drop(store);
    // It was written with this type.
    let danced = Recorded { event_type: "Danced", ..(*events[1]).clone() };
    let hash = danced.expected_hash(events[0].hash);
    tamper(dir.path(), &format!("UPDATE events SET hash = x'{hash}' WHERE position = 2"));
    let store = EventStore::open(dir.path()).unwrap();
    let unknown = ReadError::Unknown { position: Some(Position(2)), event_type: "Danced".to_owned(), version: 1 };
    assert_eq!(store.read_all(Position(0), 3).await.unwrap_err(), unknown);
    assert_eq!(store.fold((Position(0), Position(10)), (), |(), _| ()).await, Err(unknown));
}

#[tokio::test]
async fn the_error_names_the_revision_that_a_stream_has_lost() {
    let dir = folder();
    let task = stream();
    let store = EventStore::open(dir.path()).unwrap();
    store.append_many(vec![first(&task, "t"), next(&task, 0), next(&task, 1)]).await;
    drop(store);
    tamper(dir.path(), "DELETE FROM events WHERE position = 2");
    let store = EventStore::open(dir.path()).unwrap();
    let Err(ReadError::Damaged(found)) = store.read_stream(&task, Revision(0)).await else { panic!() };
    assert!(found.contains("revision 1"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_closed_while_clients_append_keeps_all_acknowledged_events() {
    let dir = folder();
    let mut acknowledged = 0;
    for round in 0..5 {
        let store = EventStore::open(dir.path()).unwrap();
        let (answer, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let mut writers = JoinSet::new();
        for _ in 0..32 {
            let (store, answer) = (store.clone(), answer.clone());
            writers.spawn(async move {
                loop {
                    let task = stream();
                    store.append(first(&task, "busy")).await.unwrap();
                    answer.send(task).unwrap();
                }
            });
        }
        let mut streams = Vec::new();
        while streams.len() < 200 {
            streams.push(answers.recv().await.unwrap());
        }
        writers.shutdown().await;
        drop((store, answer));
        while let Some(stream) = answers.recv().await {
            streams.push(stream);
        }
        acknowledged += streams.len();
        let store = EventStore::open(dir.path()).unwrap();
        for stream in &streams {
            assert_eq!(store.read_stream(stream, Revision(0)).await.unwrap().len(), 1, "round {round}");
        }
        let events = all_events(&store).await;
        assert!(events.len() >= acknowledged);
        assert_eq!(chain::verify(Hash::ZERO, &events), Ok(store.head().hash));
    }
}

/// Runs one of the ignored tests below in a separate process. In the shell's `script`, `$0 $@` is the command line of
/// the test.
fn run_in_process(shell: &[&str], script: &str, test: &str, dir: &Path) -> Output {
    let (program, options) = shell.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(options).args(["-c", script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("TASKBELL_TEST_DIR", dir).output().unwrap()
}

/// The folder that was passed to [`run_in_process`].
fn test_dir() -> std::path::PathBuf {
    std::env::var_os("TASKBELL_TEST_DIR").unwrap().into()
}

/// Appends until an append fails. Returns the number of successful appends and the error.
async fn append_until_failure(store: &EventStore) -> (u64, AppendError) {
    for written in 0..100_000 {
        if let Err(error) = store.append(first(&stream(), "filling")).await {
            return (written, error);
        }
    }
    panic!("no append failed");
}

#[tokio::test]
async fn at_the_limit_of_file_sizes_a_write_is_refused_and_the_log_can_be_read() {
    let dir = folder();
    // The process has a limit for the size of files and ignores its signal. SQLite reports it as another error than "disk
    // full".
    let script = "trap '' XFSZ && ulimit -f 512 && exec \"$0\" \"$@\"";
    let run = run_in_process(&["sh"], script, "store_contract::folder::write_until_a_file_is_too_large", dir.path());
    assert!(run.status.success() && String::from_utf8_lossy(&run.stdout).contains("1 passed"), "{run:?}");
    let store = EventStore::open(dir.path()).unwrap();
    assert_eq!(chain::verify(Hash::ZERO, &all_events(&store).await), Ok(store.head().hash));
    assert_eq!(store.append(first(&stream(), "after")).await, Ok(Revision(0)));
}

#[tokio::test]
#[ignore = "runs with a limit of file sizes: see at_the_limit_of_file_sizes_a_write_is_refused_and_the_log_can_be_read"]
async fn write_until_a_file_is_too_large() {
    let store = EventStore::open(&test_dir()).unwrap();
    let (written, error) = append_until_failure(&store).await;
    assert!(written > 10 && matches!(&error, AppendError::Unavailable(_)), "{written}, {error}");
    assert!(error.to_string().contains("largest size") && !store.has_failed(), "{error}");
    assert_eq!(store.head().position, Position(written));
    let events = all_events(&store).await;
    assert_eq!((events.len() as u64, chain::verify(Hash::ZERO, &events)), (written, Ok(store.head().hash)));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let dir = folder();
    let small = ["unshare", "--user", "--map-root-user", "--mount", "sh"];
    if !Command::new(small[0]).args(&small[1..4]).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("not run: this system doesn't let this user mount a small disk");
        return;
    }
    let script = "mount -t tmpfs -o size=2m tmpfs \"$TASKBELL_TEST_DIR\" && exec \"$0\" \"$@\"";
    let run = run_in_process(&small, script, "store_contract::folder::write_until_the_disk_is_full", dir.path());
    assert!(run.status.success() && String::from_utf8_lossy(&run.stdout).contains("1 passed"), "{run:?}");
}

#[tokio::test]
#[ignore = "runs on a small disk: see a_full_disk_refuses_writes_until_there_is_room"]
async fn write_until_the_disk_is_full() {
    let dir = test_dir();
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let store = EventStore::open(&dir.join("data")).unwrap();
    let (written, error) = append_until_failure(&store).await;
    assert!(written > 10 && matches!(&error, AppendError::Unavailable(_)), "{written}, {error}");
    assert!(matches!(store.append(first(&stream(), "again")).await, Err(AppendError::Unavailable(_))));
    let why = store.health().unwrap_err();
    assert!(why.contains("full") && !store.has_failed(), "{why}");
    assert_eq!(store.head().position, Position(written));
    let head = store.head();
    std::fs::remove_file(&ballast).unwrap();
    // No append is sent: the writer tries by itself.
    assert_eq!(store.wait_for_health(true).await, Ok(()));
    assert_eq!(store.head(), head, "the writer's try is no event");
    assert_eq!(store.append(first(&stream(), "room")).await, Ok(Revision(0)));
    let events = all_events(&store).await;
    assert_eq!((events.len() as u64, chain::verify(Hash::ZERO, &events)), (written + 1, Ok(store.head().hash)));
}
