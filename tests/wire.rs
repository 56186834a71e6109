//! Tests of the gRPC protocol with the official client, against the stand-in database and against Taskbell's own log.

use std::fmt::Debug;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, Client, EventData, ExpectedRevision, Position, ReadAllOptions, ReadStream,
    ReadStreamOptions, RecordedEvent, StreamPosition, SubscribeToAllOptions, SubscribeToStreamOptions, Subscription,
    SubscriptionEvent, SubscriptionFilter, WriteResult,
};
use serde_json::json;
use taskbell::wire::stand_in::{Database, NodeHandle};
use tokio::sync::mpsc;
use uuid::Uuid;

mod foreign;
mod idempotency;
mod log;
mod metadata;
mod reads;
mod servers;
mod subscriptions;
mod trailers;
mod writes;

/// A test fails if a response or a message doesn't arrive within this time.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A stand-in database with one node, and a client.
struct WireFixture {
    database: Database,
    server: NodeHandle,
    client: Client,
}

impl WireFixture {
    async fn new() -> Self {
        let database = Database::new();
        let server = database.serve(ANY_PORT).await.unwrap();
        let client = connect(server.addr());
        Self { database, server, client }
    }

    async fn append(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: Vec<EventData>,
    ) -> eventstore::Result<AppendResult> {
        let options = AppendToStreamOptions::default().expected_revision(expected);
        self.client.append_to_stream(stream, &options, events).await.map(AppendResult::from)
    }

    /// Reads the stream and returns the types of its events.
    async fn kinds(&self, stream: &str) -> Vec<String> {
        kinds(&read(&self.client, stream, ReadStreamOptions::default()).await.unwrap())
    }
}

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq)]
struct AppendResult {
    revision: u64,
    position: Position,
}

impl From<WriteResult> for AppendResult {
    fn from(result: WriteResult) -> Self {
        Self { revision: result.next_expected_version, position: result.position }
    }
}

fn connect(addr: SocketAddr) -> Client {
    connect_with(addr, "")
}

/// A client with these additional options in its address, like `&name=value`.
fn connect_with(addr: SocketAddr, options: &str) -> Client {
    // A client waits for the discovery interval before its first connection.
    Client::new(format!("esdb://{addr}?tls=false&discoveryInterval=10{options}").parse().unwrap()).unwrap()
}

fn event(kind: &str) -> EventData {
    event_with_id(kind, Uuid::new_v4())
}

fn event_with_id(kind: &str, id: Uuid) -> EventData {
    EventData::json(kind, &json!({ "kind": kind })).unwrap().id(id)
}

fn events(kinds: &[&str]) -> Vec<EventData> {
    kinds.iter().map(|kind| event(kind)).collect()
}

fn kinds(events: &[RecordedEvent]) -> Vec<String> {
    events.iter().map(|event| event.event_type.clone()).collect()
}

async fn read(client: &Client, stream: &str, options: ReadStreamOptions) -> eventstore::Result<Vec<RecordedEvent>> {
    collect(client.read_stream(stream, &options).await?).await
}

async fn read_all(client: &Client, options: ReadAllOptions) -> eventstore::Result<Vec<RecordedEvent>> {
    collect(client.read_all(&options).await?).await
}

async fn collect(mut stream: ReadStream) -> eventstore::Result<Vec<RecordedEvent>> {
    let mut found = Vec::new();
    while let Some(resolved) = stream.next().await? {
        found.extend(resolved.event);
    }
    Ok(found)
}

/// The position of the event in `$all`.
fn position(event: &RecordedEvent) -> Position {
    event.position
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, future).await.expect("it took too long")
}

/// A subscription on a separate thread, because the subscriptions of the client can block their thread.
struct TestSubscription {
    events: mpsc::UnboundedReceiver<eventstore::Result<SubscriptionEvent>>,
}

impl TestSubscription {
    fn all(client: &Client, position: StreamPosition<Position>, filter: Option<SubscriptionFilter>) -> Self {
        let mut options = SubscribeToAllOptions::default().position(position);
        if let Some(filter) = filter {
            options = options.filter(filter);
        }
        let client = client.clone();
        Self::start(move || async move { client.subscribe_to_all(&options).await })
    }

    fn stream(client: &Client, stream: &'static str, position: StreamPosition<u64>) -> Self {
        let options = SubscribeToStreamOptions::default().start_from(position);
        let client = client.clone();
        Self::start(move || async move { client.subscribe_to_stream(stream, &options).await })
    }

    fn start<F: Future<Output = Subscription>>(subscribe: impl FnOnce() -> F + Send + 'static) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut subscription = subscribe().await;
                loop {
                    let next = subscription.next_subscription_event().await;
                    let is_over = next.is_err();
                    if sender.send(next).is_err() || is_over {
                        return;
                    }
                }
            });
        });
        Self { events }
    }

    async fn next(&mut self) -> eventstore::Result<ReceivedMessage> {
        in_time(self.events.recv()).await.expect("the subscription is over").map(ReceivedMessage::from)
    }

    /// Waits for the next `count` messages.
    async fn take(&mut self, count: usize) -> Vec<ReceivedMessage> {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(self.next().await.unwrap());
        }
        seen
    }
}

/// A message that a subscription has received.
#[derive(Clone, Debug, PartialEq)]
enum ReceivedMessage {
    Confirmed,
    Event(String),
    Checkpoint(Position),
    CaughtUp,
    FellBehind,
}

impl From<SubscriptionEvent> for ReceivedMessage {
    fn from(event: SubscriptionEvent) -> Self {
        match event {
            SubscriptionEvent::Confirmed(_) => Self::Confirmed,
            SubscriptionEvent::EventAppeared(event) => Self::Event(event.get_original_event().event_type.clone()),
            SubscriptionEvent::Checkpoint(position) => Self::Checkpoint(position),
            SubscriptionEvent::CaughtUp => Self::CaughtUp,
            SubscriptionEvent::FellBehind => Self::FellBehind,
            other => panic!("{}", unexpected(&other)),
        }
    }
}

fn unexpected(what: &impl Debug) -> String {
    format!("unexpected: {what:?}")
}
