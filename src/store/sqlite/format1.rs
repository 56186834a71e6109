//! Reads a log in format 1, in which a row of `events` holds every text of its event. Only [`super::upgrade`] uses it.

use std::path::Path;

use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::open::{WRITE_FLAGS, apply_settings};
use super::row::EventRow;
use super::schema::{self, FileContents};
use crate::store::chain::HashedFields;
use crate::store::{Hash, Meta};
use crate::task::{Position, Revision};

/// The version of these tables.
pub(super) const FORMAT_1: i64 = 1;

const SELECT_EPOCH: &str = "SELECT epoch FROM log";
const SELECT_LAST: &str = "SELECT coalesce(max(position), 0) FROM events";
const SELECT_EVENTS: &str = "SELECT position, stream, revision, id, type, version, time, meta, data, hash
    FROM events ORDER BY position";

/// A file that is to be converted, or is in another format.
pub(super) struct OldFile(Connection);

impl OldFile {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open_with_flags(path, WRITE_FLAGS)?;
        apply_settings(&connection)?;
        Ok(Self(connection))
    }

    pub(super) fn contents(&self) -> rusqlite::Result<FileContents> {
        schema::contents(&self.0)
    }

    /// The id of the log.
    pub(super) fn epoch(&self) -> rusqlite::Result<String> {
        self.0.query_row(SELECT_EPOCH, [], |row| row.get(0))
    }

    /// The position of the last event.
    pub(super) fn last(&self) -> rusqlite::Result<Position> {
        self.0.query_row(SELECT_LAST, [], |row| Ok(Position(row.get::<_, i64>(0)?.cast_unsigned())))
    }

    /// Copies the write-ahead log to the main file and empties it. Returns false if another program is in the way.
    pub(super) fn empty_write_ahead_log(&self) -> rusqlite::Result<bool> {
        self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
    }

    /// Calls `visit` for each event in the order of the log, until it returns an error.
    pub(super) fn for_each<E: From<rusqlite::Error>>(
        &self,
        mut visit: impl FnMut(&EventRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut query = self.0.prepare(SELECT_EVENTS)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let fields = fields(row)?;
            let meta: Option<Meta> = serde_json::from_str(fields.meta).ok();
            let position = Position(row.get::<_, i64>(0)?.cast_unsigned());
            visit(&EventRow { position, fields, meta: meta.as_ref(), hash: Hash(row.get(9)?) })?;
        }
        Ok(())
    }
}

fn fields<'row>(row: &'row Row<'_>) -> rusqlite::Result<HashedFields<'row>> {
    let text = |column: usize| -> rusqlite::Result<&'row str> { Ok(row.get_ref(column)?.as_str()?) };
    Ok(HashedFields {
        stream: text(1)?,
        revision: Revision(row.get::<_, i64>(2)?.cast_unsigned()),
        id: Uuid::from_bytes(row.get(3)?),
        event_type: text(4)?,
        version: row.get(5)?,
        time: row.get(6)?,
        meta: text(7)?,
        data: text(8)?,
    })
}
