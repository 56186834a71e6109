//! Tests of `log import`: the copy in the cluster equals the log in the folder.

use std::path::Path;

use taskbell::StoreUrl;
use taskbell::internal::{ImportError, ImportProgress, Imported, import};
use taskbell::store::{Append, EventStore, Expected, Fact, NewEvent, Recorded, StreamName};
use taskbell::task::{Position, Revision};
use taskbell::views::Views;
use taskbell::wire::stand_in::{Database, NodeHandle};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::proxy::Proxy;
use crate::store_contract::{ANY_PORT, all_events, connect, copy_as_killed, in_time, lines, ready};
use crate::views::history;

mod command;
mod refused;

/// A log in a folder, with all kinds of tasks and bells.
struct Folder {
    dir: TempDir,
    lines: Vec<String>,
    head: taskbell::store::Head,
    epoch: uuid::Uuid,
}

impl Folder {
    async fn with(events: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EventStore::open(dir.path()).unwrap();
        let log = history::random_log(8, events);
        let answers = store.append_many(log.events.into_iter().take(events).map(append).collect()).await;
        assert!(answers.iter().all(Result::is_ok));
        let lines = lines(&all_events(&store).await);
        Self { lines, head: store.head(), epoch: store.epoch(), dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Asserts that the database holds this log, and nothing else.
    async fn is_in(&self, database: &Database, store: &EventStore) {
        assert_eq!((store.head(), store.epoch()), (self.head, self.epoch));
        let copies = in_time(store.read_all(Position(0), usize::MAX)).await.unwrap();
        assert!(lines(&copies) == self.lines, "the events differ");
        let events = database.all().iter().filter(|event| event.stream.starts_with("taskbell.")).count();
        assert_eq!(events, self.lines.len());
        let mut views = [Views::default(), Views::default()];
        for (copy, line) in copies.iter().zip(&self.lines) {
            views[0].apply(copy);
            views[1].apply(&Recorded::from_json(line).unwrap());
        }
        assert_eq!(views[0].digest(), views[1].digest());
    }
}

fn append(recorded: Recorded) -> Append {
    let Fact { stream, revision, id, time, meta, event, .. } = recorded.fact;
    let expected = match revision.0 {
        0 => Expected::NoStream,
        next => Expected::Revision(Revision(next - 1)),
    };
    Append { stream, expected, events: vec![NewEvent { id, time, meta, event }] }
}

async fn database() -> (Database, NodeHandle) {
    let database = Database::new();
    let server = database.serve(ANY_PORT).await.unwrap();
    (database, server)
}

fn url(addr: std::net::SocketAddr) -> StoreUrl {
    format!("esdb://{addr}?tls=false&prefix=taskbell").parse().unwrap()
}

async fn import_quietly(folder: &Folder, server: &NodeHandle) -> Result<Imported, ImportError> {
    in_time(import(folder.path(), &url(server.addr()), &mut |_| {})).await.map(|(imported, _)| imported)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_has_the_same_bytes_positions_hashes_views_and_id() {
    let folder = Folder::with(400).await;
    let (database, server) = database().await;
    let mut steps = Vec::new();
    let (imported, store) =
        in_time(import(folder.path(), &url(server.addr()), &mut |step| steps.push(step))).await.unwrap();
    folder.is_in(&database, &store).await;
    assert_eq!((imported.position, imported.hash, imported.copied), (folder.head.position, folder.head.hash, 400));
    assert_eq!(steps, [ImportProgress::Copied(Position(400)), ImportProgress::Verified(Position(400))]);
    folder.is_in(&database, &ready(connect(server.addr(), "taskbell")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_log_hands_on_its_id() {
    let folder = Folder::with(0).await;
    let (database, server) = database().await;
    assert_eq!(import_quietly(&folder, &server).await.unwrap().position, Position(0));
    folder.is_in(&database, &ready(connect(server.addr(), "taskbell")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_and_answers_that_are_lost_leave_the_same_copy() {
    let folder = Folder::with(3000).await;
    let (database, server) = database().await;
    let proxy = Proxy::start(server.addr()).await;
    let to = url(proxy.addr());
    // Observes the import over a connection of its own, once the log has its id.
    let (begun, has_begun) = oneshot::channel();
    let disturbing = tokio::spawn({
        let (database, addr) = (database.clone(), server.addr());
        async move {
            has_begun.await.unwrap();
            let observer = ready(connect(addr, "taskbell")).await;
            for position in (1100..2900).step_by(300) {
                in_time(observer.head_changes().wait_for(|head| head.0 >= position)).await.unwrap();
                database.hold_responses(true);
                in_time(database.wait_for_delayed_requests(1)).await;
                proxy.cut();
                database.hold_responses(false);
            }
            proxy
        }
    });
    let mut begun = Some(begun);
    let imported = in_time(import(folder.path(), &to, &mut |step| {
        if step == ImportProgress::Copied(Position(1000)) {
            begun.take().unwrap().send(()).unwrap();
        }
    }))
    .await;
    assert_eq!(imported.unwrap().0.copied, 3000);
    drop(in_time(disturbing).await.unwrap());
    folder.is_in(&database, &ready(connect(server.addr(), "taskbell")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_import_finds_everything_copied() {
    let folder = Folder::with(150).await;
    let (database, server) = database().await;
    let first = import_quietly(&folder, &server).await.unwrap();
    let second = import_quietly(&folder, &server).await.unwrap();
    assert_eq!((first.copied, second.copied), (150, 0));
    assert_eq!((first.position, first.hash), (second.position, second.hash));
    folder.is_in(&database, &ready(connect(server.addr(), "taskbell")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_a_killed_import_left_under_way_is_not_written_twice() {
    let folder = Folder::with(1200).await;
    let (database, server) = database().await;
    let (to, path, held) = (url(server.addr()), folder.path().to_owned(), database.clone());
    let killed = tokio::spawn(async move { import(&path, &to, &mut |_| held.hold_responses(true)).await });
    // The first append after the first report is written, but its response is delayed.
    in_time(database.wait_for_delayed_requests(1)).await;
    killed.abort();
    assert!(in_time(killed).await.unwrap_err().is_cancelled());
    database.hold_responses(false);
    let rest = import_quietly(&folder, &server).await.unwrap().copied;
    assert!((1..200).contains(&rest), "{rest}");
    folder.is_in(&database, &ready(connect(server.addr(), "taskbell")).await).await;
}
