//! Writes to the stand-in database.

use eventstore::{BatchAppendOptions, CurrentRevision, DeleteStreamOptions, Error, TombstoneStreamOptions};

use super::*;

/// What was expected and what was there.
fn wrong_revision(result: eventstore::Result<AppendResult>) -> (ExpectedRevision, CurrentRevision) {
    match result {
        Err(Error::WrongExpectedVersion { expected, current }) => (expected, current),
        other => panic!("{}", unexpected(&other)),
    }
}

#[tokio::test]
async fn an_append_returns_the_revision_and_the_position_of_its_last_event() {
    let fixture = WireFixture::new().await;
    let written = fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two"])).await.unwrap();
    assert_eq!(written.revision, 1);
    assert_eq!(written.position, position(&read_all(&fixture.client, ReadAllOptions::default()).await.unwrap()[1]));
    let written = fixture.append("a-1", ExpectedRevision::Exact(1), events(&["Three"])).await.unwrap();
    assert_eq!(written.revision, 2);
    let written = fixture.append("a-1", ExpectedRevision::Any, events(&["Four"])).await.unwrap();
    assert_eq!(written.revision, 3);
    let written = fixture.append("a-1", ExpectedRevision::StreamExists, events(&["Five"])).await.unwrap();
    assert_eq!(written.revision, 4);
    assert_eq!(fixture.kinds("a-1").await, ["One", "Two", "Three", "Four", "Five"]);
}

#[tokio::test]
async fn positions_grow_by_more_than_one() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two", "Three"])).await.unwrap();
    let all = fixture.database.all();
    assert!(all[0].position.commit > 0);
    assert!(all.windows(2).all(|pair| pair[1].position.commit > pair[0].position.commit + 1));
}

#[tokio::test]
async fn an_append_at_a_wrong_revision_says_which_revision_is_there() {
    let fixture = WireFixture::new().await;
    let missing = fixture.append("a-1", ExpectedRevision::Exact(3), events(&["One"])).await;
    assert_eq!(wrong_revision(missing), (ExpectedRevision::Exact(3), CurrentRevision::NoStream));
    let missing = fixture.append("a-1", ExpectedRevision::StreamExists, events(&["One"])).await;
    assert_eq!(wrong_revision(missing), (ExpectedRevision::StreamExists, CurrentRevision::NoStream));
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two"])).await.unwrap();
    let late = fixture.append("a-1", ExpectedRevision::Exact(0), events(&["Three"])).await;
    assert_eq!(wrong_revision(late), (ExpectedRevision::Exact(0), CurrentRevision::Current(1)));
    let early = fixture.append("a-1", ExpectedRevision::Exact(2), events(&["Three"])).await;
    assert_eq!(wrong_revision(early), (ExpectedRevision::Exact(2), CurrentRevision::Current(1)));
    let anew = fixture.append("a-1", ExpectedRevision::NoStream, events(&["Three"])).await;
    assert_eq!(wrong_revision(anew), (ExpectedRevision::NoStream, CurrentRevision::Current(1)));
    assert_eq!(fixture.kinds("a-1").await, ["One", "Two"]);
}

#[tokio::test]
async fn of_two_writers_at_one_revision_one_succeeds() {
    let fixture = WireFixture::new().await;
    let first = fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"]));
    let second = fixture.append("a-1", ExpectedRevision::NoStream, events(&["Two"]));
    let (first, second) = tokio::join!(first, second);
    assert_eq!([&first, &second].iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(fixture.database.stream("a-1").len(), 1);
}

#[tokio::test]
async fn an_empty_append_to_a_missing_stream_writes_no_event_and_looks_like_one_event() {
    let fixture = WireFixture::new().await;
    let written = fixture.append("a-1", ExpectedRevision::NoStream, Vec::new()).await.unwrap();
    assert_eq!(written.revision, 0);
    assert!(fixture.database.all().is_empty());
    let written = fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    assert_eq!(written.revision, 0);
}

#[tokio::test]
async fn an_empty_append_brings_a_soft_deleted_stream_back() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    fixture.client.delete_stream("a-1", &DeleteStreamOptions::default()).await.unwrap();
    fixture.append("a-1", ExpectedRevision::Any, Vec::new()).await.unwrap();
    assert!(fixture.kinds("a-1").await.is_empty());
}

