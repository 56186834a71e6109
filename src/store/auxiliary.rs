//! Auxiliary streams: streams of a cluster's database that are not part of the log. They hold the records of servers and the
//! claims of keys. Their events have no positions, and the log's readers and subscribers never receive them.
//!
//! A log of one server needs no auxiliary streams. The log in memory has them for tests.

use std::fmt;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{AppendError, EventStore, Hash, ReadError, StoreBackend};
use crate::task::{Position, Revision};

/// The name of an auxiliary stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuxiliaryStream {
    /// `server-<uuid>`: the records of a server. The database keeps the last three of them.
    Server(Uuid),
    /// `key-<hash>`: the claims of a key.
    Key(Hash),
}

impl fmt::Display for AuxiliaryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(id) => write!(f, "{SERVER}{id}"),
            Self::Key(hash) => write!(f, "key-{hash}"),
        }
    }
}

/// The names of all servers' streams begin with this text.
pub(super) const SERVER: &str = "server-";

/// An event that is to be appended to an auxiliary stream.
#[derive(Clone, Debug)]
pub struct NewAuxiliaryEvent {
    /// A UUID. If the same event is sent again to the same stream with the same expected revision, the database writes it
    /// only once.
    pub id: Uuid,
    /// Its type.
    pub event_type: &'static str,
    /// Its data, a JSON object.
    pub data: Box<RawValue>,
}

/// The event that the writer expects to be the last one of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuxiliaryExpected {
    /// Any event, or none. If the response is lost and the event is sent again, it may be written twice.
    Any,
    /// The stream has no event yet.
    NoStream,
    /// The event of this revision is the last.
    Revision(Revision),
}

/// An event that was read from an auxiliary stream.
#[derive(Clone, Debug)]
pub struct AuxiliaryEvent {
    /// Its stream.
    pub stream: AuxiliaryStream,
    /// Its revision in the stream.
    pub revision: Revision,
    /// Its id.
    pub id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its data.
    pub data: Box<RawValue>,
}

/// A message to a subscriber of the servers' records.
#[derive(Debug)]
#[cfg_attr(not(feature = "eventstore"), allow(dead_code))] // only a cluster has other servers
pub enum ServerRecordNotice {
    /// The subscription has begun. The subscriber receives every record that is written from now on.
    Subscribed,
    /// A server has written a record.
    Record(AuxiliaryEvent),
    /// The subscription has ended. The subscriber misses the records that are written before the next
    /// [`ServerRecordNotice::Subscribed`].
    Unsubscribed,
}

/// A subscription to the records of all servers.
#[derive(Debug)]
pub struct ServerRecordSubscription(pub(super) mpsc::Receiver<ServerRecordNotice>);

impl ServerRecordSubscription {
    /// Waits for the next notice. Returns `None` when the store is closed, and at once if the log belongs to one server.
    pub async fn next(&mut self) -> Option<ServerRecordNotice> {
        self.0.recv().await
    }
}

/// Notices that may wait for their subscriber.
const CHANNEL_CAPACITY: usize = 1024;

impl EventStore {
    /// Whether several servers may write to this log.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        match &self.0 {
            StoreBackend::Memory(_) | StoreBackend::Sqlite(_) => false,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(_) => true,
        }
    }

    /// The hash of the event at this position; `None` if this server has not received the event yet, or no longer has it in
    /// memory.
    #[must_use]
    pub fn recent_hash(&self, position: Position) -> Option<Hash> {
        let before = Position(position.0.checked_sub(1)?);
        self.recent().page(before, 1, usize::MAX)?.first().map(|event| event.hash)
    }

    /// Called when the events that this process has received differ from the log. On a cluster, the log of this process then
    /// counts as failed until the process ends: appends and the delivery of events
    /// stop, and [`EventStore::health`] returns this reason. For a log of one server it only writes an error to the
    /// program's log.
    pub fn report_divergence(&self, why: &str) {
        match &self.0 {
            StoreBackend::Memory(_) | StoreBackend::Sqlite(_) => {
                tracing::error!(why, "the received events differ from the log");
            }
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.report_divergence(why),
        }
    }

    /// Writes one event to an auxiliary stream. Returns the event's revision when the event is durable. If the caller drops
    /// the future, the event may be written nevertheless.
    ///
    /// # Errors
    /// See [`AppendError`]; [`AppendError::Unavailable`] if the log belongs to one server.
    #[cfg_attr(not(feature = "eventstore"), allow(clippy::unused_async))]
    pub async fn append_auxiliary(
        &self,
        stream: AuxiliaryStream,
        expected: AuxiliaryExpected,
        event: NewAuxiliaryEvent,
    ) -> Result<Revision, AppendError> {
        match &self.0 {
            StoreBackend::Memory(store) => store.append_auxiliary(stream, expected, event),
            StoreBackend::Sqlite(_) => Err(AppendError::Unavailable(ONE_SERVER.to_owned())),
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.append_auxiliary(stream, expected, event).await,
        }
    }

    /// The last event of an auxiliary stream; `None` if the stream has no event. An append of any server that was
    /// acknowledged before this call is taken into account.
    ///
    /// # Errors
    /// See [`ReadError`]; [`ReadError::Unavailable`] if the log belongs to one server.
    #[cfg_attr(not(feature = "eventstore"), allow(clippy::unused_async))]
    pub async fn read_last_auxiliary(&self, stream: AuxiliaryStream) -> Result<Option<AuxiliaryEvent>, ReadError> {
        match &self.0 {
            StoreBackend::Memory(store) => Ok(store.read_last_auxiliary(stream)),
            StoreBackend::Sqlite(_) => Err(ReadError::Unavailable(ONE_SERVER.to_owned())),
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.read_last_auxiliary(stream).await,
        }
    }

    /// Subscribes to the records that servers write from now on. A log of one server sends no notice.
    #[must_use]
    pub fn subscribe_to_server_records(&self) -> ServerRecordSubscription {
        let (notices, received) = mpsc::channel(CHANNEL_CAPACITY);
        match &self.0 {
            StoreBackend::Memory(_) | StoreBackend::Sqlite(_) => drop(notices),
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.subscribe_to_server_records(notices),
        }
        ServerRecordSubscription(received)
    }
}

const ONE_SERVER: &str = "a log of one server has no auxiliary streams";
