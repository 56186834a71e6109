//! Snapshots: one that is used leads to the same views as the whole log, and one that is damaged or belongs to another log is
//! never used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use taskbell::projection::reader::{ViewsReader, split_views};
use taskbell::projection::replay::views_at;
use taskbell::projection::snapshots::{Snapshots, Until};
use taskbell::store::{Append, EventStore, Expected, NewEvent, StreamName, new_id, now};
use taskbell::task::Event;
use taskbell::task::Position;
use taskbell::views::Views;
use tempfile::TempDir;

use crate::streams::{meta, new_task};
use crate::views::history::plain;

/// A log in a folder.
struct Fixture {
    dir: TempDir,
    log: EventStore,
    snapshots: Snapshots,
}

impl Fixture {
    async fn new(tasks: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = EventStore::open(dir.path()).unwrap();
        let snapshots = Snapshots::new(dir.path(), &log);
        let fixture = Self { dir, log, snapshots };
        fixture.append(tasks).await;
        fixture
    }

    /// Appends the creation of so many tasks.
    async fn append(&self, tasks: usize) {
        append(&self.log, tasks).await;
    }

    fn head(&self) -> Position {
        self.log.head().position
    }

    /// The views of the whole log, without a snapshot.
    async fn views(&self) -> Views {
        views_at(&self.log, None, self.head()).await.unwrap()
    }

    async fn reader(&self) -> ViewsReader {
        split_views(self.views().await).1
    }

    async fn write_snapshot(&self) -> PathBuf {
        let position = self.snapshots.write(&self.log, &self.reader().await).await.unwrap();
        assert_eq!(position, self.head());
        self.files().pop().unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        files(self.dir.path())
    }

    async fn newest(&self) -> Option<Views> {
        self.snapshots.newest(&self.log, Until { position: self.head(), time: None }).await
    }
}

fn files(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("snapshots")).into_iter().flatten();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

async fn append(log: &EventStore, tasks: usize) {
    let appends = (0..tasks).map(|n| {
        let event = Event::Created(Arc::new(plain("ann", &format!("task {n}")))).into();
        let events = vec![NewEvent { id: new_id(), time: now(), meta: meta(), event }];
        Append { stream: StreamName::task(new_task()), expected: Expected::NoStream, events }
    });
    assert!(log.append_many(appends.collect()).await.iter().all(Result::is_ok));
}

#[actix_rt::test]
async fn a_snapshot_and_the_events_after_it_lead_to_the_views_of_the_whole_log() {
    let fixture = Fixture::new(1500).await;
    fixture.write_snapshot().await;
    fixture.append(700).await;
    let views = views_at(&fixture.log, Some(&fixture.snapshots), fixture.head()).await.unwrap();
    assert_eq!(views.digest(), fixture.views().await.digest());
    assert_eq!(fixture.newest().await.unwrap().position(), Position(1500));
    let before = views_at(&fixture.log, Some(&fixture.snapshots), Position(1499)).await.unwrap();
    assert_eq!(before.position(), Position(1499));
}

#[actix_rt::test]
async fn a_snapshot_with_a_changed_bit_or_a_missing_end_is_removed_and_not_used() {
    let fixture = Fixture::new(600).await;
    let file = fixture.write_snapshot().await;
    let whole = fs::read(&file).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    for n in 0..320 {
        let place = if n < 120 { n } else { rng.random_range(0..whole.len()) };
        let mut damaged = whole.clone();
        if n % 4 == 3 {
            damaged.truncate(place);
        } else {
            damaged[place] ^= 1 << rng.random_range(0..8);
        }
        fs::write(&file, damaged).unwrap();
        assert!(fixture.newest().await.is_none(), "byte {place}");
        assert!(!file.exists(), "byte {place}");
    }
    fs::write(&file, [whole.clone(), vec![0]].concat()).unwrap();
    assert!(fixture.newest().await.is_none(), "a byte too many");
    fs::write(&file, whole).unwrap();
    assert_eq!(fixture.newest().await.unwrap().digest(), fixture.views().await.digest());
}

