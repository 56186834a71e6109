//! The operations that the service needs of a backend.

use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use prost::bytes::Bytes;
use uuid::Uuid;

use super::event::{ExpectedRevision, WireEvent, WirePosition};
use super::refusal::Refusal;

/// A log that the service reads. If the log accepts writes, the service also appends to it.
#[async_trait]
pub(super) trait WireBackend: Send + Sync + 'static {
    /// Called before each request. An error refuses the request, for example because this server is not the leader. The
    /// database for tests waits here while it is frozen.
    async fn check_request(&self, requires_leader: bool) -> Result<(), Refusal>;

    /// Whether some requests need a password.
    fn needs_password(&self) -> bool {
        false
    }

    /// The backend as the client with this password and this address may see it. Called before each request for streams. `None` is
    /// a request without a password.
    fn for_reader(self: Arc<Self>, _password: Option<&str>, _client: Option<IpAddr>) -> Result<Arc<Self>, Refusal>
    where
        Self: Sized,
    {
        Ok(self)
    }

    /// The servers of the cluster, including this one.
    fn members(&self) -> Vec<ClusterMember>;

    /// Whether the backend accepts writes. Only then clients are told that the methods for writes exist.
    fn is_writable(&self) -> bool;

    /// The position of the last event; `None` if there is no event.
    fn end(&self) -> Option<WirePosition>;

    /// Waits until there is an event after `end`.
    async fn wait_for_event_after(&self, end: Option<WirePosition>) -> Result<(), Refusal>;

    /// Returns when the reader's credential has ended. Running reads and subscriptions then end with this refusal.
    async fn wait_for_revocation(&self) -> Refusal {
        std::future::pending().await
    }

    /// Returns when a test wants all running subscriptions to end with the status OK. Otherwise it never returns.
    async fn wait_for_injected_end(&self) {
        std::future::pending::<()>().await;
    }

    /// At most `limit` events from the lower bound on, in order.
    async fn all_forwards(&self, from: Bound<WirePosition>, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// At most `limit` events before a position (exclusive), the last one first.
    async fn all_backwards(&self, before: WirePosition, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// At most `limit` events of a stream from a revision on (inclusive), in order.
    async fn stream_forwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// At most `limit` events of a stream from a revision (inclusive) backwards, the last one first.
    async fn stream_backwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// Writes all events to one stream or none.
    async fn append(&self, append: WireAppend) -> Result<AppendSuccess, Refusal>;

    /// Deletes a stream. Returns the position of the record of the deletion.
    async fn delete(&self, delete: StreamDeletion) -> Result<WirePosition, Refusal>;
}

/// One server of the cluster.
pub(super) struct ClusterMember {
    pub(super) id: Uuid,
    pub(super) addr: SocketAddr,
    pub(super) is_leader: bool,
}

/// One write to one stream.
pub(super) struct WireAppend {
    pub(super) stream: String,
    pub(super) expected: ExpectedRevision,
    pub(super) events: Vec<ReceivedEvent>,
}

/// An event that a client sends in an append.
pub(super) struct ReceivedEvent {
    pub(super) id: Uuid,
    pub(super) event_type: Arc<str>,
    pub(super) content_type: Arc<str>,
    pub(super) custom_metadata: Bytes,
    pub(super) data: Bytes,
}

impl ReceivedEvent {
    /// The number of bytes that the event adds to the size of its append. EventStoreDB counts two
    /// bytes for each character of the type.
    pub(super) fn size(&self) -> usize {
        self.data.len() + self.custom_metadata.len() + self.event_type.len() * 2
    }
}

/// The result of an append that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AppendSuccess {
    /// The revision of the last event of the append; `None` if the append and the stream have no event.
    pub(super) revision: Option<u64>,
    /// The position of the last record that was written.
    pub(super) position: WirePosition,
}

/// A request to delete a stream.
pub(super) struct StreamDeletion {
    pub(super) stream: String,
    pub(super) expected: ExpectedRevision,
    /// If true, later appends are refused. If false, the stream's events are hidden, and a later append continues the
    /// stream at the next revision.
    pub(super) is_permanent: bool,
}
