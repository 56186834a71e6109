//! Two actors of one stream decide at the same time. This happens while one of them ends, or on two servers.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use taskbell::store::{EventStore, LogEvent, StreamName};
use taskbell::streams::messages::{Execute, ExecuteError, Receipt};
use taskbell::streams::registry::Registry;
use taskbell::task::event::{QueuedReason, Rung, TaskError};
use taskbell::task::{Command, Revision, TaskId, evolve};

use super::{cancel, command, create, fail, in_time, new_task, registry, start, succeed};

fn any_command(rng: &mut StdRng) -> Command {
    let attempt = rng.random_range(1..40);
    match rng.random_range(0..12) {
        0..=3 => start(["w-1", "w-2"].choose(rng).unwrap()),
        4 => cancel(None),
        5 => Command::Escalate { rung: Rung::Revoke, reason: None, attempt: None },
        6 | 7 => Command::Retry { reason: None },
        8 => Command::Enqueue { reason: QueuedReason::RetryAt },
        9 => fail(attempt, "broken", rng.random_bool(0.5)),
        10 => succeed(attempt, "done"),
        _ => {
            let error = TaskError { code: "lease_expired".to_owned(), message: "m".to_owned() };
            Command::LoseAttempt { attempt, error, progress: None }
        }
    }
}

/// Sends the commands at the same time, each to one of the registries, half of them in batches. Returns the tasks and the
/// results.
async fn at_once(registries: [&Registry; 2], commands: Vec<Execute>) -> Vec<(TaskId, Result<Receipt, ExecuteError>)> {
    let mut halves = [Vec::new(), Vec::new()];
    let mut alone = Vec::new();
    for (number, command) in commands.into_iter().enumerate() {
        if number % 4 < 2 { halves[number % 2].push(command) } else { alone.push((number % 2, command)) }
    }
    let [first, second] = halves;
    let batch = async |registry: &Registry, commands: Vec<Execute>| {
        let tasks: Vec<TaskId> = commands.iter().map(|command| command.task).collect();
        tasks.into_iter().zip(registry.execute_many(commands).await).collect::<Vec<_>>()
    };
    let alone = alone
        .into_iter()
        .map(|(which, command)| async move { (command.task, registries[which].execute(command).await) });
    let (alone, first, second) =
        tokio::join!(join_all(alone), batch(registries[0], first), batch(registries[1], second));
    alone.into_iter().chain(first).chain(second).collect()
}

/// Asserts that the events of the stream are legal, and that each of them belongs to exactly one receipt.
async fn assert_stream(store: &EventStore, task: TaskId, receipts: &[Receipt]) -> usize {
    let events = store.read_stream(&StreamName::task(task), Revision(0)).await.unwrap();
    let mut state = None;
    for (revision, recorded) in events.iter().enumerate() {
        assert_eq!(recorded.revision.0, revision as u64, "{task} has a gap");
        let LogEvent::Task(event) = &recorded.event else { panic!("{task} holds a {}", recorded.event_type) };
        let next = evolve(state.clone(), event);
        assert_ne!(next, state, "event {revision} of {task} is not legal: {event:?}");
        state = next;
    }
    let mut events_by_receipts: BTreeMap<u64, usize> = BTreeMap::new();
    for receipt in receipts.iter().filter(|receipt| receipt.appended > 0) {
        let last = receipt.revision.0;
        for revision in last + 1 - receipt.appended as u64..=last {
            *events_by_receipts.entry(revision).or_default() += 1;
        }
    }
    let expected: BTreeMap<u64, usize> = (0..events.len() as u64).map(|revision| (revision, 1)).collect();
    assert_eq!(events_by_receipts, expected, "{task}");
    assert!(receipts.iter().all(|receipt| receipt.revision.0 < events.len() as u64));
    events.len()
}

#[actix_rt::test]
async fn two_actors_of_one_stream_leave_a_legal_log_and_a_receipt_for_each_event() {
    let store = EventStore::memory();
    let (first, second) = (registry(&store, 1), registry(&store, 1));
    let tasks: Vec<TaskId> = (0..4).map(|_| new_task()).collect();
    let mut rng = StdRng::seed_from_u64(7);
    let mut receipts: BTreeMap<TaskId, Vec<Receipt>> = BTreeMap::new();
    let (mut rejected, mut busy) = (0, 0);
    let creates = tasks.iter().flat_map(|task| [create(*task), create(*task), create(*task), create(*task)]).collect();
    let mut next: Vec<Execute> = creates;
    for second_of_day in 2..42 {
        for (task, answer) in in_time(at_once([&first, &second], next)).await {
            match answer {
                Ok(receipt) => receipts.entry(task).or_default().push(receipt),
                Err(ExecuteError::Rejected(_)) => rejected += 1,
                Err(ExecuteError::Busy(_)) => busy += 1,
                Err(error) => panic!("{task}: {error}"),
            }
        }
        let any = |_| command(*tasks.choose(&mut rng).unwrap(), 1000 * second_of_day, any_command(&mut rng));
        next = (0..150).map(any).collect();
    }
    let mut events = 0;
    for task in &tasks {
        events += assert_stream(&store, *task, &receipts[task]).await;
    }
    assert!(events > 200 && rejected > 200, "{events} events, {rejected} rejected");
    assert!(busy < 300, "{busy} of 6000 were overtaken by every other writer");
    assert_eq!(store.head().position.0, events as u64);
}
