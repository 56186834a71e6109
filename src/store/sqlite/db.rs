//! The `SQLite` file of the log. Of Taskbell's files, only this one, [`super::columns`] and [`super::checkpoint`] call `SQLite`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use rusqlite::hooks::Wal;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::checkpoint::Progress;
use super::columns::{raw_event, read_error};
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
            event.stream.as_str(),
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
        let revision = query.query_row([stream.as_str()], |row| row.get(0)).optional()?;
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

    pub(super) fn path(&self) -> &Path {
        &self.path
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
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
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
        read_events(query, params![stream.as_str(), sqlite_integer(from.0)], usize::MAX)
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

    /// Calls `each` with the events after a position (exclusive), up to another (inclusive), as long as it returns true.
    pub(super) fn scan_range(
        &self,
        after: Position,
        upto: Position,
        each: impl FnMut(RawEvent<'_>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let query = self.0.prepare_cached(SELECT_RANGE).map_err(|error| read_error(&error))?;
        scan(query, params![sqlite_integer(after.0), sqlite_integer(upto.0), -1], each)
    }
}

/// Reads events until all together have at least so many bytes.
fn read_events(
    query: CachedStatement<'_>,
    range: impl rusqlite::Params,
    bytes: usize,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let (mut events, mut size) = (Vec::new(), 0);
    scan(query, range, |event| {
        let event = event.decode()?;
        size += event.size();
        events.push(Arc::new(event));
        Ok(size < bytes)
    })?;
    Ok(events)
}

/// Calls `each` with the events that the query finds, as long as it returns true.
fn scan(
    mut query: CachedStatement<'_>,
    range: impl rusqlite::Params,
    mut each: impl FnMut(RawEvent<'_>) -> Result<bool, ReadError>,
) -> Result<(), ReadError> {
    let mut rows = query.query(range).map_err(|error| read_error(&error))?;
    while let Some(row) = rows.next().map_err(|error| read_error(&error))?
        && each(raw_event(row)?)?
    {}
    Ok(())
}

fn sqlite_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
