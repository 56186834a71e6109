//! The connections that read the log's file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, Row, params};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::meta::TextOrUuid;
use super::names::{Names, StoredFirst, first_event};
use super::open::keep_query_plans;
use super::row::EventRow;
use super::stored_event::{StoredEvent, StoredMeta};
use super::write_connection::sqlite_integer;
use crate::store::{Hash, Meta, ReadError};
use crate::task::{Position, Revision};

/// The number of connections that read, and so the largest number of reads that run at the same time.
const READERS: usize = 4;

/// A query for events. The columns have the numbers that [`ReadConnection::stored_event`] uses.
macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT position, stream, revision, name, id, type, time, actor, correlation_id, causation_id, request_id, \
             meta, data, hash FROM events ",
            $rest
        )
    };
}

pub(super) const SELECT_RANGE: &str = select_events!("WHERE position > ? AND position <= ? ORDER BY position LIMIT ?");
pub(super) const SELECT_FIRST: &str = select_events!("WHERE name = ?");
/// The condition `revision > 0` lets `SQLite` use the index `next_events`.
pub(super) const SELECT_NEXT: &str =
    select_events!("WHERE stream = ? AND revision > 0 AND revision >= ? ORDER BY revision");

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
pub(super) struct ReadConnection {
    pub(super) connection: Connection,
    names: Names,
}

