//! A subscription through many faults: no event is missing, none comes twice.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// 2,000 with `TASKBELL_FULL`.
fn rounds() -> u64 {
    if std::env::var_os("TASKBELL_FULL").is_some() { 2_000 } else { 100 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_through_many_faults_has_no_gaps_and_no_repeats() {
    let Fixture { database, mut server } = Fixture::start().await;
    let proxy = Proxy::start(server.addr()).await;
    let store = ready(connect(proxy.addr(), "taskbell")).await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let follower = tokio::spawn(follow(store.clone(), rounds() * EVENTS));
    let mut writer = ready(connect(server.addr(), "taskbell")).await;
    for round in 1..=rounds() {
        let fault = random.random_range(0..6);
        let writing = tokio::spawn(write(writer.clone()));
        match fault {
            0 => {
                server.stop().await;
                server = database.serve(ANY_PORT).await.unwrap();
                proxy.lead_to(server.addr());
                in_time(writing).await.unwrap();
                writer = ready(connect(server.addr(), "taskbell")).await;
            }
            1 => {
                proxy.set(Mode::BlackHole);
                in_time(writing).await.unwrap();
                proxy.set(Mode::Pass);
            }
            2 => {
                proxy.set(Mode::Refuse);
                proxy.cut();
                in_time(writing).await.unwrap();
                proxy.set(Mode::Pass);
            }
            3 => {
                proxy.set(Mode::Delay(Duration::from_millis(1)));
                in_time(writing).await.unwrap();
                proxy.cut();
                proxy.set(Mode::Pass);
            }
            _ => {
                proxy.cut();
                in_time(writing).await.unwrap();
            }
        }
        let expected = database.all().iter().filter(|event| event.stream.starts_with("taskbell.")).count() as u64;
        in_time(store.watch().wait_for(|head| head.0 >= expected)).await.unwrap();
        assert!(expected <= round * EVENTS);
    }
    let total = ids_in(&database).len() as u64;
    follower.abort();
    let all = in_time(store.read_all(Position(0), usize::MAX)).await.unwrap();
    assert_eq!(all.len() as u64, total);
    assert_eq!(places(&all).iter().map(|place| place.1).collect::<Vec<_>>(), ids_in(&database));
    let fresh = ready(connect(server.addr(), "taskbell")).await;
    assert_eq!(fresh.head(), store.head(), "the same chain as without any fault");
}

const EVENTS: u64 = 20;

/// Appends that a node's end leaves unanswered are sent again by the store; where it gives up, the round has fewer events.
async fn write(store: EventStore) {
    store.append_many((0..EVENTS).map(|_| first(&stream(), "t")).collect()).await;
}

async fn follow(store: EventStore, _most: u64) {
    let mut subscription = store.subscribe(Position(0));
    let mut position = 0;
    loop {
        for event in subscription.next().await.unwrap() {
            position += 1;
            assert_eq!(event.position, Position(position));
        }
    }
}
