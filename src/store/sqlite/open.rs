//! Opens the log's file, and creates the tables of a new one.
//!
//! 1. Nothing is written before the files have shown that the log is complete ([`complete`](super::complete)).
//! 2. What an earlier process has left in the write-ahead log is made durable ([`durable`](super::durable)).
//! 3. The witness names the end of the log, and the log records that it has a witness. A kill between these two leaves a witness
//!    that the next start finds.
//!
//! If the log is not complete, and the operator accepts this, it gets a new id (epoch) and a new witness after step 2.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use uuid::Uuid;

use super::Truncation;
use super::complete::{FilesLeft, LogFound, hash_at};
use super::durable::{BUSY_TIMEOUT, WRITER_WAIT, empty_write_ahead_log, make_durable};
use super::folder::{create_file, sync_folder};
use super::schema::{self, FORMAT, FileContents};
use super::witness::{Witness, WitnessContents};
use super::witness_file::{WitnessFile, witness_path};
use super::write_connection::{WriteConnection, head_of};
use crate::store::{Head, Incomplete, OpenError, new_id};

/// Only one thread at a time uses a connection.
pub(super) const WRITE_FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// A log that was opened, with its id and its end.
pub(super) struct OpenedLog {
    pub(super) writer_connection: WriteConnection,
    pub(super) epoch: Uuid,
    pub(super) head: Head,
    pub(super) witness: WitnessFile,
}

