//! Three servers send random requests, and one of them sometimes loses its connections. A checker reads the log afterwards.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::*;

const ROUNDS: u64 = 200;

#[derive(Clone, Debug)]
enum Step {
    Create(Box<Created>),
    Retry(TaskId),
    Cancel(TaskId),
}

fn steps(rng: &mut StdRng, tasks: &[TaskId]) -> Vec<Step> {
    let count = rng.random_range(2..=6);
    let step = |_| {
        let key = ["a", "b"][rng.random_range(0..2)];
        let request = format!("request {}", rng.random_range(0..40));
        match (rng.random_range(0..10), tasks.choose(rng)) {
            (0..=2, _) | (_, None) => Step::Create(unique(key).into()),
            (3, _) => Step::Create(with_both_keys(key, &request, "body").into()),
            (4, _) => Step::Create(idempotent(&request, "other").into()),
            (5 | 6, Some(task)) => Step::Retry(*task),
            (_, Some(task)) => Step::Cancel(*task),
        }
    };
    (0..count).map(step).collect()
}

async fn take(server: &ServerWriteSide, step: Step) -> Option<TaskId> {
    match step {
        Step::Create(created) => match server.create(*created).await {
            Ok(Accepted::New(id, _) | Accepted::Repeated(id) | Accepted::KeyHeld(id)) => Some(id),
            Err(ExecuteError::Rejected(Rejection::IdempotencyKeyReused)) => None,
            Err(error) => panic!("{error}"),
        },
        Step::Retry(task) => match server.retry(task).await {
            Ok(_) | Err(ExecuteError::Rejected(Rejection::NotFinal | Rejection::UniqueKeyTaken(_))) => None,
            Err(error) => panic!("{error}"),
        },
        Step::Cancel(task) => {
            in_time(server.registry.execute(execute(task, cancel(None)))).await.unwrap();
            None
        }
    }
}

#[actix_rt::test]
async fn at_no_time_of_200_random_rounds_on_three_servers_are_two_tasks_with_one_key_open() {
    let fixture = Fixture::start().await;
    let (proxy, cut) = fixture.proxied().await;
    let [one, two] = fixture.servers().await;
    let servers = [one, two, cut];
    let mut tasks: Vec<TaskId> = Vec::new();
    for seed in 0..ROUNDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let steps = steps(&mut rng, &tasks);
        let begun = join_all(steps.into_iter().map(|step| take(servers.choose(&mut rng).unwrap(), step)));
        let disturb = async {
            if seed % 10 == 0 {
                tokio::task::yield_now().await;
                proxy.cut();
            }
        };
        let (begun, ()) = tokio::join!(begun, disturb);
        for id in begun.into_iter().flatten() {
            if !tasks.contains(&id) {
                tasks.push(id);
            }
        }
        let kept = tasks.len().saturating_sub(8);
        tasks.drain(..kept);
    }
    assert!(fixture.events() > 200, "{} events", fixture.events());
    check_log(&fixture, &servers[0]).await;
}