#[actix_rt::test]
async fn a_damaged_snapshot_gives_way_to_an_older_one() {
    let fixture = Fixture::new(400).await;
    fixture.write_snapshot().await;
    fixture.append(400).await;
    let newer = fixture.write_snapshot().await;
    assert_eq!(fixture.files().len(), 2);
    fs::write(&newer, "").unwrap();
    assert_eq!(fixture.newest().await.unwrap().position(), Position(400));
    assert_eq!(fixture.files().len(), 1);
}

#[actix_rt::test]
async fn a_snapshot_of_another_log_is_not_used() {
    let (one, other) = (Fixture::new(50).await, Fixture::new(60).await);
    let file = one.write_snapshot().await;
    fs::create_dir(other.dir.path().join("snapshots")).unwrap();
    let copied = other.dir.path().join("snapshots").join(file.file_name().unwrap());
    fs::copy(&file, &copied).unwrap();
    assert!(other.newest().await.is_none());
    assert!(!copied.exists());
}

/// The folder of a log is restored from a backup, and then continues differently from what the snapshot has.
#[actix_rt::test]
async fn a_snapshot_of_events_that_the_log_does_not_have_is_not_used() {
    let Fixture { dir, log, .. } = Fixture::new(50).await;
    drop(log);
    let files_of_log = ["log.db", "log.witness"];
    for file in files_of_log {
        fs::copy(dir.path().join(file), dir.path().join(format!("{file}.backup"))).unwrap();
    }
    let log = EventStore::open(dir.path()).unwrap();
    append(&log, 10).await;
    let snapshots = Snapshots::new(dir.path(), &log);
    let views = views_at(&log, None, log.head().position).await.unwrap();
    snapshots.write(&log, &split_views(views).1).await.unwrap();
    drop(log);

    for file in ["log.db-wal", "log.db-shm"] {
        let _ = fs::remove_file(dir.path().join(file));
    }
    for file in files_of_log {
        fs::copy(dir.path().join(format!("{file}.backup")), dir.path().join(file)).unwrap();
    }
    let log = EventStore::open(dir.path()).unwrap();
    append(&log, 10).await;
    let snapshots = Snapshots::new(dir.path(), &log);
    let newest = snapshots.newest(&log, Until { position: log.head().position, time: None }).await;
    assert!(newest.is_none() && files(dir.path()).is_empty());
}

#[actix_rt::test]
async fn a_write_that_was_interrupted_leaves_nothing_that_is_read_and_the_next_write_succeeds() {
    let fixture = Fixture::new(30).await;
    fs::create_dir(fixture.dir.path().join("snapshots")).unwrap();
    fs::write(fixture.dir.path().join("snapshots/unfinished"), "a part").unwrap();
    assert!(fixture.newest().await.is_none());
    fixture.write_snapshot().await;
    assert_eq!(fixture.files().len(), 1);
    assert!(fixture.newest().await.is_some());
}

#[actix_rt::test]
async fn snapshots_that_are_written_at_the_same_time_are_written_one_after_the_other() {
    let fixture = Fixture::new(3000).await;
    let reader = fixture.reader().await;
    let writes = (0..8).map(|_| fixture.snapshots.write(&fixture.log, &reader));
    for written in futures_util::future::join_all(writes).await {
        assert_eq!(written.unwrap(), fixture.head());
    }
    assert_eq!(fixture.files().len(), 1);
    assert_eq!(fixture.newest().await.unwrap().digest(), fixture.views().await.digest());
}

#[actix_rt::test]
async fn a_moment_before_the_time_of_a_snapshot_is_read_from_an_older_one() {
    let fixture = Fixture::new(20).await;
    fixture.write_snapshot().await;
    let views = fixture.newest().await.unwrap();
    let latest = views.latest().unwrap();
    let before = taskbell::task::Timestamp::from_micros(latest.as_micros() - 1);
    let until = |time| Until { position: fixture.head(), time: Some(time) };
    assert!(fixture.snapshots.newest(&fixture.log, until(before)).await.is_none());
    assert!(fixture.snapshots.newest(&fixture.log, until(latest)).await.is_some());
}
