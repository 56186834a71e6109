//! Callers that stop waiting for a result, and threads of shards that end.

use std::pin::pin;

use actix::Arbiter;
use taskbell::store::{EventStore, StreamName};
use taskbell::streams::messages::ExecuteError;
use taskbell::task::{Rejection, Revision, TaskId};
use tokio::sync::oneshot;

use super::{command, create, in_time, new_task, registry, start};

/// Polls the future `polls` times and drops it. Between two polls, the other futures of the thread run.
async fn give_up_after(polls: usize, future: impl Future) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if futures_util::poll!(&mut future).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[actix_rt::test]
async fn a_caller_that_goes_away_leaves_its_command_in_the_log_once_or_not_at_all_and_the_next_is_answered() {
    let store = EventStore::memory();
    let own_thread = registry(&store, 1);
    let this_thread = own_thread.host_shard_here();
    for polls in 0..200 {
        let task = new_task();
        for registry in [&own_thread, &this_thread] {
            give_up_after(polls % 8, registry.execute(create(task))).await;
        }
        give_up_after(polls % 8, this_thread.execute_many(vec![create(task), command(task, 2, start("w"))])).await;
        let next = in_time(this_thread.execute(command(task, 3, start("w-1")))).await;
        let events = store.read_stream(&StreamName::task(task), Revision(0)).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.event_type).collect();
        match next {
            Err(ExecuteError::Rejected(Rejection::NotFound)) => assert!(kinds.is_empty(), "{kinds:?}"),
            Ok(_) | Err(ExecuteError::Rejected(Rejection::NotQueued)) => assert_eq!(kinds, ["Created", "Started"]),
            Err(error) => panic!("{error} after {kinds:?}"),
        }
    }
}

fn shard_of(task: TaskId, shards: u64) -> u64 {
    task.uuid().as_u64_pair().1 % shards
}

/// Runs the future on the thread of an arbiter and returns the result.
async fn run_on<T: Send + 'static, F: Future<Output = T>>(
    arbiter: &Arbiter,
    run: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (sender, result) = oneshot::channel();
    arbiter.spawn_fn(move || {
        actix_rt::spawn(async move {
            let _ = sender.send(run().await);
        });
    });
    in_time(result).await.unwrap()
}

#[actix_rt::test]
async fn a_thread_that_hosts_a_shard_gives_its_tasks_ids_of_that_shard() {
    let store = EventStore::memory();
    let registry = registry(&store, 3);
    let mut shards = Vec::new();
    let hosts: Vec<Arbiter> = (0..3).map(|_| Arbiter::new()).collect();
    for host in &hosts {
        let shared = registry.clone();
        let tasks: Vec<TaskId> = run_on(host, async move || {
            let hosted = shared.host_shard_here();
            let again = hosted.host_shard_here();
            (0..100).map(|n| if n % 2 == 0 { hosted.new_task_id() } else { again.new_task_id() }).collect()
        })
        .await;
        let shard = shard_of(tasks[0], 3);
        assert!(tasks.iter().all(|task| shard_of(*task, 3) == shard), "{tasks:?}");
        let distinct: std::collections::HashSet<_> = tasks.iter().collect();
        assert_eq!(distinct.len(), tasks.len());
        shards.push(shard);
    }
    shards.sort_unstable();
    assert_eq!(shards, [0, 1, 2], "each thread hosts another shard");
}

#[actix_rt::test]
async fn the_tasks_of_a_host_that_has_ended_are_still_served() {
    let store = EventStore::memory();
    let registry = registry(&store, 2);
    let (host, shared) = (Arbiter::new(), registry.clone());
    let tasks: Vec<TaskId> = run_on(&host, async move || {
        let hosted = shared.host_shard_here();
        let tasks: Vec<TaskId> = (0..50).map(|_| hosted.new_task_id()).collect();
        for task in &tasks[..25] {
            hosted.execute(create(*task)).await.unwrap();
        }
        // While an attempt runs, the actor of its task doesn't end between two commands.
        let starts = tasks[..25].iter().map(|task| command(*task, 2, start("w-1"))).collect();
        assert!(hosted.execute_many(starts).await.iter().all(Result::is_ok));
        tasks
    })
    .await;
    host.stop();
    host.join().unwrap();
    for (number, task) in tasks.iter().enumerate() {
        if number < 25 {
            let again = in_time(registry.execute(command(*task, 3, start("w-2")))).await.unwrap_err();
            assert_eq!(again, ExecuteError::Rejected(Rejection::NotQueued));
        } else {
            in_time(registry.execute(create(*task))).await.unwrap();
        }
    }
    assert_eq!(store.head().position.0, 75);
    let (next, shared) = (Arbiter::new(), registry.clone());
    let created = run_on(&next, async move || {
        let hosted = shared.host_shard_here();
        let task = hosted.new_task_id();
        hosted.execute(create(task)).await.map(|receipt| receipt.revision)
    });
    assert_eq!(created.await, Ok(Revision(0)), "another thread becomes the host");
}