#[tokio::test]
async fn each_append_of_a_batch_has_its_own_answer() {
    let fixture = WireFixture::new().await;
    let batch = fixture.client.batch_append(&BatchAppendOptions::default()).await.unwrap();
    let (one, two) = tokio::join!(
        batch.append_to_stream("a-1", ExpectedRevision::NoStream, events(&["One", "Two"])),
        batch.append_to_stream("a-2", ExpectedRevision::Any, events(&["Three"])),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.stream_name(), one.current_revision()), ("a-1", Some(1)));
    assert_eq!((two.stream_name(), two.current_revision()), ("a-2", Some(0)));
    let refused = batch.append_to_stream("a-1", ExpectedRevision::NoStream, events(&["Four"])).await;
    let Err(Error::Grpc { code, message }) = refused else { panic!("{}", unexpected(&refused)) };
    assert_eq!((format!("{code:?}").as_str(), message.as_str()), ("AlreadyExists", "WrongExpectedVersion"));
}

#[tokio::test]
async fn an_append_may_have_one_mebibyte() {
    let fixture = WireFixture::new().await;
    let filled = |size: usize| vec![EventData::binary("Big", vec![7; size].into())];
    fixture.append("a-1", ExpectedRevision::NoStream, filled(1024 * 1024 - 6)).await.unwrap();
    let refused = fixture.append("a-1", ExpectedRevision::Exact(0), filled(1024 * 1024 - 5)).await;
    let Err(Error::Grpc { code, message }) = refused else { panic!("{}", unexpected(&refused)) };
    assert_eq!(format!("{code:?}"), "InvalidArgument");
    assert_eq!(message, "Maximum Append Size of 1048576 Exceeded.");
    assert_eq!(fixture.database.all().len(), 1);
}

#[tokio::test]
async fn a_soft_deleted_stream_is_gone_until_it_goes_on_at_its_next_revision() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two"])).await.unwrap();
    let exact = DeleteStreamOptions::default().expected_revision(ExpectedRevision::Exact(1));
    fixture.client.delete_stream("a-1", &exact).await.unwrap().unwrap();
    let gone = read(&fixture.client, "a-1", ReadStreamOptions::default()).await;
    assert!(matches!(gone, Err(Error::ResourceNotFound)), "{gone:?}");
    let exists = fixture.append("a-1", ExpectedRevision::StreamExists, events(&["Three"])).await;
    assert!(matches!(exists, Err(Error::ResourceDeleted)), "{exists:?}");
    let written = fixture.append("a-1", ExpectedRevision::NoStream, events(&["Three"])).await.unwrap();
    assert_eq!(written.revision, 2);
    assert_eq!(fixture.kinds("a-1").await, ["Three"]);
    assert_eq!(fixture.database.stream("a-1").len(), 3);
}

#[tokio::test]
async fn a_delete_at_a_wrong_revision_is_refused() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    let exact = DeleteStreamOptions::default().expected_revision(ExpectedRevision::Exact(7));
    let refused = fixture.client.delete_stream("a-1", &exact).await;
    let Err(Error::Grpc { code, .. }) = refused else { panic!("{}", unexpected(&refused)) };
    assert_eq!(format!("{code:?}"), "FailedPrecondition");
    assert_eq!(fixture.kinds("a-1").await, ["One"]);
}

#[tokio::test]
async fn a_tombstoned_stream_takes_no_event_for_ever() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    fixture.client.tombstone_stream("a-1", &TombstoneStreamOptions::default()).await.unwrap().unwrap();
    let gone = read(&fixture.client, "a-1", ReadStreamOptions::default()).await;
    assert!(matches!(gone, Err(Error::ResourceDeleted)), "{gone:?}");
    for expected in [ExpectedRevision::Any, ExpectedRevision::NoStream, ExpectedRevision::Exact(0)] {
        let refused = fixture.append("a-1", expected, events(&["Two"])).await;
        assert!(matches!(refused, Err(Error::ResourceDeleted)), "{refused:?}");
    }
    let all = read_all(&fixture.client, ReadAllOptions::default()).await.unwrap();
    assert_eq!(kinds(&all), ["One", "$streamDeleted"]);
}
