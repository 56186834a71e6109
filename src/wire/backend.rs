//! What a backend does for the service.

use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use prost::bytes::Bytes;
use uuid::Uuid;

use super::event::{ExpectedRevision, WireEvent, WirePosition};
use super::refusal::Refusal;

/// A log that the service reads and, where it takes writes, appends to.
#[async_trait]
pub(super) trait Backend: Send + Sync + 'static {
    /// Called before each request.
    async fn admit(&self, requires_leader: bool) -> Result<(), Refusal>;

    /// The members of the cluster, this one included.
    fn members(&self) -> Vec<Member>;

    /// Whether the backend takes writes. The methods for them are advertised to clients only then.
    fn is_writable(&self) -> bool;

    /// The position of the last event; none where there is no event.
    fn end(&self) -> Option<WirePosition>;

    /// Returns when the last event lies after `end`.
    async fn wait_beyond(&self, end: Option<WirePosition>) -> Result<(), Refusal>;

    /// Returns when the subscriptions that run now are to end with OK, which only a test wants.
    async fn subscriptions_end(&self) {
        std::future::pending::<()>().await;
    }

    /// At most `limit` events from the lower bound on, in order.
    async fn all_forwards(&self, from: Bound<WirePosition>, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// At most `limit` events before a position (exclusive), the last one first.
    async fn all_backwards(&self, before: WirePosition, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// At most `limit` events of a stream from a revision on (inclusive), in order.
    async fn stream_forwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// At most `limit` events of a stream from a revision back (inclusive), the last one first.
    async fn stream_backwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal>;

    /// Writes all events to one stream or none.
    async fn append(&self, append: WireAppend) -> Result<Written, Refusal>;

    /// Truncates a stream, or ends it for ever. The answer is the position of the record that says so.
    async fn delete(&self, delete: Delete) -> Result<WirePosition, Refusal>;
}

/// One server of a cluster.
pub(super) struct Member {
    pub(super) id: Uuid,
    pub(super) addr: SocketAddr,
    pub(super) is_leader: bool,
}

/// One write to one stream.
pub(super) struct WireAppend {
    pub(super) stream: String,
    pub(super) expected: ExpectedRevision,
    pub(super) events: Vec<Proposed>,
}

/// An event that a client proposes.
pub(super) struct Proposed {
    pub(super) id: Uuid,
    pub(super) kind: Arc<str>,
    pub(super) content_type: Arc<str>,
    pub(super) custom_metadata: Bytes,
    pub(super) data: Bytes,
}

impl Proposed {
    /// Its share of the size of an append, in bytes.
    pub(super) fn size(&self) -> usize {
        self.data.len() + self.custom_metadata.len() + self.kind.len() * 2
    }
}

/// What an append came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The last revision of the append; none where the stream has no event still.
    pub(super) revision: Option<u64>,
    /// The position of its last event.
    pub(super) position: WirePosition,
}

/// The end of a stream.
pub(super) struct Delete {
    pub(super) stream: String,
    pub(super) expected: ExpectedRevision,
    /// For ever; else the stream may be appended to again.
    pub(super) is_permanent: bool,
}
