//! The single connection that writes the log's file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::ffi::{SQLITE_CONSTRAINT_UNIQUE, SQLITE_IOERR_WRITE};
use rusqlite::hooks::Wal;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql, params};
use uuid::Uuid;

use super::checkpoint::Progress;
use super::durable::empty_write_ahead_log;
use super::interned::Interned;
use super::meta::{TASK_PREFIX, TextOrUuid, columns_give};
use super::row::EventRow;
use crate::store::{Hash, Head};
use crate::task::{Position, Revision, Timestamp};

// The conditions `revision > 0` and `position > 0` make `SQLite` search an index for the end.
const SELECT_STREAM_END: &str = "SELECT position, id, correlation_id, coalesce((SELECT revision FROM events AS next
    WHERE next.stream = first.position AND next.revision > 0 ORDER BY next.revision DESC LIMIT 1), 0)
    FROM events AS first WHERE name = ?";
const SELECT_HEAD: &str = "SELECT position, hash, time FROM events WHERE position > 0 ORDER BY position DESC LIMIT 1";
const INSERT_EVENT: &str = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// How long the last checkpoint waits for readers of other programs.
const READER_WAIT: Duration = Duration::from_millis(200);
/// The room that a disk must have before the log counts as writable again, in bytes. A failed write may leave room in the
/// write-ahead log for a small write. Without this bound, the log would seem writable although most writes fail.
static ROOM: [u8; 256 << 10] = [0; 256 << 10];

/// Why a write failed.
pub(super) enum WriteError {
    /// No part of the transaction is on the disk, because there is no room, or another program holds the file. No other
    /// transaction could be written now either.
    Unavailable(String),
    /// No part of the transaction is on the disk. Another transaction may succeed.
    NothingWritten(String),
    /// It is unknown what is on the disk. After a failed sync, a second sync that succeeds doesn't prove that the data is on
    /// the disk (known as "fsyncgate").
    Unknown(String),
}

impl WriteError {
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Unavailable(why) | Self::NothingWritten(why) | Self::Unknown(why) => why,
        }
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{ConstraintViolation, DatabaseBusy, DatabaseLocked, DiskFull, TooBig};
        // This must be the first statement: a later call of the system may change its last error.
        let system_error = io::Error::last_os_error();
        if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_WRITE)
            && let Some(what) = no_room(&system_error)
        {
            return Self::Unavailable(format!("{what}: {system_error}"));
        }
        match error.sqlite_error_code() {
            // If the disk is full, a commit stops before it writes its last frame. Without the last frame there is no
            // commit.
            Some(DiskFull | DatabaseBusy | DatabaseLocked) => Self::Unavailable(error.to_string()),
            Some(ConstraintViolation | TooBig) => Self::NothingWritten(error.to_string()),
            _ => Self::Unknown(error.to_string()),
        }
    }
}

/// Which room is used up; `None` if a write has failed for another reason. `SQLite` reports a full disk as such, but a quota or a
/// limit of file sizes only as a failed write. In all three cases the last frame of the commit is missing.
fn no_room(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => Some("the disk quota is used up"),
        io::ErrorKind::FileTooLarge => {
            Some("a file has reached the largest size that this process may write (ulimit -f)")
        }
        io::ErrorKind::StorageFull => Some("the disk is full"),
        _ => None,
    }
}

/// The first event of a stream, as far as the rows of the next events refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstEvent {
    pub(super) position: Position,
    pub(super) id: Uuid,
    /// `None` if its row holds the text of `meta`.
    pub(super) correlation_id: Option<Uuid>,
}

/// Where a stream begins in the log, and its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamEnd {
    pub(super) first: FirstEvent,
    /// The revision of its last event.
    pub(super) last: Revision,
}

/// The single connection that writes.
pub(super) struct WriteConnection {
    connection: Connection,
    interned: Interned,
}

