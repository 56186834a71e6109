//! A subscription during many faults: it misses no event and delivers none twice.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// The number of rounds; 2,000 with `TASKBELL_FULL`.
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
    let follower = tokio::spawn(follow(store.clone(), rounds() * EVENTS_PER_ROUND));
    let writer = ready(connect(server.addr(), "taskbell")).await;
    for round in 1..=rounds() {
        let writing = tokio::spawn(write(writer.clone()));
        match random.random_range(0..7) {
            0 => {
                let addr = server.addr();
                server.stop().await;
                server = database.serve(addr).await.unwrap();
            }
            1 => {
                proxy.set_mode(Mode::BlackHole);
                in_time(writing).await.unwrap();
            }
            2 => {
                proxy.set_mode(Mode::Refuse);
                proxy.cut();
                in_time(writing).await.unwrap();
            }
            3 => {
                proxy.set_mode(Mode::Delay(Duration::from_millis(1)));
                in_time(writing).await.unwrap();
                proxy.cut();
            }
            4 => database.end_subscriptions(),
            5 => {
                in_time(writing).await.unwrap();
                proxy.cut();
            }
            _ => proxy.cut(),
        }
        proxy.set_mode(Mode::Pass);
        wait_for_events(&store, round * EVENTS_PER_ROUND).await;
    }
    in_time(follower).await.unwrap();
    let all = in_time(store.read_all(Position(0), usize::MAX)).await.unwrap();
    assert_eq!(positions_ids_hashes(&all).iter().map(|place| place.1).collect::<Vec<_>>(), ids_in(&database));
    let fresh = ready(connect(server.addr(), "taskbell")).await;
    assert_eq!(fresh.head(), store.head(), "the same chain as without any fault");
}

/// The number of events in one round.
const EVENTS_PER_ROUND: u64 = 20;

/// Appends the events of a round. All must succeed, because the store repeats an append that gets no response.
async fn write(store: EventStore) {
    let answers = store.append_many((0..EVENTS_PER_ROUND).map(|_| first(&stream(), "t")).collect()).await;
    assert!(answers.iter().all(|answer| *answer == Ok(Revision(0))), "{answers:?}");
}

async fn follow(store: EventStore, events: u64) {
    let mut subscription = store.subscribe(Position(0));
    let mut position = 0;
    while position < events {
        for event in subscription.next().await.unwrap() {
            position += 1;
            assert_eq!(event.position, Position(position));
        }
    }
}
