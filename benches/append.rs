//! Durable events a second from 1, 64 and 1,024 appenders that each wait for their answer, beside what the disk does by
//! itself: one thread that overwrites 4 KiB in a preallocated file and syncs. Medians of three runs.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

mod shared;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use taskbell::store::{Append, EventStore, Expected, NewEvent, StreamName, new_id, now};
use taskbell::task::{Revision, TaskId};

const RUN: Duration = Duration::from_secs(2);
const RUNS: usize = 3;

/// Events a second, and the 50th and 99th percentile of the wait, in microseconds.
type Figures = (f64, u128, u128);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = shared::folder();
    println!("durable writes, {} bytes of meta and data on average", average());
    println!("{:<28} {:>12} {:>9} {:>9} {:>8}", "", "events/s", "p50 µs", "p99 µs", "of disk");
    let disk = median(|run| disk(&dir.path().join(format!("disk-{run}"))));
    print("plain 4 KiB pwrite+fdatasync", disk, disk);
    for appenders in [1, 64, 1024] {
        let figures =
            median(|run| runtime.block_on(appending(&dir.path().join(format!("{appenders}-{run}")), appenders)));
        print(&format!("{appenders} appenders"), figures, disk);
    }
}

fn print(name: &str, figures: Figures, disk: Figures) {
    println!("{name:<28} {:>12.0} {:>9} {:>9} {:>7.2}x", figures.0, figures.1, figures.2, figures.0 / disk.0);
}

/// The run in the middle, by events a second.
fn median(run: impl FnMut(usize) -> Figures) -> Figures {
    let mut runs: Vec<_> = (0..RUNS).map(run).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[RUNS / 2]
}

fn figures(began: Instant, mut waits: Vec<Duration>) -> Figures {
    let rate = waits.len() as f64 / began.elapsed().as_secs_f64();
    waits.sort_unstable();
    (rate, waits[waits.len() / 2].as_micros(), waits[waits.len() * 99 / 100].as_micros())
}

fn disk(path: &Path) -> Figures {
    const PAGES: u64 = 4096;
    let file = File::create(path).unwrap();
    file.write_all_at(&vec![1; 4096 * 4096], 0).unwrap();
    file.sync_all().unwrap();
    let (began, mut waits) = (Instant::now(), Vec::new());
    for page in (0..PAGES).cycle() {
        let wait = Instant::now();
        file.write_all_at(&[2; 4096], page * 4096).unwrap();
        file.sync_data().unwrap();
        waits.push(wait.elapsed());
        if began.elapsed() > RUN {
            break;
        }
    }
    figures(began, waits)
}

async fn appending(dir: &Path, appenders: usize) -> Figures {
    let store = EventStore::open(dir).unwrap();
    let began = Instant::now();
    let appenders: Vec<_> = (0..appenders).map(|_| tokio::spawn(appender(store.clone(), began))).collect();
    let mut waits = Vec::new();
    for appender in appenders {
        waits.extend(appender.await.unwrap());
    }
    let figures = figures(began, waits);
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
    figures
}

/// Lifecycles of three events, one append each, until the time is over.
async fn appender(store: EventStore, began: Instant) -> Vec<Duration> {
    let mut waits = Vec::new();
    loop {
        let stream = StreamName::task(TaskId::from_uuid(new_id()));
        let mut expected = Expected::NoStream;
        for event in shared::lifecycle("ann") {
            let events = vec![NewEvent { id: new_id(), time: now(), meta: shared::meta(), event: event.into() }];
            let wait = Instant::now();
            let revision: Revision = store.append(Append { stream: stream.clone(), expected, events }).await.unwrap();
            waits.push(wait.elapsed());
            expected = Expected::Revision(revision);
        }
        if began.elapsed() > RUN {
            return waits;
        }
    }
}

fn average() -> usize {
    let data: usize = shared::lifecycle("ann")
        .map(|event| taskbell::store::codec::encode(&event.into()).unwrap().get().len())
        .iter()
        .sum();
    data / 3 + serde_json::to_string(&shared::meta()).unwrap().len()
}
