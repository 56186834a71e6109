//! Reads an event from the columns of its row, and says why a read has failed.

use std::borrow::Cow;
use std::fmt;

use rusqlite::{ErrorCode, Row};
use uuid::Uuid;

use crate::store::recorded::{RawEvent, without_spaces_around};
use crate::store::{Hash, ReadError};
use crate::task::{Position, Revision, Timestamp};

/// The event in this row. Its texts are those of the row, so they must be decoded before the next row is read.
///
/// # Errors
/// [`ReadError::Damaged`] names the position, if a column doesn't hold what it should.
pub(super) fn raw_event<'a>(row: &'a Row<'_>) -> Result<RawEvent<'a>, ReadError> {
    let position: i64 = row.get(0).map_err(|error| read_error(&error))?;
    let damaged = |error: &dyn fmt::Display| ReadError::Damaged(format!("event {position}: {error}"));
    let text = |column: usize| row.get_ref(column).map_err(|e| damaged(&e))?.as_str().map_err(|e| damaged(&e));
    let number = |column: usize| row.get::<_, i64>(column).map_err(|e| damaged(&e));
    let json = |column: usize| without_spaces_around(text(column)?).ok_or_else(|| damaged(&"spaces around its JSON"));
    let micros = number(6)?;
    let time = Timestamp::from_micros(micros);
    if time.as_micros() != micros {
        return Err(damaged(&"its time is out of range"));
    }
    Ok(RawEvent {
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
    })
}

/// The error of a read that `SQLite` has refused.
pub(super) fn read_error(error: &rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReadError::Damaged(error.to_string()),
        _ => ReadError::Unavailable(error.to_string()),
    }
}
