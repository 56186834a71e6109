//! Copies the events of the old log into the tables of the new one.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::Connection;

use crate::store::sqlite::open::WRITE_FLAGS;
use crate::store::sqlite::row::EventRow;
use crate::store::sqlite::schema;
use crate::store::sqlite::write_connection::{FirstEvent, WriteConnection, WriteError};
use crate::store::{Hash, ReadError};
use crate::task::Position;

/// The largest number of streams whose first event is known without a query.
const STREAMS_MAX: usize = 100_000;

/// The position and the hash of the last event.
pub(super) type End = (Position, Hash);

/// Why the events can't be copied.
pub(super) enum CopyError {
    /// The old file can't be read.
    Read(rusqlite::Error),
    /// The new file can't be written.
    Write(String),
    Damaged(String),
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for CopyError {
    fn from(error: WriteError) -> Self {
        Self::Write(error.into_reason())
    }
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The new log, with the events that were copied so far.
pub(super) struct Copy {
    connection: WriteConnection,
    end: End,
    /// The first events of streams.
    firsts: HashMap<String, FirstEvent>,
}

/// Creates the tables of a log with this id in an empty file. Until the file is complete, nothing has to be durable and nothing
/// is rolled back: after a kill or an error a new conversion begins with a new file.
pub(super) fn create_new_log(path: &Path, epoch: &str) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(path, WRITE_FLAGS)?;
    connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    // 64 MiB, in KiB.
    connection.pragma_update(None, "cache_size", -64 * 1024)?;
    schema::create_log_with_epoch(&mut connection, epoch)?;
    Ok(connection)
}

impl Copy {
    /// Begins the copy into these tables.
    pub(super) fn begin(connection: Connection) -> Result<Self, CopyError> {
        let connection = WriteConnection::new(connection).map_err(WriteError::from)?;
        connection.begin()?;
        Ok(Self { connection, end: (Position(0), Hash::ZERO), firsts: HashMap::new() })
    }

    /// Inserts the next event of the log, after a check of its hash. Returns its position.
    pub(super) fn insert(&mut self, event: &EventRow<'_>) -> Result<Position, CopyError> {
        self.end = continue_chain(self.end, event)?;
        let EventRow { position, fields, .. } = event;
        let known = match self.firsts.get(fields.stream) {
            Some(first) => Some(*first),
            None => self.connection.stream_end(fields.stream)?.map(|end| end.first),
        };
        let is_first = fields.revision.0 == 0;
        let inserted = if known.is_none() == is_first { self.connection.insert(event, known)? } else { None };
        let Some(first) = inserted else {
            let revision = fields.revision;
            let what = format!("event {position}: revision {revision} is not the next one of its stream");
            return Err(CopyError::Damaged(what));
        };
        if !self.firsts.contains_key(fields.stream) {
            self.remember_first(fields.stream, first);
        }
        Ok(*position)
    }

    fn remember_first(&mut self, stream: &str, first: FirstEvent) {
        if self.firsts.len() >= STREAMS_MAX {
            self.firsts.clear();
        }
        self.firsts.insert(stream.to_owned(), first);
    }

    /// Writes the events to the file, and begins the next transaction.
    pub(super) fn next_page(&self) -> Result<(), CopyError> {
        self.connection.commit()?;
        Ok(self.connection.begin()?)
    }

    /// Writes the last events to the file and closes it.
    pub(super) fn finish(self) -> Result<End, CopyError> {
        self.connection.commit()?;
        Ok(self.end)
    }
}

/// The end of the chain after this event.
///
/// # Errors
/// [`ReadError::Damaged`] if the event is not the next one of the chain.
pub(super) fn continue_chain(end: End, event: &EventRow<'_>) -> Result<End, ReadError> {
    let EventRow { position, fields, hash, .. } = event;
    if position.0 != end.0.0 + 1 {
        return Err(ReadError::Damaged(format!("event {} is missing", end.0.0 + 1)));
    }
    if *hash != fields.hash_after(end.1) {
        return Err(ReadError::Damaged(format!("event {position} doesn't continue the chain of hashes")));
    }
    Ok((*position, *hash))
}
