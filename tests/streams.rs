//! Tests of the write side: commands reach the actors of their streams, and the decided events are in the log.

mod callers;
#[cfg(feature = "eventstore")]
mod claims;
mod interleaved;
mod other_streams;

use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use tokio::time::timeout;

use taskbell::store::{EventStore, Meta, Recorded, StreamName, Via};
use taskbell::streams::UNNAMED_WORKER;
use taskbell::streams::messages::{Execute, ExecuteError, Receipt};
use taskbell::streams::registry::Registry;
use taskbell::task::{Command, Rejection, Revision, TaskId, Timestamp};
use uuid::Uuid;

use super::support::TEST_TIMEOUT;
use super::views::history::{cancel, fail, plain, start, succeed};

pub(crate) fn meta() -> Meta {
    Meta { actor: "ann".to_owned(), via: Via::Http, correlation_id: Uuid::nil(), causation_id: None, request_id: None }
}

/// A command on this task whose time is `second` seconds after 1970-01-01T00:00:00Z.
pub(crate) fn command(task: TaskId, second: u64, command: Command) -> Execute {
    Execute { task, command, at: Timestamp::from_micros(0).plus(Duration::from_secs(second)), meta: meta() }
}

pub(crate) fn create(task: TaskId) -> Execute {
    command(task, 1, Command::Create(Arc::new(plain("ann", "a task"))))
}

pub(crate) fn new_task() -> TaskId {
    TaskId::from_uuid(Uuid::now_v7())
}

/// A registry with shards on this many threads.
pub(crate) fn registry(store: &EventStore, shards: usize) -> Registry {
    let arbiters: Vec<Arbiter> = (0..shards).map(|_| Arbiter::new()).collect();
    Registry::start(store, &arbiters)
}

/// The result of the future. Panics if it takes longer than [`TEST_TIMEOUT`].
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(TEST_TIMEOUT, future).await.expect("a result in time")
}

/// The stored events of the task's stream: revision, type, time and data. Ids are omitted because they are random.
async fn stored_events(store: &EventStore, task: TaskId) -> Vec<(u64, &'static str, Timestamp, String)> {
    let events = store.read_stream(&StreamName::task(task), Revision(0)).await.unwrap();
    let line = |event: &Recorded| (event.revision.0, event.event_type, event.time, event.raw_data.get().to_owned());
    events.iter().map(|event| line(event)).collect()
}

/// The results as text, so that the tests compare all fields of the receipts.
fn as_text(answers: &[Result<Receipt, ExecuteError>]) -> Vec<String> {
    answers.iter().map(|answer| format!("{answer:?}")).collect()
}

/// Commands on three tasks. Some of them are rejected, and one leads to no event.
fn some_commands(tasks: [TaskId; 3]) -> Vec<Execute> {
    let steps = [
        start("w-1"),
        fail(1, "broken", true),
        cancel(Some("no longer needed")),
        cancel(None),
        Command::Retry { reason: None },
        start("w-2"),
        start("w-3"),
        succeed(2, "done"),
    ];
    let creates = tasks.into_iter().map(create);
    let rest = (2..).zip(steps).flat_map(|(second, step)| tasks.map(|task| command(task, second, step.clone())));
    creates.chain(rest).collect()
}

#[actix_rt::test]
async fn the_same_commands_alone_and_in_one_batch_lead_to_the_same_events_and_receipts() {
    let tasks = [new_task(), new_task(), new_task()];
    let commands = some_commands(tasks);
    let (alone, together) = (EventStore::memory(), EventStore::memory());
    let mut answers = Vec::new();
    let one_by_one = registry(&alone, 2);
    for command in commands.clone() {
        answers.push(in_time(one_by_one.execute(command)).await);
    }
    let in_one_batch = in_time(registry(&together, 2).execute_many(commands)).await;
    assert_eq!(as_text(&in_one_batch), as_text(&answers));
    assert!(answers.iter().any(Result::is_err) && answers.iter().flatten().any(|receipt| receipt.appended == 0));
    for task in tasks {
        let events = stored_events(&alone, task).await;
        assert!(events.len() > 5, "{events:?}");
        assert_eq!(stored_events(&together, task).await, events);
    }
}

