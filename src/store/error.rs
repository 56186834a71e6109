//! Why an append, a read or the opening of a log fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::task::{Position, Revision};

/// Why an append did not succeed. [`AppendError::is_transient`] says for which reasons a repetition may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The last event of the stream is not the one that the append expects, because another writer has appended to the
    /// stream. The caller reads the stream again and decides again.
    #[error("{}", wrong_revision_text(*actual))]
    WrongExpectedRevision {
        /// The last revision of the stream now; `None` if the stream has no event.
        actual: Option<Revision>,
    },
    /// Nothing was written, and a later append may succeed. For example, the disk is full or the log is closed.
    #[error("the log can't be written now: {0}")]
    Unavailable(String),
    /// Permanent in this process. In `SQLite`: a write or its sync has failed, and it is unknown what is on the disk. On a
    /// cluster: the log is damaged, or holds an event that this version of Taskbell can't read.
    #[error("the log takes no more writes in this process: {0}")]
    ReadOnly(String),
    /// The append was sent, and no response came. The events may be in the log: the caller reads the stream to find out.
    #[error("the log did not respond, and may hold the events: {0}")]
    Unknown(String),
    /// Permanent for this append: it has no event, or an event that can't be encoded as JSON. Nothing was written. The rules
    /// of tasks never decide such an append.
    #[error("the append is invalid: {0}")]
    Invalid(String),
    /// Permanent for this append: the database refuses an append of this size. Nothing was written.
    #[error("the log takes no events of this size: {0}")]
    TooLarge(String),
}

/// Why a read has failed. [`ReadError::is_transient`] says for which reasons a repetition may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A later read may succeed.
    #[error("the log can't be read now: {0}")]
    Unavailable(String),
    /// Permanent: the bytes that were read differ from those that were written.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// Permanent for this version of Taskbell: it doesn't know the event's type or version.
    #[error("the log holds {event_type} version {version}{}, which this version of Taskbell can't read", position_suffix(*position))]
    Unknown {
        /// The event's position; `None` if the event was not read from the log.
        position: Option<Position>,
        /// The name of the event's type.
        event_type: String,
        /// The version of the type's schema.
        version: u32,
    },
}

impl AppendError {
    /// Whether the same append may succeed later in this process. An append with a wrong expected revision never succeeds
    /// later; its caller may decide again and send another append.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Unknown(_) => true,
            Self::WrongExpectedRevision { .. } | Self::ReadOnly(_) | Self::Invalid(_) | Self::TooLarge(_) => false,
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

fn wrong_revision_text(actual: Option<Revision>) -> String {
    match actual {
        Some(Revision(last)) => format!("the stream ends at revision {last}, another one was expected"),
        None => "the stream has no event, and a last revision was expected".to_owned(),
    }
}

fn position_suffix(position: Option<Position>) -> String {
    position.map_or_else(String::new, |position| format!(" at position {position}"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the log open.
    #[error("another process uses the data folder {0}; only one process can use an embedded log")]
    Locked(PathBuf),
    /// Another program writes to the log's file and does not end. It is no Taskbell; a replicator may do this.
    #[error(
        "another program has kept {path} locked for writing for {} s: stop it, start Taskbell first, and then that program",
        waited.as_secs()
    )]
    InUse {
        /// The log's file.
        path: PathBuf,
        /// How long the start has waited for that program.
        waited: Duration,
    },
    /// The log has lost events, or nothing shows that it has lost none.
    #[error(
        "the log is not complete: {what}. If you can't restore the folder, start once with `taskbell serve --data {} \
         --accept-truncation`: the log goes on with the events that it has, under a new id (epoch)",
        dir.display()
    )]
    Incomplete {
        /// The folder of the log.
        dir: PathBuf,
        /// What shows it.
        what: Incomplete,
    },
    /// A later version of Taskbell wrote the log.
    #[error("{path} has format {found}, which is newer than {known}, the newest that this version of Taskbell reads")]
    Newer {
        /// The log's file.
        path: PathBuf,
        /// The version of the file's format.
        found: i64,
        /// The newest version that this version of Taskbell knows.
        known: i64,
    },
    /// An earlier version of Taskbell wrote the log. `taskbell log upgrade` converts it.
    #[error(
        "{path} has format {found}, and this version of Taskbell uses format {known}; convert it: taskbell log upgrade --data {}",
        folder_of(path).display()
    )]
    Older {
        /// The log's file.
        path: PathBuf,
        /// The version of the file's format.
        found: i64,
        /// The version that this version of Taskbell uses.
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
        /// The error of `SQLite`.
        reason: String,
    },
    /// The threads that talk to the cluster can't be started.
    #[cfg(feature = "eventstore")]
    #[error("the threads for the cluster can't be started: {0}")]
    Threads(std::io::Error),
}

/// What shows that a log has lost events, or that nothing shows that it has lost none. `witness` is the file that names an event
/// which was in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The write-ahead log was changed after it was written.
    #[error("{file} is damaged at byte {byte}, and commits follow the damage")]
    WriteAheadLogDamaged {
        /// The write-ahead log.
        file: PathBuf,
        /// Where the damaged frame begins; 0 for the header of the file.
        byte: u64,
    },
    /// The log's file is missing or holds no log, and other files of the folder say that there was one.
    #[error("{file} holds no log, and {other} says that there was one")]
    Empty {
        /// The log's file.
        file: PathBuf,
        /// The file that says so: the witness or the write-ahead log.
        other: PathBuf,
    },
    /// The log ends before the event that the witness names.
    #[error("{file} ends at position {position}, and {witness} names position {named}")]
    Shorter {
        /// The log's file.
        file: PathBuf,
        /// The position of the last event.
        position: Position,
        /// The file of the witness.
        witness: PathBuf,
        /// The position that the witness names.
        named: Position,
    },
    /// The event that the witness names has another hash in the log.
    #[error("{file} holds another event at position {position} than the one that {witness} names")]
    OtherEvent {
        /// The log's file.
        file: PathBuf,
        /// The position of the event.
        position: Position,
        /// The file of the witness.
        witness: PathBuf,
    },
    /// The witness belongs to another log.
    #[error("{file} has the id (epoch) {epoch}, and {witness} names the log {named}")]
    OtherLog {
        /// The log's file.
        file: PathBuf,
        /// The id of the log.
        epoch: Uuid,
        /// The file of the witness.
        witness: PathBuf,
        /// The id of the log that the witness names.
        named: Uuid,
    },
    /// The log has a witness, and the file of the witness is missing.
    #[error(
        "{witness} is missing, and {file} ends at position {position}: a copy of a log needs log.db, log.db-wal and \
         log.witness"
    )]
    NoWitness {
        /// The log's file.
        file: PathBuf,
        /// The position of the last event.
        position: Position,
        /// The file of the witness.
        witness: PathBuf,
    },
    /// The witness was changed after it was written.
    #[error("{witness} is damaged, and {file} ends at position {position}")]
    WitnessDamaged {
        /// The log's file.
        file: PathBuf,
        /// The position of the last event.
        position: Position,
        /// The file of the witness.
        witness: PathBuf,
    },
}
