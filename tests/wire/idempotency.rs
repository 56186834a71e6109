//! The effects of an append that is sent a second time.

use eventstore::{CurrentRevision, DeleteStreamOptions, Error};

use super::*;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Events of these ids; their types are new each time, because only ids are compared.
fn with_ids(ids: &[u128]) -> Vec<EventData> {
    ids.iter().map(|number| event_with_id(&format!("E{}", Uuid::new_v4()), id(*number))).collect()
}

fn is_wrong_revision<T>(result: &eventstore::Result<T>) -> bool {
    matches!(result, Err(Error::WrongExpectedVersion { .. }))
}

#[tokio::test]
async fn a_repeated_append_at_its_revision_returns_the_first_answer_and_writes_nothing() {
    let world = World::new().await;
    let first = world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    let second = world.append("a-1", ExpectedRevision::Exact(1), with_ids(&[3])).await.unwrap();
    world.append("a-1", ExpectedRevision::Exact(2), with_ids(&[4])).await.unwrap();
    assert_eq!(world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap(), first);
    assert_eq!(world.append("a-1", ExpectedRevision::Exact(1), with_ids(&[3])).await.unwrap(), second);
    assert_eq!(world.database.stream("a-1").len(), 4);
}

#[tokio::test]
async fn a_repetition_at_its_revision_is_known_when_the_recent_ids_are_forgotten() {
    let world = World::new().await;
    let first = world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    world.database.forget_recent_ids();
    assert_eq!(world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap(), first);
    assert_eq!(world.database.stream("a-1").len(), 2);
}

#[tokio::test]
async fn a_repetition_of_the_beginning_of_an_append_returns_that_revision() {
    let world = World::new().await;
    world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2, 3])).await.unwrap();
    let part = world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    assert_eq!(part.revision, 1);
    assert_eq!(world.database.stream("a-1").len(), 3);
}

#[tokio::test]
async fn another_first_event_at_an_old_revision_is_refused() {
    let world = World::new().await;
    world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    let refused = world.append("a-1", ExpectedRevision::NoStream, with_ids(&[9])).await;
    assert!(is_wrong_revision(&refused), "{refused:?}");
}

#[tokio::test]
async fn another_later_event_at_an_old_revision_is_refused() {
    let world = World::new().await;
    world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    for ids in [&[1, 9][..], &[1, 2, 3]] {
        let refused = world.append("a-1", ExpectedRevision::NoStream, with_ids(ids)).await;
        let Err(Error::WrongExpectedVersion { current, .. }) = refused else { panic!("{}", unexpected(&refused)) };
        assert_eq!(current, CurrentRevision::Current(1));
    }
    assert_eq!(world.database.stream("a-1").len(), 2);
}

#[tokio::test]
async fn an_id_is_written_again_at_the_current_revision() {
    let world = World::new().await;
    world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1])).await.unwrap();
    let again = world.append("a-1", ExpectedRevision::Exact(0), with_ids(&[1])).await.unwrap();
    assert_eq!(again.revision, 1);
    assert_eq!(world.database.stream("a-1").len(), 2);
}

#[tokio::test]
async fn a_repetition_at_any_revision_is_known_by_the_recent_ids_only() {
    let world = World::new().await;
    let first = world.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await.unwrap();
    world.append("a-1", ExpectedRevision::Any, with_ids(&[3])).await.unwrap();
    assert_eq!(world.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await.unwrap(), first);
    assert_eq!(world.append("a-1", ExpectedRevision::StreamExists, with_ids(&[1, 2])).await.unwrap(), first);
    world.database.forget_recent_ids();
    let again = world.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await.unwrap();
    assert_eq!(again.revision, 4);
}

#[tokio::test]
async fn a_mix_of_known_and_new_ids_at_any_revision_is_refused() {
    let world = World::new().await;
    world.append("a-1", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    let refused = world.append("a-1", ExpectedRevision::Any, with_ids(&[1, 2])).await;
    assert!(is_wrong_revision(&refused), "{refused:?}");
    // The first id decides.
    let written = world.append("a-1", ExpectedRevision::Any, with_ids(&[2, 1])).await.unwrap();
    assert_eq!(written.revision, 2);
}

#[tokio::test]
async fn an_id_may_be_in_several_streams() {
    let world = World::new().await;
    world.append("a-1", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    world.append("a-2", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    // The recent ids know only the last stream of an id.
    let again = world.append("a-1", ExpectedRevision::Any, with_ids(&[1])).await.unwrap();
    assert_eq!(again.revision, 1);
}

#[tokio::test]
async fn a_soft_deleted_stream_begins_anew_unless_the_ids_are_those_of_its_first_events() {
    let world = World::new().await;
    let first = world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap();
    world.client.delete_stream("a-1", &DeleteStreamOptions::default()).await.unwrap();
    assert_eq!(world.append("a-1", ExpectedRevision::NoStream, with_ids(&[1, 2])).await.unwrap(), first);
    let anew = world.append("a-1", ExpectedRevision::NoStream, with_ids(&[3])).await.unwrap();
    assert_eq!(anew.revision, 2);
}