#[actix_rt::test]
async fn two_commands_on_one_task_in_one_batch_are_decided_in_their_order() {
    let store = EventStore::memory();
    let registry = registry(&store, 2);
    for (commands, appended) in [([start("w-1"), succeed(1, "done")], [1, 1]), ([start("w-1"), cancel(None)], [1, 1])] {
        let task = new_task();
        let mut batch = vec![create(task)];
        batch.extend(commands.into_iter().map(|step| command(task, 2, step)));
        let answers = in_time(registry.execute_many(batch)).await;
        let receipts: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(receipts.iter().map(|receipt| receipt.revision.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(receipts[1..].iter().map(|receipt| receipt.appended).collect::<Vec<_>>(), appended);
    }
    let task = new_task();
    let answers = in_time(registry.execute_many(vec![command(task, 1, start("w-1")), create(task)])).await;
    assert!(matches!(answers[..], [Err(ExecuteError::Rejected(Rejection::NotFound)), Ok(_)]), "{answers:?}");
}

#[actix_rt::test]
async fn a_create_of_an_id_that_exists_is_rejected_and_writes_nothing() {
    let store = EventStore::memory();
    let (first, second) = (registry(&store, 1), registry(&store, 1));
    let task = new_task();
    in_time(first.execute(create(task))).await.unwrap();
    for registry in [&first, &second] {
        let again = in_time(registry.execute(create(task))).await;
        assert_eq!(again.unwrap_err(), ExecuteError::Rejected(Rejection::AlreadyExists));
        let in_a_batch = in_time(registry.execute_many(vec![create(task), create(task)])).await;
        for answer in in_a_batch {
            assert_eq!(answer.unwrap_err(), ExecuteError::Rejected(Rejection::AlreadyExists));
        }
    }
    assert_eq!(store.head().position.0, 1);
}

#[actix_rt::test]
async fn a_batch_of_more_creates_than_one_write_takes_creates_each_of_them_once() {
    let store = EventStore::memory();
    let tasks: Vec<TaskId> = (0..10_000).map(|_| new_task()).collect();
    let answers = in_time(registry(&store, 1).execute_many(tasks.iter().copied().map(create).collect())).await;
    assert_eq!(answers.len(), tasks.len());
    for (task, answer) in tasks.iter().zip(answers) {
        let receipt = answer.unwrap();
        assert_eq!((receipt.revision.0, receipt.appended), (0, 1), "{task}");
    }
    assert_eq!(store.head().position.0, 10_000);
    for task in tasks {
        assert_eq!(store.read_stream(&StreamName::task(task), Revision(0)).await.unwrap().len(), 1);
    }
}

#[actix_rt::test]
async fn what_a_worker_reports_is_recorded_as_done_by_the_worker_of_the_attempt() {
    let store = EventStore::memory();
    let (registry, task) = (registry(&store, 1), new_task());
    in_time(registry.execute(create(task))).await.unwrap();
    in_time(registry.execute(command(task, 2, start("w-1")))).await.unwrap();
    // A worker's request contains its lease, but not its name.
    let meta = Meta { actor: UNNAMED_WORKER.to_owned(), via: Via::Worker, ..meta() };
    in_time(registry.execute(Execute { meta, ..command(task, 3, succeed(1, "done")) })).await.unwrap();
    let events = store.read_stream(&StreamName::task(task), Revision(0)).await.unwrap();
    let actors: Vec<&str> = events.iter().map(|event| &*event.meta.actor).collect();
    assert_eq!(actors, ["ann", "ann", "w-1"]);
}

#[actix_rt::test]
async fn what_an_authenticated_worker_reports_is_recorded_as_done_by_its_subject() {
    let store = EventStore::memory();
    let (registry, task) = (registry(&store, 1), new_task());
    in_time(registry.execute(create(task))).await.unwrap();
    in_time(registry.execute(command(task, 2, start("w-1")))).await.unwrap();
    let meta = Meta { actor: "render-farm".to_owned(), via: Via::Worker, ..meta() };
    in_time(registry.execute(Execute { meta, ..command(task, 3, succeed(1, "done")) })).await.unwrap();
    let events = store.read_stream(&StreamName::task(task), Revision(0)).await.unwrap();
    assert_eq!(events.last().unwrap().meta.actor, "render-farm");
}
