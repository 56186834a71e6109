//! An event as a row of the file gives it, before its JSON is decoded.

use uuid::Uuid;

use super::meta::write_text_of_columns;
use super::names::{StoredName, StoredType};
use super::row::EventRow;
use crate::store::chain::HashedFields;
use crate::store::recorded::{StoredJson, UndecodedEvent, parse_meta, stream_name, without_spaces_around};
use crate::store::{Fact, Hash, Meta, ReadError, Recorded};
use crate::task::{Position, Revision, Timestamp};

/// An event as it was read, with its names, but without a check that this version of Taskbell knows them.
pub(super) struct StoredEvent<'row> {
    pub(super) position: Position,
    /// The position of the first event of its stream.
    pub(super) begins: i64,
    pub(super) stream: StoredName,
    pub(super) revision: Revision,
    pub(super) id: Uuid,
    pub(super) event_type: StoredType,
    pub(super) time: i64,
    pub(super) meta: StoredMeta<'row>,
    pub(super) data: &'row str,
    pub(super) hash: Hash,
}

/// The `meta` of a row.
pub(super) enum StoredMeta<'row> {
    /// It is in columns, which give its text.
    Columns(Meta),
    /// The row holds its text.
    Text(&'row str),
}

/// The buffers in which events are hashed, one after the other.
#[derive(Default)]
pub(super) struct HashBuffers {
    meta: String,
    fields: Vec<u8>,
}

impl StoredEvent<'_> {
    /// The text of its `meta`. `buffer` is overwritten.
    fn meta_text<'a>(&'a self, buffer: &'a mut String) -> &'a str {
        match &self.meta {
            StoredMeta::Columns(meta) => {
                buffer.clear();
                write_text_of_columns(meta, buffer);
                buffer
            }
            StoredMeta::Text(text) => text,
        }
    }

    fn hashed_fields<'a>(&'a self, meta: &'a str) -> HashedFields<'a> {
        HashedFields {
            stream: self.stream.as_str(),
            revision: self.revision,
            id: self.id,
            event_type: &self.event_type.name,
            version: self.event_type.version,
            time: self.time,
            meta,
            data: self.data,
        }
    }

    /// The hash that the event must have if `previous` is the hash of the event one position earlier.
    pub(super) fn hash_after(&self, previous: Hash, buffers: &mut HashBuffers) -> Hash {
        let HashBuffers { meta, fields } = buffers;
        self.hashed_fields(self.meta_text(meta)).hash_in(fields, previous)
    }

    /// Calls `visit` with the row.
    pub(super) fn with_row<T>(&self, visit: impl FnOnce(&EventRow<'_>) -> T) -> T {
        let mut buffer = String::new();
        let meta = match &self.meta {
            StoredMeta::Columns(meta) => Some(meta),
            StoredMeta::Text(_) => None,
        };
        let fields = self.hashed_fields(self.meta_text(&mut buffer));
        visit(&EventRow { position: self.position, fields, meta, hash: self.hash })
    }

    /// Decodes the event and keeps its texts.
    ///
    /// # Errors
    /// As [`Self::decode_fact`].
    pub(super) fn decode(self, buffers: &mut HashBuffers) -> Result<Recorded, ReadError> {
        let raw_meta = StoredJson::decoded(self.meta_text(&mut buffers.meta));
        let raw_data = StoredJson::decoded(self.data);
        let (version, hash) = (self.event_type.version, self.hash);
        Ok(Recorded::new(self.decode_fact()?, version, hash, raw_meta, raw_data))
    }

    /// Decodes what the event says. No text of it is kept.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Unknown`]; both name the position.
    pub(super) fn decode_fact(self) -> Result<Fact, ReadError> {
        let Self { position, begins: _, stream, revision, id, event_type, time: micros, meta, data, hash: _ } = self;
        let damaged = |what: &dyn std::fmt::Display| ReadError::Damaged(format!("event {position}: {what}"));
        let json = |text| without_spaces_around(text).ok_or_else(|| damaged(&"spaces around its JSON"));
        let time = Timestamp::from_micros(micros);
        if time.as_micros() != micros {
            return Err(damaged(&"its time is out of range"));
        }
        let stream = match stream {
            StoredName::Valid(name) => name,
            StoredName::Invalid(text) => stream_name(position, &text)?,
        };
        let meta = match meta {
            StoredMeta::Columns(meta) => meta,
            StoredMeta::Text(text) => parse_meta(position, json(text)?)?,
        };
        let (StoredType { name, version }, data) = (event_type, json(data)?);
        UndecodedEvent { position, stream, revision, id, event_type: &name, version, time, meta, data }.decode()
    }
}
