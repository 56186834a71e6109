//! The log's file. No other file of Taskbell names `SQLite`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::store::recorded::RawEvent;
use crate::store::{Hash, Head, OpenError, ReadError, Recorded, StreamName, new_id};
use crate::task::{Position, Revision, Timestamp};

/// "tbel": marks the file, in its header, as a log of Taskbell.
const APPLICATION: i64 = 0x7462_656c;
/// Version of the tables below. A file with a later one is refused.
const FORMAT: i64 = 1;
/// From so many pages on, the write-ahead log is copied to the main file.
const CHECKPOINT_PAGES: i64 = 4000;
/// Connections that read: so many reads run at the same time.
const READERS: usize = 4;

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

const LAST: &str = "SELECT revision FROM events WHERE stream = ? AND revision >= 0 ORDER BY revision DESC LIMIT 1";
const HEAD: &str = "SELECT position, hash, time FROM events WHERE position > 0 ORDER BY position DESC LIMIT 1";
const INSERT: &str = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const ALL: &str = "SELECT * FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?";
const STREAM: &str = "SELECT * FROM events WHERE stream = ? AND revision >= ? ORDER BY revision";

/// Why a write failed.
pub(super) enum WriteError {
    /// Nothing of it is on the disk; a later write may succeed.
    NothingWritten(String),
    /// What is on the disk is unknown. A sync that succeeds when it is tried again proves nothing (fsyncgate).
    Unknown(String),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{ConstraintViolation, DatabaseBusy, DatabaseLocked, DiskFull, TooBig};
        match error.sqlite_error_code() {
            // A full disk stops a commit before its last frame, and without that one there is no commit.
            Some(DiskFull | DatabaseBusy | DatabaseLocked | ConstraintViolation | TooBig) => {
                Self::NothingWritten(error.to_string())
            }
            _ => Self::Unknown(error.to_string()),
        }
    }
}

/// A log that was opened, and where it ends.
pub(super) struct Opened {
    pub(super) file: LogFile,
    pub(super) epoch: Uuid,
    pub(super) head: Head,
}

/// Opens the log in this file; creates its tables where the file is empty.
pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let database = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotALog(path.to_owned()),
        _ => OpenError::Database { path: path.to_owned(), reason: error.to_string() },
    };
    let broken = |reason: String| OpenError::Database { path: path.to_owned(), reason };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(database)?;
    settings(&connection).map_err(database)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(database)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(database)?;
    if (application, tables) == (0, 0) {
        create(&mut connection).map_err(database)?;
    } else if application != APPLICATION {
        return Err(OpenError::NotALog(path.to_owned()));
    }
    let stored = connection.query_row("SELECT format, epoch FROM log", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (found, epoch): (i64, String) = stored.map_err(database)?;
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    let epoch = epoch.parse().map_err(|error| broken(format!("its epoch is no UUID: {error}")))?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(database)?;
    if mode != "wal" {
        return Err(broken(format!("no write-ahead log on this file system (mode {mode})")));
    }
    let file = LogFile(connection);
    let head = file.head().map_err(|(WriteError::NothingWritten(why) | WriteError::Unknown(why))| broken(why))?;
    Ok(Opened { file, epoch, head })
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS a plain sync doesn't reach the disk.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // 16 MiB, in KiB.
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    stable_plans(connection)?;
    // `LogFile::checkpoint` does that, unless a write has failed.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Keeps the plan of each statement. Without this setting `SQLite` plans a statement again for every bound value.
fn stable_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let creation = connection.transaction()?;
    creation.execute_batch(SCHEMA)?;
    creation.execute("INSERT INTO log VALUES (1, ?, ?)", params![FORMAT, new_id().to_string()])?;
    creation.pragma_update(None, "application_id", APPLICATION)?;
    creation.commit()
}

/// The one connection that writes.
pub(super) struct LogFile(Connection);

