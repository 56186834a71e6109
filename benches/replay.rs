//! Measures how fast the whole log is read and decoded, and how fast the views are computed from it. The reference is a
//! plain read of a file with the same events. Each figure is the median of five runs, with the log in the page cache.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

mod shared;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use taskbell::projection::replay::views_at;
use taskbell::store::{Append, EventStore, Expected, NewEvent, Recorded, StreamName, new_id, now};
use taskbell::task::{Position, TaskId};
use taskbell::views::Views;

// The allocator of the program.
#[cfg(feature = "cli")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TASKS: usize = 300_000;
const EVENTS: usize = TASKS * 3;
/// How many events are read at once.
const PAGE_SIZE: usize = 10_000;
const RUNS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = shared::temporary_directory();
    let (log, plain) = (dir.path().join("log"), dir.path().join("plain.ndjson"));
    runtime.block_on(write_events(&log, &plain));
    let bytes = plain.metadata().unwrap().len();
    println!("{EVENTS} events, {} bytes of JSON each", bytes / EVENTS as u64);
    println!("{:<28} {:>12} {:>9} {:>19}", "", "events/s", "MB/s", "ratio to plain read");
    let read = median(|| assert_eq!(std::fs::read(&plain).unwrap().len() as u64, bytes));
    // Each run opens the log again, so that its cache of recent events is empty.
    let decoded = median(|| runtime.block_on(read_log(&log, |_| {})));
    let folded = median(|| {
        let mut views = Views::default();
        runtime.block_on(read_log(&log, |event| drop(views.apply(event))));
    });
    let rebuilt = median(|| runtime.block_on(rebuild_views(&log)));
    let figures = [
        ("plain read of a file", read),
        ("read_all", decoded),
        ("read_all + views.apply", folded),
        ("the views of a start", rebuilt),
    ];
    for (name, time) in figures {
        let (rate, megabytes) = (EVENTS as f64 / time.as_secs_f64(), bytes as f64 / 1e6 / time.as_secs_f64());
        println!("{name:<28} {rate:>12.0} {megabytes:>9.0} {:>18.4}x", read.as_secs_f64() / time.as_secs_f64());
    }
}

/// Runs the measurement [`RUNS`] times and returns the median time.
fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let started_at = Instant::now();
            run();
            started_at.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[RUNS / 2]
}

/// Opens the log and calls `on_event` with each event.
async fn read_log(dir: &Path, mut on_event: impl FnMut(&Recorded)) {
    let store = EventStore::open(dir).unwrap();
    let mut after = Position(0);
    loop {
        let page = store.read_all(after, PAGE_SIZE).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        for event in &page {
            on_event(event);
        }
    }
    assert_eq!(after, Position(EVENTS as u64));
}

/// Opens the log and computes the views from it, as a server does at its start.
async fn rebuild_views(dir: &Path) {
    let store = EventStore::open(dir).unwrap();
    let views = views_at(&store, None, store.head().position).await.unwrap();
    assert_eq!((views.position(), views.len()), (Position(EVENTS as u64), TASKS));
}

/// Appends the events to the log, and writes the same events as lines of JSON to a file.
async fn write_events(log: &Path, plain: &Path) {
    let store = EventStore::open(log).unwrap();
    for _ in 0..TASKS / 1000 {
        let appends = (0..1000).map(|_| {
            let new_event = |event| NewEvent { id: new_id(), time: now(), meta: shared::meta(), event };
            let events = shared::task_events(&format!("owner-{}", new_id().as_u128() % 1000))
                .map(|event| new_event(event.into()))
                .to_vec();
            Append { stream: StreamName::task(TaskId::from_uuid(new_id())), expected: Expected::NoStream, events }
        });
        assert!(store.append_many(appends.collect()).await.iter().all(Result::is_ok));
    }
    let mut text = String::new();
    for event in store.read_all(Position(0), EVENTS).await.unwrap() {
        writeln!(text, "{}", serde_json::to_string(&*event).unwrap()).unwrap();
    }
    std::fs::write(plain, text).unwrap();
}
