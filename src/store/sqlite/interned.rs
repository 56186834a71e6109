//! The rows of `types` and `actors`, for the connection that writes: a text that is in a row already is not written again.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::meta::via_text;
use crate::store::{Meta, Via};

/// The largest number of actors whose rows are known without a query.
const ACTORS_MAX: usize = 10_000;

const SELECT_TYPE: &str = "SELECT id FROM types WHERE type = ? AND version = ?";
const INSERT_TYPE: &str = "INSERT INTO types (type, version) VALUES (?, ?)";
const SELECT_ACTOR: &str = "SELECT id FROM actors WHERE actor = ? AND via = ?";
const INSERT_ACTOR: &str = "INSERT INTO actors (actor, via) VALUES (?, ?)";

/// The ids of rows that were used recently. A rollback makes them invalid: then [`Interned::forget`] is called.
#[derive(Default)]
pub(super) struct Interned {
    types: Vec<(String, u32, i64)>,
    actors: HashMap<String, Vec<(Via, i64)>>,
}

impl Interned {
    /// The id of the type and version. Inserts the row if there is none.
    pub(super) fn type_id(&mut self, connection: &Connection, event_type: &str, version: u32) -> rusqlite::Result<i64> {
        let is_same = |known: &&(String, u32, i64)| known.0 == event_type && known.1 == version;
        if let Some((_, _, id)) = self.types.iter().find(is_same) {
            return Ok(*id);
        }
        let found = connection.prepare_cached(SELECT_TYPE)?.query_row(params![event_type, version], |row| row.get(0));
        let id = match found.optional()? {
            Some(id) => id,
            None => connection.prepare_cached(INSERT_TYPE)?.insert(params![event_type, version])?,
        };
        self.types.push((event_type.to_owned(), version, id));
        Ok(id)
    }

    /// The id of the actor and `via`. Inserts the row if there is none.
    pub(super) fn actor_id(&mut self, connection: &Connection, meta: &Meta) -> rusqlite::Result<i64> {
        let Meta { actor, via, .. } = meta;
        let known = self.actors.get(actor).and_then(|ids| ids.iter().find(|(known, _)| known == via));
        if let Some((_, id)) = known {
            return Ok(*id);
        }
        let row = params![actor, via_text(*via)];
        let id = match connection.prepare_cached(SELECT_ACTOR)?.query_row(row, |row| row.get(0)).optional()? {
            Some(id) => id,
            None => connection.prepare_cached(INSERT_ACTOR)?.insert(row)?,
        };
        if self.actors.len() >= ACTORS_MAX {
            self.actors.clear();
        }
        self.actors.entry(actor.clone()).or_default().push((*via, id));
        Ok(id)
    }

    /// Forgets all ids: the rows of a transaction that is rolled back don't exist.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
