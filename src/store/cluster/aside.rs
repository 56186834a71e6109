//! The streams beside the log: reads of their last events, and the subscription to the records of all servers.
//!
//! The subscription begins at the end of the database's log, each time anew: a record that was missed is of no use later.

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

use super::shared::Shared;
use super::supervise::Session;
use super::{connect, follow, read};
use crate::store::ReadError;
use crate::store::aside::{AsideRecorded, AsideStream, SERVER, ServerNotice};
use crate::task::Revision;

/// Records of a server that the database keeps.
const RECORDS: u64 = 3;
/// How long a request waits for its answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Messages that wait to be read.
const CHANNEL: usize = 64;
/// A subscription that held for so long was of use, also where no record came.
const USEFUL: Duration = Duration::from_secs(1);

/// The last event of the stream.
pub(super) async fn last(shared: &Shared, stream: AsideStream) -> Result<Option<AsideRecorded>, ReadError> {
    let name = shared.url.names.beside(&stream.to_string());
    let request = move |client: Client| {
        let name = name.clone();
        async move {
            match read_last(client, &name).await {
                Err(Error::ResourceNotFound) => Ok(None),
                found => found,
            }
        }
    };
    let found = read::resolve(shared, ANSWER, request).await?;
    found.map(|event| decode(stream, &event)).transpose()
}

async fn read_last(client: Client, name: &str) -> eventstore::Result<Option<RecordedEvent>> {
    let options = ReadStreamOptions::default().position(StreamPosition::End).backwards().max_count(1).deadline(ANSWER);
    let last = client.read_stream(name, &options).await?.next().await?;
    Ok(last.and_then(|last| last.event))
}

fn decode(stream: AsideStream, event: &RecordedEvent) -> Result<AsideRecorded, ReadError> {
    let text = String::from_utf8_lossy(&event.data).into_owned();
    let data = RawValue::from_string(text)
        .map_err(|error| ReadError::Damaged(format!("event {} of {stream}: {error}", event.id)))?;
    let (revision, kind) = (Revision(event.revision), event.event_type.clone());
    Ok(AsideRecorded { stream, revision, id: event.id, kind, data })
}

/// Has the database keep the last records of this server alone. Where that fails, a later record's call makes up for it.
pub(super) async fn bound(shared: &Shared, stream: AsideStream) {
    let name = shared.url.names.beside(&stream.to_string());
    let metadata = StreamMetadataBuilder::new().max_count(RECORDS).build();
    let options = AppendToStreamOptions::default().expected_revision(ExpectedRevision::Any).deadline(ANSWER);
    let request =
        move |client: Client| async move { client.set_stream_metadata(name, &options, &metadata).await.map(|_| ()) };
    if let Err(error) = shared.connection.call(Instant::now() + ANSWER, ANSWER, request).await {
        tracing::debug!(%stream, %error, "the number of kept records could not be set");
    }
}

/// The subscription to the records of all servers.
pub(super) struct ServerFollower {
    shared: Arc<Shared>,
    notices: mpsc::Sender<ServerNotice>,
    is_live: bool,
    has_progressed: bool,
}

impl ServerFollower {
    pub(super) const fn new(shared: Arc<Shared>, notices: mpsc::Sender<ServerNotice>) -> Self {
        Self { shared, notices, is_live: false, has_progressed: false }
    }

    async fn follow(&mut self) -> Result<(), String> {
        if self.is_live {
            self.is_live = false;
            self.send(ServerNotice::Interrupted).await;
        }
        let client = connect::connect(&self.shared).await?;
        let prefix = self.shared.url.names.beside(SERVER);
        let filter = SubscriptionFilter::on_stream_name().add_prefix(&prefix);
        let options = SubscribeToAllOptions::default().position(StreamPosition::End).filter(filter);
        let subscription = client.subscribe_to_all(&options).await;
        let (messages, mut received) = mpsc::channel(CHANNEL);
        let receiving = tokio::spawn(follow::receive(subscription, messages));
        while let Some(message) = received.recv().await {
            match message {
                SubscriptionEvent::Confirmed(_) => {
                    self.is_live = true;
                    self.send(ServerNotice::Live).await;
                }
                SubscriptionEvent::EventAppeared(event) => {
                    if let Some(record) = event.event.and_then(|event| record(&prefix, &event)) {
                        self.send(ServerNotice::Record(record)).await;
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
        Err(follow::ended(receiving).await)
    }

    /// Without a subscriber it waits for the end of the store.
    async fn send(&self, notice: ServerNotice) {
        if self.notices.send(notice).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Session for ServerFollower {
    async fn run(&mut self) -> String {
        let begun = Instant::now();
        let ended = self.follow().await;
        self.has_progressed = begun.elapsed() > USEFUL && self.is_live;
        ended.err().unwrap_or_default()
    }

    fn ended(&mut self, why: String) {
        tracing::debug!(why, "the servers' records are not received");
    }

    fn has_progressed(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }
}

/// The record, where it is one that this version can read.
fn record(prefix: &str, event: &RecordedEvent) -> Option<AsideRecorded> {
    let id: Uuid = event.stream_id.strip_prefix(prefix)?.parse().ok()?;
    decode(AsideStream::Server(id), event).ok()
}
