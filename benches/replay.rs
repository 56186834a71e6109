//! Reading the whole log back: decoded, and folded into the views, beside a plain read of the same events from a file.
//! Medians of five runs over a log that the page cache holds.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, Recorded, StreamName, Via, new_id, now};
use taskbell::task::event::{Completed, Created, Event, Outcome, Started};
use taskbell::task::{Position, TaskId};
use taskbell::views::Views;

const TASKS: usize = 100_000;
const EVENTS: usize = TASKS * 3;
const PAGE: usize = 10_000;
const RUNS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir =
        tempfile::tempdir_in(std::env::var("TASKBELL_BENCH_DIR").unwrap_or_else(|_| "target".to_owned())).unwrap();
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
            let event = |event| NewEvent { id: new_id(), time: now(), meta: meta(), event };
            let events = lifecycle().map(|fact| event(fact.into())).to_vec();
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

fn meta() -> Meta {
    Meta { actor: "ann".into(), via: Via::Http, correlation_id: new_id(), causation_id: None, request_id: None }
}

fn lifecycle() -> [Event; 3] {
    let created = Created {
        kind: "content.distribute".into(),
        title: "Distribute the autumn catalogue".into(),
        owner: format!("owner-{}", new_id().as_u128() % 1000),
        input: json!({"from": "catalogue/autumn", "to": ["berlin", "lisbon"]}),
        queue: "default".into(),
        priority: 0,
        run_at: None,
        max_attempts: 3,
        timeout_s: None,
        labels: [].into(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    };
    let started = Started { attempt: 1, worker: "local/a/1".into(), lease: "0".repeat(64) };
    let completed = Completed {
        outcome: Outcome::Succeeded,
        attempt: Some(1),
        message: Some("2 of 2 places have it".into()),
        result: None,
        error: None,
        forced: false,
        progress: None,
    };
    [Event::Created(Box::new(created)), Event::Started(started), Event::Completed(completed)]
}
