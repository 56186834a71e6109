//! An event as the file stores it, without the meaning of its `data`.

use crate::store::chain::HashedFields;
use crate::store::{Fact, Hash, Meta, Recorded};
use crate::task::Position;

/// An event that is to be inserted, or was read back to be compared.
pub(super) struct EventRow<'a> {
    pub(super) position: Position,
    pub(super) fields: HashedFields<'a>,
    /// What is parsed from the text of `meta`; `None` if it was not parsed. Then the row holds the text.
    pub(super) meta: Option<&'a Meta>,
    pub(super) hash: Hash,
}

impl<'a> From<&'a Recorded> for EventRow<'a> {
    fn from(event: &'a Recorded) -> Self {
        let Recorded { fact: Fact { position, meta, .. }, hash, .. } = event;
        Self { position: *position, fields: event.hashed_fields(), meta: Some(meta), hash: *hash }
    }
}
