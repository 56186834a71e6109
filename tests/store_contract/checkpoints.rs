//! Checkpoints of the store in a folder: the write-ahead log stays short, and a kill at any moment loses nothing.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::RngExt as _;
use rusqlite::Connection;
use taskbell::store::{Hash, WriteAheadLog, chain};
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_small() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    let mut reader = store.subscribe(Position(0));
    let title = "x".repeat(1000);
    for _ in 0..40 {
        store.append_many((0..1000).map(|_| first(&stream(), &title)).collect()).await;
        reader.next().await.unwrap();
    }
    let size = |name: &str| dir.path().join(name).metadata().unwrap().len();
    assert!(size("log.db-wal") < 40 << 20, "{} of {}", size("log.db-wal"), size("log.db"));
    drop((store, reader));
    assert!(size("log.db") > 45 << 20 && size("log.db-wal") == 0);
}

/// A title with which each event fills at least one frame.
fn long_title() -> String {
    "x".repeat(8000)
}

/// Appends batches of 100 events until the condition is true for the write-ahead log.
async fn append_until(store: &EventStore, condition: impl Fn(&WriteAheadLog) -> bool) -> WriteAheadLog {
    let title = long_title();
    for _ in 0..1000 {
        let state = store.write_ahead_log().unwrap();
        if condition(&state) {
            return state;
        }
        assert!(
            store.append_many((0..100).map(|_| first(&stream(), &title)).collect()).await.iter().all(Result::is_ok)
        );
    }
    panic!("{:?}", store.write_ahead_log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_counted_and_begin_the_write_ahead_log_anew() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    let state = append_until(&store, |log| log.frames > 1500).await;
    assert_eq!(state, WriteAheadLog { frames: state.frames, ..WriteAheadLog::default() }, "too few frames to copy");
    let state = append_until(&store, |log| log.complete >= 2 && log.frames < 1500).await;
    assert_eq!((state.copied, state.failed), (0, 0), "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_another_program_delays_checkpoints_and_loses_nothing() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    store.append(first(&stream(), "t")).await.unwrap();
    let reader = Connection::open(dir.path().join("log.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events;").unwrap();
    let state = append_until(&store, |log| log.partial >= 2).await;
    assert!(state.frames > 2000 && state.copied < state.frames && state.complete == 0, "{state:?}");
    let seen: i64 = reader.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(seen, 1, "the reader sees its own state of the log");
    reader.execute_batch("COMMIT").unwrap();
    append_until(&store, |log| log.complete >= 2 && log.frames < 2000).await;
    let events = all_events(&store).await;
    assert_eq!(chain::verify(Hash::ZERO, &events), Ok(store.head().hash));
    drop(store);
    let wal = dir.path().join("log.db-wal");
    assert_eq!(wal.metadata().unwrap().len(), 0, "the last checkpoint is complete");
    drop(reader);
    assert_eq!(all_events(&EventStore::open(dir.path()).unwrap()).await.len(), events.len());
}

/// Appends until it is killed. Prints the position of the end of the log and the frames that are not copied, after each append.
#[tokio::test]
#[ignore = "runs in a process that is killed: see a_kill_during_a_checkpoint_loses_nothing"]
async fn append_until_killed() {
    let store = EventStore::open(Path::new(&std::env::var_os("TASKBELL_TEST_DIR").unwrap())).unwrap();
    let title = long_title();
    loop {
        assert!(store.append_many((0..50).map(|_| first(&stream(), &title)).collect()).await.iter().all(Result::is_ok));
        let WriteAheadLog { frames, copied, .. } = store.write_ahead_log().unwrap();
        println!("at {} {}", store.head().position.0, frames - copied.min(frames));
    }
}

#[tokio::test]
async fn a_kill_during_a_checkpoint_loses_nothing() {
    let dir = folder();
    let mut known = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store_contract::checkpoints::append_until_killed", "--ignored", "--nocapture"])
            .env("TASKBELL_TEST_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acknowledged = |line: &str| {
            let mut words = line.strip_prefix("at ")?.split(' ').map(|number| number.parse::<u64>().unwrap());
            known = words.next().unwrap();
            words.next()
        };
        // The thread begins to copy at this number of frames.
        while acknowledged(&lines.next().unwrap()).is_none_or(|frames| frames < 2000) {}
        // The sleep makes the moment of the kill random. A checkpoint lasts some ten milliseconds.
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..40_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // The last line may be cut off by the kill.
        lines.filter(|line| line.matches(' ').count() == 2).for_each(|line| _ = acknowledged(&line));
        let store = EventStore::open(dir.path()).unwrap();
        assert!(store.head().position.0 >= known, "round {round}: {known} events were acknowledged");
        let events = all_events(&store).await;
        assert_eq!(chain::verify(Hash::ZERO, &events), Ok(store.head().hash), "round {round}");
    }
}
