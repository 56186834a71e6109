//! What rows hold as numbers, for a connection that reads: the first events of streams, types and actors.

use std::cell::RefCell;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::meta::{TASK_PREFIX, TextOrUuid, via_of};
use crate::store::{StreamName, Via};
use crate::task::{IdMap, TaskId};

/// The largest number of names of one kind in a generation. A name that was not used for two generations is read again.
const GENERATION_MAX: usize = 16_384;

const SELECT_FIRST: &str = "SELECT name, id, correlation_id FROM events WHERE position = ?";
const SELECT_TYPE: &str = "SELECT type, version FROM types WHERE id = ?";
const SELECT_ACTOR: &str = "SELECT actor, via FROM actors WHERE id = ?";

/// The name of a stream.
#[derive(Clone)]
pub(super) enum StoredName {
    Valid(StreamName),
    /// This version of Taskbell doesn't know the form of the name.
    Invalid(Arc<str>),
}

/// What the first event of a stream says about the others.
#[derive(Clone)]
pub(super) struct StoredFirst {
    pub(super) name: StoredName,
    pub(super) id: Uuid,
    /// `None` if its row holds the text of `meta`.
    pub(super) correlation_id: Option<Uuid>,
}

/// A type of events with the version of its schema.
#[derive(Clone)]
pub(super) struct StoredType {
    pub(super) name: Arc<str>,
    pub(super) version: u32,
}

/// The names that were used recently. A row that a name comes from never changes.
#[derive(Default)]
pub(super) struct Names {
    streams: RefCell<Generations<StoredFirst>>,
    types: RefCell<Generations<StoredType>>,
    actors: RefCell<Generations<(Arc<str>, Via)>>,
}

/// A cache of bounded size. When the young generation is full, it becomes the old one, and the old one is dropped.
struct Generations<T> {
    young: IdMap<i64, T>,
    old: IdMap<i64, T>,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { young: IdMap::default(), old: IdMap::default() }
    }
}

impl<T: Clone> Generations<T> {
    fn get(&mut self, id: i64) -> Option<T> {
        if let Some(found) = self.young.get(&id) {
            return Some(found.clone());
        }
        let found = self.old.remove(&id)?;
        self.insert(id, found.clone());
        Some(found)
    }

    fn insert(&mut self, id: i64, value: T) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, value);
    }
}

impl StoredName {
    /// The name in the column; `None` if it is neither a text nor a UUID.
    fn of_column(column: ValueRef<'_>) -> Option<Self> {
        if let ValueRef::Blob(bytes) = column {
            return Uuid::from_slice(bytes).ok().map(|id| Self::Valid(StreamName::task(TaskId::from_uuid(id))));
        }
        let name = TextOrUuid::text_in(column, TASK_PREFIX)?;
        Some(StreamName::parse(&name).map_or_else(|| Self::Invalid(name.into()), Self::Valid))
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Valid(name) => name.as_str(),
            Self::Invalid(name) => name,
        }
    }
}

impl Names {
    /// The first event of a stream, which has this position; `None` if no stream begins there.
    pub(super) fn first_event(&self, connection: &Connection, position: i64) -> rusqlite::Result<Option<StoredFirst>> {
        if let Some(known) = self.streams.borrow_mut().get(position) {
            return Ok(Some(known));
        }
        let first = connection.prepare_cached(SELECT_FIRST)?.query_row([position], |row| first_event(row, [0, 1, 2]));
        let first = first.optional()?.flatten();
        if let Some(first) = &first {
            self.remember_first(position, first.clone());
        }
        Ok(first)
    }

    /// Notes the first event of a stream.
    pub(super) fn remember_first(&self, position: i64, first: StoredFirst) {
        self.streams.borrow_mut().insert(position, first);
    }

    /// The type of this id.
    pub(super) fn event_type(&self, connection: &Connection, id: i64) -> rusqlite::Result<Option<StoredType>> {
        if let Some(known) = self.types.borrow_mut().get(id) {
            return Ok(Some(known));
        }
        let mut query = connection.prepare_cached(SELECT_TYPE)?;
        let stored =
            query.query_row([id], |row| Ok(StoredType { name: row.get(0)?, version: row.get(1)? })).optional()?;
        if let Some(stored) = &stored {
            self.types.borrow_mut().insert(id, stored.clone());
        }
        Ok(stored)
    }

    /// The actor and `via` of this id; `None` also if this version of Taskbell doesn't know the `via`.
    pub(super) fn actor(&self, connection: &Connection, id: i64) -> rusqlite::Result<Option<(Arc<str>, Via)>> {
        if let Some(known) = self.actors.borrow_mut().get(id) {
            return Ok(Some(known));
        }
        let mut query = connection.prepare_cached(SELECT_ACTOR)?;
        let stored = query.query_row([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).optional()?;
        let stored = stored.and_then(|(actor, via): (Arc<str>, String)| Some((actor, via_of(&via)?)));
        if let Some(stored) = &stored {
            self.actors.borrow_mut().insert(id, stored.clone());
        }
        Ok(stored)
    }
}

/// The first event of a stream, from the row's columns with the name, the id and the correlation id. `None` if the row has no name.
pub(super) fn first_event(row: &Row<'_>, columns: [usize; 3]) -> rusqlite::Result<Option<StoredFirst>> {
    let [name, id, correlation_id] = columns;
    let Some(name) = StoredName::of_column(row.get_ref(name)?) else { return Ok(None) };
    let correlation_id = row.get::<_, Option<[u8; 16]>>(correlation_id)?.map(Uuid::from_bytes);
    Ok(Some(StoredFirst { name, id: Uuid::from_bytes(row.get(id)?), correlation_id }))
}
