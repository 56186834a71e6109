//! The auxiliary streams: reads of their last events, and the subscription to the records of all servers.
//!
//! Each subscription begins at the end of the database's log. It doesn't deliver records that were missed in between,
//! because an old record is useless.

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

use super::shared::ClusterState;
use super::supervise::Session;
use super::{connect, follow, read};
use crate::store::ReadError;
use crate::store::auxiliary::{AuxiliaryEvent, AuxiliaryStream, SERVER, ServerRecordNotice};
use crate::task::Revision;

/// The number of records that the database keeps in a server's stream.
const RECORDS_MAX: u64 = 3;
/// How long a request waits for its response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest number of messages that wait in the channel.
const CHANNEL_CAPACITY: usize = 64;
/// A subscription that lasts longer than this counts as progress, even if no record came.
const USEFUL_AFTER: Duration = Duration::from_secs(1);

/// The last event of the stream; `None` if the stream has no event.
pub(super) async fn read_last(
    shared: &ClusterState,
    stream: AuxiliaryStream,
) -> Result<Option<AuxiliaryEvent>, ReadError> {
    let name = shared.url.names.auxiliary_name(&stream.to_string());
    let request = move |client: Client| {
        let name = name.clone();
        async move {
            match request_last(client, &name).await {
                Err(Error::ResourceNotFound) => Ok(None),
                found => found,
            }
        }
    };
    let found = read::read_with_retries(shared, ANSWER_TIMEOUT, request).await?;
    found.map(|event| decode_event(stream, &event)).transpose()
}

async fn request_last(client: Client, name: &str) -> eventstore::Result<Option<RecordedEvent>> {
    let options =
        ReadStreamOptions::default().position(StreamPosition::End).backwards().max_count(1).deadline(ANSWER_TIMEOUT);
    let last = client.read_stream(name, &options).await?.next().await?;
    Ok(last.and_then(|last| last.event))
}

fn decode_event(stream: AuxiliaryStream, event: &RecordedEvent) -> Result<AuxiliaryEvent, ReadError> {
    let text = String::from_utf8_lossy(&event.data).into_owned();
    let data = RawValue::from_string(text)
        .map_err(|error| ReadError::Damaged(format!("event {} of {stream}: {error}", event.id)))?;
    let (revision, kind) = (Revision(event.revision), event.event_type.clone());
    Ok(AuxiliaryEvent { stream, revision, id: event.id, kind, data })
}

/// Sets the stream's metadata so that the database keeps only the last records. If this fails, a later call repeats it.
pub(super) async fn limit_records(shared: &ClusterState, stream: AuxiliaryStream) {
    let name = shared.url.names.auxiliary_name(&stream.to_string());
    let metadata = StreamMetadataBuilder::new().max_count(RECORDS_MAX).build();
    let options = AppendToStreamOptions::default().expected_revision(ExpectedRevision::Any).deadline(ANSWER_TIMEOUT);
    let request =
        move |client: Client| async move { client.set_stream_metadata(name, &options, &metadata).await.map(|_| ()) };
    if let Err(error) = shared.client.call(Instant::now() + ANSWER_TIMEOUT, ANSWER_TIMEOUT, request).await {
        tracing::debug!(%stream, %error, "the number of kept records could not be set");
    }
}

/// The session that subscribes to the records of all servers.
pub(super) struct ServerRecordFollower {
    shared: Arc<ClusterState>,
    notices: mpsc::Sender<ServerRecordNotice>,
    /// Whether [`ServerRecordNotice::Live`] was the last notice about the subscription.
    is_live: bool,
    has_progressed: bool,
}

impl ServerRecordFollower {
    pub(super) const fn new(shared: Arc<ClusterState>, notices: mpsc::Sender<ServerRecordNotice>) -> Self {
        Self { shared, notices, is_live: false, has_progressed: false }
    }

    /// Subscribes and sends notices until the subscription ends.
    ///
    /// # Errors
    /// Why it has ended; it never returns `Ok`.
    async fn follow(&mut self) -> Result<(), String> {
        if self.is_live {
            self.is_live = false;
            self.send(ServerRecordNotice::Interrupted).await;
        }
        let client = connect::connect(&self.shared).await?;
        let prefix = self.shared.url.names.auxiliary_name(SERVER);
        let filter = SubscriptionFilter::on_stream_name().add_prefix(&prefix);
        let options = SubscribeToAllOptions::default().position(StreamPosition::End).filter(filter);
        let subscription = client.subscribe_to_all(&options).await;
        let (messages, mut received) = mpsc::channel(CHANNEL_CAPACITY);
        let receiving = tokio::spawn(follow::forward_messages(subscription, messages));
        while let Some(message) = received.recv().await {
            match message {
                SubscriptionEvent::Confirmed(_) => {
                    self.is_live = true;
                    self.send(ServerRecordNotice::Live).await;
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

impl Session for ServerRecordFollower {
    async fn run(&mut self) -> String {
        let begun = Instant::now();
        let ended = self.follow().await;
        self.has_progressed = begun.elapsed() > USEFUL_AFTER && self.is_live;
        ended.err().unwrap_or_default()
    }

    fn session_ended(&mut self, why: String) {
        tracing::debug!(why, "the servers' records are not received");
    }

    fn has_progressed(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }
}

/// Decodes a server's record; `None` if this version of Taskbell can't read it.
fn decode_server_record(prefix: &str, event: &RecordedEvent) -> Option<AuxiliaryEvent> {
    let id: Uuid = event.stream_id.strip_prefix(prefix)?.parse().ok()?;
    decode_event(AuxiliaryStream::Server(id), event).ok()
}
