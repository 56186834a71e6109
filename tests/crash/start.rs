//! What a start makes durable before it writes. After a failed sync the system may call pages clean that are not on the disk,
//! and a new process reads them from the memory of the system. So the first append of a process must not follow bytes of an
//! earlier process that only this memory holds.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use taskbell::store::EventStore;
use taskbell::store::conformance::sample::{first, stream};
use tempfile::TempDir;

use super::recorder::{Call, Recorded};
use crate::store_contract::copy_as_killed;
use crate::support::Server;

/// The size of a page of `log.db` in bytes.
const PAGE: usize = 8192;
/// The sizes of the header of the write-ahead log and of the header of a frame in bytes.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// A folder whose folder `data` is as a killed server leaves it: the events of twenty commits are in the write-ahead log.
pub async fn data_of_a_killed_server() -> TempDir {
    let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = EventStore::open(dir.path()).unwrap();
    for _ in 0..20 {
        store.append(first(&stream(), "left")).await.unwrap();
    }
    let data = left.path().join("data");
    copy_as_killed(dir.path(), &data);
    drop(store);
    // A log that is closed has the witness of its end.
    std::fs::copy(dir.path().join("log.witness"), data.join("log.witness")).unwrap();
    left
}

/// The numbers of the pages in this write-ahead log, which all have been committed. The first page has the number 1.
fn pages(wal: &[u8]) -> BTreeSet<u64> {
    let frames = wal[HEADER..].chunks_exact(FRAME_HEADER + PAGE);
    frames.map(|frame| u32::from_be_bytes(frame[..4].try_into().unwrap()).into()).collect()
}

/// The calls before the first one that writes to the write-ahead log beyond this length.
fn before_first_append(calls: &[Call], wal_length: u64) -> &[Call] {
    let appends =
        |call: &Call| matches!(call, Call::Write { file, offset, .. } if file == "log.db-wal" && *offset >= wal_length);
    &calls[..calls.iter().position(appends).expect("an append")]
}

/// What the calls before the first append have not made durable in `log.db`; `None` if these pages are, and if the write-ahead
/// log is empty.
fn missing_from_log_db(calls: &[Call], pages: &BTreeSet<u64>) -> Option<String> {
    let mut missing = pages.clone();
    let (mut unsynced, mut is_empty) = (BTreeSet::new(), false);
    for call in before_first_append(calls, 0) {
        match call {
            Call::Write { file, offset, length, .. } if file == "log.db" && *length == PAGE as u64 => {
                unsynced.insert(offset / PAGE as u64 + 1);
            }
            Call::Sync { file } if file == "log.db" => missing.retain(|page| !unsynced.contains(page)),
            Call::Truncate { file, length: 0 } if file == "log.db-wal" => is_empty = missing.is_empty(),
            _ => {}
        }
    }
    (!is_empty).then(|| format!("{missing:?} of {pages:?}"))
}

/// Whether the calls before the first append have written the write-ahead log of this length again and have synced it.
fn wrote_back(calls: &[Call], wal_length: u64) -> bool {
    let (mut written, mut is_durable) = (0, false);
    for call in before_first_append(calls, wal_length) {
        match call {
            Call::Write { file, offset, length, .. } if file == "log.db-wal" && *offset == written => written += length,
            Call::Sync { file } if file == "log.db-wal" => is_durable = written == wal_length,
            _ => {}
        }
    }
    is_durable
}

#[tokio::test]
async fn what_a_killed_server_has_written_is_synced_in_log_db_before_the_first_append() {
    let left = data_of_a_killed_server().await;
    let pages = pages(&std::fs::read(left.path().join("data/log.db-wal")).unwrap());
    let Some(recorded) = Recorded::start(left) else { return };
    recorded.server.submit(&json!({"kind": "no.worker"})).await;
    let calls = recorded.stop();
    assert_eq!(missing_from_log_db(&calls, &pages), None);
    // What a start without the checkpoint does, and one without the sync.
    let without = |skipped: &dyn Fn(&Call) -> bool| -> Vec<Call> {
        calls.iter().filter(|call| !skipped(call)).cloned().collect()
    };
    for calls in [
        without(&|call| matches!(call, Call::Write { file, .. } if file == "log.db")),
        without(&|call| matches!(call, Call::Sync { file } if file == "log.db")),
        without(&|call| matches!(call, Call::Truncate { .. })),
    ] {
        assert!(missing_from_log_db(&calls, &pages).is_some());
    }
}

