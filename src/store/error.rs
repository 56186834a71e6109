//! Why an append, a read or the opening of a log fails.

use std::path::PathBuf;

use crate::task::{Position, Revision};

/// Why an append was not written. [`AppendError::is_transient`] says which of them may pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another writer was first. The caller reads the stream again and decides again.
    #[error("the stream is at {actual:?}, not where it was expected")]
    WrongExpectedRevision {
        /// The last revision of the stream now; none where it has no event.
        actual: Option<Revision>,
    },
    /// Nothing was written, and a later append may succeed: the disk is full, or the log is closed.
    ///
    /// An append without an event, or with one that JSON doesn't keep, gets this too; no decision of the rules leads to one.
    #[error("the log can't be written now: {0}")]
    Unavailable(String),
    /// Permanent in this process: a write or its sync failed in a way that leaves unknown what is on the disk.
    #[error("the log takes no more writes in this process: {0}")]
    ReadOnly(String),
    /// The append was sent, and no answer came. It may be in the log: the caller reads the stream to find out.
    #[error("the log did not answer, and may hold the events: {0}")]
    Unknown(String),
    /// Permanent for this append: the database takes none of its size. Nothing was written.
    #[error("the log takes no events of this size: {0}")]
    TooLarge(String),
}

/// Why nothing could be read. [`ReadError::is_transient`] says which of them may pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A later read may succeed.
    #[error("the log can't be read now: {0}")]
    Unavailable(String),
    /// Permanent: what was read is not what was written.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// Permanent for this version of Taskbell: it doesn't know the event.
    #[error("the log holds {kind} version {version}{}, which this version of Taskbell can't read", at(*position))]
    Unknown {
        /// Its position; none where it doesn't come from the log.
        position: Option<Position>,
        /// Its type.
        kind: String,
        /// Its version.
        version: u32,
    },
}

impl AppendError {
    /// Whether the same command may succeed later in this process. One with a wrong expected revision doesn't, though its
    /// caller may decide again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Unknown(_) => true,
            Self::WrongExpectedRevision { .. } | Self::ReadOnly(_) | Self::TooLarge(_) => false,
        }
    }
}

impl ReadError {
    /// Whether the same read may succeed later in this process.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Damaged(_) | Self::Unknown { .. } => false,
        }
    }
}

fn at(position: Option<Position>) -> String {
    position.map_or_else(String::new, |position| format!(" at position {position}"))
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has the log open.
    #[error("another server uses {0}; two can't share a log")]
    Locked(PathBuf),
    /// A later version of Taskbell wrote the log.
    #[error("{path} has format {found}, this version of Taskbell knows formats up to {known}")]
    Newer {
        /// The log's file.
        path: PathBuf,
        /// The version of its format.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file belongs to another program.
    #[error("{0} is not a Taskbell log")]
    NotALog(PathBuf),
    /// The folder or a file in it can't be created, opened or written.
    #[error("{path}: {source}")]
    Io {
        /// The folder or the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The database can't be opened.
    #[error("{path}: {reason}")]
    Database {
        /// The log's file.
        path: PathBuf,
        /// The engine's error.
        reason: String,
    },
    /// The threads that talk to the cluster can't be started.
    #[cfg(feature = "eventstore")]
    #[error("no thread for the store: {0}")]
    Threads(std::io::Error),
}
