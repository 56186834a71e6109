//! Streams beside the log, on a cluster: the records of servers and the claims of keys. Their events have no positions, and
//! the log's readers and subscribers never receive them.
//!
//! A log of one server needs none of them. The log in memory keeps them for tests.

use std::fmt;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{AppendError, Backend, EventStore, Hash, ReadError};
use crate::task::{Position, Revision};

/// A stream beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsideStream {
    /// `server-<uuid>`: the records of a server. The database keeps the last few of them.
    Server(Uuid),
    /// `key-<hash>`: the claims of a key.
    Key(Hash),
}

impl fmt::Display for AsideStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(id) => write!(f, "{SERVER}{id}"),
            Self::Key(hash) => write!(f, "key-{hash}"),
        }
    }
}

/// What the names of the servers' streams begin with.
pub(super) const SERVER: &str = "server-";

/// An event for a stream beside the log.
#[derive(Clone, Debug)]
pub struct AsideEvent {
    /// A UUID. The database writes an event of the same id, stream and expected revision once.
    pub id: Uuid,
    /// Its type.
    pub kind: &'static str,
    /// Its data, a JSON object.
    pub data: Box<RawValue>,
}

/// Which event the writer takes for the last of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsideExpected {
    /// Whichever it is. After a lost answer the event may be written twice.
    Any,
    /// The stream has no event yet.
    NoStream,
    /// The event of this revision.
    Revision(Revision),
}

/// An event of a stream beside the log.
#[derive(Clone, Debug)]
pub struct AsideRecorded {
    /// Its stream.
    pub stream: AsideStream,
    /// Its revision in the stream.
    pub revision: Revision,
    /// Its id.
    pub id: Uuid,
    /// Its type.
    pub kind: String,
    /// Its data.
    pub data: Box<RawValue>,
}

/// What a subscriber of the servers' records receives.
#[derive(Debug)]
#[cfg_attr(not(feature = "eventstore"), allow(dead_code))] // only a cluster has other servers
pub enum ServerNotice {
    /// The subscription has begun: every record that is written from now on is received.
    Live,
    /// A server has written a record.
    Record(AsideRecorded),
    /// The subscription has ended. Records are missed until the next [`ServerNotice::Live`].
    Interrupted,
}

/// A subscription to the records of all servers.
#[derive(Debug)]
pub struct ServerRecords(pub(super) mpsc::Receiver<ServerNotice>);

impl ServerRecords {
    /// Waits for the next notice; none after the end of the store.
    pub async fn next(&mut self) -> Option<ServerNotice> {
        self.0.recv().await
    }
}

/// Notices that wait for their subscriber.
const CHANNEL: usize = 1024;

impl EventStore {
    /// Whether several servers may write to this log.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) => false,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(_) => true,
        }
    }

    /// The hash of the event at this position; none where it was not received yet, or is not among the newest.
    #[must_use]
    pub fn recent_hash(&self, position: Position) -> Option<Hash> {
        let before = Position(position.0.checked_sub(1)?);
        self.recent().page(before, 1)?.first().map(|event| event.hash)
    }

    /// Ends all reads and writes of this process, and its readiness: what it has received can't be the log.
    pub fn refuse(&self, why: &str) {
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) => tracing::error!(why, "the log is refused"),
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.refuse(why),
        }
    }

    /// Writes one event to a stream beside the log; answers its revision when it is durable. If the caller drops the future,
    /// the event may be written all the same.
    ///
    /// # Errors
    /// See [`AppendError`]; [`AppendError::Unavailable`] where the log belongs to one server.
    #[cfg_attr(not(feature = "eventstore"), allow(clippy::unused_async))]
    pub async fn append_aside(
        &self,
        stream: AsideStream,
        expected: AsideExpected,
        event: AsideEvent,
    ) -> Result<Revision, AppendError> {
        match &self.0 {
            Backend::Memory(store) => store.append_aside(stream, expected, event),
            Backend::Sqlite(_) => Err(AppendError::Unavailable(ONE_SERVER.to_owned())),
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.append_aside(stream, expected, event).await,
        }
    }

    /// The last event of a stream beside the log; none where it has none. It holds what was acknowledged before, whichever
    /// server wrote it.
    ///
    /// # Errors
    /// See [`ReadError`]; [`ReadError::Unavailable`] where the log belongs to one server.
    #[cfg_attr(not(feature = "eventstore"), allow(clippy::unused_async))]
    pub async fn read_aside_last(&self, stream: AsideStream) -> Result<Option<AsideRecorded>, ReadError> {
        match &self.0 {
            Backend::Memory(store) => Ok(store.read_aside_last(stream)),
            Backend::Sqlite(_) => Err(ReadError::Unavailable(ONE_SERVER.to_owned())),
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.read_aside_last(stream).await,
        }
    }

    /// Subscribes to the records of all servers, from now on. On a log of one server no notice ever comes.
    #[must_use]
    pub fn follow_servers(&self) -> ServerRecords {
        let (notices, received) = mpsc::channel(CHANNEL);
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) => drop(notices),
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.follow_servers(notices),
        }
        ServerRecords(received)
    }
}

const ONE_SERVER: &str = "a log of one server has no streams beside it";
