//! The store in a cluster, against the stand-in database. When connections, nodes or the whole database are lost, some
//! effects must be invisible to the clients of the store, and others must be reported to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use taskbell::store::{AppendError, Recorded};
use taskbell::wire::stand_in::{Database, NodeHandle};

use super::*;
use crate::proxy::{Mode, Proxy};
use crate::support::TEST_TIMEOUT;

mod auxiliary;
mod faults;
mod idle;
mod nodes;
mod refused;
mod shared;

/// A stand-in database with one node.
pub(super) struct Fixture {
    pub(super) database: Database,
    pub(super) server: NodeHandle,
}

pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Fixture {
    pub(super) async fn start() -> Self {
        let database = Database::new();
        let server = database.serve(ANY_PORT).await.unwrap();
        Self { database, server }
    }

    /// A store that has received the whole log.
    pub(super) async fn store(&self) -> EventStore {
        ready(connect(self.server.addr(), "taskbell")).await
    }

    /// Such a store whose connections go through a proxy.
    async fn proxied(&self) -> (Proxy, EventStore) {
        let proxy = Proxy::start(self.server.addr()).await;
        let store = ready(connect(proxy.addr(), "taskbell")).await;
        (proxy, store)
    }
}

/// A store that may not be connected yet.
pub fn connect(addr: SocketAddr, prefix: &str) -> EventStore {
    connect_to(&format!("esdb://{addr}?tls=false&prefix={prefix}"))
}

fn connect_to(url: &str) -> EventStore {
    EventStore::connect(url.parse().unwrap()).unwrap()
}

/// Waits until the store is healthy.
pub async fn ready(store: EventStore) -> EventStore {
    in_time(store.wait_for_health(true)).await.unwrap();
    store
}

/// Waits until the store is not healthy, and returns the reason.
async fn wait_until_unhealthy(store: &EventStore) -> String {
    in_time(store.wait_for_health(false)).await.unwrap_err()
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, future).await.expect("this takes too long")
}

/// Waits until the store has received this many events.
async fn wait_for_events(store: &EventStore, events: u64) {
    in_time(store.head_changes().wait_for(|head| head.0 >= events)).await.unwrap();
    assert_eq!(store.head().position.0, events);
}

/// The position, id and hash of each event.
fn positions_ids_hashes(events: &[Arc<Recorded>]) -> Vec<(u64, uuid::Uuid, String)> {
    events.iter().map(|event| (event.position.0, event.id, event.hash.to_string())).collect()
}

/// The ids of the log's events in the order of the database.
fn ids_in(database: &Database) -> Vec<uuid::Uuid> {
    let all = database.all();
    all.iter().filter(|event| event.stream.starts_with("taskbell.")).map(|event| event.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_written_once_and_succeeds() {
    let fixture = Fixture::start().await;
    let (proxy, store) = fixture.proxied().await;
    let task = stream();
    for round in 0..5 {
        fixture.database.hold_responses(true);
        let append = if round == 0 { first(&task, "t") } else { next(&task, round - 1) };
        let appending = tokio::spawn({
            let store = store.clone();
            async move { store.append(append).await }
        });
        // The subscription has received the event, so it is written, but the append has no response yet.
        wait_for_events(&store, round + 1).await;
        proxy.cut();
        fixture.database.hold_responses(false);
        assert_eq!(in_time(appending).await.unwrap(), Ok(Revision(round)));
    }
    assert_eq!(fixture.database.stream(&format!("taskbell.{task}")).len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_was_overtaken_after_its_answer_was_lost_succeeds_all_the_same() {
    let fixture = Fixture::start().await;
    let (proxy, store) = fixture.proxied().await;
    let other = fixture.store().await;
    let task = stream();
    fixture.database.hold_responses(true);
    let appending = tokio::spawn({
        let (store, append) = (store.clone(), first(&task, "t"));
        async move { store.append(append).await }
    });
    wait_for_events(&store, 1).await;
    proxy.set_mode(Mode::Refuse);
    proxy.cut();
    fixture.database.hold_responses(false);
    assert_eq!(other.append(next(&task, 0)).await, Ok(Revision(1)));
    proxy.set_mode(Mode::Pass);
    assert_eq!(in_time(appending).await.unwrap(), Ok(Revision(0)));
    assert_eq!(
        store.append(first(&task, "again")).await,
        Err(AppendError::WrongExpectedRevision { actual: Some(Revision(1)) })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_never_comes_has_an_unknown_outcome_and_a_read_shows_it() {
    let fixture = Fixture::start().await;
    let store = fixture.store().await;
    let task = stream();
    fixture.database.hold_responses(true);
    let answer = in_time(store.append(first(&task, "t"))).await;
    assert!(matches!(&answer, Err(error @ AppendError::Unknown(_)) if error.is_transient()), "{answer:?}");
    fixture.database.hold_responses(false);
    let store = ready(store).await;
    assert_eq!(in_time(store.read_for_decision(&task, Revision(0))).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_carry_every_request_twice_write_it_once() {
    let fixture = Fixture::start().await;
    let proxy = Proxy::start(fixture.server.addr()).await;
    proxy.set_mode(Mode::Duplicate);
    let store = ready(connect(proxy.addr(), "taskbell")).await;
    let task = stream();
    store.append(first(&task, "t")).await.unwrap();
    for revision in 0..50 {
        assert_eq!(store.append(next(&task, revision)).await, Ok(Revision(revision + 1)));
    }
    assert_eq!(fixture.database.stream(&format!("taskbell.{task}")).len(), 51);
    assert_eq!(
        positions_ids_hashes(&all_events(&store).await).iter().map(|(_, id, _)| *id).collect::<Vec<_>>(),
        ids_in(&fixture.database)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_the_database_ends_with_ok_begins_anew() {
    let fixture = Fixture::start().await;
    let store = fixture.store().await;
    for events in 1..=3 {
        fixture.database.end_subscriptions();
        let why = wait_until_unhealthy(&store).await;
        assert!(why.contains("the database ended the subscription"), "{why}");
        let store = ready(store.clone()).await;
        assert_eq!(store.append(first(&stream(), "t")).await, Ok(Revision(0)));
        wait_for_events(&store, events).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_events_are_read_from_the_database_with_the_same_positions_and_hashes() {
    let fixture = Fixture::start().await;
    let store = fixture.store().await;
    let task = stream();
    store.append(first(&task, "old")).await.unwrap();
    // These are more events than the store has in memory.
    let many = || append(&stream(), Expected::NoStream, (0..500).map(|_| new_event(queued())).collect());
    assert!(store.append_many((0..36).map(|_| many()).collect()).await.iter().all(Result::is_ok));
    store.append(next(&task, 0)).await.unwrap();
    let all = in_time(store.read_all(Position(0), usize::MAX)).await.unwrap();
    assert_eq!(all.len(), 18_002);
    assert_eq!(taskbell::store::chain::verify(taskbell::store::Hash::ZERO, &all), Ok(store.head().hash));
    let page = in_time(store.read_all(Position(1500), 1000)).await.unwrap();
    assert_eq!(lines(&page), lines(&all[1500..2500]));
    let read = in_time(store.read_stream(&task, Revision(0))).await.unwrap();
    assert_eq!(lines(&read), lines(&[Arc::clone(&all[0]), Arc::clone(&all[18_001])]));
}
