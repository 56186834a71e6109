//! The streams beside the log, which hold the records of servers and the claims of keys.

use serde_json::value::RawValue;
use taskbell::store::auxiliary::{
    AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent, ServerRecordNotice, ServerRecordSubscription,
};
use taskbell::store::{Hash, new_id};

use super::*;

fn event(text: &str) -> NewAuxiliaryEvent {
    NewAuxiliaryEvent {
        id: new_id(),
        event_type: "Test",
        data: RawValue::from_string(format!("{{\"text\":\"{text}\"}}")).unwrap(),
    }
}

/// Waits until the subscription has caught up.
async fn wait_until_live(records: &mut ServerRecordSubscription) {
    while !matches!(in_time(records.next()).await.unwrap(), ServerRecordNotice::Subscribed) {}
}

async fn next_record(records: &mut ServerRecordSubscription) -> (AuxiliaryStream, String) {
    loop {
        if let ServerRecordNotice::Record(record) = in_time(records.next()).await.unwrap() {
            return (record.stream, record.data.get().to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expected_revision_is_a_lock_beside_the_log_too() {
    let fixture = Fixture::start().await;
    for store in [EventStore::memory(), fixture.store().await] {
        let key = AuxiliaryStream::Key(Hash([7; 32]));
        assert!(store.read_last_auxiliary(key).await.unwrap().is_none());
        let first = event("one");
        assert_eq!(store.append_auxiliary(key, AuxiliaryExpected::NoStream, first.clone()).await, Ok(Revision(0)));
        let refused = Err(AppendError::WrongExpectedRevision { actual: Some(Revision(0)) });
        assert_eq!(store.append_auxiliary(key, AuxiliaryExpected::NoStream, event("two")).await, refused);
        assert_eq!(store.append_auxiliary(key, AuxiliaryExpected::Revision(Revision(3)), event("two")).await, refused);
        let last = store.read_last_auxiliary(key).await.unwrap().unwrap();
        assert_eq!((last.id, last.revision, last.stream), (first.id, Revision(0), key));
        assert_eq!((last.event_type.as_str(), last.data.get()), ("Test", "{\"text\":\"one\"}"));
        assert_eq!(
            store.append_auxiliary(key, AuxiliaryExpected::Revision(Revision(0)), event("two")).await,
            Ok(Revision(1))
        );
        assert_eq!(store.head().position, Position(0), "these events have no positions");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_beside_the_log_is_resolved_by_the_id() {
    let fixture = Fixture::start().await;
    let (proxy, store) = fixture.proxied().await;
    let key = AuxiliaryStream::Key(Hash([9; 32]));
    fixture.database.hold_responses(true);
    let appending = tokio::spawn({
        let store = store.clone();
        async move { store.append_auxiliary(key, AuxiliaryExpected::NoStream, event("once")).await }
    });
    in_time(fixture.database.wait_for_delayed_requests(1)).await;
    proxy.cut();
    fixture.database.hold_responses(false);
    assert_eq!(in_time(appending).await.unwrap(), Ok(Revision(0)));
    assert_eq!(store.read_last_auxiliary(key).await.unwrap().unwrap().revision, Revision(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_receives_the_records_of_all_and_the_database_keeps_a_few() {
    let fixture = Fixture::start().await;
    let (one, two) = (fixture.store().await, fixture.store().await);
    let (mut at_one, mut at_two) = (one.subscribe_to_server_records(), two.subscribe_to_server_records());
    wait_until_live(&mut at_one).await;
    wait_until_live(&mut at_two).await;
    let server = AuxiliaryStream::Server(new_id());
    one.append_auxiliary(AuxiliaryStream::Key(Hash([1; 32])), AuxiliaryExpected::Any, event("a claim")).await.unwrap();
    for n in 0..6 {
        one.append_auxiliary(server, AuxiliaryExpected::Any, event(&n.to_string())).await.unwrap();
    }
    for records in [&mut at_one, &mut at_two] {
        for n in 0..6 {
            assert_eq!(next_record(records).await, (server, format!("{{\"text\":\"{n}\"}}")));
        }
    }
    assert_eq!(two.read_last_auxiliary(server).await.unwrap().unwrap().revision, Revision(5));
    assert_eq!(one.head().position, Position(0));
    assert!(fixture.database.streams().contains(&format!("$$taskbell_aux.{server}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_of_the_records_receives_a_notice_of_an_interruption() {
    let fixture = Fixture::start().await;
    let (proxy, store) = fixture.proxied().await;
    let mut records = store.subscribe_to_server_records();
    wait_until_live(&mut records).await;
    proxy.cut();
    assert!(matches!(in_time(records.next()).await, Some(ServerRecordNotice::Unsubscribed)));
    wait_until_live(&mut records).await;
}
