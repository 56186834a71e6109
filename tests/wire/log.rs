//! Taskbell's own log over the gRPC protocol, read-only.

use eventstore::{BatchAppendOptions, DeleteStreamOptions, Error, TombstoneStreamOptions};
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::event::{Event, Queued, QueuedReason, Started};
use taskbell::task::{Position as LogPosition, Revision, TaskId};
use taskbell::wire;
use taskbell::wire::ServeError;

use super::*;

/// A log of three events in two streams, a gRPC server for it and a client.
pub(super) struct Log {
    store: EventStore,
    streams: [StreamName; 2],
    pub(super) server: wire::WireServer,
    client: Client,
}

fn new_event(event: Event) -> NewEvent {
    let meta = Meta {
        actor: "ann".to_owned(),
        via: Via::Http,
        correlation_id: new_id(),
        causation_id: None,
        request_id: Some("r-1".to_owned()),
    };
    NewEvent { id: new_id(), time: now(), meta, event: event.into() }
}

pub(super) fn queued() -> NewEvent {
    new_event(Event::Queued(Queued { reason: QueuedReason::RunAt }))
}

fn started() -> NewEvent {
    new_event(Event::Started(Started { attempt: 1, worker: "w-1".to_owned(), lease_hash: "0".repeat(64) }))
}

impl Log {
    pub(super) async fn new() -> Self {
        let store = EventStore::memory();
        let server = wire::serve(store.clone(), ANY_PORT, wire::ServeOptions::default()).await.unwrap();
        let client = connect(server.addr());
        let streams = [(); 2].map(|()| StreamName::task(TaskId::from_uuid(new_id())));
        let log = Self { store, streams, server, client };
        log.append(0, Expected::NoStream, vec![queued(), started()]).await;
        log.append(1, Expected::NoStream, vec![queued()]).await;
        log
    }

    async fn append(&self, stream: usize, expected: Expected, events: Vec<NewEvent>) {
        let stream = self.streams[stream].clone();
        self.store.append(Append { stream, expected, events }).await.unwrap();
    }

    /// Appends to the first stream, after its first two events.
    pub(super) async fn append_live(&self, event: NewEvent) {
        self.append(0, Expected::Revision(Revision(1)), vec![event]).await;
    }

    pub(super) fn stream(&self, index: usize) -> &str {
        self.streams[index].as_str()
    }
}

fn seen(kind: &str) -> ReceivedMessage {
    ReceivedMessage::Event(kind.to_owned())
}

#[tokio::test]
async fn an_event_of_the_log_is_served_byte_for_byte() {
    let log = Log::new().await;
    let served = read(&log.client, log.stream(0), ReadStreamOptions::default()).await.unwrap();
    let recorded = log.store.read_stream(&log.streams[0], Revision(0)).await.unwrap();
    assert_eq!(served.len(), recorded.len());
    for (served, recorded) in served.iter().zip(&recorded) {
        assert_eq!((served.id, served.revision), (recorded.id, recorded.revision.0));
        assert_eq!((served.event_type.as_str(), served.is_json), (recorded.event_type, true));
        assert_eq!(&served.data[..], recorded.raw_data.get().as_bytes());
        assert_eq!(&served.custom_metadata[..], recorded.raw_meta.get().as_bytes());
        assert_eq!(served.metadata["created"], (recorded.time.as_micros() * 10).to_string());
        assert_eq!((served.position.commit, served.position.prepare), (recorded.position.0, recorded.position.0));
    }
}

#[tokio::test]
async fn streams_of_the_log_are_read_in_both_directions() {
    let log = Log::new().await;
    let at = |revision| ReadStreamOptions::default().position(StreamPosition::Position(revision));
    let kinds_at = async |options| kinds(&read(&log.client, log.stream(0), options).await.unwrap());
    assert_eq!(kinds_at(at(1)).await, ["Started"]);
    assert_eq!(kinds_at(at(5)).await, Vec::<String>::new());
    assert_eq!(kinds_at(at(1).backwards()).await, ["Started", "Queued"]);
    assert_eq!(kinds_at(ReadStreamOptions::default().position(StreamPosition::End).max_count(1)).await, ["Started"]);
    for missing in [StreamName::task(TaskId::from_uuid(new_id())).as_str(), "no-stream-of-taskbell", "$$task-1"] {
        let missing = read(&log.client, missing, ReadStreamOptions::default()).await;
        assert!(matches!(missing, Err(Error::ResourceNotFound)), "{missing:?}");
    }
}

#[tokio::test]
async fn all_of_the_log_is_read_in_both_directions() {
    let log = Log::new().await;
    let at = |position| {
        let position = Position { commit: position, prepare: position };
        ReadAllOptions::default().position(StreamPosition::Position(position))
    };
    let positions = async |options| {
        let events = read_all(&log.client, options).await.unwrap();
        events.iter().map(|event| event.position.commit).collect::<Vec<_>>()
    };
    assert_eq!(positions(ReadAllOptions::default()).await, [1, 2, 3]);
    assert_eq!(positions(at(0)).await, [1, 2, 3]);
    assert_eq!(positions(at(2)).await, [2, 3]);
    assert_eq!(positions(at(9)).await, Vec::<u64>::new());
    assert_eq!(positions(at(3).backwards()).await, [2, 1]);
    assert_eq!(positions(at(9).backwards().max_count(2)).await, [3, 2]);
    assert_eq!(positions(ReadAllOptions::default().position(StreamPosition::End).backwards()).await, [3, 2, 1]);
}