impl ReadConnection {
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.pragma_update(None, "cell_size_check", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            keep_query_plans(&connection)?;
            Ok(Self { connection, names: Names::default() })
        };
        open().map_err(|error| read_error(&error))
    }

    /// Runs `read` in one transaction. Outside a transaction, a commit between two queries would empty the page cache.
    pub(super) fn in_transaction<T>(&self, read: impl FnOnce(&Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let transaction = self.connection.unchecked_transaction().map_err(|error| read_error(&error))?;
        let found = read(self)?;
        transaction.commit().map_err(|error| read_error(&error))?;
        Ok(found)
    }

    /// Calls `visit` for each event in the order of the log, until it returns an error. No event is decoded.
    pub(super) fn for_each_row(
        &self,
        mut visit: impl FnMut(&EventRow<'_>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut query = self.prepare(SELECT_RANGE)?;
        let mut rows = query.query([0, i64::MAX, -1]).map_err(|error| read_error(&error))?;
        while let Some(row) = rows.next().map_err(|error| read_error(&error))? {
            self.stored_event(row)?.with_row(&mut visit)?;
        }
        Ok(())
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, ReadError> {
        self.connection.prepare_cached(sql).map_err(|error| read_error(&error))
    }

    /// Calls `each` with the events after a position (exclusive), up to another (inclusive), as long as it returns true.
    pub(super) fn scan_range(
        &self,
        after: Position,
        upto: Position,
        each: impl FnMut(StoredEvent<'_>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let range = params![sqlite_integer(after.0), sqlite_integer(upto.0), -1];
        self.scan(self.prepare(SELECT_RANGE)?, range, Some(after), each)
    }

    /// Calls `each` with the events that the query finds, as long as it returns true. An error of the file names the position
    /// before it; `after` is the one before the first event, if it is known.
    pub(super) fn scan(
        &self,
        mut query: CachedStatement<'_>,
        range: impl rusqlite::Params,
        mut after: Option<Position>,
        mut each: impl FnMut(StoredEvent<'_>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut rows = query.query(range).map_err(|error| read_error(&error))?;
        loop {
            let Some(row) = rows.next().map_err(|error| read_error_after(after, &error))? else { return Ok(()) };
            let event = self.stored_event(row)?;
            after = Some(event.position);
            if !each(event)? {
                return Ok(());
            }
        }
    }

    /// The event of a row of a query with `select_events!`.
    pub(super) fn stored_event<'row>(&self, row: &'row Row<'_>) -> Result<StoredEvent<'row>, ReadError> {
        self.event_without_hash(row).and_then(|event| {
            let damaged = |error| ReadError::Damaged(format!("event {}: {error}", event.position));
            let hash = Hash(row.get(13).map_err(damaged)?);
            Ok(StoredEvent { hash, ..event })
        })
    }

    /// As [`Self::stored_event`], but the hash is zero.
    pub(super) fn event_without_hash<'row>(&self, row: &'row Row<'_>) -> Result<StoredEvent<'row>, ReadError> {
        let position: i64 = row.get(0).map_err(|error| read_error(&error))?;
        let damaged = |what: &dyn std::fmt::Display| ReadError::Damaged(format!("event {position}: {what}"));
        let number = |column: usize| row.get::<_, i64>(column).map_err(|error| damaged(&error));
        let connection = &self.connection;
        let first = self.first_event_of(row, position)?;
        let event_type =
            self.names.event_type(connection, number(5)?).map_err(|error| read_error_at(position, &error))?;
        let meta = self.meta_of(row, position, &first)?;
        Ok(StoredEvent {
            position: Position(u64::try_from(position).map_err(|error| damaged(&error))?),
            begins: number(1)?,
            stream: first.name,
            revision: Revision(u64::try_from(number(2)?).map_err(|error| damaged(&error))?),
            id: Uuid::from_bytes(row.get(4).map_err(|error| damaged(&error))?),
            event_type: event_type.ok_or_else(|| damaged(&"its type is not in the log"))?,
            time: number(6)?,
            meta,
            data: text(row, 12).map_err(|error| damaged(&error))?,
            hash: Hash::ZERO,
        })
    }

    /// The first event of the row's stream.
    fn first_event_of(&self, row: &Row<'_>, position: i64) -> Result<StoredFirst, ReadError> {
        let damaged = |what: &dyn std::fmt::Display| ReadError::Damaged(format!("event {position}: {what}"));
        let stream: i64 = row.get(1).map_err(|error| damaged(&error))?;
        if stream == position {
            let first = first_event(row, [3, 4, 8]).map_err(|error| damaged(&error))?;
            let first = first.ok_or_else(|| damaged(&"its stream has no name"))?;
            self.names.remember_first(stream, first.clone());
            return Ok(first);
        }
        let first =
            self.names.first_event(&self.connection, stream).map_err(|error| read_error_at(position, &error))?;
        first
            .ok_or_else(|| damaged(&format_args!("its stream begins at position {stream}, and no stream begins there")))
    }

    fn meta_of<'row>(
        &self,
        row: &'row Row<'_>,
        position: i64,
        first: &StoredFirst,
    ) -> Result<StoredMeta<'row>, ReadError> {
        let damaged = |what: &dyn std::fmt::Display| ReadError::Damaged(format!("event {position}: {what}"));
        let value = |column: usize| row.get_ref(column).map_err(|error| damaged(&error));
        if value(11)? != ValueRef::Null {
            return text(row, 11).map(StoredMeta::Text).map_err(|error| damaged(&error));
        }
        let actor = row.get(7).map_err(|error| damaged(&error))?;
        let actor = self.names.actor(&self.connection, actor).map_err(|error| read_error_at(position, &error))?;
        let (actor, via) = actor.ok_or_else(|| damaged(&"its actor is not in the log"))?;
        let request_id = match value(10)? {
            ValueRef::Null => None,
            stored => Some(TextOrUuid::text_in(stored, "").ok_or_else(|| damaged(&"its request id is no text"))?),
        };
        let correlation_id = row.get::<_, Option<[u8; 16]>>(8).map_err(|error| damaged(&error))?.map(Uuid::from_bytes);
        let correlation_id = correlation_id.or(first.correlation_id);
        let causation_id = match value(9)? {
            ValueRef::Null => None,
            ValueRef::Integer(0) => Some(first.id),
            ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => {
                Some(Uuid::from_bytes(row.get(9).map_err(|error| damaged(&error))?))
            }
        };
        Ok(StoredMeta::Columns(Meta {
            actor: actor.as_ref().to_owned(),
            via,
            correlation_id: correlation_id.ok_or_else(|| damaged(&"it has no correlation id"))?,
            causation_id,
            request_id,
        }))
    }
}

fn text<'row>(row: &'row Row<'_>, column: usize) -> Result<&'row str, Box<dyn std::error::Error + Send + Sync>> {
    Ok(row.get_ref(column)?.as_str()?)
}

pub(super) fn read_error(error: &rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        // An error without a code: a value can't be converted.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => ReadError::Damaged(error.to_string()),
        Some(_) => ReadError::Unavailable(error.to_string()),
    }
}

/// The error of a query for the event after this position.
fn read_error_after(position: Option<Position>, error: &rusqlite::Error) -> ReadError {
    match (position, read_error(error)) {
        (Some(Position(position)), ReadError::Damaged(what)) => {
            ReadError::Damaged(format!("event {} can't be read: {what}", position + 1))
        }
        (_, error) => error,
    }
}

/// The error of a query for what an event refers to.
fn read_error_at(position: i64, error: &rusqlite::Error) -> ReadError {
    match read_error(error) {
        ReadError::Damaged(what) => ReadError::Damaged(format!("event {position}: {what}")),
        other @ (ReadError::Unavailable(_) | ReadError::Unknown { .. }) => other,
    }
}
