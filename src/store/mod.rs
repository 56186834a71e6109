//! THE LOG: streams of events, each event with a revision in its stream and a position in the log. It knows none of the
//! rules of tasks.
//!
//! [`EventStore`] has three variants with the same behaviour, which `tests/store_contract.rs` describes.
//! Reading order: [`recorded`] (what the log holds), this file (appends, reads, subscriptions), `memory` (the shortest
//! implementation), `sqlite` (the durable one), `cluster` (a database that several servers share), `encoded` (an append on
//! its way into the log), [`aside`] (streams that are not part of the log), `recent` (the newest events in memory),
//! [`subscription`] (following the log), [`codec`] and [`upcast`] (JSON to events), [`chain`] (tamper evidence). The reasons
//! why something fails are in `error`.
//! `import` moves a log into a cluster. `conformance` is the contract of all variants as checks.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::task::{Position, Revision, Timestamp};

pub mod aside;
pub mod chain;
#[cfg(feature = "eventstore")]
mod cluster;
pub mod codec;
#[cfg(any(feature = "testing", all(feature = "cli", feature = "eventstore")))]
pub mod conformance;
mod encoded;
mod error;
mod event;
#[cfg(feature = "eventstore")]
pub mod import;
mod memory;
mod recent;
pub mod recorded;
mod sqlite;
pub mod subscription;
pub mod upcast;

pub use crate::clock::{new_id, now};
#[cfg(all(feature = "eventstore", any(feature = "testing", feature = "cli")))]
pub use cluster::check;
#[cfg(feature = "eventstore")]
pub use cluster::{InvalidUrl, StoreUrl};
pub use encoded::EncodedAppend;
pub use error::{AppendError, OpenError, ReadError};
pub use event::{Hash, LogEvent, Meta, NewEvent, StreamName, StreamOf, Via};
pub use recorded::Recorded;
pub use subscription::LogSubscription;

/// The log; clones share it.
#[derive(Clone)]
pub struct EventStore(Backend);

#[derive(Clone)]
enum Backend {
    Memory(Arc<memory::Memory>),
    Sqlite(Arc<sqlite::Sqlite>),
    #[cfg(feature = "eventstore")]
    Cluster(Arc<cluster::Cluster>),
}

/// Which event the writer takes for the last of the stream. An append is refused where another one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The stream has no event yet.
    NoStream,
    /// The event of this revision is the last.
    Revision(Revision),
}

/// One atomic write to one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream.
    pub stream: StreamName,
    /// Its last event, as the writer knows it.
    pub expected: Expected,
    /// At least one event, in order.
    pub events: Vec<NewEvent>,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Position of the last event; 0 where there is none.
    pub position: Position,
    /// Its hash; zero where there is none.
    pub hash: Hash,
    /// Its time; none where there is no event.
    pub time: Option<Timestamp>,
}

impl EventStore {
    /// A new log in memory, gone with the process.
    #[must_use]
    pub fn memory() -> Self {
        Self(Backend::Memory(Arc::new(memory::Memory::new())))
    }

