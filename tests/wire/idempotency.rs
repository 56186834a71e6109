//! The effects of an append that is sent a second time.

use eventstore::{CurrentRevision, DeleteStreamOptions, Error};

use super::*;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Events with these ids. Their types are new in each call, because the database compares only ids.
fn with_ids(ids: &[u128]) -> Vec<EventData> {
    ids.iter().map(|number| event_with_id(&format!("E{}", Uuid::new_v4()), id(*number))).collect()
}

fn is_wrong_revision<T>(result: &eventstore::Result<T>) -> bool {
    matches!(result, Err(Error::WrongExpectedVersion { .. }))
}

#[tokio::test]
async fn a_repeated_append_at_its_revision_returns_the_first_answer_and_writes_nothing() {
    let fixture = WireFixture::new().await;
    let first = fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    let second = fixture.append("a-1", ExpectedRevision::Exact(1), with_ids(&[3])).await.unwrap();
    fixture.append("a-1", ExpectedRevision::Exact(2), with_ids(&[4])).await.unwrap();
    assert_eq!(fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap(), first);
    assert_eq!(fixture.append("a-1", ExpectedRevision::Exact(1), with_ids(&[3])).await.unwrap(), second);
    assert_eq!(fixture.database.stream("a-1").len(), 4);
}

#[tokio::test]
async fn a_repetition_at_its_revision_is_known_when_the_recent_ids_are_forgotten() {
    let fixture = WireFixture::new().await;
    let first = fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    fixture.database.forget_recent_ids();
    assert_eq!(fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap(), first);
    assert_eq!(fixture.database.stream("a-1").len(), 2);
}

#[tokio::test]
async fn a_repetition_of_the_beginning_of_an_append_returns_that_revision() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2, 3])).await.unwrap();
    let part = fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    assert_eq!(part.revision, 1);
    assert_eq!(fixture.database.stream("a-1").len(), 3);
}

#[tokio::test]
async fn another_first_event_at_an_old_revision_is_refused() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    let refused = fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[9])).await;
    assert!(is_wrong_revision(&refused), "{refused:?}");
}

#[tokio::test]
async fn another_later_event_at_an_old_revision_is_refused() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    for ids in [&[1, 9][..], &[1, 2, 3]] {
        let refused = fixture.append("a-1", ExpectedRevision::NoStream, with_ids(ids)).await;
        let Err(Error::WrongExpectedVersion { current, .. }) = refused else { panic!("{}", unexpected(&refused)) };
        assert_eq!(current, CurrentRevision::Current(1));
    }
    assert_eq!(fixture.database.stream("a-1").len(), 2);
}

#[tokio::test]
async fn an_id_is_written_again_at_the_current_revision() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1])).await.unwrap();
    let again = fixture.append("a-1", ExpectedRevision::Exact(0), with_ids(&[1])).await.unwrap();
    assert_eq!(again.revision, 1);
    assert_eq!(fixture.database.stream("a-1").len(), 2);
}

#[tokio::test]
async fn a_repetition_at_any_revision_is_known_by_the_recent_ids_only() {
    let fixture = WireFixture::new().await;
    let first = fixture.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await.unwrap();
    fixture.append("a-1", ExpectedRevision::Any, with_ids(&[3])).await.unwrap();
    assert_eq!(fixture.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await.unwrap(), first);
    assert_eq!(fixture.append("a-1", ExpectedRevision::StreamExists, with_ids(&[1, 2])).await.unwrap(), first);
    fixture.database.forget_recent_ids();
    let again = fixture.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await.unwrap();
    assert_eq!(again.revision, 4);
}

#[tokio::test]
async fn a_mix_of_known_and_new_ids_at_any_revision_is_refused() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    let refused = fixture.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await;
    assert!(is_wrong_revision(&refused), "{refused:?}");
    // Only the first id is compared.
    let written = fixture.append("a-1", ExpectedRevision::Any, with_ids(&[2, 1])).await.unwrap();
    assert_eq!(written.revision, 2);
}

#[tokio::test]
async fn an_id_may_be_in_several_streams() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    fixture.append("a-2", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    // The database remembers only the last stream of each recent id.
    let again = fixture.append("a-1", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    assert_eq!(again.revision, 1);
}

#[tokio::test]
async fn a_soft_deleted_stream_begins_anew_unless_the_ids_are_those_of_its_first_events() {
    let fixture = WireFixture::new().await;
    let first = fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    fixture.client.delete_stream("a-1", &DeleteStreamOptions::default()).await.unwrap();
    assert_eq!(fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap(), first);
    let anew = fixture.append("a-1", ExpectedRevision::NoStream, with_ids(&[3])).await.unwrap();
    assert_eq!(anew.revision, 2);
}