impl WriteConnection {
    /// Uses this connection, in which no trigger runs: they are for other programs, and take about 2 µs of each
    /// insert. This connection only inserts, and never with `OR REPLACE`.
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Self> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        Ok(Self { connection, interned: Interned::default() })
    }

    /// Lets each commit note in `progress` how many frames the write-ahead log has.
    pub(super) fn note_commits(&mut self, progress: Arc<Progress>) -> rusqlite::Result<()> {
        self.connection.wal_hook(Some(move |_: &mut Wal, frames: i32| {
            progress.note_commit(u32::try_from(frames).unwrap_or(0));
            Ok(())
        }))
    }

    /// Copies the rest of the write-ahead log between two commits.
    pub(super) fn copy_rest(&self, progress: &Progress) {
        progress.copy(&self.connection, true);
    }

    pub(super) fn begin(&self) -> Result<(), WriteError> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Commits the transaction. It is durable when this returns.
    pub(super) fn commit(&self) -> Result<(), WriteError> {
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Checks that a file as long as the write-ahead log can become longer by [`ROOM`].
    pub(super) fn check_room(&self) -> Result<(), WriteError> {
        let Some(path) = self.connection.path().map(Path::new) else { return Ok(()) };
        let length = fs::metadata(path.with_extension("db-wal")).map_or(0, |wal| wal.len());
        let file = path.with_file_name("room.tmp");
        let written = File::create(&file).and_then(|file| file.write_all_at(&ROOM, length));
        let removed = fs::remove_file(&file);
        written.and(removed).map_err(|error| {
            let what = no_room(&error).unwrap_or("a file can't be written");
            WriteError::Unavailable(format!("{what}: {error}"))
        })
    }

    /// Commits a transaction that changes nothing: it writes a page of the file again. It is durable when this returns.
    pub(super) fn write_nothing(&self) -> Result<(), WriteError> {
        let format: i64 = self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(self.connection.pragma_update(None, "user_version", format)?)
    }

    /// Rolls the transaction back. Does nothing if no transaction is open: after some errors `SQLite` has already rolled
    /// back.
    pub(super) fn rollback(&mut self) -> Result<(), WriteError> {
        self.interned.forget();
        if self.connection.is_autocommit() { Ok(()) } else { Ok(self.connection.execute_batch("ROLLBACK")?) }
    }

    /// Inserts the event of a stream that begins with the event `first`, or begins its stream if `first` is `None`. Returns the
    /// first event of the stream; `None`, and inserts no event, if the stream already has an event of this revision.
    pub(super) fn insert(
        &mut self,
        event: &EventRow<'_>,
        first: Option<FirstEvent>,
    ) -> Result<Option<FirstEvent>, WriteError> {
        let EventRow { position, fields, meta, hash } = event;
        let Self { connection, interned } = self;
        let event_type = interned.type_id(connection, fields.event_type, fields.version)?;
        let columns = meta.filter(|meta| columns_give(meta, fields.meta));
        let actor = columns.map(|meta| interned.actor_id(connection, meta)).transpose()?;
        let name = first.is_none().then(|| TextOrUuid::new(fields.stream, TASK_PREFIX));
        let correlation_id = columns.map(|meta| meta.correlation_id);
        let causation = columns.and_then(|meta| meta.causation_id.as_ref()).map(|id| CausationColumn::new(id, first));
        let request = columns.and_then(|meta| meta.request_id.as_deref()).map(|id| TextOrUuid::new(id, ""));
        let inserted = connection.prepare_cached(INSERT_EVENT)?.execute(params![
            sqlite_integer(position.0),
            sqlite_integer(first.map_or(position.0, |first| first.position.0)),
            sqlite_integer(fields.revision.0),
            name,
            fields.id.as_bytes(),
            event_type,
            fields.time,
            actor,
            correlation_id
                .as_ref()
                .filter(|id| first.and_then(|first| first.correlation_id) != Some(**id))
                .map(Uuid::as_bytes),
            causation,
            request,
            columns.is_none().then_some(fields.meta),
            fields.data,
            hash.0,
        ]);
        match inserted {
            Ok(_) => Ok(Some(first.unwrap_or(FirstEvent { position: *position, id: fields.id, correlation_id }))),
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.extended_code == SQLITE_CONSTRAINT_UNIQUE => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where a stream begins and ends; `None` if the stream has no event.
    pub(super) fn stream_end(&self, stream: &str) -> Result<Option<StreamEnd>, WriteError> {
        let mut query = self.connection.prepare_cached(SELECT_STREAM_END)?;
        let end = query.query_row([TextOrUuid::new(stream, TASK_PREFIX)], |row| {
            let [first, last] = [row.get::<_, i64>(0)?, row.get(3)?].map(i64::cast_unsigned);
            let correlation_id = row.get::<_, Option<[u8; 16]>>(2)?.map(Uuid::from_bytes);
            let first = FirstEvent { position: Position(first), id: Uuid::from_bytes(row.get(1)?), correlation_id };
            Ok(StreamEnd { first, last: Revision(last) })
        });
        Ok(end.optional()?)
    }

    /// The end of the log.
    pub(super) fn head(&self) -> Result<Head, WriteError> {
        Ok(head_of(&self.connection)?)
    }

    /// Copies the write-ahead log to the main file and empties it, at the end of the process. If this fails, the events are
    /// durable nevertheless: the file stays, and the next start reads it.
    pub(super) fn checkpoint(&self) {
        match empty_write_ahead_log(&self.connection, READER_WAIT) {
            Ok(true) => {}
            Ok(false) => tracing::info!(
                "another program reads log.db, so log.db-wal stays: nothing is lost, the next start reads this file too"
            ),
            Err(error) => tracing::warn!("the log was closed without a last checkpoint: {error}"),
        }
    }
}

/// The end of the log.
pub(super) fn head_of(connection: &Connection) -> rusqlite::Result<Head> {
    let end = connection.prepare_cached(SELECT_HEAD)?.query_row([], |row| {
        let time = Timestamp::from_micros(row.get(2)?);
        Ok(Head {
            position: Position(row.get::<_, i64>(0)?.cast_unsigned()),
            hash: Hash(row.get(1)?),
            time: Some(time),
        })
    });
    Ok(end.optional()?.unwrap_or(Head { position: Position(0), hash: Hash::ZERO, time: None }))
}

/// What the column `causation_id` holds.
enum CausationColumn<'a> {
    /// The id of the stream's first event: the integer 0, which takes no space in a row.
    FirstEvent,
    Id(&'a Uuid),
}

impl<'a> CausationColumn<'a> {
    fn new(id: &'a Uuid, first: Option<FirstEvent>) -> Self {
        if first.is_some_and(|first| first.id == *id) { Self::FirstEvent } else { Self::Id(id) }
    }
}

impl ToSql for CausationColumn<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::FirstEvent => ValueRef::Integer(0),
            Self::Id(id) => ValueRef::Blob(id.as_bytes()),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// The number as `SQLite` holds it.
pub(super) fn sqlite_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
