//! Opens the log's file, and creates the tables of a new one.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use uuid::Uuid;

use super::schema::{self, FORMAT, FileContents};
use super::write_connection::{WriteConnection, WriteError};
use crate::store::{Head, OpenError};

/// Only one thread at a time uses a connection.
pub(super) const WRITE_FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// A log that was opened, with its id and its end.
pub(super) struct OpenedLog {
    pub(super) writer_connection: WriteConnection,
    pub(super) epoch: Uuid,
    pub(super) head: Head,
}

/// Opens the log in this file. Creates the tables if the file is empty.
pub(super) fn open(path: &Path) -> Result<OpenedLog, OpenError> {
    let to_open_error = |error: rusqlite::Error| open_error(path, &error);
    let invalid_log = |reason: String| OpenError::Database { path: path.to_owned(), reason };
    let mut connection = Connection::open_with_flags(path, WRITE_FLAGS).map_err(to_open_error)?;
    apply_settings(&connection).map_err(to_open_error)?;
    match schema::contents(&connection).map_err(to_open_error)? {
        FileContents::Nothing => schema::create_log(&mut connection).map_err(to_open_error)?,
        FileContents::Log(FORMAT) => {}
        FileContents::Log(found) => return Err(other_format(path, found)),
        FileContents::Other => return Err(OpenError::NotALog(path.to_owned())),
    }
    let epoch_text: String =
        connection.query_row("SELECT epoch FROM log", [], |row| row.get(0)).map_err(to_open_error)?;
    if !schema::epoch_is_unchanged(&connection, &epoch_text).map_err(to_open_error)? {
        return Err(invalid_log("damaged: its id (epoch) or the checksum of its id has changed".to_owned()));
    }
    let epoch =
        epoch_text.parse().map_err(|error| invalid_log(format!("its id (epoch) is not a valid UUID: {error}")))?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(to_open_error)?;
    if mode != "wal" {
        return Err(invalid_log(format!("no write-ahead log on this file system (mode {mode})")));
    }
    schema::complete(&connection, &epoch_text).map_err(to_open_error)?;
    let writer_connection = WriteConnection::new(connection).map_err(to_open_error)?;
    let head = writer_connection.head().map_err(|error: WriteError| invalid_log(error.into_reason()))?;
    Ok(OpenedLog { writer_connection, epoch, head })
}

/// The error for a log in another format than [`FORMAT`].
pub(super) fn other_format(path: &Path, found: i64) -> OpenError {
    let (path, known) = (path.to_owned(), FORMAT);
    if found > FORMAT { OpenError::Newer { path, found, known } } else { OpenError::Older { path, found, known } }
}

/// The error for a file that `SQLite` can't open.
pub(super) fn open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotALog(path.to_owned()),
        _ => OpenError::Database { path: path.to_owned(), reason: error.to_string() },
    }
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

pub(super) fn apply_settings(connection: &Connection) -> rusqlite::Result<()> {
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
pub(super) fn keep_query_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}