#[tokio::test]
async fn a_long_log_is_read_whole_in_both_directions() {
    let log = Log::new().await;
    log.append(1, Expected::Revision(Revision(0)), (0..700).map(|_| queued()).collect()).await;
    let forwards = read_all(&log.client, ReadAllOptions::default()).await.unwrap();
    assert!(forwards.iter().map(|event| event.position.commit).eq(1..=703));
    let options = ReadAllOptions::default().position(StreamPosition::End).backwards();
    let backwards = read_all(&log.client, options).await.unwrap();
    assert!(backwards.iter().map(|event| event.position.commit).eq((1..=703).rev()));
}

#[tokio::test]
async fn a_subscriber_of_the_log_gets_history_caught_up_and_live_events() {
    let log = Log::new().await;
    let mut subscription = TestSubscription::all(&log.client, StreamPosition::Start, None);
    let seen_first = subscription.take(5).await;
    assert_eq!(
        seen_first,
        [ReceivedMessage::Confirmed, seen("Queued"), seen("Started"), seen("Queued"), ReceivedMessage::CaughtUp]
    );
    log.append(1, Expected::Revision(Revision(0)), vec![started()]).await;
    assert_eq!(subscription.take(1).await, [seen("Started")]);
}

#[tokio::test]
async fn a_subscription_to_the_log_is_filtered_and_has_checkpoints() {
    let log = Log::new().await;
    let filter = SubscriptionFilter::on_event_type().regex("^Start").max(2);
    let mut subscription = TestSubscription::all(&log.client, StreamPosition::Start, Some(filter));
    let checkpoint = |position| ReceivedMessage::Checkpoint(Position { commit: position, prepare: position });
    let history =
        [ReceivedMessage::Confirmed, seen("Started"), checkpoint(2), checkpoint(3), ReceivedMessage::CaughtUp];
    assert_eq!(subscription.take(5).await, history);
    log.append(1, Expected::Revision(Revision(0)), vec![started()]).await;
    assert_eq!(subscription.take(2).await, [seen("Started"), checkpoint(4)]);
    let streams = SubscriptionFilter::on_stream_name().add_prefix(log.stream(1));
    let mut subscription = TestSubscription::all(&log.client, StreamPosition::Start, Some(streams));
    assert_eq!(subscription.take(3).await[1..], [seen("Queued"), seen("Started")]);
}

#[tokio::test]
async fn a_stream_of_the_log_is_followed_from_a_revision() {
    let log = Log::new().await;
    let stream: &'static str = log.stream(0).to_owned().leak();
    let mut subscription = TestSubscription::stream(&log.client, stream, StreamPosition::Position(0));
    assert_eq!(subscription.take(3).await, [ReceivedMessage::Confirmed, seen("Started"), ReceivedMessage::CaughtUp]);
    log.append(0, Expected::Revision(Revision(1)), vec![queued()]).await;
    assert_eq!(subscription.take(1).await, [seen("Queued")]);
}

#[tokio::test]
async fn every_write_to_the_log_is_denied() {
    let log = Log::new().await;
    let stream = log.stream(0);
    let append = log.client.append_to_stream(stream, &AppendToStreamOptions::default(), event("One")).await;
    assert!(matches!(append, Err(Error::AccessDenied)), "{append:?}");
    let delete = log.client.delete_stream(stream, &DeleteStreamOptions::default()).await;
    assert!(matches!(delete, Err(Error::AccessDenied)), "{delete:?}");
    let tombstone = log.client.tombstone_stream(stream, &TombstoneStreamOptions::default()).await;
    assert!(matches!(tombstone, Err(Error::AccessDenied)), "{tombstone:?}");
    let metadata = eventstore::StreamMetadataBuilder::new().max_count(1).build();
    let set = log.client.set_stream_metadata(stream, &AppendToStreamOptions::default(), &metadata).await;
    assert!(matches!(set, Err(Error::AccessDenied)), "{set:?}");
    let batch = log.client.batch_append(&BatchAppendOptions::default()).await.map(|_| ());
    assert!(matches!(batch, Err(Error::UnsupportedFeature)), "{batch:?}");
    assert_eq!(log.store.head().position, LogPosition(3));
}

#[tokio::test]
async fn the_log_is_served_on_loopback_only() {
    let refused = wire::serve(EventStore::memory(), "0.0.0.0:0".parse().unwrap(), wire::ServeOptions::default()).await;
    let Err(error @ ServeError::NotLoopback(_)) = refused else { panic!("{}", unexpected(&refused)) };
    assert_eq!(
        error.to_string(),
        "0.0.0.0:0 is not a loopback address; on any other address `--log-listen` needs `--auth required`, `--tls-cert` and `--tls-key`"
    );
}

#[tokio::test]
async fn a_log_is_not_served_where_something_else_listens() {
    let log = Log::new().await;
    let taken = log.server.addr();
    let refused = wire::serve(EventStore::memory(), taken, wire::ServeOptions::default()).await;
    assert!(matches!(refused, Err(ServeError::Io { addr, .. }) if addr == taken), "{}", unexpected(&refused));
}
