//! Helpers of the checks of a database: the context of a rule, streams with a separate prefix, sample events, a subscription.

use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, Client, EventData, ExpectedRevision, Position, ReadStreamOptions, StreamPosition,
    SubscribeToAllOptions, Subscription, SubscriptionEvent, SubscriptionFilter, WriteResult,
};
use serde_json::json;
use uuid::Uuid;

use super::error_text;
use crate::store::new_id;

/// How long a check waits for the next message of a subscription.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an append may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a check of one rule needs: two clients of the database, the start of its subscriptions and the prefix of its streams.
pub(super) struct RuleContext {
    pub(super) client: Client,
    /// A second client. It stands for another server.
    pub(super) second_client: Client,
    /// Subscriptions begin after this position. It is the end of the database's log before the checks.
    pub(super) start: StreamPosition<Position>,
    /// The prefix of the names of this rule's streams.
    pub(super) prefix: String,
}

/// The result of one append.
pub(super) type AppendResult = eventstore::Result<WriteResult>;

impl RuleContext {
    /// The full name of a stream of this rule.
    pub(super) fn stream(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// An append that may be refused.
    pub(super) async fn try_append(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: &[EventData],
    ) -> AppendResult {
        append_with(&self.client, stream, expected, events).await
    }

    /// An append that must succeed.
    pub(super) async fn append(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: &[EventData],
    ) -> Result<WriteResult, String> {
        self.try_append(stream, expected, events).await.map_err(|error| error_text(&error))
    }

    /// The ids of the events that a read of the stream returns.
    pub(super) async fn ids(&self, stream: &str) -> Result<Vec<Uuid>, String> {
        let read = async {
            let mut reading = self.client.read_stream(stream, &ReadStreamOptions::default()).await?;
            let mut ids = Vec::new();
            while let Some(read) = reading.next().await? {
                ids.extend(read.event.map(|event| event.id));
            }
            Ok(ids)
        };
        read.await.map_err(|error| error_text(&error))
    }
}

/// Sends one append with this client.
pub(super) async fn append_with(
    client: &Client,
    stream: &str,
    expected: ExpectedRevision,
    events: &[EventData],
) -> AppendResult {
    let options = AppendToStreamOptions::default().expected_revision(expected).deadline(RESPONSE_TIMEOUT);
    client.append_to_stream(stream, &options, events.to_vec()).await
}

/// A small event with a new id.
pub(super) fn new_event() -> Result<(Uuid, EventData), String> {
    let id = new_id();
    let data = EventData::json("Checked", &json!({ "id": id })).map_err(|error| error.to_string())?;
    Ok((id, data.id(id)))
}

/// This number of small events, and their ids.
pub(super) fn new_events(count: usize) -> Result<(Vec<Uuid>, Vec<EventData>), String> {
    (0..count).map(|_| new_event()).collect()
}

/// A subscription to all events of the streams whose names begin with one of several prefixes.
pub(super) struct FilteredSubscription(Subscription);

impl FilteredSubscription {
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

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<SubscriptionEvent, String> {
        match tokio::time::timeout(SILENCE_TIMEOUT, self.0.next_subscription_event()).await {
            Ok(message) => message.map_err(|error| error_text(&error)),
            Err(_) => Err(format!("no message from the subscription for {} s", SILENCE_TIMEOUT.as_secs())),
        }
    }

    /// The next event. Skips other messages.
    pub(super) async fn next_event(&mut self) -> Result<eventstore::RecordedEvent, String> {
        loop {
            if let SubscriptionEvent::EventAppeared(event) = self.next().await?
                && let Some(event) = event.event
            {
                return Ok(event);
            }
        }
    }

    /// This number of next events. Skips other messages.
    pub(super) async fn take_events(&mut self, count: usize) -> Result<Vec<eventstore::RecordedEvent>, String> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.next_event().await?);
        }
        Ok(events)
    }
}
