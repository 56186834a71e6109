//! Whether the two indexes of `events`, by which a stream is found, hold an entry for each event and no other one. The chain of
//! hashes doesn't cover the indexes: a damaged one could hide the last events of a stream, or all of them.
//!
//! While the whole log is read, the entries that the indexes must have are added up as a sum of hashes. Then the entries that they
//! have are added up as well. This takes no lookups, and the order of the entries doesn't matter.

use std::hash::{DefaultHasher, Hasher as _};
use std::ops::AddAssign;

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, params};

use super::meta::{TASK_PREFIX, TextOrUuid};
use super::read::{ReadConnection, read_error};
use super::stored_event::StoredEvent;
use super::write_connection::sqlite_integer;
use crate::store::ReadError;
use crate::task::{Position, Revision};

const ENTRIES_OF_FIRST: &str = "SELECT name, position FROM events INDEXED BY first_events WHERE name IS NOT NULL";
const ENTRIES_OF_NEXT: &str = "SELECT stream, revision, position FROM events INDEXED BY next_events WHERE revision > 0";
const FIND_FIRST: &str = "SELECT position FROM events INDEXED BY first_events WHERE name = ?";
const FIND_NEXT: &str =
    "SELECT position FROM events INDEXED BY next_events WHERE stream = ? AND revision > 0 AND revision = ?";

/// The sums of the entries' hashes, one for each index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IndexEntries {
    first_events: u64,
    next_events: u64,
}

impl AddAssign for IndexEntries {
    fn add_assign(&mut self, other: Self) {
        self.first_events = self.first_events.wrapping_add(other.first_events);
        self.next_events = self.next_events.wrapping_add(other.next_events);
    }
}

impl IndexEntries {
    /// Adds the entry that the event must have.
    pub(super) fn add(&mut self, event: &StoredEvent<'_>) {
        let position = sqlite_integer(event.position.0);
        if event.revision == Revision(0) {
            match TextOrUuid::new(event.stream.as_str(), TASK_PREFIX) {
                TextOrUuid::Uuid(id) => self.add_first(id.as_bytes(), position),
                TextOrUuid::Text(name) => self.add_first(name.as_bytes(), position),
            }
        } else {
            self.add_next(event.begins, sqlite_integer(event.revision.0), position);
        }
    }

    fn add_first(&mut self, name: &[u8], position: i64) {
        self.first_events = self.first_events.wrapping_add(hash_of(&(name, position)));
    }

    fn add_next(&mut self, stream: i64, revision: i64, position: i64) {
        self.next_events = self.next_events.wrapping_add(hash_of(&(stream, revision, position)));
    }
}

/// The error for a damaged index. The events themselves are checked before, so the index can be built anew from them.
fn damaged(index: &str, what: &str) -> ReadError {
    ReadError::Damaged(format!("{index} of log.db: {what}; `sqlite3 log.db REINDEX` builds it anew from the events"))
}

fn hash_of(entry: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.hash(&mut hasher);
    hasher.finish()
}

impl ReadConnection {
    /// Checks that the indexes have these entries for the events up to this position, and none after the end of the table.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] names the first event that can't be found by its stream, or that is not in the table.
    pub(super) fn check_indexes(&self, upto: Position, expected: IndexEntries) -> Result<(), ReadError> {
        let (found, end_of_table) = self.in_transaction(|reader| {
            let (end, _) = reader.stored_end()?;
            let entries = reader.index_entries(upto).map_err(|error| match read_error(&error) {
                ReadError::Damaged(what) => damaged("an index", &what),
                other @ (ReadError::Unavailable(_) | ReadError::Unknown { .. }) => other,
            });
            entries.map(|(found, last)| (found, (last > sqlite_integer(end.0)).then_some(end)))
        })?;
        if let Some(end) = end_of_table {
            let next = end.0 + 1;
            let what = format!("the log has lost event {next}: an index of log.db names events after event {end}");
            return Err(ReadError::Damaged(what));
        }
        if found == expected {
            return Ok(());
        }
        let index = if found.first_events == expected.first_events { "next_events" } else { "first_events" };
        let which = match self.first_not_found(upto)? {
            Some(position) => format!("event {position} can't be found by its stream"),
            None => "it has an entry that belongs to no event".to_owned(),
        };
        Err(damaged(&format!("the index {index}"), &which))
    }

    /// The entries that the indexes have for the events up to this position, and the last position that they have.
    fn index_entries(&self, upto: Position) -> rusqlite::Result<(IndexEntries, i64)> {
        let (mut entries, mut last, upto) = (IndexEntries::default(), 0, sqlite_integer(upto.0));
        let mut query = self.connection.prepare_cached(ENTRIES_OF_FIRST)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let position = row.get(1)?;
            let name = match row.get_ref(0)? {
                ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes,
                ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
            };
            if position <= upto {
                entries.add_first(name, position);
            }
            last = last.max(position);
        }
        let mut query = self.connection.prepare_cached(ENTRIES_OF_NEXT)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let position = row.get(2)?;
            if position <= upto {
                entries.add_next(row.get(0)?, row.get(1)?, position);
            }
            last = last.max(position);
        }
        Ok((entries, last))
    }

    /// The first event that the index doesn't lead to.
    fn first_not_found(&self, upto: Position) -> Result<Option<Position>, ReadError> {
        let mut missing = None;
        self.scan_range(Position(0), upto, |event| {
            let found = self.position_by_index(&event).map_err(|error| read_error(&error))?;
            if found != Some(sqlite_integer(event.position.0)) {
                missing = Some(event.position);
            }
            Ok(missing.is_none())
        })?;
        Ok(missing)
    }

    /// The position to which the index leads for the stream and revision of this event.
    fn position_by_index(&self, event: &StoredEvent<'_>) -> rusqlite::Result<Option<i64>> {
        let found = if event.revision == Revision(0) {
            let name = TextOrUuid::new(event.stream.as_str(), TASK_PREFIX);
            self.connection.prepare_cached(FIND_FIRST)?.query_row([name], |row| row.get(0))
        } else {
            let key = params![event.begins, sqlite_integer(event.revision.0)];
            self.connection.prepare_cached(FIND_NEXT)?.query_row(key, |row| row.get(0))
        };
        found.optional()
    }
}
