//! Reads of the stand-in database.

use eventstore::Error;

use super::*;

async fn filled() -> WireFixture {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two", "Three"])).await.unwrap();
    fixture.append("b-1", ExpectedRevision::NoStream, events(&["Four", "Five"])).await.unwrap();
    fixture
}

#[tokio::test]
async fn an_event_is_read_back_as_it_was_written() {
    let fixture = WireFixture::new().await;
    let id = Uuid::new_v4();
    let written = event_with_id("One", id).metadata_as_json(&json!({ "actor": "ann" })).unwrap();
    fixture.append("a-1", ExpectedRevision::NoStream, vec![written]).await.unwrap();
    let [event] = &read(&fixture.client, "a-1", ReadStreamOptions::default()).await.unwrap()[..] else { panic!() };
    assert_eq!((event.id, event.stream_id.as_str(), event.revision), (id, "a-1", 0));
    assert_eq!((event.event_type.as_str(), event.is_json), ("One", true));
    assert_eq!(&event.data[..], br#"{"kind":"One"}"#);
    assert_eq!(&event.custom_metadata[..], br#"{"actor":"ann"}"#);
    let ticks: u64 = event.metadata["created"].parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(ticks / 10_000_000) < 60);
}

#[tokio::test]
async fn a_stream_is_read_forwards_and_backwards_from_a_revision_inclusive() {
    let fixture = filled().await;
    let at = |revision| ReadStreamOptions::default().position(StreamPosition::Position(revision));
    assert_eq!(kinds(&read(&fixture.client, "a-1", at(1)).await.unwrap()), ["Two", "Three"]);
    assert_eq!(kinds(&read(&fixture.client, "a-1", at(1).backwards()).await.unwrap()), ["Two", "One"]);
    assert_eq!(kinds(&read(&fixture.client, "a-1", at(7)).await.unwrap()), Vec::<String>::new());
    let last = ReadStreamOptions::default().position(StreamPosition::End).max_count(1);
    assert_eq!(kinds(&read(&fixture.client, "a-1", last).await.unwrap()), ["Three"]);
    let first = ReadStreamOptions::default().max_count(2);
    assert_eq!(kinds(&read(&fixture.client, "a-1", first).await.unwrap()), ["One", "Two"]);
}

#[tokio::test]
async fn a_missing_stream_is_not_found() {
    let fixture = filled().await;
    let missing = read(&fixture.client, "c-1", ReadStreamOptions::default()).await;
    assert!(matches!(missing, Err(Error::ResourceNotFound)), "{missing:?}");
}

#[tokio::test]
async fn all_is_read_forwards_inclusive_and_backwards_exclusive() {
    let fixture = filled().await;
    let all = read_all(&fixture.client, ReadAllOptions::default()).await.unwrap();
    assert_eq!(kinds(&all), ["One", "Two", "Three", "Four", "Five"]);
    let at = |index: usize| ReadAllOptions::default().position(StreamPosition::Position(position(&all[index])));
    assert_eq!(kinds(&read_all(&fixture.client, at(2)).await.unwrap()), ["Three", "Four", "Five"]);
    assert_eq!(kinds(&read_all(&fixture.client, at(2).backwards()).await.unwrap()), ["Two", "One"]);
    let last = ReadAllOptions::default().position(StreamPosition::End).backwards().max_count(2);
    assert_eq!(kinds(&read_all(&fixture.client, last).await.unwrap()), ["Five", "Four"]);
}

#[tokio::test]
async fn a_long_stream_is_read_whole_in_both_directions() {
    let fixture = WireFixture::new().await;
    let names: Vec<String> = (0..700).map(|number| format!("E{number}")).collect();
    let written = names.iter().map(|name| event(name)).collect();
    fixture.append("a-1", ExpectedRevision::NoStream, written).await.unwrap();
    assert_eq!(fixture.kinds("a-1").await, names);
    let back = ReadStreamOptions::default().position(StreamPosition::End);
    let mut read_back = kinds(&read(&fixture.client, "a-1", back).await.unwrap());
    read_back.reverse();
    assert_eq!(read_back, names);
    assert_eq!(kinds(&read_all(&fixture.client, ReadAllOptions::default()).await.unwrap()), names);
    let back = ReadAllOptions::default().position(StreamPosition::End).backwards();
    assert_eq!(read_all(&fixture.client, back).await.unwrap().len(), 700);
}
