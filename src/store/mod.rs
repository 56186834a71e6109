//! This room is the log: streams of events, each event with a revision in its stream and a position in the log. The log
//! doesn't apply the rules of tasks.
//!
//! [`EventStore`] has three variants with the same behaviour, which `conformance` describes and checks. Where the settings
//! and messages say *store*, they mean the variant that a server uses and its place, a folder or a cluster. Reading order:
//! `event` (an event before it is recorded), [`recorded`] (an event in the log), this file (appends, reads, subscriptions),
//! `memory` (the shortest implementation), `sqlite` (the durable one), `cluster` (a database that several servers share),
//! `fold` (the whole log), `health` (whether it can be written), `damage` (what was found damaged), `encoded` (an append on its way into the log), [`auxiliary`] (streams that are not part of the log), `recent` (the newest
//! events in memory), [`subscription`] (following the log), [`codec`] and [`upcast`] (JSON to events), [`chain`] (tamper
//! evidence), `merkle` (proofs for single events), `error` (why an operation of the log fails), `import` (copies a log into a cluster), [`import_lines`] (makes a log
//! of exported lines), `conformance` (the
//! contract of all variants as checks).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::task::{Position, Revision, Timestamp};

pub mod auxiliary;
pub mod chain;
#[cfg(feature = "eventstore")]
mod cluster;
pub mod codec;
#[cfg(any(feature = "testing", all(feature = "cli", feature = "eventstore")))]
pub mod conformance;
mod damage;
mod encoded;
mod error;
mod event;
mod fold;
mod health;
#[cfg(feature = "eventstore")]
pub mod import;
pub mod import_lines;
mod memory;
#[cfg(any(feature = "cli", feature = "testing"))]
pub mod merkle;
mod recent;
pub mod recorded;
pub mod redact;
mod sqlite;
pub mod subscription;
pub mod upcast;

pub use crate::clock::{new_id, now};
#[cfg(all(feature = "eventstore", any(feature = "testing", feature = "cli")))]
pub use cluster::check;
#[cfg(feature = "eventstore")]
pub use cluster::{InvalidUrl, StoreUrl};
pub use encoded::EncodedAppend;
pub use error::{AppendError, Incomplete, OpenError, ReadError};
pub use event::{Hash, LogEvent, Meta, NewEvent, StreamName, StreamSubject, Via};
use recorded::without_gaps;
pub use recorded::{Fact, Recorded, StoredJson};
pub use redact::RedactedEvent;
pub use sqlite::backup::{BackupError, backup_log};
pub use sqlite::upgrade::{UpgradeError, UpgradeStep, Upgraded, upgrade};
pub use sqlite::verify::{LogFault, Verified, VerifyError, VerifyRange, verify_log};
pub use sqlite::{Truncation, WriteAheadLog};
pub use subscription::LogSubscription;

/// The log; clones share it.
#[derive(Clone)]
pub struct EventStore(StoreBackend);

#[derive(Clone)]
enum StoreBackend {
    Memory(Arc<memory::Memory>),
    Sqlite(Arc<sqlite::Sqlite>),
    #[cfg(feature = "eventstore")]
    Cluster(Arc<cluster::Cluster>),
}

/// The event that the writer expects to be the last one of the stream. If another event is the last one, the append is
/// refused.
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
    /// The last event of the stream, as far as the writer knows.
    pub expected: Expected,
    /// At least one event, in order.
    pub events: Vec<NewEvent>,
}

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Position of the last event; 0 if the log is empty.
    pub position: Position,
    /// Hash of the last event; [`Hash::ZERO`] if the log is empty.
    pub hash: Hash,
    /// Time of the last event; `None` if the log is empty.
    pub time: Option<Timestamp>,
}

impl EventStore {
    /// A new log in memory. It is lost when the process ends.
    #[must_use]
    pub fn memory() -> Self {
        Self(StoreBackend::Memory(Arc::new(memory::Memory::new())))
    }

