//! THE LOG: streams, revisions, positions. It knows no rule.
//!
//! [`EventStore`] is a closed set of variants with one behaviour; `tests/store_contract.rs` says which.
//! Reading order: [`recorded`] (what the log holds), this file (what one can ask of it), [`memory`] (the shortest reading
//! of the contract), [`sqlite`] (the one that lasts), [`codec`] and [`upcast`] (bytes to events), [`chain`] (tamper evidence).

use crate::task::{Position, Revision, Timestamp};

pub mod recorded;

pub use recorded::{Hash, LogEvent, Meta, NewEvent, Recorded, StreamName, StreamOf, Via};

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
    #[error("the log holds {kind} version {version}, which this version of Taskbell can't read")]
    Unknown {
        /// Its type.
        kind: String,
        /// Its version.
        version: u32,
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
