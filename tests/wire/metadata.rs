//! The stream metadata of the stand-in database.

use eventstore::{DeleteStreamOptions, StreamMetadata, StreamMetadataBuilder, StreamMetadataResult};

use super::*;

async fn filled(metadata: StreamMetadata) -> World {
    let world = World::new().await;
    world.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two", "Three"])).await.unwrap();
    set(&world, &metadata).await;
    world
}

async fn set(world: &World, metadata: &StreamMetadata) {
    world.client.set_stream_metadata("a-1", &AppendToStreamOptions::default(), metadata).await.unwrap();
}

#[tokio::test]
async fn a_stream_shows_at_most_its_max_count() {
    let world = filled(StreamMetadataBuilder::new().max_count(2).build()).await;
    assert_eq!(world.kinds("a-1").await, ["Two", "Three"]);
    world.append("a-1", ExpectedRevision::Exact(2), events(&["Four"])).await.unwrap();
    assert_eq!(world.kinds("a-1").await, ["Three", "Four"]);
    let back = ReadStreamOptions::default().position(StreamPosition::End);
    assert_eq!(kinds(&read(&world.client, "a-1", back).await.unwrap()), ["Four", "Three"]);
}

#[tokio::test]
async fn a_stream_hides_what_lies_before_its_truncation() {
    let world = filled(StreamMetadataBuilder::new().truncate_before(2).build()).await;
    assert_eq!(world.kinds("a-1").await, ["Three"]);
}

#[tokio::test]
async fn all_shows_what_a_stream_hides() {
    let world = filled(StreamMetadataBuilder::new().max_count(1).build()).await;
    let all = read_all(&world.client, ReadAllOptions::default()).await.unwrap();
    assert_eq!(kinds(&all), ["One", "Two", "Three", "$metadata"]);
}

#[tokio::test]
async fn the_last_metadata_counts() {
    let world = filled(StreamMetadataBuilder::new().max_count(1).build()).await;
    set(&world, &StreamMetadataBuilder::new().max_count(3).build()).await;
    assert_eq!(world.kinds("a-1").await, ["One", "Two", "Three"]);
    let found = world.client.get_stream_metadata("a-1", &ReadStreamOptions::default()).await.unwrap();
    let StreamMetadataResult::Success(found) = found else { panic!("{}", unexpected(&found)) };
    assert_eq!(found.version(), 1);
    assert_eq!(world.database.stream("$$a-1").len(), 2);
    assert_eq!(world.database.streams(), ["a-1", "$$a-1"]);
}

#[tokio::test]
async fn a_stream_exists_by_its_metadata_alone() {
    let world = World::new().await;
    set(&world, &StreamMetadataBuilder::new().max_count(1).build()).await;
    let written = world.append("a-1", ExpectedRevision::StreamExists, events(&["One"])).await.unwrap();
    assert_eq!(written.revision, 0);
}

#[tokio::test]
async fn new_metadata_brings_a_soft_deleted_stream_back_without_its_old_events() {
    let world = filled(StreamMetadataBuilder::new().max_count(9).build()).await;
    world.client.delete_stream("a-1", &DeleteStreamOptions::default()).await.unwrap();
    set(&world, &StreamMetadataBuilder::new().max_count(5).build()).await;
    world.append("a-1", ExpectedRevision::Exact(2), events(&["Four"])).await.unwrap();
    assert_eq!(world.kinds("a-1").await, ["Four"]);
}
