//! The fold of a whole log, which several threads read.

use std::path::Path;
use std::sync::{Arc, Mutex};

use taskbell::store::ReadError;

use super::folder::{folder, tamper};
use super::*;

/// More than a thread reads before the next thread continues, and not a multiple of it.
const EVENTS: u64 = 10_001;

/// The positions in the order in which they were applied.
type Applied = Arc<Mutex<Vec<u64>>>;

/// Writes a log of [`EVENTS`] events and closes it.
async fn write_log(dir: &Path) {
    let store = EventStore::open(dir).unwrap();
    let appends = (0..EVENTS).map(|_| first(&stream(), "t")).collect();
    assert!(store.append_many(appends).await.iter().all(Result::is_ok));
}

async fn fold(store: &EventStore, upto: u64) -> (Vec<u64>, Result<(), ReadError>) {
    fold_after(store, 0, upto).await
}

async fn fold_after(store: &EventStore, after: u64, upto: u64) -> (Vec<u64>, Result<(), ReadError>) {
    let applied = Applied::default();
    let folded = store.fold((Position(after), Position(upto)), applied.clone(), |applied, fact| {
        applied.lock().unwrap().push(fact.position.0);
    });
    let result = folded.await.map(drop);
    (applied.lock().unwrap().clone(), result)
}

#[tokio::test]
async fn a_fold_applies_every_event_once_and_in_order_up_to_the_position() {
    let dir = folder();
    write_log(dir.path()).await;
    let store = EventStore::open(dir.path()).unwrap();
    for upto in [0, 1, 2047, 2048, 2049, 4096, 9999, EVENTS] {
        assert_eq!(fold(&store, upto).await, ((1..=upto).collect(), Ok(())));
    }
    for after in [0, 1, 2047, 2048, 5000, EVENTS - 1, EVENTS] {
        assert_eq!(fold_after(&store, after, EVENTS).await, ((after + 1..=EVENTS).collect(), Ok(())));
    }
    let (applied, result) = fold(&store, EVENTS + 1).await;
    assert!(applied.is_empty() && matches!(result, Err(ReadError::Unavailable(_))), "{result:?}");
}

#[tokio::test]
async fn a_fold_ends_with_the_first_event_that_is_damaged_or_lost() {
    let dir = folder();
    write_log(dir.path()).await;
    for (sql, position, what) in [
        ("UPDATE events SET data = '[]' WHERE position IN (8000, 9000)", 8000, "event 8000"),
        ("DELETE FROM events WHERE position = 6144", 6144, "lost event 6144"),
        ("UPDATE events SET meta = '' WHERE position = 5000", 5000, "event 5000"),
        ("DELETE FROM events WHERE position = 2049", 2049, "lost event 2049"),
        ("DELETE FROM events WHERE position < 3", 1, "lost event 1"),
    ] {
        tamper(dir.path(), sql);
        let store = EventStore::open(dir.path()).unwrap();
        let (applied, result) = fold(&store, EVENTS).await;
        let Err(ReadError::Damaged(found)) = result else { panic!("{sql}: {result:?}") };
        assert!(found.contains(what), "{sql}: {found}");
        assert!(applied.iter().copied().eq(1..=applied.len() as u64), "{sql}: nothing is applied out of order");
        assert!((applied.len() as u64) < position, "{sql}: nothing after it is applied");
    }
}

/// A part of a block is sent before the block ends if its events are large.
#[tokio::test]
async fn a_fold_of_large_events_applies_them_in_order_too() {
    let dir = folder();
    let store = EventStore::open(dir.path()).unwrap();
    let title = "t".repeat(40_000);
    let appends = (0..100).map(|_| first(&stream(), &title)).collect();
    assert!(store.append_many(appends).await.iter().all(Result::is_ok));
    assert_eq!(fold(&store, 100).await, ((1..=100).collect(), Ok(())));
}
