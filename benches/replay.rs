//! Reading the whole log back: decoded, and folded into the views, beside a plain read of the same events from a file.
//! Medians of five runs over a log that the page cache holds.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

mod shared;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use taskbell::store::{Append, EventStore, Expected, NewEvent, Recorded, StreamName, new_id, now};
use taskbell::task::{Position, TaskId};
use taskbell::views::Views;

const TASKS: usize = 100_000;
const EVENTS: usize = TASKS * 3;
const PAGE: usize = 10_000;
const RUNS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = shared::folder();
    let (log, plain) = (dir.path().join("log"), dir.path().join("plain.ndjson"));
    runtime.block_on(fill(&log, &plain));
    let bytes = plain.metadata().unwrap().len();
    println!("{EVENTS} events, {} bytes of JSON each", bytes / EVENTS as u64);
    println!("{:<28} {:>12} {:>9} {:>10}", "", "events/s", "MB/s", "of a read");
    let read = median(|| assert_eq!(std::fs::read(&plain).unwrap().len() as u64, bytes));
    // Opened anew each time, so that nothing is in its memory.
    let decoded = median(|| runtime.block_on(all(&log, |_| {})));
    let folded = median(|| {
        let mut views = Views::default();
        runtime.block_on(all(&log, |event| drop(views.apply(event))));
    });
    for (name, time) in [("plain read of a file", read), ("read_all", decoded), ("read_all + views.apply", folded)] {
        let (rate, megabytes) = (EVENTS as f64 / time.as_secs_f64(), bytes as f64 / 1e6 / time.as_secs_f64());
        println!("{name:<28} {rate:>12.0} {megabytes:>9.0} {:>9.4}x", read.as_secs_f64() / time.as_secs_f64());
    }
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[RUNS / 2]
}

async fn all(dir: &Path, mut each: impl FnMut(&Recorded)) {
    let store = EventStore::open(dir).unwrap();
    let mut after = Position(0);
    loop {
        let page = store.read_all(after, PAGE).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        for event in &page {
            each(event);
        }
    }
    assert_eq!(after, Position(EVENTS as u64));
}

/// The same events in the log and, as lines of JSON, in a file.
async fn fill(log: &Path, plain: &Path) {
    let store = EventStore::open(log).unwrap();
    for _ in 0..TASKS / 1000 {
        let appends = (0..1000).map(|_| {
            let event = |event| NewEvent { id: new_id(), time: now(), meta: shared::meta(), event };
            let events = shared::lifecycle(&format!("owner-{}", new_id().as_u128() % 1000))
                .map(|fact| event(fact.into()))
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