/// Opens the log in this file of the folder. Creates the file and the tables if they are missing.
pub(super) fn open(dir: &Path, path: &Path, truncation: Truncation) -> Result<OpenedLog, OpenError> {
    let mut opening = Opening { dir, path, truncation, is_new: false, has_accepted: false };
    let files = FilesLeft::find(dir, path)?;
    opening.judge(files.incomplete_files())?;
    create_file(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let mut connection = Connection::open_with_flags(path, WRITE_FLAGS).map_err(|error| open_error(path, &error))?;
    apply_settings(&connection).map_err(|error| open_error(path, &error))?;
    opening.create_tables(&mut connection, &files)?;
    let mut log = opening.find_log(&connection, &files)?;
    if !opening.is_new {
        opening.judge(files.incomplete_log(&log))?;
    }
    opening.use_write_ahead_log(&connection)?;
    // The file may have been created or put in its place by a process that was killed before it could do this.
    sync_folder(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let is_emptied = make_durable(&connection, path, WRITER_WAIT)?;
    if opening.has_accepted {
        log.epoch = opening.begin_anew(&mut connection, is_emptied)?;
    } else if truncation == Truncation::Accept {
        tracing::warn!("accept_truncation is set, and the log is complete: remove the setting");
    }
    schema::complete(&connection, &log.epoch.to_string()).map_err(|error| open_error(path, &error))?;
    let witness = opening.keep_witness(&connection, &files, &log)?;
    let LogFound { epoch, head, .. } = log;
    let writer_connection = WriteConnection::new(connection).map_err(|error| open_error(path, &error))?;
    Ok(OpenedLog { writer_connection, epoch, head, witness })
}

/// A log that is being opened.
struct Opening<'a> {
    dir: &'a Path,
    path: &'a Path,
    truncation: Truncation,
    /// There was no log.
    is_new: bool,
    /// The log is not complete, and this was accepted.
    has_accepted: bool,
}

impl Opening<'_> {
    /// Refuses a log that is not complete, unless this is accepted.
    fn judge(&mut self, incomplete: Option<Incomplete>) -> Result<(), OpenError> {
        match (incomplete, self.truncation) {
            (None, _) => Ok(()),
            (Some(what), Truncation::Refuse) => Err(OpenError::Incomplete { dir: self.dir.to_owned(), what }),
            (Some(what), Truncation::Accept) => {
                tracing::warn!("accept_truncation: the log is not complete: {what}");
                self.has_accepted = true;
                Ok(())
            }
        }
    }

    fn create_tables(&mut self, connection: &mut Connection, files: &FilesLeft) -> Result<(), OpenError> {
        match schema::contents(connection).map_err(|error| self.error(&error))? {
            FileContents::Nothing => {
                if !self.has_accepted {
                    self.judge(files.incomplete_if_new())?;
                }
                self.is_new = true;
                schema::create_log(connection).map_err(|error| self.error(&error))
            }
            FileContents::Log(FORMAT) => Ok(()),
            FileContents::Log(found) => Err(other_format(self.path, found)),
            FileContents::Other => Err(OpenError::NotALog(self.path.to_owned())),
        }
    }

    fn find_log(&self, connection: &Connection, files: &FilesLeft) -> Result<LogFound, OpenError> {
        let epoch = connection.query_row("SELECT epoch FROM log", [], |row| row.get::<_, String>(0));
        let epoch = epoch.map_err(|error| self.error(&error))?;
        if !schema::epoch_is_unchanged(connection, &epoch).map_err(|error| self.error(&error))? {
            return Err(self.invalid("damaged: its id (epoch) or the checksum of its id has changed".to_owned()));
        }
        let epoch =
            epoch.parse().map_err(|error| self.invalid(format!("its id (epoch) is not a valid UUID: {error}")))?;
        let find = || {
            let (head, has_witness) = (head_of(connection)?, schema::has_witness(connection)?);
            Ok(LogFound { epoch, head, has_witness, hash_at_witness: hash_at(connection, files.named_position())? })
        };
        find().map_err(|error: rusqlite::Error| self.error(&error))
    }

    fn use_write_ahead_log(&self, connection: &Connection) -> Result<(), OpenError> {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode.map_err(|error| self.error(&error))?.as_str() {
            "wal" => Ok(()),
            mode => Err(self.invalid(format!("no write-ahead log on this file system (mode {mode})"))),
        }
    }

    /// Gives a log that is not complete a new id. `SQLite` may have cut the write-ahead log, and its pages may be older than those
    /// of the main file. So the log is used only if `SQLite` finds no fault in it, and if no frame of the old file is left.
    fn begin_anew(&self, connection: &mut Connection, is_emptied: bool) -> Result<Uuid, OpenError> {
        if !is_emptied {
            return Err(OpenError::InUse { path: self.path.to_owned(), waited: Duration::ZERO });
        }
        let found = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        let found = found.map_err(|error| self.error(&error))?;
        if found != "ok" {
            return Err(self.invalid(format!("what is left of the log can't be used, restore a backup: {found}")));
        }
        let epoch = new_id();
        schema::replace_epoch(connection, &epoch.to_string()).map_err(|error| self.error(&error))?;
        tracing::warn!(%epoch, "accept_truncation: the log goes on with the events that it has, under this new id");
        Ok(epoch)
    }

    /// The witness of this log. A log of an earlier version gets one.
    fn keep_witness(
        &self,
        connection: &Connection,
        files: &FilesLeft,
        log: &LogFound,
    ) -> Result<WitnessFile, OpenError> {
        let path = witness_path(self.dir);
        let file = match files.witness {
            WitnessContents::Valid { witness, next } if !self.has_accepted && !self.is_new => {
                WitnessFile::open(&path, witness, next)
            }
            WitnessContents::Valid { .. } | WitnessContents::Missing | WitnessContents::Damaged => {
                let Head { position, hash, .. } = log.head;
                WitnessFile::create(&path, Witness { position, hash, epoch: log.epoch })
            }
        };
        let file = file.map_err(|source| OpenError::Io { path, source })?;
        if !log.has_witness {
            schema::record_witness(connection, &log.epoch.to_string()).map_err(|error| self.error(&error))?;
        }
        if !log.has_witness || self.has_accepted {
            // So that a copy of log.db alone says it too.
            empty_write_ahead_log(connection, Duration::ZERO).map_err(|error| self.error(&error))?;
        }
        Ok(file)
    }

    fn error(&self, error: &rusqlite::Error) -> OpenError {
        open_error(self.path, error)
    }

    fn invalid(&self, reason: String) -> OpenError {
        OpenError::Database { path: self.path.to_owned(), reason }
    }
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
    connection.busy_timeout(BUSY_TIMEOUT)?;
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
