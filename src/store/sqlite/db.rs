//! The `SQLite` file of the log. Of Taskbell's files, only this one and [`super::checkpoint`] call `SQLite`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use rusqlite::hooks::Wal;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::checkpoint::Progress;
use crate::store::recorded::RawEvent;
use crate::store::{Hash, Head, OpenError, ReadError, Recorded, StreamName, new_id};
use crate::task::{Position, Revision, Timestamp};

/// "tbel" in ASCII. This application id in the header of the file marks it as a log of Taskbell.
const APPLICATION_ID: i64 = 0x7462_656c;
/// Version of the tables below. A file with a later version is refused.
const FORMAT: i64 = 1;
/// Only one thread at a time uses a connection.
const WRITE_FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// The number of connections that read, and so the largest number of reads that run at the same time.
const READERS: usize = 4;

/// The column `only` is the constant key 1, so that the table `log` has only one row.
const SCHEMA: &str = "
CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), format INTEGER NOT NULL, epoch TEXT NOT NULL) STRICT;
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    revision INTEGER NOT NULL,
    id BLOB NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    time INTEGER NOT NULL,
    meta TEXT NOT NULL,
    data TEXT NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (stream, revision)
) STRICT;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the log is only appended to'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the log is only appended to'); END;
";

// The conditions `revision >= 0` and `position > 0` are always true. They make `SQLite` search the index for the end.
const SELECT_LAST_REVISION: &str =
    "SELECT revision FROM events WHERE stream = ? AND revision >= 0 ORDER BY revision DESC LIMIT 1";
const SELECT_HEAD: &str = "SELECT position, hash, time FROM events WHERE position > 0 ORDER BY position DESC LIMIT 1";
const INSERT_EVENT: &str = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const SELECT_RANGE: &str = "SELECT * FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?";
const SELECT_STREAM: &str = "SELECT * FROM events WHERE stream = ? AND revision >= ? ORDER BY revision";

/// Why a write failed.
pub(super) enum WriteError {
    /// No part of the transaction is on the disk. A later write may succeed.
    NothingWritten(String),
    /// It is unknown what is on the disk. After a failed sync, a second sync that succeeds doesn't prove that the data is on
    /// the disk (known as "fsyncgate").
    Unknown(String),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{ConstraintViolation, DatabaseBusy, DatabaseLocked, DiskFull, TooBig};
        match error.sqlite_error_code() {
            // If the disk is full, a commit stops before it writes its last frame. Without the last frame there is no
            // commit.
            Some(DiskFull | DatabaseBusy | DatabaseLocked | ConstraintViolation | TooBig) => {
                Self::NothingWritten(error.to_string())
            }
            _ => Self::Unknown(error.to_string()),
        }
    }
}

/// A log that was opened, with its id and its end.
pub(super) struct OpenedLog {
    pub(super) writer_connection: WriteConnection,
    pub(super) epoch: Uuid,
    pub(super) head: Head,
}

/// Opens the log in this file. Creates the tables if the file is empty.
pub(super) fn open(path: &Path) -> Result<OpenedLog, OpenError> {
    let to_open_error = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotALog(path.to_owned()),
        _ => OpenError::Database { path: path.to_owned(), reason: error.to_string() },
    };
    let invalid_log = |reason: String| OpenError::Database { path: path.to_owned(), reason };
    let mut connection = Connection::open_with_flags(path, WRITE_FLAGS).map_err(to_open_error)?;
    apply_settings(&connection).map_err(to_open_error)?;
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(to_open_error)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(to_open_error)?;
    if (application, tables) == (0, 0) {
        create_tables(&mut connection).map_err(to_open_error)?;
    } else if application != APPLICATION_ID {
        return Err(OpenError::NotALog(path.to_owned()));
    }
    let stored = connection.query_row("SELECT format, epoch FROM log", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (found, epoch): (i64, String) = stored.map_err(to_open_error)?;
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    let epoch = epoch.parse().map_err(|error| invalid_log(format!("its id (epoch) is not a valid UUID: {error}")))?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(to_open_error)?;
    if mode != "wal" {
        return Err(invalid_log(format!("no write-ahead log on this file system (mode {mode})")));
    }
    let writer_connection = WriteConnection(connection);
    let head = writer_connection
        .head()
        .map_err(|(WriteError::NothingWritten(why) | WriteError::Unknown(why))| invalid_log(why))?;
    Ok(OpenedLog { writer_connection, epoch, head })
}

