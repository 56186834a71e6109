//! Tests of `log verify`: each kind of tampering is found and named by its position.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use taskbell::internal::{Verified, VerifyRange, verify_log};
use taskbell::store::conformance::sample::{first, stream};
use taskbell::store::{EventStore, Hash, Recorded, Truncation};
use taskbell::task::Position;
use tempfile::TempDir;

use crate::store_contract::all_events;
use crate::store_contract::damage::hide_from_index;
use crate::store_contract::folder::tamper;
use crate::store_contract::format::lines_of_view;
use crate::support::{self, taskbell};

/// The number of events.
const EVENTS: u64 = 20;

/// A log of [`EVENTS`] events, each of a stream of its own, and the hashes of the events.
async fn log() -> (TempDir, Vec<Hash>) {
    let dir = tempfile::tempdir().unwrap();
    let store = EventStore::open(dir.path()).unwrap();
    let appends = (0..EVENTS).map(|number| first(&stream(), &format!("t{number}"))).collect();
    assert!(store.append_many(appends).await.iter().all(Result::is_ok));
    let hashes = all_events(&store).await.iter().map(|event| event.hash).collect();
    (dir, hashes)
}

const ALL: VerifyRange = VerifyRange { from: Position(1), to: None, head: None };

fn verify(dir: &Path, range: VerifyRange) -> Verified {
    verify_log(dir, range, &mut |_, _| {}).unwrap()
}

/// The positions and the sentences of the faults.
fn faults(dir: &Path, range: VerifyRange) -> Vec<(u64, String)> {
    let verified = verify(dir, range);
    assert_eq!(verified.fault_count, verified.faults.len() as u64);
    verified.faults.into_iter().map(|fault| (fault.position.0, fault.what)).collect()
}

/// Gives the event at this position the hash that it must have after the hash `before`.
fn with_right_hash(dir: &Path, position: usize, before: Hash) {
    let event = Recorded::from_json(&lines_of_view(dir)[position - 1]).unwrap();
    let hash = event.expected_hash(before);
    tamper(dir, &format!("UPDATE events SET hash = x'{hash}' WHERE position = {position}"));
}

#[tokio::test]
async fn a_log_as_it_was_written_has_no_faults() {
    let (dir, hashes) = log().await;
    let head = Some((Position(EVENTS), hashes[19]));
    let verified = verify(dir.path(), VerifyRange { head, ..ALL });
    let expected =
        Verified { events: EVENTS, position: Position(EVENTS), hash: hashes[19], faults: vec![], fault_count: 0 };
    assert_eq!(verified, expected);
    let part = VerifyRange { from: Position(8), to: Some(Position(12)), head: Some((Position(3), hashes[2])) };
    assert_eq!(verify(dir.path(), part), Verified { events: 5, ..expected });
}

#[tokio::test]
async fn a_changed_event_is_named_alone() {
    for set in
        ["data = replace(data, 't6', 't9')", "time = time - 1", "hash = zeroblob(32)", "hash = x''", "data = 'x'"]
    {
        let (dir, _) = log().await;
        tamper(dir.path(), &format!("UPDATE events SET {set} WHERE position = 7"));
        let found = faults(dir.path(), ALL);
        assert!(matches!(&found[..], [(7, what)] if what.contains("event 7")), "{set}: {found:?}");
        for (from, to, count) in [(1, 6, 0), (8, 20, 0), (7, 7, 1), (2, 20, 1)] {
            let range = VerifyRange { from: Position(from), to: Some(Position(to)), head: None };
            assert_eq!(faults(dir.path(), range).len(), count, "{set}: {from} to {to}");
        }
    }
}

#[tokio::test]
async fn a_changed_event_whose_hash_was_computed_again_is_noticed_at_the_next_event() {
    let (dir, hashes) = log().await;
    tamper(dir.path(), "UPDATE events SET data = replace(data, 't6', 't9') WHERE position = 7");
    with_right_hash(dir.path(), 7, hashes[5]);
    let found = faults(dir.path(), ALL);
    assert!(matches!(&found[..], [(8, what)] if what.contains("event 8 ")), "{found:?}");
}

#[tokio::test]
async fn a_dropped_event_is_named() {
    let (dir, _) = log().await;
    tamper(dir.path(), "DELETE FROM events WHERE position IN (7, 12, 13)");
    let found = faults(dir.path(), ALL);
    let expected = [(7, "event 7 is missing".to_owned()), (12, "the events 12 to 13 are missing".to_owned())];
    assert_eq!(found, expected);

    let (dir, _) = log().await;
    let close = "DELETE FROM events WHERE position = 7;
        UPDATE events SET position = position + 99, stream = stream + 99 WHERE position > 7;
        UPDATE events SET position = position - 100, stream = stream - 100 WHERE position > 100";
    tamper(dir.path(), close);
    let found = faults(dir.path(), ALL);
    assert!(matches!(&found[..], [(7, what)] if what.contains("event 7 ")), "{found:?}");
}

#[tokio::test]
async fn a_reordered_event_is_named() {
    let (dir, _) = log().await;
    let exchange = "UPDATE events SET position = 107, stream = 107 WHERE position = 7;
        UPDATE events SET position = 7, stream = 7 WHERE position = 8;
        UPDATE events SET position = 8, stream = 8 WHERE position = 107";
    tamper(dir.path(), exchange);
    let found = faults(dir.path(), ALL);
    assert_eq!(found.first().map(|(position, _)| *position), Some(7), "{found:?}");
    assert!(found.iter().all(|(position, _)| (7..=9).contains(position)), "{found:?}");
}