impl LogFile {
    pub(super) fn begin(&self) -> Result<(), WriteError> {
        self.0.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// The transaction is durable when this returns.
    pub(super) fn commit(&self) -> Result<(), WriteError> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Does nothing where no transaction is open: some failures roll back by themselves.
    pub(super) fn rollback(&self) -> Result<(), WriteError> {
        if self.0.is_autocommit() { Ok(()) } else { Ok(self.0.execute_batch("ROLLBACK")?) }
    }

    /// Inserts the event; false, and nothing is written, where its stream has that revision already.
    pub(super) fn insert(&self, event: &Recorded) -> Result<bool, WriteError> {
        let inserted = self.0.prepare_cached(INSERT)?.execute(params![
            int(event.position.0),
            event.stream.as_str(),
            int(event.revision.0),
            event.id.as_bytes(),
            event.kind,
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

    /// The last revision of a stream; none where the stream has no event.
    pub(super) fn last_revision(&self, stream: &StreamName) -> Result<Option<Revision>, WriteError> {
        let mut query = self.0.prepare_cached(LAST)?;
        let revision = query.query_row([stream.as_str()], |row| row.get(0)).optional()?;
        Ok(revision.map(|revision: i64| Revision(revision.cast_unsigned())))
    }

    /// The end of the log.
    pub(super) fn head(&self) -> Result<Head, WriteError> {
        let end = self.0.prepare_cached(HEAD)?.query_row([], |row| {
            let time = Timestamp::from_micros(row.get(2)?);
            Ok(Head {
                position: Position(row.get::<_, i64>(0)?.cast_unsigned()),
                hash: Hash(row.get(1)?),
                time: Some(time),
            })
        });
        Ok(end.optional()?.unwrap_or(Head { position: Position(0), hash: Hash::ZERO, time: None }))
    }

    /// Copies the write-ahead log to the main file and empties it. The events are durable without it.
    pub(super) fn checkpoint(&self) {
        let done = self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!("the log was closed without a last checkpoint: {error}");
        }
    }
}

/// Connections that read, each used by one thread at a time.
pub(super) struct ReaderPool {
    path: PathBuf,
    idle: Arc<Mutex<Vec<ReadConnection>>>,
    permits: Arc<Semaphore>,
}

impl ReaderPool {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Runs `read` on the runtime's pool for blocking work, once a connection is free.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadConnection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let unavailable = |error: &dyn std::fmt::Display| ReadError::Unavailable(error.to_string());
        let permit = self.permits.clone().acquire_owned().await.map_err(|error| unavailable(&error))?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let reading = tokio::task::spawn_blocking(move || {
            // Held until the thread is done, also where the caller has gone.
            let _permit = permit;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = kept.map_or_else(|| ReadConnection::open(&path), Ok)?;
            let found = read(&reader)?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(found)
        });
        reading.await.map_err(|error| unavailable(&error))?
    }
}

pub(super) struct ReadConnection(Connection);

impl ReadConnection {
    fn open(path: &Path) -> Result<Self, ReadError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.pragma_update(None, "cell_size_check", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            stable_plans(&connection)?;
            Ok(Self(connection))
        };
        open().map_err(|error| read_error(&error))
    }

    /// The events of a stream from a revision on.
    pub(super) fn stream(&self, stream: &StreamName, from: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let query = self.0.prepare_cached(STREAM).map_err(|error| read_error(&error))?;
        events(query, params![stream.as_str(), int(from.0)])
    }

    /// Runs `read` in one transaction: a commit between two reads would empty the page cache.
    pub(super) fn in_transaction<T>(&self, read: impl FnOnce(&Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let transaction = self.0.unchecked_transaction().map_err(|error| read_error(&error))?;
        let found = read(self)?;
        transaction.commit().map_err(|error| read_error(&error))?;
        Ok(found)
    }

    /// At most `limit` events after a position (exclusive), up to another (inclusive).
    pub(super) fn all(&self, after: Position, upto: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let query = self.0.prepare_cached(ALL).map_err(|error| read_error(&error))?;
        events(query, params![int(after.0), int(upto.0), int(limit as u64)])
    }
}

fn events(mut query: CachedStatement<'_>, range: impl rusqlite::Params) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let mut rows = query.query(range).map_err(|error| read_error(&error))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next().map_err(|error| read_error(&error))? {
        events.push(Arc::new(event(row)?));
    }
    Ok(events)
}

fn event(row: &rusqlite::Row<'_>) -> Result<Recorded, ReadError> {
    let position: i64 = row.get(0).map_err(|error| read_error(&error))?;
    let damaged = |error: &dyn std::fmt::Display| ReadError::Damaged(format!("event {position}: {error}"));
    let text = |column: usize| row.get_ref(column).map_err(|e| damaged(&e))?.as_str().map_err(|e| damaged(&e));
    let number = |column: usize| row.get::<_, i64>(column).map_err(|e| damaged(&e));
    let json = |column: usize| {
        let text = text(column)?;
        let json = RawValue::from_string(text.to_owned()).map_err(|e| damaged(&e))?;
        // The parser drops spaces around the value; no writer adds any.
        if json.get().len() == text.len() { Ok(json) } else { Err(damaged(&"spaces around its JSON")) }
    };
    let micros = number(6)?;
    let time = Timestamp::from_micros(micros);
    if time.as_micros() != micros {
        return Err(damaged(&"its time is none"));
    }
    let event = RawEvent {
        position: Position(u64::try_from(position).map_err(|e| damaged(&e))?),
        stream: Cow::Borrowed(text(1)?),
        revision: Revision(u64::try_from(number(2)?).map_err(|e| damaged(&e))?),
        id: Uuid::from_bytes(row.get(3).map_err(|e| damaged(&e))?),
        kind: Cow::Borrowed(text(4)?),
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

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