/// A further connection that may write to the file, for the checkpoints.
pub(super) fn open_for_checkpoints(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection = Connection::open_with_flags(path, WRITE_FLAGS)?;
        apply_settings(&connection)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| OpenError::Database { path: path.to_owned(), reason: error.to_string() })
}

fn apply_settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS `fsync` doesn't write the data to the disk; `F_FULLFSYNC` does.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    // The commits don't copy the write-ahead log: `checkpoint` says what does.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // 16 MiB, in KiB.
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    keep_query_plans(connection)?;
    // No checkpoint when the connection closes: `WriteConnection::checkpoint` does it, unless a write has failed.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Keeps the query plan of each prepared statement. Without this setting `SQLite` plans a statement again when a value is
/// bound.
fn keep_query_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

fn create_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    let creation = connection.transaction()?;
    creation.execute_batch(SCHEMA)?;
    creation.execute("INSERT INTO log VALUES (1, ?, ?)", params![FORMAT, new_id().to_string()])?;
    creation.pragma_update(None, "application_id", APPLICATION_ID)?;
    creation.commit()
}

/// The single connection that writes.
pub(super) struct WriteConnection(Connection);

impl WriteConnection {
    /// Lets each commit note in `progress` how many frames the write-ahead log has.
    pub(super) fn note_commits(&mut self, progress: Arc<Progress>) -> rusqlite::Result<()> {
        self.0.wal_hook(Some(move |_: &mut Wal, frames: i32| {
            progress.note_commit(u32::try_from(frames).unwrap_or(0));
            Ok(())
        }))
    }

    /// Copies the rest of the write-ahead log between two commits.
    pub(super) fn copy_rest(&self, progress: &Progress) {
        progress.copy(&self.0, true);
    }

