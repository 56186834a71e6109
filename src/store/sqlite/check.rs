//! Reads events, and checks that they are those that were written: each one with the hash of the event before it.

use std::sync::Arc;

use rusqlite::{CachedStatement, OptionalExtension, params};

use super::meta::{TASK_PREFIX, TextOrUuid};
use super::read::{ReadConnection, SELECT_FIRST, SELECT_NEXT, SELECT_RANGE, read_error};
use super::stored_event::{HashBuffers, StoredEvent};
use super::write_connection::sqlite_integer;
use crate::store::chain::{continues, if_unchanged, lost};
use crate::store::recorded::lost_revision;
use crate::store::{Hash, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

const SELECT_END: &str = "SELECT position, hash FROM events WHERE position > 0 ORDER BY position DESC LIMIT 1";
const SELECT_HASH: &str = "SELECT hash FROM events WHERE position = ?";

/// Checks the events that a connection reads.
pub(super) struct ChainCheck<'a> {
    reader: &'a ReadConnection,
    /// The position and the hash of the last event that was checked.
    last: Option<(Position, Hash)>,
}

impl<'a> ChainCheck<'a> {
    pub(super) const fn new(reader: &'a ReadConnection) -> Self {
        Self { reader, last: None }
    }

    /// Checks the event. If the one before it was not checked by this value, its hash is read.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] names the position of the event, or of the one before it if that is missing.
    pub(super) fn check(&mut self, event: &StoredEvent<'_>, buffers: &mut HashBuffers) -> Result<(), ReadError> {
        let before = Position(event.position.0.saturating_sub(1));
        let last = self.last.take().filter(|(position, _)| *position == before).map(|(_, hash)| hash);
        let stored = match last {
            Some(hash) => Some(hash),
            None => self.reader.stored_hash(before)?,
        };
        let expected = stored.map(|stored| event.hash_after(stored, buffers));
        if expected != Some(event.hash) {
            // The hash of the event before may be what has changed. Then this event continues that event all the same.
            let computed = if last.is_some() { None } else { self.reader.computed_hash(before, buffers) };
            let after_computed = computed.map(|computed| event.hash_after(computed, buffers));
            if after_computed != Some(event.hash) {
                let expected = expected.or(after_computed).ok_or_else(|| lost(before))?;
                return continues(event.position, event.hash, expected);
            }
        }
        self.last = Some((event.position, event.hash));
        Ok(())
    }
}

impl ReadConnection {
    /// The events of a stream from a revision on, each checked with the hash of the event before it. The stream must have an
    /// event of the revision `known`, if there is one.
    pub(super) fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
        known: Option<Revision>,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let name = [TextOrUuid::new(stream.as_str(), TASK_PREFIX)];
        let mut next = Revision(0);
        let mut events = self.read_events(self.prepare(SELECT_FIRST)?, name, None, usize::MAX, &mut |event| {
            is_next_of(stream, &mut next, event)
        })?;
        if let Some(first) = events.first().map(|event| event.position) {
            events.retain(|event| event.revision >= from);
            let range = params![sqlite_integer(first.0), sqlite_integer(from.0)];
            next = from.max(Revision(1));
            events.append(&mut self.read_events(
                self.prepare(SELECT_NEXT)?,
                range,
                None,
                usize::MAX,
                &mut |event| is_next_of(stream, &mut next, event),
            )?);
        }
        match known {
            Some(known) if known >= from && events.last().is_none_or(|last| last.revision < known) => {
                let lost = events.last().map_or(from, |last| Revision(last.revision.0 + 1));
                Err(lost_revision(stream, lost))
            }
            Some(_) | None => Ok(events),
        }
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
        let range = params![sqlite_integer(after.0), sqlite_integer(upto.0), sqlite_integer(limit as u64)];
        let mut next = after;
        self.read_events(self.prepare(SELECT_RANGE)?, range, Some(after), bytes, &mut |event| {
            next.0 += 1;
            if event.position == next { Ok(()) } else { Err(lost(next)) }
        })
    }

    /// Reads events until all together have at least so many bytes. Each of them must be the next one, and continue the chain.
    fn read_events(
        &self,
        query: CachedStatement<'_>,
        range: impl rusqlite::Params,
        after: Option<Position>,
        bytes: usize,
        is_next: &mut dyn FnMut(&StoredEvent<'_>) -> Result<(), ReadError>,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let (mut events, mut size) = (Vec::new(), 0);
        let (mut chain, mut buffers) = (ChainCheck::new(self), HashBuffers::default());
        self.scan(query, range, after, |event| {
            is_next(&event)?;
            let is_unchanged = chain.check(&event, &mut buffers);
            let event = if_unchanged(event.decode(&mut buffers), is_unchanged)?;
            size += event.size();
            events.push(Arc::new(event));
            Ok(size < bytes)
        })?;
        Ok(events)
    }

    /// The position and the hash of the last event of the file. The hash is zero if the row holds none.
    pub(super) fn stored_end(&self) -> Result<(Position, Hash), ReadError> {
        let mut query = self.prepare(SELECT_END)?;
        let end = query.query_row([], |row| {
            Ok((Position(row.get::<_, i64>(0)?.cast_unsigned()), Hash(row.get(1).unwrap_or_default())))
        });
        Ok(end.optional().map_err(|error| read_error(&error))?.unwrap_or((Position(0), Hash::ZERO)))
    }

    /// The hash in the row at this position; `None` if the row is missing or holds no hash.
    pub(super) fn stored_hash(&self, position: Position) -> Result<Option<Hash>, ReadError> {
        if position == Position(0) {
            return Ok(Some(Hash::ZERO));
        }
        let mut query = self.prepare(SELECT_HASH)?;
        let hash = query.query_row([sqlite_integer(position.0)], |row| Ok(row.get(0).ok().map(Hash))).optional();
        hash.map(Option::flatten).map_err(|error| read_error(&error))
    }

    /// The hash that the event at this position must have; `None` if it can't be computed.
    pub(super) fn computed_hash(&self, position: Position, buffers: &mut HashBuffers) -> Option<Hash> {
        let before = Position(position.0.checked_sub(1)?);
        let previous = self.stored_hash(before).ok()??;
        let mut query = self.prepare(SELECT_RANGE).ok()?;
        let mut rows = query.query([sqlite_integer(before.0), sqlite_integer(position.0), 1]).ok()?;
        let row = rows.next().ok()??;
        Some(self.event_without_hash(row).ok()?.hash_after(previous, buffers))
    }
}

/// Checks that this is the event of the stream with the revision `next`, and moves `next` on.
fn is_next_of(stream: &StreamName, next: &mut Revision, event: &StoredEvent<'_>) -> Result<(), ReadError> {
    let (position, found) = (event.position, event.stream.as_str());
    if found != stream.as_str() {
        let what = format!("event {position} belongs to {found}, and an index of log.db names it for {stream}");
        return Err(ReadError::Damaged(what));
    }
    if event.revision != *next {
        return Err(lost_revision(stream, *next));
    }
    next.0 += 1;
    Ok(())
}
