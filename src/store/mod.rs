//! THE LOG: streams, revisions, positions. It knows no rule.
//!
//! [`EventStore`] is a closed set of variants with one behaviour; `tests/store_contract.rs` says which.
//! Reading order: [`recorded`] (what the log holds), this file (what one can ask of it), `memory` (the shortest reading
//! of the contract), `sqlite` (the one that lasts), [`subscription`] (following it), [`codec`] and [`upcast`] (bytes to
//! events), [`chain`] (tamper evidence).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::task::{Position, Revision, Timestamp};

pub mod chain;
pub mod codec;
mod draft;
mod memory;
pub mod recorded;
mod sqlite;
pub mod subscription;
mod tail;
pub mod upcast;

pub use crate::clock::{new_id, now};
pub use recorded::{Hash, LogEvent, Meta, NewEvent, Recorded, StreamName, StreamOf, Via};
pub use subscription::LogSubscription;

/// The log: clones are the same log.
#[derive(Clone)]
pub struct EventStore(Kind);

#[derive(Clone)]
enum Kind {
    Memory(Arc<memory::Memory>),
    Sqlite(Arc<sqlite::Sqlite>),
}

/// What the writer believes of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It has no event yet.
    NoStream,
    /// This is its last event.
    Revision(Revision),
}

/// One atomic write to one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// Where.
    pub stream: StreamName,
    /// What must hold there.
    pub expected: Expected,
    /// What; at least one.
    pub events: Vec<NewEvent>,
}

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else was first; read again and decide again.
    #[error("the stream is at {actual:?}, not where it was expected")]
    WrongExpectedRevision {
        /// Its last revision now; none where it has no event.
        actual: Option<Revision>,
    },
    /// Nothing was written, and a later try may do better: a full disk, a closed log.
    #[error("the log can't be written now: {0}")]
    Unavailable(String),
    /// A write or its sync failed in a way that leaves unknown what is on the disk: no more writes in this process.
    #[error("the log takes no more writes in this process: {0}")]
    ReadOnly(String),
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A later try may do better.
    #[error("the log can't be read now: {0}")]
    Unavailable(String),
    /// What was read is not what was written.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// An event that this version doesn't know.
    #[error("the log holds {kind} version {version}{}, which this version of Taskbell can't read", at(*position))]
    Unknown {
        /// Where; none where it doesn't come from the log.
        position: Option<Position>,
        /// Its type.
        kind: String,
        /// Its version.
        version: u32,
    },
}

fn at(position: Option<Position>) -> String {
    position.map_or_else(String::new, |position| format!(" at position {position}"))
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has it open.
    #[error("another server uses {0}; two can't share a log")]
    Locked(PathBuf),
    /// A later version of Taskbell wrote it.
    #[error("{path} has format {found}, this version of Taskbell knows formats up to {known}")]
    Newer {
        /// The log.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this version knows.
        known: i64,
    },
    /// It is a file of another program.
    #[error("{0} is not a Taskbell log")]
    NotALog(PathBuf),
    /// The folder or a file in it can't be made, opened or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database can't be opened.
    #[error("{path}: {reason}")]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Position of the last event; 0 where there is none.
    pub position: Position,
    /// Its hash; zero where there is none.
    pub hash: Hash,
    /// Its time.
    pub time: Option<Timestamp>,
}

impl EventStore {
    /// A new log in memory, gone with the process.
    #[must_use]
    pub fn memory() -> Self {
        Self(Kind::Memory(Arc::new(memory::Memory::new())))
    }

