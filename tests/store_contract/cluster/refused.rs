//! Conditions under which a store stops working, because the log in the database is not, or may not stay, the log that
//! it has read.

use std::time::Duration;

use taskbell::store::{ReadError, now};
use tokio::runtime::Handle;

use super::*;

/// Waits until the store has failed. Returns the reason, and asserts that appends and subscriptions report it too.
async fn failure(store: &EventStore) -> String {
    let mut subscription = store.subscribe(store.head().position);
    let failure = in_time(subscription.next()).await.unwrap_err();
    assert!(!failure.is_transient(), "{failure}");
    let health = store.health().unwrap_err();
    assert_eq!((&health, store.has_failed()), (&failure.to_string(), true));
    let append = store.append(first(&stream(), "t")).await;
    assert!(matches!(append, Err(AppendError::ReadOnly(_))), "{append:?}");
    health
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_replaced_by_an_empty_one_is_refused() {
    let fixture = Fixture::start().await;
    let (proxy, store) = fixture.proxied().await;
    store.append(first(&stream(), "t")).await.unwrap();
    let other = Fixture::start().await;
    proxy.set_target(other.server.addr());
    let why = failure(&store).await;
    assert!(why.contains("another database"), "{why}");
    assert!(other.database.all().is_empty(), "nothing is written to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_replaced_by_that_of_another_installation_is_refused() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    other.store().await.append(first(&stream(), "theirs")).await.unwrap();
    let (proxy, store) = fixture.proxied().await;
    store.append(first(&stream(), "t")).await.unwrap();
    proxy.set_target(other.server.addr());
    assert!(failure(&store).await.contains("another database"));
    assert_eq!(other.database.all().len(), 2, "nothing is written to it");
    assert!(
        store.read_for_decision(&stream(), Revision(0)).await.unwrap_err().is_transient(),
        "and nothing read from it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_in_the_moment_of_the_replacement_is_never_acknowledged() {
    for _ in 0..10 {
        let (fixture, other) = (Fixture::start().await, Fixture::start().await);
        other.store().await;
        let (proxy, store) = fixture.proxied().await;
        store.append(first(&stream(), "t")).await.unwrap();
        proxy.set_target(other.server.addr());
        let answer = in_time(store.append(first(&stream(), "lost"))).await;
        assert!(matches!(answer, Err(AppendError::ReadOnly(_))), "{answer:?}");
    }
}

/// A client that writes to the database without Taskbell.
fn foreign_client(addr: SocketAddr) -> eventstore::Client {
    let settings = format!("esdb://{addr}?tls=false").parse().unwrap();
    eventstore::Client::with_runtime_handle(Handle::current(), settings).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_log_with_another_event_at_the_last_place_is_refused() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    let (proxy, store) = fixture.proxied().await;
    store.append(first(&stream(), "t")).await.unwrap();
    // The other database gets the same id of the log, and after that another event of the same size.
    let copy = foreign_client(other.server.addr());
    let epoch = serde_json::json!({ "epoch": store.epoch() });
    let event = eventstore::EventData::json("Epoch", &epoch).unwrap();
    copy.append_to_stream("taskbell_aux.epoch", &eventstore::AppendToStreamOptions::default(), event).await.unwrap();
    connect(other.server.addr(), "taskbell").append(first(&stream(), "u")).await.unwrap();
    proxy.set_target(other.server.addr());
    let why = failure(&store).await;
    assert!(why.contains("another event at position 1"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_let_the_database_forget_events_are_refused() {
    let fixture = Fixture::start().await;
    let store = fixture.store().await;
    let task = stream();
    store.append(first(&task, "t")).await.unwrap();
    let metadata = eventstore::StreamMetadataBuilder::new().max_age(Duration::from_mins(1)).build();
    let name = format!("taskbell.{task}");
    foreign_client(fixture.server.addr())
        .set_stream_metadata(name, &eventstore::AppendToStreamOptions::default(), &metadata)
        .await
        .unwrap();
    let why = failure(&store).await;
    assert!(why.contains(task.as_str()) && why.contains("$maxAge"), "{why}");
    assert_eq!(
        store.read_for_decision(&task, Revision(0)).await.unwrap().len(),
        1,
        "decisions can be made, and not recorded"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_deleted_in_the_database_is_refused() {
    let fixture = Fixture::start().await;
    for is_soft in [true, false] {
        let store = ready(connect(fixture.server.addr(), if is_soft { "soft" } else { "hard" })).await;
        let (task, intruder) = (stream(), foreign_client(fixture.server.addr()));
        store.append(first(&task, "t")).await.unwrap();
        if is_soft {
            let options = eventstore::DeleteStreamOptions::default();
            intruder.delete_stream(format!("soft.{task}"), &options).await.unwrap();
        } else {
            let options = eventstore::TombstoneStreamOptions::default();
            intruder.tombstone_stream(format!("hard.{task}"), &options).await.unwrap();
        }
        let why = failure(&store).await;
        assert!(why.contains(task.as_str()) && why.contains(if is_soft { "$tb" } else { "deleted" }), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_later_version_stops_the_log_at_its_position() {
    let fixture = Fixture::start().await;
    let store = fixture.store().await;
    store.append(first(&stream(), "t")).await.unwrap();
    let mut subscription = store.subscribe(Position(0));
    let event = eventstore::EventData::json("Danced", &serde_json::json!({})).unwrap();
    let meta = serde_json::json!({ "time": now(), "version": 1, "meta": new_event(queued()).meta });
    let event = event.metadata_as_json(&meta).unwrap();
    let name = format!("taskbell.{}", stream());
    foreign_client(fixture.server.addr())
        .append_to_stream(name, &eventstore::AppendToStreamOptions::default(), event)
        .await
        .unwrap();
    assert_eq!(in_time(subscription.next()).await.unwrap().len(), 1);
    let unknown = in_time(subscription.next()).await.unwrap_err();
    assert_eq!(
        unknown,
        ReadError::Unknown { position: Some(Position(2)), event_type: "Danced".to_owned(), version: 1 }
    );
    failure(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_beyond_the_limit_of_the_database_is_refused_for_ever() {
    let fixture = Fixture::start().await;
    let store = fixture.store().await;
    let big = (0..40).map(|_| new_event(created(&"t".repeat(50_000)))).collect();
    let refused = store.append(append(&stream(), Expected::NoStream, big)).await;
    assert!(matches!(&refused, Err(error @ AppendError::TooLarge(_)) if !error.is_transient()), "{refused:?}");
    assert_eq!(store.append(first(&stream(), "t")).await, Ok(Revision(0)));
}