    /// Opens the log in this folder; creates both where there are none. Blocks while it reads the end of the log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        sqlite::Sqlite::open(dir).map(|store| Self(Backend::Sqlite(Arc::new(store))))
    }

    /// Opens the log at the address of a cluster. It needs no answer of the cluster: until there is one the log is empty,
    /// [`EventStore::health`] says why, and appends wait a while and fail.
    ///
    /// # Errors
    /// [`OpenError::Threads`] where the system starts no threads.
    #[cfg(feature = "eventstore")]
    pub fn connect(url: StoreUrl) -> Result<Self, OpenError> {
        Self::connect_as(url, new_id())
    }

    /// The same; a log that doesn't exist yet gets this id.
    #[cfg(feature = "eventstore")]
    fn connect_as(url: StoreUrl, epoch: Uuid) -> Result<Self, OpenError> {
        cluster::Cluster::open(url, epoch).map(|store| Self(Backend::Cluster(Arc::new(store))))
    }

    /// Writes all events of one append or none. The answer is the revision of its last event, and comes when the events are
    /// durable. If the caller drops the future earlier, the events may be written all the same.
    ///
    /// # Errors
    /// See [`AppendError`].
    #[cfg(feature = "testing")]
    pub async fn append(&self, append: Append) -> Result<Revision, AppendError> {
        let answer = self.append_many(vec![append]).await.pop();
        answer.unwrap_or_else(|| Err(AppendError::Unavailable("the log gave no answer".to_owned())))
    }

    /// Writes many appends, to any streams, in one transaction and in this order. Each has its own answer, in the same order:
    /// the others are written where one is refused. A failed write fails them all.
    #[cfg(feature = "testing")]
    pub async fn append_many(&self, appends: Vec<Append>) -> Vec<Result<Revision, AppendError>> {
        self.append_encoded(appends.into_iter().map(EncodedAppend::new).collect()).await
    }

    /// The same for appends whose events are JSON already.
    pub async fn append_encoded(&self, encoded: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        match &self.0 {
            Backend::Memory(store) => store.append(encoded),
            Backend::Sqlite(store) => store.append(encoded).await,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.append(encoded).await,
        }
    }

    /// The events of a stream from a revision on (inclusive), oldest first; empty where there are none. On a cluster it waits
    /// until this server has received them in the order of the log, at most 5 s.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_stream(&self, stream: &StreamName, from: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let events = match &self.0 {
            Backend::Memory(store) => store.read_stream(stream, from),
            Backend::Sqlite(store) => store.read_stream(stream.clone(), from).await?,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.read_stream(stream, from).await?,
        };
        without_gaps(stream, from, events)
    }

    /// All events of a stream, at least up to a revision. On a cluster it needs no answer where this server has received so
    /// many lately: then it lacks what another server has just written, as the views do.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_received(
        &self,
        stream: &StreamName,
        at_least: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        match self.recent().stream(stream) {
            Some(events) if events.last().is_some_and(|last| last.revision >= at_least) => Ok(events),
            Some(_) | None => self.read_stream(stream, Revision(0)).await,
        }
    }

    /// The same for a decision, which needs neither position nor hash: on a cluster the events have none (0), and the read
    /// doesn't wait for this server to receive them.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_past(&self, stream: &StreamName, from: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) => self.read_stream(stream, from).await,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => without_gaps(stream, from, store.read_past(stream, from).await?),
        }
    }

    /// All events of many streams, as [`EventStore::read_past`] reads them: a list for each stream, in the order of `streams`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_pasts(&self, streams: Vec<StreamName>) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let read = match &self.0 {
            Backend::Memory(store) => streams.iter().map(|stream| store.read_stream(stream, Revision(0))).collect(),
            Backend::Sqlite(store) => store.read_streams(streams).await?,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.read_pasts(&streams).await?,
        };
        let whole = |events: &Vec<Arc<Recorded>>| events.iter().zip(0..).all(|(event, n)| event.revision.0 == n);
        if !read.iter().all(whole) {
            return Err(ReadError::Damaged("a stream has lost an event".to_owned()));
        }
        Ok(read)
    }

    /// At most `limit` events after a position (exclusive), oldest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let head = self.head().position;
        if let Some(page) = self.recent().page(after, limit) {
            return Ok(page);
        }
        let events = match &self.0 {
            // Its recent events are all events.
            Backend::Memory(_) => Vec::new(),
            Backend::Sqlite(store) => store.read_all(after, head, limit).await?,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.read_all(after, head, limit).await?,
        };
        let due = usize::try_from(head.0.saturating_sub(after.0)).unwrap_or(usize::MAX).min(limit);
        let read = events.iter().map(|event| Some(event.position.0)).chain([None]);
        match (after.0 + 1..).zip(read).take(due).find(|&(position, read)| read != Some(position)) {
            Some((position, _)) => Err(ReadError::Damaged(format!("the log has lost event {position}"))),
            None => Ok(events),
        }
    }

    /// The last durable event.
    #[must_use]
    pub fn head(&self) -> Head {
        self.recent().head()
    }

    /// The position of the last durable event, and a signal when it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.recent().watch()
    }

    /// Every event after a position (exclusive): first those that exist, then each new one.
    #[must_use]
    pub fn subscribe(&self, after: Position) -> LogSubscription {
        LogSubscription::new(self.clone(), after)
    }

    /// The id of this log, created with it and kept in it: another epoch is another log. On a cluster it is the same on each
    /// server, and nil until the cluster has answered once.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        match &self.0 {
            Backend::Memory(store) => store.epoch,
            Backend::Sqlite(store) => store.epoch,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.epoch(),
        }
    }

    /// Whether the log takes writes and, on a cluster, this server receives its events.
    ///
    /// # Errors
    /// The reason: why it takes none for the rest of this process; on a cluster also since when it can't be reached, or how
    /// far old events are received.
    pub fn health(&self) -> Result<(), String> {
        match &self.0 {
            Backend::Memory(_) => Ok(()),
            Backend::Sqlite(store) => store.health(),
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.health(),
        }
    }

    /// Whether [`EventStore::health`] stays bad until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        match &self.0 {
            Backend::Memory(_) => false,
            Backend::Sqlite(store) => store.health().is_err(),
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.has_failed(),
        }
    }

    /// Whether the head moves as soon as an event is written, by whichever server. False on a cluster while this server can't
    /// reach it, or receives old events.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) => true,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.is_caught_up(),
        }
    }

    /// Waits until [`EventStore::health`] is good, or until it is not; returns it. Only on a cluster does it change from bad to
    /// good.
    ///
    /// # Errors
    /// The reason that `health` gives.
    pub async fn wait_for_health(&self, healthy: bool) -> Result<(), String> {
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) if self.health().is_ok() == healthy => self.health(),
            Backend::Memory(_) | Backend::Sqlite(_) => std::future::pending().await,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.wait_for_health(healthy).await,
        }
    }

    /// Waits until no further event will come in this process; why. It never returns where the log has no such state.
    pub(crate) async fn failure(&self) -> ReadError {
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) => std::future::pending().await,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.failure().await,
        }
    }

    /// Whether other servers may write to it.
    #[cfg(any(feature = "testing", all(feature = "cli", feature = "eventstore")))]
    fn is_cluster(&self) -> bool {
        match &self.0 {
            Backend::Memory(_) | Backend::Sqlite(_) => false,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(_) => true,
        }
    }

    fn recent(&self) -> &recent::RecentEvents {
        match &self.0 {
            Backend::Memory(store) => &store.recent,
            Backend::Sqlite(store) => &store.recent,
            #[cfg(feature = "eventstore")]
            Backend::Cluster(store) => store.recent(),
        }
    }
}

impl fmt::Debug for EventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match &self.0 {
            Backend::Memory(_) => "Memory",
            Backend::Sqlite(_) => "Sqlite",
            #[cfg(feature = "eventstore")]
            Backend::Cluster(_) => "Cluster",
        };
        f.debug_tuple("EventStore").field(&backend).field(&self.head().position).finish()
    }
}

/// The events, if they are consecutive from `from` on.
fn without_gaps(
    stream: &StreamName,
    from: Revision,
    events: Vec<Arc<Recorded>>,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    match events.iter().zip(from.0..).find(|(event, revision)| event.revision.0 != *revision) {
        Some((_, revision)) => Err(ReadError::Damaged(format!("{stream} has lost its event of revision {revision}"))),
        None => Ok(events),
    }
}