    pub(super) fn begin(&self) -> Result<(), WriteError> {
        self.0.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Commits the transaction. It is durable when this returns.
    pub(super) fn commit(&self) -> Result<(), WriteError> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Rolls the transaction back. Does nothing if no transaction is open: after some errors `SQLite` has already rolled
    /// back.
    pub(super) fn rollback(&self) -> Result<(), WriteError> {
        if self.0.is_autocommit() { Ok(()) } else { Ok(self.0.execute_batch("ROLLBACK")?) }
    }

    /// Inserts the event. Returns false, and inserts nothing, if the stream already has an event of this revision.
    pub(super) fn insert(&self, event: &Recorded) -> Result<bool, WriteError> {
        let inserted = self.0.prepare_cached(INSERT_EVENT)?.execute(params![
            sqlite_integer(event.position.0),
            &*event.stream.text(),
            sqlite_integer(event.revision.0),
            event.id.as_bytes(),
            event.event_type,
            event.version,
            event.time.as_micros(),
            event.raw_meta.get(),
            event.raw_data.get(),
            event.hash.0,
        ]);
        match inserted {
            Ok(_) => Ok(true),
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.extended_code == SQLITE_CONSTRAINT_UNIQUE => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The last revision of a stream; `None` if the stream has no event.
    pub(super) fn last_revision(&self, stream: &StreamName) -> Result<Option<Revision>, WriteError> {
        let mut query = self.0.prepare_cached(SELECT_LAST_REVISION)?;
        let revision = query.query_row([&*stream.text()], |row| row.get(0)).optional()?;
        Ok(revision.map(|revision: i64| Revision(revision.cast_unsigned())))
    }

    /// The end of the log.
    pub(super) fn head(&self) -> Result<Head, WriteError> {
        let end = self.0.prepare_cached(SELECT_HEAD)?.query_row([], |row| {
            let time = Timestamp::from_micros(row.get(2)?);
            Ok(Head {
                position: Position(row.get::<_, i64>(0)?.cast_unsigned()),
                hash: Hash(row.get(1)?),
                time: Some(time),
            })
        });
        Ok(end.optional()?.unwrap_or(Head { position: Position(0), hash: Hash::ZERO, time: None }))
    }

    /// Copies the write-ahead log to the main file and empties it. If this fails, the events are durable nevertheless.
    pub(super) fn checkpoint(&self) {
        let busy = self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        match busy {
            Ok(0) => {}
            Ok(_) => tracing::warn!("the log was closed without a last checkpoint: another program reads log.db"),
            Err(error) => tracing::warn!("the log was closed without a last checkpoint: {error}"),
        }
    }
}

/// The connections that read. Only one thread at a time uses a connection.
pub(super) struct ReaderPool {
    path: PathBuf,
    idle: Arc<Mutex<Vec<ReadConnection>>>,
    permits: Arc<Semaphore>,
}

impl ReaderPool {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Waits until a connection is free and runs `read` on the runtime's pool for blocking work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadConnection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let unavailable = |error: &dyn std::fmt::Display| ReadError::Unavailable(error.to_string());
        let permit = self.permits.clone().acquire_owned().await.map_err(|error| unavailable(&error))?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let reading = tokio::task::spawn_blocking(move || {
            // Held until this thread is done, even if the caller has dropped its future.
            let _permit = permit;
            let idle_reader = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = idle_reader.map_or_else(|| ReadConnection::open(&path), Ok)?;
            let found = read(&reader)?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(found)
        });
        reading.await.map_err(|error| unavailable(&error))?
    }
}

/// A connection that only reads.
pub(super) struct ReadConnection(Connection);

impl ReadConnection {
    fn open(path: &Path) -> Result<Self, ReadError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.pragma_update(None, "cell_size_check", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            keep_query_plans(&connection)?;
            Ok(Self(connection))
        };
        open().map_err(|error| read_error(&error))
    }

    /// The events of a stream from a revision on.
    pub(super) fn read_stream(&self, stream: &StreamName, from: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let query = self.0.prepare_cached(SELECT_STREAM).map_err(|error| read_error(&error))?;
        read_events(query, params![&*stream.text(), sqlite_integer(from.0)], usize::MAX)
    }

    /// Runs `read` in one transaction. Outside a transaction, a commit between two queries would empty the page cache.
    pub(super) fn in_transaction<T>(&self, read: impl FnOnce(&Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let transaction = self.0.unchecked_transaction().map_err(|error| read_error(&error))?;
        let found = read(self)?;
        transaction.commit().map_err(|error| read_error(&error))?;
        Ok(found)
    }

    /// At most `limit` events after a position (exclusive), up to another (inclusive). The last of them is the one with which the
    /// `meta` and `data` of all have at least so many bytes.
    pub(super) fn read_range(
        &self,
        after: Position,
        upto: Position,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let query = self.0.prepare_cached(SELECT_RANGE).map_err(|error| read_error(&error))?;
        let range = params![sqlite_integer(after.0), sqlite_integer(upto.0), sqlite_integer(limit as u64)];
        read_events(query, range, bytes)
    }
}

/// Reads events until all together have at least so many bytes.
fn read_events(
    mut query: CachedStatement<'_>,
    range: impl rusqlite::Params,
    bytes: usize,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let mut rows = query.query(range).map_err(|error| read_error(&error))?;
    let (mut events, mut size) = (Vec::new(), 0);
    while size < bytes
        && let Some(row) = rows.next().map_err(|error| read_error(&error))?
    {
        let event = decode_row(row)?;
        size += event.size();
        events.push(Arc::new(event));
    }
    Ok(events)
}

fn decode_row(row: &rusqlite::Row<'_>) -> Result<Recorded, ReadError> {
    let position: i64 = row.get(0).map_err(|error| read_error(&error))?;
    let damaged = |error: &dyn std::fmt::Display| ReadError::Damaged(format!("event {position}: {error}"));
    let text = |column: usize| row.get_ref(column).map_err(|e| damaged(&e))?.as_str().map_err(|e| damaged(&e));
    let number = |column: usize| row.get::<_, i64>(column).map_err(|e| damaged(&e));
    let json = |column: usize| {
        let text = text(column)?;
        let json = RawValue::from_string(text.to_owned()).map_err(|e| damaged(&e))?;
        // The parser removes spaces around the value. Taskbell writes none, so spaces mean that the text was changed.
        if json.get().len() == text.len() { Ok(json) } else { Err(damaged(&"spaces around its JSON")) }
    };
    let micros = number(6)?;
    let time = Timestamp::from_micros(micros);
    if time.as_micros() != micros {
        return Err(damaged(&"its time is out of range"));
    }
    let event = RawEvent {
        position: Position(u64::try_from(position).map_err(|e| damaged(&e))?),
        stream: Cow::Borrowed(text(1)?),
        revision: Revision(u64::try_from(number(2)?).map_err(|e| damaged(&e))?),
        id: Uuid::from_bytes(row.get(3).map_err(|e| damaged(&e))?),
        event_type: Cow::Borrowed(text(4)?),
        version: u32::try_from(number(5)?).map_err(|e| damaged(&e))?,
        time,
        meta: json(7)?,
        data: json(8)?,
        hash: Hash(row.get(9).map_err(|e| damaged(&e))?),
    };
    event.decode()
}

fn read_error(error: &rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReadError::Damaged(error.to_string()),
        _ => ReadError::Unavailable(error.to_string()),
    }
}

fn sqlite_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
