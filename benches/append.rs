//! Measures durable events per second with 1, 64 and 1,024 appenders. Each appender waits for the result of its
//! append before it sends the next one. The reference is the speed of the disk: one thread overwrites 4 KiB in a preallocated
//! file and syncs it. Each figure is the median of three runs.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

mod shared;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use taskbell::store::{Append, EventStore, Expected, NewEvent, StreamName, new_id, now};
use taskbell::task::{Revision, TaskId};

/// How long one run takes.
const RUN_TIME: Duration = Duration::from_secs(2);
const RUNS: usize = 3;

/// Events per second, and the 50th and the 99th percentile of the latency in microseconds.
type Figures = (f64, u128, u128);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = shared::temporary_directory();
    println!("durable writes, {} bytes of meta and data on average", average_bytes());
    println!("{:<28} {:>12} {:>9} {:>9} {:>14}", "", "events/s", "p50 µs", "p99 µs", "ratio to disk");
    let disk = median(|run| measure_disk(&dir.path().join(format!("disk-{run}"))));
    print("plain 4 KiB pwrite+fdatasync", disk, disk);
    for appenders in [1, 64, 1024] {
        let figures = median(|run| {
            runtime.block_on(measure_appenders(&dir.path().join(format!("{appenders}-{run}")), appenders))
        });
        print(&format!("{appenders} appenders"), figures, disk);
    }
}

fn print(name: &str, figures: Figures, disk: Figures) {
    println!("{name:<28} {:>12.0} {:>9} {:>9} {:>13.2}x", figures.0, figures.1, figures.2, figures.0 / disk.0);
}

/// Runs the measurement [`RUNS`] times and returns the run with the median rate.
fn median(run: impl FnMut(usize) -> Figures) -> Figures {
    let mut runs: Vec<_> = (0..RUNS).map(run).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[RUNS / 2]
}

/// Computes the figures from the start of the run and the latency of each write.
fn figures(started_at: Instant, mut latencies: Vec<Duration>) -> Figures {
    let rate = latencies.len() as f64 / started_at.elapsed().as_secs_f64();
    latencies.sort_unstable();
    (rate, latencies[latencies.len() / 2].as_micros(), latencies[latencies.len() * 99 / 100].as_micros())
}

/// Measures one thread that overwrites pages of a file and syncs each.
fn measure_disk(path: &Path) -> Figures {
    const PAGES: u64 = 4096;
    let file = File::create(path).unwrap();
    file.write_all_at(&vec![1; 4096 * 4096], 0).unwrap();
    file.sync_all().unwrap();
    let (started_at, mut latencies) = (Instant::now(), Vec::new());
    for page in (0..PAGES).cycle() {
        let write_started_at = Instant::now();
        file.write_all_at(&[2; 4096], page * 4096).unwrap();
        file.sync_data().unwrap();
        latencies.push(write_started_at.elapsed());
        if started_at.elapsed() > RUN_TIME {
            break;
        }
    }
    figures(started_at, latencies)
}

/// Measures this many concurrent appenders on a new log.
async fn measure_appenders(dir: &Path, appenders: usize) -> Figures {
    let store = EventStore::open(dir).unwrap();
    let started_at = Instant::now();
    let appenders: Vec<_> = (0..appenders).map(|_| tokio::spawn(append_tasks(store.clone(), started_at))).collect();
    let mut latencies = Vec::new();
    for appender in appenders {
        latencies.extend(appender.await.unwrap());
    }
    let figures = figures(started_at, latencies);
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
    figures
}

/// Appends the three events of one task after another, with one append for each event, until the time is over. Returns the
/// latency of each append.
async fn append_tasks(store: EventStore, started_at: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    loop {
        let stream = StreamName::task(TaskId::from_uuid(new_id()));
        let mut expected = Expected::NoStream;
        for event in shared::task_events("ann") {
            let events = vec![NewEvent { id: new_id(), time: now(), meta: shared::meta(), event: event.into() }];
            let write_started_at = Instant::now();
            let revision: Revision = store.append(Append { stream: stream.clone(), expected, events }).await.unwrap();
            latencies.push(write_started_at.elapsed());
            expected = Expected::Revision(revision);
        }
        if started_at.elapsed() > RUN_TIME {
            return latencies;
        }
    }
}

/// The average size of an event's metadata and data, in bytes.
fn average_bytes() -> usize {
    let data: usize = shared::task_events("ann")
        .map(|event| taskbell::store::codec::encode(&event.into()).unwrap().get().len())
        .iter()
        .sum();
    data / 3 + serde_json::to_string(&shared::meta()).unwrap().len()
}