fn reader(data: &Path) -> Connection {
    let reader = Connection::open(data.join("log.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events;").unwrap();
    reader
}

#[tokio::test]
async fn beside_a_reader_the_write_ahead_log_itself_is_written_again_and_synced_before_the_first_append() {
    let left = data_of_a_killed_server().await;
    let data = left.path().join("data");
    let before = std::fs::read(data.join("log.db-wal")).unwrap();
    let reader = reader(&data);
    let Some(recorded) = Recorded::start(left) else { return };
    recorded.server.submit(&json!({"kind": "no.worker"})).await;
    assert!(std::fs::read(data.join("log.db-wal")).unwrap().starts_with(&before), "the same bytes");
    let log_line = recorded.server.stderr();
    assert!(log_line.contains("another program reads log.db"), "{log_line}");
    let calls = recorded.stop();
    assert!(wrote_back(&calls, before.len() as u64), "{calls:?}");
    let without_write: Vec<_> = calls.iter().skip_while(|call| call.file() == "log.db-wal").cloned().collect();
    let end = before.len() as u64;
    let is_written_back =
        |call: &Call| matches!(call, Call::Write { file, offset, .. } if file == "log.db-wal" && *offset < end);
    let without_write: Vec<_> = without_write.into_iter().filter(|call| !is_written_back(call)).collect();
    assert!(!wrote_back(&without_write, end));
    drop(reader);
}

/// The position in each write of the witness, with the number of syncs of the write-ahead log before it.
fn named_positions(calls: &[Call]) -> Vec<(u64, u64)> {
    let (mut syncs, mut named) = (0, Vec::new());
    for call in calls {
        match call {
            Call::Sync { file } if file == "log.db-wal" => syncs += 1,
            Call::Write { file, text, .. } if file == "log.witness" => {
                let position = text.split("position ").nth(1).unwrap().split("\\n").next().unwrap();
                named.push((position.parse().unwrap(), syncs));
            }
            _ => {}
        }
    }
    named
}

/// The position that the file of the witness names.
fn named_now(data: &Path) -> u64 {
    let text = std::fs::read_to_string(data.join("log.witness")).unwrap();
    let positions = text.split("position ").skip(1).map(|rest| rest.lines().next().unwrap().parse().unwrap());
    positions.max().unwrap()
}

#[tokio::test]
async fn the_witness_follows_the_log_and_never_names_an_event_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let Some(recorded) = Recorded::start(dir) else { return };
    let (server, data) = (&recorded.server, recorded.server.data());
    server.submit(&json!({"kind": "no.worker"})).await;
    let first = named_now(&data);
    let mut events = 1;
    while named_now(&data) <= first + 3 {
        server.submit(&json!({"kind": "no.worker"})).await;
        events += 1;
    }
    let calls = recorded.stop();
    let named = named_positions(&calls);
    // Each event has a commit of its own, and so a sync of its own.
    assert!(named.iter().all(|(position, syncs)| position <= syncs), "{named:?}");
    assert_eq!(named.last().unwrap().0, events);
    assert!(named.len() < usize::try_from(events).unwrap(), "one write names many commits: {named:?}");
    let syncs = calls.iter().filter(|call| matches!(call, Call::Sync { file } if file == "log.witness")).count();
    assert!(syncs >= named.len(), "each name is synced");
}

#[tokio::test]
async fn a_server_that_is_stopped_beside_a_reader_ends_quickly_and_says_that_nothing_is_lost() {
    let mut server = Server::start();
    let first = server.submit(&json!({"kind": "no.worker"})).await;
    let reader = reader(&server.data());
    let second = server.submit(&json!({"kind": "no.worker"})).await;
    let begun = Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let log_line = "another program reads log.db, so log.db-wal stays: nothing is lost";
    assert!(server.stderr().contains(log_line), "{}", server.stderr());
    drop(reader);
    server.restart();
    for id in [first, second] {
        assert_eq!(server.task(&id).await["status"], "queued");
    }
}
