//! The auxiliary streams: reads of their last events, and the subscription to the records of all servers.
//!
//! Each subscription begins at the end of the database's log. Records that are written between two subscriptions are
//! not delivered, because an old record is useless.

use std::sync::Arc;
use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, Client, Error, ExpectedRevision, ReadStreamOptions, RecordedEvent, StreamMetadataBuilder,
    StreamPosition, SubscribeToAllOptions, SubscriptionEvent, SubscriptionFilter,
};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::state::ClusterState;
use super::supervise::SessionRunner;
use super::{connect, follow, read};
use crate::store::ReadError;
use crate::store::auxiliary::{AuxiliaryEvent, AuxiliaryStream, SERVER, ServerRecordNotice};
use crate::task::Revision;

/// The number of records that the database keeps in a server's stream.
const RECORDS_MAX: u64 = 3;
/// How long a request waits for its response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest number of messages that wait in the channel.
const CHANNEL_CAPACITY: usize = 64;
/// A subscription that lasts longer than this counts as progress, even if no record came.
const USEFUL_AFTER: Duration = Duration::from_secs(1);

/// The last event of the stream; `None` if the stream has no event.
pub(super) async fn read_last(
    state: &ClusterState,
    stream: AuxiliaryStream,
) -> Result<Option<AuxiliaryEvent>, ReadError> {
    let name = state.url.names.auxiliary_name(&stream.to_string());
    let request = move |client: Client| {
        let name = name.clone();
        async move {
            match request_last(client, &name).await {
                Err(Error::ResourceNotFound) => Ok(None),
                found => found,
            }
        }
    };
    let found = read::read_with_retries(state, RESPONSE_TIMEOUT, request).await?;
    found.map(|event| decode_event(stream, &event)).transpose()
}

async fn request_last(client: Client, name: &str) -> eventstore::Result<Option<RecordedEvent>> {
    let options =
        ReadStreamOptions::default().position(StreamPosition::End).backwards().max_count(1).deadline(RESPONSE_TIMEOUT);
    let last = client.read_stream(name, &options).await?.next().await?;
    Ok(last.and_then(|last| last.event))
}

fn decode_event(stream: AuxiliaryStream, event: &RecordedEvent) -> Result<AuxiliaryEvent, ReadError> {
    let text = String::from_utf8_lossy(&event.data).into_owned();
    let data = RawValue::from_string(text)
        .map_err(|error| ReadError::Damaged(format!("event {} of {stream}: {error}", event.id)))?;
    let (revision, event_type) = (Revision(event.revision), event.event_type.clone());
    Ok(AuxiliaryEvent { stream, revision, id: event.id, event_type, data })
}

/// Sets the stream's metadata so that the database keeps only the last records. If this fails, a later call repeats it.
pub(super) async fn limit_records(state: &ClusterState, stream: AuxiliaryStream) {
    let name = state.url.names.auxiliary_name(&stream.to_string());
    let metadata = StreamMetadataBuilder::new().max_count(RECORDS_MAX).build();
    let options = AppendToStreamOptions::default().expected_revision(ExpectedRevision::Any).deadline(RESPONSE_TIMEOUT);
    let request =
        move |client: Client| async move { client.set_stream_metadata(name, &options, &metadata).await.map(|_| ()) };
    if let Err(error) = state.client.call(Instant::now() + RESPONSE_TIMEOUT, RESPONSE_TIMEOUT, request).await {
        tracing::debug!(%stream, %error, "the number of kept records could not be set");
    }
}

/// Runs the sessions that subscribe to the records of all servers.
pub(super) struct ServerRecordFollower {
    state: Arc<ClusterState>,
    notices: mpsc::Sender<ServerRecordNotice>,
    /// Whether [`ServerRecordNotice::Subscribed`] was the last notice about the subscription.
    is_subscribed: bool,
    has_progressed: bool,
}

impl ServerRecordFollower {
    pub(super) const fn new(state: Arc<ClusterState>, notices: mpsc::Sender<ServerRecordNotice>) -> Self {
        Self { state, notices, is_subscribed: false, has_progressed: false }
    }

    /// Subscribes and sends notices until the subscription ends.
    ///
    /// # Errors
    /// Why it has ended; it never returns `Ok`.
    async fn follow(&mut self) -> Result<(), String> {
        if self.is_subscribed {
            self.is_subscribed = false;
            self.send(ServerRecordNotice::Unsubscribed).await;
        }
        let client = connect::connect(&self.state).await?;
        let prefix = self.state.url.names.auxiliary_name(SERVER);
        let filter = SubscriptionFilter::on_stream_name().add_prefix(&prefix);
        let options = SubscribeToAllOptions::default().position(StreamPosition::End).filter(filter);
        let subscription = client.subscribe_to_all(&options).await;
        let (messages, mut received) = mpsc::channel(CHANNEL_CAPACITY);
        let receiving = tokio::spawn(follow::forward_messages(subscription, messages));
        while let Some(message) = received.recv().await {
            match message {
                SubscriptionEvent::Confirmed(_) => {
                    self.is_subscribed = true;
                    self.send(ServerRecordNotice::Subscribed).await;
                }
                SubscriptionEvent::EventAppeared(event) => {
                    if let Some(record) = event.event.and_then(|event| decode_server_record(&prefix, &event)) {
                        self.send(ServerRecordNotice::Record(record)).await;
                    }
                }
                SubscriptionEvent::Checkpoint(_)
                | SubscriptionEvent::CaughtUp
                | SubscriptionEvent::FellBehind
                | SubscriptionEvent::FirstStreamPosition(_)
                | SubscriptionEvent::LastStreamPosition(_)
                | SubscriptionEvent::LastAllPosition(_) => {}
            }
        }
        Err(follow::end_reason(receiving).await)
    }

    /// Sends the notice to the subscriber. If the subscriber was dropped, this waits until the store is closed.
    async fn send(&self, notice: ServerRecordNotice) {
        if self.notices.send(notice).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl SessionRunner for ServerRecordFollower {
    async fn run(&mut self) -> String {
        let started_at = Instant::now();
        let ended = self.follow().await;
        self.has_progressed = started_at.elapsed() > USEFUL_AFTER && self.is_subscribed;
        ended.err().unwrap_or_default()
    }

    fn session_ended(&mut self, why: String) {
        tracing::debug!(why, "the servers' records are not received");
    }

    fn last_session_progressed(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }
}

/// Decodes a server's record; `None` if this version of Taskbell can't read it.
fn decode_server_record(prefix: &str, event: &RecordedEvent) -> Option<AuxiliaryEvent> {
    let id: Uuid = event.stream_id.strip_prefix(prefix)?.parse().ok()?;
    decode_event(AuxiliaryStream::Server(id), event).ok()
}
