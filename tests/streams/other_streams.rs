//! The actors of bells, queues and schedules.

use std::collections::BTreeMap;

use taskbell::store::{EventStore, StreamName};
use taskbell::streams::ExecuteOn;
use taskbell::streams::messages::ExecuteError;
use taskbell::streams::registry::Registry;
use taskbell::task::bell::{Bell, MarkSeen};
use taskbell::task::queue::{Queue, QueueCommand};
use taskbell::task::schedule::{Missed, Schedule, ScheduleCommand, ScheduleCreated, Template};
use taskbell::task::{Position, Rejection, Revision, Timestamp};
use uuid::Uuid;

use super::{in_time, meta, registry};

fn world() -> (EventStore, Registry, Registry) {
    let store = EventStore::memory();
    let (first, second) = (registry(&store, 2), registry(&store, 2));
    (store, first, second)
}

async fn revisions(store: &EventStore, stream: &StreamName) -> Vec<u64> {
    store.read_stream(stream, Revision(0)).await.unwrap().iter().map(|event| event.revision.0).collect()
}

#[actix_rt::test]
async fn a_bell_moves_forward_only_whichever_actor_decides() {
    let (store, first, second) = world();
    let at = Timestamp::from_micros(0);
    let see = |position: u64| {
        let command = MarkSeen { position: Position(position), head: Position(9) };
        ExecuteOn::<Bell> { key: "ann".to_owned(), command, at, meta: meta() }
    };
    for (registry, position, appended, seen) in
        [(&first, 3, 1, 3), (&second, 5, 1, 5), (&first, 4, 0, 5), (&second, 5, 0, 5), (&first, 9, 1, 9)]
    {
        let decided = in_time(registry.execute_on(see(position))).await.unwrap();
        assert_eq!((decided.appended, decided.state.seen), (appended, Position(seen)));
    }
    let beyond = in_time(second.execute_on(see(10))).await.unwrap_err();
    assert_eq!(beyond, Rejection::BeyondHead { position: Position(10), head: Position(9) }.into());
    assert_eq!(revisions(&store, &StreamName::bell("ann")).await, [0, 1, 2]);
}

#[actix_rt::test]
async fn a_queue_is_paused_once_whichever_actor_decides() {
    let (store, first, second) = world();
    let at = Timestamp::from_micros(0);
    let on = |command| ExecuteOn::<Queue> { key: "disk".to_owned(), command, at, meta: meta() };
    let pause = || on(QueueCommand::Pause { reason: Some("full".to_owned()) });
    let resume = || on(QueueCommand::Resume { reason: None });
    let nothing = in_time(first.execute_on(resume())).await.unwrap();
    assert_eq!((nothing.appended, nothing.revision), (0, None));
    let (one, other) = in_time(async { tokio::join!(first.execute_on(pause()), second.execute_on(pause())) }).await;
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.state.paused && other.state.paused);
    assert_eq!((one.appended + other.appended, one.revision), (1, other.revision));
    assert!(!in_time(second.execute_on(resume())).await.unwrap().state.paused);
    assert!(in_time(first.execute_on(pause())).await.unwrap().state.paused);
    assert_eq!(revisions(&store, &StreamName::queue("disk")).await, [0, 1, 2]);
}

#[actix_rt::test]
async fn a_schedule_is_created_and_removed_once_whichever_actor_decides() {
    let (store, first, second) = world();
    let (at, key) = (Timestamp::from_micros(0), Uuid::now_v7());
    let on = |command| ExecuteOn::<Schedule> { key, command, at, meta: meta() };
    let create = || on(ScheduleCommand::Create(Box::new(schedule())));
    let remove = || on(ScheduleCommand::Remove { reason: None });
    assert_eq!(in_time(first.execute_on(remove())).await.unwrap_err(), ExecuteError::Rejected(Rejection::NotFound));
    let (one, other) = in_time(async { tokio::join!(first.execute_on(create()), second.execute_on(create())) }).await;
    let failed = [one.err(), other.err()].into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(failed, [ExecuteError::Rejected(Rejection::AlreadyExists)]);
    assert!(in_time(second.execute_on(remove())).await.unwrap().state.removed);
    assert_eq!(in_time(first.execute_on(remove())).await.unwrap().appended, 0);
    assert_eq!(revisions(&store, &StreamName::schedule(key)).await, [0, 1]);
}

fn schedule() -> ScheduleCreated {
    let task = Template {
        kind: "report".to_owned(),
        title: "t".to_owned(),
        owner: "ann".to_owned(),
        input: taskbell::JsonText::default(),
        queue: "q".to_owned(),
        priority: 0,
        max_attempts: 1,
        timeout_s: None,
        labels: BTreeMap::new(),
        unique_key: None,
        concurrency_key: None,
    };
    ScheduleCreated { cron: "* * * * *".to_owned(), time_zone: "UTC".to_owned(), missed: Missed::Skip, task }
}
