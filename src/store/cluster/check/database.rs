//! What the rules of a database use: two clients, and names of their own.

use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, Client, EventData, ExpectedRevision, Position, ReadStreamOptions, StreamPosition,
    SubscribeToAllOptions, Subscription, SubscriptionEvent, SubscriptionFilter, WriteResult,
};
use serde_json::json;
use uuid::Uuid;

use super::said;
use crate::store::new_id;

/// How long a subscription may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How long an append may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Two clients of the database.
pub(super) struct Database {
    pub(super) client: Client,
    /// A second client, as another server has it.
    pub(super) other: Client,
    /// Where subscriptions begin: after all that was there before.
    pub(super) start: StreamPosition<Position>,
    /// What the names of this rule's streams begin with.
    pub(super) prefix: String,
}

pub(super) type Written = eventstore::Result<WriteResult>;

impl Database {
    pub(super) fn stream(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(super) async fn append(&self, stream: &str, expected: ExpectedRevision, events: &[EventData]) -> Written {
        append(&self.client, stream, expected, events).await
    }

    /// An append that must succeed.
    pub(super) async fn write(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: &[EventData],
    ) -> Result<WriteResult, String> {
        self.append(stream, expected, events).await.map_err(|error| said(&error))
    }

    /// The ids of the events that the stream shows.
    pub(super) async fn ids(&self, stream: &str) -> Result<Vec<Uuid>, String> {
        let read = async {
            let mut reading = self.client.read_stream(stream, &ReadStreamOptions::default()).await?;
            let mut ids = Vec::new();
            while let Some(read) = reading.next().await? {
                ids.extend(read.event.map(|event| event.id));
            }
            Ok(ids)
        };
        read.await.map_err(|error| said(&error))
    }
}

pub(super) async fn append(client: &Client, stream: &str, expected: ExpectedRevision, events: &[EventData]) -> Written {
    let options = AppendToStreamOptions::default().expected_revision(expected).deadline(ANSWER);
    client.append_to_stream(stream, &options, events.to_vec()).await
}

/// A small event with a new id.
pub(super) fn event() -> Result<(Uuid, EventData), String> {
    let id = new_id();
    let data = EventData::json("Checked", &json!({ "id": id })).map_err(|error| error.to_string())?;
    Ok((id, data.id(id)))
}

/// Small events, and their ids.
pub(super) fn events(count: usize) -> Result<(Vec<Uuid>, Vec<EventData>), String> {
    (0..count).map(|_| event()).collect()
}

/// A subscription to all events of streams whose names begin with one of these.
pub(super) struct Following(Subscription);

impl Following {
    pub(super) async fn begin(
        client: &Client,
        prefixes: &[String],
        after: StreamPosition<Position>,
        window: u32,
    ) -> Self {
        let filter = SubscriptionFilter::on_stream_name().max(window);
        let filter = prefixes.iter().fold(filter, SubscriptionFilter::add_prefix);
        Self(client.subscribe_to_all(&SubscribeToAllOptions::default().position(after).filter(filter)).await)
    }

    pub(super) async fn next(&mut self) -> Result<SubscriptionEvent, String> {
        match tokio::time::timeout(SILENCE, self.0.next_subscription_event()).await {
            Ok(message) => message.map_err(|error| said(&error)),
            Err(_) => Err(format!("the subscription said nothing for {} s", SILENCE.as_secs())),
        }
    }

    /// The next event, other messages left out.
    pub(super) async fn event(&mut self) -> Result<eventstore::RecordedEvent, String> {
        loop {
            if let SubscriptionEvent::EventAppeared(event) = self.next().await?
                && let Some(event) = event.event
            {
                return Ok(event);
            }
        }
    }

    /// The next so many events.
    pub(super) async fn take(&mut self, count: usize) -> Result<Vec<eventstore::RecordedEvent>, String> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.event().await?);
        }
        Ok(events)
    }
}