#[tokio::test]
async fn an_inserted_event_is_noticed_at_the_latest_at_the_next_one() {
    let (dir, hashes) = log().await;
    let insert = "UPDATE events SET position = position + 100, stream = stream + 100 WHERE position >= 7;
        UPDATE events SET position = position - 99, stream = stream - 99 WHERE position > 100;
        INSERT INTO events SELECT 7, 7, 0, 'queue-mail', id, type, time, actor, correlation_id, causation_id, request_id,
            meta, data, hash FROM events WHERE position = 3";
    tamper(dir.path(), insert);
    assert_eq!(faults(dir.path(), ALL).first().map(|(position, _)| *position), Some(7));
    with_right_hash(dir.path(), 7, hashes[5]);
    let found = faults(dir.path(), ALL);
    assert!(matches!(&found[..], [(8, what)] if what.contains("inserted")), "{found:?}");
}

#[tokio::test]
async fn a_lost_end_is_found_by_the_head_that_was_kept_elsewhere() {
    let (dir, hashes) = log().await;
    tamper(dir.path(), "DELETE FROM events WHERE position > 15");
    assert_eq!(faults(dir.path(), ALL), [], "without a head it is a shorter log");
    let head = Some((Position(20), hashes[19]));
    let found = faults(dir.path(), VerifyRange { head, ..ALL });
    assert!(matches!(&found[..], [(16, what)] if what.contains("ends at position 15")), "{found:?}");
    // Other events in their place.
    let store = EventStore::open_with(dir.path(), Truncation::Accept).unwrap();
    assert!(store.append_many((0..5).map(|_| first(&stream(), "new")).collect()).await.iter().all(Result::is_ok));
    drop(store);
    assert_eq!(faults(dir.path(), ALL), []);
    let found = faults(dir.path(), VerifyRange { head, ..ALL });
    assert!(matches!(&found[..], [(20, what)] if what.contains("event 20 has the hash")), "{found:?}");
}

#[tokio::test]
async fn damage_outside_of_the_chain_is_found_too() {
    let (dir, _) = log().await;
    hide_from_index(dir.path(), "first_events", 9);
    let found = faults(dir.path(), ALL);
    assert!(matches!(&found[..], [(_, what)] if what.contains("event 9 can't be found")), "{found:?}");
    let (dir, _) = log().await;
    tamper(dir.path(), "UPDATE log SET epoch = '0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0'");
    assert!(matches!(&faults(dir.path(), ALL)[..], [(0, what)] if what.contains("epoch")));
}

fn run(data: &Path, more: &[&str]) -> Output {
    let mut command = taskbell();
    command.args(["log", "verify", "--data"]).arg(data).args(more).stdin(Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn ends_with(output: &Output, exit: i32, sentence: &str) {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.code() == Some(exit) && said.contains(sentence), "{:?}: {said}", output.status);
}

#[tokio::test]
async fn the_outcome_is_a_sentence_and_an_exit_code() {
    let (dir, hashes) = log().await;
    let done = run(dir.path(), &["--head", &format!("20:{}", hashes[19])]);
    ends_with(
        &done,
        0,
        &format!("20 events checked: all are as they were written\nposition 20  hash {}\n", hashes[19]),
    );
    tamper(dir.path(), "UPDATE events SET time = time + 1 WHERE position = 7");
    ends_with(&run(dir.path(), &[]), 1, "event 7 doesn't continue the chain");
    ends_with(&run(dir.path(), &[]), 1, "20 events checked: 1 fault\n");
    ends_with(&run(dir.path(), &["--from", "8", "--to", "9"]), 0, "2 events checked: all are");
    ends_with(&run(dir.path(), &["--from", "21"]), 2, "ends at position 20");
    ends_with(&run(dir.path(), &["--from", "9", "--to", "8"]), 2, "--to must be at least");
    ends_with(&run(dir.path(), &["--head", "20"]), 2, "64 hexadecimal digits");
    ends_with(&run(&dir.path().join("nothing"), &[]), 2, "contains no log");
    let running = support::Server::start();
    ends_with(&run(&running.data(), &[]), 4, "another process uses");
}

#[tokio::test]
async fn the_outcome_can_be_json() {
    let (dir, hashes) = log().await;
    let json = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
    let done = json(&run(dir.path(), &["--json"]));
    let expected = serde_json::json!({
        "verified": true, "events": 20, "position": 20, "hash": hashes[19].to_string(), "fault_count": 0, "faults": [],
    });
    assert_eq!(done, expected);
    tamper(dir.path(), "DELETE FROM events WHERE position = 7");
    let found = run(dir.path(), &["--json"]);
    assert_eq!(found.status.code(), Some(1));
    let found = json(&found);
    assert_eq!((&found["verified"], &found["fault_count"]), (&false.into(), &1.into()));
    assert_eq!(found["faults"], serde_json::json!([{"position": 7, "what": "event 7 is missing"}]));
}

#[tokio::test]
async fn the_log_of_a_server_that_was_killed_is_checked_with_its_write_ahead_log() {
    let mut server = support::Server::start();
    for _ in 0..3 {
        server.submit(&serde_json::json!({"kind": "demo.none"})).await;
    }
    let head = server.get("/v1/log/head").await.body;
    server.kill9();
    assert!(server.data().join("log.db-wal").metadata().unwrap().len() > 0, "the events are only there");
    let head = format!("{}:{}", head["position"], head["hash"].as_str().unwrap());
    ends_with(&run(&server.data(), &["--head", &head]), 0, "3 events checked: all are as they were written");
}
