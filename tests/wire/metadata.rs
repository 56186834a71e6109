//! The stream metadata of the stand-in database.

use eventstore::{DeleteStreamOptions, StreamMetadata, StreamMetadataBuilder, StreamMetadataResult};

use super::*;

async fn filled(metadata: StreamMetadata) -> WireFixture {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two", "Three"])).await.unwrap();
    set(&fixture, &metadata).await;
    fixture
}

async fn set(fixture: &WireFixture, metadata: &StreamMetadata) {
    fixture.client.set_stream_metadata("a-1", &AppendToStreamOptions::default(), metadata).await.unwrap();
}

#[tokio::test]
async fn a_stream_shows_at_most_its_max_count() {
    let fixture = filled(StreamMetadataBuilder::new().max_count(2).build()).await;
    assert_eq!(fixture.kinds("a-1").await, ["Two", "Three"]);
    fixture.append("a-1", ExpectedRevision::Exact(2), events(&["Four"])).await.unwrap();
    assert_eq!(fixture.kinds("a-1").await, ["Three", "Four"]);
    let back = ReadStreamOptions::default().position(StreamPosition::End);
    assert_eq!(kinds(&read(&fixture.client, "a-1", back).await.unwrap()), ["Four", "Three"]);
}

#[tokio::test]
async fn a_stream_hides_what_lies_before_its_truncation() {
    let fixture = filled(StreamMetadataBuilder::new().truncate_before(2).build()).await;
    assert_eq!(fixture.kinds("a-1").await, ["Three"]);
}

#[tokio::test]
async fn all_shows_what_a_stream_hides() {
    let fixture = filled(StreamMetadataBuilder::new().max_count(1).build()).await;
    let all = read_all(&fixture.client, ReadAllOptions::default()).await.unwrap();
    assert_eq!(kinds(&all), ["One", "Two", "Three", "$metadata"]);
}

#[tokio::test]
async fn the_last_metadata_counts() {
    let fixture = filled(StreamMetadataBuilder::new().max_count(1).build()).await;
    set(&fixture, &StreamMetadataBuilder::new().max_count(3).build()).await;
    assert_eq!(fixture.kinds("a-1").await, ["One", "Two", "Three"]);
    let found = fixture.client.get_stream_metadata("a-1", &ReadStreamOptions::default()).await.unwrap();
    let StreamMetadataResult::Success(found) = found else { panic!("{}", unexpected(&found)) };
    assert_eq!(found.version(), 1);
    assert_eq!(fixture.database.stream("$$a-1").len(), 2);
    assert_eq!(fixture.database.streams(), ["a-1", "$$a-1"]);
}

#[tokio::test]
async fn a_stream_exists_by_its_metadata_alone() {
    let fixture = WireFixture::new().await;
    set(&fixture, &StreamMetadataBuilder::new().max_count(1).build()).await;
    let written = fixture.append("a-1", ExpectedRevision::StreamExists, events(&["One"])).await.unwrap();
    assert_eq!(written.revision, 0);
}

#[tokio::test]
async fn new_metadata_brings_a_soft_deleted_stream_back_without_its_old_events() {
    let fixture = filled(StreamMetadataBuilder::new().max_count(9).build()).await;
    fixture.client.delete_stream("a-1", &DeleteStreamOptions::default()).await.unwrap();
    set(&fixture, &StreamMetadataBuilder::new().max_count(5).build()).await;
    fixture.append("a-1", ExpectedRevision::Exact(2), events(&["Four"])).await.unwrap();
    assert_eq!(fixture.kinds("a-1").await, ["Four"]);
}