    /// The log in this folder, made where there is none. Blocks while it reads the end of the log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        sqlite::Sqlite::open(dir).map(|store| Self(Kind::Sqlite(Arc::new(store))))
    }

    /// Writes one append, all of it or nothing; the answer is the revision of its last event, and comes when it is durable.
    /// A caller that goes away earlier doesn't undo it.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, append: Append) -> Result<Revision, AppendError> {
        let answer = self.append_many(vec![append]).await.pop();
        answer.unwrap_or_else(|| Err(AppendError::Unavailable("the log gave no answer".to_owned())))
    }

    /// Writes many appends, to whatever streams, in one transaction and in this order. Each has its own answer, in the same
    /// order: one that is refused doesn't disturb the others. A failed write fails them all.
    pub async fn append_many(&self, appends: Vec<Append>) -> Vec<Result<Revision, AppendError>> {
        let drafts: Vec<_> = appends.into_iter().map(draft::Draft::new).collect();
        match &self.0 {
            Kind::Memory(store) => store.append(drafts),
            Kind::Sqlite(store) => store.append(drafts).await,
        }
    }

    /// The events of a stream from a revision on, oldest first; none where there are none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_stream(&self, stream: &StreamName, from: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let events = match &self.0 {
            Kind::Memory(store) => store.read_stream(stream, from),
            Kind::Sqlite(store) => store.read_stream(stream.clone(), from).await?,
        };
        let missing = events.iter().zip(from.0..).find(|(event, revision)| event.revision.0 != *revision);
        match missing {
            Some((_, revision)) => {
                Err(ReadError::Damaged(format!("{stream} has lost its event of revision {revision}")))
            }
            None => Ok(events),
        }
    }

    /// The events of many streams, each from its beginning, in the same order.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_streams(&self, streams: Vec<StreamName>) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let read = match &self.0 {
            Kind::Memory(store) => streams.iter().map(|stream| store.read_stream(stream, Revision(0))).collect(),
            Kind::Sqlite(store) => store.read_streams(streams).await?,
        };
        let whole = |events: &Vec<Arc<Recorded>>| events.iter().zip(0..).all(|(event, n)| event.revision.0 == n);
        if !read.iter().all(whole) {
            return Err(ReadError::Damaged("a stream has lost an event".to_owned()));
        }
        Ok(read)
    }

    /// The events after a position (exclusive), up to the head, oldest first, at most `limit`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let head = self.head().position;
        if let Some(page) = self.tail().page(after, limit) {
            return Ok(page);
        }
        let events = match &self.0 {
            // Its tail holds everything.
            Kind::Memory(_) => Vec::new(),
            Kind::Sqlite(store) => store.read_all(after, head, limit).await?,
        };
        let due = usize::try_from(head.0.saturating_sub(after.0)).unwrap_or(usize::MAX).min(limit);
        let read = events.iter().map(|event| Some(event.position.0)).chain([None]);
        match (after.0 + 1..).zip(read).take(due).find(|&(position, read)| read != Some(position)) {
            Some((position, _)) => Err(ReadError::Damaged(format!("the log has lost event {position}"))),
            None => Ok(events),
        }
    }

    /// Where the durable log ends.
    #[must_use]
    pub fn head(&self) -> Head {
        self.tail().head()
    }

    /// The position of the durable head, and a signal when it moves.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.tail().watch()
    }

    /// Every event after a position: those that are there, then each new one.
    #[must_use]
    pub fn subscribe(&self, after: Position) -> LogSubscription {
        LogSubscription::new(self.clone(), after)
    }

    /// Made once with the log and kept in it: another epoch is another log.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        match &self.0 {
            Kind::Memory(store) => store.epoch,
            Kind::Sqlite(store) => store.epoch,
        }
    }

    /// Whether the log takes writes.
    ///
    /// # Errors
    /// Why it takes none for the rest of this process.
    pub fn health(&self) -> Result<(), String> {
        match &self.0 {
            Kind::Memory(_) => Ok(()),
            Kind::Sqlite(store) => store.health(),
        }
    }

    fn tail(&self) -> &tail::Tail {
        match &self.0 {
            Kind::Memory(store) => &store.tail,
            Kind::Sqlite(store) => &store.tail,
        }
    }
}

impl fmt::Debug for EventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Memory(_) => "Memory",
            Kind::Sqlite(_) => "Sqlite",
        };
        f.debug_tuple("EventStore").field(&kind).field(&self.head().position).finish()
    }
}