    /// Opens the log in this folder. Creates the folder and the log if they don't exist. Blocks while it reads the end of
    /// the log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, Truncation::Refuse)
    }

    /// Opens the log at the address of a cluster. It returns before the cluster has responded. Until the cluster responds, the
    /// log is empty, [`EventStore::health`] returns the reason, and each append fails after 5 s.
    ///
    /// # Errors
    /// [`OpenError::Threads`] if the system can't start a thread.
    #[cfg(feature = "eventstore")]
    pub fn connect(url: StoreUrl) -> Result<Self, OpenError> {
        Self::connect_with_epoch(url, new_id())
    }

    /// Does the same as [`EventStore::connect`]. If the log doesn't exist yet, it is created with this id.
    #[cfg(feature = "eventstore")]
    fn connect_with_epoch(url: StoreUrl, epoch: Uuid) -> Result<Self, OpenError> {
        cluster::Cluster::open(url, epoch).map(|store| Self(StoreBackend::Cluster(Arc::new(store))))
    }

    /// Writes all events of one append or none. Returns the revision of the last event when the events are durable. If the
    /// caller drops the future earlier, the events may be written nevertheless.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, append: Append) -> Result<Revision, AppendError> {
        let result = self.append_many(vec![append]).await.pop();
        result.unwrap_or_else(|| Err(AppendError::Unavailable("the log returned no result".to_owned())))
    }

    /// Writes many appends, to any streams. Returns one result for each append, in the order of `appends`. If one append is
    /// refused, the others are still written.
    ///
    /// The log in memory or in `SQLite` writes them in this order and in one transaction, so a failed transaction fails all
    /// of them. A cluster writes the appends of one stream in this order and those of different streams at the same time.
    pub async fn append_many(&self, appends: Vec<Append>) -> Vec<Result<Revision, AppendError>> {
        self.append_encoded(appends.into_iter().map(EncodedAppend::new).collect()).await
    }

    /// Does the same as `append_many` for appends whose events are already JSON.
    pub async fn append_encoded(&self, encoded: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        match &self.0 {
            StoreBackend::Memory(store) => store.append(encoded),
            StoreBackend::Sqlite(store) => store.append(encoded).await,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.append(encoded).await,
        }
    }

    /// The events of a stream from a revision on (inclusive), oldest first; empty if there are none. On a cluster it waits
    /// at most 5 s until this server has received these events from the subscription to the log.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_stream(&self, stream: &StreamName, from: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let events = match &self.0 {
            StoreBackend::Memory(store) => store.read_stream(stream, from),
            StoreBackend::Sqlite(store) => self.noted(store.read_stream(stream.clone(), from).await)?,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.read_stream(stream, from).await?,
        };
        self.noted(without_gaps(stream, from, events))
    }

    /// All events of a stream, at least up to the revision `at_least`. If the events up to that revision are in memory, the
    /// result comes from memory. On a cluster such a result may lack an event that another server has just written; the
    /// views lack the same event.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_stream_at_least(
        &self,
        stream: &StreamName,
        at_least: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        match self.recent().stream(stream) {
            Some(events) if events.last().is_some_and(|last| last.revision >= at_least) => Ok(events),
            Some(_) | None => self.read_stream(stream, Revision(0)).await,
        }
    }

    /// The events of a stream from a revision on (inclusive), for a decision by the rules. A decision needs neither
    /// the position nor the hash of an event. On a cluster both are 0, and the read doesn't wait until this server has
    /// received the events from the subscription.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_for_decision(
        &self,
        stream: &StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        match &self.0 {
            StoreBackend::Memory(_) | StoreBackend::Sqlite(_) => self.read_stream(stream, from).await,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => without_gaps(stream, from, store.read_for_decision(stream, from).await?),
        }
    }

    /// All events of many streams, read as [`EventStore::read_for_decision`] does. Returns one list for each stream, in the
    /// order of `streams`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_many_for_decision(&self, streams: Vec<StreamName>) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let read = match &self.0 {
            StoreBackend::Memory(store) => {
                streams.iter().map(|stream| store.read_stream(stream, Revision(0))).collect()
            }
            StoreBackend::Sqlite(store) => self.noted(store.read_streams(streams).await)?,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.read_many_for_decision(&streams).await?,
        };
        let has_no_gap = |events: &Vec<Arc<Recorded>>| events.iter().zip(0..).all(|(event, n)| event.revision.0 == n);
        if !read.iter().all(has_no_gap) {
            return Err(ReadError::Damaged("a stream has lost an event".to_owned()));
        }
        Ok(read)
    }

    /// At most `limit` events after a position (exclusive), oldest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.read_page(after, limit, usize::MAX).await
    }

    /// As [`Self::read_all`], but the page ends with the event at which the total length of `meta` and `data` reaches `bytes`, or
    /// with event number `limit`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_page(
        &self,
        after: Position,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let head = self.head().position;
        if let Some(page) = self.recent().page(after, limit, bytes) {
            return Ok(page);
        }
        let events = match &self.0 {
            // The recent events of a log in memory are all its events.
            StoreBackend::Memory(_) => Vec::new(),
            StoreBackend::Sqlite(store) => self.noted(store.read_all(after, head, limit, bytes).await)?,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.read_all(after, head, limit).await?,
        };
        let is_full = events.iter().map(|event| event.size()).sum::<usize>() >= bytes;
        let in_log = usize::try_from(head.0.saturating_sub(after.0)).unwrap_or(usize::MAX).min(limit);
        let expected = if is_full { events.len() } else { in_log };
        let read = events.iter().map(|event| Some(event.position.0)).chain([None]);
        match (after.0 + 1..).zip(read).take(expected).find(|&(position, read)| read != Some(position)) {
            Some((position, _)) => self.noted(Err(chain::lost(Position(position)))),
            None => Ok(events),
        }
    }

    /// The last durable event.
    #[must_use]
    pub fn head(&self) -> Head {
        self.recent().head()
    }

    /// A channel that holds the position of the last durable event and notifies its receiver when the position changes.
    #[must_use]
    pub fn head_changes(&self) -> watch::Receiver<Position> {
        self.recent().head_changes()
    }

    /// Subscribes to every event after a position (exclusive): first the events that exist, then each new event.
    #[must_use]
    pub fn subscribe(&self, after: Position) -> LogSubscription {
        LogSubscription::new(self.clone(), after)
    }

    /// The id of this log. It is created with the log and stored in it, so two logs have different ids. On a cluster it is
    /// the same on each server, and nil until the cluster has responded for the first time.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        match &self.0 {
            StoreBackend::Memory(store) => store.epoch,
            StoreBackend::Sqlite(store) => store.epoch,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.epoch(),
        }
    }

    /// The state of the write-ahead log of an embedded log; `None` for the others.
    #[must_use]
    pub fn write_ahead_log(&self) -> Option<WriteAheadLog> {
        match &self.0 {
            StoreBackend::Memory(_) => None,
            StoreBackend::Sqlite(store) => Some(store.write_ahead_log()),
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(_) => None,
        }
    }

    fn recent(&self) -> &recent::RecentEvents {
        match &self.0 {
            StoreBackend::Memory(store) => &store.recent,
            StoreBackend::Sqlite(store) => &store.recent,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.recent(),
        }
    }
}

impl fmt::Debug for EventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match &self.0 {
            StoreBackend::Memory(_) => "Memory",
            StoreBackend::Sqlite(_) => "Sqlite",
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(_) => "Cluster",
        };
        f.debug_tuple("EventStore").field(&backend).field(&self.head().position).finish()
    }
}
